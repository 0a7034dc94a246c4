//! What is forgotten: old samples, keys and calls by time, one user by request.
//!
//! All of it goes through the writer in small transactions, so that calls never wait for long.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::call::id::UserId;
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::journal::Journal;

/// Rows of one transaction: a few milliseconds of the writer's time.
const ROWS: i64 = 500;
/// Transactions of one [`Journal::sweep`]: what is left waits for the next.
const SWEEP_CHUNKS_MAX: usize = 200;
/// Calls of one transaction: each has rows in five tables.
const CALLS: i64 = 50;

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionOptions {
    /// Quality samples, from when they came.
    pub samples: Duration,
    /// Idempotency keys, from the start they belong to.
    pub idempotency_keys: Duration,
    /// Calls with all that belongs to them, from their end; `None`: for ever.
    pub calls: Option<Duration>,
}

impl Default for RetentionOptions {
    /// The contract's: samples 7 days, keys 24 hours, calls for ever.
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { samples: 7 * DAY, idempotency_keys: DAY, calls: None }
    }
}

/// What a sweep has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Quality samples.
    pub samples: u64,
    /// Idempotency keys.
    pub idempotency_keys: u64,
    /// Calls.
    pub calls: u64,
}

/// What an erasure has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Calls in which the user has become a nameless participant.
    pub calls: u64,
    /// Events that named the user, or were meant for it, and are gone.
    pub events: u64,
    /// Quality samples of the user that are gone.
    pub samples: u64,
    /// Idempotency keys of the user that are gone.
    pub idempotency_keys: u64,
    /// Calls that are not over and were left as they are: erase again after their end.
    pub live_calls: u64,
}

impl<A: Send + 'static> Journal<A> {
    /// Removes what is older than `options` allow at `now`. To be called every minute or so; one call
    /// does a bounded amount of work.
    pub async fn sweep(
        &self,
        now: Timestamp,
        options: RetentionOptions,
    ) -> Result<Swept, StoreError> {
        let before = |age: Duration| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            now.0.saturating_sub(age)
        };
        let (samples, keys) = (before(options.samples), before(options.idempotency_keys));
        let mut swept = Swept {
            samples: self.repeat(ROWS, move |it| old_samples(it, samples)).await?,
            idempotency_keys: self.repeat(ROWS, move |it| old_keys(it, keys)).await?,
            calls: 0,
        };
        if let Some(calls) = options.calls.map(before) {
            swept.calls = self.repeat(CALLS, move |it| old_calls(it, calls)).await?;
        }
        Ok(swept)
    }

    /// Removes the traces of `user`: in calls that are over, the participant stays, since the call is
    /// the others' history too, but under the name `erased:<participant id>`, which leads nowhere and
    /// is nobody's; so does the initiator. Events that name the user or were meant for it, samples
    /// and keys go. Calls that are not over stay as they are, and are counted.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, StoreError> {
        let mut erased = Erased::default();
        loop {
            let chunk = user.clone();
            let done = self.run("erasing a user", move |it| erase_calls(it, &chunk)).await?;
            erased.calls += done.calls;
            erased.events += done.events;
            erased.samples += done.samples;
            if done.calls == 0 {
                break;
            }
        }
        let user = user.clone();
        let (keys, live) = self.run("erasing a user", move |it| erase_keys(it, &user)).await?;
        erased.idempotency_keys = keys;
        erased.live_calls = live;
        Ok(erased)
    }

    /// Runs `step` until it does less than `full`, or for this time long enough.
    async fn repeat(
        &self,
        full: i64,
        step: impl Fn(&Connection) -> rusqlite::Result<usize> + Clone + Send + 'static,
    ) -> Result<u64, StoreError> {
        let full = usize::try_from(full).unwrap_or(usize::MAX);
        let mut total = 0;
        for _ in 0..SWEEP_CHUNKS_MAX {
            let done = self.run("removing old rows", step.clone()).await?;
            total += count(done);
            if done < full {
                break;
            }
        }
        Ok(total)
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

fn old_samples(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    const SQL: &str = "DELETE FROM call_quality_metrics
        WHERE (call_id, participant_id, timestamp, id) IN (
            SELECT call_id, participant_id, timestamp, id FROM call_quality_metrics
            WHERE timestamp < ?1 ORDER BY timestamp LIMIT ?2)";
    connection.prepare_cached(SQL)?.execute([before, ROWS])
}

fn old_keys(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    const SQL: &str = "DELETE FROM idempotency_keys WHERE (user_id, key) IN (
        SELECT user_id, key FROM idempotency_keys
        WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";
    connection.prepare_cached(SQL)?.execute([before, ROWS])
}

fn old_calls(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    const OLD: &str = "SELECT id FROM calls WHERE ended_at < ?1 ORDER BY ended_at, id LIMIT ?2";
    for table in ["call_events", "call_quality_metrics", "call_recordings", "call_participants"] {
        let sql = format!("DELETE FROM {table} WHERE call_id IN ({OLD})");
        connection.prepare_cached(&sql)?.execute([before, CALLS])?;
    }
    let sql = format!("DELETE FROM calls WHERE id IN ({OLD})");
    connection.prepare_cached(&sql)?.execute([before, CALLS])
}

/// The user's next calls that are over, as (call, participant).
const THEIRS: &str = "SELECT p.call_id, p.id FROM call_participants p
    CROSS JOIN calls c ON c.id = p.call_id
    WHERE p.user_id = ?1 AND c.ended_at IS NOT NULL
    ORDER BY p.call_created_at, p.call_id LIMIT ?2";

fn erase_calls(connection: &Connection, user: &UserId) -> rusqlite::Result<Erased> {
    let quoted = format!("\"{user}\"");
    let events = format!(
        "DELETE FROM call_events WHERE call_id IN (SELECT call_id FROM ({THEIRS}))
            AND (instr(recipients, ?3) > 0 OR instr(data, ?3) > 0)"
    );
    let samples =
        format!("DELETE FROM call_quality_metrics WHERE (call_id, participant_id) IN ({THEIRS})");
    let started = format!(
        "UPDATE calls SET initiator_id = 'erased:' || t.id
            FROM ({THEIRS}) t WHERE calls.id = t.call_id AND calls.initiator_id = ?1"
    );
    let took_part = format!(
        "UPDATE call_participants SET user_id = 'erased:' || id
            WHERE (call_id, id) IN ({THEIRS})"
    );
    let who = user.as_str();
    // The participants last: by their user the others are found.
    Ok(Erased {
        events: count(connection.prepare_cached(&events)?.execute(params![who, CALLS, quoted])?),
        samples: count(connection.prepare_cached(&samples)?.execute(params![who, CALLS])?),
        calls: {
            connection.prepare_cached(&started)?.execute(params![who, CALLS])?;
            count(connection.prepare_cached(&took_part)?.execute(params![who, CALLS])?)
        },
        ..Erased::default()
    })
}

/// Keys removed, and calls left because they are not over.
fn erase_keys(connection: &Connection, user: &UserId) -> rusqlite::Result<(u64, u64)> {
    let keys = connection
        .prepare_cached("DELETE FROM idempotency_keys WHERE user_id = ?1")?
        .execute([user.as_str()])?;
    let live = connection
        .prepare_cached("SELECT count(*) FROM call_participants WHERE user_id = ?1")?
        .query_row([user.as_str()], |row| crate::store::rows::natural(row, 0))?;
    Ok((count(keys), live))
}
