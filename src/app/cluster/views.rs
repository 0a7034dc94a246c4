//! The calls that this node knows, whoever owns them: who is in them and where, by what their owners have told.

use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
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
    /// The number of the owner's word on who its people are and where: it grows within an ownership with every
    /// change of that, as letters of the same event may overtake each other.
    places: u64,
    /// How often those who know it had to look at it anew within its ownership. It has a number of its own: a later letter
    /// bears those of events and places, and would hide that one was lost which said this alone.
    pub(super) anew: u64,
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

/// What a word on a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Something has happened in it.
    News,
    /// Nothing has: the last number that was told stands.
    Again,
    /// Whoever knows it has to look at it anew.
    Anew,
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
pub(super) type Last = (CallId, (u64, u64));

/// How far a call has been told: in which ownership, up to which event, up to which word on where its people are, and
/// how often those who know it had to look at it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) places: u64,
    #[serde(default)]
    pub(super) anew: u64,
}

/// One call's view, for as long as it is held.
type Viewed<'a> = RefMut<'a, CallId, View>;

/// What it is, and who the call's people were before.
type Read = (Reading, Vec<Member>);

impl Views {
    pub(super) fn owner(&self, call: CallId) -> Option<NodeId> {
        self.0.get(&call).filter(|it| !it.doubtful).map(|it| it.owner.clone())
    }

    /// The owner is to be asked for anew.
    pub(super) fn doubt(&self, call: CallId) {
        if let Some(mut view) = self.0.get_mut(&call) {
            view.doubtful = true;
        }
    }

    /// Those who belong to a call, as far as it is known.
    pub(super) fn people(&self, call: CallId) -> Vec<UserId> {
        let view = self.0.get(&call);
        view.iter().flat_map(|it| it.members.iter().map(|it| it.user.clone())).collect()
    }

    /// Whether something is missing of what was told of the call.
    pub(super) fn is_behind(&self, call: CallId, told: Extent) -> bool {
        let number = (told.epoch, told.seq);
        match self.0.get(&call) {
            Some(it) if it.epoch == told.epoch => {
                it.seq < told.seq || it.places < told.places || it.anew < told.anew
            }
            Some(it) => it.epoch < told.epoch,
            None => self.1.get(&call).is_none_or(|it| it < number),
        }
    }

    /// Whether more of the call is known than `told`.
    pub(super) fn is_ahead(&self, call: CallId, told: (u64, u64)) -> bool {
        self.0.get(&call).is_some_and(|it| (it.epoch, it.seq) > told)
            || self.1.get(&call).is_some_and(|it| it >= told)
    }

    /// The calls of `node`, and the numbers of their last events.
    pub(super) fn of_node(&self, node: &NodeId) -> Vec<Last> {
        let its = self.0.iter().filter(|it| it.owner == *node);
        let mut its: Vec<_> = its.map(|it| (*it.key(), (it.epoch, it.seq))).collect();
        its.sort_unstable();
        its
    }

    /// Whether the call is known to be over.
    pub(super) fn is_over(&self, call: CallId) -> bool {
        !self.0.contains_key(&call) && self.1.get(&call).is_some()
    }

    /// The call is over, unless it has gone on since that.
    pub(super) fn end(&self, call: CallId, last: (u64, u64)) {
        self.0.remove_if(&call, |_, view| (view.epoch, view.seq) <= last);
        if !self.0.contains_key(&call) {
            self.1.insert(call, last);
        }
    }

    /// Takes over what a letter says of a call: its people, unless a later word on them was read, and, where it
    /// `tells` so, of events. Also, who its people were before.
    pub(super) fn take(
        &self,
        letter: &Letter,
        (members, places, anew): (&[Member], u64, u64),
        tells: bool,
    ) -> Read {
        let said = (letter.epoch, letter.seq);
        let reading = match self.0.get(&letter.call) {
            None if self.1.get(&letter.call).is_some_and(|it| said <= it) => Reading::Old,
            // What was before is told in another way to one who comes new, unless it was told already.
            None if letter.prev > 0 || anew > 0 => Reading::Gap,
            None => Reading::Next,
            Some(view) => {
                let known = (view.epoch, view.seq);
                if said < known || (said == known && tells) {
                    Reading::Old
                } else if letter.epoch > view.epoch
                    || (letter.prev != view.seq && said != known)
                    || anew > view.anew
                {
                    // What the last owner has told may be more than the new one knows, or less.
                    Reading::Gap
                } else {
                    Reading::Next
                }
            }
        };
        if reading == Reading::Old {
            return (reading, Vec::new());
        }
        let mut view = self.open(letter.call, &letter.from, said);
        let before = view.members.clone();
        if view.epoch != letter.epoch || view.places <= places {
            (view.members, view.places) = (members.to_vec(), places);
        }
        view.anew = if view.epoch == letter.epoch { view.anew.max(anew) } else { anew };
        view.owner = letter.from.clone();
        (view.epoch, view.seq, view.doubtful) = (letter.epoch, letter.seq, false);
        view.changed = Instant::now();
        (reading, before)
    }

    /// Our own call is about to be told of: how far, and who its `people` are at this moment. Where nothing has happened, up to
    /// the last event that was told, if any was; that of the call may be of a change which is not durable yet, and would be
    /// taken for one that was told when it comes.
    pub(super) fn tell(
        &self,
        (call, me): (CallId, &NodeId),
        (epoch, seq): (u64, u64),
        word: Word,
        people: impl FnOnce() -> Vec<Member>,
    ) -> (Extent, Vec<Member>) {
        let seq = if word == Word::News { seq } else { 0 };
        // Whoever tells of it at the same time waits: so the later word is the truer one.
        let mut view = self.open(call, me, (epoch, seq));
        let members = people();
        if view.epoch != epoch {
            (view.epoch, view.seq, view.places, view.anew) = (epoch, seq, 0, 0);
        }
        view.anew += u64::from(word == Word::Anew);
        if view.places == 0 || view.members != members {
            view.places += 1;
            view.members.clone_from(&members);
        }
        view.seq = view.seq.max(seq);
        (view.owner, view.doubtful, view.changed) = (me.clone(), false, Instant::now());
        (Extent { epoch, seq: view.seq, places: view.places, anew: view.anew }, members)
    }

    fn open(&self, call: CallId, owner: &NodeId, (epoch, seq): (u64, u64)) -> Viewed<'_> {
        self.0.entry(call).or_insert_with(|| View {
            owner: owner.clone(),
            epoch,
            seq,
            places: 0,
            anew: 0,
            doubtful: false,
            members: Vec::new(),
            signalers: SmallVec::new(),
            changed: Instant::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::bus::letter::Kind;

    const CALL: CallId = CallId(Uuid::from_u128(7));

    fn node(name: &str) -> NodeId {
        NodeId::parse(&format!("{name}.0123456789abcdef0123")).unwrap()
    }

    fn at(nodes: &[&str]) -> Vec<Member> {
        let (user, nodes) = (UserId::parse("anna").unwrap(), nodes.iter().map(|it| node(it)));
        vec![Member { user, standing: Standing::Joined, nodes: nodes.collect(), listens: true }]
    }

    fn take(views: &Views, (epoch, seq, prev): (u64, u64, u64), of: (&[&str], u64)) -> Reading {
        take_anew(views, (epoch, seq, prev), of, 0)
    }

    fn take_anew(
        views: &Views,
        (epoch, seq, prev): (u64, u64, u64),
        of: (&[&str], u64),
        anew: u64,
    ) -> Reading {
        let (from, to, body) = (node("owner"), Vec::new(), Bytes::new());
        let letter =
            Letter { kind: Kind::News, id: 0, from, call: CALL, epoch, seq, prev, to, body };
        views.take(&letter, (&at(of.0), of.1, anew), false).0
    }

    #[test]
    fn a_later_word_on_where_somebody_is_stands_whatever_comes_after_it() {
        let views = Views::default();
        let there = || views.0.get(&CALL).unwrap().members.clone();
        let extent = |seq, places| Extent { epoch: 1, seq, places, anew: 0 };
        assert_eq!(take(&views, (1, 4, 0), (&["a"], 1)), Reading::Next);
        assert!(views.is_behind(CALL, extent(4, 2)) && !views.is_behind(CALL, extent(4, 1)));
        assert_eq!(take(&views, (1, 4, 4), (&["b"], 3)), Reading::Next);
        assert_eq!(take(&views, (1, 4, 4), (&["a", "b"], 2)), Reading::Next, "overtaken");
        assert_eq!(there(), at(&["b"]));
        assert!(!views.is_behind(CALL, extent(4, 3)) && views.is_behind(CALL, extent(5, 3)));
        assert_eq!(take(&views, (1, 6, 5), (&["b"], 3)), Reading::Gap);
        assert_eq!(take(&views, (2, 1_000_006, 0), (&["c"], 1)), Reading::Gap, "another owner");
        assert_eq!(there(), at(&["c"]));
        assert_eq!(take(&views, (2, 1_000_007, 1_000_006), (&["c"], 1)), Reading::Next);
        assert_eq!(take(&views, (1, 9, 6), (&["a"], 9)), Reading::Old);
        assert!(!views.is_behind(CALL, extent(9, 9)));
        views.end(CALL, (2, 1_000_006));
        assert!(!views.is_over(CALL), "it has gone on since");
        views.end(CALL, (2, 1_000_007));
        assert!(views.is_over(CALL));
    }

    #[test]
    fn whoever_missed_that_a_call_is_to_be_looked_at_anew_sees_it_by_any_later_word() {
        let views = Views::default();
        let extent = |epoch, anew| Extent { epoch, seq: 4, places: 2, anew };
        assert_eq!(take_anew(&views, (1, 4, 0), (&["a"], 2), 0), Reading::Next);
        assert!(views.is_behind(CALL, extent(1, 1)) && !views.is_behind(CALL, extent(1, 0)));
        assert_eq!(take_anew(&views, (1, 4, 4), (&["a"], 2), 1), Reading::Gap);
        assert!(!views.is_behind(CALL, extent(1, 1)));
        assert_eq!(take_anew(&views, (1, 4, 4), (&["b"], 3), 1), Reading::Next, "it has looked");
        assert_eq!(take_anew(&views, (1, 5, 4), (&["b"], 3), 0), Reading::Next, "overtaken");
        assert!(!views.is_behind(CALL, extent(1, 1)) && views.is_behind(CALL, extent(1, 2)));
        assert_eq!(
            take_anew(&views, (2, 1_000_006, 0), (&["c"], 2), 0),
            Reading::Gap,
            "another owner"
        );
        assert!(!views.is_behind(CALL, extent(2, 0)), "which counts by itself");
        assert_eq!(
            take_anew(&Views::default(), (1, 0, 0), (&["a"], 2), 1),
            Reading::Gap,
            "never told"
        );
    }

    #[test]
    fn an_owner_counts_its_words_and_never_tells_less_than_it_told() {
        let (views, me) = (Views::default(), node("me"));
        let tell = |number, word, at: Vec<Member>| {
            let (extent, members) = views.tell((CALL, &me), number, word, || at);
            (extent.seq, extent.places, extent.anew, members.len())
        };
        assert_eq!(tell((1, 3), Word::News, at(&["a"])), (3, 1, 0, 1));
        assert_eq!(tell((1, 4), Word::News, at(&["a"])), (4, 1, 0, 1), "they are where they were");
        assert_eq!(tell((1, 6), Word::Again, at(&["b"])), (4, 2, 0, 1), "6 is not durable yet");
        assert_eq!(tell((1, 3), Word::News, at(&["b"])), (4, 2, 0, 1));
        assert_eq!(tell((1, 4), Word::Anew, at(&["b"])), (4, 2, 1, 1));
        assert_eq!(
            tell((9, 1_000_004), Word::Again, at(&["b"])),
            (0, 1, 0, 1),
            "nothing was told yet"
        );
        assert_eq!(tell((9, 1_000_004), Word::News, at(&["b"])), (1_000_004, 1, 0, 1));
    }
}
