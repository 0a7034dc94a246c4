//! The live calls: found by id, found by user, changed through one door.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::time::Timestamp;
use crate::registry::deadlines::Deadlines;
use crate::socketio::outlet::SocketId;

/// Due calls looked at in one go, per shard of the deadlines: bounds one tick.
const DUE_MAX: usize = 256;

/// The live calls of one user: nearly always one or two.
type CallsOfUser = SmallVec<[CallId; 2]>;

/// Which device of each participant last sent signaling in a call.
type Signalers = SmallVec<[(UserId, SocketId); 2]>;

struct Live {
    call: Call,
    deadline: Option<Timestamp>,
    signalers: Signalers,
    told: Option<Told>,
}

/// The call as it was last told, which holds until it changes or somebody's time in it does.
struct Told {
    details: Box<RawValue>,
    until: Timestamp,
}

/// The live calls of this node.
pub struct Calls {
    live: DashMap<CallId, Arc<Mutex<Live>>>,
    of_user: DashMap<UserId, CallsOfUser>,
    deadlines: Deadlines,
}

impl Default for Calls {
    fn default() -> Self {
        Self { live: DashMap::new(), of_user: DashMap::new(), deadlines: Deadlines::new() }
    }
}

impl Calls {
    /// How many calls there are; one that just ended counts until it is durable.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Takes a new call in, and runs `then` on it before anyone else can change it.
    pub fn insert<R>(&self, call: Call, then: impl FnOnce(&Call) -> R) -> R {
        let (id, deadline) = (call.id, call.next_deadline());
        let users: Vec<UserId> = call.participants.iter().map(|it| it.user.clone()).collect();
        let live =
            Arc::new(Mutex::new(Live { call, deadline, signalers: SmallVec::new(), told: None }));
        let held = live.lock();
        self.live.insert(id, Arc::clone(&live));
        self.deadlines.set(id, None, deadline);
        for user in &users {
            self.enroll(id, user);
        }
        then(&held.call)
    }

    fn find(&self, id: CallId) -> Option<Arc<Mutex<Live>>> {
        self.live.get(&id).map(|it| Arc::clone(it.value()))
    }

    /// The one door to changing a call. `change` must be short: others wait.
    pub fn change<R>(&self, id: CallId, change: impl FnOnce(&mut Call) -> R) -> Option<R> {
        let live = self.find(id)?;
        let mut live = live.lock();
        live.told = None;
        let known = live.call.participants.len();
        let outcome = change(&mut live.call);
        for new in live.call.participants.iter().skip(known) {
            self.enroll(id, &new.user);
        }
        let deadline = live.call.next_deadline();
        self.deadlines.set(id, live.deadline, deadline);
        live.deadline = deadline;
        Some(outcome)
    }

    /// Looks at a call.
    pub fn read<R>(&self, id: CallId, read: impl FnOnce(&Call) -> R) -> Option<R> {
        let live = self.find(id)?;
        let live = live.lock();
        Some(read(&live.call))
    }

    /// What `tell` says of a call at `now`, for whom `allow` lets hear it. As many ask after each event, what was said
    /// is kept until something in it changes.
    pub fn tell<E>(
        &self,
        id: CallId,
        now: Timestamp,
        allow: impl FnOnce(&Call) -> Result<(), E>,
        tell: impl FnOnce(&Call) -> Result<Box<RawValue>, E>,
    ) -> Result<Option<Box<RawValue>>, E> {
        let Some(live) = self.find(id) else { return Ok(None) };
        let mut live = live.lock();
        allow(&live.call)?;
        if let Some(told) = live.told.as_ref().filter(|it| now < it.until) {
            return Ok(Some(told.details.clone()));
        }
        let details = tell(&live.call)?;
        let until = live.call.times_hold_until(now);
        live.told = Some(Told { details: details.clone(), until });
        Ok(Some(details))
    }

    /// Looks at every call, the oldest first.
    pub fn each(&self, mut look: impl FnMut(&Call)) {
        // Taken out first: whoever holds a call's lock may need a shard of the map.
        let mut all: Vec<_> =
            self.live.iter().map(|it| (*it.key(), Arc::clone(it.value()))).collect();
        all.sort_unstable_by_key(|(call, _)| *call);
        for (_, live) in all {
            look(&live.lock().call);
        }
    }

    /// Looks at a call, if there is one, for signaling from `from`'s `socket` to `to`: where `allow`
    /// says yes, notes the sender's device and returns the device of `to` that last signaled.
    pub fn signal<E>(
        &self,
        id: CallId,
        (from, socket): (&UserId, SocketId),
        to: &UserId,
        allow: impl FnOnce(Option<&Call>) -> Result<(), E>,
    ) -> Result<Option<SocketId>, E> {
        let Some(live) = self.find(id) else { return allow(None).map(|()| None) };
        let mut live = live.lock();
        allow(Some(&live.call))?;
        match live.signalers.iter_mut().find(|(user, _)| user == from) {
            Some((_, last)) => *last = socket,
            None => live.signalers.push((from.clone(), socket)),
        }
        Ok(live.signalers.iter().find(|(user, _)| user == to).map(|(_, last)| *last))
    }

    fn enroll(&self, id: CallId, user: &UserId) {
        let mut calls = self.of_user.entry(user.clone()).or_default();
        if !calls.contains(&id) {
            calls.push(id);
        }
    }

    /// The live calls that `user` belongs to, in whatever role or state.
    pub fn of(&self, user: &UserId) -> CallsOfUser {
        self.of_user.get(user).map(|it| it.value().clone()).unwrap_or_default()
    }

    /// The live call that `user` has joined, if any; `except` does not count.
    pub fn joined_by(&self, user: &UserId, except: Option<CallId>) -> Option<CallId> {
        let joined = |id: &CallId| self.read(*id, |call| call.is_joined(user)).unwrap_or(false);
        self.of(user).into_iter().find(|id| Some(*id) != except && joined(id))
    }

    /// Lets go of a call that is over and durable.
    pub fn retire(&self, id: CallId) {
        let Some((_, live)) = self.live.remove(&id) else { return };
        let live = live.lock();
        self.deadlines.set(id, live.deadline, None);
        for participant in &live.call.participants {
            if let Entry::Occupied(mut calls) = self.of_user.entry(participant.user.clone()) {
                calls.get_mut().retain(|it| *it != id);
                if calls.get().is_empty() {
                    calls.remove();
                }
            }
        }
    }

    /// The calls whose deadline has come. They stay due until [`Calls::change`] moves their deadline.
    pub fn due(&self, now: Timestamp) -> Vec<CallId> {
        self.deadlines.due(now, DUE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Calls {
        /// How many calls, users and deadlines are remembered.
        pub(crate) fn leftovers(&self) -> [usize; 3] {
            [self.live.len(), self.of_user.len(), self.deadlines.len()]
        }
    }
}
