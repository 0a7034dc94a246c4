//! Calls that have changed: in the order in which they did, each once, and of each one change at a time.

use std::collections::{HashSet, VecDeque};

use crate::call::id::CallId;

/// Those that wait, and those whose change is on its way to Redis.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<CallId>,
    queued: HashSet<CallId>,
    busy: HashSet<CallId>,
}

impl Queue {
    pub(super) fn push(&mut self, call: CallId) {
        if self.queued.insert(call) {
            self.waiting.push_back(call);
        }
    }

    /// The first of those that are not on their way.
    pub(super) fn pop(&mut self) -> Option<CallId> {
        let index = self.waiting.iter().position(|it| !self.busy.contains(it))?;
        let call = self.waiting.remove(index)?;
        self.queued.remove(&call);
        self.busy.insert(call);
        Some(call)
    }

    /// One is on its way no more; where that is not `done`, it waits again.
    pub(super) fn settle(&mut self, call: CallId, done: bool) {
        self.busy.remove(&call);
        if !done {
            self.push(call);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queued.len() + self.busy.len()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn of_each_one_change_is_on_its_way_and_none_is_lost() {
        let [one, other] = [1, 2].map(|it| CallId(Uuid::from_u128(it)));
        let mut queue = Queue::default();
        for call in [one, one, other] {
            queue.push(call);
        }
        assert_eq!((queue.pop(), queue.len()), (Some(one), 2));
        queue.push(one);
        assert_eq!((queue.pop(), queue.pop()), (Some(other), None), "it is on its way still");
        queue.settle(one, true);
        queue.settle(other, false);
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(one), Some(other), None));
        queue.settle(one, true);
        queue.settle(other, true);
        assert_eq!((queue.pop(), queue.len()), (None, 0));
    }
}
