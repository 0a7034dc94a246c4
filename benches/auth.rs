//! What it costs to know who is asking: with a token that has been seen before, and with one that has not.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use call_service::auth::{KNOWN_MAX, Verifier};
use call_service::call::id::UserId;
use call_service::call::time::Timestamp;
use call_service::config::Config;
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn verifier() -> Verifier {
    let secret = |name: &str| {
        (name == "JWT_SECRET").then(|| "a secret that only this bench knows".to_owned())
    };
    let config = Config::load(secret).expect("settings");
    Verifier::new(&config.identity).expect("a key")
}

fn tokens(verifier: &Verifier, count: usize) -> Vec<String> {
    let token = |number: usize| {
        let user = UserId::parse(&format!("user-{number:06}")).expect("a fine name");
        verifier.issue(&user, Some("Somebody"), NOW, Duration::from_hours(1)).expect("a key")
    };
    (0..count).map(token).collect()
}

fn tokens_are_checked(criterion: &mut Criterion) {
    let verifier = verifier();
    let known = tokens(&verifier, 1);
    criterion.bench_function("a token that was seen before is checked", |bencher| {
        let token = known.first().expect("one");
        bencher.iter(|| verifier.verify(black_box(token), NOW).expect("good"));
    });
    // Each has been forgotten when its turn comes again.
    let many = tokens(&verifier, 4 * KNOWN_MAX);
    criterion.bench_function("a token that is new is checked", |bencher| {
        let mut turn = many.iter().cycle();
        bencher.iter(|| verifier.verify(black_box(turn.next().expect("one")), NOW).expect("good"));
    });
}

criterion_group!(benches, tokens_are_checked);
criterion_main!(benches);
