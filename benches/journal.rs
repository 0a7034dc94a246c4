//! Group commit: many changes that wait together cost little more than one.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use call_service::call::id::{CallId, UserId};
use call_service::call::record::{CallRecord, ParticipantRecord};
use call_service::call::state::{CallType, ConnectionState, Role, State};
use call_service::call::time::Timestamp;
use call_service::store::journal::Journal;
use call_service::store::options::{JournalOptions, Sync};
use call_service::store::sqlite::Sqlite;
use call_service::store::{Change, Record, StoryEvent};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uuid::Uuid;

/// Callers that wait for the same commit.
const WAITING: [u64; 3] = [1, 16, 256];
/// About what the machine keeps of a call of two.
const SNAPSHOT_BYTES: usize = 1_500;
/// About an event with the whole participant in it.
const EVENT_BYTES: usize = 400;

fn participant(call: CallId, number: u64, name: &str, role: Role) -> ParticipantRecord {
    ParticipantRecord {
        id: Uuid::from_u64_pair(number, u64::from(role == Role::Initiator)),
        call,
        user: UserId::parse(name).expect("a valid id"),
        role,
        connection: ConnectionState::Connecting,
        joined_at: None,
        left_at: None,
        duration: None,
        audio: true,
        video: true,
        screen_share: false,
        quality: None,
    }
}

/// The start of call `number`: a row of a call, two of participants, an event, a snapshot.
fn start(number: u64) -> Record {
    let call = CallId(Uuid::from_u64_pair(number, 1));
    let at = Timestamp(i64::try_from(number).unwrap_or(0));
    let alice = format!("user-{}", number % 5_000);
    let bob = format!("user-{}", (number + 1) % 5_000);
    let people = vec![
        participant(call, number, &alice, Role::Initiator),
        participant(call, number, &bob, Role::Participant),
    ];
    let record = CallRecord {
        id: call,
        call_type: CallType::Video,
        state: State::Ringing,
        initiator: people.iter().map(|it| it.user.clone()).next().expect("two people"),
        chat: None,
        is_group: false,
        max_participants: 8,
        created_at: at,
        updated_at: at,
        started_at: None,
        ended_at: None,
        duration: None,
        end_reason: None,
        recorded: false,
        recording_url: None,
        epoch: 1,
        seq: 1,
    };
    let event = StoryEvent {
        call,
        seq: 1,
        at,
        name: "call:incoming",
        to: people.iter().map(|it| it.user.clone()).collect(),
        data: Arc::from("x".repeat(EVENT_BYTES)),
    };
    Record::Change(Box::new(Change {
        call: record,
        participants: people,
        story: vec![event],
        live: Some("s".repeat(SNAPSHOT_BYTES)),
        recordings: Vec::new(),
        idempotency_key: None,
    }))
}

fn group_commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for sync in [Sync::Full, Sync::Normal] {
        let mut group = criterion.benchmark_group(format!("group commit, sync {}", sync.as_str()));
        for waiting in WAITING {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Sqlite::open(folder.path()).expect("a store");
            let options = JournalOptions { sync, ..JournalOptions::default() };
            let journal = Journal::open(&store, options, |it: Vec<()>| {
                black_box(it);
            })
            .expect("a journal");
            let mut number = 0;
            group.throughput(Throughput::Elements(waiting));
            group.bench_function(format!("{waiting} waiting"), |bencher| {
                bencher.iter(|| {
                    let sent: Vec<_> = (0..waiting)
                        .map(|_| {
                            number += 1;
                            journal.reserve().expect("a place").send(start(number), ())
                        })
                        .collect();
                    runtime.block_on(async {
                        for durable in sent {
                            durable.await.expect("durable");
                        }
                    });
                });
            });
            journal.close();
        }
        group.finish();
    }
}

criterion_group!(journal, group_commit);
criterion_main!(journal);
