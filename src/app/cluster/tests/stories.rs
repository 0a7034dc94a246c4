//! Single promises of nodes to each other, one at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::town::Town;
use crate::app::App;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::cluster::news::Told;
use crate::app::error::{AppError, Code};
use crate::app::fixture::{Device, call_of, identity, request, user};
use crate::app::starting::Origin;
use crate::bus::directory::Claim;
use crate::bus::letter::{Kind, Letter};
use crate::call::id::CallId;
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::call::state::ConnectionState;

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

pub(super) async fn town() -> Town {
    Town::open(1, &["a", "b"]).await
}

pub(super) async fn start(
    app: Arc<App>,
    caller: &str,
    others: &[&str],
) -> Result<CallId, AppError> {
    let started = app.start(&identity(caller), request(others), Origin::default()).await?;
    Ok(call_of(started.data.get()))
}

pub(super) async fn join(app: Arc<App>, call: CallId, name: &str) -> Result<(), AppError> {
    app.join(call, &user(name), Settings::default(), None).await.map(drop)
}

/// A call of anna with bob and carl, all three in it, that node a has.
pub(super) async fn call_of_three(town: &Town) -> CallId {
    let app = Arc::clone(town.at(A));
    town.work(async move {
        let call = start(Arc::clone(&app), "anna", &["bob", "carl"]).await.unwrap();
        for name in ["bob", "carl"] {
            join(Arc::clone(&app), call, name).await.unwrap();
        }
        call
    })
    .await
}

pub(super) fn read<T>(town: &Town, node: usize, call: CallId, read: impl FnOnce(&Call) -> T) -> T {
    town.at(node).calls.read(call, read).unwrap()
}

pub(super) fn stands(call: &Call, name: &str) -> ConnectionState {
    call.participant(&user(name)).unwrap().connection
}

#[tokio::test(start_paused = true)]
async fn a_command_that_comes_twice_is_carried_out_once_and_answered_the_same() {
    let town = town().await;
    let call = call_of_three(&town).await;
    let command = Command::about(call);
    let ask = || {
        let (app, a) = (Arc::clone(town.at(B)), town.nodes[A].id.clone());
        town.work(async move {
            let errand = Errand::Invite { users: vec![user("dora")] };
            let cluster = app.cluster().unwrap();
            let answer =
                Box::pin(app.ask_node(cluster, &a, command, (&user("anna"), &errand))).await;
            answer.unwrap().unwrap().get().to_owned()
        })
    };
    let first = ask().await;
    assert_eq!(read(&town, A, call, |it| stands(it, "dora")), ConnectionState::Invited);
    let app = Arc::clone(town.at(A));
    town.work(async move { app.decline(call, &user("dora")).await.unwrap() }).await;
    let seq = read(&town, A, call, |it| it.seq);
    assert_eq!(ask().await, first);
    let after = read(&town, A, call, |it| (it.seq, stands(it, "dora")));
    assert_eq!(after, (seq, ConnectionState::Declined));
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_call_of_another_node_is_busy_there_too() {
    let town = town().await;
    call_of_three(&town).await;
    let app = Arc::clone(town.at(B));
    let busy = town.work(start(Arc::clone(&app), "dora", &["bob"])).await;
    assert_eq!(busy.unwrap_err().code(), Code::Busy);
    let own = town.work(start(app, "bob", &["dora"])).await;
    assert_eq!(own.unwrap_err().code(), Code::AlreadyInCall);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_being_made_by_a_dead_node_holds_nobody() {
    let town = town().await;
    let (dead, _mailbox) = town.net.node("dead");
    let call = CallId(Uuid::now_v7());
    dead.beat().await.unwrap();
    dead.begin(call).await.unwrap();
    assert!(dead.join(&user("anna"), call, None).await.unwrap().0);
    let try_it = || town.work(start(Arc::clone(town.at(A)), "anna", &["bob"]));
    // As long as nobody knows, nobody is told for good.
    assert_eq!(try_it().await.unwrap_err().code(), Code::ClusterUnavailable);
    town.net.kill(dead.me());
    town.pass(Duration::from_secs(7)).await;
    try_it().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_redis_takes_for_being_made_holds_nobody_where_its_owner_knows_better() {
    let town = town().await;
    let bus = town.at(A).cluster().unwrap().bus.clone();
    for (at, name) in [(A, "anna"), (B, "dora")] {
        // As after a start that came to nothing, and a Redis that went back to when it was under way.
        let call = CallId(Uuid::now_v7());
        bus.begin(call).await.unwrap();
        assert!(bus.join(&user(name), call, None).await.unwrap().0);
        town.work(start(Arc::clone(town.at(at)), name, &["bob"])).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_came_back_before_it_was_told_that_they_had_gone_misses_nothing() {
    let town = town().await;
    let phone = Device::connect(town.at(B), "bob");
    let call = town.work(start(Arc::clone(town.at(A)), "anna", &["bob"])).await.unwrap();
    town.pass(Duration::from_millis(50)).await;
    assert!(phone.heard().iter().any(|(name, _)| name == "call:incoming"));
    let (a, b) = (town.nodes[A].cluster(), town.nodes[B].id.clone());
    // The word of it comes late.
    assert!(a.place(&user("bob"), &b, false));
    let app = Arc::clone(town.at(A));
    town.work(async move { app.decline(call, &user("bob")).await.unwrap() }).await;
    town.pass(Duration::from_millis(50)).await;
    assert_eq!(phone.heard(), [], "nobody knows that it is there");
    let app = Arc::clone(town.at(B));
    town.work(async move { drop(app.gather(&user("bob"), false, Some(false)).await) }).await;
    town.pass(Duration::from_millis(50)).await;
    let sync = phone.heard().into_iter().find(|(name, _)| name == "call:sync").expect("a sync");
    assert_eq!(sync.1["calls"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn who_is_called_while_their_last_call_ends_is_still_known_to_be_where_they_are() {
    let town = town().await;
    let _phone = Device::connect(town.at(B), "bob");
    let (app, bob, b) = (Arc::clone(town.at(A)), user("bob"), town.nodes[B].id.clone());
    let call = town.work(start(Arc::clone(&app), "anna", &["bob"])).await.unwrap();
    let last = read(&town, A, call, Told::of);
    let cluster = town.nodes[A].cluster();
    let known = || cluster.nodes_of(&bob).contains(&b);
    assert!(known());
    let (end, anna) = (Arc::clone(&app), user("anna"));
    town.work(async move { end.end(call, &anna).await.unwrap() }).await;
    town.pass(Duration::from_millis(50)).await;
    assert!(!known(), "nobody calls");
    // As a start does, while the end is on its way to those whom it concerns.
    let expecting = app.expect(cluster, [&bob]);
    cluster.place(&bob, &b, true);
    app.forget_whereabouts(Some(&last));
    assert!(known());
    drop(expecting);
    assert!(!known(), "it came to nothing");
}

#[tokio::test(start_paused = true)]
async fn a_ring_comes_also_where_the_call_was_heard_of_before_it() {
    let town = town().await;
    let phone = Device::connect(town.at(B), "bob");
    let (app, b) = (Arc::clone(town.at(A)), town.nodes[B].id.clone());
    // As it is made, before its first change is durable, somebody asks for bob's calls.
    let asked = Arc::clone(&app);
    let ask = async move {
        while asked.calls.of(&user("bob")).is_empty() {
            tokio::task::yield_now().await;
        }
        let cluster = asked.cluster().unwrap();
        asked.answer_mine(cluster, &b, &user("bob"), (true, Some(true))).map(drop).unwrap();
    };
    let both = async { tokio::join!(start(app, "anna", &["bob"]), ask).0.unwrap() };
    town.work(both).await;
    town.pass(Duration::from_millis(50)).await;
    assert!(phone.heard().iter().any(|(name, _)| name == "call:incoming"));
}

#[tokio::test(start_paused = true)]
async fn who_was_told_to_hear_no_more_before_it_was_told_why_is_told_all() {
    let town = town().await;
    let phone = Device::connect(town.at(B), "bob");
    let call = town.work(start(Arc::clone(town.at(A)), "anna", &["bob", "carl"])).await.unwrap();
    town.pass(Duration::from_millis(50)).await;
    phone.heard();
    let (a, b) = (town.nodes[A].id.clone(), town.nodes[B].id.clone());
    let seq = read(&town, A, call, |it| it.seq);
    // Where people are, told again while bob's word that he declines is not durable yet; what told of it is lost.
    let tell = |seq, places| {
        let member = json!({"user": "bob", "standing": "Other", "nodes": [b], "listens": false});
        let news = json!({"over": false, "sync": false, "members": [member], "places": places, "events": []});
        let (from, to, body) = (a.clone(), Vec::new(), Bytes::from(news.to_string()));
        let letter =
            Letter { kind: Kind::News, id: 0, from, call, epoch: 1, seq, prev: seq, to, body };
        town.at(B).hear_news(town.nodes[B].cluster(), &letter);
    };
    tell(seq, 8);
    town.pass(Duration::from_millis(50)).await;
    assert_eq!(phone.heard(), [], "nothing has happened yet");
    tell(seq + 1, 9);
    town.pass(Duration::from_millis(50)).await;
    assert!(phone.heard().iter().any(|(name, _)| name == "call:sync"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_claimed_without_an_answer_goes_on() {
    let mut town = town().await;
    let call = call_of_three(&town).await;
    let (dead, bus) = (town.nodes[A].id.clone(), town.nodes[B].cluster().bus.clone());
    drop(town.kill(A));
    let claimed = town.work(async move {
        let found = bus.call(call).await.unwrap().unwrap();
        bus.claim(call, &dead, Some(found.epoch)).await.unwrap()
    });
    assert!(matches!(claimed.await, Claim::Ours { .. }));
    // The answer never came.
    town.nodes[0].cluster().adoptions.doubt(call);
    town.pass(Duration::from_secs(2)).await;
    assert_eq!(read(&town, 0, call, Call::joined), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_deposed_owner_has_acknowledged_is_asked_of_the_new_one() {
    let town = town().await;
    let devices = [("anna", B), ("bob", A), ("carl", B)];
    let devices = devices.map(|(name, node)| Device::connect(town.at(node), name));
    let call = call_of_three(&town).await;
    town.net.cut(&town.nodes[A].id);
    town.pass(Duration::from_millis(6500)).await;
    assert_eq!(read(&town, B, call, Call::joined), 3, "taken over");
    let app = Arc::clone(town.at(A));
    town.work(async move { app.end(call, &user("bob")).await.unwrap() }).await;
    assert_eq!(read(&town, B, call, Call::joined), 3, "nothing is known of it");
    town.net.mend_all();
    town.pass(Duration::from_secs(2)).await;
    assert!(town.at(A).calls.read(call, |_| ()).is_none(), "deposed");
    assert_eq!(read(&town, B, call, |it| stands(it, "bob")), ConnectionState::Left);
    let names = devices[0].names();
    // And perhaps the whole state after it.
    assert!(names.iter().any(|it| it == "call:participant_left"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_node_dies_goes_on_at_another_with_higher_numbers() {
    let mut town = town().await;
    let bob = Device::connect(town.at(B), "bob");
    let call = call_of_three(&town).await;
    town.pass(Duration::from_secs(1)).await;
    drop(bob.heard());
    let seq = read(&town, A, call, |it| it.seq);
    drop(town.kill(A));
    town.pass(Duration::from_secs(7)).await;
    let taken = town.nodes[0].app.calls.read(call, |it| (it.epoch, it.seq, it.joined()));
    let (epoch, new, joined) = taken.expect("taken over");
    assert!(epoch > 1 && new >= seq + 1_000_000 && joined == 3, "{epoch} {new} {joined}");
    let heard = bob.heard();
    let sync = heard.iter().find(|(name, _)| name == "call:sync").expect("a sync");
    assert_eq!(sync.1["calls"][0]["call"]["epoch"], epoch);
}

#[tokio::test(start_paused = true)]
async fn one_whose_beat_fails_for_four_seconds_decides_nothing_but_lets_go() {
    let town = town().await;
    let call = call_of_three(&town).await;
    town.net.cut(&town.nodes[A].id);
    let fenced = || town.nodes[A].cluster().fence().is_err();
    town.pass(Duration::from_millis(2900)).await;
    assert!(!fenced());
    town.pass(Duration::from_millis(1200)).await;
    assert!(fenced());
    let token = |name: &'static str| {
        let app = Arc::clone(town.at(A));
        async move { app.token(call, &user(name)).await.map(drop) }
    };
    let refused = town.work(token("anna")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ClusterUnavailable);
    let app = Arc::clone(town.at(A));
    town.work(async move { app.end(call, &user("bob")).await.unwrap() }).await;
    town.net.mend_all();
    town.pass(Duration::from_secs(8)).await;
    assert!(!fenced());
    let left = |node: usize| town.at(node).calls.read(call, |it| stands(it, "bob"));
    assert_eq!(left(A).or(left(B)), Some(ConnectionState::Left));
}
