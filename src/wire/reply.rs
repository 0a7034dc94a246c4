//! The facts of a call as clients see them.

use serde::Serialize;

use crate::call::command::Unavailable;
use crate::call::id::{CallId, ChatId, UserId};
use crate::call::record::{CallFacts, CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::{EndReason, Quality, Role};
use crate::wire::time::Iso;

/// A call object (contract, section 4).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallView<'a> {
    id: CallId,
    room_id: String,
    r#type: &'static str,
    state: &'static str,
    initiator_id: &'a str,
    chat_id: Option<&'a str>,
    is_group: bool,
    max_participants: u16,
    started_at: Option<Iso>,
    ended_at: Option<Iso>,
    duration: Option<u64>,
    end_reason: Option<&'static str>,
    recording_enabled: bool,
    recording_url: Option<&'a str>,
    created_at: Iso,
    updated_at: Iso,
    epoch: u64,
    seq: u64,
}

impl<'a> From<&'a CallRecord> for CallView<'a> {
    fn from(it: &'a CallRecord) -> Self {
        Self {
            id: it.id,
            room_id: it.id.room(),
            r#type: it.call_type.as_str(),
            state: it.state.as_str(),
            initiator_id: it.initiator.as_str(),
            chat_id: it.chat.as_ref().map(ChatId::as_str),
            is_group: it.is_group,
            max_participants: it.max_participants,
            started_at: it.started_at.map(Iso),
            ended_at: it.ended_at.map(Iso),
            duration: it.duration,
            end_reason: it.end_reason.map(EndReason::as_str),
            recording_enabled: it.recorded,
            recording_url: it.recording_url.as_deref(),
            created_at: Iso(it.created_at),
            updated_at: Iso(it.updated_at),
            epoch: it.epoch,
            seq: it.seq,
        }
    }
}

/// A recording, with its state.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingView<'a> {
    id: uuid::Uuid,
    call_id: CallId,
    started_at: Iso,
    ended_at: Option<Iso>,
    duration: Option<u64>,
    file_size: Option<u64>,
    s3_key: Option<&'a str>,
    url: Option<&'a str>,
    status: &'static str,
}

impl<'a> From<&'a RecordingRecord> for RecordingView<'a> {
    fn from(it: &'a RecordingRecord) -> Self {
        Self {
            id: it.id,
            call_id: it.call,
            started_at: Iso(it.started_at),
            ended_at: it.ended_at.map(Iso),
            duration: it.duration,
            file_size: it.file_size,
            s3_key: it.key.as_deref(),
            url: it.url.as_deref(),
            status: it.status.as_str(),
        }
    }
}

/// A participant object (contract, section 4).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantView<'a> {
    id: uuid::Uuid,
    call_id: CallId,
    user_id: &'a str,
    role: &'static str,
    joined_at: Option<Iso>,
    left_at: Option<Iso>,
    duration: Option<u64>,
    connection_state: &'static str,
    audio_enabled: bool,
    video_enabled: bool,
    screen_share_enabled: bool,
    connection_quality: Option<&'static str>,
}

impl<'a> From<&'a ParticipantRecord> for ParticipantView<'a> {
    fn from(it: &'a ParticipantRecord) -> Self {
        Self {
            id: it.id,
            call_id: it.call,
            user_id: it.user.as_str(),
            role: it.role.as_str(),
            joined_at: it.joined_at.map(Iso),
            left_at: it.left_at.map(Iso),
            duration: it.duration,
            connection_state: it.connection.as_str(),
            audio_enabled: it.audio,
            video_enabled: it.video,
            screen_share_enabled: it.screen_share,
            connection_quality: it.quality.map(Quality::as_str),
        }
    }
}

/// `{call, participants}`.
#[derive(Debug, Serialize)]
pub struct CallDetails<'a> {
    call: CallView<'a>,
    participants: Vec<ParticipantView<'a>>,
}

impl<'a> From<&'a CallFacts> for CallDetails<'a> {
    fn from(facts: &'a CallFacts) -> Self {
        let participants = facts.participants.iter().map(ParticipantView::from).collect();
        Self { call: CallView::from(&facts.call), participants }
    }
}

/// A call in a list: its participants and its initiator inside.
#[derive(Debug, Serialize)]
pub struct CallEntry<'a> {
    #[serde(flatten)]
    call: CallView<'a>,
    initiator: Option<ParticipantView<'a>>,
    participants: Vec<ParticipantView<'a>>,
}

impl<'a> From<&'a CallFacts> for CallEntry<'a> {
    fn from(facts: &'a CallFacts) -> Self {
        let initiator = facts.participants.iter().find(|it| it.role == Role::Initiator);
        Self {
            call: CallView::from(&facts.call),
            initiator: initiator.map(ParticipantView::from),
            participants: facts.participants.iter().map(ParticipantView::from).collect(),
        }
    }
}

/// One who was called and is not rung.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnavailableView {
    user_id: String,
    why: &'static str,
}

impl UnavailableView {
    /// Words for `why`: busy, `rate_limited`, removed.
    pub fn new(user: &UserId, why: Unavailable) -> Self {
        let why = match why {
            Unavailable::Busy => "busy",
            Unavailable::RateLimited => "rate_limited",
            Unavailable::Removed => "removed",
        };
        Self { user_id: user.as_str().to_owned(), why }
    }
}
