//! Calls of this node that are over although Redis says that they go on: it went back to what it was, or lost the
//! word that they are over.

use std::sync::Arc;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::error::AppError;
use crate::bus::directory::{Found, State};
use crate::call::id::CallId;
use crate::call::model::Call;
use crate::call::record::CallFacts;

impl App {
    /// Looks for such calls, and has all know that they are over.
    pub(super) fn lay_ghosts(self: &Arc<Self>) {
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let Some(cluster) = app.cluster() else { return };
            let calls = cluster.bus.calls_of(cluster.me()).await.unwrap_or_default();
            for call in calls {
                if app.calls.read(call, |_| ()).is_some() {
                    continue;
                }
                match cluster.bus.call(call).await {
                    Ok(Some(found)) if !found.over => {
                        // Whoever asks for it later finds out.
                        drop(Box::pin(app.lay(cluster, call, &found)).await);
                    }
                    // That it is not ours any more may have been lost too, or that it never was.
                    Ok(_) => drop(cluster.bus.delist(cluster.me(), &[call]).await),
                    Err(_) => {}
                }
            }
        }));
    }

    /// Has all know that a call is over, where it is ours and is.
    pub(super) async fn lay(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        found: &Found,
    ) -> Result<(), AppError> {
        if found.over || found.owner != *cluster.me() || self.calls.read(call, |_| ()).is_some() {
            return Ok(());
        }
        if cluster.keeping.has(call) {
            // It has just ended: that is on its way.
            cluster.keeping.touch(call);
            return Ok(());
        }
        let was = serde_json::from_slice::<Call>(&found.snapshot).ok();
        let past = self.store.local().call(call).await?;
        // One that had ended here may have gone on elsewhere, and be about to go on here.
        let ended = |it: &CallFacts| {
            it.call.state.is_terminal() && was.as_ref().is_none_or(|was| it.call.epoch >= was.epoch)
        };
        let Some(past) = past.filter(ended) else { return Ok(()) };
        if cluster.adoptions.is_busy(call) || self.calls.read(call, |_| ()).is_some() {
            return Ok(());
        }
        let epoch = past.call.epoch.max(found.epoch);
        // Also those who have heard of the end look at their calls anew.
        let seq = past.call.seq.max(found.seq) + 1;
        let state = State { epoch, seq, over: true, snapshot: b"" };
        cluster.bus.put(call, &state, false).await?;
        cluster.bus.delist(cluster.me(), &[call]).await?;
        tracing::info!(%call, "a call that was over is over once more");
        if let Some(was) = was {
            self.tell_over(cluster, &Call { seq, ..was }, epoch).await;
        }
        Ok(())
    }
}
