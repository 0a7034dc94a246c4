//! Asking the node that has a call.
//!
//! What is asked bears an id: asked again it is done once, and answered the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::{Done, Errand, Reply};
use crate::app::effects::json;
use crate::app::error::{AppError, Code};
use crate::bus::directory::Found;
use crate::bus::error::{BusError, Kind};
use crate::bus::letter::{Kind as About, Letter};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// How long an answer may take before what was asked is asked once more. Both together are less than the
/// second after which nobody may be left waiting (fault F5).
const ANSWER_WAIT: Duration = Duration::from_millis(450);
const TIMES_ASKED_MAX: u32 = 2;
/// The same for what waits for LiveKit besides: more than LiveKit is given.
const TIMES_ASKED_LONG_MAX: u32 = 6;
/// How long a call that has gone elsewhere, or a node whose mailbox is just being opened anew, is looked for, and
/// how long to wait before each look.
const MOVES_WAIT: Duration = Duration::from_millis(900);
const MOVE_WAIT: Duration = Duration::from_millis(25);
/// Users of whom a node tells that they are connected, at most.
const PRESENT_MAX: usize = 300;
/// Answers that are remembered for those who ask again.
const ANSWERS_MAX: usize = 65_536;

/// What has been asked, by us and of us.
pub(super) struct Commands {
    waiting: DashMap<u128, Waiting>,
    answered: Cache<u128, Answered>,
}

impl Default for Commands {
    fn default() -> Self {
        Self { waiting: DashMap::new(), answered: Cache::new(ANSWERS_MAX) }
    }
}

struct Waiting {
    of: NodeId,
    /// `None`: it will not come.
    answer: oneshot::Sender<Option<Bytes>>,
}

/// What has become of a command of another node.
#[derive(Clone)]
enum Answered {
    /// It is being carried out.
    NotYet,
    /// It was.
    With(Bytes),
}

/// What is asked, on its way.
#[derive(Serialize, Deserialize)]
struct Question {
    user: UserId,
    errand: Errand,
}

/// A command on its way: asked again it bears the same id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    id: u128,
    call: CallId,
}

impl Command {
    /// A new one, about `call`.
    pub(super) fn about(call: CallId) -> Self {
        Self { id: Uuid::now_v7().as_u128(), call }
    }

    /// A new one that is about no call.
    pub(super) fn about_none() -> Self {
        Self::about(CallId(Uuid::nil()))
    }
}

/// Where a call is.
pub(super) enum Place {
    /// Here, or nowhere.
    Here,
    /// With that node.
    There(NodeId),
}

/// Ends with the wait, however that ends.
struct Wait<'a>(&'a Commands, u128);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.waiting.remove(&self.1);
    }
}

impl Commands {
    fn wait(&self, id: u128, of: &NodeId) -> (Wait<'_>, oneshot::Receiver<Option<Bytes>>) {
        let (answer, answered) = oneshot::channel();
        self.waiting.insert(id, Waiting { of: of.clone(), answer });
        (Wait(self, id), answered)
    }

    /// Gives an answer to whoever waits for it.
    pub(super) fn answer(&self, id: u128, answer: Bytes) {
        if let Some((_, waiting)) = self.waiting.remove(&id) {
            // Whoever waited may have given up just now.
            drop(waiting.answer.send(Some(answer)));
        }
    }

    /// Nobody reads what is sent to `node`: who waits for it waits no longer.
    pub(super) fn give_up(&self, node: &NodeId) {
        let its = self.waiting.iter().filter(|it| it.of == *node);
        // Ids sort by when they were made: who has waited longest goes on first.
        let its: BTreeSet<u128> = its.map(|it| *it.key()).collect();
        for id in &its {
            self.waiting.remove(id);
        }
    }
}

fn away(during: &'static str) -> AppError {
    BusError::new(during, Kind::Away).into()
}

impl App {
    /// Has it carried out where the call is.
    pub async fn ask(self: &Arc<Self>, call: CallId, user: &UserId, errand: Errand) -> Done {
        match self.cluster() {
            None => self.perform(call, user, errand).await,
            Some(cluster) => Box::pin(self.ask_anywhere(cluster, call, user, errand)).await,
        }
    }

    async fn ask_anywhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        user: &UserId,
        errand: Errand,
    ) -> Done {
        let id = Uuid::now_v7().as_u128();
        let until = Instant::now() + MOVES_WAIT;
        loop {
            let done = match self.locate(cluster, call, &errand).await {
                Ok(Place::Here) => self.perform(call, user, errand.clone()).await,
                Ok(Place::There(node)) => {
                    self.ask_node(cluster, &node, Command { id, call }, (user, &errand)).await
                }
                Err(away) if errand.only_looks() => {
                    let looked = self.perform(call, user, errand.clone()).await;
                    // It may be there all the same: with another node, and not in Postgres yet.
                    let unknown = looked.as_ref().is_err_and(|it| it.code() == Code::NotFound);
                    if unknown { Err(away) } else { looked }
                }
                Err(error) => Err(error),
            };
            match done {
                Err(AppError::Moved) if Instant::now() < until => {
                    cluster.views.doubt(call);
                    sleep(MOVE_WAIT).await;
                }
                Err(AppError::Moved) => return Err(away("following a call")),
                done => return done,
            }
        }
    }

    /// Where a call is; takes it over where its owner is no more.
    async fn locate(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        errand: &Errand,
    ) -> Result<Place, AppError> {
        if self.calls.read(call, |_| ()).is_some() {
            return Ok(Place::Here);
        }
        if let Some(owner) = cluster.views.owner(call)
            && owner != *cluster.me()
            && !cluster.peers.is_dead(&owner)
        {
            return Ok(Place::There(owner));
        }
        match cluster.bus.call(call).await {
            Ok(Some(found)) if found.over && errand.outlasts_the_call() => {
                let here = found.owner == *cluster.me()
                    || cluster.peers.is_gone(&cluster.bus, &found.owner).await;
                Ok(if here { Place::Here } else { Place::There(found.owner) })
            }
            Ok(Some(found)) => self.place_of(cluster, call, found).await,
            Ok(None) => Ok(Place::Here),
            // What is over here is over everywhere.
            Err(_) if self.is_past(call).await => Ok(Place::Here),
            Err(error) => Err(error.into()),
        }
    }

    async fn place_of(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        found: Found,
    ) -> Result<Place, AppError> {
        if found.over || found.owner == *cluster.me() {
            self.lay(cluster, call, &found).await?;
            return Ok(Place::Here);
        }
        if cluster.peers.is_gone(&cluster.bus, &found.owner).await {
            self.adopt(cluster, call, found, false).await?;
            return Err(AppError::Moved);
        }
        Ok(Place::There(found.owner))
    }

    async fn is_past(&self, call: CallId) -> bool {
        let local = self.store.local().call(call).await;
        local.ok().flatten().is_some_and(|it| it.call.state.is_terminal())
    }

    /// Asks one node, and once more where it does not answer.
    pub(super) async fn ask_node(
        &self,
        cluster: &Cluster,
        node: &NodeId,
        Command { id, call }: Command,
        (user, errand): (&UserId, &Errand),
    ) -> Done {
        const DURING: &str = "asking another node";
        let question = Question { user: user.clone(), errand: errand.clone() };
        // Strings and numbers, which always serialise.
        let body = serde_json::to_vec(&question).unwrap_or_default();
        let letter = cluster.letter(About::Ask, id, call, Bytes::from(body));
        let times = if errand.takes_long() { TIMES_ASKED_LONG_MAX } else { TIMES_ASKED_MAX };
        for _ in 0..times {
            if !cluster.bus.is_well() {
                return Err(away(DURING));
            }
            let (_wait, answered) = cluster.commands.wait(id, node);
            cluster.bus.post(node, letter.clone())?;
            match timeout(ANSWER_WAIT, answered).await {
                Ok(Ok(Some(answer))) => {
                    return match serde_json::from_slice::<Reply>(&answer) {
                        Ok(reply) => reply.done(),
                        Err(error) => {
                            tracing::warn!(%error, %node, "an answer that can't be read");
                            Err(AppError::Internal)
                        }
                    };
                }
                // Nobody is there to read it.
                Ok(Ok(None) | Err(_)) => return Err(AppError::Moved),
                Err(_) => {}
            }
        }
        Err(away(DURING))
    }

    /// Carries out what another node asks, once, and answers.
    pub(super) fn hear_question(self: &Arc<Self>, letter: &Letter) {
        let Some(cluster) = self.cluster() else { return };
        let id = letter.id;
        match cluster.commands.answered.get(&id) {
            Some(Answered::NotYet) => return,
            Some(Answered::With(answer)) => {
                let answer = cluster.letter(About::Answer, id, letter.call, answer);
                return cluster.tell(&letter.from, answer);
            }
            None => cluster.commands.answered.insert(id, Answered::NotYet),
        }
        let Ok(Question { user, errand }) = serde_json::from_slice::<Question>(&letter.body) else {
            tracing::warn!(from = %letter.from, "a question that can't be read");
            return;
        };
        let (app, from, call) = (Arc::clone(self), letter.from.clone(), letter.call);
        begin(async move {
            let done = Box::pin(app.answer(&from, call, &user, errand)).await;
            let Some(cluster) = app.cluster() else { return };
            let has_moved = matches!(done, Err(AppError::Moved));
            let reply = serde_json::to_vec(&Reply::of(done)).unwrap_or_default();
            let reply = Bytes::from(reply);
            if has_moved {
                // Nothing was done, and it will be asked again: it may be here by then.
                cluster.commands.answered.remove(&id);
            } else {
                cluster.commands.answered.insert(id, Answered::With(reply.clone()));
            }
            cluster.tell(&from, cluster.letter(About::Answer, id, call, reply));
        });
    }

    async fn answer(
        self: &Arc<Self>,
        from: &NodeId,
        call: CallId,
        user: &UserId,
        errand: Errand,
    ) -> Done {
        let cluster = self.cluster().ok_or(AppError::Moved)?;
        if let Errand::Mine { sync, here } = errand {
            return self.answer_mine(cluster, from, user, (sync, here));
        }
        if matches!(errand, Errand::Holds) {
            return json(&self.holds_here(cluster, user, call).await?).map(Some);
        }
        if matches!(errand, Errand::JoinedSince) {
            return json(&self.joined_since(call, user)).map(Some);
        }
        if matches!(errand, Errand::Contested) {
            cluster.keeping.doubt(call, false);
            return Ok(None);
        }
        if matches!(errand, Errand::Present) {
            let mut present = self.present();
            // Of a letter's size: what is more, the console has no room for.
            present.truncate(PRESENT_MAX);
            return json(&present).map(Some);
        }
        if matches!(errand, Errand::Take) {
            return self.take_from(cluster, from, call).await.map(|()| None);
        }
        if self.calls.read(call, |_| ()).is_none() {
            // It may have ended here just now, or have gone elsewhere.
            let found = cluster.bus.call(call).await?;
            if found.as_ref().is_some_and(|it| !it.over && it.owner != *cluster.me()) {
                return Err(AppError::Moved);
            }
            if let Some(found) = found {
                self.lay(cluster, call, &found).await?;
            }
        }
        self.perform(call, user, errand).await
    }
}

impl Cluster {
    pub(super) fn letter(&self, kind: About, id: u128, call: CallId, body: Bytes) -> Letter {
        let (from, to) = (self.me().clone(), Vec::new());
        Letter { kind, id, from, call, epoch: 0, seq: 0, prev: 0, to, body }
    }

    /// Tells a node something; where too much waits it is not told, and will ask.
    pub(super) fn tell(&self, node: &NodeId, letter: Letter) {
        if let Err(error) = self.bus.post(node, letter) {
            tracing::debug!(%error, %node, "a letter was not sent");
        }
    }
}

/// Begins at once, so that what is asked first is begun first, and goes on in a task of its own.
pub(super) fn begin(work: impl Future<Output = ()> + Send + 'static) {
    use std::task::{Context, Waker};
    let mut work = Box::pin(work);
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        drop(tokio::spawn(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Commands {
        /// How many wait for an answer.
        pub(in crate::app::cluster) fn waiting(&self) -> usize {
            self.waiting.len()
        }
    }
}
