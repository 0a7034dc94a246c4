//! Who is where: which nodes have sockets of a user, and which calls a user has on which nodes.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::{Done, Errand};
use crate::app::cluster::forwarding::Command;
use crate::app::cluster::gatherings::Watch;
use crate::app::effects::json;
use crate::bus::directory::User;
use crate::bus::error::BusError;
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::socketio::outlet::Outlet;
use crate::socketio::packet::Packet;

/// What a socket hears that is one more than a user may have.
const TOO_MANY: &str =
    r#"{"error":"too many sockets","code":"too_many_sockets","event":"connect","callId":null}"#;
/// Users told of at once.
pub(super) const AT_ONCE: usize = 200;

/// How often what is out of date when it has been gathered is gathered again.
const GATHERINGS_MAX: u32 = 3;

/// A call as its owner tells a user of it.
pub(in crate::app) type OneCall = (CallId, Box<RawValue>);

/// A user's calls as another node tells them.
#[derive(Serialize, Deserialize)]
struct Calls(Vec<OneCall>);

/// What is known of a user on all nodes.
pub(in crate::app) struct Gathered {
    /// The live calls, the newest first.
    pub(in crate::app) calls: Vec<Box<RawValue>>,
    /// How many sockets; 0 where nobody could be asked.
    sockets: usize,
    /// All who have some were heard.
    pub(super) whole: bool,
}

impl App {
    /// A socket of `user` is connected: the others hear of it, and it hears what goes on.
    pub(in crate::app) fn arrive(self: &Arc<Self>, user: &UserId, outlet: &Outlet) {
        let (app, user, outlet) = (Arc::clone(self), user.clone(), outlet.clone());
        drop(tokio::spawn(async move {
            let it = Box::pin(app.gather(&user, true, Some(true))).await;
            if it.sockets > app.settings.sockets_per_user_max {
                // Here there was room for it: only all nodes together see that it is one too many.
                outlet.send(&Packet::event("call:error", &[TOO_MANY]));
                return outlet.disconnect(true);
            }
            if let Ok(sync) = app.sync_of(it.calls) {
                outlet.send(&Packet::event("call:sync", &[sync.get()]));
            }
            app.retell_place(&user);
        }));
    }

    /// The last socket of `user` is gone from here.
    pub(in crate::app) fn depart(self: &Arc<Self>, user: &UserId) {
        let (app, user) = (Arc::clone(self), user.clone());
        drop(tokio::spawn(async move {
            drop(Box::pin(app.gather(&user, false, Some(false))).await);
            app.retell_place(&user);
        }));
    }

    /// Others learn whether `user` is here, where calls of ours say otherwise.
    fn retell_place(&self, user: &UserId) {
        let Some(cluster) = self.cluster() else { return };
        for call in self.calls.of(user) {
            let told = cluster.views.0.get(&call).is_some_and(|view| {
                let member = view.members.iter().find(|it| it.user == *user);
                member.is_some_and(|it| it.nodes.contains(cluster.me()))
            });
            if told != self.presence.has(user) {
                self.retell(cluster, call, false);
            }
        }
    }

    /// Tells those of `users` who are here what their calls are now.
    pub(super) fn resync<'a>(self: &Arc<Self>, users: impl Iterator<Item = &'a UserId>) {
        let here: Vec<UserId> = users.filter(|it| self.presence.has(it)).cloned().collect();
        if here.is_empty() {
            return;
        }
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            for some in here.chunks(AT_ONCE) {
                join_all(some.iter().map(|user| app.resync_one(user))).await;
            }
        }));
    }

    async fn resync_one(self: &Arc<Self>, user: &UserId) {
        let it = Box::pin(self.gather(user, true, Some(true))).await;
        self.tell_sync(user, it.calls);
    }

    pub(super) fn tell_sync(&self, user: &UserId, calls: Vec<Box<RawValue>>) {
        if let Ok(sync) = self.sync_of(calls) {
            self.hub.send(user.as_str(), &Packet::event("call:sync", &[sync.get()]));
        }
    }

    /// The calls of `user`, wherever they are, the newest first; tells their owners whether the user is
    /// `here`. Where Redis is away, those that are here.
    pub(in crate::app) async fn gather(
        self: &Arc<Self>,
        user: &UserId,
        sync: bool,
        mut here: Option<bool>,
    ) -> Gathered {
        let (mut calls, mut sockets, mut whole, mut tries) = (Vec::new(), 0, true, 0);
        let (mut watch, mut back) = (self.cluster().map(|it| it.gatherings.begin(user)), false);
        loop {
            calls.clear();
            let Some(cluster) = self.cluster() else { break };
            if let Some(watch) = watch.as_mut() {
                watch.read();
            }
            match self.know(cluster, user, here).await {
                Ok(known) => {
                    sockets = cluster.sockets_of(&known);
                    let told = self.gather_known(cluster, user, &known, (sync, here));
                    (calls, whole) = Box::pin(told).await;
                    // While owners were waited for, more may have come: that has been told already, and what they say
                    // now would take it back.
                    let late = |(id, told): &OneCall| cluster.views.is_ahead(*id, numbers_of(told));
                    // So may another gathering of the same, which knew more.
                    let overtaken = watch.as_ref().is_some_and(Watch::is_overtaken);
                    let news = watch.as_mut().is_some_and(Watch::has_news) || overtaken;
                    tries += 1;
                    if sync && (news || calls.iter().any(late)) {
                        // An owner that does not answer is not waited for once more.
                        if whole && tries < GATHERINGS_MAX {
                            continue;
                        }
                        whole = false;
                    }
                    calls.retain(|(id, _)| !cluster.views.is_over(*id));
                }
                Err(error) => {
                    tracing::debug!(%error, "a user's calls on other nodes are not known");
                    whole = false;
                }
            }
            // Who came or went meanwhile: what is told last is what is so.
            match here {
                Some(told) if told != self.presence.has(user) => {
                    (here, back) = (Some(!told), !told);
                }
                Some(_) | None => break,
            }
        }
        if back {
            // Who came back meanwhile may have been told before the others took them to be gone, and missed what they heard
            // of until now.
            self.resync(std::iter::once(user));
        }
        if let Some(cluster) = self.cluster().filter(|_| !whole && here.is_some()) {
            cluster.untold.add(user, sync);
        }
        let own = self.own_of(user, sync);
        calls.retain(|(id, _): &OneCall| !own.iter().any(|(mine, _)| mine == id));
        calls.extend(own);
        // Ids sort by creation.
        calls.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        let calls = calls.into_iter().map(|(_, it)| it).collect();
        Gathered { calls, sockets, whole }
    }

    async fn know(
        &self,
        cluster: &Cluster,
        user: &UserId,
        here: Option<bool>,
    ) -> Result<User, BusError> {
        match here {
            Some(true) => cluster.bus.attend(user, self.presence.count(user).max(1)).await,
            Some(false) => cluster.bus.attend(user, 0).await,
            None => cluster.bus.user(user).await,
        }
    }

    async fn gather_known(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        known: &User,
        (sync, here): (bool, Option<bool>),
    ) -> (Vec<OneCall>, bool) {
        let mut owners: BTreeSet<&NodeId> = known.calls.iter().map(|(_, owner, _)| owner).collect();
        owners.remove(cluster.me());
        let mut gone = Vec::new();
        for owner in &owners {
            if cluster.peers.is_gone(&cluster.bus, owner).await {
                gone.push(*owner);
            }
        }
        owners.retain(|it| !gone.contains(it));
        let errand = Errand::Mine { sync, here };
        let asked = owners.iter().map(|owner| async {
            let none = Command::about_none();
            (*owner, self.ask_node(cluster, owner, none, (user, &errand)).await)
        });
        let answers = join_all(asked).await;
        let (mut calls, mut heard) = (Vec::new(), Vec::new());
        let all = answers.len();
        for (owner, answer) in answers {
            match answer {
                Ok(told) => {
                    let told = told.and_then(|it| serde_json::from_str::<Calls>(it.get()).ok());
                    calls.extend(told.map(|it| it.0).unwrap_or_default());
                    heard.push(owner);
                }
                Err(error) => tracing::debug!(%error, "a node does not tell of a user's calls"),
            }
        }
        if sync {
            let told: HashSet<CallId> = calls.iter().map(|(call, _)| *call).collect();
            for (call, by, _) in known.calls.iter().filter(|(it, ..)| !told.contains(it)) {
                calls.extend(self.lookup(cluster, user, (*call, by), &heard).await);
            }
        }
        (calls, heard.len() == all)
    }

    /// A call that its owner did not tell of, as Redis has it, where it goes on: not where its owner was `heard`,
    /// who knows better and puts Redis right. One that is no more is forgotten, and what was claimed `by` a former owner for somebody whom
    /// the call does not know.
    async fn lookup(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        (call, by): (CallId, &NodeId),
        heard: &[&NodeId],
    ) -> Option<OneCall> {
        let here = self.calls.read(call, |_| ()).is_some();
        if here && by == cluster.me() {
            return None;
        }
        let found = cluster.bus.call(call).await.ok()?;
        if let Some(found) = found.as_ref().filter(|it| !it.over && it.owner != *by)
            && let Ok(it) = serde_json::from_slice::<Call>(&found.snapshot)
            && it.participant(user).is_none()
        {
            drop(cluster.bus.withdraw(by, user, call).await);
            return None;
        }
        match found {
            _ if here => None,
            Some(found) if !found.over && found.owner == *cluster.me() => {
                drop(Box::pin(self.lay(cluster, call, &found)).await);
                None
            }
            Some(found) if !found.over && heard.contains(&&found.owner) => {
                // Redis may have gone back to when it was so: its owner puts that right.
                let asked = (user, &Errand::Holds);
                drop(self.ask_node(cluster, &found.owner, Command::about(call), asked).await);
                None
            }
            Some(found) if !found.over => {
                let it: Call = serde_json::from_slice(&found.snapshot).ok()?;
                Some((call, self.heard_by(&it, user)?))
            }
            // Redis may have lost it: its owner knows.
            None if by != cluster.me()
                && !heard.contains(&by)
                && !cluster.peers.is_gone(&cluster.bus, by).await =>
            {
                None
            }
            Some(_) | None => {
                drop(cluster.bus.forget_call(user, call).await);
                None
            }
        }
    }

    /// The calls of `user` that are here.
    pub(in crate::app) fn own_of(&self, user: &UserId, sync: bool) -> Vec<OneCall> {
        let own = self.calls.of(user);
        let one = |id: &CallId| {
            let view = |call: &Call| {
                if sync { self.heard_by(call, user) } else { self.listed_for(call, user) }
            };
            Some((*id, self.calls.read(*id, view)??))
        };
        own.iter().filter_map(one).collect()
    }

    /// Another node asks for the calls of `user` that are here, and may say whether the user is there.
    pub(super) fn answer_mine(
        self: &Arc<Self>,
        cluster: &Cluster,
        from: &NodeId,
        user: &UserId,
        (sync, here): (bool, Option<bool>),
    ) -> Done {
        if let Some(here) = here {
            let news = cluster.place(user, from, here);
            if news {
                self.heed(user);
            }
            for call in self.calls.of(user) {
                // To one who comes all is new, also where the others know it.
                if news || here {
                    self.retell(cluster, call, false);
                }
                let someone = |it: &Call| {
                    let there = |it: &Participant| cluster.nodes_of(&it.user).contains(from);
                    it.participants.iter().any(there)
                };
                if !here && self.calls.read(call, someone) == Some(false) {
                    cluster.keeping.untell(call, from);
                }
            }
        }
        json(&Calls(self.own_of(user, sync))).map(Some)
    }

    /// A node is gone, with all the sockets it had.
    pub(super) fn forget_node(&self, cluster: &Cluster, node: &NodeId) {
        let mut lost: Vec<UserId> = Vec::new();
        cluster.whereabouts.retain(|user, nodes| {
            let before = nodes.len();
            nodes.retain(|it| it != node);
            if nodes.len() < before {
                lost.push(user.clone());
            }
            !nodes.is_empty()
        });
        cluster.keeping.drop_node(node);
        lost.sort_unstable();
        for user in lost {
            self.heed(&user);
            for call in self.calls.of(&user) {
                self.retell(cluster, call, false);
            }
        }
    }
}

/// The ownership of a call that is told of, and the number of its last event.
fn numbers_of(told: &RawValue) -> (u64, u64) {
    #[derive(Deserialize)]
    struct Told {
        call: Numbers,
    }
    #[derive(Deserialize)]
    struct Numbers {
        epoch: u64,
        seq: u64,
    }
    let told = serde_json::from_str::<Told>(told.get());
    told.map_or((0, 0), |it| (it.call.epoch, it.call.seq))
}

impl Cluster {
    /// How many sockets a user has, as far as their nodes are there.
    fn sockets_of(&self, known: &User) -> usize {
        let there = |node: &NodeId| node == self.me() || self.peers.is_living(node);
        let counts = known.nodes.iter().filter(|(node, _)| there(node)).map(|(_, count)| *count);
        counts.map(|it| usize::try_from(it).unwrap_or(usize::MAX)).sum()
    }

    /// Notes that `node` has sockets of `user`, or has none: whether that is news.
    pub(super) fn place(&self, user: &UserId, node: &NodeId, here: bool) -> bool {
        if here {
            let mut nodes = self.whereabouts.entry(user.clone()).or_default();
            let new = !nodes.contains(node);
            if new {
                nodes.push(node.clone());
            }
            return new;
        }
        let Some(mut nodes) = self.whereabouts.get_mut(user) else { return false };
        let before = nodes.len();
        nodes.retain(|it| it != node);
        let news = nodes.len() < before;
        drop(nodes);
        self.whereabouts.remove_if(user, |_, it| it.is_empty());
        news
    }
}
