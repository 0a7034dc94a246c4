//! Connections that only read: a few, shared, each used by one query at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::error::{Kind, StoreError};
use crate::store::sqlite::{self, Sqlite};

/// Queries that run at once. A read is short and the file mostly in memory: more would only take
/// processor time from the calls.
const CONNECTIONS: usize = 2;
/// Queries that may wait for a connection; past it they are refused.
const WAITING_MAX: usize = 256;
/// How long a query may wait for a connection.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a query may run. Also bounds how long a read can keep the log from starting over.
const RUN_MAX: Duration = Duration::from_secs(5);

/// Steps of SQLite's machine between two looks at whether a query has run too long: some
/// microseconds.
const STEPS: i32 = 1000;

/// The pool. Connections are opened when first needed and kept.
pub(super) struct Readers {
    file: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a turn, unless too many do.
    async fn turn(
        &self,
        during: &'static str,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, StoreError> {
        let busy = || StoreError::new(during, Kind::Busy);
        let place = Place::take(&self.waiting).ok_or_else(busy)?;
        let turn = timeout(WAIT_MAX, Arc::clone(&self.permits).acquire_owned()).await;
        drop(place);
        match turn {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

impl Sqlite {
    /// Runs `query` on a thread and a connection made for reading, inside one transaction, so that
    /// all it sees is of one moment. Needs a tokio runtime with time.
    ///
    /// Fails with [`Kind::Busy`] where no connection came free in time, or the query took too long.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        during: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.readers();
        let permit = readers.turn(during).await?;
        let (file, idle) = (readers.file.clone(), Arc::clone(&readers.idle));
        let late = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&late);
        let job = tokio::task::spawn_blocking(move || {
            let kept = idle.lock().pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => sqlite::open_read_only(&file)?,
            };
            // A flag and not an interrupt, which a query that has not quite begun would not hear.
            connection.progress_handler(STEPS, Some(move || told.load(Ordering::Relaxed)))?;
            let result = run(&mut connection, query);
            connection.progress_handler(0, None::<fn() -> bool>)?;
            idle.lock().push(connection);
            drop(permit);
            result
        });
        let Ok(result) = timeout(RUN_MAX, job).await else {
            late.store(true, Ordering::Relaxed);
            return Err(StoreError::new(during, Kind::Busy));
        };
        match result {
            Ok(result) => result.map_err(StoreError::sqlite(during)),
            Err(cause) => Err(StoreError::caused(during, Kind::Io, cause)),
        }
    }
}

fn run<T>(
    connection: &mut Connection,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction()?;
    let result = query(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// A place among those who wait, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use tokio::sync::oneshot;

    use super::*;

    fn one(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT 1", [], |row| row.get(0))
    }

    fn store() -> (tempfile::TempDir, Sqlite) {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        (folder, store)
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_runs_too_long_is_stopped() {
        let (_folder, store) = store();
        let (started, begun) = sync_channel(1);
        let endless = store.read("running for ever", move |connection| {
            started.send(()).unwrap();
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
                SELECT count(*) FROM n";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0))
        });
        let time = async {
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(RUN_MAX).await;
        };
        let (result, ()) = tokio::join!(endless, time);
        assert_eq!(result.unwrap_err().kind, Kind::Busy);
        // All connections come back.
        for _ in 0..2 * CONNECTIONS {
            assert_eq!(store.read("reading", one).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn too_many_who_wait_are_refused() {
        let (_folder, store) = store();
        let mut holding = Vec::new();
        let mut reads = Vec::new();
        for _ in 0..CONNECTIONS {
            let (release, held) = sync_channel::<()>(0);
            let (started, begun) = oneshot::channel();
            let store = store.clone();
            reads.push(tokio::spawn(async move {
                let query = move |connection: &Connection| {
                    started.send(()).unwrap();
                    _ = held.recv();
                    one(connection)
                };
                store.read("holding a connection", query).await
            }));
            begun.await.unwrap();
            holding.push(release);
        }
        for _ in 0..WAITING_MAX {
            let store = store.clone();
            reads.push(tokio::spawn(async move { store.read("waiting", one).await }));
        }
        while store.readers().waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = store.read("one too many", one).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Busy);
        drop(holding);
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap(), 1);
        }
        assert_eq!(store.readers().waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_query_that_panics_costs_one_answer() {
        let (_folder, store) = store();
        for _ in 0..2 * CONNECTIONS {
            let broken = store.read("panicking", |_| -> rusqlite::Result<()> { panic!("broken") });
            assert_eq!(broken.await.unwrap_err().kind, Kind::Io);
        }
        assert_eq!(store.read("reading", one).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let (_folder, store) = store();
        let write = |it: &Connection| it.execute("DELETE FROM calls", []);
        assert_eq!(store.read("writing", write).await.unwrap_err().kind, Kind::Io);
    }
}
