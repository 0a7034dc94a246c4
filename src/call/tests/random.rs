//! Random lives: any command in any order at any time, restarts between, and what holds always.

use std::collections::BTreeMap;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{Config, TestCaseError};

use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Event, Notice, Refusal, Start};
use crate::call::id::UserId;
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::{ConnectionState, State};
use crate::call::tests::happenings::{Happening, beginning, happening};
use crate::call::tests::script::{BEGIN, LIMITS};
use crate::call::time::Timestamp;

/// Ticks at one moment after which nothing more may be due at that moment.
const TICKS_AT_ONCE_MAX: usize = 3;

type Checked = Result<(), TestCaseError>;

/// A call and what its users have been told.
struct Witness {
    call: Call,
    now: Timestamp,
    /// The number of the last event anyone was told.
    heard: u64,
    answers: BTreeMap<UserId, usize>,
    ends: usize,
}

impl Witness {
    fn begin(start: Start) -> Result<Self, TestCaseError> {
        let silent = start.silent;
        let (call, applied) = Call::start(start, BEGIN);
        let mut before = call.clone();
        (before.seq, before.state, before.end_reason) = (0, State::Initiating, None);
        let answers = BTreeMap::new();
        let mut witness = Self { call, now: BEGIN, heard: 0, answers, ends: 0 };
        let rung = |it: &Effect| matches!(it, Effect::Notify(it) if matches!(it.event, Event::Incoming { .. }));
        prop_assert!(!silent || !applied.effects.iter().any(rung), "a silent call rings");
        // The initial states of the participants are their own beginning.
        witness.witness(&before, &applied, true)?;
        witness.standing()?;
        Ok(witness)
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Asked(command) => self.ask(command),
            Happening::Passed(time) => self.pass(self.now.plus(time)),
            Happening::Slept(time) => {
                self.now = self.now.plus(time);
                Ok(())
            }
            Happening::Due => self.call.next_deadline().map_or(Ok(()), |due| self.pass(due)),
            Happening::Restarted => self.restart(),
        }
    }

    fn ask(&mut self, command: Command) -> Checked {
        let before = self.call.clone();
        let tick = matches!(command, Command::Tick);
        match self.call.apply(command, self.now) {
            Err(refusal) => self.refused(&before, refusal)?,
            Ok(applied) if applied.is_noop() => prop_assert_eq!(&self.call, &before),
            Ok(applied) => {
                prop_assert!(!before.state.is_terminal(), "a call that is over changed");
                prop_assert_eq!(self.call.updated_at, self.now);
                self.witness(&before, &applied, false)?;
            }
        }
        prop_assert!(!tick || self.call.connect_deadline.is_none_or(|it| it > self.now));
        self.standing()
    }

    fn refused(&self, before: &Call, refusal: Refusal) -> Checked {
        prop_assert_eq!(&self.call, before, "refused, and changed: {:?}", refusal);
        prop_assert!(refusal != Refusal::Over || before.state.is_terminal());
        Ok(())
    }

    fn restart(&mut self) -> Checked {
        let before = self.call.clone();
        self.call = self.call.reread();
        prop_assert_eq!(&self.call, &before, "read back as another call");
        self.call.restore(self.now);
        prop_assert_eq!(self.call.seq, before.seq);
        prop_assert_eq!(self.call.state, before.state);
        self.standing()
    }

    fn pass(&mut self, until: Timestamp) -> Checked {
        while let Some(due) = self.call.next_deadline().filter(|it| *it <= until) {
            self.now = self.now.max(due);
            let settled = |it: &Call, now| it.next_deadline().is_none_or(|next| next > now);
            let mut ticks = 0;
            while !settled(&self.call, self.now) {
                self.ask(Command::Tick)?;
                ticks += 1;
                prop_assert!(ticks <= TICKS_AT_ONCE_MAX, "the deadline loop spins");
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Lets time run out; the call has to end by itself, in time.
    fn finish(&mut self) -> Checked {
        while let Some(due) = self.call.next_deadline() {
            prop_assert!(due <= self.call.ends_at());
            self.pass(due)?;
        }
        prop_assert!(self.call.state.is_terminal());
        prop_assert_eq!(self.ends, 1, "the end is told once");
        Ok(())
    }

    /// What holds between any two moments of a call.
    fn witness(&mut self, before: &Call, applied: &Applied, first: bool) -> Checked {
        let mut state = before.state;
        for effect in &applied.effects {
            let Effect::Notify(notice) = effect else { continue };
            prop_assert_eq!(self.ends, 0, "an event after the end: {:?}", notice);
            prop_assert!(notice.seq > self.heard, "seq does not grow");
            prop_assert_eq!(notice.at, self.now);
            self.heard = notice.seq;
            self.addressed(before, notice)?;
            state = self.follow(state, notice, first)?;
        }
        prop_assert_eq!(self.call.seq, self.heard, "the call's seq is the last event's");
        if !first {
            prop_assert_eq!(state, self.call.state, "a state nobody was told of");
            changed(before, &self.call, applied)?;
            kept(before, &self.call)?;
        }
        Ok(())
    }

    /// Counts answers and ends, and follows the states that are told.
    fn follow(
        &mut self,
        from: State,
        notice: &Notice,
        first: bool,
    ) -> Result<State, TestCaseError> {
        let next = match &notice.event {
            Event::StateChanged { state, .. } => *state,
            Event::Ended { state, .. } => {
                self.ends += 1;
                *state
            }
            Event::Accepted { user } => {
                let count = self.answers.entry(user.clone()).or_default();
                *count += 1;
                prop_assert_eq!(*count, 1, "a second answer");
                return Ok(from);
            }
            Event::Incoming { expires_at, .. } => {
                prop_assert_eq!(*expires_at, self.now.plus(LIMITS.ringing));
                return Ok(from);
            }
            Event::Ringing { .. }
            | Event::Declined { .. }
            | Event::Cancelled { .. }
            | Event::HandledElsewhere { .. }
            | Event::ParticipantJoined { .. }
            | Event::ParticipantLeft { .. }
            | Event::ParticipantUpdated { .. }
            | Event::QualityChanged { .. }
            | Event::EndingSoon { .. }
            | Event::IceServers
            | Event::RecordingStarted { .. }
            | Event::RecordingStopped { .. } => return Ok(from),
        };
        prop_assert!(first || from.may_become(next), "{:?} -> {:?}", from, next);
        Ok(next)
    }

    /// Nobody hears what is not for them.
    fn addressed(&self, before: &Call, notice: &Notice) -> Checked {
        prop_assert!(!notice.to.is_empty());
        for (index, user) in notice.to.iter().enumerate() {
            prop_assert!(!notice.to[..index].contains(user), "told twice");
            let Some(now) = self.call.participant(user) else {
                return Err(TestCaseError::fail("told to a stranger"));
            };
            let own = match &notice.event {
                Event::Declined { user: who } | Event::ParticipantLeft { user: who, .. } => {
                    who == user
                }
                Event::Incoming { .. } => {
                    prop_assert!(now.is_rung(), "an invitation to one who is not rung");
                    true
                }
                Event::HandledElsewhere { user: who } => {
                    prop_assert_eq!(who, user);
                    false
                }
                Event::Ended { .. } => now.connection == ConnectionState::Left,
                Event::Ringing { .. }
                | Event::Accepted { .. }
                | Event::Cancelled { .. }
                | Event::ParticipantJoined { .. }
                | Event::ParticipantUpdated { .. }
                | Event::StateChanged { .. }
                | Event::QualityChanged { .. }
                | Event::EndingSoon { .. }
                | Event::IceServers
                | Event::RecordingStarted { .. }
                | Event::RecordingStopped { .. } => false,
            };
            let listened = before.participant(user).is_some_and(Participant::listens);
            prop_assert!(own || now.listens() || listened, "{:?} for one who is gone", notice);
        }
        Ok(())
    }

    /// What holds at any moment.
    fn standing(&self) -> Checked {
        let call = &self.call;
        prop_assert!(call.is_consistent());
        prop_assert_eq!(call.next_deadline().is_some(), !call.state.is_terminal());
        let count = |state| call.participants.iter().filter(|it| it.connection == state).count();
        let connected = count(ConnectionState::Connected);
        match call.state {
            State::Connected => prop_assert!(connected >= 2, "connected, with {connected}"),
            State::Reconnecting => prop_assert!(connected < 2, "reconnecting, with {connected}"),
            State::Initiating
            | State::Ringing
            | State::Connecting
            | State::Ended
            | State::Failed
            | State::Busy
            | State::Declined
            | State::Missed
            | State::Cancelled => prop_assert_eq!(connected, 0),
        }
        prop_assert_eq!(
            call.started_at.is_some(),
            call.duration().is_some() || connected_once(call)
        );
        prop_assert!(call.recording.is_none() || !call.state.is_terminal());
        call.participants.iter().try_for_each(|it| settled(call, it))
    }
}

fn connected_once(call: &Call) -> bool {
    matches!(call.state, State::Connected | State::Reconnecting)
}

/// What holds of any participant.
fn settled(call: &Call, it: &Participant) -> Checked {
    prop_assert_eq!(it.is_joined(), it.since.is_some());
    prop_assert!(!it.is_joined() || (it.joined_at.is_some() && it.left_at.is_none()));
    prop_assert!(!it.is_rung() || it.is_pending());
    prop_assert!(!it.is_pending() || it.is_rung() || call.silent);
    prop_assert!(it.grace_deadline.is_none() || it.is_joined());
    prop_assert!(it.connection != ConnectionState::Reconnecting || it.grace_deadline.is_some());
    prop_assert!(!it.screen_share || it.is_joined());
    prop_assert!(!it.media_up || it.is_joined());
    prop_assert!(it.session.is_none() || it.is_joined());
    let stayed = it.joined_at.zip(it.left_at).is_none_or(|(joined, left)| left >= joined);
    prop_assert!(stayed, "left before it joined");
    Ok(())
}

/// Whoever changed is marked as changed, so that the row is written.
fn changed(before: &Call, after: &Call, applied: &Applied) -> Checked {
    let marked: Vec<_> = applied.changed(after).map(|it| &it.user).collect();
    for it in &after.participants {
        let same = before.participant(&it.user) == Some(it);
        prop_assert!(same || marked.contains(&&it.user), "{:?} is not marked", it);
    }
    Ok(())
}

/// What never changes, or never goes back.
fn kept(before: &Call, after: &Call) -> Checked {
    let facts = |it: &Call| (it.id, it.epoch, it.created_at, it.initiator.clone(), it.media);
    prop_assert_eq!(facts(before), facts(after));
    prop_assert!(before.started_at.is_none() || before.started_at == after.started_at);
    prop_assert!(!before.is_group || after.is_group, "a group stays one");
    prop_assert!(before.seq <= after.seq && before.updated_at <= after.updated_at);
    for (old, new) in before.participants.iter().zip(&after.participants) {
        prop_assert_eq!((&old.user, old.id, old.role), (&new.user, new.id, new.role));
        prop_assert!(old.joined_at.is_none() || old.joined_at == new.joined_at);
        let removed = |it: &Participant| it.connection == ConnectionState::Removed;
        prop_assert!(!removed(old) || removed(new), "a removed user is back");
        let now = after.updated_at;
        prop_assert!(old.duration(before.updated_at) <= new.duration(now), "time was lost");
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens(
        start in beginning(),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut witness = Witness::begin(start)?;
        for happening in happenings {
            witness.happen(happening)?;
        }
        witness.finish()?;
    }
}
