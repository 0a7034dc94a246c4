//! What is lost on the way, or by Redis, is made up for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::stories::{A, B, call_of_three, join, read, stands, start, town};
use super::town::Town;
use crate::app::error::Code;
use crate::app::fixture::{Device, user};
use crate::bus::letter::{Kind, Letter};
use crate::bus::memory::{Faults, Saved};
use crate::call::id::CallId;
use crate::call::participant::Settings;
use crate::call::state::ConnectionState;

#[tokio::test(start_paused = true)]
async fn a_last_letter_that_is_lost_is_made_up_for_within_two_seconds() {
    let town = town().await;
    let bob = Device::connect(town.at(B), "bob");
    for loses_end in [false, true] {
        let lose = || town.net.fail(Faults { lost: 1000, ..Faults::default() });
        if !loses_end {
            lose();
        }
        let call = town.work(start(Arc::clone(town.at(A)), "anna", &["bob"])).await.unwrap();
        if loses_end {
            lose();
            let app = Arc::clone(town.at(A));
            town.work(async move { app.end(call, &user("anna")).await.unwrap() }).await;
            town.net.fail(Faults::default());
        }
        town.net.fail(Faults::default());
        drop(bob.heard());
        town.pass(Duration::from_millis(2100)).await;
        let heard = bob.heard();
        let (name, data) = heard.last().expect("something is heard");
        let known = data["calls"].as_array().map(Vec::len);
        assert_eq!((name.as_str(), known), ("call:sync", Some(usize::from(!loses_end))));
        if !loses_end {
            let app = Arc::clone(town.at(A));
            town.work(async move { app.end(call, &user("anna")).await.unwrap() }).await;
        }
    }
}

/// A town with a call of three, and the device that carl has at the node that does not have the call: it has heard all
/// there was.
async fn overheard() -> (Town, CallId, Device) {
    let town = town().await;
    let device = Device::connect(town.at(B), "carl");
    let call = call_of_three(&town).await;
    town.pass(Duration::from_secs(1)).await;
    drop(device.heard());
    (town, call, device)
}

#[tokio::test(start_paused = true)]
async fn who_has_left_is_told_so_once_where_the_word_of_it_was_lost() {
    let (town, call, device) = overheard().await;
    town.net.fail(Faults { lost: 1000, ..Faults::default() });
    let app = Arc::clone(town.at(A));
    town.work(async move { app.end(call, &user("carl")).await.unwrap() }).await;
    town.net.fail(Faults::default());
    town.pass(Duration::from_secs(20)).await;
    let names = device.names();
    assert!(matches!(names.len(), 1 | 2) && names.iter().all(|it| it == "call:sync"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_word_or_digest_makes_up_for_a_lost_one_that_a_call_is_to_be_looked_at_anew() {
    let (town, call, device) = overheard().await;
    for another_word in [true, false] {
        town.net.fail(Faults { lost: 1000, ..Faults::default() });
        town.at(A).retell(town.nodes[A].cluster(), call, true);
        town.pass(Duration::from_millis(50)).await;
        town.net.fail(Faults::default());
        assert_eq!(device.names(), Vec::<String>::new(), "it was lost");
        if another_word {
            town.at(A).retell(town.nodes[A].cluster(), call, false);
        }
        town.pass(Duration::from_millis(if another_word { 50 } else { 2100 })).await;
        let names = device.names();
        assert!(names.last().is_some_and(|it| it == "call:sync"), "{another_word}: {names:?}");
        town.pass(Duration::from_secs(4)).await;
        drop(device.heard());
        town.pass(Duration::from_secs(6)).await;
        assert_eq!(device.names(), Vec::<String>::new(), "once it has looked, it knows");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_redis_has_lost_is_not_over_as_long_as_its_owner_says_otherwise() {
    let (town, call, device) = overheard().await;
    let a = town.nodes[A].id.clone();
    town.net.cut(&a);
    let app = Arc::clone(town.at(A));
    let muted = Settings { audio: Some(false), ..Settings::default() };
    drop(town.work(async move { app.set(call, &user("anna"), muted).await.map(drop) }).await);
    town.net.restore(&Saved::nothing());
    // What the owner tells comes before it has brought the call to Redis again.
    let (epoch, seq) = read(&town, A, call, |it| (it.epoch, it.seq));
    let body = json!([[call, {"epoch": epoch, "seq": seq, "places": 0, "over": false}]]);
    let (id, prev, to, body) = (0, 0, Vec::new(), Bytes::from(body.to_string()));
    let nobody = CallId(Uuid::nil());
    let letter =
        Letter { kind: Kind::Digest, id, from: a, call: nobody, epoch: 0, seq: 0, prev, to, body };
    town.at(B).hear_digest(town.nodes[B].cluster(), &letter);
    town.pass(Duration::from_millis(200)).await;
    town.net.mend_all();
    town.pass(Duration::from_secs(3)).await;
    let (_, sync) = device.heard().into_iter().rfind(|(name, _)| name == "call:sync").unwrap();
    let people = sync["calls"][0]["participants"].as_array().cloned().unwrap_or_default();
    let anna = people.iter().find(|it| it["userId"] == "anna").expect("the call goes on");
    assert_eq!(anna["audioEnabled"], false);
}

#[tokio::test(start_paused = true)]
async fn who_joins_another_call_when_redis_has_forgotten_one_is_in_the_later_one() {
    let town = town().await;
    let (a, b) = (Arc::clone(town.at(A)), Arc::clone(town.at(B)));
    let earlier = town.work(start(Arc::clone(&a), "anna", &["bob", "carl"])).await.unwrap();
    let later = town.work(start(Arc::clone(&b), "dora", &["bob", "emil"])).await.unwrap();
    town.work(join(Arc::clone(&a), earlier, "carl")).await.unwrap();
    town.pass(Duration::from_secs(1)).await;
    let saved = town.net.save();
    town.work(join(a, earlier, "bob")).await.unwrap();
    let busy = town.work(join(Arc::clone(&b), later, "bob")).await;
    assert_eq!(busy.unwrap_err().code(), Code::AlreadyInCall);
    town.pass(Duration::from_millis(100)).await;
    town.net.cut_all();
    town.net.restore(&saved);
    let id = town.nodes[B].id.clone();
    town.net.mend(&id);
    town.work(join(b, later, "bob")).await.unwrap();
    town.net.mend_all();
    town.pass(Duration::from_secs(2)).await;
    let there = [(A, earlier), (B, later)]
        .map(|(node, call)| read(&town, node, call, |it| stands(it, "bob")));
    assert_eq!(there, [ConnectionState::Left, ConnectionState::Connected]);
    // Those whom Redis has not forgotten to be in a call stay in it.
    assert!(read(&town, A, earlier, |it| it.is_joined(&user("carl"))));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_was_claimed_for_in_vain_is_not_where_they_are_when_redis_goes_back_to_it() {
    let town = town().await;
    let (anna, in_vain) = (user("anna"), CallId(Uuid::from_u128(7)));
    let (b, bus) = (town.nodes[B].id.clone(), town.nodes[B].cluster().bus.clone());
    bus.join(&anna, in_vain, None).await.unwrap();
    let saved = town.net.save();
    bus.withdraw(&b, &anna, in_vain).await.unwrap();
    let call = town.work(start(Arc::clone(town.at(A)), "anna", &["bob", "carl"])).await.unwrap();
    town.pass(Duration::from_secs(1)).await;
    town.net.cut_all();
    town.net.restore(&saved);
    town.net.mend_all();
    town.pass(Duration::from_secs(3)).await;
    let known = bus.user(&anna).await.unwrap();
    assert_eq!(known.joined, Some(call));
    assert!(read(&town, A, call, |it| it.is_joined(&anna)));
}

#[tokio::test(start_paused = true)]
async fn who_had_left_a_call_that_redis_takes_to_go_on_has_its_owner_put_that_right() {
    let town = town().await;
    let call = call_of_three(&town).await;
    let app = Arc::clone(town.at(A));
    town.work(async move { app.end(call, &user("carl")).await.unwrap() }).await;
    let saved = town.net.save();
    let app = Arc::clone(town.at(A));
    town.work(async move { app.end(call, &user("anna")).await.unwrap() }).await;
    town.pass(Duration::from_secs(1)).await;
    // Nobody has noticed.
    town.net.restore(&saved);
    let bus = town.nodes[B].cluster().bus.clone();
    assert!(!bus.call(call).await.unwrap().unwrap().over);
    let _device = Device::connect(town.at(B), "carl");
    town.pass(Duration::from_secs(1)).await;
    assert!(bus.call(call).await.unwrap().unwrap().over);
}
