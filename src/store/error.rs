//! What can go wrong with the store, by what a caller can do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// What a failure means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No room: on the disk, or in the bounded queue before it. Heals by itself once there is.
    Full,
    /// Too much waits, or another program holds the file: try again.
    Busy,
    /// Another process owns the data directory.
    Locked,
    /// The file, or a row of it, makes no sense.
    Corrupt,
    /// The tables are not those of this version of the program.
    Schema,
    /// The disk refused: nothing more is written by this process.
    Io,
    /// This one record cannot be stored, however often it is tried.
    Rejected,
    /// The journal has been closed.
    Closed,
    /// Postgres can't be reached: the local file goes on without it.
    Away,
}

impl Kind {
    /// Whether the same request may succeed later.
    pub fn may_retry(self) -> bool {
        match self {
            Self::Full | Self::Busy | Self::Away => true,
            Self::Locked
            | Self::Corrupt
            | Self::Schema
            | Self::Io
            | Self::Rejected
            | Self::Closed => false,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Full => "storage is full",
            Self::Busy => "storage is busy",
            Self::Locked => "another process uses this data directory",
            Self::Corrupt => "storage is damaged",
            Self::Schema => "storage is of another version",
            Self::Io => "storage failed",
            Self::Rejected => "the record cannot be stored",
            Self::Closed => "storage is closed",
            Self::Away => "Postgres can't be reached",
        }
    }
}

/// A failure of the store. Cheap to clone: all who waited for one commit get the same.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// What was being done, as `while ..`.
    pub during: &'static str,
    /// What it means.
    pub kind: Kind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure found by the store itself, with no cause below it.
    pub fn new(during: &'static str, kind: Kind) -> Self {
        Self { during, kind, source: None }
    }

    /// A failure with its cause.
    pub(super) fn caused(
        during: &'static str,
        kind: Kind,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { during, kind, source: Some(Arc::new(source)) }
    }

    /// Itself, in the form that a log entry takes, causes included.
    pub(super) fn logged(&self) -> &(dyn Error + 'static) {
        self
    }

    /// Turns SQLite's failure into ours; made for `map_err`.
    pub(super) fn sqlite(during: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |cause| Self::caused(during, kind_of(&cause), cause)
    }

    /// Turns a failure of the file system into ours; made for `map_err`.
    pub(super) fn io(during: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| {
            let full =
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            Self::caused(during, if full { Kind::Full } else { Kind::Io }, cause)
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} while {}", self.kind.sentence(), self.during)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// What SQLite's failure means. A full disk shows as `SQLITE_FULL` on a write of the log, and as
/// `SQLITE_IOERR_SHMSIZE` where the shared-memory file of the log cannot grow.
pub(super) fn kind_of(cause: &rusqlite::Error) -> Kind {
    let Some(failure) = cause.sqlite_error() else {
        let ours = matches!(
            cause,
            rusqlite::Error::ToSqlConversionFailure(_) | rusqlite::Error::NulError(_)
        );
        return if ours { Kind::Rejected } else { Kind::Corrupt };
    };
    if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
        return Kind::Full;
    }
    let is = |codes: &[ErrorCode]| codes.contains(&failure.code);
    if is(&[ErrorCode::DiskFull]) {
        Kind::Full
    } else if is(&BUSY) {
        Kind::Busy
    } else if is(&[ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase]) {
        Kind::Corrupt
    } else if is(&[ErrorCode::ConstraintViolation, ErrorCode::TooBig, ErrorCode::TypeMismatch]) {
        Kind::Rejected
    } else {
        // Whatever else SQLite says is no fault of one record.
        Kind::Io
    }
}

const BUSY: [ErrorCode; 4] = [
    ErrorCode::DatabaseBusy,
    ErrorCode::DatabaseLocked,
    ErrorCode::FileLockingProtocolFailed,
    ErrorCode::OperationInterrupted,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (code, kind) in [
            (ffi::SQLITE_FULL, Kind::Full),
            (ffi::SQLITE_IOERR_SHMSIZE, Kind::Full),
            (ffi::SQLITE_BUSY, Kind::Busy),
            (ffi::SQLITE_BUSY_SNAPSHOT, Kind::Busy),
            (ffi::SQLITE_INTERRUPT, Kind::Busy),
            (ffi::SQLITE_CORRUPT, Kind::Corrupt),
            (ffi::SQLITE_NOTADB, Kind::Corrupt),
            (ffi::SQLITE_IOERR_FSYNC, Kind::Io),
            (ffi::SQLITE_IOERR_WRITE, Kind::Io),
            (ffi::SQLITE_READONLY, Kind::Io),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, Kind::Rejected),
            (ffi::SQLITE_TOOBIG, Kind::Rejected),
        ] {
            let cause = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(kind_of(&cause), kind, "{code}");
        }
    }

    #[test]
    fn display_hides_the_cause() {
        let error = StoreError::io("opening the journal")(io::Error::other("/secret/path is gone"));
        assert_eq!(error.to_string(), "storage failed while opening the journal");
        assert_eq!(error.source().unwrap().to_string(), "/secret/path is gone");
    }
}
