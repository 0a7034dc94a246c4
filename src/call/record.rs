//! The facts of a call that outlive it: what the tables keep and what REST answers show.

use std::sync::Arc;

use uuid::Uuid;

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::recording::Recording;
use crate::call::state::{
    CallType, ConnectionState, EndReason, Quality, RecordingStatus, Role, State,
};
use crate::call::time::Timestamp;

/// A row of `calls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The call's id.
    pub id: CallId,
    /// Audio or video.
    pub call_type: CallType,
    /// Where the call stands.
    pub state: State,
    /// Who started it.
    pub initiator: UserId,
    /// The chat it belongs to.
    pub chat: Option<ChatId>,
    /// More than two, or once more than two.
    pub is_group: bool,
    /// The cap on joined and rung participants.
    pub max_participants: u16,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When media was first up for two.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Whole seconds connected.
    pub duration: Option<u64>,
    /// Why it was over.
    pub end_reason: Option<EndReason>,
    /// Whether it is being recorded; of a call that is over, whether it ever was.
    pub recorded: bool,
    /// Where the last finished recording can be had.
    pub recording_url: Option<Arc<str>>,
    /// Ownership and number of the last event: a row never goes back to an older pair.
    pub epoch: u64,
    /// See `epoch`.
    pub seq: u64,
}

/// A row of `call_participants`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantRecord {
    /// The participant's own id.
    pub id: Uuid,
    /// The call.
    pub call: CallId,
    /// Who.
    pub user: UserId,
    /// Started the call, or was invited.
    pub role: Role,
    /// How the participant stands, or stood at the end.
    pub connection: ConnectionState,
    /// When the user first joined.
    pub joined_at: Option<Timestamp>,
    /// When the user last left.
    pub left_at: Option<Timestamp>,
    /// Whole seconds in the call.
    pub duration: Option<u64>,
    /// The microphone is on.
    pub audio: bool,
    /// The camera is on.
    pub video: bool,
    /// A screen is shared.
    pub screen_share: bool,
    /// The last rating.
    pub quality: Option<Quality>,
}

/// A row of `call_recordings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRecord {
    /// The recording's own id.
    pub id: Uuid,
    /// The call.
    pub call: CallId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whole seconds of it.
    pub duration: Option<u64>,
    /// Bytes of its file.
    pub file_size: Option<u64>,
    /// Where its file is in the bucket or folder.
    pub key: Option<Arc<str>>,
    /// Where it can be had.
    pub url: Option<Arc<str>>,
    /// What has become of it.
    pub status: RecordingStatus,
}

impl Recording {
    /// The facts of this recording of `call`: it goes on, or ended at `ended_at`.
    pub fn record(&self, call: CallId, ended_at: Option<Timestamp>) -> RecordingRecord {
        let over = ended_at.is_some();
        RecordingRecord {
            id: self.id,
            call,
            started_at: self.started_at,
            ended_at,
            duration: ended_at.map(|it| it.since(self.started_at).as_secs()),
            file_size: None,
            key: Some(Arc::clone(&self.key)),
            url: None,
            status: if over { RecordingStatus::Processing } else { RecordingStatus::Recording },
        }
    }
}

/// A call and everyone in it, taken out of a live call or read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts {
    /// The call.
    pub call: CallRecord,
    /// Everyone who ever belonged to it.
    pub participants: Vec<ParticipantRecord>,
}

impl CallFacts {
    /// The facts of a live call at `now`.
    pub fn of(call: &Call, now: Timestamp) -> Self {
        let participants = call.participants.iter().map(|it| it.record(call.id, now)).collect();
        Self { call: call.record(), participants }
    }

    /// The participant that `user` is, in whatever state.
    pub fn participant(&self, user: &UserId) -> Option<&ParticipantRecord> {
        self.participants.iter().find(|it| it.user == *user)
    }
}

impl Call {
    /// The facts of this call.
    pub fn record(&self) -> CallRecord {
        CallRecord {
            id: self.id,
            call_type: self.call_type,
            state: self.state,
            initiator: self.initiator.clone(),
            chat: self.chat.clone(),
            is_group: self.is_group,
            max_participants: self.limits.participants,
            created_at: self.created_at,
            updated_at: self.updated_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            duration: self.duration(),
            end_reason: self.end_reason,
            recorded: if self.state.is_terminal() {
                self.recorded
            } else {
                self.recording.is_some()
            },
            recording_url: self.recording_url.clone(),
            epoch: self.epoch,
            seq: self.seq,
        }
    }
}

impl Participant {
    /// The facts of this participant in `call`.
    pub fn record(&self, call: CallId, now: Timestamp) -> ParticipantRecord {
        ParticipantRecord {
            id: self.id,
            call,
            user: self.user.clone(),
            role: self.role,
            connection: self.connection,
            joined_at: self.joined_at,
            left_at: self.left_at,
            duration: self.duration(now),
            audio: self.audio,
            video: self.video,
            screen_share: self.screen_share,
            quality: self.quality,
        }
    }
}
