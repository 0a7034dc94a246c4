//! The bounded queue before the writer: who sends first is written first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::store::Record;
use crate::store::error::{Kind, StoreError};

/// Jobs (retention, erasure) that may wait for the writer: they come one at a time.
const JOBS_MAX: usize = 64;

/// How the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// Commits land.
    Fine,
    /// The last commit found no room (or another program held the file): it is tried again.
    Full,
    /// Nothing is written any more: the disk has failed.
    Failed,
    /// Nothing is written any more, as it was asked for.
    Closed,
}

/// Tells one caller what became of its record.
pub(super) type Waiter = oneshot::Sender<Result<(), StoreError>>;

/// Something else to do on the writer's connection, between two commits.
pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// One record on its way.
pub(super) struct Entry<A> {
    pub(super) record: Record,
    /// [`size`](crate::store::write::size) of the record.
    pub(super) bytes: usize,
    pub(super) after: A,
    /// Gone once it has been answered.
    pub(super) waiter: Option<Waiter>,
}

impl<A> Entry<A> {
    /// Answers the waiter, if it has not been answered yet.
    pub(super) fn answer(&mut self, result: Result<(), StoreError>) {
        if let Some(waiter) = self.waiter.take() {
            // Nobody listens where the caller was content to send.
            drop(waiter.send(result));
        }
    }
}

/// What the writer finds when it looks.
pub(super) struct News {
    pub(super) jobs: VecDeque<Job>,
    pub(super) closing: bool,
}

pub(super) struct Queue<A> {
    waiting: Mutex<Waiting<A>>,
    wake: Condvar,
    records_max: usize,
    bytes_max: usize,
    /// Reserved, waiting, or held by the writer until there is room on the disk.
    records: AtomicUsize,
    bytes: AtomicUsize,
    health: watch::Sender<Health>,
}

struct Waiting<A> {
    entries: VecDeque<Entry<A>>,
    jobs: VecDeque<Job>,
    closing: bool,
    /// What to answer once the writer is gone.
    ended: Option<StoreError>,
    #[cfg(test)]
    turn: Turn,
}

/// When the writer may work, where a test says so.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Always.
    Free,
    /// Not now.
    Over,
    /// Once: it has not noticed yet.
    Given,
    /// It is at work.
    Taken,
}

impl<A> Waiting<A> {
    /// Whether the writer has nothing to do.
    fn is_idle(&self) -> bool {
        #[cfg(test)]
        if self.turn == Turn::Over {
            return true;
        }
        self.entries.is_empty() && self.jobs.is_empty()
    }
}

impl<A> Queue<A> {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        let waiting = Waiting {
            entries: VecDeque::new(),
            jobs: VecDeque::new(),
            closing: false,
            ended: None,
            #[cfg(test)]
            turn: Turn::Free,
        };
        Self {
            waiting: Mutex::new(waiting),
            wake: Condvar::new(),
            records_max,
            bytes_max,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            health: watch::Sender::new(Health::Fine),
        }
    }

    pub(super) fn health(&self) -> Health {
        *self.health.borrow()
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.send_replace(health);
    }

    /// Hears of every change of health.
    pub(super) fn watch(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Records that are reserved or not durable yet.
    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Takes a place among the first `records_max`; [`Queue::release`] gives it back.
    pub(super) fn reserve(&self, records_max: usize) -> Result<(), StoreError> {
        const DURING: &str = "taking a place in the journal";
        match self.health() {
            Health::Fine | Health::Full => {}
            Health::Failed => return Err(StoreError::new(DURING, Kind::Io)),
            Health::Closed => return Err(StoreError::new(DURING, Kind::Closed)),
        }
        let full = || StoreError::new(DURING, Kind::Full);
        if self.bytes.load(Ordering::Relaxed) >= self.bytes_max {
            return Err(full());
        }
        let taken = self.records.fetch_add(1, Ordering::Relaxed);
        if taken >= records_max.min(self.records_max) {
            self.release(1, 0);
            return Err(full());
        }
        Ok(())
    }

    /// Places of a half-empty queue: what may be lost under pressure takes no more.
    pub(super) fn spare_records(&self) -> usize {
        self.records_max / 2
    }

    /// Gives back the places of `records` with `bytes` in them.
    pub(super) fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Appends `entry`, whose place has been reserved.
    pub(super) fn push(&self, mut entry: Entry<A>) {
        self.bytes.fetch_add(entry.bytes, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        if let Some(error) = waiting.ended.clone() {
            drop(waiting);
            self.release(1, entry.bytes);
            entry.answer(Err(error));
            return;
        }
        waiting.entries.push_back(entry);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Asks the writer to do `job` before its next commit.
    pub(super) fn submit(&self, during: &'static str, job: Job) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        if waiting.closing || waiting.ended.is_some() {
            return Err(StoreError::new(during, Kind::Closed));
        }
        if waiting.jobs.len() >= JOBS_MAX {
            return Err(StoreError::new(during, Kind::Busy));
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// From now on the writer works only when it gets a turn.
    #[cfg(test)]
    pub(super) fn take_turns(&self) {
        self.waiting.lock().turn = Turn::Over;
    }

    /// Has the writer do all that waits now, and comes back when that is done: whether there was anything.
    #[cfg(test)]
    pub(super) fn turn(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.entries.is_empty() && waiting.jobs.is_empty() {
            return false;
        }
        waiting.turn = Turn::Given;
        self.wake.notify_all();
        while waiting.turn != Turn::Over && waiting.ended.is_none() {
            self.wake.wait(&mut waiting);
        }
        true
    }

    /// Asks the writer to finish what waits and to end.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to do, or until `deadline`, and moves all entries that wait to
    /// the end of `backlog`.
    pub(super) fn collect(
        &self,
        backlog: &mut VecDeque<Entry<A>>,
        deadline: Option<Instant>,
    ) -> News {
        let mut waiting = self.waiting.lock();
        #[cfg(test)]
        if waiting.turn == Turn::Taken {
            waiting.turn = Turn::Over;
            self.wake.notify_all();
        }
        while waiting.is_idle() && !waiting.closing {
            match deadline {
                None => self.wake.wait(&mut waiting),
                Some(deadline) => {
                    if self.wake.wait_until(&mut waiting, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        #[cfg(test)]
        if waiting.turn == Turn::Given {
            waiting.turn = Turn::Taken;
        }
        if backlog.is_empty() {
            std::mem::swap(backlog, &mut waiting.entries);
        } else {
            backlog.append(&mut waiting.entries);
        }
        News { jobs: std::mem::take(&mut waiting.jobs), closing: waiting.closing }
    }

    /// The writer is gone: everything that waits, and all that comes, is answered with `error`.
    pub(super) fn end(&self, error: &StoreError) {
        let mut waiting = self.waiting.lock();
        waiting.ended = Some(error.clone());
        #[cfg(test)]
        self.wake.notify_all();
        let entries = std::mem::take(&mut waiting.entries);
        let jobs = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        drop(jobs);
        for mut entry in entries {
            self.release(1, entry.bytes);
            entry.answer(Err(error.clone()));
        }
    }
}
