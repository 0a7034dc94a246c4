//! Bodies in and answers out: simd-json against `serde_json`, on what clients of this service send and get.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use call_service::wire::fields::Fields;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

/// What is sent: the smallest and the largest that are common.
fn bodies() -> [(&'static str, String); 3] {
    let others: Vec<_> = (0..7).map(|it| format!("user-{it:06}")).collect();
    let settings = json!({ "enabled": false, "callId": "0193d5f0-0000-7000-8000-000000000001" });
    let start = json!({ "type": "video", "participantIds": ["user-000001"] });
    let group = json!({
        "type": "video",
        "participantIds": others,
        "chatId": "chat-0001",
        "settings": { "audioEnabled": true, "videoEnabled": false },
    });
    [("a toggle", settings), ("a start", start), ("a start of eight", group)]
        .map(|(name, body)| (name, body.to_string()))
}

/// What is answered: a call of eight, as a value of its own.
fn answer() -> Value {
    let participant = |number: u64| {
        json!({
            "id": "0193d5f0-0000-7000-8000-000000000002",
            "callId": "0193d5f0-0000-7000-8000-000000000001",
            "userId": format!("user-{number:06}"),
            "role": "participant",
            "joinedAt": "2026-11-26T08:00:00.000Z",
            "leftAt": null,
            "duration": 17,
            "connectionState": "connected",
            "audioEnabled": true,
            "videoEnabled": false,
            "screenShareEnabled": false,
            "connectionQuality": null,
        })
    };
    json!({ "participants": (0..8).map(participant).collect::<Vec<_>>() })
}

fn bench(criterion: &mut Criterion) {
    for (name, body) in bodies() {
        criterion.bench_function(
            &format!("{name} is read by simd-json, as the service does"),
            |it| {
                it.iter(|| {
                    let mut scratch = body.clone().into_bytes();
                    let fields = Fields::parse(&mut scratch).expect("an object");
                    black_box(fields.names().count())
                });
            },
        );
        criterion.bench_function(&format!("{name} is read by serde_json"), |it| {
            it.iter(|| serde_json::from_slice::<Value>(black_box(body.as_bytes())).expect("JSON"));
        });
    }
    let answer = answer();
    criterion.bench_function(
        "a call of eight is written by serde_json, as the service does",
        |it| {
            it.iter(|| serde_json::to_vec(black_box(&answer)).expect("JSON"));
        },
    );
    criterion.bench_function("a call of eight is written by simd-json", |it| {
        it.iter(|| simd_json::serde::to_vec(black_box(&answer)).expect("JSON"));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
