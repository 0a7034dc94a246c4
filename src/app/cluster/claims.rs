//! Who may join what, decided where all nodes see it: one user at a time, at once, and never waiting for another.

use std::sync::Arc;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::cluster::stands::Stand;
use crate::app::error::AppError;
use crate::bus::directory::{Found, Mark, Ring, User};
use crate::bus::error::BusError;
use crate::call::id::{CallId, UserId};

/// How often what holds a user back is looked at, where it turns out to be no more.
const TRIES_MAX: u32 = 3;

impl App {
    /// `user` joins `call`, unless in another one that goes on. `calling`: the one who is called, by a start of
    /// two.
    pub(in crate::app) async fn claim(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        calling: Option<&UserId>,
    ) -> Result<User, AppError> {
        let mut other = call;
        for _ in 0..TRIES_MAX {
            // Before, as it may come to be so although the answer is lost: then it is taken back.
            let stand = Stand { user: user.clone(), mark: Some(Mark::Member), joined: true };
            let before = cluster.keeping.established(call, stand.clone());
            let claimed = cluster.bus.join(user, call, calling).await;
            let (joined, known) =
                claimed.inspect_err(|_| cluster.keeping.doubt_stand(call, user))?;
            if joined {
                cluster.keeping.established(call, stand);
                self.learn(cluster, user, &known);
                return Ok(known);
            }
            let before = before.unwrap_or_else(|| Stand::none(user));
            cluster.keeping.established(call, before);
            other = known.joined.unwrap_or(call);
            if self.holds(cluster, user, other).await? {
                break;
            }
        }
        Err(AppError::AlreadyInCall(other))
    }

    /// `user` is rung by `call`, or belongs to it as one who is busy.
    pub(super) async fn ring_anywhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        mark: &Mark,
    ) -> Result<(Ring, User), AppError> {
        let max = self.settings.rings_per_user_max;
        for last in [false, true] {
            // Also where the answer is lost.
            let stand = Stand { user: user.clone(), mark: Some(mark.clone()), joined: false };
            let before = cluster.keeping.established(call, stand);
            let answer = cluster.bus.ring(user, call, mark, max).await;
            let (ring, known) = answer.inspect_err(|_| cluster.keeping.doubt_stand(call, user))?;
            let mark = match ring {
                Ring::Rung => Some(mark.clone()),
                Ring::Busy => Some(Mark::Member),
                Ring::TooMany => before.and_then(|it| it.mark),
            };
            cluster.keeping.established(call, Stand { user: user.clone(), mark, joined: false });
            self.learn(cluster, user, &known);
            let busy = known.joined.filter(|_| ring == Ring::Busy && !last);
            match busy {
                Some(other) if !self.holds(cluster, user, other).await? => {}
                Some(_) | None => return Ok((ring, known)),
            }
        }
        // The second try has returned.
        Err(AppError::Internal)
    }

    /// Whether `user` is in `call`, as Redis says; what is no longer so is put right.
    pub(super) async fn holds(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<bool, BusError> {
        if let Some(joined) = self.put_right(cluster, user, call).await? {
            return Ok(joined);
        }
        let Some(found) = cluster.bus.call(call).await?.filter(|it| !it.over) else {
            cluster.bus.forget_call(user, call).await?;
            return Ok(false);
        };
        self.holds_elsewhere(cluster, user, call, &found).await
    }

    /// Whether `user` is in `call`, where that is here; then Redis says no more that the user is, if so.
    async fn put_right(
        &self,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<Option<bool>, BusError> {
        let putting = cluster.deciding.put_right(call, user);
        let stand = self.calls.read(call, |it| it.participant(user).map(|who| Stand::of(it, who)));
        let Some(stand) = stand else { return Ok(None) };
        if putting.is_none() {
            // Just being let in, which Redis has heard of first.
            return Ok(Some(true));
        }
        let joined = stand.as_ref().is_some_and(|it| it.joined);
        if !joined {
            let mark = stand.and_then(|it| it.mark);
            let stood = cluster.bus.stand(user, call, mark.as_ref(), false).await;
            cluster.keeping.doubt_stand(call, user);
            cluster.keeping.touch(call);
            stood?;
        }
        Ok(Some(joined))
    }

    /// Whether the owner of a call says that `user` is in it: a Redis that went back to an older state may know calls
    /// that are long over. One that can't be asked holds the user, but where it is dead before the call was made.
    async fn holds_elsewhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        found: &Found,
    ) -> Result<bool, BusError> {
        let being_made = found.snapshot.is_empty();
        if found.owner == *cluster.me() {
            return Ok(being_made || self.holds_here(cluster, user, call).await);
        }
        if cluster.peers.is_gone(&cluster.bus, &found.owner).await {
            if being_made {
                cluster.bus.forget_call(user, call).await?;
            }
            return Ok(!being_made);
        }
        if being_made {
            return Ok(true);
        }
        let asked = (user, &Errand::Holds);
        let told = self.ask_node(cluster, &found.owner, Command::about(call), asked).await;
        let told = told.ok().flatten().and_then(|it| serde_json::from_str(it.get()).ok());
        Ok(told.unwrap_or(true))
    }

    /// Whether `user` is in a call that is ours, as far as Redis knows; one that is over is over for all from now on.
    pub(super) async fn holds_here(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> bool {
        match self.put_right(cluster, user, call).await {
            Ok(Some(joined)) => return joined,
            // What could not be put right holds the user for now.
            Err(_) => return true,
            Ok(None) => {}
        }
        let found = cluster.bus.call(call).await.ok().flatten();
        let Some(found) = found.filter(|it| !it.over) else { return false };
        drop(Box::pin(self.lay(cluster, call, &found)).await);
        // It may be on its way to us.
        !self.is_over_in_store(call).await
    }

    /// Whether a call goes on, or will: one that was being made ends with the node that made it.
    pub(super) async fn goes_on(&self, cluster: &Cluster, found: &Found) -> bool {
        let made = !found.snapshot.is_empty();
        !found.over && (made || !cluster.peers.is_gone(&cluster.bus, &found.owner).await)
    }
}

/// What was claimed for a call, for somebody who does not belong to it after all, is withdrawn when this goes.
pub(in crate::app) struct Withdrawing<'a>(
    pub(in crate::app) &'a Cluster,
    pub(in crate::app) CallId,
);

impl Drop for Withdrawing<'_> {
    fn drop(&mut self) {
        self.0.keeping.touch(self.1);
    }
}
