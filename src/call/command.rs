//! What may be asked of a call, what follows, and what is refused.

use std::sync::Arc;

use uuid::Uuid;

use crate::call::id::{CallId, ChatId, DeviceId, UserId};
use crate::call::model::Limits;
use crate::call::participant::{InRoom, MediaSession, Participant, Sent, Settings};
use crate::call::recording::Recording;
use crate::call::state::{CallType, EndReason, MediaPath, Quality, State};
use crate::call::time::Timestamp;

/// What a call starts from. Ids and who is busy come from outside: the machine makes up nothing.
#[derive(Debug, Clone)]
pub struct Start {
    /// The id of the call to be.
    pub id: CallId,
    /// The ownership it starts in.
    pub epoch: u64,
    /// Audio or video.
    pub call_type: CallType,
    /// What carries the media.
    pub media: MediaPath,
    /// Who starts it.
    pub initiator: UserId,
    /// The starter's name, for the invitation.
    pub initiator_name: Option<Arc<str>>,
    /// The initiator's participant id.
    pub participant: Uuid,
    /// The initiator has a socket.
    pub online: bool,
    /// The initiator's microphone and camera.
    pub settings: Settings,
    /// The chat it belongs to.
    pub chat: Option<ChatId>,
    /// Who is called.
    pub invitees: Vec<Invitee>,
    /// Nobody is rung.
    pub silent: bool,
    /// Time limits and the cap.
    pub limits: Limits,
}

/// One who is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitee {
    /// Who.
    pub user: UserId,
    /// The participant id, where the user is new to the call.
    pub participant: Uuid,
    /// Has joined another live call, so is not rung.
    pub busy: bool,
}

/// Why a user is not rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Has joined another live call.
    Busy,
    /// Rings for too many calls already, or was called too often by this caller.
    RateLimited,
    /// Was removed from this call.
    Removed,
}

/// What may be asked of a call.
#[derive(Debug, Clone)]
pub enum Command {
    /// A device of the user says that it rings.
    Rings {
        /// Whose device.
        user: UserId,
    },
    /// The user answers, joins or joins again.
    Join {
        /// Who.
        user: UserId,
        /// Microphone and camera to begin with.
        settings: Settings,
        /// The device that answered, where it is known.
        device: Option<DeviceId>,
        /// The user has a socket.
        online: bool,
    },
    /// The user says no.
    Decline {
        /// Who.
        user: UserId,
    },
    /// The user hangs up: cancels, ends for all, leaves or declines, by who it is and where the call stands.
    End {
        /// Who.
        user: UserId,
    },
    /// Adds users to the call, or rings them again.
    Invite {
        /// Who invites.
        by: UserId,
        /// Who is called.
        invitees: Vec<Invitee>,
    },
    /// Throws a user out for good.
    Remove {
        /// Who removes.
        by: UserId,
        /// Who has to go.
        user: UserId,
    },
    /// Changes what the user sends.
    Change {
        /// Who.
        user: UserId,
        /// The settings that change.
        settings: Settings,
    },
    /// LiveKit says what the user sends.
    Reflect {
        /// Whose.
        user: UserId,
        /// What is sent now, or not.
        settings: Settings,
    },
    /// The initiator turns off what another participant sends.
    Mute {
        /// Who turns it off.
        by: UserId,
        /// Whose.
        user: UserId,
        /// What goes off.
        off: Sent,
    },
    /// What was to be muted in the room is.
    Muted {
        /// Whose.
        user: UserId,
        /// What.
        off: Sent,
    },
    /// The user's media is up.
    MediaUp {
        /// Whose.
        user: UserId,
        /// The stay in the room, where LiveKit says it; `None`: the client does.
        session: Option<MediaSession>,
    },
    /// LiveKit says that the user's stay in the room is over.
    MediaDown {
        /// Whose.
        user: UserId,
        /// Which stay: one that is not the present one changes nothing.
        sid: Arc<str>,
    },
    /// The user's last socket is gone.
    SocketsGone {
        /// Whose.
        user: UserId,
    },
    /// The user has a socket again.
    SocketBack {
        /// Whose.
        user: UserId,
    },
    /// A quality sample of the user was rated.
    Sampled {
        /// Whose.
        user: UserId,
        /// The rating.
        quality: Quality,
    },
    /// LiveKit was asked who is in the room.
    MediaChecked {
        /// Those who are.
        present: Vec<InRoom>,
        /// When it was asked: what is known of a later moment stands.
        asked: Timestamp,
    },
    /// A recording that the initiator asked for has begun.
    StartRecording {
        /// Who asked for it.
        by: UserId,
        /// What has begun.
        recording: Recording,
    },
    /// The initiator ends the recording.
    StopRecording {
        /// Who ends it.
        by: UserId,
    },
    /// LiveKit says that a recording is over, whoever ended it.
    RecordingOver {
        /// Its id.
        id: Uuid,
        /// Where it can be had, where it can.
        url: Option<Arc<str>>,
    },
    /// Time has passed: whatever is due happens.
    Tick,
    /// The service can't go on with this call.
    Abort,
}

/// What follows from a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// An event for users' devices.
    Notify(Notice),
    /// One who was called is not rung.
    Unavailable(UserId, Unavailable),
    /// The room has to be looked at; the answer comes as [`Command::MediaChecked`].
    CheckMedia,
    /// The recording is noted as begun.
    RecordingStarted(Recording),
    /// The recording is to be stopped, and noted as ended.
    RecordingStopped(Recording),
    /// The call's own facts have changed, and nobody has to be told.
    Noted,
}

/// One event and who gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The event's number in its call.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Whose devices get it.
    pub to: Vec<UserId>,
    /// The one device that does not.
    pub except: Option<DeviceId>,
    /// What happened.
    pub event: Event,
}

/// What happened in a call, as its participants are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `call:incoming`: the receiver is being rung until `expires_at`.
    Incoming {
        /// When it stops ringing.
        expires_at: Timestamp,
        /// Everyone who belongs to the call.
        participants: Vec<UserId>,
    },
    /// `call:ringing`: a device of the user rings.
    Ringing {
        /// Whose.
        user: UserId,
    },
    /// `call:accepted`.
    Accepted {
        /// Who.
        user: UserId,
    },
    /// `call:declined`.
    Declined {
        /// Who.
        user: UserId,
    },
    /// `call:cancelled`: the initiator gave up before an answer.
    Cancelled {
        /// Who.
        user: UserId,
    },
    /// `call:handled_elsewhere`: another device of the same user answered.
    HandledElsewhere {
        /// Who.
        user: UserId,
    },
    /// `call:participant_joined`.
    ParticipantJoined {
        /// The participant as it now is.
        participant: Participant,
    },
    /// `call:participant_left`.
    ParticipantLeft {
        /// Who.
        user: UserId,
        /// Why.
        reason: LeaveReason,
    },
    /// `call:participant_updated`.
    ParticipantUpdated {
        /// The participant as it now is.
        participant: Participant,
    },
    /// `call:state_changed`, between live states; an end is [`Event::Ended`].
    StateChanged {
        /// The new state.
        state: State,
        /// When the call was first connected.
        started_at: Option<Timestamp>,
        /// Everyone, as they now are.
        participants: Vec<Participant>,
    },
    /// `call:quality_changed`.
    QualityChanged {
        /// Whose connection.
        user: UserId,
        /// The new rating.
        quality: Quality,
        /// The rating before.
        previous: Option<Quality>,
    },
    /// `call:ending_soon`: the maximum duration is near.
    EndingSoon {
        /// When the call will end.
        ends_at: Timestamp,
    },
    /// `call:ice_servers`: each receiver gets credentials of its own before those it has end.
    IceServers,
    /// `call:recording_started`.
    RecordingStarted {
        /// Who started it.
        user: UserId,
        /// The recording's id.
        recording: Uuid,
    },
    /// `call:recording_stopped`.
    RecordingStopped {
        /// Who stopped it; `None` where it ended by itself, or with the call.
        user: Option<UserId>,
        /// The recording's id.
        recording: Uuid,
    },
    /// `call:ended`.
    Ended {
        /// Who ended it; `None` when time did.
        user: Option<UserId>,
        /// The final state.
        state: State,
        /// Why.
        reason: EndReason,
        /// Whole seconds it was connected.
        duration: Option<u64>,
    },
}

/// Why a participant is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// Hung up.
    Left,
    /// Was lost and did not come back in time.
    NetworkError,
    /// Was removed by the initiator.
    Removed,
}

impl LeaveReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::NetworkError => "network_error",
            Self::Removed => "removed",
        }
    }
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only those who belong to the call, in the right role, may do that.
    #[error("you may not do this in this call")]
    Forbidden,
    /// Joining takes an invitation.
    #[error("you are not invited to this call")]
    NotInvited,
    /// Removed participants stay out.
    #[error("you were removed from this call")]
    Removed,
    /// The cap on joined and rung participants is reached.
    #[error("the call is full: at most {max} participants")]
    Full {
        /// The cap.
        max: u16,
    },
    /// The user is not in the call right now.
    #[error("you have not joined this call")]
    NotJoined,
    /// The one to be removed is not in the call.
    #[error("userId: this user is not in the call")]
    NoSuchParticipant,
    /// Signaling is between two.
    #[error("targetUserId: this is your own id; expected another participant's")]
    ToOneself,
    /// The initiator can't be removed.
    #[error("userId: the initiator can't be removed; end the call instead")]
    InitiatorStays,
    /// One recording at a time.
    #[error("this call is being recorded already")]
    Recording,
    /// There is nothing to stop.
    #[error("this call is not being recorded")]
    NotRecording,
    /// The call is over.
    #[error("the call is over")]
    Over,
}
