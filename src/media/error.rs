//! Why LiveKit did not do what it was asked.

use std::error::Error;

use livekit_api::services::{ServerError, ServiceError};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It does not answer, or not as LiveKit does, or says that it can't right now.
    Away,
    /// All our places before it are taken.
    Busy,
    /// It knows no such room, participant or recording.
    NotFound,
    /// It understands, and says no.
    Refused,
}

impl Kind {
    /// A label for figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Busy => "busy",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
        }
    }
}

/// Why LiveKit did not do what it was asked. What it answers may hold a token, so no body of an answer
/// is ever kept.
#[derive(Debug, thiserror::Error)]
#[error("{during}: {}", .kind.as_str())]
pub struct MediaError {
    /// What was asked.
    pub during: &'static str,
    /// What kind of trouble it is.
    pub kind: Kind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl MediaError {
    /// Without a cause below.
    pub fn new(during: &'static str, kind: Kind) -> Self {
        Self { during, kind, source: None }
    }

    /// With a cause below.
    pub fn caused(
        during: &'static str,
        kind: Kind,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { during, kind, source: Some(Box::new(cause)) }
    }

    pub(super) fn service(during: &'static str, cause: ServiceError) -> Self {
        let kind = match &cause {
            ServiceError::Twirp(ServerError::Twirp(said)) => match said.code.as_str() {
                "not_found" => Kind::NotFound,
                "unavailable" | "internal" | "unknown" | "deadline_exceeded" | "canceled"
                | "resource_exhausted" | "aborted" | "dataloss" => Kind::Away,
                _ => Kind::Refused,
            },
            ServiceError::Twirp(
                ServerError::Request(_) | ServerError::Url(_) | ServerError::Prost(_),
            ) => Kind::Away,
            ServiceError::Env(_) | ServiceError::AccessToken(_) => Kind::Refused,
        };
        Self::caused(during, kind, cause)
    }

    /// An answer that is none of LiveKit's: a wrong key gets one, and so does a wrong address.
    fn is_strange(&self) -> bool {
        let cause = self.source.as_ref().and_then(|it| it.downcast_ref::<ServiceError>());
        matches!(cause, Some(ServiceError::Twirp(ServerError::Request(it))) if it.is_decode())
    }

    /// This and its causes in one line.
    pub fn in_full(&self) -> String {
        let mut line = self.to_string();
        if self.is_strange() {
            line.push_str(
                ": the answer is not LiveKit's; are the address, the key and the secret right?",
            );
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            // Some libraries say their causes themselves.
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line
    }
}
