//! What all nodes know together: where each call lives, where each user is, which nodes there are.
//!
//! One key for each: `nodes`; `c:{call}`, `u:{user}` and `i:{user}:key`, `n:{node}:calls`; the
//! channel `n:{node}` is a node's mailbox. What stands in braces decides which server
//! of a cluster has the key.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::bus::error::{BusError, Kind};
use crate::bus::letter::Letter;
#[cfg(test)]
use crate::bus::memory::Node;
use crate::bus::node::NodeId;
use crate::bus::redis::Redis;
use crate::bus::reply::Reply;
use crate::bus::script::Script;
use crate::call::id::{CallId, UserId};

/// A call as all nodes know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who may write it.
    pub owner: NodeId,
    /// Which ownership.
    pub epoch: u64,
    /// The number of its last event.
    pub seq: u64,
    /// It is over: kept a while for those who come late.
    pub over: bool,
    /// The machine's snapshot; empty while it is being made.
    pub snapshot: Bytes,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours, in this epoch; the call as it was.
    Ours {
        /// The new ownership.
        epoch: u64,
        /// The call as it was.
        was: Option<Found>,
    },
    /// Somebody else has it, or it is over.
    Theirs(Found),
    /// There is none (and one was expected).
    Nothing,
}

/// What a user's standing towards a call is, for all nodes to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Is rung by this user in a call of two.
    RungBy(UserId),
    /// Is rung in a group.
    Rung,
    /// Belongs to it.
    Member,
}

/// What came of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Kept,
    /// Something newer of ours is there already.
    Older,
    /// Somebody else owns the call.
    Deposed,
    /// Redis has lost the call.
    Missing,
}

/// What is known of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The call that the user has joined.
    pub joined: Option<CallId>,
    /// Whom the user calls with it, where it is a start of two.
    pub calling: Option<UserId>,
    /// The calls that the user belongs to: their owners, and how.
    pub calls: Vec<(CallId, NodeId, Mark)>,
    /// The nodes that have sockets of the user, and how many.
    pub nodes: Vec<(NodeId, u32)>,
}

/// What reaches a node.
#[derive(Debug)]
pub enum Incoming {
    /// A letter.
    Letter(Letter),
    /// A letter of ours to that node has found nobody: its mailbox is not open.
    Undelivered(NodeId),
    /// Letters may have been lost: whatever is known of others' calls is in doubt.
    Gap,
}

/// What came of ringing somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The user is rung.
    Rung,
    /// The user has joined another call, so belongs to this one without being rung.
    Busy,
    /// As many calls ring the user as may: nothing has changed.
    TooMany,
}

/// The way to the other nodes. Cheap to clone.
///
/// Every method that asks fails with [`Kind::Away`] within half a second where Redis does not answer (a
/// second where it also has to be told a script), and at once while it is known to be away; only
/// [`beat`](Self::beat) always tries.
#[derive(Clone)]
pub struct Bus {
    pub(super) me: NodeId,
    pub(super) port: Port,
}

/// Who carries it out.
#[derive(Clone)]
pub(super) enum Port {
    Redis(Redis),
    #[cfg(test)]
    Memory(Node),
}

impl Bus {
    /// This node, in this run.
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// Whether Redis answers and our mailbox works.
    pub fn is_well(&self) -> bool {
        match &self.port {
            Port::Redis(redis) => redis.is_well(),
            #[cfg(test)]
            Port::Memory(node) => node.is_well(),
        }
    }

    async fn ask<T>(
        &self,
        script: Script,
        key: &str,
        args: &[&[u8]],
        read: impl FnOnce(&Reply) -> Option<T>,
    ) -> Result<T, BusError> {
        let reply = match &self.port {
            Port::Redis(redis) => redis.ask(script, key, args).await?,
            #[cfg(test)]
            Port::Memory(node) => node.ask(script, key, args).await?,
        };
        read(&reply).ok_or_else(|| BusError::new(script.during(), Kind::Odd))
    }

    fn mine(&self) -> &[u8] {
        self.me.as_str().as_bytes()
    }

    /// Says that this node lives: every node's last beat by Redis' clock, milliseconds since 1970, our own
    /// included. Those that were last heard an hour ago are left out.
    pub async fn beat(&self) -> Result<Vec<(NodeId, i64)>, BusError> {
        self.ask(Script::Beat, "nodes", &[self.mine()], Reply::beats).await
    }

    /// `node` will not beat again, and has no calls: it is forgotten.
    pub async fn forget_node(&self, node: &NodeId) -> Result<(), BusError> {
        self.ask(Script::ForgetNode, "nodes", &[node.as_str().as_bytes()], done).await
    }

    /// The calls that `node` has, or had.
    pub async fn calls_of(&self, node: &NodeId) -> Result<Vec<CallId>, BusError> {
        let calls = |reply: &Reply| Some(reply.list()?.iter().filter_map(Reply::call).collect());
        self.ask(Script::CallsOf, &calls_key(node), &[], calls).await
    }

    /// Notes that this node has these calls: some hundreds at most, as a script takes no more than some thousands.
    pub async fn enlist(&self, calls: &[CallId]) -> Result<(), BusError> {
        self.list(Script::Enlist, &self.me, calls).await
    }

    /// Notes that `node` does not have these calls any more: as many as [`enlist`](Self::enlist) takes.
    pub async fn delist(&self, node: &NodeId, calls: &[CallId]) -> Result<(), BusError> {
        self.list(Script::Delist, node, calls).await
    }

    async fn list(&self, how: Script, node: &NodeId, calls: &[CallId]) -> Result<(), BusError> {
        if calls.is_empty() {
            return Ok(());
        }
        let calls: Vec<String> = calls.iter().map(CallId::to_string).collect();
        let calls: Vec<&[u8]> = calls.iter().map(String::as_bytes).collect();
        self.ask(how, &calls_key(node), &calls, done).await
    }

    /// The call as all know it.
    pub async fn call(&self, call: CallId) -> Result<Option<Found>, BusError> {
        self.ask(Script::Call, &call_key(call), &[], |reply| reply.found_or_not().ok()).await
    }

    /// Takes the id of a call to be: epoch 1, without a snapshot; it lapses after a minute without a put.
    /// False where there is such a call.
    pub async fn begin(&self, call: CallId) -> Result<bool, BusError> {
        self.ask(Script::Begin, &call_key(call), &[self.mine()], yes).await
    }

    /// Takes the call from `owner`, who had it in `epoch`; `None` where whatever that one has is to be taken. The new
    /// epoch is the greater of the old one plus one and Redis' time in milliseconds: unique even where Redis has lost
    /// the last one.
    pub async fn claim(
        &self,
        call: CallId,
        owner: &NodeId,
        epoch: Option<u64>,
    ) -> Result<Claim, BusError> {
        let epoch = epoch.map_or_else(String::new, |it| it.to_string());
        let args = [self.mine(), owner.as_str().as_bytes(), epoch.as_bytes()];
        self.ask(Script::Claim, &call_key(call), &args, Reply::claim).await
    }

    /// Puts what we own for others to see. `create`: also where Redis has lost it. An older epoch there is
    /// overwritten, which heals a Redis that went back. Live calls lapse after 6 hours without a put, those
    /// that are over after 10 minutes. A snapshot over [`SNAPSHOT_BYTES_MAX`] is refused as
    /// [`Kind::Crowded`].
    pub async fn put(
        &self,
        call: CallId,
        state: &State<'_>,
        create: bool,
    ) -> Result<Put, BusError> {
        if state.snapshot.len() > SNAPSHOT_BYTES_MAX {
            return Err(BusError::new(Script::Put.during(), Kind::Crowded));
        }
        let (epoch, seq) = (state.epoch.to_string(), state.seq.to_string());
        let (over, create) = (flag(state.over), flag(create));
        let args = [self.mine(), epoch.as_bytes(), seq.as_bytes(), over, create, state.snapshot];
        let read = |reply: &Reply| match reply.number()? {
            0 => Some(Put::Kept),
            1 => Some(Put::Older),
            2 => Some(Put::Deposed),
            3 => Some(Put::Missing),
            _ => None,
        };
        self.ask(Script::Put, &call_key(call), &args, read).await
    }

    /// `user` joins the call, if in no other: whether so, and all that is known of the user. `calling`: the
    /// one who is called, in a start of two.
    pub async fn join(
        &self,
        user: &UserId,
        call: CallId,
        calling: Option<&UserId>,
    ) -> Result<(bool, User), BusError> {
        let (call, calling) = (call.to_string(), calling.map_or("", UserId::as_str));
        let args = [call.as_bytes(), self.mine(), calling.as_bytes()];
        let read = |reply: &Reply| reply.and_user().map(|(joined, user)| (joined == 1, user));
        self.ask(Script::Join, &user_key(user), &args, read).await
    }

    /// `user` is rung by a call of ours, unless in another one, or rung by `rings_max` others.
    pub async fn ring(
        &self,
        user: &UserId,
        call: CallId,
        mark: &Mark,
        rings_max: usize,
    ) -> Result<(Ring, User), BusError> {
        let (call, mark, max) = (call.to_string(), mark.written(), rings_max.to_string());
        let args = [call.as_bytes(), self.mine(), mark.as_bytes(), max.as_bytes()];
        let read = |reply: &Reply| {
            let (answer, user) = reply.and_user()?;
            let rings = [Ring::Rung, Ring::Busy, Ring::TooMany];
            Some((*rings.get(usize::try_from(answer).ok()?)?, user))
        };
        self.ask(Script::Ring, &user_key(user), &args, read).await
    }

    /// Says how `user` stands towards a call of ours: with a mark, or no longer at all; `joined` as far as
    /// the user is in no other call. All that is then known of the user.
    pub async fn stand(
        &self,
        user: &UserId,
        call: CallId,
        mark: Option<&Mark>,
        joined: bool,
    ) -> Result<User, BusError> {
        let (call, mark) = (call.to_string(), mark.map_or_else(String::new, Mark::written));
        let args = [call.as_bytes(), self.mine(), mark.as_bytes(), flag(joined)];
        self.ask(Script::Stand, &user_key(user), &args, Reply::user).await
    }

    /// Takes back what `node` has said of how `user` stands towards a call that it does not own: what the owner has
    /// said since stays. All that is then known of the user.
    pub async fn withdraw(
        &self,
        node: &NodeId,
        user: &UserId,
        call: CallId,
    ) -> Result<User, BusError> {
        let call = call.to_string();
        let args = [call.as_bytes(), node.as_str().as_bytes()];
        self.ask(Script::Withdraw, &user_key(user), &args, Reply::user).await
    }

    /// A call that is no more: whatever `user` has of it goes, whoever owned it.
    pub async fn forget_call(&self, user: &UserId, call: CallId) -> Result<User, BusError> {
        let call = call.to_string();
        self.ask(Script::ForgetCall, &user_key(user), &[call.as_bytes()], Reply::user).await
    }

    /// This node has so many sockets of `user`. All that is then known of the user.
    pub async fn attend(&self, user: &UserId, sockets: usize) -> Result<User, BusError> {
        let sockets = sockets.to_string();
        let args = [self.mine(), sockets.as_bytes()];
        self.ask(Script::Attend, &user_key(user), &args, Reply::user).await
    }

    /// All that is known of the user.
    pub async fn user(&self, user: &UserId) -> Result<User, BusError> {
        self.ask(Script::User, &user_key(user), &[], Reply::user).await
    }

    /// The call that `key` of `user` stands for: the one it was first used for within the hour, else this one.
    pub async fn key(&self, user: &UserId, key: &str, call: CallId) -> Result<CallId, BusError> {
        let call = call.to_string();
        self.ask(Script::Key, &idempotency_key(user, key), &[call.as_bytes()], Reply::call).await
    }

    /// The start under `key` came to nothing: it is free again.
    pub async fn free_key(&self, user: &UserId, key: &str, call: CallId) -> Result<(), BusError> {
        let call = call.to_string();
        self.ask(Script::FreeKey, &idempotency_key(user, key), &[call.as_bytes()], done).await
    }

    /// Hands a letter over for delivery, at once. Letters to one node leave in the order in which they were
    /// handed over; those that come together leave together.
    ///
    /// # Errors
    /// [`Kind::Crowded`] where too many wait, or the letter is too long.
    #[expect(clippy::needless_pass_by_value, reason = "whoever posts a letter has it no more")]
    pub fn post(&self, to: &NodeId, letter: Letter) -> Result<(), BusError> {
        const DURING: &str = "posting a letter";
        let letter = letter.encode().ok_or_else(|| BusError::new(DURING, Kind::Crowded))?;
        let posted = match &self.port {
            Port::Redis(redis) => redis.post(to, letter),
            #[cfg(test)]
            Port::Memory(node) => node.post(to, &letter),
        };
        posted.then_some(()).ok_or_else(|| BusError::new(DURING, Kind::Crowded))
    }
}

/// Bytes of a snapshot, at most: a call of fifty has a tenth of that.
pub const SNAPSHOT_BYTES_MAX: usize = 256 * 1024;

fn flag(set: bool) -> &'static [u8] {
    if set { b"1" } else { b"0" }
}

fn yes(reply: &Reply) -> Option<bool> {
    Some(reply.number()? == 1)
}

fn done(reply: &Reply) -> Option<()> {
    reply.number().map(drop)
}

fn call_key(call: CallId) -> String {
    format!("c:{{{call}}}")
}

fn user_key(user: &UserId) -> String {
    format!("u:{{{user}}}")
}

fn calls_key(node: &NodeId) -> String {
    format!("n:{{{node}}}:calls")
}

fn idempotency_key(user: &UserId, key: &str) -> String {
    format!("i:{{{user}}}:{key}")
}

/// A call's state as its owner puts it.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// Which ownership.
    pub epoch: u64,
    /// The number of the last event.
    pub seq: u64,
    /// It is over.
    pub over: bool,
    /// The machine's snapshot.
    pub snapshot: &'a [u8],
}

/// What the bus gives a node to read.
pub type Mailbox = mpsc::Receiver<Incoming>;
