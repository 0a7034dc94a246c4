//! Keeps SQLite's log short without holding up commits.
//!
//! A checkpoint copies the log into the database and flushes both, which may take long. Nearly all
//! of it is done by a thread with a connection of its own, while commits go on. Under a load that
//! never pauses that copy never quite catches up, so the log would not start over: when it is long,
//! the writer copies the rest itself, between two commits. SQLite flushes the database only in a copy
//! that reaches the log's end, which that is; and all wait meanwhile. So the thread flushes before,
//! and copies and flushes what came in between, until little is left.
//!
//! Commits wait for the same disk, behind all that it was given at once. It is given less at once by
//! flushing while the copy goes on, and by copying often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, Row};

use crate::store::error::StoreError;
use crate::store::sqlite::Sqlite;

/// The log is copied each time it has grown by so many pages (8 MiB). A page that changes often is copied each time: half
/// as many cost a fifth more copies, and twice as many a quarter less; but then one start in a hundred takes a
/// quarter longer, at 2,000 a second.
const COPY_PAGES: usize = 1_024;
/// From this length (32 MiB) the writer lends a hand, so that the log can start over.
const LONG_PAGES: usize = 4 * COPY_PAGES;
/// From this length (96 MiB) commits wait for the copy that is under way: the disk does not keep up with them.
const PAGES_MAX: usize = 3 * LONG_PAGES;
/// How long the disk has rest between two flushes during a copy, which takes some ten milliseconds.
const FLUSH_PAUSE: Duration = Duration::from_micros(300);
/// So little that the writer copies it about as fast as the disk takes anything: some commits' pages.
const REST_PAGES: usize = 128;
/// Where commits come as fast as they are copied, it does not get less: then that has to do.
const PASSES_MAX: usize = 4;

/// The writer's side.
pub(super) struct Checkpointer {
    /// The log's length after the last commit, set by SQLite's hook.
    pages: Arc<AtomicUsize>,
    /// Its length when a copy was last asked for.
    asked: usize,
    /// What was asked for when the writer last lent a hand: once for each.
    helped: usize,
    copying: Arc<AtomicBool>,
    /// Whoever has it copies.
    turn: Arc<Mutex<()>>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Watches the log that `writer` writes.
    pub(super) fn start(store: &Sqlite, writer: &mut Connection) -> Result<Self, StoreError> {
        let pages = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&pages);
        let hook = move |_: &mut rusqlite::hooks::Wal, length| {
            seen.store(usize::try_from(length).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(StoreError::sqlite("watching the log"))?;
        let connection = store.connect()?;
        let copying = Arc::new(AtomicBool::new(false));
        let turn = Arc::new(Mutex::new(()));
        let (wake, woken) = sync_channel(1);
        let (busy, length, files) = (Arc::clone(&copying), Arc::clone(&pages), store.clone());
        let own_turn = Arc::clone(&turn);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    let alone = own_turn.lock();
                    copy_nearly_all(&connection, &length, &files);
                    drop(alone);
                    busy.store(false, Ordering::Release);
                }
            })
            .map_err(StoreError::io("starting the checkpointer"))?;
        let (wake, thread) = (Some(wake), Some(thread));
        Ok(Self { pages, asked: 0, helped: 0, copying, turn, wake, thread })
    }

    /// To be called after each commit.
    pub(super) fn committed(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.asked {
            // The log has started over.
            (self.asked, self.helped) = (0, 0);
        }
        if pages >= self.asked + COPY_PAGES {
            self.asked = pages;
            self.copying.store(true, Ordering::Release);
            if let Some(wake) = &self.wake {
                // Full: a copy is about to start, which will see these pages too.
                _ = wake.try_send(());
            }
        }
        let long = self.asked >= LONG_PAGES && self.asked > self.helped;
        if long && (pages >= PAGES_MAX || !self.copying.load(Ordering::Acquire)) {
            let _alone = self.turn.lock();
            self.helped = self.asked;
            copy(writer);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Copies the log. Where it is long, the writer is left with little; where it gets too long meanwhile, with the rest.
fn copy_nearly_all(connection: &Connection, length: &AtomicUsize, files: &Sqlite) {
    for _ in 0..PASSES_MAX {
        let copied = copy_and_flush(connection, files);
        let length = length.load(Ordering::Relaxed);
        let is_enough = length < LONG_PAGES || length.saturating_sub(copied) <= REST_PAGES;
        if is_enough || length >= 2 * LONG_PAGES {
            return;
        }
    }
}

/// Copies, and has the disk keep it piece by piece meanwhile: SQLite copies faster than the disk takes it.
fn copy_and_flush(connection: &Connection, files: &Sqlite) -> usize {
    let (copying, over) = sync_channel::<()>(0);
    let copied = thread::scope(|scope| {
        let flusher =
            thread::Builder::new().name("flush".to_owned()).spawn_scoped(scope, move || {
                let timeout = Err(RecvTimeoutError::Timeout);
                while over.recv_timeout(FLUSH_PAUSE) == timeout && flush(files) {}
            });
        // Where there is no thread to be had, all is flushed below.
        drop(flusher);
        let copied = copy(connection);
        drop(copying);
        copied
    });
    flush(files);
    copied
}

/// Whether that was done. Where not: whoever has the log start over flushes the database before.
fn flush(files: &Sqlite) -> bool {
    let failed = |error: &StoreError| {
        tracing::warn!(error = error.logged(), "the database could not be flushed");
    };
    files.flush().inspect_err(failed).is_ok()
}

/// Copies what no reader is in the way of; waits for nobody. How many of the log's pages are copied now, by this and
/// by earlier ones.
fn copy(connection: &Connection) -> usize {
    let copied = |row: &Row<'_>| row.get::<_, i64>(2).map(|it| usize::try_from(it).unwrap_or(0));
    let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], copied);
    result.map_err(StoreError::sqlite("copying the log")).unwrap_or_else(|error| {
        // The log still has everything; the next copy tries again.
        tracing::warn!(error = error.logged(), "the log could not be copied");
        metrics::counter!("journal_checkpoint_failures_total").increment(1);
        0
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::store::fixture;
    use crate::store::options::{JournalOptions, Sync};

    /// What one change of the test adds to the log.
    const SNAPSHOT_BYTES: usize = 64 * 1024;
    /// The log may go beyond `PAGES_MAX` by what is committed before the next copy is asked for, and each page of it has
    /// a header: however slow the disk is.
    const LOG_BYTES_MAX: u64 = 105 * 1024 * 1024;

    #[tokio::test]
    async fn the_log_stays_short_under_a_load_that_never_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let options = JournalOptions { sync: Sync::Off, ..JournalOptions::default() };
        let (store, journal) = fixture::journal(folder.path(), options);
        let log = folder.path().join("calls.sqlite-wal");
        let mut longest = 0;
        for number in 0..5_000 {
            let mut change = fixture::change(number % 50, number + 1);
            change.live = Some("x".repeat(SNAPSHOT_BYTES));
            fixture::send(&journal, change).await.unwrap();
            longest = longest.max(fs::metadata(&log).unwrap().len());
        }
        assert!(longest < LOG_BYTES_MAX, "{longest}");
        // Some 312 MiB went through it: it has started over, more than once.
        assert!(longest > 0);
        drop((store, journal));
    }
}
