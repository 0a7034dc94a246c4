//! Moves what the local file notes as new to Postgres, for as long as the service runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::call::time::Timestamp;
use crate::store::connection::open_read_only;
use crate::store::error::{Kind, StoreError};
use crate::store::journal::Journal;
use crate::store::outbox::{self, Batch, Dead};
use crate::store::postgres::batch::Refused;
use crate::store::postgres::connect::Postgres;
use crate::store::postgres::schema::day_of;
use crate::store::sqlite::Sqlite;

/// How long to wait after a failure, at first and at most. The latter bounds how long Postgres is
/// back before anybody notices.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often a server that is away is asked whether it still is.
const PROBE: Duration = Duration::from_millis(500);
/// Rows that may be refused in a row before that counts as Postgres' fault: a row of ours that it
/// does not take is rare, a column that somebody has changed refuses all.
const REFUSED_MAX: usize = 50;

/// Moves rows from one outbox to Postgres. There may be one at work.
pub struct WriteBehind<A> {
    journal: Journal<A>,
    store: Sqlite,
    postgres: Postgres,
    /// A connection of its own: reads of requests never wait for it.
    connection: Arc<Mutex<Option<Connection>>>,
    /// Days whose partitions are there.
    days: HashSet<i64>,
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more.
    More,
    /// That was all for now.
    Done,
}

impl<A: Send + 'static> WriteBehind<A> {
    /// From the outbox of `store`, which has to be open, to `postgres`; `journal` is the store's.
    pub fn new(journal: Journal<A>, store: Sqlite, postgres: Postgres) -> Self {
        Self { journal, store, postgres, connection: Arc::default(), days: HashSet::new() }
    }

    /// Moves rows as they come; never returns. Whatever happens to Postgres, they wait in the file.
    #[expect(clippy::infinite_loop, reason = "ends with its task")]
    pub async fn run(mut self) {
        let age = self.postgres.shared.options.batch_age;
        let mut pause = PAUSE.0;
        let mut failing: Option<Kind> = None;
        loop {
            match self.step().await {
                Ok(step) => {
                    (pause, failing) = (PAUSE.0, None);
                    if step == Step::Done {
                        sleep(age).await;
                    }
                }
                Err(error) => {
                    counter!("postgres_batch_failures_total").increment(1);
                    // Said once for each kind of trouble, not at each try.
                    if failing.replace(error.kind) != Some(error.kind) {
                        tracing::warn!(error = error.in_full(), "rows wait for Postgres");
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Moves all that there is, for at most `limit`: whether all of it got there.
    pub async fn drain(&mut self, limit: Duration) -> Result<bool, StoreError> {
        let work = async {
            loop {
                // Asked first: what becomes durable while a step is at work may be too late for it.
                let is_quiet = self.journal.pending() == 0;
                if self.step().await? == Step::Done && is_quiet {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(limit, work).await.map_or(Ok(false), |done| done.map(|()| true))
    }

    async fn step(&mut self) -> Result<Step, StoreError> {
        let batch = self.take().await?;
        if batch.upto == 0 {
            return Ok(Step::Done);
        }
        self.postgres.prepare().await?;
        self.make_partitions(&batch).await?;
        let (started, count, step) = (Instant::now(), batch.rows.len(), batch.step());
        let refused = self.postgres.land(batch.rows).await?;
        let mut dead = batch.unreadable;
        dead.extend(self.set_aside(refused, count).await?);
        self.journal.written_behind(batch.upto, dead).await?;
        histogram!("postgres_batch_seconds").record(started.elapsed().as_secs_f64());
        counter!("postgres_rows_total").increment(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(step)
    }

    /// Reads the next batch, and counts what waits.
    async fn take(&self) -> Result<Batch, StoreError> {
        const DURING: &str = "reading the outbox";
        let (kept, file) = (Arc::clone(&self.connection), self.store.file().to_owned());
        let options = &self.postgres.shared.options;
        let (rows_max, bytes_max) = (options.batch_rows_max, options.batch_bytes_max);
        let read = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => open_read_only(&file)?,
            };
            let pending = outbox::pending(&connection)?;
            let batch = outbox::take(&mut connection, rows_max, bytes_max)?;
            *kept = Some(connection);
            drop(kept);
            Ok((pending, batch))
        });
        let read = read.await.map_err(|cause| StoreError::caused(DURING, Kind::Io, cause))?;
        let (pending, batch) = read.map_err(StoreError::sqlite(DURING))?;
        self.postgres.shared.unwritten.store(pending, Ordering::Relaxed);
        Ok(batch)
    }

    /// Sees that there is a partition for each sample.
    async fn make_partitions(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let times = batch.rows.iter().filter_map(|it| it.integer("timestamp"));
        let days: HashSet<i64> = times.map(day_of).filter(|day| !self.days.contains(day)).collect();
        if !days.is_empty() {
            self.postgres.make_partitions(days.iter().copied()).await?;
            self.days.extend(days);
        }
        Ok(())
    }

    /// What is to be kept of refused rows. Where too many are, none is: all of the batch waits until
    /// somebody has looked.
    async fn set_aside(
        &mut self,
        refused: Vec<Refused>,
        of: usize,
    ) -> Result<Vec<Dead>, StoreError> {
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        // It may be that a partition has gone since: that is no fault of the row.
        self.days.clear();
        let many = refused.len() > REFUSED_MAX && refused.len() * 2 > of;
        if many || !self.journal.may_set_aside().await? {
            return Err(StoreError::new(
                "setting refused rows aside: they are too many",
                Kind::Schema,
            ));
        }
        Ok(refused
            .into_iter()
            .map(|(row, error)| {
                counter!("postgres_rows_refused_total").increment(1);
                let (table, error) = (row.table.name, error.in_full());
                tracing::error!(table, error, "Postgres refuses a row: it is set aside");
                Dead { table, row: row.json(), error }
            })
            .collect())
    }
}

impl Batch {
    fn step(&self) -> Step {
        if self.last { Step::Done } else { Step::More }
    }
}

impl Postgres {
    /// Asks servers that are away whether they still are; never returns.
    #[expect(clippy::infinite_loop, reason = "ends with its task")]
    pub async fn watch(&self) {
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let replica = async {
                if let Some(replica) = &self.shared.replica {
                    replica.probe().await;
                }
            };
            tokio::join!(self.shared.writer.probe(), self.shared.reader.probe(), replica);
        }
    }

    /// Removes what has been kept for long enough: in Postgres as the options say, and calls that
    /// are over and in Postgres from the local file. To be called every minute or so.
    pub async fn tidy<A: Send + 'static>(
        &self,
        journal: &Journal<A>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.prepare().await?;
        self.keep_house(now).await?;
        let calls = journal.trim(now.minus(self.shared.options.local_keep)).await?;
        if calls > 0 {
            tracing::debug!(calls, "calls that are over have left the local file");
        }
        Ok(())
    }
}
