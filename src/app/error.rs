//! Why the service did not do what it was asked, as three faces: the code and the public sentence for
//! the client, the cause for the log.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::cluster::errand::Failed;
use crate::auth::Unauthorized;
use crate::bus::error::BusError;
use crate::call::command::Refusal;
use crate::call::id::CallId;
use crate::call::record::CallFacts;
use crate::limits::RateLimited;
use crate::media::error::MediaError;
use crate::store::error::{Kind, StoreError};
use crate::wire::fields::Malformed;
use crate::wire::reply::CallView;

/// The codes of the contract, section 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request breaks a rule; the message names the field.
    InvalidRequest,
    /// No token, or none that holds.
    Unauthorized,
    /// Not allowed to this user in this call.
    Forbidden,
    /// Joining takes an invitation.
    NotInvited,
    /// Removed participants stay out.
    Removed,
    /// No such call, or no such path.
    NotFound,
    /// The path is known with other methods.
    MethodNotAllowed,
    /// The user has joined another live call.
    AlreadyInCall,
    /// The one called has joined another live call.
    Busy,
    /// The cap is reached.
    CallFull,
    /// Not in the call right now.
    NotJoined,
    /// The call is over.
    CallOver,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// Too much in too short a time.
    RateLimited,
    /// A fault of the service.
    Internal,
    /// The call is not in a state for that.
    Conflict,
    /// Recording takes a media server.
    NoMediaServer,
    /// The media server can't do it right now.
    MediaUnavailable,
    /// Nothing can be recorded right now.
    RecordingUnavailable,
    /// The service is going down.
    Draining,
    /// The disk of the journal is full.
    StorageFull,
    /// The store can't answer right now.
    HistoryUnavailable,
    /// The other nodes can't be asked right now.
    ClusterUnavailable,
}

impl Code {
    /// Every code, in the order above.
    pub const ALL: &'static [Self] = &[
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotInvited,
        Self::Removed,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::AlreadyInCall,
        Self::Busy,
        Self::CallFull,
        Self::NotJoined,
        Self::CallOver,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::Internal,
        Self::Conflict,
        Self::NoMediaServer,
        Self::MediaUnavailable,
        Self::RecordingUnavailable,
        Self::Draining,
        Self::StorageFull,
        Self::HistoryUnavailable,
        Self::ClusterUnavailable,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotInvited => "not_invited",
            Self::Removed => "removed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::AlreadyInCall => "already_in_call",
            Self::Busy => "busy",
            Self::CallFull => "call_full",
            Self::NotJoined => "not_joined",
            Self::CallOver => "call_over",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Conflict => "conflict",
            Self::NoMediaServer => "no_media_server",
            Self::MediaUnavailable => "media_unavailable",
            Self::RecordingUnavailable => "recording_unavailable",
            Self::Draining => "draining",
            Self::StorageFull => "storage_full",
            Self::HistoryUnavailable => "history_unavailable",
            Self::ClusterUnavailable => "cluster_unavailable",
        }
    }

    /// The code that `text` names, if any.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }
}

/// Why the service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The request breaks a rule.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No token, or none that holds.
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// The call says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such call.
    #[error("there is no such call")]
    NoSuchCall,
    /// The user has joined another live call.
    #[error("you are in another call")]
    AlreadyInCall(CallId),
    /// The one called is in another call; the call that ended so is in both histories.
    #[error("the user is in another call")]
    Busy(Box<CallFacts>),
    /// Too much in too short a time.
    #[error(transparent)]
    RateLimited(#[from] RateLimited),
    /// Recording takes a media server, and none is configured.
    #[error("recording needs a media server, and none is configured")]
    NoMediaServer,
    /// The media server can't do it right now.
    #[error("the media server can't be reached right now; try again")]
    Media(#[from] MediaError),
    /// Nothing can be recorded right now.
    #[error("recording is not available right now")]
    RecordingUnavailable,
    /// The service is going down.
    #[error("this server is going down; try again")]
    Draining,
    /// A fault of the service itself; the log says more.
    #[error("internal error")]
    Internal,
    /// The store failed.
    #[error("the store can't do this right now")]
    Store(#[from] StoreError),
    /// The other nodes can't be asked.
    #[error("the other servers can't be reached right now; try again")]
    Bus(#[from] BusError),
    /// Another node did not do what it was asked.
    #[error("{}", .0.message)]
    Failed(Box<Failed>),
    /// The call has another owner by now: it is to be asked.
    #[error("the call has moved to another server; try again")]
    Moved,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OtherCall {
    call_id: CallId,
}

#[derive(Serialize)]
struct BusyCall<'a> {
    call: CallView<'a>,
}

impl AppError {
    /// What went wrong, in one of the contract's words.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::InvalidRequest,
            Self::Unauthorized(_) => Code::Unauthorized,
            Self::Refused(refusal) => code_of(*refusal),
            Self::NoSuchCall => Code::NotFound,
            Self::AlreadyInCall(_) => Code::AlreadyInCall,
            Self::Busy(_) => Code::Busy,
            Self::RateLimited(_) => Code::RateLimited,
            Self::NoMediaServer => Code::NoMediaServer,
            Self::Media(_) => Code::MediaUnavailable,
            Self::RecordingUnavailable => Code::RecordingUnavailable,
            Self::Draining => Code::Draining,
            Self::Internal => Code::Internal,
            Self::Store(error) if error.kind == Kind::Full => Code::StorageFull,
            Self::Store(error) if error.kind == Kind::Closed => Code::Draining,
            Self::Store(_) => Code::HistoryUnavailable,
            Self::Bus(_) | Self::Moved => Code::ClusterUnavailable,
            Self::Failed(failed) => failed.code,
        }
    }

    /// The sentence for the client: names the field where there is one, and no cause.
    pub fn public_message(&self) -> String {
        self.to_string()
    }

    /// Logs the cause of what the client is only told in general. A full disk and the end of the
    /// service have been logged where they were found, once and not for every request.
    pub fn log(&self) {
        if let Self::Store(error) = self
            && !matches!(error.kind, Kind::Full | Kind::Closed)
        {
            let error: &(dyn std::error::Error + 'static) = error;
            tracing::warn!(error, "the store failed a request");
        }
        if let Self::Bus(error) = self {
            tracing::debug!(%error, cause = ?error.cause, "the bus failed a request");
        }
        if let Self::Media(error) = self {
            tracing::debug!(error = error.in_full(), "LiveKit failed a request");
        }
    }

    /// What belongs beside the code.
    pub fn data(&self) -> Option<Box<RawValue>> {
        match self {
            Self::AlreadyInCall(call_id) => to_raw_value(&OtherCall { call_id: *call_id }).ok(),
            Self::Busy(facts) => to_raw_value(&BusyCall { call: CallView::from(&facts.call) }).ok(),
            Self::Failed(failed) => failed.data.clone(),
            Self::Malformed(_)
            | Self::Unauthorized(_)
            | Self::Refused(_)
            | Self::NoSuchCall
            | Self::RateLimited(_)
            | Self::NoMediaServer
            | Self::Media(_)
            | Self::RecordingUnavailable
            | Self::Draining
            | Self::Internal
            | Self::Store(_)
            | Self::Bus(_)
            | Self::Moved => None,
        }
    }

    /// When it is worth trying again.
    pub fn retry_after(&self) -> Option<Duration> {
        /// Long enough for a disk or a deployment to move on, short enough for a person to wait.
        const SOON: Duration = Duration::from_secs(2);
        match self {
            Self::RateLimited(limited) => Some(limited.retry_after),
            Self::Draining
            | Self::Store(_)
            | Self::Media(_)
            | Self::RecordingUnavailable
            | Self::Bus(_)
            | Self::Moved => Some(SOON),
            Self::Failed(failed) => failed.retry_after_ms.map(Duration::from_millis),
            Self::Malformed(_)
            | Self::Unauthorized(_)
            | Self::Refused(_)
            | Self::NoSuchCall
            | Self::AlreadyInCall(_)
            | Self::Busy(_)
            | Self::Internal
            | Self::NoMediaServer => None,
        }
    }
}

fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Forbidden => Code::Forbidden,
        Refusal::NotInvited => Code::NotInvited,
        Refusal::Removed => Code::Removed,
        Refusal::Full { .. } => Code::CallFull,
        Refusal::NotJoined => Code::NotJoined,
        Refusal::NoSuchParticipant | Refusal::InitiatorStays | Refusal::ToOneself => {
            Code::InvalidRequest
        }
        Refusal::Recording | Refusal::NotRecording => Code::Conflict,
        Refusal::Over => Code::CallOver,
    }
}
