//! A Redis in memory for tests of several nodes in one process, and all that can go wrong with it.
//!
//! The same operations on the same keys, letters that arrive in order; and on demand letters that are lost,
//! doubled or late, operations that take their time, nodes that are cut off or killed, a store that goes back to
//! what it was. What happens follows from the seed, as far as the tasks of a test do: each way between two nodes and
//! each kind of question of a node has a chance of its own, so that what one does a moment sooner or later decides
//! nothing for the others.

mod chance;
pub(crate) mod store;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::chance::{Chances, hits};
use self::store::{Store, master_of};
use crate::bus::directory::{Bus, Incoming, Mailbox, Port};
use crate::bus::error::{BusError, Kind};
use crate::bus::letter::Letter;
use crate::bus::node::NodeId;
use crate::bus::reply::Reply;
use crate::bus::script::Script;

/// How long whoever is cut off waits for an answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long the self-check takes to notice.
const NOTICED: Duration = Duration::from_secs(2);
/// What Redis' clock says at first: its own, which no node's is.
const BEGUN_MS: i64 = 1_700_000_000_000;
const MAILBOX_MAX: usize = 65_536;

/// What goes wrong, each of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Letters that are lost.
    pub(crate) lost: u64,
    /// Letters that arrive twice.
    pub(crate) doubled: u64,
    /// Letters that others may overtake.
    pub(crate) overtaken: u64,
    /// Milliseconds a letter takes, at most; one that may be overtaken takes ten times as long.
    pub(crate) late_ms: u64,
    /// Operations that are carried out while the answer gets lost.
    pub(crate) unanswered: u64,
    /// Milliseconds an operation takes to be carried out, at most, and its answer to come. Those of one node on one key
    /// keep their order, as on one connection to one server.
    pub(crate) slow_ms: u64,
}

/// What a store held at some time.
pub(crate) struct Saved(Store);

impl Saved {
    /// What one holds that has just begun.
    pub(crate) fn nothing() -> Self {
        Self(Store::default())
    }
}

/// When an operation is carried out, and when it is answered.
type Times = [Instant; 2];

struct World {
    /// What tells runs of a node apart.
    chance: Rng,
    chances: Chances,
    faults: Faults,
    store: Store,
    begun: Instant,
    mailboxes: BTreeMap<NodeId, mpsc::Sender<Incoming>>,
    /// The part of the keys, and of the mailboxes, that nobody reaches.
    away: Option<u64>,
    /// Since when, and how many operations have failed since.
    cut: BTreeMap<NodeId, (Instant, u32)>,
    /// When the last letter from one to another arrives.
    last: BTreeMap<(NodeId, NodeId), Instant>,
    /// When a node's last operation on a key is carried out, and answered.
    asked: BTreeMap<(NodeId, String), Times>,
    count: u64,
    /// Operations carried out and letters delivered.
    done: u64,
    /// A digest of all that was asked and posted.
    seen: DefaultHasher,
    flying: BinaryHeap<Reverse<Flying>>,
}

/// A letter on its way; ordered by when it arrives, then by when it was posted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    number: u64,
    from: NodeId,
    to: NodeId,
    letter: Bytes,
}

/// The Redis of some nodes.
#[derive(Clone)]
pub(crate) struct Net(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    posted: Notify,
}

/// One node's way.
#[derive(Clone)]
pub(crate) struct Node {
    net: Net,
    me: NodeId,
}

impl Net {
    /// An empty one; needs a runtime.
    pub(crate) fn new(seed: u64) -> Self {
        let world = World {
            // A life begins with the same seed, and must not draw the same numbers.
            chance: Rng::with_seed(seed).fork(),
            chances: Chances::of_seed(seed),
            faults: Faults::default(),
            store: Store::default(),
            begun: Instant::now(),
            mailboxes: BTreeMap::new(),
            away: None,
            cut: BTreeMap::new(),
            last: BTreeMap::new(),
            asked: BTreeMap::new(),
            count: 0,
            done: 0,
            seen: DefaultHasher::new(),
            flying: BinaryHeap::new(),
        };
        let shared = Arc::new(Shared { world: Mutex::new(world), posted: Notify::new() });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                let next = shared.world.lock().deliver();
                // Looks up now and then, so that it ends with the net.
                let next = next.unwrap_or_else(|| Instant::now() + NOTICED);
                drop(timeout_at(next, shared.posted.notified()).await);
            }
        });
        Self(shared)
    }

    /// Another node, or another run of one.
    pub(crate) fn node(&self, name: &str) -> (Bus, Mailbox) {
        let mut world = self.0.world.lock();
        world.count += 1;
        // Names tell who is who; chance is what tells runs apart.
        let (count, chance) = (world.count, world.chance.u64(..1 << 12));
        let number = u32::try_from(count << 12 | chance).unwrap();
        let me = NodeId::numbered(name, number).unwrap();
        let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
        world.mailboxes.insert(me.clone(), sender);
        let node = Node { net: self.clone(), me: me.clone() };
        (Bus { me, port: Port::Memory(node) }, mailbox)
    }

    pub(crate) fn fail(&self, faults: Faults) {
        self.0.world.lock().faults = faults;
    }

    /// The node does not reach Redis any more, nor Redis the node.
    pub(crate) fn cut(&self, node: &NodeId) {
        self.0.world.lock().cut.entry(node.clone()).or_insert((Instant::now(), 0));
    }

    pub(crate) fn cut_all(&self) {
        let nodes: Vec<_> = self.0.world.lock().mailboxes.keys().cloned().collect();
        for node in &nodes {
            self.cut(node);
        }
    }

    /// It does again; what came in between is lost, and it is told so.
    pub(crate) fn mend(&self, node: &NodeId) {
        let mut world = self.0.world.lock();
        world.cut.remove(node);
        world.put(node, Incoming::Gap);
    }

    pub(crate) fn mend_all(&self) {
        let nodes: Vec<_> = self.0.world.lock().cut.keys().cloned().collect();
        for node in &nodes {
            self.mend(node);
        }
    }

    /// One of the masters is away: nobody reaches its keys, nor the nodes whose mailboxes it has.
    pub(crate) fn lose_master(&self, master: u64) {
        self.0.world.lock().away = Some(master);
    }

    /// It is back, or another in its place, with what it had by then; what it was told since is lost.
    pub(crate) fn replace_master(&self, by: &Saved) {
        let mut world = self.0.world.lock();
        if let Some(master) = world.away.take() {
            world.store.take_part(&by.0, master);
        }
    }

    /// The process is gone: its mailbox closes, and it changes nothing any more.
    pub(crate) fn kill(&self, node: &NodeId) {
        self.0.world.lock().mailboxes.remove(node);
    }

    /// Grows with all that happens: what stands still has nothing more to do for now.
    pub(crate) fn done(&self) -> u64 {
        let world = self.0.world.lock();
        world.done + world.count
    }

    /// The same for two lives only if the nodes asked and posted the same in the same order.
    pub(crate) fn digest(&self) -> u64 {
        self.0.world.lock().seen.finish()
    }

    pub(crate) fn save(&self) -> Saved {
        Saved(self.0.world.lock().store.clone())
    }

    /// The store goes back: what was acknowledged since is lost.
    pub(crate) fn restore(&self, saved: &Saved) {
        self.0.world.lock().store = saved.0.clone();
    }
}

impl World {
    fn put(&self, to: &NodeId, incoming: Incoming) -> bool {
        self.mailboxes.get(to).is_some_and(|it| it.try_send(incoming).is_ok())
    }

    /// Delivers what is due: when something is next.
    fn deliver(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut dead = HashSet::new();
        while let Some(Reverse(next)) = self.flying.peek() {
            if next.at > now {
                return Some(next.at);
            }
            let Some(Reverse(due)) = self.flying.pop() else { break };
            let [from_cut, to_cut] = [&due.from, &due.to].map(|it| self.cut.contains_key(it));
            let away = self.away.is_some_and(|it| master_of(&format!("n:{{{}}}", due.to)) == it);
            if from_cut || to_cut || away || !self.mailboxes.contains_key(&due.from) {
                continue;
            }
            self.done += 1;
            let letter = Letter::decode(due.letter).unwrap();
            if !self.put(&due.to, Incoming::Letter(letter)) && dead.insert(due.to.clone()) {
                self.put(&due.from, Incoming::Undelivered(due.to));
            }
        }
        None
    }

    fn post(&mut self, from: &NodeId, to: &NodeId, letter: &Bytes) {
        let faults = self.faults;
        // Without its id, which is random, and its body, which may bear such an id.
        let Letter { kind, call, epoch, seq, prev, .. } = Letter::decode(letter.clone()).unwrap();
        (from, to, discriminant(&kind), call, (epoch, seq, prev)).hash(&mut self.seen);
        let chance = self.chances.of(from, Some(to), "");
        if self.cut.contains_key(from) || hits(chance, faults.lost) {
            return;
        }
        let copies = if hits(chance, faults.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let overtaken = hits(chance, faults.overtaken);
            let most = if overtaken { 10 * faults.late_ms } else { faults.late_ms };
            let mut at = Instant::now() + Duration::from_millis(chance.u64(..=most));
            if !overtaken {
                let last = self.last.entry((from.clone(), to.clone())).or_insert(at);
                at = at.max(*last);
                *last = at;
            }
            self.count += 1;
            let (number, letter) = (self.count, letter.clone());
            let flying = Flying { at, number, from: from.clone(), to: to.clone(), letter };
            self.flying.push(Reverse(flying));
        }
    }

    /// How slow an operation is that is asked for now; `None` where nobody is there to ask.
    fn slowness(&mut self, me: &NodeId, script: Script, key: &str) -> Option<Times> {
        if !self.mailboxes.contains_key(me) {
            // What it has asked before is carried out still.
            return None;
        }
        let most = self.faults.slow_ms;
        let mut at = Instant::now();
        let asked = (me.clone(), key.to_owned());
        // What was asked while it was slow comes first, as on one connection.
        if most == 0 && self.asked.get(&asked).is_none_or(|[_, answered]| *answered < at) {
            return Some([at; 2]);
        }
        let chance = self.chances.of(me, None, script.during());
        let last = self.asked.entry(asked).or_insert([at; 2]);
        for it in last.iter_mut() {
            at += Duration::from_millis(chance.u64(..=most));
            // Timers of the same millisecond have no order.
            at = at.max(*it + Duration::from_millis(1));
            *it = at;
        }
        Some(*last)
    }

    /// What comes of an operation: when the answer is there, and which.
    fn run(
        &mut self,
        me: &NodeId,
        script: Script,
        key: &str,
        args: &[&[u8]],
    ) -> (Duration, Option<Reply>) {
        self.done += 1;
        (me, script.during(), key).hash(&mut self.seen);
        if let Some((_, failures)) = self.cut.get_mut(me) {
            *failures += 1;
            let known = *failures > 2 && script != Script::Beat;
            return (if known { Duration::ZERO } else { ANSWER_MAX }, None);
        }
        if self.away == Some(master_of(key)) {
            return (ANSWER_MAX, None);
        }
        let passed = i64::try_from(self.begun.elapsed().as_millis()).unwrap();
        let reply = self.store.run(BEGUN_MS + passed, script, key, args);
        if hits(self.chances.of(me, None, script.during()), self.faults.unanswered) {
            return (ANSWER_MAX, None);
        }
        (Duration::ZERO, Some(reply))
    }
}

impl Node {
    pub(super) fn is_well(&self) -> bool {
        let world = self.net.0.world.lock();
        let noticed =
            |(since, failures): &(Instant, u32)| *failures >= 2 || since.elapsed() >= NOTICED;
        world.mailboxes.contains_key(&self.me) && !world.cut.get(&self.me).is_some_and(noticed)
    }

    pub(super) async fn ask(
        &self,
        script: Script,
        key: &str,
        args: &[&[u8]],
    ) -> Result<Reply, BusError> {
        // Redis answers no sooner than others have had a chance to ask.
        tokio::task::yield_now().await;
        let away = || BusError::new(script.during(), Kind::Away);
        let begun = Instant::now();
        let times = self.net.0.world.lock().slowness(&self.me, script, key);
        let [done, answered] = times.ok_or_else(away)?;
        if done == begun {
            let (takes, reply) = self.net.0.world.lock().run(&self.me, script, key, args);
            if !takes.is_zero() {
                sleep_until(begun + takes).await;
            }
            return reply.ok_or_else(away);
        }
        // Once asked it is carried out, whether anybody still waits for it or not.
        let (node, key) = (self.clone(), key.to_owned());
        let args: Vec<Vec<u8>> = args.iter().map(|it| it.to_vec()).collect();
        let working = tokio::spawn(async move {
            sleep_until(done).await;
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let (takes, reply) = node.net.0.world.lock().run(&node.me, script, &key, &args);
            sleep_until(answered.max(Instant::now() + takes)).await;
            reply
        });
        let reply = timeout_at(begun + ANSWER_MAX, working).await;
        reply.ok().and_then(Result::ok).flatten().ok_or_else(away)
    }

    pub(super) fn post(&self, to: &NodeId, letter: &Bytes) -> bool {
        self.net.0.world.lock().post(&self.me, to, letter);
        self.net.0.posted.notify_one();
        true
    }
}
