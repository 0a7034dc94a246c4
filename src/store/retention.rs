//! What is forgotten: old samples, keys and calls by time, one user by request.
//!
//! All of it goes through the writer in small transactions, so that calls never wait for long.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::call::id::UserId;
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::journal::Journal;
use crate::store::rows;

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
        .query_row([user.as_str()], |row| rows::natural(row, 0))?;
    Ok((count(keys), live))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::id::CallId;
    use crate::store::history::HistoryQuery;
    use crate::store::sqlite::Sqlite;
    use crate::store::{Change, Record, fixture};

    async fn rows(store: &Sqlite, table: &'static str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        store.read("counting", move |it| it.query_row(&sql, [], |it| it.get(0))).await.unwrap()
    }

    fn keyed(mut change: Change, key: &str) -> Change {
        change.idempotency_key = Some((fixture::user("alice"), key.into()));
        change
    }

    async fn sample(journal: &Journal<()>, number: u64, name: &str, at: i64) {
        let record = Record::Sample(Box::new(fixture::sample(number, name, at, 1.0)));
        journal.reserve().unwrap().send(record, ()).await.unwrap();
    }

    #[tokio::test]
    async fn old_things_go_and_young_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut young = keyed(fixture::ended(2, 1, 900_000, 1), "young");
        young.call.created_at = Timestamp(800_000);
        let changes =
            vec![keyed(fixture::ended(1, 1, 50_000, 1), "old"), young, fixture::change(3, 1)];
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        for at in 0..1_300 {
            sample(&journal, 1, "alice", at * 100).await;
        }
        let now = Timestamp(1_000_000);
        let mut options = RetentionOptions {
            samples: Duration::from_mins(15),
            idempotency_keys: Duration::from_mins(15),
            calls: None,
        };
        let swept = journal.sweep(now, options).await.unwrap();
        assert_eq!(swept, Swept { samples: 1_000, idempotency_keys: 1, calls: 0 });
        assert_eq!(rows(&store, "call_quality_metrics").await, 300);
        assert_eq!(journal.sweep(now, options).await.unwrap(), Swept::default());
        options.calls = Some(Duration::from_mins(15));
        assert_eq!(journal.sweep(now, options).await.unwrap().calls, 1);
        for (table, left) in [
            ("calls", 2),
            ("call_participants", 4),
            ("call_events", 2),
            ("call_quality_metrics", 0),
            ("live_calls", 1),
        ] {
            assert_eq!(rows(&store, table).await, left, "{table}");
        }
        let page = store.history(&fixture::user("bob"), HistoryQuery::default()).await.unwrap();
        assert_eq!(page.total, 2);
    }

    #[tokio::test]
    async fn one_user_is_erased_and_the_others_keep_their_calls() {
        let folder = tempfile::tempdir().unwrap();
        let mut theirs = fixture::ended(500, 1, 60_000, 1);
        theirs.participants.retain(|it| it.user.as_str() == "bob");
        theirs.call.initiator = fixture::user("bob");
        theirs.story = vec![fixture::event(500, 1, &["bob"])];
        let mut changes: Vec<_> = (0..120).map(|it| fixture::ended(it, 1, 60_000, 1)).collect();
        changes[7] = keyed(fixture::ended(7, 1, 60_000, 1), "key");
        changes.extend([theirs, fixture::change(600, 1)]);
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        sample(&journal, 7, "alice", 1).await;
        sample(&journal, 7, "bob", 2).await;
        let (alice, bob) = (fixture::user("alice"), fixture::user("bob"));
        let expected =
            Erased { calls: 120, events: 120, samples: 1, idempotency_keys: 1, live_calls: 1 };
        assert_eq!(journal.erase(&alice).await.unwrap(), expected);
        let page = store.history(&alice, HistoryQuery::default()).await.unwrap();
        assert_eq!(page.total, 1, "only the live call is left");
        let page = store.history(&bob, HistoryQuery::default()).await.unwrap();
        assert_eq!(page.total, 122);
        let call = store.call(fixture::call(7)).await.unwrap().unwrap();
        let tombstone = format!("erased:{}", fixture::participant_id(7, "alice"));
        assert_eq!(call.call.initiator.as_str(), tombstone);
        let names: Vec<_> = call.participants.iter().map(|it| it.user.as_str()).collect();
        assert_eq!(names, [tombstone.as_str(), "bob"]);
        let told = |it: CallId| store.story(it, &bob, 0, 10);
        assert_eq!(told(fixture::call(7)).await.unwrap().events.len(), 0);
        assert_eq!(told(fixture::call(500)).await.unwrap().events.len(), 1);
        let again = journal.erase(&alice).await.unwrap();
        assert_eq!(again, Erased { live_calls: 1, ..Erased::default() });
    }
}
