//! What every way between nodes has to do, held against the one in memory always, and against a real Redis
//! where `TEST_REDIS_URL` names one.

mod memory;
mod redis;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bus::directory::{Bus, Claim, Found, Incoming, Mailbox, Mark, Put, Ring, State, User};
use crate::bus::error::{BusError, Kind};
use crate::bus::letter::{self, Letter};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// How long a test waits for what has to come.
const WAIT: Duration = Duration::from_secs(5);

fn call() -> CallId {
    CallId(Uuid::now_v7())
}

/// One whom no other run of the tests knows.
fn somebody() -> UserId {
    UserId::parse(&Uuid::new_v4().to_string()).unwrap()
}

fn letter(from: &Bus, id: u128) -> Letter {
    Letter {
        kind: letter::Kind::News,
        id,
        from: from.me().clone(),
        call: CallId(Uuid::nil()),
        epoch: 1,
        seq: 2,
        prev: 3,
        to: vec![somebody()],
        body: Bytes::from_static(b"{\"binary\": \xff\0}"),
    }
}

async fn next(mailbox: &mut Mailbox) -> Incoming {
    timeout(WAIT, mailbox.recv()).await.expect("something came").expect("the mailbox is open")
}

/// The next letter, past whatever else comes.
async fn next_letter(mailbox: &mut Mailbox) -> Letter {
    loop {
        if let Incoming::Letter(letter) = next(mailbox).await {
            return letter;
        }
    }
}

fn state(epoch: u64, seq: u64) -> State<'static> {
    State { epoch, seq, over: false, snapshot: b"snapshot" }
}

fn over(epoch: u64, seq: u64) -> State<'static> {
    State { epoch, seq, over: true, snapshot: b"over" }
}

/// All of it, with nodes that `open` opens.
async fn behaves(open: impl AsyncFn(&'static str) -> (Bus, Mailbox)) {
    let ((a, mut at_a), (b, mut at_b)) = (open("a").await, open("b").await);
    nodes(&a, &b).await;
    calls(&a, &b).await;
    owners(&a, &b).await;
    joins(&a, &b).await;
    rings(&a, &b).await;
    stands(&a, &b).await;
    keys(&a, &b).await;
    letters((&a, &mut at_a), (&b, &mut at_b)).await;
    assert!(a.is_well() && b.is_well());
}

async fn nodes(a: &Bus, b: &Bus) {
    a.beat().await.unwrap();
    let (first, second) = (b.beat().await.unwrap(), a.beat().await.unwrap());
    let last = |beats: &[(NodeId, i64)], it: &Bus| {
        beats.iter().find(|(node, _)| node == it.me()).map(|(_, at)| *at)
    };
    assert!(last(&first, a).unwrap() > 1_600_000_000_000, "milliseconds since 1970");
    assert_eq!(last(&second, b), last(&first, b), "it stands still without a beat");
    a.forget_node(b.me()).await.unwrap();
    assert_eq!(last(&a.beat().await.unwrap(), b), None);
    let (one, two) = (call(), call());
    assert_eq!(a.calls_of(b.me()).await.unwrap(), []);
    b.enlist(&[]).await.unwrap();
    b.enlist(&[two]).await.unwrap();
    b.enlist(&[one, two]).await.unwrap();
    let mut calls = a.calls_of(b.me()).await.unwrap();
    calls.sort();
    assert_eq!(calls, [one, two]);
    a.delist(b.me(), &[one]).await.unwrap();
    assert_eq!(a.calls_of(b.me()).await.unwrap(), [two]);
    a.delist(b.me(), &[one, two]).await.unwrap();
    assert_eq!(a.calls_of(b.me()).await.unwrap(), []);
}

async fn calls(a: &Bus, b: &Bus) {
    let id = call();
    assert_eq!(b.call(id).await.unwrap(), None);
    assert_eq!(a.put(id, &state(1, 1), false).await.unwrap(), Put::Missing);
    assert!(a.begin(id).await.unwrap());
    assert!(!b.begin(id).await.unwrap());
    let found =
        Found { owner: a.me().clone(), epoch: 1, seq: 0, over: false, snapshot: Bytes::new() };
    assert_eq!(b.call(id).await.unwrap(), Some(found.clone()));
    assert_eq!(a.put(id, &state(1, 2), false).await.unwrap(), Put::Kept);
    let found = Found { seq: 2, snapshot: Bytes::from_static(b"snapshot"), ..found };
    assert_eq!(b.call(id).await.unwrap(), Some(found.clone()));
    assert_eq!(a.put(id, &state(1, 1), false).await.unwrap(), Put::Older);
    let again = State { snapshot: b"again", ..state(1, 2) };
    assert_eq!(
        a.put(id, &again, false).await.unwrap(),
        Put::Kept,
        "there is change without events"
    );
    assert_eq!(b.put(id, &state(1, 9), true).await.unwrap(), Put::Deposed, "in the same epoch");
    assert_eq!(a.put(id, &over(1, 3), false).await.unwrap(), Put::Kept);
    assert_eq!(a.put(id, &state(1, 4), true).await.unwrap(), Put::Older, "it is over");
    assert_eq!(a.put(id, &over(1, 4), false).await.unwrap(), Put::Kept);
    let found = b.call(id).await.unwrap().unwrap();
    assert!(found.over && found.seq == 4 && &found.snapshot[..] == b"over");
    let long = vec![0xff; 256 * 1024];
    let put = a.put(call(), &State { snapshot: &long, ..state(1, 1) }, true).await;
    assert_eq!(put.unwrap(), Put::Kept, "of 256 KiB");
    let longer = vec![0; 256 * 1024 + 1];
    let put = a.put(call(), &State { snapshot: &longer, ..state(1, 1) }, true).await;
    assert_eq!(put.unwrap_err().kind, Kind::Crowded);
}

async fn owners(a: &Bus, b: &Bus) {
    let id = call();
    assert_eq!(b.claim(id, a.me(), Some(1)).await.unwrap(), Claim::Nothing);
    a.put(id, &state(1, 5), true).await.unwrap();
    let was = a.call(id).await.unwrap().unwrap();
    assert_eq!(b.claim(id, b.me(), None).await.unwrap(), Claim::Theirs(was.clone()));
    assert_eq!(b.claim(id, a.me(), Some(2)).await.unwrap(), Claim::Theirs(was.clone()));
    let Claim::Ours { epoch, was: before } = b.claim(id, a.me(), Some(1)).await.unwrap() else {
        panic!("nobody else wants it")
    };
    assert_eq!(before, Some(was.clone()));
    assert!(epoch > 1_600_000_000_000, "Redis' time");
    let now = Found { owner: b.me().clone(), epoch, ..was };
    assert_eq!(a.claim(id, a.me(), Some(1)).await.unwrap(), Claim::Theirs(now));
    assert_eq!(a.put(id, &state(1, 6), true).await.unwrap(), Put::Deposed);
    assert_eq!(b.put(id, &state(epoch, 6), false).await.unwrap(), Put::Kept);
    let future = epoch + 1_000_000_000;
    let back = State { epoch: future, ..state(1, 1) };
    assert_eq!(a.put(id, &back, false).await.unwrap(), Put::Kept, "what went back is overwritten");
    let claim = b.claim(id, a.me(), None).await.unwrap();
    assert!(matches!(claim, Claim::Ours { epoch, .. } if epoch == future + 1));
    assert_eq!(b.put(id, &over(future + 1, 7), false).await.unwrap(), Put::Kept);
    let claim = a.claim(id, b.me(), None).await.unwrap();
    assert!(matches!(claim, Claim::Theirs(found) if found.over), "nobody claims what is over");
}

async fn joins(a: &Bus, b: &Bus) {
    let (alice, bob, one, two) = (somebody(), somebody(), call(), call());
    assert_eq!(a.user(&alice).await.unwrap(), User::default());
    let (joined, user) = a.join(&alice, one, Some(&bob)).await.unwrap();
    let wanted = User {
        joined: Some(one),
        calling: Some(bob),
        calls: vec![(one, a.me().clone(), Mark::Member)],
        nodes: vec![],
    };
    assert_eq!((joined, user), (true, wanted.clone()));
    assert_eq!(b.join(&alice, two, None).await.unwrap(), (false, wanted), "she is in another");
    let (joined, user) = b.join(&alice, one, None).await.unwrap();
    assert!(joined, "in the same she is already");
    assert_eq!(user.calling, None);
    assert_eq!(user.calls, [(one, b.me().clone(), Mark::Member)]);
    b.attend(&alice, 1).await.unwrap();
    b.attend(&alice, 3).await.unwrap();
    let user = a.attend(&alice, 1).await.unwrap();
    let mut nodes = [(a.me().clone(), 1), (b.me().clone(), 3)];
    nodes.sort();
    assert_eq!(user.nodes, nodes);
    assert_eq!(b.attend(&alice, 0).await.unwrap().nodes, [(a.me().clone(), 1)]);
    let user = a.forget_call(&alice, one).await.unwrap();
    assert_eq!(user, User { nodes: vec![(a.me().clone(), 1)], ..User::default() });
    assert_eq!(b.user(&alice).await.unwrap(), user);
}

async fn rings(a: &Bus, b: &Bus) {
    let (alice, bob, one, two, three) = (somebody(), somebody(), call(), call(), call());
    let by = Mark::RungBy(alice);
    let (ring, user) = a.ring(&bob, one, &by, 2).await.unwrap();
    assert_eq!(ring, Ring::Rung);
    assert_eq!(user.calls, [(one, a.me().clone(), by.clone())]);
    assert_eq!(b.ring(&bob, two, &Mark::Rung, 2).await.unwrap().0, Ring::Rung);
    let (ring, user) = b.ring(&bob, three, &Mark::Rung, 2).await.unwrap();
    assert_eq!((ring, user.calls.len()), (Ring::TooMany, 2), "nothing has changed");
    assert_eq!(a.ring(&bob, one, &by, 2).await.unwrap().0, Ring::Rung, "that one rings already");
    b.join(&bob, two, None).await.unwrap();
    let (ring, user) = a.ring(&bob, three, &Mark::Rung, 2).await.unwrap();
    assert_eq!(ring, Ring::Busy);
    assert!(user.calls.contains(&(three, a.me().clone(), Mark::Member)), "without being rung");
    assert_eq!(user.joined, Some(two));
    assert_eq!(b.ring(&bob, two, &Mark::Member, 2).await.unwrap().0, Ring::Rung, "his own");
}

async fn stands(a: &Bus, b: &Bus) {
    let (carol, one, two) = (somebody(), call(), call());
    let rung = a.stand(&carol, one, Some(&Mark::Rung), false).await.unwrap();
    assert_eq!((rung.joined, rung.calls), (None, vec![(one, a.me().clone(), Mark::Rung)]));
    let user = a.stand(&carol, one, Some(&Mark::Member), true).await.unwrap();
    assert_eq!(user.joined, Some(one));
    let user = b.stand(&carol, two, Some(&Mark::Member), true).await.unwrap();
    assert_eq!((user.joined, user.calls.len()), (Some(one), 2), "the first one stays");
    let user = b.stand(&carol, two, None, false).await.unwrap();
    assert_eq!((user.joined, user.calls.len()), (Some(one), 1));
    let user = a.stand(&carol, one, Some(&Mark::Member), false).await.unwrap();
    assert_eq!((user.joined, user.calls.len()), (None, 1), "she has left, and may come back");
    assert_eq!(a.stand(&carol, one, None, false).await.unwrap(), User::default());
    a.join(&carol, one, None).await.unwrap();
    b.stand(&carol, one, Some(&Mark::Rung), false).await.unwrap();
    let user = a.withdraw(a.me(), &carol, one).await.unwrap();
    assert_eq!(user.calls, [(one, b.me().clone(), Mark::Rung)], "what another has said stays");
    a.join(&carol, one, None).await.unwrap();
    assert_eq!(b.withdraw(a.me(), &carol, one).await.unwrap(), User::default());
}

async fn keys(a: &Bus, b: &Bus) {
    let (dave, erin, one, two) = (somebody(), somebody(), call(), call());
    let key = "any {text}: \"ü\"";
    assert_eq!(a.key(&dave, key, one).await.unwrap(), one);
    assert_eq!(b.key(&dave, key, two).await.unwrap(), one);
    assert_eq!(b.key(&erin, key, two).await.unwrap(), two);
    b.free_key(&dave, key, two).await.unwrap();
    assert_eq!(b.key(&dave, key, two).await.unwrap(), one, "only the call that has it frees it");
    a.free_key(&dave, key, one).await.unwrap();
    assert_eq!(b.key(&dave, key, two).await.unwrap(), two);
}

async fn letters(a: (&Bus, &mut Mailbox), b: (&Bus, &mut Mailbox)) {
    let ((a, at_a), (b, at_b)) = (a, b);
    for id in 0..5000 {
        a.post(b.me(), letter(a, id)).unwrap();
        // The queue is not that long.
        if id % 1000 == 999 {
            for id in id - 999..=id {
                let found = next_letter(at_b).await;
                assert_eq!((found.id, &found.from), (id, a.me()));
                assert_eq!(found.body, letter(a, id).body);
            }
        }
    }
    let long = Letter { body: vec![7; 64 * 1024].into(), ..letter(b, 1) };
    for to in [a, b] {
        b.post(to.me(), long.clone()).unwrap();
    }
    for mailbox in [&mut *at_a, at_b] {
        assert_eq!(next_letter(mailbox).await, long);
    }
    let longer = Letter { body: vec![7; 128 * 1024].into(), ..letter(a, 1) };
    assert_eq!(a.post(b.me(), longer).unwrap_err().kind, Kind::Crowded);
    let nobody = NodeId::fresh("nobody").unwrap();
    a.post(&nobody, letter(a, 1)).unwrap();
    assert!(matches!(next(at_a).await, Incoming::Undelivered(it) if it == nobody));
}

fn is_away<T>(asked: &Result<T, BusError>) -> bool {
    asked.as_ref().is_err_and(|it| it.kind == Kind::Away)
}
