//! What time does to a call. All deadlines are absolute, so that they survive a restart.

use crate::call::applied::Applied;
use crate::call::command::{Effect, Event};
use crate::call::machine::Step;
use crate::call::model::{Call, ENDING_SOON};
use crate::call::participant::{Participant, Sockets};
use crate::call::state::{ConnectionState, EndReason, MediaPath, State};
use crate::call::time::Timestamp;

/// What the number of the last event grows by when a call comes to another owner: more than one owner can tell
/// of in a call's life without the others, few enough for thousands of owners within JSON's whole numbers.
const SEQ_GAP: u64 = 1_000_000;

impl Call {
    /// When time has to look at this call again; `None` once it is over. Every live call has one.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.state.is_terminal() {
            return None;
        }
        let rings = self.participants.iter().filter_map(|it| it.ring_deadline);
        let graces = self.participants.iter().filter_map(|it| it.grace_deadline);
        let whole =
            [self.connect_deadline, self.alone_deadline, self.ice_deadline, self.warns_at()];
        rings.chain(graces).chain(whole.into_iter().flatten()).chain([self.ends_at()]).min()
    }

    /// The longest the call may last: from the connection, and before it from the start.
    pub fn ends_at(&self) -> Timestamp {
        self.started_at.unwrap_or(self.created_at).plus(self.limits.duration)
    }

    /// When everyone is warned of the end: at once where the whole call may be no longer than that.
    fn warns_at(&self) -> Option<Timestamp> {
        let started_at = self.started_at.filter(|_| !self.warned)?;
        Some(started_at.plus(self.limits.duration.saturating_sub(ENDING_SOON)))
    }

    /// Brings a call back after a restart or a takeover: sockets are gone with the process, so the
    /// grace of those who had one counts from now, but where media goes on without us. Nobody is
    /// there to be told.
    pub fn restore(&mut self, now: Timestamp) {
        let grace = now.plus(self.limits.reconnecting);
        let media = self.media == MediaPath::Livekit;
        for it in self.participants.iter_mut().filter(|it| it.is_joined()) {
            if it.sockets == Sockets::Here {
                it.sockets = Sockets::Gone;
                it.grace_deadline = (!media || !it.media_up).then_some(grace);
            } else if it.grace_deadline.is_some() {
                it.grace_deadline = Some(grace);
            }
        }
    }

    /// Brings a call to another owner, in a new epoch. Its events are numbered on from far above the last one
    /// that is known here: the former owner may have told of some more. All of its participants count as changed.
    pub fn take_over(&mut self, epoch: u64, now: Timestamp) -> Applied {
        self.restore(now);
        self.epoch = epoch;
        self.seq = self.seq.saturating_add(SEQ_GAP);
        self.taken_at = self.seq;
        self.updated_at = now;
        Applied::of_all(self)
    }
}

impl Step<'_> {
    /// Whatever is due happens; asking too early changes nothing.
    pub(super) fn tick(&mut self) {
        if self.call.state.is_terminal() {
            return;
        }
        if self.call.ends_at() <= self.now {
            self.time_is_up();
            return;
        }
        self.expire_rings();
        self.expire_graces();
        if self.call.alone_deadline.is_some_and(|it| it <= self.now) && self.is_live() {
            self.end(State::Ended, EndReason::Normal);
        }
        if self.call.connect_deadline.is_some_and(|it| it <= self.now) && self.is_live() {
            self.call.connect_deadline = Some(self.now.plus(self.call.limits.connecting));
            self.effect(Effect::CheckMedia);
        }
        if self.call.ice_deadline.is_some_and(|it| it <= self.now) && self.is_live() {
            self.call.ice_deadline = self.call.limits.ice_renewal.map(|it| self.now.plus(it));
            self.tell(self.users(Participant::is_joined), None, Event::IceServers);
        }
        if self.call.warns_at().is_some_and(|it| it <= self.now) && self.is_live() {
            self.call.warned = true;
            let ends_at = self.call.ends_at();
            self.tell_all(Event::EndingSoon { ends_at });
        }
    }

    fn is_live(&self) -> bool {
        !self.call.state.is_terminal()
    }

    fn time_is_up(&mut self) {
        let (state, reason) = if self.call.started_at.is_some() {
            (State::Ended, EndReason::Timeout)
        } else if self.call.is_answered() {
            (State::Failed, EndReason::Timeout)
        } else {
            (State::Missed, EndReason::NoAnswer)
        };
        self.end(state, reason);
    }

    fn expire_rings(&mut self) {
        let now = self.now;
        let due = |it: &Participant| it.ring_deadline.is_some_and(|at| at <= now);
        for user in self.users(due) {
            if let Some(missed) = self.edit(&user, |it| it.depart(ConnectionState::Missed, now)) {
                self.tell_updated(missed);
            }
        }
    }

    fn expire_graces(&mut self) {
        let now = self.now;
        let due = |it: &Participant| it.grace_deadline.is_some_and(|at| at <= now);
        for user in self.users(due) {
            if self.is_live() {
                self.lose(&user);
            }
        }
    }
}
