//! The calls that this node knows, whoever owns them: who is in them and where, by what their owners have told.

use dashmap::DashMap;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::app::cluster::Nodes;
use crate::bus::letter::Letter;
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::socketio::outlet::SocketId;

/// How one stands in a call, as far as signaling goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// In the call.
    Joined,
    /// Being rung.
    Rung,
    /// Neither.
    Other,
}

/// One who belongs to a call, and the nodes where sockets of theirs are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) standing: Standing,
    pub(super) nodes: Nodes,
    /// Gets the call's events.
    pub(super) listens: bool,
}

/// Where signaling to somebody went last: a device here, or one of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signaler {
    Here(SocketId),
    There(NodeId),
}

/// Who signaled from where last.
pub(super) type Signalers = SmallVec<[(UserId, Signaler); 2]>;

/// A call as this node knows it, whoever owns it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) owner: NodeId,
    pub(super) epoch: u64,
    seq: u64,
    /// It may have another owner by now.
    pub(super) doubtful: bool,
    pub(super) members: Vec<Member>,
    pub(super) signalers: Signalers,
    pub(super) changed: Instant,
}

/// Calls that are over and remembered as such: letters that were late, or come twice, tell nothing new of them.
const OVER_MAX: usize = 65_536;

/// The calls that this node knows; and of those that are over, the number of the last event.
pub(super) struct Views(pub(super) DashMap<CallId, View>, Cache<CallId, (u64, u64)>);

impl Default for Views {
    fn default() -> Self {
        Self(DashMap::new(), Cache::new(OVER_MAX))
    }
}

/// What a letter is to one who has read the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It was read, or a later one was.
    Old,
    /// It is the next.
    Next,
    /// Something before it was missed.
    Gap,
}

/// A call, and the number of its last event in its ownership.
type Last = (CallId, (u64, u64));

/// What it is, and who the call's people were before.
type Read = (Reading, Vec<Member>);

impl Views {
    pub(super) fn owner(&self, call: CallId) -> Option<NodeId> {
        self.0.get(&call).filter(|it| !it.doubtful).map(|it| it.owner.clone())
    }

    /// The number of the last event that was told of a call in that ownership.
    pub(super) fn number(&self, call: CallId, epoch: u64) -> Option<u64> {
        self.0.get(&call).filter(|it| it.epoch == epoch).map(|it| it.seq)
    }

    /// The owner is to be asked for anew.
    pub(super) fn doubt(&self, call: CallId) {
        if let Some(mut view) = self.0.get_mut(&call) {
            view.doubtful = true;
        }
    }

    pub(super) fn is_behind(&self, call: CallId, told: (u64, u64)) -> bool {
        let known = self.0.get(&call).map(|it| (it.epoch, it.seq));
        known.or_else(|| self.1.get(&call)).is_none_or(|it| it < told)
    }

    /// Whether more of the call is known than `told`.
    pub(super) fn is_ahead(&self, call: CallId, told: (u64, u64)) -> bool {
        self.0.get(&call).is_some_and(|it| (it.epoch, it.seq) > told)
            || self.1.get(&call).is_some_and(|it| it >= told)
    }

    /// The calls of `node`, and the numbers of their last events.
    pub(super) fn of_node(&self, node: &NodeId) -> Vec<Last> {
        let its = self.0.iter().filter(|it| it.owner == *node);
        its.map(|it| (*it.key(), (it.epoch, it.seq))).collect()
    }

    /// Whether the call is known to be over.
    pub(super) fn is_over(&self, call: CallId) -> bool {
        !self.0.contains_key(&call) && self.1.get(&call).is_some()
    }

    /// The call is over.
    pub(super) fn end(&self, call: CallId, last: (u64, u64)) {
        self.0.remove(&call);
        self.1.insert(call, last);
    }

    /// Takes over what a letter says of a call: its people and, where it `tells` so, of events. Also, who its people
    /// were before.
    pub(super) fn take(&self, letter: &Letter, members: &[Member], tells: bool) -> Read {
        let said = (letter.epoch, letter.seq);
        let reading = match self.0.get(&letter.call) {
            None if self.1.get(&letter.call).is_some_and(|it| said <= it) => Reading::Old,
            // What was before is told in another way to one who comes new, unless it was told already.
            None if letter.prev > 0 => Reading::Gap,
            None => Reading::Next,
            Some(view) => {
                let known = (view.epoch, view.seq);
                if said < known || (said == known && tells) {
                    Reading::Old
                } else if letter.epoch == view.epoch && letter.prev != view.seq && said != known {
                    Reading::Gap
                } else {
                    Reading::Next
                }
            }
        };
        if reading == Reading::Old {
            return (reading, Vec::new());
        }
        (reading, self.set(letter.call, &letter.from, said, members.to_vec()))
    }

    pub(super) fn set(
        &self,
        call: CallId,
        owner: &NodeId,
        (epoch, seq): (u64, u64),
        members: Vec<Member>,
    ) -> Vec<Member> {
        let changed = Instant::now();
        let mut view = self.0.entry(call).or_insert_with(|| View {
            owner: owner.clone(),
            epoch,
            seq,
            doubtful: false,
            members: Vec::new(),
            signalers: SmallVec::new(),
            changed,
        });
        view.owner = owner.clone();
        (view.epoch, view.seq, view.doubtful) = (epoch, seq, false);
        view.changed = changed;
        std::mem::replace(&mut view.members, members)
    }
}
