//! Connections that only read: a few, shared, each used by one query at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::connection::open_read_only;
use crate::store::error::{Kind, StoreError};

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
    /// Queries run on the thread that asks.
    #[cfg(test)]
    pub(super) at_once: AtomicBool,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            file,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            waiting: AtomicUsize::new(0),
            #[cfg(test)]
            at_once: AtomicBool::new(false),
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

    /// See [`Sqlite::read`](crate::store::sqlite::Sqlite).
    pub(super) async fn read<T: Send + 'static>(
        &self,
        during: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.turn(during).await?;
        let (file, idle) = (self.file.clone(), Arc::clone(&self.idle));
        let late = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&late);
        let job = move || {
            let kept = idle.lock().pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => open_read_only(&file)?,
            };
            // A flag and not an interrupt, which a query that has not quite begun would not hear.
            connection.progress_handler(STEPS, Some(move || told.load(Ordering::Relaxed)))?;
            let result = run(&mut connection, query);
            connection.progress_handler(0, None::<fn() -> bool>)?;
            idle.lock().push(connection);
            drop(permit);
            result
        };
        #[cfg(test)]
        if self.at_once.load(Ordering::Relaxed) {
            return job().map_err(StoreError::sqlite(during));
        }
        let Ok(result) = timeout(RUN_MAX, tokio::task::spawn_blocking(job)).await else {
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
    use crate::store::connection::connect;

    fn one(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT 1", [], |row| row.get(0))
    }

    fn readers() -> (tempfile::TempDir, Arc<Readers>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("some.sqlite");
        connect(&file).unwrap().execute_batch("CREATE TABLE calls (id TEXT)").unwrap();
        (folder, Arc::new(Readers::new(file)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_runs_too_long_is_stopped() {
        let (_folder, readers) = readers();
        let (started, begun) = sync_channel(1);
        let endless = readers.read("running for ever", move |connection| {
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
            assert_eq!(readers.read("reading", one).await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn too_many_who_wait_are_refused() {
        let (_folder, readers) = readers();
        let mut holding = Vec::new();
        let mut reads = Vec::new();
        for _ in 0..CONNECTIONS {
            let (release, held) = sync_channel::<()>(0);
            let (started, begun) = oneshot::channel();
            let readers = Arc::clone(&readers);
            reads.push(tokio::spawn(async move {
                let query = move |connection: &Connection| {
                    started.send(()).unwrap();
                    _ = held.recv();
                    one(connection)
                };
                readers.read("holding a connection", query).await
            }));
            begun.await.unwrap();
            holding.push(release);
        }
        for _ in 0..WAITING_MAX {
            let readers = Arc::clone(&readers);
            reads.push(tokio::spawn(async move { readers.read("waiting", one).await }));
        }
        while readers.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        let refused = readers.read("one too many", one).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Busy);
        drop(holding);
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap(), 1);
        }
        assert_eq!(readers.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_query_that_panics_costs_one_answer() {
        let (_folder, readers) = readers();
        for _ in 0..2 * CONNECTIONS {
            let broken =
                readers.read("panicking", |_| -> rusqlite::Result<()> { panic!("broken") });
            assert_eq!(broken.await.unwrap_err().kind, Kind::Io);
        }
        assert_eq!(readers.read("reading", one).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let (_folder, readers) = readers();
        let write = |it: &Connection| it.execute("DELETE FROM calls", []);
        assert_eq!(readers.read("writing", write).await.unwrap_err().kind, Kind::Io);
    }
}
