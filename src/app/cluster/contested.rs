//! Users whom Redis takes to be in another call than in the one of ours that they are in.
//!
//! Redis may have gone back to what was so earlier. Mostly the owner of the other call is about to say that the user is
//! there no more. But where somebody has joined another call before we have said again that they are in ours, nobody
//! has told them that they can't: then that is where they are.

use std::sync::Arc;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::error::AppError;
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// A call of ours, who is in it, and the call that Redis says instead.
pub(super) type Contested = (CallId, UserId, CallId);

impl App {
    /// Says again who is in our calls; those of whom another call's owner says the same leave ours.
    pub(super) fn contest(self: &Arc<Self>, cluster: &Cluster) {
        let contested = std::mem::take(&mut *cluster.contested.lock());
        if contested.is_empty() {
            return;
        }
        for (call, ..) in &contested {
            cluster.keeping.doubt(*call, false);
        }
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let Some(cluster) = app.cluster() else { return };
            for (call, user, other) in contested {
                if let Err(error) = Box::pin(app.yield_to(cluster, &user, call, other)).await {
                    tracing::debug!(%error, %call, "it is not known which of two calls a user is in");
                }
            }
        }));
    }

    /// Has `user` leave `call` where `other` has let them in since.
    async fn yield_to(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        other: CallId,
    ) -> Result<(), AppError> {
        // What is not so is put right on the way.
        if !self.holds(cluster, user, other).await? {
            return Ok(());
        }
        // Of one whose owner is gone only Redis has told, and that may be from long ago.
        let found = cluster.bus.call(other).await?.filter(|it| !it.over);
        let is_sure = |it: &NodeId| it == cluster.me() || cluster.peers.is_living(it);
        if found.is_none_or(|it| !is_sure(&it.owner))
            || cluster.bus.user(user).await?.joined != Some(other)
        {
            return Ok(());
        }
        tracing::info!(%call, %other, "a user has joined another call, as Redis had forgotten this one");
        self.ask(call, user, Errand::End).await.map(drop)
    }
}
