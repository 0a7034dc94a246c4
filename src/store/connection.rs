//! Connections to the local file, with the settings that every one of them needs.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::store::error::StoreError;

/// How long a connection waits for another program's lock, such as an operator's `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a page, in a file that is new. A commit writes whole pages to the log, each with calls of its own: of this
/// size a life of a call takes a tenth less processor time than with SQLite's 4,096, and twice the size takes no less
/// (`make bench-paths`).
pub(super) const PAGE_BYTES: i64 = 8192;
/// Page cache of a connection, in KiB: the hot end of a few B-trees, with room.
const CACHE_KIB: i64 = 16 * 1024;
/// Prepared statements a connection keeps: more than there are in this part.
const STATEMENTS: usize = 48;

/// A connection that writes.
pub(super) fn connect(file: &Path) -> Result<Connection, StoreError> {
    let failed = StoreError::sqlite("opening the database");
    let connection = Connection::open(file).map_err(&failed)?;
    configure(&connection).map_err(&failed)?;
    // Says nothing to a file that is there.
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(&failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
    // The checkpointer does this work, away from the commits.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(&failed)?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn open_read_only(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A plan serves whatever is bound: else SQLite makes it anew whenever a LIMIT is, which took a sixth of a page of
    // history (`make bench-history`).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}
