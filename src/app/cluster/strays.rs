//! Whose a call is, for one who is about to close its room or to put somebody out of it: what is done there can't
//! be taken back, and LiveKit does not know which node may do it.

use crate::app::App;
use crate::call::id::CallId;
use crate::media::error::{Kind, MediaError};

const DURING: &str = "asking whose a call is";

impl App {
    /// Whether a call that is not here goes on all the same: with another node, or here in a moment. Its room is to
    /// be left alone then.
    pub(in crate::app) async fn is_elsewhere(&self, call: CallId) -> Result<bool, MediaError> {
        let Some(cluster) = self.cluster() else { return Ok(false) };
        // Asked first: once that is in Redis it is forgotten here.
        let ended = cluster.keeping.last(call).is_some_and(|it| it.state.is_terminal());
        match cluster.bus.call(call).await {
            // Redis hears of its end, or that it came to nothing, later.
            Ok(Some(it)) if it.owner == *cluster.me() && (ended || it.snapshot.is_empty()) => {
                Ok(false)
            }
            Ok(Some(found)) => Ok(self.goes_on(cluster, &found).await),
            // It may have been lost: then its owner brings it again, or comes back with it.
            Ok(None) => {
                let stored = Box::pin(self.store.call(call)).await;
                let stored =
                    stored.map_err(|cause| MediaError::caused(DURING, Kind::Away, cause))?;
                Ok(stored.is_some_and(|it| !it.call.state.is_terminal()))
            }
            // Nobody can have taken it from us yet.
            Err(_) if ended && !cluster.peers.is_fenced() => Ok(false),
            Err(cause) => Err(MediaError::caused(DURING, Kind::Away, cause)),
        }
    }

    /// Whether a call that is here is another node's by now: then this node has no business in its room.
    pub(in crate::app) async fn is_lost(&self, call: CallId) -> bool {
        let Some(cluster) = self.cluster() else { return false };
        if self.calls.read(call, |_| ()).is_none() {
            return false;
        }
        let found = cluster.bus.call(call).await.ok().flatten();
        let lost = found.is_some_and(|it| !it.over && it.owner != *cluster.me());
        if lost {
            cluster.keeping.touch(call);
        }
        lost
    }

    /// Whether a call that is here may be treated as ours: nobody can have taken it from one who was held up.
    pub(in crate::app) async fn is_still_ours(&self, call: CallId) -> Result<bool, MediaError> {
        let Some(cluster) = self.cluster() else { return Ok(true) };
        match cluster.bus.call(call).await {
            Ok(found) => Ok(found.is_none_or(|it| it.owner == *cluster.me())),
            Err(_) if !cluster.peers.is_fenced() => Ok(true),
            Err(cause) => Err(MediaError::caused(DURING, Kind::Away, cause)),
        }
    }

    /// Whether it is this node that looks for rooms without a call: one of all does, and none before its own calls
    /// are back.
    pub(in crate::app) fn keeps_strays(&self) -> bool {
        let Some(cluster) = self.cluster() else { return true };
        let (me, peers) = (cluster.me(), &cluster.peers);
        !peers.is_fenced() && peers.living().iter().all(|other| me < other)
    }
}
