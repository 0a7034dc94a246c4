//! Calls that a node had in an earlier run, or before it was held up, where nobody else has them by now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::keeping::Leftover;
use crate::app::cluster::taking::{ASKED_TOGETHER, Share, at_once};
use crate::app::error::AppError;
use crate::bus::directory::Claim;
use crate::bus::node::NodeId;
use crate::call::command::Command;
use crate::call::id::CallId;
use crate::call::model::Call;

/// How long a node that was held up looks for what has ended meanwhile.
const LOOK_MAX: Duration = Duration::from_secs(1);

impl App {
    /// Brings back what this node had in an earlier run, where nobody else has it now: whether all of that is done.
    pub(super) async fn come_back(self: &Arc<Self>, cluster: &Cluster) -> bool {
        let snapshots = self.store.local().live_snapshots().unwrap_or_default();
        let calls = snapshots.iter().filter_map(|it| {
            let read = serde_json::from_str::<Call>(it);
            read.inspect_err(|error| tracing::error!(%error, "a live call can't be read back")).ok()
        });
        let here = |id: CallId| self.calls.read(id, |_| ()).is_some();
        let calls: Vec<Call> = calls.filter(|it| !here(it.id)).collect();
        let (app, count) = (Arc::clone(self), calls.len());
        let done = at_once(calls, move |call| {
            let app = Arc::clone(&app);
            async move { app.bring_one_back(call).await }
        });
        let done = done.await.into_iter().filter(|it| *it).count();
        if done < count {
            return false;
        }
        for node in cluster.peers.all() {
            // The lock on our folder says that it is no more.
            if node.is_run_of(cluster.me()) {
                self.take_all(&node, Share::ALL).await;
            }
        }
        tracing::info!(calls = self.calls.len(), "live calls are back");
        true
    }

    /// Lets go of calls that others have taken and ended while this node was held up: it may have been so long that Redis
    /// has forgotten them, and would take them back as live ones.
    pub(super) async fn let_go_of_ended(self: &Arc<Self>, cluster: &Cluster) {
        let mut calls = Vec::new();
        self.calls.each(|it| calls.push(it.id));
        let look = async {
            for some in calls.chunks(ASKED_TOGETHER) {
                let over = self.store.over_among(some).await;
                let later = |(call, epoch): &(CallId, u64)| {
                    self.calls.read(*call, |it| it.epoch < *epoch) == Some(true)
                };
                // Now, as it would be brought to Redis again otherwise.
                let gone = over.into_iter().filter(later);
                let gone: Vec<_> =
                    gone.map(|(call, _)| (call, self.drop_copy(cluster, call))).collect();
                let app = Arc::clone(self);
                drop(tokio::spawn(at_once(gone, move |(call, copy)| {
                    let app = Arc::clone(&app);
                    async move {
                        if let Some(cluster) = app.cluster() {
                            app.give_way(cluster, call, copy).await;
                        }
                    }
                })));
            }
        };
        // The others wait for a beat.
        drop(timeout(LOOK_MAX, look).await);
    }

    async fn bring_one_back(self: &Arc<Self>, call: Call) -> bool {
        let Some(cluster) = self.cluster() else { return false };
        let brought = Box::pin(self.bring_back(cluster, call)).await;
        if let Err(error) = &brought {
            tracing::warn!(%error, "a call of an earlier run is not back yet");
        }
        brought.is_ok()
    }

    /// Brings one call back, or lets go of it where it has gone on without us: whether it is ours.
    async fn bring_back(self: &Arc<Self>, cluster: &Cluster, call: Call) -> Result<bool, AppError> {
        let id = call.id;
        match cluster.bus.call(id).await? {
            // Redis has lost it.
            None => {
                cluster.bus.enlist(&[id]).await?;
                let epoch = call.epoch + 1;
                self.own(cluster, call, epoch).await.map(|()| true)
            }
            // Its start was never answered: Redis did not have it yet.
            Some(found) if found.snapshot.is_empty() => {
                self.abort(call).await?;
                Ok(false)
            }
            Some(found) if !found.over && self.was_ours(cluster, &found.owner).await => {
                cluster.bus.enlist(&[id]).await?;
                let claim = cluster.bus.claim(id, &found.owner, Some(found.epoch)).await?;
                let Claim::Ours { epoch, was } = claim else { return Ok(false) };
                let theirs = was.and_then(|it| serde_json::from_slice::<Call>(&it.snapshot).ok());
                let newer = theirs.filter(|it| (it.epoch, it.seq) > (call.epoch, call.seq));
                self.own(cluster, newer.unwrap_or(call), epoch).await.map(|()| true)
            }
            Some(_) => {
                self.release_copy(id).await;
                self.plead(call, Leftover::default());
                Ok(false)
            }
        }
    }

    /// Ends a call that was begun in an earlier run and that nobody was told of.
    async fn abort(&self, mut call: Call) -> Result<(), AppError> {
        let now = self.clock.now();
        let permit = self.journal.reserve()?;
        call.restore(now);
        call.epoch += 1;
        let applied = call.apply(Command::Abort, now)?.and_all(&call);
        let durable = self.calls.insert(call, |call| self.submit(permit, call, &applied, None));
        Ok(durable.await?)
    }

    async fn was_ours(&self, cluster: &Cluster, owner: &NodeId) -> bool {
        owner.is_run_of(cluster.me()) || cluster.peers.is_gone(&cluster.bus, owner).await
    }
}
