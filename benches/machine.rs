//! What the machine itself costs: no store, no socket, no lock.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use call_service::call::command::{Command, Invitee, Start};
use call_service::call::id::{CallId, UserId};
use call_service::call::model::{Call, Limits};
use call_service::call::participant::Settings;
use call_service::call::state::{CallType, MediaPath};
use call_service::call::time::Timestamp;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use uuid::Uuid;

fn user(index: usize) -> UserId {
    UserId::parse(&format!("user-{index}")).expect("a fine name")
}

/// What a call of user 0 with `others` more starts from.
fn start(others: usize) -> Start {
    let invitee =
        |index| Invitee { user: user(index), participant: Uuid::from_u128(9), busy: false };
    Start {
        id: CallId(Uuid::from_u128(1)),
        epoch: 1,
        call_type: CallType::Video,
        media: MediaPath::Peer,
        initiator: user(0),
        initiator_name: Some("Alice".into()),
        participant: Uuid::from_u128(2),
        online: true,
        settings: Settings::default(),
        chat: None,
        invitees: (1..=others).map(invitee).collect(),
        silent: false,
        limits: Limits::DEFAULT,
    }
}

fn join(user: UserId) -> Command {
    Command::Join { user, settings: Settings::default(), device: None, online: true }
}

fn bench(criterion: &mut Criterion) {
    criterion.bench_function("a call of two starts, is answered and ends", |bencher| {
        let (alice, bob) = (user(0), user(1));
        bencher.iter_batched(
            || start(1),
            |start| {
                let (mut call, _) = Call::start(start, Timestamp(0));
                call.apply(join(bob.clone()), Timestamp(1_000)).expect("may join");
                call.apply(Command::End { user: alice.clone() }, Timestamp(60_000))
                    .expect("may end");
                black_box(call)
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("one of eight toggles the microphone", |bencher| {
        let (mut call, _) = Call::start(start(7), Timestamp(0));
        for index in 1..=7 {
            call.apply(join(user(index)), Timestamp(1_000)).expect("may join");
        }
        let (who, mut on) = (user(3), true);
        bencher.iter(|| {
            on = !on;
            let settings = Settings { audio: Some(on), ..Settings::default() };
            let command = Command::Change { user: who.clone(), settings };
            black_box(call.apply(command, Timestamp(2_000)).expect("may toggle"))
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
