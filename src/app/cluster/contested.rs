//! Users whom Redis takes to be in another call than in the one of ours that they are in.
//!
//! Redis may have gone back to what was so earlier. Mostly the owner of the other call is about to say that the user is
//! there no more. But where somebody has joined another call before we have said again that they are in ours, nobody
//! has told them that they can't: then that is where they are. Only what the other owner's own call says counts, and
//! when the user joined it: not that it is about to let them in or put them out, nor what it heard from Redis.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::error::AppError;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::time::Timestamp;

/// A call of ours, who is in it, and the call that Redis says instead.
pub(super) type Contested = (CallId, UserId, CallId);

/// So many are asked after at each beat, all at once: who is left is contested still at the next.
const AT_ONCE: usize = 64;

impl App {
    /// Says again who is in our calls; those who have joined another since leave ours.
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
            let all = contested.into_iter().take(AT_ONCE);
            join_all(all.map(|it| Box::pin(app.yield_one(it)))).await;
        }));
    }

    async fn yield_one(self: &Arc<Self>, (call, user, other): Contested) {
        let Some(cluster) = self.cluster() else { return };
        if let Err(error) = self.yield_to(cluster, &user, call, other).await {
            tracing::debug!(%error, %call, "it is not known which of two calls a user is in");
        }
    }

    /// Since when `user` is in a call that is here; nothing where they are not.
    pub(super) fn joined_since(&self, call: CallId, user: &UserId) -> Option<Timestamp> {
        let since = |it: &Call| {
            it.participant(user).filter(|it| it.is_joined()).and_then(|it| it.joined_at)
        };
        self.calls.read(call, since).flatten()
    }

    /// Has `user` leave `call` where they have joined `other` since.
    async fn yield_to(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        other: CallId,
    ) -> Result<(), AppError> {
        let Some(ours) = self.joined_since(call, user) else { return Ok(()) };
        let theirs = match cluster.bus.call(other).await?.filter(|it| !it.over) {
            Some(found) if found.owner == *cluster.me() => self.joined_since(other, user),
            Some(found) if cluster.peers.is_living(&found.owner) => {
                let asked = (user, &Errand::JoinedSince);
                let told =
                    self.ask_node(cluster, &found.owner, Command::about(other), asked).await?;
                told.and_then(|it| serde_json::from_str(it.get()).ok()).flatten()
            }
            Some(_) | None => None,
        };
        let Some(theirs) = theirs else {
            // Whoever was to let them in there may know nothing of it any more: then Redis says so for hours.
            return self.holds(cluster, user, other).await.map(drop);
        };
        // Meanwhile all may have changed.
        if (theirs, other) < (ours, call)
            || cluster.bus.user(user).await?.joined != Some(other)
            || self.joined_since(call, user) != Some(ours)
        {
            return Ok(());
        }
        tracing::info!(%call, %other, "a user has joined another call, as Redis had forgotten this one");
        self.end_here(call, user).await
    }
}
