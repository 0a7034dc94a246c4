//! Calls as the app writes them: a start, a join and an end, with about its rows and bytes.

use std::sync::Arc;

use call_service::call::id::{CallId, UserId};
use call_service::call::record::{CallRecord, ParticipantRecord};
use call_service::call::state::{CallType, ConnectionState, EndReason, Role, State};
use call_service::call::time::Timestamp;
use call_service::store::{Change, Record, StoryEvent};
use uuid::Uuid;

/// About what the machine keeps of a call of two.
const SNAPSHOT_BYTES: usize = 1_500;
/// About an event with the whole participant in it.
const EVENT_BYTES: usize = 400;
/// Users that call each other.
const USERS: u64 = 5_000;
/// Some day, in milliseconds.
const BEGAN: i64 = 1_780_000_000_000;

/// What is written at once, and the events that it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A call, two participants, an event.
    Start,
    /// The call, one participant, two events.
    Join,
    /// The call, two participants, an event.
    End,
    /// All of it as it is in the end: a row of each.
    Whole,
}

impl Stage {
    /// Numbers of the first event and of the last.
    pub(crate) fn events(self) -> (u64, u64) {
        match self {
            Self::Start => (1, 1),
            Self::Join => (2, 3),
            Self::End => (4, 4),
            Self::Whole => (1, 4),
        }
    }
}

/// Call `number` at `stage`.
pub(crate) fn change(number: u64, stage: Stage) -> Record {
    let call = CallId(Uuid::from_u64_pair(number, 1));
    let at = Timestamp(BEGAN + i64::try_from(number).unwrap_or(0));
    let (first, last) = stage.events();
    let is_over = matches!(stage, Stage::End | Stage::Whole);
    let mut people = vec![
        participant(call, number % USERS, Role::Initiator, at),
        participant(call, (number + 1) % USERS, Role::Participant, at),
    ];
    let to: Vec<UserId> = people.iter().map(|it| it.user.clone()).collect();
    let initiator = to.first().cloned().expect("two people");
    if stage == Stage::Join {
        people.truncate(1);
    }
    let event = |seq| StoryEvent {
        call,
        seq,
        at,
        name: "call:participant_joined",
        to: to.clone(),
        data: Arc::from(format!("{{\"participant\":\"{}\"}}", "x".repeat(EVENT_BYTES))),
    };
    let record = CallRecord {
        id: call,
        call_type: CallType::Video,
        state: match stage {
            Stage::Start => State::Ringing,
            Stage::Join => State::Connected,
            Stage::End | Stage::Whole => State::Ended,
        },
        initiator,
        chat: None,
        is_group: false,
        max_participants: 8,
        created_at: at,
        updated_at: at,
        started_at: (stage != Stage::Start).then_some(at),
        ended_at: is_over.then_some(at),
        duration: is_over.then_some(2),
        end_reason: is_over.then_some(EndReason::Normal),
        recorded: false,
        recording_url: None,
        epoch: 1,
        seq: last,
    };
    Record::Change(Box::new(Change {
        call: record,
        participants: people,
        story: (first..=last).map(event).collect(),
        live: (!is_over).then(|| "s".repeat(SNAPSHOT_BYTES)),
        recordings: Vec::new(),
        idempotency_key: None,
    }))
}

fn participant(call: CallId, user: u64, role: Role, at: Timestamp) -> ParticipantRecord {
    let (number, _) = call.0.as_u64_pair();
    ParticipantRecord {
        id: Uuid::from_u64_pair(number, u64::from(role == Role::Initiator)),
        call,
        user: UserId::parse(&format!("user-{user}")).expect("a valid id"),
        role,
        connection: ConnectionState::Connected,
        joined_at: Some(at),
        left_at: None,
        duration: None,
        audio: true,
        video: true,
        screen_share: false,
        quality: None,
    }
}
