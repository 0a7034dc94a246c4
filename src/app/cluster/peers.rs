//! Which nodes live: each beats twice a second, and whoever's beat stands still is dead.
//!
//! Not by the age of a beat: while the part of Redis that keeps them fails over, all beats are old; nor by its
//! absence: that part may have been lost. Dead is whose beat has not moved, or was not there, while the observer's
//! own went through nine times in a row: some four and a half seconds after its last one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::taking::Share;
use crate::bus::directory::Bus;
use crate::bus::node::NodeId;
use crate::call::time::Timestamp;

/// How often a node says that it lives.
const BEAT: Duration = Duration::from_millis(500);
/// How soon one that did not go through is tried again.
const BEAT_AGAIN: Duration = Duration::from_millis(250);
/// How often each node takes its own share of a dead one's calls alone, before any takes what is left.
const SHARED_TRIES: u32 = 4;
/// How far the clocks of this node and of Redis may be apart before somebody is told.
const APART_MAX: Duration = Duration::from_secs(2);
/// Beats of ours during which another's stands still until it counts as dead.
const STILL_MAX: u32 = 9;
/// Beats of ours for which one that is gone is remembered: an hour.
const REMEMBERED_MAX: u32 = 7200;
/// So long after it last sent a beat that went through, a node takes it that the others may take it for dead soon: no later
/// than the quickest of them does, whose beat before its nine may have been half a second on its way.
const FENCE: Duration = Duration::from_secs(4);

/// So many beats after the one that ended a long silence of this node, nobody takes its calls any more who has taken it for dead: all
/// have seen a beat of it, or have none of their own that goes through.
const HEARD_OF: u32 = 6;

/// The other nodes, as this one sees them.
#[derive(Default)]
pub(super) struct Peers {
    known: Mutex<BTreeMap<NodeId, Peer>>,
    last: Mutex<Option<Beat>>,
    /// Beats of ours that went through in a row.
    steady: AtomicU32,
    /// Calls of an earlier run are back.
    settled: AtomicBool,
    /// This node goes, and has said so: it is not to be taken for dead.
    retired: AtomicBool,
    /// They are being brought back right now.
    settling: AtomicBool,
    /// Dead nodes whose calls are being taken over.
    burials: Mutex<BTreeMap<NodeId, Burial>>,
    /// Our clock is not that of Redis.
    apart: AtomicBool,
}

/// A beat of ours that went through.
#[derive(Debug, Clone, Copy)]
struct Beat {
    sent: Instant,
    /// When it arrived by Redis' clock, milliseconds since 1970: while a machine is suspended its own clock stands still.
    arrived: i64,
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    beat: i64,
    still: u32,
    new: bool,
    /// It has counted as dead since it last moved.
    buried: bool,
    /// It is dead, and all that it had is taken care of.
    gone: bool,
}

impl Beat {
    fn of(me: &NodeId, sent: Instant, beats: &[(NodeId, i64)]) -> Self {
        let arrived = beats.iter().find(|(it, _)| it == me).map_or(0, |(_, it)| *it);
        Self { sent, arrived }
    }
}

impl Peer {
    fn is_dead(self) -> bool {
        self.gone || self.still >= STILL_MAX
    }
}

/// How the calls of a dead node are being taken over.
#[derive(Debug, Clone, Copy, Default)]
struct Burial {
    tries: u32,
    busy: bool,
}

/// What a beat has shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    dead: Vec<NodeId>,
    gone: Vec<NodeId>,
    /// Somebody was taken for dead and is not.
    back: bool,
    /// We ourselves were not heard of for long.
    absent: bool,
}

impl Peers {
    /// Whether the others may have taken this node for dead.
    pub(super) fn is_fenced(&self) -> bool {
        let last = *self.last.lock();
        !self.settled.load(Ordering::Relaxed) || last.is_none_or(|it| it.sent.elapsed() >= FENCE)
    }

    /// Calls of an earlier run are back: this node may decide.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// How often it was tried before to take over from `node`; `None` while that goes on.
    fn begin_to_bury(&self, node: &NodeId) -> Option<u32> {
        let mut burials = self.burials.lock();
        let burial = burials.entry(node.clone()).or_default();
        if std::mem::replace(&mut burial.busy, true) {
            return None;
        }
        burial.tries += 1;
        Some(burial.tries - 1)
    }

    fn end_to_bury(&self, node: &NodeId, buried: bool) {
        let mut burials = self.burials.lock();
        if buried {
            burials.remove(node);
        } else if let Some(burial) = burials.get_mut(node) {
            burial.busy = false;
        }
    }

    /// No more beats: this node goes.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether this node's calls of an earlier run are back.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Whether `node` is known to be dead.
    pub(super) fn is_dead(&self, node: &NodeId) -> bool {
        self.known.lock().get(node).is_some_and(|it| it.is_dead())
    }

    /// Whether `node` has been seen, alive or dead.
    pub(super) fn is_known(&self, node: &NodeId) -> bool {
        self.known.lock().contains_key(node)
    }

    /// Whether `node` was there at the last beat that showed who is, and is not dead.
    pub(super) fn is_living(&self, node: &NodeId) -> bool {
        self.known.lock().get(node).is_some_and(|it| !it.is_dead())
    }

    /// Whether calls of `node` are there to be taken: it is dead, as far as one knows whose own beat has just gone through,
    /// or an earlier run of this node.
    pub(super) fn may_be_taken_from(&self, me: &NodeId, node: &NodeId) -> bool {
        node.is_run_of(me) || (self.is_dead(node) && !self.is_fenced())
    }

    /// Whether `node` is dead, or no more; one that nobody knows here yet is looked for.
    pub(super) async fn is_gone(&self, bus: &Bus, node: &NodeId) -> bool {
        let known = self.known.lock().get(node).copied();
        match known {
            Some(peer) => peer.is_dead(),
            None if self.steady.load(Ordering::Relaxed) < STILL_MAX => false,
            None => match bus.beat().await {
                Ok(beats) => !beats.iter().any(|(it, _)| it == node),
                Err(_) => false,
            },
        }
    }

    /// A beat of ours did not go through: nothing was observed.
    fn miss(&self) {
        self.steady.store(0, Ordering::Relaxed);
        for peer in self.known.lock().values_mut() {
            peer.still = 0;
        }
    }

    /// Other nodes that live.
    pub(super) fn living(&self) -> Vec<NodeId> {
        let known = self.known.lock();
        known.iter().filter(|(_, it)| !it.is_dead()).map(|(node, _)| node.clone()).collect()
    }

    /// All other nodes that there are, dead ones too.
    pub(super) fn all(&self) -> Vec<NodeId> {
        self.known.lock().keys().cloned().collect()
    }

    /// Whether the others may have taken this node for dead before this beat.
    fn was_absent(&self, beat: Beat) -> bool {
        self.last.lock().is_some_and(|last| {
            let there = Timestamp(beat.arrived).since(Timestamp(last.arrived));
            beat.sent - last.sent >= FENCE || there >= FENCE
        })
    }

    /// Deadlines of calls are moments by the clocks of their owners: where those differ, a call that passes from one
    /// node to another rings too long or too short.
    fn compare_clocks(&self, me: &NodeId, beats: &[(NodeId, i64)], wall: Timestamp) {
        let Some((_, redis)) = beats.iter().find(|(it, _)| it == me) else { return };
        let apart = wall.since(Timestamp(*redis)).max(Timestamp(*redis).since(wall));
        let far = apart > APART_MAX;
        if self.apart.swap(far, Ordering::Relaxed) != far && far {
            let apart_ms = apart.as_millis();
            tracing::warn!(apart_ms, "this node's clock and Redis' are apart: set both by NTP");
        }
    }

    /// What the beat shows that was `sent` then.
    fn see(&self, me: &NodeId, sent: Instant, beats: &[(NodeId, i64)]) -> Seen {
        let beat = Beat::of(me, sent, beats);
        let absent = self.was_absent(beat);
        *self.last.lock() = Some(beat);
        if absent {
            // Whose own beats were late has not observed anything.
            self.miss();
        }
        self.steady.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known.lock();
        let mut seen = Seen { absent, ..Seen::default() };
        for (node, beat) in beats.iter().filter(|(it, _)| it != me) {
            known.entry(node.clone()).or_insert(Peer {
                beat: *beat,
                still: 0,
                new: true,
                buried: false,
                gone: false,
            });
        }
        known.retain(|node, peer| {
            let beat = beats.iter().find(|(it, _)| it == node).map(|(_, beat)| *beat);
            let beats = beat.is_some_and(|it| it != peer.beat);
            let moved = peer.new || absent || beats;
            seen.back |= peer.buried && beats;
            (peer.buried, peer.gone) = (peer.buried && !beats, peer.gone && !beats);
            peer.still = if moved { 0 } else { peer.still.saturating_add(1) };
            (peer.beat, peer.new) = (beat.unwrap_or(peer.beat), false);
            if !peer.is_dead() {
                return true;
            }
            peer.buried = true;
            if beat.is_some() {
                seen.dead.push(node.clone());
            } else if !peer.gone {
                peer.gone = true;
                seen.gone.push(node.clone());
            }
            // Known for long enough that it is seen to come back, should it have been taken for dead wrongly.
            peer.still < REMEMBERED_MAX
        });
        seen
    }
}

/// Beats, and takes care of what dead nodes leave; never returns.
#[expect(clippy::infinite_loop, reason = "ends with its task")]
pub(super) async fn watch(app: &Arc<App>) {
    let Some(cluster) = app.cluster() else { return };
    // Since it was not, for long.
    let mut heard_of = HEARD_OF;
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        if cluster.peers.retired.load(Ordering::Relaxed) {
            continue;
        }
        let sent = Instant::now();
        let Ok(told) = cluster.bus.beat().await else {
            cluster.peers.miss();
            // Sooner than the next is due, so that all nodes are back at once.
            beats.reset_after(BEAT_AGAIN);
            continue;
        };
        cluster.peers.compare_clocks(cluster.me(), &told, app.clock.wall());
        if cluster.peers.was_absent(Beat::of(cluster.me(), sent, &told)) {
            // While it is fenced still, it brings nothing to Redis that is not there.
            app.let_go_of_ended(cluster).await;
        }
        let seen = cluster.peers.see(cluster.me(), sent, &told);
        app.settle(cluster);
        if seen.absent {
            app.doubt_others(cluster);
            heard_of = 0;
        }
        heard_of += 1;
        if heard_of == HEARD_OF {
            cluster.keeping.check_all();
        }
        if seen.back {
            // What it told while it counted as dead was forgotten with it.
            cluster.keeping.doubt_all(true);
        }
        app.learn_late(cluster);
        app.contest(cluster);
        app.adopt_late(cluster);
        // Also of one that went by itself something may be left.
        for node in seen.gone {
            app.look_after(cluster, &node);
            app.bury(cluster, node, true);
        }
        for node in seen.dead {
            app.bury(cluster, node, false);
        }
    }
}

impl App {
    /// Has the calls of an earlier run brought back, beside the beats: many take longer than others wait for one.
    fn settle(self: &Arc<Self>, cluster: &Cluster) {
        let peers = &cluster.peers;
        if peers.settled.load(Ordering::Relaxed) || peers.settling.swap(true, Ordering::Relaxed) {
            return;
        }
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let Some(cluster) = app.cluster() else { return };
            if app.come_back(cluster).await {
                cluster.peers.settle();
            }
            cluster.peers.settling.store(false, Ordering::Relaxed);
        }));
    }

    /// Takes over what a dead node had. One that is `gone` from where beats are kept is not seen again: all that is left
    /// of it is taken at once.
    fn bury(self: &Arc<Self>, cluster: &Cluster, node: NodeId, gone: bool) {
        self.forget_node(cluster, &node);
        cluster.commands.give_up(&node);
        let Some(tries) = cluster.peers.begin_to_bury(&node) else { return };
        if tries == 0 && !gone {
            tracing::warn!(%node, "a node is dead: taking over its calls");
        }
        let share = if gone || tries >= SHARED_TRIES {
            Share::ALL
        } else {
            Share::of(cluster.me(), &cluster.peers.living())
        };
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let buried = app.take_all(&node, share).await || gone;
            if let Some(cluster) = app.cluster() {
                cluster.peers.end_to_bury(&node, buried);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(&format!("{name}.0123456789abcdef0123")).unwrap()
    }

    /// What each of some beats shows: `moves` says whether the other's has moved since.
    async fn dead_after(moves: &[bool]) -> Vec<bool> {
        let (peers, [me, other]) = (Peers::default(), ["me", "other"].map(node));
        let mut beat = 0;
        let mut dead = Vec::new();
        for moved in moves {
            beat += i64::from(*moved);
            tokio::time::advance(BEAT).await;
            let beats = [(me.clone(), 0), (other.clone(), beat)];
            let seen = peers.see(&me, Instant::now(), &beats);
            dead.push(seen.dead == [other.clone()]);
        }
        dead
    }

    #[tokio::test(start_paused = true)]
    async fn dead_is_whose_beat_stands_still_nine_times_in_a_row() {
        let (t, f) = (true, false);
        let still = |times: usize| vec![f; times];
        assert_eq!(dead_after(&still(8)).await, still(8), "the first is the one that shows it");
        let moves = [vec![t], still(10)].concat();
        assert_eq!(dead_after(&moves).await, [still(9), vec![t, t]].concat());
        let moves = [vec![t], still(8), vec![t], still(8)].concat();
        assert_eq!(dead_after(&moves).await, still(18));
        let moves = [vec![t], still(9), vec![t]].concat();
        assert_eq!(dead_after(&moves).await, [still(9), vec![t, f]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_away_itself_takes_nobody_for_dead() {
        let (peers, [me, other]) = (Peers::default(), ["me", "other"].map(node));
        peers.settle();
        let beats = [(me.clone(), 0), (other.clone(), 7)];
        for _ in 0..5 {
            peers.see(&me, Instant::now(), &beats);
            tokio::time::advance(BEAT).await;
        }
        assert!(!peers.is_fenced());
        tokio::time::advance(FENCE).await;
        assert!(peers.is_fenced());
        let seen = peers.see(&me, Instant::now(), &beats);
        assert_eq!(seen, Seen { absent: true, ..Seen::default() });
        assert!(!peers.is_fenced());
        for round in 1..=STILL_MAX {
            let seen = peers.see(&me, Instant::now(), &beats[..1]);
            assert_eq!(seen.gone.contains(&other), round == STILL_MAX, "{round}");
            tokio::time::advance(BEAT).await;
        }
        assert!(peers.is_dead(&other));
    }
}
