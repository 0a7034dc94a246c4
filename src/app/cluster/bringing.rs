//! Brings our calls to where all nodes can find them, and has those wait for it who are told that something is done.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::cluster::keeping::{Kept, Latest, Plan};
use crate::app::error::AppError;
use crate::bus::directory::{Put, State, User};
use crate::bus::error::{BusError, Kind};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// Calls that are brought to Redis at once.
const AT_ONCE: usize = 256;
/// How long whoever is answered waits for that (cluster.md, the rule of acknowledgements).
const KEPT_WAIT: Duration = Duration::from_millis(500);
/// How long to wait before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Brings calls to Redis as they change; never returns.
pub(super) async fn bring(app: &Arc<App>) {
    let Some(cluster) = app.cluster() else { return };
    let mut bringing: JoinSet<(CallId, bool)> = JoinSet::new();
    loop {
        while bringing.len() < AT_ONCE
            && let Some(call) = cluster.keeping.next()
        {
            let app = Arc::clone(app);
            bringing.spawn(async move { (call, app.bring(call).await) });
        }
        tokio::select! {
            biased;
            () = cluster.keeping.changed.notified(), if bringing.len() < AT_ONCE => {}
            Some(brought) = bringing.join_next() => {
                // Lost only to a panic, which has been counted and logged.
                if let Ok((call, done)) = brought {
                    cluster.keeping.settle(call, done);
                }
            }
        }
    }
}

impl App {
    /// Brings one call to Redis: whether it is there.
    async fn bring(self: &Arc<Self>, call: CallId) -> bool {
        let Some(cluster) = self.cluster() else { return true };
        // Whoever lets somebody in waits until that is out again, or the other way round.
        let mut putting = Vec::new();
        let may = |user: &UserId| {
            let held = cluster.deciding.put_right(call, user);
            held.map(|it| putting.push(it)).is_some()
        };
        let Some(plan) = cluster.keeping.plan(call, may) else { return true };
        match self.bring_planned(cluster, call, &plan).await {
            Ok(Put::Deposed) => {
                self.depose(cluster, call).await;
                true
            }
            Ok(Put::Kept | Put::Older) => {
                if cluster.keeping.reach(call, &plan) {
                    // Where this fails, whoever takes over finds a call that is over.
                    drop(cluster.bus.delist(cluster.me(), &[call]).await);
                } else if cluster.keeping.was_lost(call, &plan) {
                    // Who has looked meanwhile has not found it.
                    self.retell(cluster, call, true);
                    self.resync(self.people_of(call).iter());
                }
                true
            }
            Ok(Put::Missing) => {
                sleep(PAUSE).await;
                false
            }
            Err(error) => {
                tracing::debug!(%error, %call, "a call is not in Redis as it is");
                sleep(PAUSE).await;
                false
            }
        }
    }

    async fn bring_planned(
        &self,
        cluster: &Cluster,
        call: CallId,
        plan: &Plan,
    ) -> Result<Put, BusError> {
        let Some(latest) = &plan.latest else {
            return self.withdraw_planned(cluster, call, plan).await;
        };
        if plan.unlisted {
            // First, as nobody takes over from one who dies what is not listed.
            cluster.keeping.list(call, true);
            let listed = cluster.bus.enlist(&[call]).await;
            listed.inspect_err(|_| cluster.keeping.list(call, false))?;
        }
        let Latest { epoch, seq, over, ref snapshot, .. } = *latest;
        // What Redis has lost comes from one who is alive for sure.
        let create = !cluster.peers.is_fenced();
        let put = cluster.bus.put(call, &State { epoch, seq, over, snapshot }, create).await?;
        // How users stand to a call is its owner's to say.
        if matches!(put, Put::Deposed | Put::Missing) {
            return Ok(put);
        }
        let stands = plan.stands.iter().map(|(it, _)| it);
        let stood =
            stands.clone().map(|it| cluster.bus.stand(&it.user, call, it.mark.as_ref(), it.joined));
        for (stand, user) in stands.zip(join_all(stood).await) {
            let user = user?;
            if stand.joined
                && let Some(other) = user.joined.filter(|it| *it != call)
            {
                cluster.contested.lock().insert((call, stand.user.clone(), other));
            }
            // Of one that is over where its people are is of no use, unless that was not known when they were told.
            if !over || plan.is_after_loss() {
                self.learn(cluster, &stand.user, &user);
            }
        }
        Ok(put)
    }

    /// What was claimed for a call that never was, or that another node has by now, is taken back.
    async fn withdraw_planned(
        &self,
        cluster: &Cluster,
        call: CallId,
        plan: &Plan,
    ) -> Result<Put, BusError> {
        // Whoever comes across it then need not wait for it. Of one that was made this is nothing new.
        let state = State { epoch: 1, seq: 0, over: true, snapshot: b"" };
        let put = cluster.bus.put(call, &state, false).await?;
        let users = plan.stands.iter().map(|(it, _)| &it.user);
        let withdrawn = users.map(|it| cluster.bus.withdraw(cluster.me(), it, call));
        for user in join_all(withdrawn).await {
            user?;
        }
        if put == Put::Deposed {
            self.contest_stands(cluster, call).await?;
        }
        Ok(Put::Kept)
    }

    /// The node that has a call by now says anew how its people stand: what was claimed here may have been written over
    /// what it had said.
    async fn contest_stands(&self, cluster: &Cluster, call: CallId) -> Result<(), BusError> {
        let Some(found) = cluster.bus.call(call).await?.filter(|it| !it.over) else {
            return Ok(());
        };
        // Who takes it over from one who is dead says so anyway.
        if found.owner == *cluster.me() || cluster.peers.is_gone(&cluster.bus, &found.owner).await {
            return Ok(());
        }
        let Ok(nobody) = UserId::parse("nobody") else { return Ok(()) };
        let asked = (&nobody, &Errand::Contested);
        match self.ask_node(cluster, &found.owner, Command::about(call), asked).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, %call, "an owner does not hear that its call is contested");
                Err(BusError::new("telling an owner what was claimed", Kind::Away))
            }
        }
    }

    /// Notes on which other nodes a user of a call of ours is, and tells the user's calls. What Redis says of nodes
    /// that are no more stays there for long; but a node that nobody has seen here yet may also have just begun: it is
    /// taken to be there until the next beat shows who is.
    pub(super) fn learn(&self, cluster: &Cluster, user: &UserId, it: &User) {
        let nodes = || it.nodes.iter().map(|(node, _)| node);
        let known = |node: &NodeId| node == cluster.me() || cluster.peers.is_known(node);
        if !nodes().all(known) {
            cluster.unsure.lock().insert(user.clone());
        }
        let others = nodes().filter(|it| *it != cluster.me() && !cluster.peers.is_dead(it));
        let mut news = false;
        for node in others {
            news |= cluster.place(user, node, true);
        }
        if news {
            self.heed(user);
        }
    }

    /// Who has sockets at nodes that were not known is looked for again, now that it is known which nodes there are: those
    /// that are not there have nobody's.
    pub(super) fn learn_late(self: &Arc<Self>, cluster: &Cluster) {
        let unsure = std::mem::take(&mut *cluster.unsure.lock());
        if unsure.is_empty() {
            return;
        }
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let Some(cluster) = app.cluster() else { return };
            for user in unsure {
                let Ok(mut known) = cluster.bus.user(&user).await else {
                    cluster.unsure.lock().insert(user);
                    continue;
                };
                known.nodes.retain(|(node, _)| cluster.peers.is_living(node));
                for node in cluster.nodes_of(&user) {
                    if !cluster.peers.is_living(&node) && cluster.place(&user, &node, false) {
                        app.heed(&user);
                    }
                }
                if app.calls.of(&user).is_empty() {
                    continue;
                }
                app.learn(cluster, &user, &known);
                for call in app.calls.of(&user) {
                    app.retell(cluster, call, false);
                }
            }
        }));
    }

    /// Completes once Redis has the call as it is now: what is told as done can be found by others then.
    ///
    /// # Errors
    /// Where Redis does not take it in time, or another node has the call.
    pub(in crate::app) async fn kept(&self, call: CallId) -> Result<(), AppError> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        let Some(kept) = cluster.keeping.wait(call) else {
            // One that is gone from here was over, and is there as such; or it is another node's by now.
            let found = cluster.bus.call(call).await?;
            let lost = found.is_some_and(|it| !it.over && it.owner != *cluster.me());
            return if lost { Err(AppError::Moved) } else { Ok(()) };
        };
        match timeout(KEPT_WAIT, kept).await {
            Ok(Ok(Kept::Deposed)) => Err(AppError::Moved),
            Ok(Ok(Kept::There) | Err(_)) => Ok(()),
            Err(_) => Err(BusError::new("keeping a call", Kind::Away).into()),
        }
    }

    /// The same for what holds without the others (cluster.md, the rule of acknowledgements): made up later.
    pub(in crate::app) async fn kept_or_later(&self, call: CallId) -> Result<(), AppError> {
        match self.kept(call).await {
            Err(AppError::Moved) => Err(AppError::Moved),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
