//! The writer thread: all that waits goes into one transaction.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::checkpoint::Checkpointer;
use crate::store::error::{Kind, StoreError};
use crate::store::options::JournalOptions;
use crate::store::queue::{Entry, Health, Queue};
use crate::store::sqlite::Sqlite;
use crate::store::write::{self, Written};

const COMMITTING: &str = "committing to the journal";

/// Gives back what came with the records of one commit.
pub(super) type After<A> = Box<dyn FnMut(Vec<A>) + Send>;

/// Owns the only connection that writes records.
pub(super) struct Writer<A> {
    checkpointer: Checkpointer,
    connection: Connection,
    queue: Arc<Queue<A>>,
    options: JournalOptions,
    after: After<A>,
    /// Taken from the queue, not durable yet, in the order of sending.
    backlog: VecDeque<Entry<A>>,
    /// Why the last commit has to be tried again, and when.
    trouble: Option<(StoreError, Instant)>,
    /// Keeps the directory locked for as long as this thread may write.
    store: Sqlite,
}

/// A record of the batch that the database refuses, by its place in the batch.
type Refused = (usize, StoreError);

impl<A> Writer<A> {
    pub(super) fn new(
        store: Sqlite,
        queue: Arc<Queue<A>>,
        options: JournalOptions,
        after: After<A>,
    ) -> Result<Self, StoreError> {
        let failed = StoreError::sqlite("opening the journal");
        let mut connection = store.connect()?;
        connection.pragma_update(None, "synchronous", options.sync.as_str()).map_err(&failed)?;
        if let Some(pages) = options.file_pages_max {
            let set = format!("PRAGMA max_page_count = {pages}");
            connection.query_row(&set, [], |_| Ok(())).map_err(&failed)?;
        }
        let checkpointer = Checkpointer::start(&store, &mut connection)?;
        let backlog = VecDeque::new();
        Ok(Self { checkpointer, connection, queue, options, after, backlog, trouble: None, store })
    }

    /// The thread's whole life. However it ends, nobody is left waiting.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()));
        let error = match ended {
            Ok(Ok(())) => {
                self.queue.set_health(Health::Closed);
                StoreError::new(COMMITTING, Kind::Closed)
            }
            Ok(Err(error)) => self.give_up(error),
            Err(_) => {
                metrics::counter!("panics_total").increment(1);
                self.give_up(StoreError::new(COMMITTING, Kind::Io))
            }
        };
        self.answer_all(&error);
        self.queue.end(&error);
    }

    fn give_up(&mut self, error: StoreError) -> StoreError {
        tracing::error!(
            error = error.logged(),
            unwritten = self.backlog.len(),
            "the journal has failed: nothing is written any more"
        );
        if error.kind == Kind::Corrupt {
            self.store.suspect();
        }
        self.queue.set_health(Health::Failed);
        error
    }

    fn work(&mut self) -> Result<(), StoreError> {
        loop {
            let retry_at = self.trouble.as_ref().map(|&(_, at)| at);
            let news = self.queue.collect(&mut self.backlog, retry_at);
            for job in news.jobs {
                job(&self.connection);
            }
            if let Some((error, _)) = self.trouble.clone() {
                self.answer_all(&error);
            }
            if news.closing || retry_at.is_none_or(|it| it <= Instant::now()) {
                self.drain()?;
            }
            if news.closing {
                return self.finish();
            }
        }
    }

    /// Commits the backlog, batch by batch, until it is empty or the disk is full.
    fn drain(&mut self) -> Result<(), StoreError> {
        while !self.backlog.is_empty() {
            let count = self.batch();
            match self.commit(count) {
                Ok(refused) => self.committed(count, refused),
                Err(error) if error.kind.may_retry() => {
                    self.trouble_with(error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many records of the backlog the next transaction takes: at least one.
    fn batch(&self) -> usize {
        let mut bytes = 0;
        let fits = |entry: &&Entry<A>| {
            bytes += entry.bytes;
            bytes <= self.options.batch_bytes_max
        };
        let records = self.backlog.iter().take(self.options.batch_records_max);
        records.take_while(fits).count().max(1)
    }

    fn commit(&self, count: usize) -> Result<Vec<Refused>, StoreError> {
        let started = Instant::now();
        let refused = match self.write(count) {
            Err(error) if error.kind == Kind::Rejected => self.write_one_by_one(count),
            other => other.map(|()| Vec::new()),
        }?;
        metrics::histogram!("journal_commit_seconds").record(started.elapsed().as_secs_f64());
        Ok(refused)
    }

    /// All in one transaction, at full speed: hardly ever is there anything wrong with a record.
    fn write(&self, count: usize) -> Result<(), StoreError> {
        let failed = StoreError::sqlite(COMMITTING);
        let transaction = self.begin()?;
        for entry in self.backlog.iter().take(count) {
            let written = write::record(&transaction, &entry.record).map_err(&failed)?;
            count_stale(written);
        }
        transaction.commit().map_err(&failed)
    }

    /// As [`Writer::write`], but what is wrong with one record keeps only that one out.
    fn write_one_by_one(&self, count: usize) -> Result<Vec<Refused>, StoreError> {
        let failed = StoreError::sqlite(COMMITTING);
        let mut refused = Vec::new();
        let mut transaction = self.begin()?;
        for (index, entry) in self.backlog.iter().take(count).enumerate() {
            let savepoint = transaction.savepoint().map_err(&failed)?;
            match write::record(&savepoint, &entry.record).map_err(&failed) {
                Ok(_) => savepoint.commit().map_err(&failed)?,
                Err(error) if error.kind == Kind::Rejected => refused.push((index, error)),
                Err(error) => return Err(error),
            }
        }
        transaction.commit().map_err(&failed)?;
        Ok(refused)
    }

    fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(StoreError::sqlite(COMMITTING))
    }

    /// The first `count` of the backlog are durable: hands back what came with them, in order, then
    /// tells those who wait.
    fn committed(&mut self, count: usize, refused: Vec<Refused>) {
        if self.trouble.take().is_some() {
            tracing::info!(waiting = self.backlog.len(), "the journal has room again");
            self.queue.set_health(Health::Fine);
        }
        let mut bytes = 0;
        let (mut given_back, mut waiters) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for entry in self.backlog.drain(..count) {
            bytes += entry.bytes;
            given_back.push(entry.after);
            waiters.push(entry.waiter);
        }
        self.queue.release(count, bytes);
        if catch_unwind(AssertUnwindSafe(|| (self.after)(given_back))).is_err() {
            // Deliveries of this commit may be lost; the journal must not be.
            tracing::error!("the journal's follow-up panicked");
            metrics::counter!("panics_total").increment(1);
        }
        for (index, error) in refused {
            metrics::counter!("journal_rejected_rows_total").increment(1);
            tracing::error!(error = error.logged(), "a record cannot be stored and is left out");
            if let Some(waiter) = waiters.get_mut(index).and_then(Option::take) {
                drop(waiter.send(Err(error)));
            }
        }
        for waiter in waiters.into_iter().flatten() {
            drop(waiter.send(Ok(())));
        }
        self.checkpointer.committed(&self.connection);
    }

    fn trouble_with(&mut self, error: StoreError) {
        if self.trouble.is_none() {
            tracing::error!(
                error = error.logged(),
                waiting = self.backlog.len(),
                "the journal cannot write: what comes is kept in memory and tried again"
            );
        }
        metrics::counter!("journal_full_total").increment(1);
        self.queue.set_health(Health::Full);
        self.answer_all(&error);
        self.trouble = Some((error, Instant::now() + self.options.full_retry));
    }

    fn answer_all(&mut self, error: &StoreError) {
        for entry in &mut self.backlog {
            entry.answer(Err(error.clone()));
        }
    }

    /// Empties the log into the database, so that the next start has nothing to repair.
    fn finish(&mut self) -> Result<(), StoreError> {
        if let Some((error, _)) = self.trouble.take() {
            return Err(error);
        }
        let emptied = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(StoreError::sqlite("emptying the log"));
        if let Err(error) = emptied {
            tracing::warn!(error = error.logged(), "the log was left behind");
        }
        Ok(())
    }
}

fn count_stale(written: Written) {
    if written == Written::Stale {
        metrics::counter!("journal_stale_changes_total").increment(1);
    }
}
