//! The way in memory: it does what Redis does, and what can go wrong goes wrong.

use std::time::Duration;

use tokio::time::Instant;

use super::{WAIT, behaves, call, is_away, letter, next, next_letter, over, somebody, state};
use crate::bus::directory::{Incoming, User};
use crate::bus::memory::{Faults, Net};

#[tokio::test(start_paused = true)]
async fn it_behaves() {
    let net = Net::new(1);
    behaves(async |name| net.node(name)).await;
}

#[tokio::test(start_paused = true)]
async fn what_lapses() {
    let net = Net::new(1);
    let ((a, _at_a), (b, _at_b)) = (net.node("a"), net.node("b"));
    let [begun, live, ended] = [call(), call(), call()];
    a.begin(begun).await.unwrap();
    a.put(live, &state(1, 1), true).await.unwrap();
    a.put(ended, &over(1, 1), true).await.unwrap();
    a.beat().await.unwrap();
    let alice = somebody();
    a.join(&alice, live, None).await.unwrap();
    for (minutes, wanted) in
        [(0, [true; 3]), (2, [false, true, true]), (20, [false, true, false]), (400, [false; 3])]
    {
        tokio::time::advance(Duration::from_mins(minutes)).await;
        for (id, wanted) in [begun, live, ended].into_iter().zip(wanted) {
            assert_eq!(b.call(id).await.unwrap().is_some(), wanted, "after {minutes} more minutes");
        }
    }
    assert_eq!(b.beat().await.unwrap().len(), 1, "the other was heard last hours ago");
    assert!(b.user(&alice).await.unwrap().joined.is_some());
    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(b.user(&alice).await.unwrap(), User::default());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_waits_once_and_is_told() {
    let net = Net::new(1);
    let ((a, mut at_a), (b, mut at_b)) = (net.node("a"), net.node("b"));
    net.cut(a.me());
    for waits in [500, 500, 0, 0] {
        let begun = Instant::now();
        assert!(is_away(&a.call(call()).await));
        assert_eq!(begun.elapsed().as_millis(), waits);
    }
    assert!(!a.is_well() && b.is_well());
    a.post(b.me(), letter(&a, 1)).unwrap();
    b.post(a.me(), letter(&b, 2)).unwrap();
    tokio::time::sleep(WAIT).await;
    net.mend(a.me());
    assert!(a.is_well() && a.call(call()).await.is_ok());
    a.post(b.me(), letter(&a, 3)).unwrap();
    assert_eq!(next_letter(&mut at_b).await.id, 3);
    assert!(matches!(next(&mut at_a).await, Incoming::Gap));
    net.cut_all();
    assert!(is_away(&b.beat().await) && is_away(&a.beat().await));
    net.mend_all();
    assert!(b.beat().await.is_ok() && a.beat().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_killed_is_gone() {
    let net = Net::new(1);
    let ((a, mut at_a), (b, mut at_b)) = (net.node("a"), net.node("b"));
    net.kill(b.me());
    assert!(at_b.recv().await.is_none());
    assert!(is_away(&b.beat().await) && !b.is_well());
    a.post(b.me(), letter(&a, 1)).unwrap();
    assert!(matches!(next(&mut at_a).await, Incoming::Undelivered(it) if it == *b.me()));
    let (again, mut at_again) = net.node("b");
    assert_ne!(again.me(), b.me());
    a.post(again.me(), letter(&a, 2)).unwrap();
    assert_eq!(next_letter(&mut at_again).await.id, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_goes_back() {
    let net = Net::new(1);
    let (a, _mailbox) = net.node("a");
    let id = call();
    a.put(id, &state(1, 1), true).await.unwrap();
    let saved = net.save();
    a.put(id, &state(1, 2), true).await.unwrap();
    net.restore(&saved);
    assert_eq!(a.call(id).await.unwrap().unwrap().seq, 1);
}

/// The ids of a hundred letters as they arrive.
async fn arrivals(seed: u64, faults: Faults) -> Vec<u128> {
    let net = Net::new(seed);
    let ((a, _at_a), (b, mut at_b)) = (net.node("a"), net.node("b"));
    net.fail(faults);
    for id in 0..100 {
        a.post(b.me(), letter(&a, id)).unwrap();
    }
    tokio::time::sleep(WAIT).await;
    let mut ids = Vec::new();
    while let Ok(Incoming::Letter(letter)) = at_b.try_recv() {
        ids.push(letter.id);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn letters_get_lost_doubled_and_overtaken_the_same_for_each_seed() {
    let all: Vec<u128> = (0..100).collect();
    let late = Faults { late_ms: 50, ..Faults::default() };
    assert_eq!(arrivals(1, late).await, all, "late, in order");
    let lost = arrivals(1, Faults { lost: 200, ..late }).await;
    assert!((50..100).contains(&lost.len()) && lost.is_sorted());
    let doubled = arrivals(1, Faults { doubled: 200, ..late }).await;
    assert!((101..150).contains(&doubled.len()) && doubled.is_sorted());
    let overtaken = Faults { overtaken: 200, ..late };
    let mut found = arrivals(1, overtaken).await;
    assert_eq!(found, arrivals(1, overtaken).await);
    assert_ne!(found, arrivals(2, overtaken).await);
    assert!(!found.is_sorted());
    found.sort_unstable();
    assert_eq!(found, all);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_may_have_happened() {
    let net = Net::new(1);
    let (a, _mailbox) = net.node("a");
    let id = call();
    net.fail(Faults { unanswered: 1000, ..Faults::default() });
    assert!(is_away(&a.begin(id).await));
    net.fail(Faults::default());
    assert!(a.call(id).await.unwrap().is_some());
}
