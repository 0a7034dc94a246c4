//! Which call is due when: data only.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use crate::call::id::CallId;
use crate::call::time::Timestamp;

/// More would lessen contention between cores that change calls at once, and cost a lock each when
/// the clock ticks.
const SHARDS: usize = 16;

type Shard = Mutex<BTreeSet<(Timestamp, CallId)>>;

/// Every live call under its next deadline.
pub(super) struct Deadlines {
    shards: [Shard; SHARDS],
    hasher: RandomState,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }

    fn shard(&self, call: CallId) -> Option<&Shard> {
        let index = usize::try_from(self.hasher.hash_one(call)).unwrap_or(0) % SHARDS;
        self.shards.get(index)
    }

    /// Moves `call` from one deadline to another; `None` is none.
    pub(super) fn set(&self, call: CallId, before: Option<Timestamp>, after: Option<Timestamp>) {
        let Some(shard) = self.shard(call).filter(|_| before != after) else { return };
        let mut shard = shard.lock();
        if let Some(before) = before {
            shard.remove(&(before, call));
        }
        if let Some(after) = after {
            shard.insert((after, call));
        }
    }

    /// The calls that are due at `now`, the longest first, at most `max` of each shard. They stay until their deadline
    /// moves, so that none is forgotten when what is due could not be carried out.
    pub(super) fn due(&self, now: Timestamp, max: usize) -> Vec<CallId> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            due.extend(shard.iter().take_while(|(at, _)| *at <= now).take(max).copied());
        }
        due.sort_unstable();
        due.into_iter().map(|(_, call)| call).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    impl Deadlines {
        pub(in crate::registry) fn len(&self) -> usize {
            self.shards.iter().map(|it| it.lock().len()).sum()
        }
    }

    #[test]
    fn due_is_what_lies_behind_and_was_not_moved() {
        let deadlines = Deadlines::new();
        let [a, b, c] = [1, 2, 3].map(|it| CallId(Uuid::from_u128(it)));
        let at = |millis| Some(Timestamp(millis));
        deadlines.set(a, None, at(10));
        deadlines.set(b, None, at(20));
        deadlines.set(c, None, at(10));
        deadlines.set(c, at(10), at(30));
        let due = |now| {
            let mut due = deadlines.due(Timestamp(now), 8);
            due.sort();
            due
        };
        assert_eq!(due(9), []);
        assert_eq!(due(10), [a]);
        assert_eq!(due(20), [a, b]);
        deadlines.set(a, at(10), None);
        assert_eq!(due(30), [b, c]);
    }
}
