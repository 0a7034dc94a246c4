//! Calls for tests.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::call::id::{CallId, UserId};
use crate::call::quality::Sample;
use crate::call::record::{CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::{
    CallType, ConnectionState, EndReason, Quality, RecordingStatus, Role, State,
};
use crate::call::time::Timestamp;
use crate::store::journal::{Durable, Journal};
use crate::store::options::JournalOptions;
use crate::store::sqlite::Sqlite;
use crate::store::{Change, Record, StoredSample, StoryEvent};

/// A user's id.
pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A call's id; greater numbers sort later.
pub(super) fn call(number: u64) -> CallId {
    CallId(Uuid::from_u64_pair(number, 7))
}

/// The id of the participant that `name` is in call `number`.
pub(super) fn participant_id(number: u64, name: &str) -> Uuid {
    let mut bytes = [0; 8];
    let length = name.len().min(8);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    Uuid::from_u64_pair(number, u64::from_be_bytes(bytes))
}

/// One who is in the call.
pub(super) fn participant(number: u64, name: &str, role: Role) -> ParticipantRecord {
    ParticipantRecord {
        id: participant_id(number, name),
        call: call(number),
        user: user(name),
        role,
        connection: ConnectionState::Connecting,
        joined_at: Some(Timestamp(1_000)),
        left_at: None,
        duration: None,
        audio: true,
        video: false,
        screen_share: false,
        quality: None,
    }
}

/// Call `number` of alice with bob, ringing since 1,000, with one event for both.
pub(super) fn change(number: u64, seq: u64) -> Change {
    let record = CallRecord {
        id: call(number),
        call_type: CallType::Audio,
        state: State::Ringing,
        initiator: user("alice"),
        chat: None,
        is_group: false,
        max_participants: 8,
        created_at: Timestamp(1_000),
        updated_at: Timestamp(1_000),
        started_at: None,
        ended_at: None,
        duration: None,
        end_reason: None,
        recorded: false,
        recording_url: None,
        epoch: 1,
        seq,
    };
    Change {
        call: record,
        participants: vec![
            participant(number, "alice", Role::Initiator),
            participant(number, "bob", Role::Participant),
        ],
        story: vec![event(number, seq, &["alice", "bob"])],
        live: Some(format!("{{\"call\":{number},\"seq\":{seq}}}")),
        recordings: Vec::new(),
        idempotency_key: None,
    }
}

/// [`change`], and the call is over at `at`, after `seconds` connected.
pub(super) fn ended(number: u64, seq: u64, at: i64, seconds: u64) -> Change {
    let mut change = change(number, seq);
    change.call.state = State::Ended;
    change.call.end_reason = Some(EndReason::Normal);
    change.call.started_at = Some(Timestamp(at - i64::try_from(seconds).unwrap() * 1_000));
    change.call.ended_at = Some(Timestamp(at));
    change.call.duration = Some(seconds);
    change.live = None;
    change
}

/// Event `seq` of a call, for these users.
pub(super) fn event(number: u64, seq: u64, to: &[&str]) -> StoryEvent {
    StoryEvent {
        call: call(number),
        seq,
        at: Timestamp(1_000),
        name: "call:state_changed",
        to: to.iter().map(|it| user(it)).collect(),
        data: Arc::from(format!("{{\"seq\":{seq}}}")),
    }
}

/// A sample of `name` in call `number`.
pub(super) fn sample(number: u64, name: &str, at: i64, jitter: f64) -> StoredSample {
    let sample = Sample {
        jitter,
        packet_loss: 0.5,
        round_trip_time: 80.0,
        bandwidth: None,
        fps: None,
        resolution: None,
        codec: Some("opus".to_owned()),
    };
    let quality = sample.rate();
    StoredSample {
        id: Uuid::from_u128(u128::try_from(at).unwrap()),
        call: call(number),
        participant: participant_id(number, name),
        at: Timestamp(at),
        sample,
        quality,
    }
}

/// Recording `number` of call 1, which has ended.
pub(super) fn recording(number: u128, status: RecordingStatus) -> RecordingRecord {
    RecordingRecord {
        id: Uuid::from_u128(number),
        call: call(1),
        started_at: Timestamp(2_000),
        ended_at: Some(Timestamp(3_000)),
        duration: None,
        file_size: None,
        key: None,
        url: None,
        status,
    }
}

/// As good as it gets.
pub(super) const BEST: Quality = Quality::Excellent;

/// A journal that gives nothing back.
pub(super) fn journal(folder: &Path, options: JournalOptions) -> (Sqlite, Journal<()>) {
    let store = Sqlite::open(folder).unwrap();
    let journal = Journal::open(&store, options, drop).unwrap();
    (store, journal)
}

/// A store with these changes in it, durably.
pub(super) async fn stored(folder: &Path, changes: Vec<Change>) -> (Sqlite, Journal<()>) {
    let (store, journal) = journal(folder, JournalOptions::default());
    let mut last = None;
    for change in changes {
        last = Some(send(&journal, change));
    }
    if let Some(durable) = last {
        durable.await.unwrap();
    }
    (store, journal)
}

/// Gives call `number` to another node.
pub(super) fn release(journal: &Journal<()>, number: u64) -> Durable {
    journal.reserve().unwrap().send(Record::Released(call(number)), ())
}

/// Sends a change, giving back nothing.
pub(super) fn send(journal: &Journal<()>, change: Change) -> Durable {
    journal.reserve().unwrap().send(Record::Change(Box::new(change)), ())
}
