//! Who may join what, decided where all nodes see it: one user at a time, at once, and never waiting for another.

use std::sync::Arc;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::cluster::stands::Stand;
use crate::app::error::AppError;
use crate::bus::directory::{Found, Mark, Ring, User};
use crate::bus::error::{BusError, Kind};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;

/// How often what holds a user back is looked at, where it turns out to be no more.
const TRIES_MAX: u32 = 3;

/// Whether a user is in a call, as far as this node can say.
enum Held {
    Known(bool),
    /// Another node has the call.
    With(Found),
}

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

    /// Whether `user` is in `call`, as Redis says: it may have gone back to an older state, and know calls that are
    /// long over. What is no longer so is put right. Fails where that can't be found out: to take the user for one
    /// who is in it would be an answer for good, and may be wrong.
    pub(super) async fn holds(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<bool, AppError> {
        match self.held(cluster, user, call).await? {
            Held::Known(joined) => Ok(joined),
            Held::With(found) => self.holds_elsewhere(cluster, user, call, &found).await,
        }
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

    /// Whether the owner of a call says that `user` is in it.
    async fn holds_elsewhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        found: &Found,
    ) -> Result<bool, AppError> {
        if cluster.peers.is_gone(&cluster.bus, &found.owner).await {
            if found.snapshot.is_empty() {
                cluster.bus.forget_call(user, call).await?;
                return Ok(false);
            }
            // Whoever takes it over goes on from that, or from what is newer.
            let was = serde_json::from_slice::<Call>(&found.snapshot).ok();
            return was.is_some_and(|it| it.is_joined(user)).then_some(true).ok_or_else(unknown);
        }
        self.holds_there(cluster, user, call, &found.owner).await
    }

    async fn holds_there(
        &self,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        node: &NodeId,
    ) -> Result<bool, AppError> {
        let asked = (user, &Errand::Holds);
        let told = self.ask_node(cluster, node, Command::about(call), asked).await;
        let told = told.ok().flatten().and_then(|it| serde_json::from_str(it.get()).ok());
        told.ok_or_else(unknown)
    }

    /// Whether `user` is in a call that is ours, as another node asks.
    pub(super) async fn holds_here(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<bool, AppError> {
        match self.held(cluster, user, call).await? {
            Held::Known(joined) => Ok(joined),
            Held::With(_) => Err(AppError::Moved),
        }
    }

    /// Whether `user` is in `call`, where no other node has that.
    async fn held(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<Held, AppError> {
        // In this order: a call is here before it ceases to be in the making.
        let making = cluster.keeping.is_making(call);
        if let Some(joined) = self.put_right(cluster, user, call).await? {
            return Ok(Held::Known(joined));
        }
        if making {
            return Ok(Held::Known(true));
        }
        let found = cluster.bus.call(call).await?.filter(|it| !it.over);
        match found {
            Some(found) if found.owner != *cluster.me() => Ok(Held::With(found)),
            found => self.holds_no_more(cluster, user, call, found).await.map(Held::Known),
        }
    }

    /// Whether `user` is in a call that is neither here nor being made here, nor with another node as far as Redis knows:
    /// where it is on its way to us. One that is over, or came to nothing, is so for all from now on.
    async fn holds_no_more(
        self: &Arc<Self>,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
        found: Option<Found>,
    ) -> Result<bool, AppError> {
        let over = match found {
            // Redis may have lost it: whoever said so knows.
            None => match self.said_by(cluster, user, call).await? {
                Some(by) => return self.holds_there(cluster, user, call, &by).await,
                None => true,
            },
            Some(found) if found.snapshot.is_empty() => true,
            Some(found) => {
                Box::pin(self.lay(cluster, call, &found)).await?;
                let was = serde_json::from_slice::<Call>(&found.snapshot).map_or(0, |it| it.epoch);
                let ended = self.store.over_among(&[call]).await.get(&call).copied();
                ended.is_some_and(|it| it >= was)
            }
        };
        if over {
            cluster.bus.forget_call(user, call).await?;
        }
        Ok(!over)
    }

    /// The other node that says that `user` is in a call, where it is there.
    async fn said_by(
        &self,
        cluster: &Cluster,
        user: &UserId,
        call: CallId,
    ) -> Result<Option<NodeId>, AppError> {
        let known = cluster.bus.user(user).await?;
        let by = known.calls.into_iter().find(|(it, ..)| *it == call).map(|(_, by, _)| by);
        let Some(by) = by.filter(|it| it != cluster.me()) else { return Ok(None) };
        let gone = cluster.peers.is_gone(&cluster.bus, &by).await;
        Ok(Some(by).filter(|_| !gone))
    }

    /// Whether a call goes on, or will: one that was being made ends with the node that made it.
    pub(super) async fn goes_on(&self, cluster: &Cluster, found: &Found) -> bool {
        let made = !found.snapshot.is_empty();
        !found.over && (made || !cluster.peers.is_gone(&cluster.bus, &found.owner).await)
    }
}

/// Who is in a call can't be found out.
fn unknown() -> AppError {
    BusError::new("asking who is in a call", Kind::Away).into()
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
