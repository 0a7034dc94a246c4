//! A call: what is known of it at one moment.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::participant::Participant;
use crate::call::recording::Recording;
use crate::call::state::{CallType, EndReason, MediaPath, State};
use crate::call::time::Timestamp;

/// Users one call may ever have had, those who left, declined or were removed included: bounds what
/// endless invitations can do to one call, and fits a set of participants into 64 bits.
pub const PARTICIPANTS_EVER_MAX: usize = 64;

/// How long before the maximum duration everyone is warned (contract, section 5).
pub const ENDING_SOON: Duration = Duration::from_mins(1);

/// The time limits of one call, fixed when it starts: a change of the settings concerns new calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How long one invitee is rung.
    pub ringing: Duration,
    /// How long media may take to come up after the first answer.
    pub connecting: Duration,
    /// How long a lost participant is expected back.
    pub reconnecting: Duration,
    /// How long one participant may stay alone in a group call.
    pub alone: Duration,
    /// How long a call may last, from the moment it is connected.
    pub duration: Duration,
    /// How many may be joined or rung at once.
    pub participants: u16,
    /// How often participants get new credentials for TURN; `None` where those they have do not end.
    #[serde(default)]
    pub ice_renewal: Option<Duration>,
}

impl Limits {
    /// Those of a service whose settings say nothing else (the README's settings).
    pub const DEFAULT: Self = Self {
        ringing: Duration::from_mins(1),
        connecting: Duration::from_secs(30),
        reconnecting: Duration::from_secs(30),
        alone: Duration::from_mins(1),
        duration: Duration::from_hours(4),
        participants: 8,
        ice_renewal: None,
    };
}

/// A call. Changed by [`Call::apply`](crate::call::machine) only.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The call's id.
    pub id: CallId,
    /// Which ownership of the call wrote this; grows with each takeover by another node.
    pub epoch: u64,
    /// The number of the last event of this call.
    pub seq: u64,
    /// What `seq` was when the call last came to another node; 0 where it has stayed with its first.
    #[serde(default)]
    pub taken_at: u64,
    /// Audio or video.
    pub call_type: CallType,
    /// Where the call stands.
    pub state: State,
    /// Who started it.
    pub initiator: UserId,
    /// The starter's name, for the invitation.
    pub initiator_name: Option<Arc<str>>,
    /// The chat it belongs to.
    pub chat: Option<ChatId>,
    /// More than two, or once more than two: stays so.
    pub is_group: bool,
    /// Nobody is rung: invitees may join by themselves.
    pub silent: bool,
    /// What carries the media.
    pub media: MediaPath,
    /// The time limits.
    pub limits: Limits,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When media was first up for two.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Why it was over.
    pub end_reason: Option<EndReason>,
    /// Everyone who ever belonged to it, the initiator first.
    pub participants: Vec<Participant>,
    /// Media has to be up by then, or LiveKit is asked.
    pub connect_deadline: Option<Timestamp>,
    /// The one who is alone has company by then, or the call ends.
    pub alone_deadline: Option<Timestamp>,
    /// Everyone has been told that the call ends soon.
    pub warned: bool,
    /// When participants get new credentials for TURN.
    #[serde(default)]
    pub ice_deadline: Option<Timestamp>,
    /// The recording that goes on.
    #[serde(default)]
    pub recording: Option<Recording>,
    /// Whether it was ever recorded.
    #[serde(default)]
    pub recorded: bool,
    /// Where the last finished recording can be had.
    #[serde(default)]
    pub recording_url: Option<Arc<str>>,
}

impl Call {
    /// The participant that `user` is, if any.
    pub fn participant(&self, user: &UserId) -> Option<&Participant> {
        self.participants.iter().find(|it| it.user == *user)
    }

    /// Whether `user` is in the call right now.
    pub fn is_joined(&self, user: &UserId) -> bool {
        self.participant(user).is_some_and(Participant::is_joined)
    }

    /// Whether anyone but the initiator has ever joined.
    pub fn is_answered(&self) -> bool {
        self.answered_at().is_some()
    }

    /// When anyone but the initiator first joined.
    pub fn answered_at(&self) -> Option<Timestamp> {
        let others = self.participants.iter().filter(|it| it.user != self.initiator);
        others.filter_map(|it| it.joined_at).min()
    }

    /// How many are in the call right now.
    pub fn joined(&self) -> usize {
        self.participants.iter().filter(|it| it.is_joined()).count()
    }

    /// Whole seconds it was connected; `None` for a call that never was, or is not over.
    pub fn duration(&self) -> Option<u64> {
        Some(self.ended_at?.since(self.started_at?).as_secs())
    }

    /// Until when all durations are what they are at `now`, as long as nothing happens.
    pub fn times_hold_until(&self, now: Timestamp) -> Timestamp {
        let grow = self.participants.iter().filter_map(|it| it.duration_grows_at(now));
        grow.min().unwrap_or(Timestamp(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Call;

    impl Call {
        /// The call as it is read back after a restart.
        pub(in crate::call) fn reread(&self) -> Self {
            let row = serde_json::to_string(self).unwrap();
            serde_json::from_str(&row).unwrap()
        }
    }
}
