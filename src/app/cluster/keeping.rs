//! What all nodes can find of our calls: their state, and how users stand towards them.
//!
//! What has changed a call is noted once it is durable here, so that Redis never knows more than a journal. One task
//! brings it there, of each call one state at a time and the last there is, until it is there: a Redis that was away,
//! or has forgotten, gets it later.

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot};

use crate::app::cluster::changes::Queue;
use crate::app::cluster::stands::{Stand, Stands, Telling, Wanted};
use crate::app::cluster::views::{Extent, Word};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::time::Timestamp;

/// The nodes that know of a call, and how far each was told: the number of the last event, and of the last word on
/// where people are.
pub(super) type ToldNodes = SmallVec<[(NodeId, u64, u64); 2]>;

/// How often a call may have been lost since all who know it have looked at it anew.
type Losses = u32;

/// Our calls as Redis has them, and has to.
#[derive(Default)]
pub(super) struct Keeping {
    calls: DashMap<CallId, Ours>,
    queue: Mutex<Queue>,
    pub(super) changed: Notify,
}

/// One of our calls.
struct Ours {
    /// Grows with each change, before that is durable.
    version: u64,
    latest: Option<Latest>,
    /// What Redis says of how users stand, as far as we know.
    stands: Stands,
    /// It is being made, and may be taken back yet: as long as it has no state, nothing that was claimed for it is.
    making: bool,
    /// Who has ended it for themselves, and when: also where that changed nothing here.
    gone: Vec<(UserId, Timestamp)>,
    /// What every other node was told last.
    told: ToldNodes,
    /// Once Redis has it, those who know it have to look at it anew.
    lost: Losses,
    /// Redis may not list it as one of ours.
    unlisted: bool,
    /// The version that Redis has.
    reached: u64,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

/// Somebody who waits until Redis has a version of a call.
struct Waiting {
    version: u64,
    heard: oneshot::Sender<Kept>,
}

/// What has become of a version of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Redis has it.
    There,
    /// Another node has the call now.
    Deposed,
}

/// The call after its last durable change.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    version: u64,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) over: bool,
    pub(super) snapshot: Bytes,
    wanted: Wanted,
}

/// What is left of a call that another node has now.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    /// Those of whom Redis may say that they stand to it because we said so.
    pub(super) stood: Vec<UserId>,
    /// Who has ended it for themselves here, and when.
    pub(super) gone: Vec<(UserId, Timestamp)>,
}

impl Default for Ours {
    fn default() -> Self {
        Self {
            version: 0,
            latest: None,
            stands: Stands::default(),
            making: false,
            gone: Vec::new(),
            told: SmallVec::new(),
            lost: 0,
            unlisted: true,
            reached: 0,
            waiting: Vec::new(),
        }
    }
}

impl Keeping {
    /// A change is on its way to the disk; called under the call's lock, so that a later change is a later version.
    pub(super) fn expect(&self, call: &Call, snapshot: Bytes) -> Latest {
        let wanted = call.participants.iter().map(|it| Stand::of(call, it)).collect();
        let (epoch, seq, over) = (call.epoch, call.seq, call.state.is_terminal());
        let mut kept = self.calls.entry(call.id).or_default();
        kept.version += 1;
        Latest { version: kept.version, epoch, seq, over, snapshot, wanted }
    }

    /// It is durable; called in the order of changes.
    pub(super) fn note(&self, call: CallId, latest: Latest) {
        // One that was deposed meanwhile is nobody's business here any more.
        let Some(mut kept) = self.calls.get_mut(&call) else { return };
        kept.latest = Some(latest);
        drop(kept);
        self.touch(call);
    }

    /// Has the call brought to Redis once more.
    pub(super) fn touch(&self, call: CallId) {
        self.queue.lock().push(call);
        self.changed.notify_one();
    }

    /// A call that is ours in one epoch has been heard of as another's: of two who think that they own it, Redis says who
    /// does.
    pub(super) fn check(&self, call: CallId, ours: u64, theirs: u64) {
        if theirs > ours {
            self.touch(call);
        }
    }

    /// Redis says of all calls whether they are ours still.
    pub(super) fn check_all(&self) {
        for call in self.all() {
            self.touch(call);
        }
    }

    /// The oldest first.
    fn all(&self) -> Vec<CallId> {
        let mut all: Vec<CallId> = self.calls.iter().map(|it| *it.key()).collect();
        all.sort_unstable();
        all
    }

    /// Redis says now that a user stands so towards a call of ours: what it said before, as far as we know.
    pub(super) fn established(&self, call: CallId, stand: Stand) -> Option<Stand> {
        self.calls.entry(call).or_default().stands.establish(stand)
    }

    /// Whether Redis was told how a user stands is not known: the answer was lost.
    pub(super) fn doubt_stand(&self, call: CallId, user: &UserId) {
        if let Some(mut kept) = self.calls.get_mut(&call) {
            kept.stands.doubt(user);
        }
    }

    /// A call of ours is being made.
    pub(super) fn begin(&self, call: CallId) {
        self.calls.entry(call).or_default().making = true;
    }

    /// Whether a call of ours is being made, and nobody could join it yet.
    pub(super) fn is_making(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|it| it.making && it.latest.is_none())
    }

    /// Whether a start here has not come to its end yet: what it has made it may take back.
    pub(super) fn is_starting(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|it| it.making)
    }

    /// It was made, and stays.
    pub(super) fn made(&self, call: CallId) {
        if let Some(mut kept) = self.calls.get_mut(&call) {
            kept.making = false;
        }
    }

    /// It came to nothing: what was claimed for it is taken back.
    pub(super) fn give_up(&self, call: CallId) {
        self.made(call);
        self.touch(call);
    }

    /// What may be `lost` is brought again: all calls, as they are, the oldest first.
    pub(super) fn doubt_all(&self, lost: bool) {
        for call in self.all() {
            self.doubt(call, lost);
        }
    }

    /// The same for one call.
    pub(super) fn doubt(&self, call: CallId, lost: bool) {
        let Some(mut kept) = self.calls.get_mut(&call) else { return };
        kept.stands.doubt_all();
        kept.unlisted = true;
        kept.lost += u32::from(lost);
        drop(kept);
        self.touch(call);
    }

    /// Whether those who know the call have to look at it anew, now that Redis has what was planned; says so once. What was
    /// lost since is not there yet.
    pub(super) fn was_lost(&self, call: CallId, plan: &Plan) -> bool {
        let Some(mut kept) = self.calls.get_mut(&call) else { return false };
        let all = kept.lost > 0 && kept.lost == plan.lost;
        if all {
            kept.lost = 0;
        }
        all
    }

    /// Redis lists the call as one of ours, or may not.
    pub(super) fn list(&self, call: CallId, listed: bool) {
        if let Some(mut kept) = self.calls.get_mut(&call) {
            kept.unlisted = !listed;
        }
    }

    /// `user` has ended a call at that time.
    pub(super) fn let_go(&self, call: CallId, user: &UserId, at: Timestamp) {
        let Some(mut kept) = self.calls.get_mut(&call) else { return };
        kept.gone.retain(|(it, _)| it != user);
        kept.gone.push((user.clone(), at));
    }

    /// Forgets a call that another node has now.
    pub(super) fn forget(&self, call: CallId) -> Leftover {
        let Some((_, kept)) = self.calls.remove(&call) else { return Leftover::default() };
        for it in kept.waiting {
            // Whoever waited may have given up.
            _ = it.heard.send(Kept::Deposed);
        }
        Leftover { stood: kept.stands.into_users(), gone: kept.gone }
    }

    /// The numbers that `node` is to be told of this call: of the event up to which it is told now, that of `extent`
    /// unless nothing has happened, and of the one before.
    pub(super) fn tell(
        &self,
        call: CallId,
        node: &NodeId,
        extent: Extent,
        word: Word,
    ) -> (u64, u64) {
        let Extent { seq, places, .. } = extent;
        let Some(mut kept) = self.calls.get_mut(&call) else { return (seq, 0) };
        if let Some((_, told, placed)) = kept.told.iter_mut().find(|(it, ..)| it == node) {
            let seq = if word == Word::News { seq } else { *told };
            // Whoever tells of it at the same time may know of less.
            *placed = places.max(*placed);
            return (seq, std::mem::replace(told, seq));
        }
        kept.told.push((node.clone(), seq, places));
        (seq, 0)
    }

    /// `node` has none of a call's people any more, and knows that.
    pub(super) fn untell(&self, call: CallId, node: &NodeId) {
        if let Some(mut kept) = self.calls.get_mut(&call) {
            kept.told.retain(|(it, ..)| it != node);
        }
    }

    /// The nodes that know of a call, and what each was told last.
    pub(super) fn told(&self, call: CallId) -> ToldNodes {
        self.calls.get(&call).map(|it| it.told.clone()).unwrap_or_default()
    }

    /// A node that is gone is told nothing more; one that comes back under this name begins anew.
    pub(super) fn drop_node(&self, node: &NodeId) {
        for mut kept in self.calls.iter_mut() {
            kept.told.retain(|(it, ..)| it != node);
        }
    }

    /// Whether something is left to be brought to Redis of a call, now or later.
    pub(super) fn has(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// How many calls are not in Redis as they are.
    pub(super) fn behind(&self) -> usize {
        self.queue.lock().len()
    }

    /// A call that is over and not yet in Redis as such.
    pub(super) fn last(&self, call: CallId) -> Option<Call> {
        let kept = self.calls.get(&call)?;
        serde_json::from_slice(&kept.latest.as_ref()?.snapshot).ok()
    }

    /// What Redis has to be told of a call. Until [`reach`](Self::reach) says that it was, it is not known how far.
    /// Who `may` not be put out of it is left out.
    pub(super) fn plan(&self, call: CallId, may: impl FnMut(&UserId) -> bool) -> Option<Plan> {
        let mut kept = self.calls.get_mut(&call)?;
        if kept.latest.is_none() && kept.making {
            return None;
        }
        let wanted = kept.latest.as_ref().map(|it| it.wanted.clone()).unwrap_or_default();
        let stands = kept.stands.tell(&wanted, may);
        let version = kept.latest.as_ref().map_or(0, |it| it.version);
        let unlisted = kept.unlisted && kept.latest.as_ref().is_some_and(|it| !it.over);
        Some(Plan { version, latest: kept.latest.clone(), stands, unlisted, lost: kept.lost })
    }

    /// Redis has what was planned. True where nothing is left of the call.
    pub(super) fn reach(&self, call: CallId, plan: &Plan) -> bool {
        let known = self.calls.get_mut(&call).is_none_or(|mut it| it.stands.told(&plan.stands));
        let over = plan.latest.as_ref().is_none_or(|it| it.over);
        let done = |_: &CallId, kept: &mut Ours| {
            kept.arrive(plan.version);
            over && known && kept.version == plan.version
        };
        if self.calls.remove_if_mut(&call, done).is_some() {
            return true;
        }
        if !known {
            self.touch(call);
        }
        false
    }
}

impl Ours {
    /// Tells those who wait that it is so far.
    fn arrive(&mut self, version: u64) {
        self.reached = self.reached.max(version);
        let reached = self.reached;
        for it in self.waiting.extract_if(.., |it| it.version <= reached) {
            // Whoever waited may have given up.
            _ = it.heard.send(Kept::There);
        }
    }
}

/// What is to be brought to Redis.
pub(super) struct Plan {
    version: u64,
    pub(super) latest: Option<Latest>,
    /// How users stand of whom Redis has to be told.
    pub(super) stands: Vec<Telling>,
    /// It has to be listed as one of ours.
    pub(super) unlisted: bool,
    /// Those who know it may not know what has become of it.
    lost: Losses,
}

impl Plan {
    pub(super) fn is_after_loss(&self) -> bool {
        self.lost > 0
    }
}

impl Keeping {
    /// A call that is to be brought to Redis now.
    pub(super) fn next(&self) -> Option<CallId> {
        self.queue.lock().pop()
    }

    /// It is there, unless that is not `done`.
    pub(super) fn settle(&self, call: CallId, done: bool) {
        self.queue.lock().settle(call, done);
    }

    /// Hears what becomes of a call as it is now; nothing, once it is gone from here. None where it is already.
    pub(super) fn wait(&self, call: CallId) -> Option<oneshot::Receiver<Kept>> {
        let mut kept = self.calls.get_mut(&call)?;
        let (heard, answer) = oneshot::channel();
        let waiting = Waiting { version: kept.version, heard };
        kept.waiting.retain(|it| !it.heard.is_closed());
        kept.waiting.push(waiting);
        let reached = kept.reached;
        kept.arrive(reached);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keeping {
        /// How many calls are remembered.
        pub(in crate::app::cluster) fn leftovers(&self) -> usize {
            self.calls.len()
        }
    }
}
