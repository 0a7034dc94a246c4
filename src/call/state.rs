//! The words of a call's life: its states, why it ended, how each participant stands.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire and in the tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value that `text` names, if any.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// Where a call stands (contract, section 5).
    State {
        /// Made, nobody rung yet: the moment inside `start`.
        Initiating = "initiating",
        /// Waiting for the first answer.
        Ringing = "ringing",
        /// Somebody answered; media is not up for two yet.
        Connecting = "connecting",
        /// Media is up for two.
        Connected = "connected",
        /// Was connected; fewer than two are right now.
        Reconnecting = "reconnecting",
        /// Over after it had been answered.
        Ended = "ended",
        /// Over because media never came up, or the service could not go on.
        Failed = "failed",
        /// Over because everybody called was in another call.
        Busy = "busy",
        /// Over because everybody called said no.
        Declined = "declined",
        /// Over because nobody answered in time.
        Missed = "missed",
        /// Over because the caller gave up or was lost before an answer.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether the call is over, for good.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Initiating
            | Self::Ringing
            | Self::Connecting
            | Self::Connected
            | Self::Reconnecting => false,
            Self::Ended
            | Self::Failed
            | Self::Busy
            | Self::Declined
            | Self::Missed
            | Self::Cancelled => true,
        }
    }

    /// Whether a call may go from this state to `next` in one step.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Initiating => matches!(next, Self::Ringing | Self::Busy),
            Self::Ringing => next == Self::Connecting || next.is_terminal(),
            Self::Connecting | Self::Reconnecting => next == Self::Connected || next.is_terminal(),
            Self::Connected => next == Self::Reconnecting || next.is_terminal(),
            Self::Ended
            | Self::Failed
            | Self::Busy
            | Self::Declined
            | Self::Missed
            | Self::Cancelled => false,
        }
    }
}

words! {
    /// Why a call ended, as the service derives it; a client's reason is only a hint.
    EndReason {
        /// Hung up.
        Normal = "normal",
        /// Media or the maximum duration ran out of time.
        Timeout = "timeout",
        /// Everybody called said no.
        Declined = "declined",
        /// Everybody called was in another call.
        Busy = "busy",
        /// The service could not go on.
        Failed = "failed",
        /// The caller gave up.
        Cancelled = "cancelled",
        /// A participant was lost and did not come back in time.
        NetworkError = "network_error",
        /// Nobody answered.
        NoAnswer = "no_answer",
    }
}

words! {
    /// How one participant stands towards the call.
    ConnectionState {
        /// Asked to join; no device has said that it rings.
        Invited = "invited",
        /// At least one device rings.
        Ringing = "ringing",
        /// Joined; media is not up yet.
        Connecting = "connecting",
        /// Joined, with media.
        Connected = "connected",
        /// Joined, lost, expected back.
        Reconnecting = "reconnecting",
        /// Joined once and gone; may join again.
        Left = "left",
        /// Said no; may still join.
        Declined = "declined",
        /// Did not answer in time; may still join.
        Missed = "missed",
        /// Was in another call when it would have been rung.
        Busy = "busy",
        /// Removed by the initiator; may not join again.
        Removed = "removed",
    }
}

words! {
    /// Audio only, or with video.
    CallType {
        /// Microphones only.
        Audio = "audio",
        /// Microphones and cameras.
        Video = "video",
    }
}

words! {
    /// Who a participant is to the call.
    Role {
        /// Started the call; ends it for all.
        Initiator = "initiator",
        /// Was invited.
        Participant = "participant",
    }
}

words! {
    /// What carries the media of a call.
    MediaPath {
        /// Peer to peer: media counts as up as soon as one has joined.
        Peer = "peer",
        /// A LiveKit room: media is up when LiveKit, or the client, says so.
        Livekit = "livekit",
    }
}

words! {
    /// What has become of a recording.
    RecordingStatus {
        /// It goes on.
        Recording = "recording",
        /// It is over, and its file is being made ready.
        Processing = "processing",
        /// The file is where it belongs.
        Completed = "completed",
        /// There is no file.
        Failed = "failed",
    }
}

words! {
    /// How good one participant's connection is.
    Quality {
        /// Jitter < 20 ms, loss < 1 %, round trip < 100 ms.
        Excellent = "excellent",
        /// Jitter < 40 ms, loss < 3 %, round trip < 200 ms.
        Good = "good",
        /// Jitter < 60 ms, loss < 5 %, round trip < 300 ms.
        Fair = "fair",
        /// Anything worse.
        Poor = "poor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_terminal_state() {
        for &from in State::ALL.iter().filter(|it| it.is_terminal()) {
            assert!(State::ALL.iter().all(|&to| !from.may_become(to)), "{from:?}");
        }
    }

    #[test]
    fn every_live_state_can_end() {
        for &from in State::ALL.iter().filter(|it| !it.is_terminal()) {
            assert!(
                State::ALL.iter().any(|&to| to.is_terminal() && from.may_become(to)),
                "{from:?}"
            );
        }
    }

    #[test]
    fn words_read_back() {
        for &state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("Ringing"), None);
    }
}
