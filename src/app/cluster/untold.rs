//! What the others could not be told of users here, or may have lost: it is told again until it is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::people::AT_ONCE;
use crate::call::id::UserId;

/// How often what could not be told is told again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often all is told again, whatever was told before: Redis may have lost it, and forgets users in a day.
const SWEEP: Duration = Duration::from_mins(5);

/// Users whose whereabouts the others have not been told as they are; and whether their devices may have been told
/// wrongly.
#[derive(Default)]
pub(super) struct Untold(Mutex<BTreeMap<UserId, bool>>);

impl Untold {
    pub(super) fn add(&self, user: &UserId, wrongly: bool) {
        *self.0.lock().entry(user.clone()).or_default() |= wrongly;
    }

    fn take(&self) -> Vec<(UserId, bool)> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }
}

impl App {
    /// Tells what could not be told of `user`, whose devices may have been told `wrongly`: now that all are heard
    /// whom that takes.
    async fn tell_late(self: &Arc<Self>, user: &UserId, wrongly: bool) {
        let here = self.presence.has(user);
        let wrongly = wrongly && here;
        let it = Box::pin(self.gather(user, wrongly, Some(here))).await;
        if wrongly && it.whole {
            self.tell_sync(user, it.calls);
        }
    }

    /// Redis may have `lost` what was told it, or never have got it: all is told again.
    pub(super) fn doubt_directory(self: &Arc<Self>, cluster: &Cluster, lost: bool) {
        cluster.keeping.doubt_all(lost);
        self.lay_ghosts();
        for here in self.present() {
            cluster.untold.add(&here.user_id, false);
        }
    }

    /// Whereabouts of users without calls here, and calls of which nobody is here, are of no use.
    fn forget_strangers(&self, cluster: &Cluster) {
        cluster.whereabouts.retain(|user, _| !self.is_stranger(cluster, user));
        cluster.views.0.retain(|call, view| {
            self.calls.read(*call, |_| ()).is_some()
                || view.members.iter().any(|it| self.presence.has(&it.user))
        });
    }
}

/// Tells what could not be told, and now and then all; never returns.
pub(super) async fn attend(app: &Arc<App>) {
    let Some(cluster) = app.cluster() else { return };
    let (mut again, mut sweeps) = (interval(AGAIN), interval(SWEEP));
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweeps.reset();
    loop {
        tokio::select! {
            biased;
            _ = sweeps.tick() => {
                app.doubt_directory(cluster, false);
                app.forget_strangers(cluster);
            }
            _ = again.tick() => {}
        }
        if cluster.bus.is_well() {
            for some in cluster.untold.take().chunks(AT_ONCE) {
                join_all(some.iter().map(|(user, wrongly)| app.tell_late(user, *wrongly))).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Untold {
        pub(in crate::app::cluster) fn len(&self) -> usize {
            self.0.lock().len()
        }
    }
}
