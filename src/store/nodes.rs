//! Several nodes before one Postgres, each with a local file of its own: a call that goes from one to
//! another is the same, whoever is asked.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::call::record::CallFacts;
use crate::call::state::{RecordingStatus, Role, State};
use crate::call::time::Timestamp;
use crate::store::error::Kind;
use crate::store::history::HistoryQuery;
use crate::store::journal::Journal;
use crate::store::postgres::PostgresOptions;
use crate::store::postgres::behind::WriteBehind;
use crate::store::postgres::connect::{Address, Postgres};
use crate::store::whole::Store;
use crate::store::{Change, Record, fixture};

/// The address of an empty database.
const DATABASE: &str = "STORE_POSTGRES";
/// By how much a takeover moves a call's numbers on.
const LEAP: u64 = 1_000_000;
const NOW: Timestamp = Timestamp(100_000);

fn postgres(url: &str) -> Postgres {
    let options =
        PostgresOptions { read_timeout: Duration::from_secs(1), ..PostgresOptions::default() };
    Postgres::new(&Address::parse(url).unwrap(), None, options, true).unwrap()
}

/// One of several nodes.
struct Node {
    store: Store,
    journal: Journal<()>,
    _folder: TempDir,
}

impl Node {
    async fn new(url: &str, changes: Vec<Change>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (local, journal) = fixture::stored(folder.path(), changes).await;
        local.open_outbox().unwrap();
        Self { store: Store::new(local, Some(postgres(url))), journal, _folder: folder }
    }

    async fn write(&self, change: Change) {
        fixture::send(&self.journal, change).await.unwrap();
    }

    async fn record(&self, record: Record) {
        self.journal.reserve().unwrap().send(record, ()).await.unwrap();
    }

    async fn release(&self, number: u64) {
        fixture::release(&self.journal, number).await.unwrap();
    }

    /// Puts all that waits into Postgres.
    async fn flush(&self) {
        let postgres = self.store.postgres().unwrap().clone();
        let mut behind =
            WriteBehind::new(self.journal.clone(), self.store.local().clone(), postgres);
        assert!(behind.drain(Duration::from_secs(20)).await.unwrap());
    }

    /// The calls of a user by number and epoch, and how many there are in all.
    async fn history(&self, name: &str) -> (Vec<(u64, u64)>, u64) {
        let query = HistoryQuery { limit: 50, ..HistoryQuery::default() };
        let page = self.store.history(&fixture::user(name), query).await.unwrap();
        let seen = |it: &CallFacts| (it.call.id.0.as_u64_pair().0, it.call.epoch);
        (page.calls.iter().map(seen).collect(), page.total)
    }

    /// Numbers of the events of call 1 after `after`, and whether there are more.
    async fn story(&self, after: u64, limit: u16) -> (Vec<u64>, bool) {
        let (call, bob) = (fixture::call(1), fixture::user("bob"));
        let story = self.store.story(call, &bob, after, limit).await.unwrap();
        (story.events.iter().map(|it| it.seq).collect(), story.more)
    }

    async fn samples(&self) -> u64 {
        let found = self.store.quality(fixture::call(1)).await.unwrap();
        found.iter().map(|it| it.samples).sum()
    }

    /// Calls of the figures: active, completed.
    async fn figures(&self) -> (u64, u64) {
        let stats = self.store.stats(Timestamp(0), NOW).await.unwrap();
        (stats.active_calls, stats.completed_calls)
    }
}

/// Call 1 as the node has it that took it in `epoch`.
fn taken(epoch: u64) -> Change {
    let mut change = fixture::change(1, (epoch - 1) * LEAP + 1);
    change.call.epoch = epoch;
    change.call.state = State::Connected;
    change
}

#[tokio::test]
async fn what_has_gone_is_not_read_here_while_postgres_is_away() {
    let mut keyed = fixture::ended(3, 2, 60_000, 5);
    keyed.idempotency_key = Some((fixture::user("alice"), "key".into()));
    let changes = vec![fixture::change(1, 1), fixture::change(2, 1), keyed];
    let node = Node::new("postgresql://nobody@127.0.0.1:1/nothing", changes).await;
    node.release(1).await;
    let call = |number| node.store.call(fixture::call(number));
    assert_eq!(call(1).await.unwrap_err().kind, Kind::Away);
    assert_eq!(call(2).await.unwrap().unwrap().call.seq, 1);
    assert_eq!(node.history("bob").await, (vec![(3, 1), (2, 1)], 2));
    let (stats, stale) = node.store.stats_at_hand(Timestamp(0), NOW).await.unwrap();
    assert_eq!((stats.active_calls, stats.completed_calls, stale), (1, 1, true));
    let bob = fixture::user("bob");
    let call = fixture::call(1);
    assert_eq!(node.store.story(call, &bob, 0, 9).await.unwrap_err().kind, Kind::Away);
    assert_eq!(node.store.quality(call).await.unwrap_err().kind, Kind::Away);
    assert_eq!(node.store.recordings(call).await.unwrap_err().kind, Kind::Away);

    // Back again, it is told of as far as it is known here.
    node.write(taken(3)).await;
    node.record(Record::Sample(Box::new(fixture::sample(1, "bob", 5, 1.0)))).await;
    assert_eq!(node.store.call(call).await.unwrap().unwrap().call.epoch, 3);
    assert_eq!(node.history("bob").await, (vec![(3, 1), (2, 1), (1, 3)], 3));
    assert_eq!(node.story(0, 9).await, (vec![1, 2 * LEAP + 1], true));
    assert_eq!(node.samples().await, 1);
    assert_eq!(node.store.recordings(call).await.unwrap(), []);

    let alice = fixture::user("alice");
    for (key, found) in [("key", Some(fixture::call(3))), ("other", None)] {
        let start = node.store.idempotent_start_anywhere(&alice, key, Timestamp(0));
        assert_eq!(start.await.unwrap(), found, "{key}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_a_start_for_the_time_of_a_read() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hanging.local_addr().unwrap().port();
    let url = format!("postgresql://nobody@127.0.0.1:{port}/nothing?sslmode=disable");
    let node = Node::new(&url, Vec::new()).await;
    let alice = fixture::user("alice");
    let ask = || async {
        let begun = Instant::now();
        let found = node.store.idempotent_start_anywhere(&alice, "key", Timestamp(0)).await;
        assert_eq!(found.unwrap(), None);
        begun.elapsed()
    };
    let took = ask().await;
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&took), "{took:?}");
    let known = async {
        while node.store.postgres().unwrap().is_well() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), known).await.unwrap();
    assert!(ask().await < Duration::from_millis(500), "known to be away");
}

#[tokio::test]
#[ignore = "needs an empty database: set STORE_POSTGRES to its address"]
async fn a_call_on_its_way_between_nodes_is_the_same_seen_from_each() {
    let url = std::env::var_os(DATABASE).unwrap().into_string().unwrap();
    let call = fixture::call(1);
    let mut first = fixture::change(1, 1);
    first.idempotency_key = Some((fixture::user("alice"), "key".into()));
    let a = Node::new(&url, vec![first, fixture::ended(2, 2, 60_000, 5)]).await;
    a.record(Record::Sample(Box::new(fixture::sample(1, "bob", 5, 1.0)))).await;
    let done = fixture::recording(1, RecordingStatus::Completed);
    a.record(Record::Recording(Box::new(done.clone()))).await;
    a.flush().await;

    // Another node takes the call, and Postgres has not heard of it yet.
    let b = Node::new(&url, Vec::new()).await;
    a.release(1).await;
    assert_eq!(a.store.call(call).await.unwrap().unwrap().call.epoch, 1);
    let mut second = taken(2);
    second.participants.push(fixture::participant(1, "carol", Role::Participant));
    b.write(second).await;
    b.record(Record::Sample(Box::new(fixture::sample(1, "bob", 6, 1.0)))).await;
    let going = fixture::recording(2, RecordingStatus::Processing);
    b.record(Record::Recording(Box::new(going.clone()))).await;
    assert_eq!(b.history("bob").await, (vec![(2, 1), (1, 2)], 2));
    assert_eq!(b.story(0, 9).await, (vec![1, LEAP + 1], false));
    b.flush().await;
    for node in [&a, &b] {
        let facts = node.store.call(call).await.unwrap().unwrap();
        assert_eq!((facts.call.epoch, facts.participants.len()), (2, 3));
        assert_eq!(node.history("bob").await, (vec![(2, 1), (1, 2)], 2));
        assert_eq!(node.history("carol").await, (vec![(1, 2)], 1));
        assert_eq!(node.figures().await, (1, 1));
        assert_eq!(node.story(0, 9).await, (vec![1, LEAP + 1], false));
        assert_eq!(node.story(0, 1).await, (vec![1], true));
        assert_eq!(node.story(1, 9).await, (vec![LEAP + 1], false));
        assert_eq!(node.samples().await, 2);
        let recordings = [done.clone(), going.clone()];
        assert_eq!(node.store.recordings(call).await.unwrap(), recordings);
    }
    let query = HistoryQuery { limit: 1, state: Some(State::Connected), ..Default::default() };
    let page = a.store.history(&fixture::user("bob"), query).await.unwrap();
    assert_eq!((page.calls.len(), page.total, page.next), (1, 1, None));

    // A key serves at each, as long as it does.
    for (node, name, key, since, found) in [
        (&a, "alice", "key", 1_000, Some(call)),
        (&b, "alice", "key", 1_000, Some(call)),
        (&b, "alice", "key", 1_001, None),
        (&b, "alice", "other", 0, None),
        (&b, "bob", "key", 0, None),
    ] {
        let (user, since) = (fixture::user(name), Timestamp(since));
        let start = node.store.idempotent_start_anywhere(&user, key, since).await;
        assert_eq!(start.unwrap(), found, "{name} {key}");
    }

    // The first has nothing left of it, and sees it all the same; then it gets it back.
    assert_eq!(a.journal.trim(Timestamp(0)).await.unwrap(), 1);
    assert_eq!(a.store.local().call(call).await.unwrap(), None);
    assert_eq!(a.history("bob").await, (vec![(2, 1), (1, 2)], 2));
    b.release(1).await;
    a.write(taken(3)).await;
    assert_eq!(a.store.call(call).await.unwrap().unwrap().call.epoch, 3);
    assert_eq!(a.story(0, 9).await, (vec![1, LEAP + 1, 2 * LEAP + 1], false));
    assert_eq!(a.story(1, 1).await, (vec![LEAP + 1], true));
    assert_eq!((a.samples().await, a.figures().await), (2, (1, 1)));
    let mut over = fixture::ended(1, 2 * LEAP + 2, 90_000, 30);
    over.call.epoch = 3;
    a.write(over).await;
    assert_eq!((a.figures().await, a.history("bob").await.1), ((0, 2), 2));
    a.flush().await;
    for node in [&a, &b] {
        assert_eq!(node.store.call(call).await.unwrap().unwrap().call.state, State::Ended);
        assert_eq!((node.figures().await, node.history("bob").await.1), ((0, 2), 2));
        assert_eq!(node.story(LEAP, 9).await.0.len(), 3);
    }
}
