//! The way over a real Redis, which `TEST_REDIS_URL` names (`tests/redis/bus.test.mjs` starts several).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{behaves, call, letter, next_letter, state};
use crate::bus::directory::{Bus, Mailbox, State};
use crate::bus::node::NodeId;
use crate::config::Secret;
use crate::config::redis::Redis as Settings;

#[expect(clippy::disallowed_methods, reason = "a test is told where its servers are")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn settings() -> Settings {
    Settings {
        url: Secret::new(&told("TEST_REDIS_URL").expect("TEST_REDIS_URL")),
        tls_ca: told("TEST_REDIS_TLS_CA").map(Into::into),
        prefix: Arc::from("calls:"),
    }
}

pub(super) async fn open(name: &str) -> (Bus, Mailbox) {
    let (bus, mailbox) = Bus::connect(&settings(), NodeId::fresh(name).unwrap()).await.unwrap();
    // A start waits for two seconds, which a busy machine may take.
    let well = async {
        while bus.beat().await.is_err() || !bus.is_well() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), well).await.unwrap();
    (bus, mailbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a Redis"]
async fn it_behaves() {
    assert!(Bus::check(&settings()).await.unwrap().starts_with('7'));
    behaves(open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a Redis"]
#[expect(clippy::print_stdout, reason = "figures for whoever looks")]
async fn there_and_back() {
    let ((a, mut at_a), (b, mut at_b)) = (open("a").await, open("b").await);
    let mut took = Vec::new();
    for id in 0..2000 {
        let begun = Instant::now();
        a.post(b.me(), letter(&a, id)).unwrap();
        assert_eq!(next_letter(&mut at_b).await.id, id);
        b.post(a.me(), letter(&b, id)).unwrap();
        assert_eq!(next_letter(&mut at_a).await.id, id);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!("there and back: p50 {:?}, p99 {:?}", took[1000], took[1980]);
    let id = call();
    let mut took = Vec::new();
    for seq in 0..2000 {
        let begun = Instant::now();
        let snapshot = [7; 600];
        a.put(id, &State { snapshot: &snapshot, ..state(1, seq) }, true).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!("a put of 600 bytes: p50 {:?}, p99 {:?}", took[1000], took[1980]);
}
