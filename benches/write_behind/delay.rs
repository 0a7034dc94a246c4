//! How long after it is durable in the local file a change is committed in Postgres, under a load that
//! does not wait for anybody.
//!
//! Postgres itself says when it committed each row (`track_commit_timestamp`): a moment before that
//! commit is on its disk, which takes about as long as an INSERT of one row does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use call_service::store::journal::Journal;
use call_service::store::options::JournalOptions;
use call_service::store::postgres::behind::WriteBehind;
use call_service::store::sqlite::Sqlite;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::Scale;
use crate::calls::{Stage, change};
use crate::server::{Server, own_processor_micros};
use crate::ways::connect;

/// How often changes that are due are sent.
const TICK: Duration = Duration::from_millis(2);
/// How long the rest may take, once the load has ended.
const DRAIN_MAX: Duration = Duration::from_mins(2);
/// How often Postgres is asked for its time: the quickest answer is the best.
const CLOCK_LOOKS: usize = 20;

/// A call's number and which of its changes.
type Told = (u64, Stage);
/// What has become durable, and when.
type Durable = Arc<Mutex<Vec<(Told, Instant)>>>;

/// Lines of a table.
pub(crate) async fn measure(server: &Server, scale: &Scale) -> String {
    let client = server.connect().await.expect("a connection");
    let postgres = connect(server);
    postgres.migrate().await.expect("tables");
    let empty = "TRUNCATE calls, call_participants, call_events; CHECKPOINT";
    client.batch_execute(empty).await.expect("empty tables");
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path()).expect("a store");
    store.open_outbox().expect("an outbox");
    let durable = Durable::default();
    let noted = Arc::clone(&durable);
    let journal = Journal::open(&store, JournalOptions::default(), move |batch: Vec<Told>| {
        let now = Instant::now();
        noted.lock().extend(batch.into_iter().map(|it| (it, now)));
    })
    .expect("a journal");
    let make = || WriteBehind::new(journal.clone(), store.clone(), postgres.clone());

    let (ours, theirs) = (own_processor_micros(), server.processor_micros());
    let behind = tokio::spawn(make().run());
    let began = Instant::now();
    let refused = load(&journal, scale).await;
    let took = began.elapsed().as_secs_f64() * 1e6;
    let (ours, theirs) = (own_processor_micros() - ours, server.processor_micros() - theirs);
    let left = postgres.unwritten();
    behind.abort();
    drop(behind.await);
    assert!(make().drain(DRAIN_MAX).await.expect("no failure"), "all gets there in time");
    journal.close();

    let delays = delays(&client, &durable).await;
    let ms = |per_mille: usize| {
        let place = delays.len().saturating_sub(1) * per_mille / 1_000;
        delays.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "\ndurable here until committed there, {} calls a second for {} s ({} events):\n\
         p50 {:.1} ms, p99 {:.1} ms, all {:.1} ms; {refused} refused, {left} rows left at the end;\n\
         processors: {:.2} ours (the load included), {:.2} Postgres'\n",
        scale.load.0,
        scale.load.1.as_secs_f64(),
        delays.len(),
        ms(500),
        ms(990),
        ms(1_000),
        ours / took,
        theirs / took,
    )
}

/// Starts, joins and ends calls when they are due, whatever has become of the others: how many
/// changes found no room.
async fn load(journal: &Journal<Told>, scale: &Scale) -> u64 {
    let (rate, time) = scale.load;
    let (rings, lasts) = scale.alive;
    let all = u64::from(rate) * u64::try_from(time.as_millis()).unwrap_or(0) / 1_000;
    let due = |at: Duration| {
        let count = at.as_micros() * u128::from(rate) / 1_000_000;
        u64::try_from(count).unwrap_or(u64::MAX).min(all)
    };
    let mut stages = [
        (Stage::Start, Duration::ZERO, 0),
        (Stage::Join, rings, 0),
        (Stage::End, rings + lasts, 0),
    ];
    let mut refused = 0;
    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while stages.iter().any(|(_, _, done)| *done < all) {
        ticks.tick().await;
        for (stage, later, done) in &mut stages {
            let until = due(began.elapsed().saturating_sub(*later));
            for number in *done..until {
                match journal.reserve() {
                    Ok(permit) => drop(permit.send(change(number, *stage), (number, *stage))),
                    Err(_) => refused += 1,
                }
            }
            *done = until.max(*done);
        }
    }
    refused
}

/// Of each event, sorted.
async fn delays(client: &Client, durable: &Durable) -> Vec<Duration> {
    const SQL: &str = "SELECT call_id, seq,
        (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM call_events";
    let clock = ServerClock::read(client).await;
    let mut moments = HashMap::new();
    for ((number, stage), at) in durable.lock().iter() {
        let (first, last) = stage.events();
        moments.extend((first..=last).map(|seq| ((*number, seq), *at)));
    }
    let rows = client.query(SQL, &[]).await.expect("events");
    assert_eq!(rows.len(), moments.len(), "each event is there once");
    let delay = |row: &tokio_postgres::Row| {
        let (number, _) = row.get::<_, Uuid>(0).as_u64_pair();
        let event = (number, row.get::<_, i64>(1).unsigned_abs());
        let here = moments.get(&event).expect("an event that was sent");
        clock.at(*here, row.get(2))
    };
    let mut delays: Vec<Duration> = rows.iter().map(delay).collect();
    delays.sort_unstable();
    delays
}

/// A moment here, and the same there in microseconds.
struct ServerClock {
    here: Instant,
    there: i64,
}

impl ServerClock {
    async fn read(client: &Client) -> Self {
        const SQL: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let statement = client.prepare(SQL).await.expect("a statement");
        let mut best: Option<(Duration, Self)> = None;
        for _ in 0..CLOCK_LOOKS {
            let here = Instant::now();
            let row = client.query_one(&statement, &[]).await.expect("the time");
            let took = here.elapsed();
            if best.as_ref().is_none_or(|(least, _)| took < *least) {
                best = Some((took, Self { here: here + took / 2, there: row.get(0) }));
            }
        }
        best.expect("a look").1
    }

    /// From a moment here to one there.
    fn at(&self, from: Instant, to: i64) -> Duration {
        let ago = Duration::from_micros((self.there - to).max(0).unsigned_abs());
        self.here.saturating_duration_since(from).saturating_sub(ago)
    }
}
