//! The one door for writes: a place in a bounded queue, and a promise that is kept by the disk.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::store::error::{Kind, StoreError};
use crate::store::options::JournalOptions;
use crate::store::queue::{Entry, Health, Queue};
use crate::store::sqlite::Sqlite;
use crate::store::writer::Writer;
use crate::store::{Record, write};

/// A handle to the writer thread. Cheap to clone; the thread ends after [`Journal::close`], or when
/// the last handle is gone, and then has written all that was sent.
///
/// `A`: what the caller wants back, in order, once a record is durable.
pub struct Journal<A> {
    queue: Arc<Queue<A>>,
    writer: Arc<WriterThread<A>>,
}

impl<A> Clone for Journal<A> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), writer: Arc::clone(&self.writer) }
    }
}

/// Ends with the last handle.
struct WriterThread<A> {
    queue: Arc<Queue<A>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<A> Drop for WriterThread<A> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<A: Send + 'static> Journal<A> {
    /// Starts the writer on `store`. There may be one journal a store.
    ///
    /// `after` gets back what was sent with the records of each commit, in the order of sending, on
    /// the writer's thread and before anyone who awaits a [`Durable`] hears of it: it must be quick.
    /// What came with a record that the database refuses is handed back all the same, since the
    /// change has happened in memory and its news cannot be withheld.
    pub fn open(
        store: &Sqlite,
        options: JournalOptions,
        after: impl FnMut(Vec<A>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::new(options.queue_records_max, options.queue_bytes_max));
        let writer = Writer::new(store.clone(), Arc::clone(&queue), options, Box::new(after))?;
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::io("starting the journal"))?;
        let thread = Mutex::new(Some(thread));
        let writer = Arc::new(WriterThread { queue: Arc::clone(&queue), thread });
        Ok(Self { queue, writer })
    }

    /// A place in the queue, at once: with it, [`Permit::send`] cannot fail, so a call is changed
    /// only when the change can be kept. Never blocks.
    ///
    /// Fails with [`Kind::Full`] where too much waits, [`Kind::Io`] after the disk has failed,
    /// [`Kind::Closed`] after the end.
    pub fn reserve(&self) -> Result<Permit<A>, StoreError> {
        self.take(usize::MAX)
    }

    /// As [`Journal::reserve`], for what may be lost: refused while the disk is full, or the queue
    /// is half full, so that quality samples never take the place of a change.
    pub fn reserve_expendable(&self) -> Result<Permit<A>, StoreError> {
        if self.is_full() {
            return Err(StoreError::new("taking a place in the journal", Kind::Full));
        }
        self.take(self.queue.spare_records())
    }

    fn take(&self, records_max: usize) -> Result<Permit<A>, StoreError> {
        self.queue.reserve(records_max)?;
        Ok(Permit { queue: Arc::clone(&self.queue), reserved: true })
    }

    /// Whether the last commit found no room. What is sent is kept in memory and tried again; new
    /// calls should be refused.
    pub fn is_full(&self) -> bool {
        self.queue.health() == Health::Full
    }

    /// Whether the journal has given up: the process should drain and exit.
    pub fn has_failed(&self) -> bool {
        self.queue.health() == Health::Failed
    }

    /// Completes when the journal gives up, and not before.
    pub async fn failed(&self) {
        let mut health = self.queue.watch();
        // The sender lives in the queue that `self` holds: the wait ends by a failure only.
        drop(health.wait_for(|it| *it == Health::Failed).await);
    }

    /// Records sent or reserved that are not durable yet.
    pub fn pending(&self) -> usize {
        self.queue.records()
    }

    /// Writes all that was sent, moves the log into the database and ends the writer. Blocks until
    /// that is done; call it where blocking is allowed. A second call returns at once. What could
    /// not be written is in the log, and [`Journal::has_failed`] then says so.
    pub fn close(&self) {
        self.queue.close();
        let thread = self.writer.thread.lock().take();
        if let Some(thread) = thread {
            // The thread catches its own panics and marks the journal as failed.
            drop(thread.join());
        }
    }

    /// From now on nothing is written but in [`Journal::turn`]: so that a test says what comes first.
    #[cfg(test)]
    pub(crate) fn take_turns(&self) {
        self.queue.take_turns();
    }

    /// Writes all that was sent, hands it back and tells who waits for it: whether there was anything. Blocks until
    /// that is done.
    #[cfg(test)]
    pub(crate) fn turn(&self) -> bool {
        self.queue.turn()
    }

    /// Runs `work` in a transaction of its own on the writer's connection, between two commits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        during: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = move |connection: &Connection| {
            let result = in_transaction(connection, work).map_err(StoreError::sqlite(during));
            drop(answer.send(result));
        };
        self.queue.submit(during, Box::new(job))?;
        answered.await.unwrap_or(Err(StoreError::new(during, Kind::Closed)))
    }
}

fn in_transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// A place in the queue; given back when dropped unused.
pub struct Permit<A> {
    queue: Arc<Queue<A>>,
    reserved: bool,
}

impl<A> Permit<A> {
    /// Hands `record` to the writer. Records become durable in the order of these calls.
    pub fn send(mut self, record: Record, after: A) -> Durable {
        self.reserved = false;
        let (waiter, answer) = oneshot::channel();
        let bytes = write::size(&record);
        self.queue.push(Entry { record, bytes, after, waiter: Some(waiter) });
        Durable(answer)
    }
}

impl<A> Drop for Permit<A> {
    fn drop(&mut self) {
        if self.reserved {
            self.queue.release(1, 0);
        }
    }
}

/// Completes once the record is durable, or with why it is not. With [`Kind::Full`] the record is
/// kept in memory and still written when there is room. May be dropped: the record is written all
/// the same.
#[must_use = "an acknowledgement has to wait for it; drop it where nothing is acknowledged"]
pub struct Durable(oneshot::Receiver<Result<(), StoreError>>);

impl Future for Durable {
    type Output = Result<(), StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = Err(StoreError::new("waiting for the journal", Kind::Closed));
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).unwrap_or(closed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use tokio::time::timeout;

    use std::time::Duration;

    use super::*;
    use crate::store::fixture;

    type Commits = Arc<Mutex<Vec<Vec<u64>>>>;

    /// A journal that gives back numbers, and what it has given back, commit by commit.
    fn numbered(
        folder: &tempfile::TempDir,
        options: JournalOptions,
    ) -> (Sqlite, Journal<u64>, Commits) {
        let store = Sqlite::open(folder.path()).unwrap();
        let commits = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&commits);
        let journal = Journal::open(&store, options, move |it| seen.lock().push(it)).unwrap();
        (store, journal, commits)
    }

    fn send(journal: &Journal<u64>, number: u64) -> Durable {
        let change = fixture::change(number, 1);
        journal.reserve().unwrap().send(Record::Change(Box::new(change)), number)
    }

    /// Keeps the writer busy until the sender is dropped or used.
    fn hold<A: Send + 'static>(journal: &Journal<A>) -> SyncSender<()> {
        let (release, held) = sync_channel::<()>(0);
        let (started, begun) = sync_channel::<()>(0);
        let job = move |_: &Connection| {
            started.send(()).unwrap();
            _ = held.recv();
        };
        journal.queue.submit("holding the writer", Box::new(job)).unwrap();
        begun.recv().unwrap();
        release
    }

    async fn calls(store: &Sqlite) -> i64 {
        let count =
            |it: &Connection| it.query_row("SELECT count(*) FROM calls", [], |it| it.get(0));
        store.read("counting", count).await.unwrap()
    }

    /// Waits until `done`, which has to happen soon.
    async fn until(done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.unwrap();
    }

    #[tokio::test]
    async fn all_that_waits_goes_into_one_commit_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal, commits) = numbered(&folder, JournalOptions::default());
        let held = hold(&journal);
        let waiting: Vec<_> = (0..300).map(|it| send(&journal, it)).collect();
        drop(held);
        for durable in waiting {
            durable.await.unwrap();
        }
        assert_eq!(*commits.lock(), [(0..300).collect::<Vec<_>>()]);
        assert_eq!(calls(&store).await, 300);
        assert_eq!(journal.pending(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_by_records_and_by_bytes() {
        let bytes = write::size(&Record::Change(Box::new(fixture::change(1, 1))));
        for (records_max, bytes_max, sizes) in [
            (4, usize::MAX, vec![4, 4, 2]),
            (100, 3 * bytes + bytes / 2, vec![3, 3, 3, 1]),
            (100, 1, vec![1; 10]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let options = JournalOptions {
                batch_records_max: records_max,
                batch_bytes_max: bytes_max,
                ..JournalOptions::default()
            };
            let (_store, journal, commits) = numbered(&folder, options);
            let held = hold(&journal);
            for number in 0..10 {
                drop(send(&journal, number));
            }
            drop(held);
            journal.close();
            let commits: Vec<_> = commits.lock().iter().map(Vec::len).collect();
            assert_eq!(commits, sizes, "{records_max} {bytes_max}");
        }
    }

    #[tokio::test]
    async fn what_comes_back_comes_before_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let (_store, journal, commits) = numbered(&folder, JournalOptions::default());
        for number in 0..50 {
            send(&journal, number).await.unwrap();
            assert!(commits.lock().iter().flatten().any(|it| *it == number));
        }
    }

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let options = JournalOptions { queue_records_max: 4, ..JournalOptions::default() };
        let (_store, journal, _) = numbered(&folder, options);
        let held = hold(&journal);
        let unused = journal.reserve_expendable().unwrap();
        let sent = [send(&journal, 1), send(&journal, 2), send(&journal, 3)];
        assert_eq!(journal.reserve().err().unwrap().kind, Kind::Full);
        drop(unused);
        assert_eq!(journal.reserve_expendable().err().unwrap().kind, Kind::Full, "half full");
        drop(journal.reserve().unwrap());
        drop(held);
        for durable in sent {
            durable.await.unwrap();
        }
        assert_eq!(journal.pending(), 0);
        drop(journal.reserve_expendable().unwrap());
    }

    #[tokio::test]
    async fn bytes_that_wait_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let options = JournalOptions { queue_bytes_max: 1, ..JournalOptions::default() };
        let (_store, journal, _) = numbered(&folder, options);
        let held = hold(&journal);
        let sent = send(&journal, 1);
        assert_eq!(journal.reserve().err().unwrap().kind, Kind::Full);
        drop(held);
        sent.await.unwrap();
        drop(journal.reserve().unwrap());
    }

    #[tokio::test]
    async fn a_full_disk_keeps_what_comes_and_heals() {
        let folder = tempfile::tempdir().unwrap();
        let options = JournalOptions {
            full_retry: Duration::from_millis(20),
            file_pages_max: Some(60),
            ..JournalOptions::default()
        };
        let (store, journal, commits) = numbered(&folder, options);
        let mut sent = 0;
        let error = loop {
            sent += 1;
            if let Err(error) = send(&journal, sent).await {
                break error;
            }
            assert!(sent < 10_000, "the file never got full");
        };
        assert_eq!(error.kind, Kind::Full);
        assert!(journal.is_full() && !journal.has_failed());
        assert_eq!(calls(&store).await, i64::try_from(sent).unwrap() - 1);
        // What comes is told so at once, and kept.
        for _ in 0..5 {
            sent += 1;
            let late = timeout(Duration::from_secs(1), send(&journal, sent)).await.unwrap();
            assert_eq!(late.unwrap_err().kind, Kind::Full);
        }
        assert_eq!(journal.pending(), 6);
        assert_eq!(journal.reserve_expendable().err().unwrap().kind, Kind::Full);
        let room = |it: &Connection| it.query_row("PRAGMA max_page_count = 10000", [], |_| Ok(()));
        journal.run("making room", room).await.unwrap();
        until(|| journal.pending() == 0).await;
        assert!(!journal.is_full());
        assert_eq!(calls(&store).await, i64::try_from(sent).unwrap());
        let given_back: Vec<_> = commits.lock().iter().flatten().copied().collect();
        assert_eq!(given_back, (1..=sent).collect::<Vec<_>>());
        send(&journal, sent + 1).await.unwrap();
    }

    #[tokio::test]
    async fn closing_on_a_full_disk_says_that_something_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let options = JournalOptions { file_pages_max: Some(1), ..JournalOptions::default() };
        let (_store, journal, commits) = numbered(&folder, options);
        let mut sent = 0;
        while send(&journal, sent).await.is_ok() {
            sent += 1;
        }
        journal.close();
        assert!(journal.has_failed());
        timeout(Duration::from_secs(1), journal.failed()).await.unwrap();
        assert_eq!(journal.reserve().err().unwrap().kind, Kind::Io);
        assert_eq!(commits.lock().iter().flatten().count(), usize::try_from(sent).unwrap());
    }

    #[tokio::test]
    async fn a_poison_row_takes_nobody_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal, commits) = numbered(&folder, JournalOptions::default());
        let held = hold(&journal);
        let too_great = fixture::change(2, u64::MAX);
        // Of this one some rows can be written.
        let mut halfway = fixture::change(4, 1);
        halfway.participants[1].duration = Some(u64::MAX);
        let poison = |change| journal.reserve().unwrap().send(Record::Change(Box::new(change)), 0);
        let (first, bad, third) = (send(&journal, 1), poison(too_great), send(&journal, 3));
        let (worse, fifth) = (poison(halfway), send(&journal, 5));
        drop(held);
        for durable in [first, third, fifth] {
            durable.await.unwrap();
        }
        for durable in [bad, worse] {
            assert_eq!(durable.await.unwrap_err().kind, Kind::Rejected);
        }
        assert_eq!(*commits.lock(), [[1, 0, 3, 0, 5]]);
        assert_eq!(calls(&store).await, 3);
        assert!(!journal.has_failed() && !journal.is_full());
    }

    #[tokio::test]
    async fn a_disk_that_fails_ends_the_journal_and_nothing_is_acknowledged_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let (_store, journal, commits) = numbered(&folder, JournalOptions::default());
        send(&journal, 1).await.unwrap();
        // As an error of the disk looks from above: every write fails, and not for want of room.
        let breaks = |it: &Connection| it.pragma_update(None, "query_only", true);
        journal.run("breaking the disk", breaks).await.unwrap();
        assert_eq!(send(&journal, 2).await.unwrap_err().kind, Kind::Io);
        timeout(Duration::from_secs(1), journal.failed()).await.unwrap();
        assert!(journal.has_failed() && !journal.is_full());
        assert_eq!(journal.reserve().err().unwrap().kind, Kind::Io);
        assert_eq!(*commits.lock(), [[1]]);
        journal.close();
    }

    #[tokio::test]
    async fn a_panic_in_what_follows_a_commit_does_not_stop_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        let after = |numbers: Vec<u64>| assert!(!numbers.contains(&1), "number 1 is not liked");
        let journal = Journal::open(&store, JournalOptions::default(), after).unwrap();
        for number in 0..3 {
            send(&journal, number).await.unwrap();
        }
        assert_eq!(calls(&store).await, 3);
    }

    #[tokio::test]
    async fn closing_writes_all_and_a_reopened_store_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal, _) = numbered(&folder, JournalOptions::default());
        let other = journal.clone();
        let permit = journal.reserve().unwrap();
        for number in 0..1_000 {
            drop(send(&journal, number));
        }
        journal.close();
        other.close();
        let late = permit.send(Record::Change(Box::new(fixture::change(9_999, 1))), 0);
        assert_eq!(late.await.unwrap_err().kind, Kind::Closed);
        assert_eq!(journal.reserve().err().unwrap().kind, Kind::Closed);
        assert!(!journal.has_failed());
        let log = folder.path().join("calls.sqlite-wal");
        assert_eq!(std::fs::metadata(log).map_or(0, |it| it.len()), 0, "the log is left behind");
        drop((store, journal, other));
        let store = Sqlite::open(folder.path()).unwrap();
        assert_eq!(calls(&store).await, 1_000);
        assert_eq!(store.live_snapshots().unwrap().len(), 1_000);
    }

    #[tokio::test]
    async fn the_last_handle_ends_the_writer_and_unlocks_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal, _) = numbered(&folder, JournalOptions::default());
        drop(send(&journal, 1));
        drop((store, journal));
        let reopened =
            || Sqlite::open(folder.path()).is_ok_and(|it| it.live_snapshots().unwrap().len() == 1);
        until(reopened).await;
    }
}
