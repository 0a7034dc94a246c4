//! Figures of the whole service in a window of time.

use std::collections::HashSet;

use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use crate::call::state::State;
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::released::RELEASED;
use crate::store::rows;
use crate::store::sqlite::Sqlite;

/// Statistics of a window. A call belongs to it if it was alive at any moment of it, so that
/// `total_calls` is the sum of the next three.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// All calls of the window.
    pub total_calls: u64,
    /// Those that are not over.
    pub active_calls: u64,
    /// Those that ended after an answer (state `ended`).
    pub completed_calls: u64,
    /// Those that ended in any other way.
    pub failed_calls: u64,
    /// Mean time connected of the completed ones, in seconds; 0 where there are none.
    pub average_duration: f64,
    /// Mean time from the start of a call until it was connected, in seconds, of those that were; 0
    /// where there are none.
    pub average_connection_time: f64,
    /// Completed by completed and failed, 0 to 1; 0 where none is over.
    pub success_rate: f64,
    /// The most calls that were alive at one moment of the window.
    pub peak_concurrent_calls: u64,
}

impl Sqlite {
    /// The figures of the time from `since` to `now`.
    pub async fn stats(&self, since: Timestamp, now: Timestamp) -> Result<Stats, StoreError> {
        self.read("reading the statistics", move |connection| {
            let mut tally = Tally::default();
            each_call(connection, since, now, |_, life| tally.add(&life))?;
            Ok(tally.stats(since))
        })
        .await
    }

    /// The figures as far as this file has them, and which calls they are of.
    pub(super) async fn local_stats(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<(Tally, HashSet<Uuid>), StoreError> {
        self.read("reading the statistics", move |connection| {
            let (mut tally, mut calls) = (Tally::default(), HashSet::new());
            each_call(connection, since, now, |id, life| {
                tally.add(&life);
                calls.insert(id);
            })?;
            Ok((tally, calls))
        })
        .await
    }
}

/// What counts of one call. Times as the tables have them.
pub(super) struct Life {
    pub(super) state: State,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) ended_at: Option<i64>,
    pub(super) duration: Option<u64>,
}

fn each_call(
    connection: &Connection,
    since: Timestamp,
    now: Timestamp,
    mut found: impl FnMut(Uuid, Life),
) -> rusqlite::Result<()> {
    // What is over is found by its end; what is not, by its snapshot: both are short ways.
    // What is another node's now has no snapshot here, but may have ended before it was known to be.
    let sql = format!(
        "SELECT state, created_at, started_at, ended_at, duration, id FROM calls
            WHERE ended_at > ?1 AND created_at <= ?2 AND id NOT IN ({RELEASED})
        UNION ALL
        SELECT c.state, c.created_at, c.started_at, c.ended_at, c.duration, c.id
            FROM live_calls l CROSS JOIN calls c ON c.id = l.call_id
            WHERE c.ended_at IS NULL AND c.created_at <= ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut calls = statement.query(params![since.0, now.0])?;
    while let Some(row) = calls.next()? {
        found(rows::uuid(row, 5)?, life(row)?);
    }
    Ok(())
}

fn life(row: &Row<'_>) -> rusqlite::Result<Life> {
    let duration: Option<i64> = row.get(4)?;
    Ok(Life {
        state: rows::word(row, 0, State::parse)?,
        created_at: row.get(1)?,
        started_at: row.get(2)?,
        ended_at: row.get(3)?,
        duration: duration.map(|_| rows::natural(row, 4)).transpose()?,
    })
}

/// The sums that statistics are made of.
#[derive(Default)]
pub(super) struct Tally {
    active: u64,
    completed: u64,
    failed: u64,
    duration: Mean,
    connecting: Mean,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Tally {
    pub(super) fn add(&mut self, life: &Life) {
        if life.state == State::Ended {
            self.completed += 1;
        } else if life.state.is_terminal() {
            self.failed += 1;
        } else {
            self.active += 1;
        }
        if let (State::Ended, Some(seconds)) = (life.state, life.duration) {
            self.duration.add_seconds(seconds);
        }
        if let Some(started) = life.started_at {
            self.connecting.add(Timestamp(started).since(Timestamp(life.created_at)).as_secs_f64());
        }
        self.starts.push(life.created_at);
        // A call that is over at once was there all the same.
        self.ends.extend(life.ended_at.map(|it| it.max(life.created_at.saturating_add(1))));
    }

    /// Adds the sums over other calls.
    pub(super) fn join(&mut self, other: Self) {
        self.active += other.active;
        self.completed += other.completed;
        self.failed += other.failed;
        self.duration.join(&other.duration);
        self.connecting.join(&other.connecting);
        self.starts.extend(other.starts);
        self.ends.extend(other.ends);
    }

    pub(super) fn stats(mut self, since: Timestamp) -> Stats {
        let over = Mean { sum: real(self.completed), count: self.completed + self.failed };
        Stats {
            total_calls: self.active + self.completed + self.failed,
            active_calls: self.active,
            completed_calls: self.completed,
            failed_calls: self.failed,
            average_duration: self.duration.value(),
            average_connection_time: self.connecting.value(),
            success_rate: over.value(),
            peak_concurrent_calls: self.peak(since),
        }
    }

    /// The most calls alive at once. Every call was alive in the window, so the count at any start,
    /// moved into the window, is one of a moment in it. Every call ends after it starts: its end is
    /// never counted first.
    fn peak(&mut self, since: Timestamp) -> u64 {
        self.starts.sort_unstable();
        self.ends.sort_unstable();
        let (mut ended, mut alive, mut peak) = (0_usize, 0_u64, 0_u64);
        for start in self.starts.iter().map(|&it| it.max(since.0)) {
            // A call that ends as another starts makes room for it.
            while self.ends.get(ended).is_some_and(|&end| end <= start) {
                ended += 1;
                alive -= 1;
            }
            alive += 1;
            peak = peak.max(alive);
        }
        peak
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn join(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn add_seconds(&mut self, seconds: u64) {
        self.add(real(seconds));
    }

    fn value(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / real(self.count) }
    }
}

/// Counts and seconds of this service are far below 2^32; a greater one counts as that.
fn real(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;
    use crate::store::{Change, fixture};

    const NOW: Timestamp = Timestamp(100_000);
    const SINCE: Timestamp = Timestamp(40_000);

    /// A call alive from `from` to `to`, connected after a second if it `ended`.
    fn past(number: u64, from: i64, to: i64, state: State) -> Change {
        let seconds = u64::try_from((to - from - 1_000).max(0) / 1_000).unwrap();
        let mut change = fixture::ended(number, 2, to, seconds);
        change.call.created_at = Timestamp(from);
        change.call.state = state;
        if state != State::Ended {
            change.call.started_at = None;
            change.call.duration = None;
        }
        change
    }

    fn live(number: u64, from: i64) -> Change {
        let mut change = fixture::change(number, 1);
        change.call.created_at = Timestamp(from);
        change
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[tokio::test]
    async fn figures_of_a_window() {
        let folder = tempfile::tempdir().unwrap();
        let changes = vec![
            past(1, 10_000, 39_999, State::Ended),
            past(2, 30_000, 51_000, State::Ended),
            past(3, 50_000, 61_000, State::Ended),
            past(4, 60_000, 62_000, State::Missed),
            past(5, 70_000, 70_500, State::Declined),
            live(6, 20_000),
            live(7, 99_000),
        ];
        let (store, _journal) = fixture::stored(folder.path(), changes).await;
        let stats = store.stats(SINCE, NOW).await.unwrap();
        let counts =
            (stats.total_calls, stats.active_calls, stats.completed_calls, stats.failed_calls);
        assert_eq!(counts, (6, 2, 2, 2));
        assert!(close(stats.average_duration, 15.0), "{stats:?}");
        assert!(close(stats.average_connection_time, 1.0), "{stats:?}");
        assert!(close(stats.success_rate, 0.5), "{stats:?}");
        // Calls 2, 3 and 6 together; 3, 4 and 6 later.
        assert_eq!(stats.peak_concurrent_calls, 3);
    }

    #[tokio::test]
    async fn what_is_another_nodes_counts_there() {
        let folder = tempfile::tempdir().unwrap();
        let changes = vec![past(1, 50_000, 61_000, State::Ended), live(2, 20_000), live(3, 20_000)];
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        for number in 1..=2 {
            fixture::release(&journal, number).await.unwrap();
        }
        let (tally, but) = store.local_stats(SINCE, NOW).await.unwrap();
        let stats = tally.stats(SINCE);
        assert_eq!((stats.total_calls, stats.active_calls), (1, 1));
        assert_eq!(but, HashSet::from([fixture::call(3).0]));
    }

    #[tokio::test]
    async fn nothing_is_zero() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _journal) = fixture::stored(folder.path(), Vec::new()).await;
        assert_eq!(store.stats(SINCE, NOW).await.unwrap(), Stats::default());
        assert_eq!(store.stats(NOW, SINCE).await.unwrap(), Stats::default());
    }

    #[tokio::test]
    async fn peaks() {
        let ended = State::Ended;
        for (lives, peak) in [
            (vec![(50_000, 60_000), (60_000, 70_000)], 1),
            (vec![(50_000, 60_001), (60_000, 70_000)], 2),
            (vec![(10_000, 90_000), (20_000, 80_000), (30_000, 35_000)], 2),
            (vec![(10_000, 40_000), (10_000, 40_000)], 0),
            (vec![(10_000, 40_000), (50_000, 60_000), (60_000, 70_000)], 1),
            (vec![(50_000, 50_000), (50_000, 50_000), (50_001, 50_001)], 2),
            (vec![(50_000, 90_000), (51_000, 52_000), (53_000, 54_000), (55_000, 56_000)], 2),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let changes =
                (0..).zip(&lives).map(|(number, &(from, to))| past(number, from, to, ended));
            let (store, _journal) = fixture::stored(folder.path(), changes.collect()).await;
            let stats = store.stats(SINCE, NOW).await.unwrap();
            assert_eq!(stats.peak_concurrent_calls, peak, "{lives:?}");
        }
    }

    proptest! {
        #[test]
        fn the_peak_is_that_of_every_moment_looked_at(
            lives in vec((0..30_i64, option::of(0..10_i64)), 0..12),
            since in 0..30_i64,
        ) {
            let end = |&(from, length): &(i64, Option<i64>)| length.map(|it| from + it);
            let in_window: Vec<_> =
                lives.iter().filter(|it| end(it).is_none_or(|end| end > since)).collect();
            let mut tally = Tally::default();
            for it in &in_window {
                tally.add(&Life {
                    state: State::Missed,
                    created_at: it.0,
                    started_at: None,
                    ended_at: end(it),
                    duration: None,
                });
            }
            let alive = |moment: i64| {
                let is = |it: &&&(i64, Option<i64>)| {
                    it.0 <= moment && end(it).is_none_or(|end| moment < end.max(it.0 + 1))
                };
                in_window.iter().filter(is).count()
            };
            let expected = (since..60).map(alive).max().unwrap_or(0);
            prop_assert_eq!(tally.peak(Timestamp(since)), u64::try_from(expected).unwrap());
        }
    }

    #[tokio::test]
    async fn no_table_is_scanned() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _journal) = fixture::stored(folder.path(), Vec::new()).await;
        let plan = store.read("explaining", |connection| {
            let sql = "EXPLAIN QUERY PLAN SELECT state FROM calls WHERE ended_at >= 1 AND created_at <= 2";
            connection.query_row(sql, [], |row| row.get::<_, String>(3))
        });
        assert!(plan.await.unwrap().contains("calls_by_end"));
    }
}
