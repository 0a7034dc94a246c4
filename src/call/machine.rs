//! The one door through which a call changes: `apply(command, now) -> effects | refusal`.
//!
//! A refused command has changed nothing. After a command was carried out, [`Step::settle`] draws
//! the conclusions that hold whatever the command was: who is alone, whether the call is connected,
//! whether it is over.

use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Event, LeaveReason, Notice, Refusal, Start};
use crate::call::id::{DeviceId, UserId};
use crate::call::model::Call;
use crate::call::participant::{Participant, Sockets};
use crate::call::state::{CallType, ConnectionState, EndReason, MediaPath, Role, State};
use crate::call::time::Timestamp;

impl Call {
    /// Makes the call and rings everybody who can be rung.
    pub fn start(start: Start, now: Timestamp) -> (Self, Applied) {
        let initiator = initiator_of(&start, now);
        let mut call = Self {
            id: start.id,
            epoch: start.epoch,
            seq: 0,
            taken_at: 0,
            call_type: start.call_type,
            state: State::Initiating,
            initiator: start.initiator,
            initiator_name: start.initiator_name,
            chat: start.chat,
            is_group: start.invitees.len() > 1,
            silent: start.silent,
            media: start.media,
            limits: start.limits,
            created_at: now,
            updated_at: now,
            started_at: None,
            ended_at: None,
            end_reason: None,
            participants: vec![initiator],
            connect_deadline: None,
            alone_deadline: None,
            warned: false,
            ice_deadline: start.limits.ice_renewal.map(|it| now.plus(it)),
            recording: None,
            recorded: false,
            recording_url: None,
        };
        let mut step = Step::new(&mut call, now);
        step.touch(0);
        step.summon(&start.invitees, !start.silent);
        step.call.state = State::Ringing;
        step.settle();
        let applied = step.finish();
        (call, applied)
    }

    /// Carries out `command`, or says why not; a refused command has changed nothing.
    pub fn apply(&mut self, command: Command, now: Timestamp) -> Result<Applied, Refusal> {
        let mut step = Step::new(self, now);
        step.run(command)?;
        step.settle();
        Ok(step.finish())
    }

    /// What holds at every moment, whatever was asked.
    pub fn is_consistent(&self) -> bool {
        let over = self.state.is_terminal();
        let quiet = !self.participants.iter().any(|it| it.is_joined() || it.is_rung());
        let taken = self.participants.iter().filter(|it| it.is_joined() || it.is_rung()).count();
        over == self.ended_at.is_some()
            && over == self.end_reason.is_some()
            && over == self.next_deadline().is_none()
            && (!over || quiet)
            && taken <= usize::from(self.limits.participants)
            && (self.state != State::Connected || self.started_at.is_some())
            && (self.is_group || self.participants.len() <= 2)
    }
}

fn initiator_of(start: &Start, now: Timestamp) -> Participant {
    let user = start.initiator.clone();
    let mut it = Participant::invited(start.participant, user, Role::Initiator);
    it.connection = ConnectionState::Connecting;
    it.joined_at = Some(now);
    it.since = Some(now);
    it.video = start.call_type == CallType::Video;
    it.set(start.settings, now);
    it.media_up = start.media == MediaPath::Peer;
    it.sockets = if start.online { Sockets::Here } else { Sockets::Never };
    it
}

/// One command on its way through a call.
pub(super) struct Step<'a> {
    pub(super) call: &'a mut Call,
    pub(super) now: Timestamp,
    /// Who ends the call, if this step does.
    pub(super) actor: Option<UserId>,
    /// Why the call ends, if somebody's leaving ends it.
    pub(super) cause: EndReason,
    effects: Vec<Effect>,
    touched: u64,
}

impl<'a> Step<'a> {
    fn new(call: &'a mut Call, now: Timestamp) -> Self {
        let cause = EndReason::Normal;
        Self { call, now, actor: None, cause, effects: Vec::new(), touched: 0 }
    }

    fn run(&mut self, command: Command) -> Result<(), Refusal> {
        match command {
            Command::Rings { user } => self.rings(&user),
            Command::Join { user, settings, device, online } => {
                self.join(&user, settings, device, online)
            }
            Command::Decline { user } => self.decline(user),
            Command::End { user } => self.hang_up(user),
            Command::Invite { by, invitees } => self.invite(&by, &invitees),
            Command::Remove { by, user } => self.remove(&by, &user),
            Command::Change { user, settings } => self.change(&user, settings),
            Command::Reflect { user, settings } => self.reflect(&user, settings),
            Command::Mute { by, user, off } => self.mute(&by, &user, off),
            Command::Muted { user, off } => self.muted(&user, off),
            Command::MediaUp { user, session } => self.media_up(&user, session),
            Command::MediaDown { user, sid } => self.media_down(&user, &sid),
            Command::SocketsGone { user } => self.sockets_gone(&user),
            Command::SocketBack { user } => self.socket_back(&user),
            Command::Sampled { user, quality } => self.sampled(user, quality),
            Command::MediaChecked { present, asked } => {
                self.media_checked(&present, asked);
                Ok(())
            }
            Command::StartRecording { by, recording } => self.start_recording(by, recording),
            Command::StopRecording { by } => self.stop_recording(by),
            Command::RecordingOver { id, url } => {
                self.recording_over(id, url);
                Ok(())
            }
            Command::Tick => {
                self.tick();
                Ok(())
            }
            Command::Abort => self.abort(),
        }
    }

    fn finish(self) -> Applied {
        let applied = Applied { effects: self.effects, touched: self.touched };
        if !applied.is_noop() {
            self.call.updated_at = self.now;
        }
        debug_assert!(self.call.is_consistent(), "a command broke the call: {:?}", self.call);
        applied
    }

    /// How `user` stands in a live call; a refusal for anyone who does not belong to it, or to a
    /// call that is over.
    pub(super) fn live_member(&self, user: &UserId) -> Result<&Participant, Refusal> {
        let member = self.call.participant(user).ok_or(Refusal::Forbidden)?;
        if self.call.state.is_terminal() { Err(Refusal::Over) } else { Ok(member) }
    }

    fn touch(&mut self, index: usize) {
        let bit = u32::try_from(index).ok().and_then(|shift| 1_u64.checked_shl(shift));
        self.touched |= bit.unwrap_or(0);
    }

    /// Changes one participant, and returns it as it then is.
    pub(super) fn edit(
        &mut self,
        user: &UserId,
        change: impl FnOnce(&mut Participant),
    ) -> Option<Participant> {
        let index = self.call.participants.iter().position(|it| it.user == *user)?;
        self.touch(index);
        let participant = self.call.participants.get_mut(index)?;
        change(participant);
        Some(participant.clone())
    }

    /// Takes a new participant in.
    pub(super) fn enroll(&mut self, participant: Participant) {
        self.touch(self.call.participants.len());
        self.call.participants.push(participant);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The users whose participant passes `filter`.
    pub(super) fn users(&self, filter: impl Fn(&Participant) -> bool) -> Vec<UserId> {
        self.call.participants.iter().filter(|it| filter(it)).map(|it| it.user.clone()).collect()
    }

    /// Numbers an event and addresses it; an event for nobody does not happen.
    pub(super) fn tell(&mut self, to: Vec<UserId>, except: Option<DeviceId>, event: Event) {
        if !to.is_empty() {
            self.call.seq += 1;
            let notice = Notice { seq: self.call.seq, at: self.now, to, except, event };
            self.effects.push(Effect::Notify(notice));
        }
    }

    /// Tells everyone who listens.
    pub(super) fn tell_all(&mut self, event: Event) {
        self.tell(self.users(Participant::listens), None, event);
    }

    /// Tells everyone who listens, and `user`, who no longer does.
    pub(super) fn tell_all_and(&mut self, user: &UserId, event: Event) {
        self.tell(self.users(|it| it.listens() || it.user == *user), None, event);
    }

    pub(super) fn tell_updated(&mut self, participant: Participant) {
        self.tell_all(Event::ParticipantUpdated { participant });
    }

    /// Ends the call for everyone.
    pub(super) fn end(&mut self, state: State, reason: EndReason) {
        debug_assert!(self.call.state.may_become(state), "{:?} -> {state:?}", self.call.state);
        self.stop_recording_without_host();
        let now = self.now;
        // Who left still hears the end; who declined or was removed hears nothing more.
        let to = self.users(|it| it.listens() || it.connection == ConnectionState::Left);
        for user in self.users(|it| it.is_joined() || it.is_rung()) {
            self.edit(&user, |it| {
                let last =
                    if it.is_joined() { ConnectionState::Left } else { ConnectionState::Missed };
                it.depart(last, now);
            });
        }
        self.call.state = state;
        self.call.ended_at = Some(now);
        self.call.end_reason = Some(reason);
        self.call.connect_deadline = None;
        self.call.alone_deadline = None;
        self.call.ice_deadline = None;
        let duration = self.call.duration();
        let user = self.actor.take();
        self.tell(to, None, Event::Ended { user, state, reason, duration });
    }

    /// Moves the call between live states and tells so.
    fn enter(&mut self, state: State) {
        debug_assert!(self.call.state.may_become(state), "{:?} -> {state:?}", self.call.state);
        self.call.state = state;
        let started_at = self.call.started_at;
        let participants = self.call.participants.clone();
        self.tell_all(Event::StateChanged { state, started_at, participants });
    }

    /// Draws the conclusions that hold whatever the command was.
    fn settle(&mut self) {
        if self.call.state.is_terminal() {
            return;
        }
        if self.call.is_answered() {
            self.settle_answered();
        } else if !self.hosted() && !self.call.participants.iter().any(Participant::is_pending) {
            let (state, reason) = self.unanswered();
            self.end(state, reason);
        }
    }

    /// Nobody is left to answer: what that makes of the call.
    fn unanswered(&self) -> (State, EndReason) {
        let called = |it: &&Participant| {
            it.role == Role::Participant && it.connection != ConnectionState::Removed
        };
        let all = |state: ConnectionState| {
            self.call.participants.iter().filter(called).all(|it| it.connection == state)
        };
        if self.call.participants.iter().filter(called).count() == 0 {
            (State::Cancelled, EndReason::Cancelled)
        } else if all(ConnectionState::Busy) {
            (State::Busy, EndReason::Busy)
        } else if all(ConnectionState::Declined) {
            (State::Declined, EndReason::Declined)
        } else {
            (State::Missed, EndReason::NoAnswer)
        }
    }

    /// A call that rings nobody lives while its initiator is in it.
    fn hosted(&self) -> bool {
        self.call.silent && self.call.is_joined(&self.call.initiator)
    }

    fn settle_answered(&mut self) {
        let (joined, hosted) = (self.call.joined(), self.hosted());
        if joined == 0 || (!self.call.is_group && joined < 2 && !hosted) {
            self.end(State::Ended, self.cause);
            return;
        }
        let rung = self.call.participants.iter().any(Participant::is_rung);
        let alone = joined == 1 && !rung && !hosted;
        let limits = self.call.limits;
        let due = self.call.alone_deadline.unwrap_or(self.now.plus(limits.alone));
        self.call.alone_deadline = alone.then_some(due);
        if self.call.state == State::Ringing {
            // Peer to peer nobody can be asked: two who are there are connected.
            let asked = self.call.media == MediaPath::Livekit;
            self.call.connect_deadline = asked.then_some(self.now.plus(limits.connecting));
            self.enter(State::Connecting);
        }
        self.settle_media();
    }

    /// `connected` is what at least two with media make it.
    fn settle_media(&mut self) {
        let with_media = |it: &Participant| {
            it.is_joined() && it.media_up && it.connection != ConnectionState::Reconnecting
        };
        let two = self.call.participants.iter().filter(|it| with_media(it)).count() >= 2;
        match self.call.state {
            State::Connecting if two => {
                self.call.started_at = Some(self.now);
                self.call.connect_deadline = None;
                for user in self.users(with_media) {
                    self.edit(&user, |it| it.connection = ConnectionState::Connected);
                }
                self.enter(State::Connected);
            }
            State::Reconnecting if two => self.enter(State::Connected),
            State::Connected if !two => self.enter(State::Reconnecting),
            State::Initiating
            | State::Ringing
            | State::Connecting
            | State::Connected
            | State::Reconnecting
            | State::Ended
            | State::Failed
            | State::Busy
            | State::Declined
            | State::Missed
            | State::Cancelled => {}
        }
    }

    /// Takes a participant who was in the call, or was called, out of it.
    pub(super) fn dismiss(&mut self, user: &UserId, reason: LeaveReason) {
        let now = self.now;
        let last = match reason {
            LeaveReason::Left | LeaveReason::NetworkError => ConnectionState::Left,
            LeaveReason::Removed => ConnectionState::Removed,
        };
        self.edit(user, |it| it.depart(last, now));
        if *user == self.call.initiator {
            // Nobody else could end it.
            self.stop_recording_without_host();
        }
        self.tell_all_and(user, Event::ParticipantLeft { user: user.clone(), reason });
        self.check_media();
    }

    /// Who is in the room, or may send what there, is to be made what it now should be.
    pub(super) fn check_media(&mut self) {
        if self.call.media == MediaPath::Livekit {
            self.effect(Effect::CheckMedia);
        }
    }
}
