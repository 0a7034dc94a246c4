//! Who goes, and what the call ends with.

use crate::call::command::{Event, LeaveReason, Refusal};
use crate::call::id::UserId;
use crate::call::machine::Step;
use crate::call::state::{ConnectionState, EndReason, Role, State};

impl Step<'_> {
    /// Hanging up means what the user's place in the call makes it: cancel or end for all by the
    /// initiator, leave, decline; from one who is gone already it changes nothing.
    pub(super) fn hang_up(&mut self, user: UserId) -> Result<(), Refusal> {
        let member = self.call.participant(&user).ok_or(Refusal::Forbidden)?;
        if self.call.state.is_terminal() {
            return Ok(());
        }
        if member.is_pending() {
            return self.decline(user);
        }
        if !member.is_joined() {
            return Ok(());
        }
        if member.role == Role::Initiator {
            self.end_for_all(user);
        } else {
            self.dismiss(&user, LeaveReason::Left);
            self.actor = Some(user);
        }
        Ok(())
    }

    fn end_for_all(&mut self, user: UserId) {
        self.actor = Some(user.clone());
        if self.call.is_answered() {
            self.end(State::Ended, EndReason::Normal);
        } else {
            self.tell_all(Event::Cancelled { user });
            self.end(State::Cancelled, EndReason::Cancelled);
        }
    }

    /// Throws a user out for good. Removing one who is removed changes nothing.
    pub(super) fn remove(&mut self, by: &UserId, user: &UserId) -> Result<(), Refusal> {
        self.host(by)?;
        let member = self.call.participant(user).ok_or(Refusal::NoSuchParticipant)?;
        if member.role == Role::Initiator {
            return Err(Refusal::InitiatorStays);
        }
        if member.connection != ConnectionState::Removed {
            self.dismiss(user, LeaveReason::Removed);
            self.actor = Some(by.clone());
        }
        Ok(())
    }

    /// One who was lost did not come back in time.
    pub(super) fn lose(&mut self, user: &UserId) {
        self.cause = EndReason::NetworkError;
        let caller = *user == self.call.initiator;
        if caller && !self.call.is_answered() {
            self.end(State::Cancelled, EndReason::NetworkError);
            return;
        }
        self.dismiss(user, LeaveReason::NetworkError);
        // A call that rings nobody lives while its initiator is in it.
        if caller && self.call.silent {
            self.end(State::Ended, EndReason::NetworkError);
        }
    }

    /// The service can't go on with this call.
    pub(super) fn abort(&mut self) -> Result<(), Refusal> {
        if self.call.state.is_terminal() {
            return Err(Refusal::Over);
        }
        self.end(State::Failed, EndReason::Failed);
        Ok(())
    }
}
