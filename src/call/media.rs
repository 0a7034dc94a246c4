//! What participants send, whether they are reachable, and how good their connection is.

use crate::call::command::{Event, Refusal};
use crate::call::id::UserId;
use crate::call::machine::Step;
use crate::call::participant::{Participant, Settings, Sockets};
use crate::call::state::{ConnectionState, EndReason, MediaPath, Quality, State};

impl Step<'_> {
    /// A participant changes what it sends.
    pub(super) fn change(&mut self, user: &UserId, settings: Settings) -> Result<(), Refusal> {
        let mut wanted = self.live_member(user)?.clone();
        if !wanted.is_joined() {
            return Err(Refusal::Forbidden);
        }
        if wanted.set(settings)
            && let Some(participant) = self.edit(user, |it| *it = wanted)
        {
            self.tell_updated(participant);
        }
        Ok(())
    }

    /// LiveKit, or the client, says that the user's media is up.
    pub(super) fn media_up(&mut self, user: &UserId) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if !member.is_joined() {
            return Err(Refusal::NotJoined);
        }
        if !member.media_up {
            self.edit(user, |it| it.media_up = true);
            self.regain(user);
        }
        Ok(())
    }

    /// The user's media is gone; a socket that is still there keeps the user in the call, as one who
    /// connects anew.
    pub(super) fn media_down(&mut self, user: &UserId) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if member.is_joined() && member.media_up && self.call.media == MediaPath::Livekit {
            let reachable = member.sockets == Sockets::Here;
            self.edit(user, |it| it.media_up = false);
            if reachable {
                self.regain(user);
            } else {
                self.await_return(user);
            }
        }
        Ok(())
    }

    /// The user's last socket is gone; media that goes on through LiveKit keeps the user in the call.
    pub(super) fn sockets_gone(&mut self, user: &UserId) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if member.is_joined() && member.sockets == Sockets::Here {
            let media = self.call.media == MediaPath::Livekit && member.media_up;
            self.edit(user, |it| it.sockets = Sockets::Gone);
            if !media {
                self.await_return(user);
            }
        }
        Ok(())
    }

    /// The user has a socket again.
    pub(super) fn socket_back(&mut self, user: &UserId) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if member.is_joined() && member.sockets != Sockets::Here {
            self.edit(user, |it| it.sockets = Sockets::Here);
            self.regain(user);
        }
        Ok(())
    }

    /// Lost, and expected back within the grace.
    fn await_return(&mut self, user: &UserId) {
        let deadline = self.now.plus(self.call.limits.reconnecting);
        let participant = self.edit(user, |it| {
            it.connection = ConnectionState::Reconnecting;
            it.grace_deadline = Some(deadline);
        });
        if let Some(participant) = participant {
            self.tell_updated(participant);
        }
    }

    /// Reachable, with media or without: told only where it shows.
    fn regain(&mut self, user: &UserId) {
        let started = self.call.started_at.is_some();
        let Some(before) = self.call.participant(user).map(|it| it.connection) else { return };
        let participant = self.edit(user, |it| {
            it.grace_deadline = None;
            it.connection = if started && it.media_up {
                ConnectionState::Connected
            } else {
                ConnectionState::Connecting
            };
        });
        if let Some(participant) = participant.filter(|it| it.connection != before) {
            self.tell_updated(participant);
        }
    }

    /// A rated quality sample; news only where the rating changed.
    pub(super) fn sampled(&mut self, user: UserId, quality: Quality) -> Result<(), Refusal> {
        let member = self.live_member(&user)?;
        if !member.is_joined() {
            return Err(Refusal::Forbidden);
        }
        let previous = member.quality;
        if previous != Some(quality) {
            self.edit(&user, |it| it.quality = Some(quality));
            let joined = self.users(Participant::is_joined);
            self.tell(joined, None, Event::QualityChanged { user, quality, previous });
        }
        Ok(())
    }

    /// LiveKit has said who is in the room of a call that is connecting too long. Who is there has
    /// media; where nobody is, media will not come up.
    pub(super) fn media_checked(&mut self, present: &[UserId]) -> Result<(), Refusal> {
        if self.call.state != State::Connecting {
            return Ok(());
        }
        for user in self.users(|it| it.is_joined() && present.contains(&it.user)) {
            self.media_up(&user)?;
        }
        if !self.call.participants.iter().any(|it| it.is_joined() && it.media_up) {
            self.end(State::Failed, EndReason::Timeout);
        }
        Ok(())
    }
}
