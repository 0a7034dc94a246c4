//! Calls are looked at and changed by many at once: what that costs each, the more there are of them.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use call_service::call::command::{Command, Invitee, Start};
use call_service::call::id::{CallId, UserId};
use call_service::call::model::{Call, Limits};
use call_service::call::participant::Settings;
use call_service::call::state::{CallType, MediaPath};
use call_service::call::time::Timestamp;
use call_service::registry::calls::Calls;
use criterion::{Criterion, criterion_group, criterion_main};
use uuid::Uuid;

/// Live calls.
const CALLS: u64 = 10_000;
/// Who are at it at once: many more of them than processors.
const TASKS: [u64; 4] = [1, 2, 8, 64];
/// Bits of a turn that choose a call: an odd step leads through all of them.
const STEP: u64 = 7_919;

fn id(number: u64) -> CallId {
    CallId(Uuid::from_u64_pair(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number))
}

fn user(number: u64, place: u64) -> UserId {
    UserId::parse(&format!("user-{number}-{place}")).expect("a fine name")
}

fn call(number: u64) -> Call {
    let invitee =
        Invitee { user: user(number, 1), participant: Uuid::from_u64_pair(number, 1), busy: false };
    let start = Start {
        id: id(number),
        epoch: 1,
        call_type: CallType::Audio,
        media: MediaPath::Peer,
        initiator: user(number, 0),
        initiator_name: None,
        participant: Uuid::from_u64_pair(number, 0),
        online: true,
        settings: Settings::default(),
        chat: None,
        invitees: vec![invitee],
        silent: false,
        limits: Limits::DEFAULT,
    };
    let (mut call, _) = Call::start(start, Timestamp(0));
    let join = Command::Join {
        user: user(number, 1),
        settings: Settings::default(),
        device: None,
        online: true,
    };
    call.apply(join, Timestamp(1_000)).expect("may join");
    call
}

/// How long `tasks` threads take for `turns` turns in all, each of one thread after another through all calls.
fn together(tasks: u64, turns: u64, turn: impl Fn(CallId) + Sync) -> Duration {
    let gate = Barrier::new(usize::try_from(tasks).expect("few") + 1);
    thread::scope(|scope| {
        for task in 0..tasks {
            let (gate, turn) = (&gate, &turn);
            scope.spawn(move || {
                gate.wait();
                for number in 0..turns / tasks {
                    turn(id((task * 37 + number * STEP) % CALLS));
                }
                gate.wait();
            });
        }
        gate.wait();
        let began = Instant::now();
        gate.wait();
        began.elapsed()
    })
}

fn bench(criterion: &mut Criterion) {
    let calls = Calls::default();
    for number in 0..CALLS {
        calls.insert(call(number), |_| ());
    }
    for tasks in TASKS {
        let name = format!("a pass into one of ten thousand calls, asked for by {tasks} at once");
        criterion.bench_function(&name, |bencher| {
            let look = |id| {
                let pass = calls.read(id, |call| call.pass(&call.initiator));
                black_box(pass).flatten().expect("is in it");
            };
            bencher.iter_custom(|turns| together(tasks, turns.max(tasks), look));
        });
        let name = format!("a toggle in one of ten thousand calls, made by {tasks} at once");
        criterion.bench_function(&name, |bencher| {
            let toggle = |id| {
                let toggled = calls.change(id, |call| {
                    let audio = call.participants.first().map(|it| !it.audio);
                    let settings = Settings { audio, ..Settings::default() };
                    let user = call.initiator.clone();
                    call.apply(Command::Change { user, settings }, Timestamp(2_000)).map(drop)
                });
                toggled.expect("is there").expect("may toggle");
            };
            bencher.iter_custom(|turns| together(tasks, turns.max(tasks), toggle));
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
