//! Many want something at once, at several nodes, and Redis takes its time: what was found of a call may be old by the
//! time it is heard.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::stories::{A, B, join, read, start};
use super::town::Town;
use crate::app::App;
use crate::app::error::{AppError, Code};
use crate::app::fixture::{call_of, identity, request, user};
use crate::app::starting::Origin;
use crate::bus::memory::Faults;
use crate::call::id::CallId;
use crate::call::model::Call;

/// Towns in which Redis takes up to 60 ms for each step, and another 60 for its answer.
const SLOW_TOWNS: RangeInclusive<u64> = 1..=50;

async fn slow_town(seed: u64) -> Town {
    let town = Town::open(seed, &["a", "b"]).await;
    town.net.fail(Faults { slow_ms: 60, ..Faults::default() });
    town
}

/// What starts or joins were answered with: a call, or why not.
type Answers = Vec<Result<CallId, AppError>>;

/// The one call that somebody came to, how many did, and how many were told to be in another already.
fn counted(answers: Answers) -> (CallId, usize, usize) {
    let codes = answers.into_iter().map(|it| it.map_err(|it| it.code()));
    let (came, refused): (Vec<_>, Vec<_>) = codes.partition(Result::is_ok);
    let first = came[0].unwrap();
    assert!(came.iter().all(|it| *it == Ok(first)), "{came:?}");
    assert!(refused.iter().all(|it| *it == Err(Code::AlreadyInCall)), "{refused:?}");
    (first, came.len(), refused.len())
}

#[tokio::test(start_paused = true)]
async fn two_who_call_each_other_at_once_are_in_one_call() {
    let letters = [0, 10, 30].map(|late_ms| (1, Faults { late_ms, ..Faults::default() }));
    let slow = Faults { late_ms: 30, slow_ms: 60, ..Faults::default() };
    for (seed, faults) in letters.into_iter().chain(SLOW_TOWNS.map(|it| (it, slow))) {
        let town = Town::open(seed, &["a", "b"]).await;
        town.net.fail(faults);
        let (a, b) = (Arc::clone(town.at(A)), Arc::clone(town.at(B)));
        let (one, other) = town
            .work(
                async move { tokio::join!(start(a, "anna", &["bob"]), start(b, "bob", &["anna"])) },
            )
            .await;
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one, other);
        town.pass(Duration::from_secs(1)).await;
        let joined = |app: &Arc<App>| app.calls.read(one, Call::joined);
        assert_eq!([A, B].map(|it| joined(town.at(it)).unwrap_or(0)).iter().sum::<usize>(), 2);
        assert_eq!(town.at(A).live_calls() + town.at(B).live_calls(), 1);
    }
}

/// Anna starts a call with bob eight times at once, at both nodes of a slow town, with this key or none: how many starts
/// came to a call, and how many were refused. There is one call then.
async fn start_eight_times(seed: u64, key: Option<&'static str>) -> (usize, usize) {
    let town = slow_town(seed).await;
    let starts = (0..8).map(|index| {
        let app = Arc::clone(town.at(index % 2));
        async move {
            let from = Origin { key, ..Origin::default() };
            let started = app.start(&identity("anna"), request(&["bob"]), from).await?;
            Ok(call_of(started.data.get()))
        }
    });
    let answers = town.work(join_all(starts.collect::<Vec<_>>())).await;
    let (_, came, refused) = counted(answers);
    assert_eq!(town.at(A).live_calls() + town.at(B).live_calls(), 1, "seed {seed}");
    (came, refused)
}

#[tokio::test(start_paused = true)]
async fn of_many_starts_of_one_user_at_once_one_is_however_late_redis_answers() {
    for seed in SLOW_TOWNS {
        assert_eq!(start_eight_times(seed, None).await, (1, 7), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_starts_with_one_key_at_once_one_is_and_all_are_told_of_it() {
    for seed in SLOW_TOWNS {
        assert_eq!(start_eight_times(seed, Some("tap")).await, (8, 0), "seed {seed}");
    }
}

/// Starts a call with bob, again where the nodes could not reach each other in time, as an app does.
async fn start_patiently(app: Arc<App>, key: &'static str) -> Result<CallId, AppError> {
    loop {
        let from = Origin { key: Some(key), ..Origin::default() };
        match app.start(&identity("anna"), request(&["bob"]), from).await {
            Ok(started) => return Ok(call_of(started.data.get())),
            Err(error) if error.code() == Code::ClusterUnavailable => {
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_start_that_is_taken_back_as_redis_does_not_take_it_in_time() {
    for seed in SLOW_TOWNS {
        let town = Town::open(seed, &["a", "b"]).await;
        town.net.fail(Faults { slow_ms: 250, ..Faults::default() });
        let starts = (0..8).map(|index| start_patiently(Arc::clone(town.at(index % 2)), "tap"));
        let starting = town.work(join_all(starts.collect::<Vec<_>>()));
        let calm = async {
            town.pass(Duration::from_secs(5)).await;
            town.net.fail(Faults::default());
        };
        let (answers, ()) = tokio::join!(starting, calm);
        let (_, came, _) = counted(answers);
        assert_eq!(came, 8, "seed {seed}");
        town.pass(Duration::from_secs(1)).await;
        assert_eq!(town.at(A).live_calls() + town.at(B).live_calls(), 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_several_calls_at_once_is_in_one_of_them_however_late_redis_answers() {
    for seed in SLOW_TOWNS {
        let town = slow_town(seed).await;
        let mut calls = Vec::new();
        for (caller, node) in [("anna", A), ("bob", B), ("carl", A), ("dora", B)] {
            let call = town.work(start(Arc::clone(town.at(node)), caller, &["emil"])).await;
            calls.push(call.unwrap());
        }
        let joins = calls.iter().enumerate().map(|(index, call)| {
            let (app, call) = (Arc::clone(town.at(index / 2)), *call);
            async move { join(app, call, "emil").await.map(|()| call) }
        });
        let answers = town.work(join_all(joins.collect::<Vec<_>>())).await;
        let (joined, came, refused) = counted(answers);
        assert_eq!((came, refused), (1, 3), "seed {seed}");
        town.pass(Duration::from_secs(1)).await;
        for call in calls {
            let node = if town.at(A).calls.read(call, |_| ()).is_some() { A } else { B };
            let within = read(&town, node, call, |it| it.is_joined(&user("emil")));
            assert_eq!(within, call == joined, "seed {seed}");
        }
    }
}
