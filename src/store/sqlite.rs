//! The file under `DATA_DIR`: who may open it, its tables, and what happens when it is damaged.

use std::error::Error as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refinery::{Migration, Runner};
use rusqlite::Connection;

use crate::store::connection::{connect, open_read_only};
use crate::store::error::{self, Kind, StoreError};
use crate::store::readers::Readers;

/// The database's name in its directory.
const FILE_NAME: &str = "calls.sqlite";
/// Held for as long as a process uses the directory.
const LOCK_NAME: &str = "calls.lock";
/// Left by a process that met damage, so that the next checks all of the database.
const SUSPECT: &str = "-suspect";
/// Files beside the database that belong to it and move with it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", SUSPECT];

/// A database that was not closed in order is checked page by page up to this size; above it, that
/// would hold up the start for seconds; damage is found when the writer meets it, and the next start
/// then checks all of it.
const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The smallest page of SQLite, so the smallest database.
const FILE_BYTES_MIN: u64 = 512;
/// Damaged databases kept beside the live one, at most: an operator has to look before that.
const SET_ASIDE_MAX: u32 = 1_000;

/// The opened database: shared by the journal, which writes, and all who read. Cheap to clone. The
/// directory stays locked until the last clone is gone.
#[derive(Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

struct Shared {
    file: PathBuf,
    readers: Readers,
    /// The database once more, to flush it. To close it drops the locks of all connections to it: after them.
    data: File,
    /// Unlocks when dropped: after the connections.
    _lock: File,
}

impl Sqlite {
    /// Locks `folder` (made if it is missing), opens the database in it and brings its tables up to
    /// date. A damaged database is set aside under another name, with an error in the log, and a new
    /// one is made.
    ///
    /// Fails with [`Kind::Locked`] while another process, or another handle, uses `folder`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with(folder, migrate)
    }

    /// The same for `MIGRATE=off`: tables that are not up to date are left as they are, and refused
    /// with [`Kind::Schema`].
    pub fn open_migrated(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with(folder, is_migrated)
    }

    fn open_with(folder: &Path, tables: Tables) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io("making the data directory"))?;
        let lock = lock(&folder.join(LOCK_NAME))?;
        let file = folder.join(FILE_NAME);
        if let Err(error) = prepare(&file, tables) {
            if error.kind != Kind::Corrupt {
                return Err(error);
            }
            set_aside(&file, &error)?;
            prepare(&file, tables)?;
        }
        let readers = Readers::new(file.clone());
        let data = File::open(&file).map_err(StoreError::io("opening the database"))?;
        Ok(Self { shared: Arc::new(Shared { file, readers, data, _lock: lock }) })
    }

    /// From now on a query is answered where it is asked, so that a test is the same each time.
    #[cfg(test)]
    pub(crate) fn read_at_once(&self) {
        self.shared.readers.at_once.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Has the disk keep what has been copied into the database. Blocks for as long as that takes.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.shared.data.sync_data().map_err(StoreError::io("flushing the database"))
    }

    /// The database's path.
    pub fn file(&self) -> &Path {
        &self.shared.file
    }

    /// Has the next start check the whole database, whatever its size.
    pub(super) fn suspect(&self) {
        if let Err(cause) = File::create(beside(&self.shared.file, SUSPECT)) {
            let error = StoreError::io("noting a suspicion")(cause);
            tracing::error!(error = error.logged(), "the damage could not be noted");
        }
    }

    /// Runs `query` on a thread and a connection made for reading, inside one transaction, so that
    /// all it sees is of one moment. Needs a tokio runtime with time.
    ///
    /// Fails with [`Kind::Busy`] where no connection came free in time, or the query took too long.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        during: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.readers.read(during, query).await
    }

    /// A new connection that may write. There is one writer: the journal.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        connect(&self.shared.file)
    }

    /// The name of this service among those that share other servers with it: made with the tables.
    pub fn instance(&self) -> Result<String, StoreError> {
        let failed = StoreError::sqlite("reading the instance's name");
        let connection = open_read_only(&self.shared.file).map_err(&failed)?;
        connection.query_row("SELECT id FROM instance", [], |row| row.get(0)).map_err(&failed)
    }

    /// The name of the deployment that this node was last one of, where it ever was.
    pub fn deployment(&self) -> Result<Option<String>, StoreError> {
        let failed = StoreError::sqlite("reading the deployment's name");
        let connection = open_read_only(&self.shared.file).map_err(&failed)?;
        connection
            .query_row("SELECT deployment FROM instance", [], |row| row.get(0))
            .map_err(&failed)
    }

    /// Notes the name of the deployment that this node is one of.
    pub fn note_deployment(&self, name: &str) -> Result<(), StoreError> {
        let connection = self.connect()?;
        let noted = connection.execute("UPDATE instance SET deployment = ?1", [name]);
        noted.map(drop).map_err(StoreError::sqlite("noting the deployment's name"))
    }

    /// What the machine has kept of every call that is not over, in no order: read once, at start.
    pub fn live_snapshots(&self) -> Result<Vec<String>, StoreError> {
        let failed = StoreError::sqlite("reading the live calls");
        let connection = open_read_only(&self.shared.file).map_err(&failed)?;
        let mut statement =
            connection.prepare("SELECT snapshot FROM live_calls").map_err(&failed)?;
        let snapshots = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
        snapshots.collect::<Result<_, _>>().map_err(&failed)
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    const DURING: &str = "locking the data directory";
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(StoreError::io(DURING))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::new(DURING, Kind::Locked)),
        Err(TryLockError::Error(cause)) => Err(StoreError::io(DURING)(cause)),
    }
}

/// Brings the tables up to date, or insists that they are.
type Tables = fn(&mut Connection) -> Result<(), StoreError>;

/// Opens and checks the database once, and sees to its tables.
fn prepare(file: &Path, tables: Tables) -> Result<(), StoreError> {
    let unclean = was_interrupted(file);
    let suspect = beside(file, SUSPECT);
    refuse_stump(file, unclean)?;
    let mut connection = connect(file)?;
    let is_small = fs::metadata(file).is_ok_and(|it| it.len() <= CHECKED_BYTES_MAX);
    if suspect.exists() {
        check(&connection)?;
        fs::remove_file(suspect).map_err(StoreError::io("clearing a suspicion"))?;
    } else if unclean && is_small {
        check(&connection)?;
    }
    tables(&mut connection)
}

/// A process that ends in order leaves no log behind.
fn was_interrupted(file: &Path) -> bool {
    fs::metadata(beside(file, "-wal")).is_ok_and(|it| it.len() > 0)
}

/// SQLite takes a file too short for a database as an empty one, and drops the log beside it.
fn refuse_stump(file: &Path, unclean: bool) -> Result<(), StoreError> {
    let length = fs::metadata(file).map_or(0, |it| it.len());
    let is_new = length == 0 && !unclean;
    if is_new || length >= FILE_BYTES_MIN {
        return Ok(());
    }
    Err(StoreError::new("looking at the database", Kind::Corrupt))
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    const DURING: &str = "checking the database";
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(StoreError::sqlite(DURING))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::caused(DURING, Kind::Corrupt, io::Error::other(verdict)))
}

fn migration_failed(cause: refinery::Error) -> StoreError {
    let sqlite = cause.source().and_then(|it| it.downcast_ref::<rusqlite::Error>());
    // What is not SQLite's word is about versions: a newer database must never be set aside.
    let kind = sqlite.map_or(Kind::Schema, error::kind_of);
    StoreError::caused("migrating the database", kind, cause)
}

fn runner() -> Result<Runner, StoreError> {
    let calls = include_str!("../../migrations/sqlite/V1__calls.sql");
    let instance = include_str!("../../migrations/sqlite/V2__instance.sql");
    let released = include_str!("../../migrations/sqlite/V3__released.sql");
    let deployment = include_str!("../../migrations/sqlite/V4__deployment.sql");
    let counts = include_str!("../../migrations/sqlite/V5__counts.sql");
    let migrations = [
        ("V1__calls", calls),
        ("V2__instance", instance),
        ("V3__released", released),
        ("V4__deployment", deployment),
        ("V5__counts", counts),
    ]
    .map(|(name, sql)| Migration::unapplied(name, sql).map_err(migration_failed));
    Ok(Runner::new(&migrations.into_iter().collect::<Result<Vec<_>, _>>()?))
}

/// How many things the schema holds. A damaged one shows as SQLite's own error here, before
/// migrations wrap it beyond recognition.
fn schema_size(connection: &Connection) -> Result<u32, StoreError> {
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(StoreError::sqlite("reading the schema"))
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    schema_size(connection)?;
    runner()?.run(connection).map_err(migration_failed)?;
    Ok(())
}

fn is_migrated(connection: &mut Connection) -> Result<(), StoreError> {
    const DURING: &str = "looking at the tables with MIGRATE=off: run `call-service migrate` first";
    let behind = || StoreError::new(DURING, Kind::Schema);
    if schema_size(connection)? == 0 {
        return Err(behind());
    }
    let runner = runner()?;
    let applied = runner.get_applied_migrations(connection).map_err(migration_failed)?;
    let wanted = runner.get_migrations().len();
    if applied.len() == wanted { Ok(()) } else { Err(behind()) }
}

/// Moves a damaged database, with its log, to the first free name beside it.
fn set_aside(file: &Path, error: &StoreError) -> Result<(), StoreError> {
    const DURING: &str = "setting a damaged database aside";
    let free = (1..=SET_ASIDE_MAX)
        .map(|number| beside(file, &format!(".damaged-{number}")))
        .find(|it| !it.exists() && !beside(it, "-wal").exists())
        .ok_or(StoreError::new(DURING, Kind::Corrupt))?;
    tracing::error!(
        error = error.logged(),
        kept_as = %free.display(),
        "the database is damaged: it is set aside, and the service starts with an empty one"
    );
    for companion in COMPANIONS {
        let from = beside(file, companion);
        if from.exists() {
            fs::rename(from, beside(&free, companion)).map_err(StoreError::io(DURING))?;
        }
    }
    if file.exists() {
        fs::rename(file, &free).map_err(StoreError::io(DURING))?;
    }
    Ok(())
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

    use std::time::Duration;

    use super::*;
    use crate::store::connection::PAGE_BYTES;
    use crate::store::fixture;
    use crate::store::options::JournalOptions;

    #[test]
    fn tables_are_left_alone_where_asked() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Sqlite::open_migrated(folder.path()).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, Kind::Schema);
        assert!(refused.to_string().contains("call-service migrate"), "{refused}");
        drop(Sqlite::open(folder.path()).unwrap());
        assert!(Sqlite::open_migrated(folder.path()).is_ok());
    }

    #[test]
    fn the_deployments_name_is_kept_beside_the_own_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let own = store.instance().unwrap();
        assert_eq!(store.deployment().unwrap(), None);
        for name in ["first", "another"] {
            store.note_deployment(name).unwrap();
        }
        drop(store);
        let store = Sqlite::open(folder.path()).unwrap();
        assert_eq!(store.deployment().unwrap().as_deref(), Some("another"));
        assert_eq!(store.instance().unwrap(), own);
    }

    /// A directory as a killed process leaves it: `calls` calls, each its own commit, most of them in
    /// the log only.
    async fn left_behind(calls: u64) -> tempfile::TempDir {
        let (running, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_store, journal) = fixture::journal(running.path(), JournalOptions::default());
        for number in 0..calls {
            fixture::send(&journal, fixture::change(number, 1)).await.unwrap();
        }
        for name in [FILE_NAME, "calls.sqlite-wal"] {
            fs::copy(running.path().join(name), left.path().join(name)).unwrap();
        }
        left
    }

    /// Overwrites the root of a table in a database that nobody has open.
    fn damage(file: &Path, table: &str) {
        let connection = open_read_only(file).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: usize = connection
            .query_row(sql, [table], |row| row.get::<_, u32>(0))
            .map(|it| usize::try_from(it).unwrap())
            .unwrap();
        drop(connection);
        let mut bytes = fs::read(file).unwrap();
        let size = usize::try_from(PAGE_BYTES).unwrap();
        bytes[(page - 1) * size..page * size].fill(0x5a);
        fs::write(file, bytes).unwrap();
    }

    fn set_aside_in(folder: &Path) -> usize {
        let named = |it: &PathBuf| it.to_string_lossy().ends_with("damaged-1");
        fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).filter(named).count()
    }

    /// The numbers of the calls that are live.
    fn live(store: &Sqlite) -> Vec<u64> {
        let number =
            |it: &String| it.split([':', ',']).nth(1).and_then(|it| it.parse().ok()).unwrap();
        let mut numbers: Vec<_> = store.live_snapshots().unwrap().iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_directory_belongs_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let first = Sqlite::open(&folder.path().join("made/for/it")).unwrap();
        let second = Sqlite::open(&folder.path().join("made/for/it")).err().unwrap();
        assert_eq!(second.kind, Kind::Locked);
        assert_eq!(
            second.to_string(),
            "another process uses this data directory while locking the data directory"
        );
        drop(first);
        Sqlite::open(&folder.path().join("made/for/it")).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_database_is_set_aside() {
        for content in ["this is no database, and is long enough to say so".repeat(100), "x".into()]
        {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(FILE_NAME);
            fs::write(&file, &content).unwrap();
            let (store, journal) = fixture::journal(folder.path(), JournalOptions::default());
            fixture::send(&journal, fixture::change(1, 1)).await.unwrap();
            assert_eq!(live(&store), [1]);
            let kept = fs::read_to_string(folder.path().join("calls.sqlite.damaged-1")).unwrap();
            assert_eq!(kept, content);
        }
    }

    #[tokio::test]
    async fn a_damaged_page_is_noticed_after_a_crash() {
        let folder = left_behind(2_000).await;
        let file = folder.path().join(FILE_NAME);
        // Fold the log in, then damage the tables and leave a log as a crash would.
        prepare(&file, migrate).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 8_192].fill(0x5a);
        fs::write(&file, bytes).unwrap();
        fs::write(beside(&file, "-wal"), "a log that was torn").unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        assert_eq!(set_aside_in(folder.path()), 1);
        assert_eq!(store.live_snapshots().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn damage_that_the_writer_meets_is_noticed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::journal(folder.path(), JournalOptions::default());
        for number in 0..500 {
            drop(fixture::send(&journal, fixture::change(number, 1)));
        }
        journal.close();
        drop((store, journal));
        let file = folder.path().join(FILE_NAME);
        damage(&file, "call_events");
        let (store, journal) = fixture::journal(folder.path(), JournalOptions::default());
        assert_eq!(set_aside_in(folder.path()), 0, "it was closed in order, so it is not checked");
        let refused = fixture::send(&journal, fixture::change(1, 2)).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Corrupt);
        assert!(journal.has_failed());
        journal.close();
        drop((store, journal));
        drop(Sqlite::open(folder.path()).unwrap());
        assert_eq!(set_aside_in(folder.path()), 1);
        assert!(!beside(&file, SUSPECT).exists());
    }

    #[test]
    fn damage_that_the_migration_meets_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path()).unwrap());
        damage(&folder.path().join(FILE_NAME), "refinery_schema_history");
        drop(Sqlite::open(folder.path()).unwrap());
        assert_eq!(set_aside_in(folder.path()), 1);
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path()).unwrap());
        let connection = connect(&folder.path().join(FILE_NAME)).unwrap();
        connection
            .execute(
                "INSERT INTO refinery_schema_history
                 SELECT 99, 'later', applied_on, checksum FROM refinery_schema_history LIMIT 1",
                [],
            )
            .unwrap();
        drop(connection);
        assert_eq!(Sqlite::open(folder.path()).err().unwrap().kind, Kind::Schema);
        assert_eq!(set_aside_in(folder.path()), 0);
    }

    #[test]
    fn a_torn_or_flipped_log_keeps_every_commit_before_the_tear() {
        const CALLS: u64 = 40;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let left = runtime.block_on(left_behind(CALLS));
        let file = left.path().join(FILE_NAME);
        let (database, log) = (fs::read(&file).unwrap(), fs::read(beside(&file, "-wal")).unwrap());
        let check = |damaged: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join(FILE_NAME);
            fs::write(&file, &database).unwrap();
            fs::write(beside(&file, "-wal"), damaged).unwrap();
            let store = Sqlite::open(folder.path()).unwrap();
            let found = live(&store);
            let count = u64::try_from(found.len()).unwrap();
            found == (0..count).collect::<Vec<_>>() && set_aside_in(folder.path()) == 0
        };
        let config = ProptestConfig { cases: 24, ..ProptestConfig::default() };
        proptest!(config, |(at in any::<proptest::sample::Index>(), flip in any::<bool>())| {
            let at = at.index(log.len());
            let mut damaged = log.clone();
            if flip {
                damaged[at] ^= 0x10;
            } else {
                damaged.truncate(at);
            }
            prop_assert!(check(&damaged));
        });
        assert!(check(&log));
    }

    #[tokio::test]
    async fn fifty_thousand_live_calls_are_read_at_once() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sqlite::open(folder.path()).unwrap());
        let connection = connect(&folder.path().join(FILE_NAME)).unwrap();
        let snapshot = "s".repeat(2_000);
        connection
            .execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
                 INSERT INTO live_calls SELECT 'call ' || i, 1, 1, ?1 FROM n",
                [snapshot],
            )
            .unwrap();
        drop(connection);
        let store = Sqlite::open(folder.path()).unwrap();
        let started = std::time::Instant::now();
        assert_eq!(store.live_snapshots().unwrap().len(), 50_000);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
