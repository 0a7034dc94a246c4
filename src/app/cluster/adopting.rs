//! Beginning to own a call that another node had.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::news::Told;
use crate::app::error::AppError;
use crate::bus::directory::{Claim, Found, State};
use crate::bus::error::{BusError, Kind};
use crate::bus::node::NodeId;
use crate::call::id::CallId;
use crate::call::model::Call;

/// Calls that this node begins to own.
#[derive(Default)]
pub(super) struct Adoptions {
    busy: Mutex<HashSet<CallId>>,
    /// Those of which that failed, or was not answered: they may be ours, and nobody else would take them then.
    doubtful: Mutex<BTreeSet<CallId>>,
}

/// Ends with an adoption, however that ends.
struct Busy<'a>(&'a Adoptions, CallId);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().remove(&self.1);
    }
}

impl Adoptions {
    /// # Errors
    /// [`AppError::Moved`] where it goes on already: what comes of it is not known yet.
    fn begin(&self, call: CallId) -> Result<Busy<'_>, AppError> {
        self.busy.lock().insert(call).then(|| Busy(self, call)).ok_or(AppError::Moved)
    }

    pub(super) fn is_busy(&self, call: CallId) -> bool {
        self.busy.lock().contains(&call)
    }

    /// What came of it is not known.
    pub(super) fn doubt(&self, call: CallId) {
        self.doubtful.lock().insert(call);
    }
}

impl App {
    /// Takes a call from its owner, who is gone or has `given` it away; that another was quicker is as good.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        found: Found,
        given: bool,
    ) -> Result<(), AppError> {
        if self.is_draining() {
            return Err(AppError::Draining);
        }
        let _busy = cluster.adoptions.begin(call)?;
        // Nobody would find it with us otherwise.
        cluster.bus.enlist(&[call]).await?;
        let ended = self.store.over_among(&[call]).await.get(&call).copied();
        // Meanwhile it may be back.
        if !given && !cluster.peers.is_gone(&cluster.bus, &found.owner).await {
            return Err(AppError::Moved);
        }
        self.claim_and_install(cluster, call, (&found.owner, Some(found.epoch)), ended).await
    }

    /// The same for one that is listed as ours already, and of which the store has been asked whether, and in which
    /// ownership, it `ended`.
    pub(super) async fn adopt_listed(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        owner: &NodeId,
        ended: Option<u64>,
    ) -> Result<(), AppError> {
        let _busy = cluster.adoptions.begin(call)?;
        if !cluster.peers.may_be_taken_from(cluster.me(), owner) {
            return Err(BusError::new("taking a call of one who is back", Kind::Away).into());
        }
        self.claim_and_install(cluster, call, (owner, None), ended).await
    }

    async fn claim_and_install(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        (owner, epoch): (&NodeId, Option<u64>),
        ended: Option<u64>,
    ) -> Result<(), AppError> {
        let adopted = async {
            match cluster.bus.claim(call, owner, epoch).await? {
                Claim::Ours { epoch, was: Some(was) } => {
                    self.install(cluster, (call, epoch), &was, ended).await
                }
                Claim::Ours { was: None, .. } | Claim::Theirs(_) | Claim::Nothing => Ok(()),
            }
        };
        adopted.await.inspect_err(|_| cluster.adoptions.doubt(call))
    }

    /// Begins to own a call as it was found, unless it has `ended` in that ownership or a later one: what ended in an
    /// earlier one has gone on since.
    async fn install(
        self: &Arc<Self>,
        cluster: &Cluster,
        (call, epoch): (CallId, u64),
        was: &Found,
        ended: Option<u64>,
    ) -> Result<(), AppError> {
        let found = serde_json::from_slice::<Call>(&was.snapshot).ok();
        // It was being made and never was, or had ended: its former owner could not tell that to Redis any more.
        if found.as_ref().is_none_or(|it| ended.is_some_and(|epoch| epoch >= it.epoch)) {
            let state = State { epoch, seq: was.seq, over: true, snapshot: b"" };
            cluster.bus.put(call, &state, false).await?;
            if let Some(found) = found {
                self.tell_over(cluster, &found, epoch).await;
            }
            if self.livekit().is_some() {
                self.rooms.look(call);
            }
            return Ok(());
        }
        match found {
            Some(found) => self.own(cluster, found, epoch).await,
            None => Ok(()),
        }
    }

    /// A call turns out to be over: whoever is in it, wherever they are, looks at their calls anew.
    pub(super) async fn tell_over(self: &Arc<Self>, cluster: &Cluster, call: &Call, epoch: u64) {
        for it in &call.participants {
            if let Ok(known) = cluster.bus.forget_call(&it.user, call.id).await {
                self.learn(cluster, &it.user, &known);
            }
        }
        self.spread(&Told::over(call, epoch), &[]);
        self.resync(call.participants.iter().map(|it| &it.user));
    }

    /// Owns `call` in this epoch from now on: one that is listed as ours.
    pub(super) async fn own(
        self: &Arc<Self>,
        cluster: &Cluster,
        mut call: Call,
        epoch: u64,
    ) -> Result<(), AppError> {
        let (id, now) = (call.id, self.clock.now());
        // Somebody may have heard of it whom the call as it was found does not know.
        let mut people = cluster.views.people(id);
        let permit = self.journal.reserve()?;
        let applied = call.take_over(epoch, now);
        let durable = self.calls.insert(call, |call| self.submit(permit, call, &applied, None));
        durable.await?;
        // Then it is known where its people are; if that takes longer, they are told then.
        if self.kept(id).await.is_err() {
            cluster.keeping.doubt(id, true);
        }
        people.extend(self.people_of(id));
        people.sort_unstable();
        people.dedup();
        for user in &people {
            self.heed(user);
        }
        self.retell(cluster, id, true);
        self.resync(people.iter());
        if self.livekit().is_some() {
            self.rooms.look(id);
            self.stop_unknown_later(id);
        }
        Ok(())
    }

    /// Calls that may be ours without being here are taken where they turn out to be.
    pub(super) fn adopt_late(self: &Arc<Self>, cluster: &Cluster) {
        let doubtful = std::mem::take(&mut *cluster.adoptions.doubtful.lock());
        for call in doubtful {
            let app = Arc::clone(self);
            drop(tokio::spawn(async move {
                let Some(cluster) = app.cluster() else { return };
                if let Err(error) = Box::pin(app.adopt_doubtful(cluster, call)).await {
                    tracing::debug!(%error, %call, "whether a call is ours is not known yet");
                    cluster.adoptions.doubt(call);
                }
            }));
        }
    }

    async fn adopt_doubtful(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
    ) -> Result<(), AppError> {
        match cluster.bus.call(call).await? {
            Some(found)
                if !found.over
                    && found.owner == *cluster.me()
                    && self.calls.read(call, |_| ()).is_none() =>
            {
                self.adopt(cluster, call, found, true).await
            }
            Some(_) | None => Ok(()),
        }
    }
}
