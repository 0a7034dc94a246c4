//! What happened in a call, as the JSON of a Socket.IO event.

use serde::Serialize;

use crate::call::command::{Event, Notice};
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::Quality;
use crate::call::time::Timestamp;
use crate::wire::invitation::Invitation;
use crate::wire::reply::ParticipantView;
use crate::wire::time::Iso;

/// An event ready to be sent and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The Socket.IO event's name.
    pub name: &'static str,
    /// Its one argument, a JSON object.
    pub data: String,
}

/// What every event carries (contract, section 5), with its own fields beside.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<T> {
    call_id: CallId,
    seq: u64,
    timestamp: Iso,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfUser<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfParticipant<'a> {
    user_id: &'a str,
    participant: ParticipantView<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Left<'a> {
    user_id: &'a str,
    reason: &'static str,
}

#[derive(Serialize)]
struct Incoming<'a> {
    invitation: Invitation<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateChanged<'a> {
    state: &'static str,
    started_at: Option<Iso>,
    participants: Vec<ParticipantView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QualityChanged<'a> {
    user_id: &'a str,
    quality: &'static str,
    previous: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndingSoon {
    ends_at: Iso,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'a> {
    user_id: Option<&'a str>,
    state: &'static str,
    reason: &'static str,
    duration: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfRecording<'a> {
    user_id: Option<&'a str>,
    recording_id: uuid::Uuid,
}

/// Each receiver gets credentials of its own: they are put in where the event leaves.
#[derive(Serialize)]
struct Nothing {}

struct Encoder<'a> {
    call: &'a Call,
    seq: u64,
    at: Timestamp,
}

impl Encoder<'_> {
    fn finish(&self, name: &'static str, body: impl Serialize) -> EncodedEvent {
        let envelope =
            Envelope { call_id: self.call.id, seq: self.seq, timestamp: Iso(self.at), body };
        // Structs of strings and numbers always serialise.
        EncodedEvent { name, data: serde_json::to_string(&envelope).unwrap_or_default() }
    }

    fn of_user(&self, name: &'static str, user: &UserId) -> EncodedEvent {
        self.finish(name, OfUser { user_id: user.as_str() })
    }

    fn of_participant(&self, name: &'static str, participant: &Participant) -> EncodedEvent {
        let record = participant.record(self.call.id, self.at);
        let user_id = participant.user.as_str();
        self.finish(name, OfParticipant { user_id, participant: ParticipantView::from(&record) })
    }

    fn incoming(&self, expires_at: Timestamp, participants: &[UserId]) -> EncodedEvent {
        let invitation = Invitation::new(self.call, expires_at, participants);
        self.finish("call:incoming", Incoming { invitation })
    }

    fn state_changed(
        &self,
        state: &'static str,
        started_at: Option<Timestamp>,
        participants: &[Participant],
    ) -> EncodedEvent {
        let records: Vec<_> =
            participants.iter().map(|it| it.record(self.call.id, self.at)).collect();
        let participants = records.iter().map(ParticipantView::from).collect();
        let started_at = started_at.map(Iso);
        self.finish("call:state_changed", StateChanged { state, started_at, participants })
    }
}

/// Encodes what happened in `call`.
pub fn encode(call: &Call, notice: &Notice) -> EncodedEvent {
    let it = Encoder { call, seq: notice.seq, at: notice.at };
    match &notice.event {
        Event::Incoming { expires_at, participants } => it.incoming(*expires_at, participants),
        Event::Ringing { user } => it.of_user("call:ringing", user),
        Event::Accepted { user } => it.of_user("call:accepted", user),
        Event::Declined { user } => it.of_user("call:declined", user),
        Event::Cancelled { user } => it.of_user("call:cancelled", user),
        Event::HandledElsewhere { user } => it.of_user("call:handled_elsewhere", user),
        Event::ParticipantJoined { participant } => {
            it.of_participant("call:participant_joined", participant)
        }
        Event::ParticipantLeft { user, reason } => it.finish(
            "call:participant_left",
            Left { user_id: user.as_str(), reason: reason.as_str() },
        ),
        Event::ParticipantUpdated { participant } => {
            it.of_participant("call:participant_updated", participant)
        }
        Event::StateChanged { state, started_at, participants } => {
            it.state_changed(state.as_str(), *started_at, participants)
        }
        Event::QualityChanged { user, quality, previous } => it.finish(
            "call:quality_changed",
            QualityChanged {
                user_id: user.as_str(),
                quality: quality.as_str(),
                previous: previous.map(Quality::as_str),
            },
        ),
        Event::EndingSoon { ends_at } => {
            it.finish("call:ending_soon", EndingSoon { ends_at: Iso(*ends_at) })
        }
        Event::IceServers => it.finish("call:ice_servers", Nothing {}),
        Event::RecordingStarted { user, recording } => it.finish(
            "call:recording_started",
            OfRecording { user_id: Some(user.as_str()), recording_id: *recording },
        ),
        Event::RecordingStopped { user, recording } => it.finish(
            "call:recording_stopped",
            OfRecording { user_id: user.as_ref().map(UserId::as_str), recording_id: *recording },
        ),
        Event::Ended { user, state, reason, duration } => it.finish(
            "call:ended",
            Ended {
                user_id: user.as_ref().map(UserId::as_str),
                state: state.as_str(),
                reason: reason.as_str(),
                duration: *duration,
            },
        ),
    }
}
