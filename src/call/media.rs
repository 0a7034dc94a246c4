//! What participants send, whether they are reachable, and how good their connection is.

use std::time::Duration;

use crate::call::command::{Event, Refusal};
use crate::call::id::UserId;
use crate::call::machine::Step;
use crate::call::participant::{InRoom, MediaSession, Participant, Sent, Settings, Sockets};
use crate::call::state::{ConnectionState, EndReason, MediaPath, Quality, State};
use crate::call::time::Timestamp;

/// For how long nobody of a user may be seen in the room while one device takes over from another;
/// LiveKit was seen to need 0.13 s.
pub const TAKEOVER: Duration = Duration::from_millis(500);

impl Step<'_> {
    /// A participant changes what it sends.
    pub(super) fn change(&mut self, user: &UserId, settings: Settings) -> Result<(), Refusal> {
        let before = self.live_member(user)?.clone();
        if !before.is_joined() {
            return Err(Refusal::Forbidden);
        }
        let mut wanted = before.clone();
        let shows = wanted.set(settings, self.now);
        self.replace(&before, wanted, shows);
        Ok(())
    }

    /// A participant becomes what it now is: told where that shows; where it changes what may be sent, the
    /// room has to follow.
    fn replace(&mut self, before: &Participant, after: Participant, shows: bool) {
        let same = Participant { wanted_at: before.wanted_at, ..after.clone() } == *before;
        if same {
            return;
        }
        if self.call.sources(&after) != self.call.sources(before) {
            self.check_media();
        }
        let user = after.user.clone();
        if let Some(participant) = self.edit(&user, |it| *it = after)
            && shows
        {
            self.tell_updated(participant);
        }
    }

    /// What LiveKit sees of a participant: says nothing of what it wants to send.
    pub(super) fn reflect(&mut self, user: &UserId, settings: Settings) -> Result<(), Refusal> {
        let mut seen = self.live_member(user)?.clone();
        if seen.is_joined()
            && seen.show(settings)
            && let Some(participant) = self.edit(user, |it| *it = seen)
        {
            self.tell_updated(participant);
        }
        Ok(())
    }

    /// The initiator turns off what `user` sends. Also what is off as far as we know is turned off where
    /// it is sent: a client may not have told.
    pub(super) fn mute(&mut self, by: &UserId, user: &UserId, off: Sent) -> Result<(), Refusal> {
        self.host(by)?;
        let member = self.call.participant(user).filter(|it| it.is_joined());
        let before = member.ok_or(Refusal::NoSuchParticipant)?.clone();
        let mut silent = before.clone();
        let shows = silent.silence(off);
        if self.call.media == MediaPath::Peer {
            silent.muting = Sent::default();
        } else {
            self.check_media();
        }
        self.replace(&before, silent, shows);
        Ok(())
    }

    /// What was to be muted in the room is, unless the user has turned it on since.
    pub(super) fn muted(&mut self, user: &UserId, off: Sent) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if member.muting == off && !off.is_empty() {
            self.edit(user, |it| it.muting = Sent::default());
        }
        Ok(())
    }

    /// LiveKit, or the client, says that the user's media is up. What is said of a stay that is over, or
    /// of one before the present one, comes too late.
    pub(super) fn media_up(
        &mut self,
        user: &UserId,
        session: Option<MediaSession>,
    ) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        if !member.is_joined() {
            return Err(Refusal::NotJoined);
        }
        let late = match (&session, &member.session) {
            (Some(said), Some(known)) if said.sid == known.sid => !member.media_up,
            (Some(said), Some(known)) => said.since_ms < known.since_ms,
            (Some(_) | None, _) => false,
        };
        if !late {
            self.gain_media(user, session);
        }
        Ok(())
    }

    fn gain_media(&mut self, user: &UserId, session: Option<MediaSession>) {
        let Some(member) = self.call.participant(user) else { return };
        let (was_up, now) = (member.media_up, self.now);
        if was_up && (session.is_none() || session == member.session) && member.unseen_at.is_none()
        {
            return;
        }
        self.edit(user, |it| {
            it.media_up = true;
            it.unseen_at = None;
            it.media_at = now;
            it.session = session.or(it.session.take());
        });
        if !was_up {
            self.regain(user);
        }
    }

    /// The user's stay in the room is over; a socket that is still there keeps the user in the call, as
    /// one who connects anew. The end of a stay that is not the present one is no news.
    pub(super) fn media_down(&mut self, user: &UserId, sid: &str) -> Result<(), Refusal> {
        let member = self.live_member(user)?;
        let present = member.session.as_ref().is_none_or(|it| &*it.sid == sid);
        if present && self.call.media == MediaPath::Livekit {
            self.lose_media(user);
        }
        Ok(())
    }

    /// Seen in the room, with media or not yet.
    fn see(&mut self, user: &UserId) {
        if self.call.participant(user).is_some_and(|it| it.unseen_at.is_some()) {
            self.edit(user, |it| it.unseen_at = None);
        }
    }

    /// Not seen in the room once may be the moment in which one device takes over from another.
    fn miss(&mut self, user: &UserId) {
        let now = self.now;
        let Some(member) = self.call.participant(user).filter(|it| it.media_up) else { return };
        match member.unseen_at {
            Some(since) if now.since(since) >= TAKEOVER => self.lose_media(user),
            Some(_) => {}
            None => {
                self.edit(user, |it| it.unseen_at = Some(now));
            }
        }
    }

    fn lose_media(&mut self, user: &UserId) {
        let Some(member) = self.call.participant(user) else { return };
        if !member.is_joined() || !member.media_up {
            return;
        }
        let (reachable, now) = (member.sockets == Sockets::Here, self.now);
        self.edit(user, |it| {
            it.media_up = false;
            it.media_at = now;
            it.unseen_at = None;
        });
        if reachable {
            self.regain(user);
        } else {
            self.await_return(user);
        }
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

    /// LiveKit has said who is in the room: who is there has media, who is not has none, but for what
    /// has changed since it was asked. Where nobody is there when media should long be up, it will not
    /// come up.
    pub(super) fn media_checked(&mut self, present: &[InRoom], asked: Timestamp) {
        if self.call.media != MediaPath::Livekit || self.call.state.is_terminal() {
            return;
        }
        for user in self.users(|it| it.is_joined() && it.media_at < asked) {
            match present.iter().find(|(it, _)| *it == user) {
                Some((_, Some(session))) => self.gain_media(&user, Some(session.clone())),
                Some((_, None)) => self.see(&user),
                None => self.miss(&user),
            }
        }
        let connecting = self.call.limits.connecting;
        let late = self.call.answered_at().is_some_and(|it| it.plus(connecting) <= self.now);
        let up = |it: &Participant| it.is_joined() && it.media_up;
        if self.call.state == State::Connecting && late && !self.call.participants.iter().any(up) {
            self.end(State::Failed, EndReason::Timeout);
        }
    }
}
