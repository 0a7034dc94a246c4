//! Who is rung and who picks up: invitations, joins, declines.

use crate::call::command::{Effect, Event, Invitee, Refusal, Unavailable};
use crate::call::id::{DeviceId, UserId};
use crate::call::machine::Step;
use crate::call::model::PARTICIPANTS_EVER_MAX;
use crate::call::participant::{Participant, Settings, Sockets};
use crate::call::state::{CallType, ConnectionState, MediaPath, Role};

impl Step<'_> {
    /// A device of `user` rings; news only while the user is rung and no other device said so.
    pub(super) fn rings(&mut self, user: &UserId) -> Result<(), Refusal> {
        let member = self.call.participant(user).ok_or(Refusal::Forbidden)?;
        if member.is_rung() && member.connection == ConnectionState::Invited {
            self.edit(user, |it| it.connection = ConnectionState::Ringing);
            let caller = self.users(|it| it.role == Role::Initiator && it.listens());
            self.tell(caller, None, Event::Ringing { user: user.clone() });
        }
        Ok(())
    }

    /// First answer, late join and return alike; joining twice changes nothing for anybody to see.
    pub(super) fn join(
        &mut self,
        user: &UserId,
        settings: Settings,
        device: Option<DeviceId>,
        online: bool,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let member = self.admissible(user)?;
        if member.is_joined() {
            if self.call.epoch > 1 {
                // A former owner may have heard them leave before this.
                self.edit(user, |it| it.stay(now));
            }
            return Ok(());
        }
        let (first, rung) = (member.joined_at.is_none(), member.is_rung());
        let Some(participant) = self.admit(user, settings, online) else { return Ok(()) };
        if first {
            self.tell_all(Event::Accepted { user: user.clone() });
        }
        if rung {
            let event = Event::HandledElsewhere { user: user.clone() };
            self.tell(vec![user.clone()], device, event);
        }
        self.tell_all(Event::ParticipantJoined { participant });
        Ok(())
    }

    fn admissible(&self, user: &UserId) -> Result<&Participant, Refusal> {
        let member = self.call.participant(user).ok_or(Refusal::NotInvited)?;
        if member.connection == ConnectionState::Removed {
            return Err(Refusal::Removed);
        }
        if self.call.state.is_terminal() {
            return Err(Refusal::Over);
        }
        let max = self.call.limits.participants;
        let others = self.taken(|it| it.user != *user);
        if !member.is_joined() && others >= usize::from(max) {
            return Err(Refusal::Full { max });
        }
        Ok(member)
    }

    /// How many places are taken by those who pass `filter`: one who is rung holds a place.
    fn taken(&self, filter: impl Fn(&Participant) -> bool) -> usize {
        let takes = |it: &&Participant| (it.is_joined() || it.is_rung()) && filter(it);
        self.call.participants.iter().filter(takes).count()
    }

    fn admit(&mut self, user: &UserId, settings: Settings, online: bool) -> Option<Participant> {
        let now = self.now;
        let peer = self.call.media == MediaPath::Peer;
        let video = self.call.call_type == CallType::Video;
        let connected = peer && self.call.started_at.is_some();
        self.edit(user, |it| {
            it.connection =
                if connected { ConnectionState::Connected } else { ConnectionState::Connecting };
            it.joined_at.get_or_insert(now);
            it.left_at = None;
            it.since = Some(now);
            it.ring_deadline = None;
            it.media_up = peer;
            it.session = None;
            it.media_at = now;
            it.sockets = if online { Sockets::Here } else { Sockets::Never };
            it.audio = true;
            it.video = video;
            it.set(settings, now);
        })
    }

    /// No from one who is called; from anyone else who belongs to the call it comes too late.
    pub(super) fn decline(&mut self, user: UserId) -> Result<(), Refusal> {
        let member = self.call.participant(&user).ok_or(Refusal::Forbidden)?;
        // The initiator has nothing to decline, unless it left and is called back.
        if member.role == Role::Initiator && !member.is_pending() {
            return Err(Refusal::Forbidden);
        }
        if member.is_pending() && !self.call.state.is_terminal() {
            let now = self.now;
            self.edit(&user, |it| it.depart(ConnectionState::Declined, now));
            self.tell_all_and(&user, Event::Declined { user: user.clone() });
            self.actor = Some(user);
        }
        Ok(())
    }

    /// Adds users to a live call, or rings them again. All or none are taken in; those who can't be
    /// rung are named.
    pub(super) fn invite(&mut self, by: &UserId, invitees: &[Invitee]) -> Result<(), Refusal> {
        if !self.live_member(by)?.is_joined() {
            return Err(Refusal::Forbidden);
        }
        let mut called: Vec<Invitee> = Vec::new();
        for invitee in invitees.iter().filter(|it| self.callable(it)) {
            if called.iter().all(|it| it.user != invitee.user) {
                called.push(invitee.clone());
            }
        }
        self.room_for(&called)?;
        for invitee in invitees {
            if self.is_removed(&invitee.user) {
                self.effect(Effect::Unavailable(invitee.user.clone(), Unavailable::Removed));
            }
        }
        self.summon(&called, true);
        let summoned = |it: &UserId| called.iter().any(|called| called.user == *it);
        let updated: Vec<Participant> =
            self.call.participants.iter().filter(|it| summoned(&it.user)).cloned().collect();
        let others = self.users(|it| it.listens() && !summoned(&it.user));
        for participant in updated {
            self.tell(others.clone(), None, Event::ParticipantUpdated { participant });
        }
        Ok(())
    }

    /// Can be called: neither in the call, nor being rung, nor removed.
    fn callable(&self, invitee: &Invitee) -> bool {
        self.call.participant(&invitee.user).is_none_or(|it| {
            !it.is_joined() && !it.is_rung() && it.connection != ConnectionState::Removed
        })
    }

    fn is_removed(&self, user: &UserId) -> bool {
        let removed = |it: &Participant| it.connection == ConnectionState::Removed;
        self.call.participant(user).is_some_and(removed)
    }

    fn room_for(&self, called: &[Invitee]) -> Result<(), Refusal> {
        let max = self.call.limits.participants;
        let rung = called.iter().filter(|it| !it.busy).count();
        let new = called.iter().filter(|it| self.call.participant(&it.user).is_none()).count();
        let fits = self.taken(|_| true) + rung <= usize::from(max)
            && self.call.participants.len() + new <= PARTICIPANTS_EVER_MAX;
        if fits { Ok(()) } else { Err(Refusal::Full { max }) }
    }

    /// Makes participants of those called, and rings whoever can be rung.
    pub(super) fn summon(&mut self, called: &[Invitee], ring: bool) {
        let expires_at = self.now.plus(self.call.limits.ringing);
        let mut receivers = Vec::new();
        for invitee in called {
            if self.call.participant(&invitee.user).is_none() {
                let user = invitee.user.clone();
                self.enroll(Participant::invited(invitee.participant, user, Role::Participant));
            }
            // Busy is who can't be rung; where nobody is rung, nobody is.
            let busy = ring && invitee.busy;
            self.edit(&invitee.user, |it| {
                it.connection = if busy { ConnectionState::Busy } else { ConnectionState::Invited };
                it.ring_deadline = (ring && !busy).then_some(expires_at);
            });
            if busy {
                self.effect(Effect::Unavailable(invitee.user.clone(), Unavailable::Busy));
            } else if ring {
                receivers.push(invitee.user.clone());
            }
        }
        self.call.is_group |= self.call.participants.len() > 2;
        let participants = self.users(|_| true);
        self.tell(receivers, None, Event::Incoming { expires_at, participants });
    }
}
