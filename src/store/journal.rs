//! The one door for writes: a place in a bounded queue, and a promise that is kept by the disk.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::store::error::{Kind, StoreError};
use crate::store::queue::{Entry, Health, Queue};
use crate::store::sqlite::Sqlite;
use crate::store::writer::Writer;
use crate::store::{Record, write};

/// When a commit counts as durable: SQLite's `synchronous` (`JOURNAL_SYNC`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// On the disk: survives a loss of power.
    #[default]
    Full,
    /// In the log file: survives the end of the process, and of power once a checkpoint has passed.
    Normal,
    /// As `Normal`, and a loss of power may damage the file.
    Off,
}

impl Sync {
    /// Every value, in the order of the settings' page.
    pub const ALL: &'static [Self] = &[Self::Full, Self::Normal, Self::Off];

    /// The word of the setting, and of SQLite's pragma.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
            Self::Off => "off",
        }
    }

    /// The value that `text` names, if any.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }
}

/// The journal's bounds.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// When a commit counts as durable.
    pub sync: Sync,
    /// Records that may wait, or be held while the disk is full. Bounds memory; `reserve` fails
    /// beyond it.
    pub queue_records_max: usize,
    /// Bytes of records that may wait.
    pub queue_bytes_max: usize,
    /// Records of one transaction: more make a commit longer for the first that waits, fewer cost
    /// more flushes of the disk.
    pub batch_records_max: usize,
    /// Bytes of one transaction's records.
    pub batch_bytes_max: usize,
    /// How long to wait before a full disk is tried again.
    pub full_retry: Duration,
    /// A cap on the database's size in pages of 4 KiB, where one is wanted.
    pub file_pages_max: Option<u32>,
}

impl Default for JournalOptions {
    /// The figures of the fault table: 100,000 records, 512 records or 1 MiB a commit.
    fn default() -> Self {
        Self {
            sync: Sync::Full,
            queue_records_max: 100_000,
            queue_bytes_max: 256 * 1024 * 1024,
            batch_records_max: 512,
            batch_bytes_max: 1024 * 1024,
            full_retry: Duration::from_millis(500),
            file_pages_max: None,
        }
    }
}

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
    /// Fails with [`Kind::Full`] where too much waits, [`Kind::Io`] after the disk has failed.
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
        *self.queue.health().borrow() == Health::Full
    }

    /// Whether the journal has given up: the process should drain and exit.
    pub fn has_failed(&self) -> bool {
        *self.queue.health().borrow() == Health::Failed
    }

    /// Completes when the journal gives up, and not before.
    pub async fn failed(&self) {
        let mut health = self.queue.health().subscribe();
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
