//! Where those are who belong to our calls: how long that is remembered.

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::news::Told;
use crate::call::id::UserId;

impl App {
    /// A call is over: where its people are is of no use any more, but for their other calls here.
    pub(in crate::app) fn forget_whereabouts(&self, told: Option<&Told>) {
        let (Some(cluster), Some(told)) = (self.cluster(), told) else { return };
        for (user, ..) in &told.people {
            self.forget_whereabouts_of(cluster, user);
        }
    }

    fn forget_whereabouts_of(&self, cluster: &Cluster, user: &UserId) {
        cluster.whereabouts.remove_if(user, |user, _| self.is_stranger(cluster, user));
    }

    /// Whether `user` belongs to no call of ours, and is not about to.
    pub(super) fn is_stranger(&self, cluster: &Cluster, user: &UserId) -> bool {
        self.calls.of(user).is_empty() && !cluster.expected.contains_key(user)
    }

    /// These users are about to belong to a call of ours, until that is dropped: what is learnt of where they are must not
    /// go with the end of another call, or they would not hear of this one.
    pub(in crate::app) fn expect<'a>(
        &'a self,
        cluster: &'a Cluster,
        users: impl IntoIterator<Item = &'a UserId>,
    ) -> Expecting<'a> {
        let users: Vec<&UserId> = users.into_iter().collect();
        for user in &users {
            *cluster.expected.entry((*user).clone()).or_default() += 1;
        }
        Expecting { app: self, cluster, users }
    }
}

/// Users who are expected.
pub(in crate::app) struct Expecting<'a> {
    app: &'a App,
    cluster: &'a Cluster,
    users: Vec<&'a UserId>,
}

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        for user in &self.users {
            if let Some(mut times) = self.cluster.expected.get_mut(*user) {
                *times -= 1;
            }
            self.cluster.expected.remove_if(*user, |_, times| *times == 0);
            self.app.forget_whereabouts_of(self.cluster, user);
        }
    }
}
