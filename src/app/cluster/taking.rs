//! Calls that pass from one node to another: by the death of one, at its return, or because it goes.
//!
//! Whoever takes a call claims it from the owner that it had, in the epoch that it had: of several who try, one
//! does. What the former owner still writes is refused everywhere from then on; what it has acknowledged and
//! could not put where others find it, it asks the new owner for when it hears of that.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command as Asked;
use crate::app::cluster::keeping::Leftover;
use crate::app::effects::After;
use crate::app::error::{AppError, Code};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::{ConnectionState, State as CallState};
use crate::call::time::Timestamp;
use crate::store::Record;

/// Calls that are taken or handed over at once.
const AT_ONCE: usize = 64;
/// Calls of which it is asked together what can be.
pub(super) const ASKED_TOGETHER: usize = 256;
/// For how long the new owner of a call is asked for what was acknowledged here, and how often.
const PLEAD_MAX: Duration = Duration::from_mins(10);
const PLEAD_PAUSE: Duration = Duration::from_millis(500);
/// How often a call is offered to another node before it stays.
const OFFERS_MAX: usize = 3;

impl App {
    /// All who belong to a call that is here.
    pub(super) fn people_of(&self, call: CallId) -> Vec<UserId> {
        let people = |it: &Call| it.participants.iter().map(|it| it.user.clone()).collect();
        self.calls.read(call, people).unwrap_or_default()
    }

    /// Takes over calls of a node that is no more: this node's share of them, or all. Whether none is left.
    pub(super) async fn take_all(self: &Arc<Self>, node: &NodeId, share: Share) -> bool {
        let Some(cluster) = self.cluster() else { return false };
        let began = Instant::now();
        let calls = match cluster.bus.calls_of(node).await {
            Ok(calls) => calls,
            Err(error) => {
                tracing::warn!(%error, %node, "the calls of a dead node are not known yet");
                return false;
            }
        };
        if calls.is_empty() {
            return cluster.bus.forget_node(node).await.is_ok();
        }
        let calls: Vec<CallId> = calls.into_iter().filter(|it| share.has(*it)).collect();
        let mut taken = 0;
        for some in calls.chunks(ASKED_TOGETHER) {
            match self.take_some(cluster, node, some).await {
                Ok(count) => taken += count,
                Err(error) => tracing::debug!(%error, %node, "calls are not taken over yet"),
            }
        }
        let took_ms = began.elapsed().as_millis();
        tracing::warn!(%node, calls = taken, took_ms, "calls of a dead node are taken over");
        false
    }

    /// Takes some calls of `node`: of how many nothing is left to do.
    async fn take_some(
        self: &Arc<Self>,
        cluster: &Cluster,
        node: &NodeId,
        calls: &[CallId],
    ) -> Result<usize, AppError> {
        if self.is_draining() {
            return Err(AppError::Draining);
        }
        // Nobody would find them with us otherwise.
        cluster.bus.enlist(calls).await?;
        let over = Arc::new(self.store.over_among(calls).await);
        let (app, of) = (Arc::clone(self), node.clone());
        let taken = at_once(calls.to_vec(), move |call| {
            let (app, of, ended) = (Arc::clone(&app), of.clone(), over.get(&call).copied());
            async move {
                let cluster = app.cluster()?;
                let adopted = app.adopt_listed(cluster, call, &of, ended);
                let adopted = Box::pin(adopted).await.inspect_err(|error| {
                    tracing::debug!(%error, %call, "a call of a dead node is not taken over yet");
                });
                adopted.is_ok().then_some(call)
            }
        });
        let taken: Vec<CallId> = taken.await.into_iter().flatten().collect();
        cluster.bus.delist(node, &taken).await?;
        Ok(taken.len())
    }

    /// Takes a call that its owner gives away.
    pub(super) async fn take_from(
        self: &Arc<Self>,
        cluster: &Cluster,
        from: &NodeId,
        call: CallId,
    ) -> Result<(), AppError> {
        match cluster.bus.call(call).await? {
            Some(found) if found.owner == *from => self.adopt(cluster, call, found, true).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Another node has a call that was ours: our copy goes.
    pub(super) async fn depose(self: &Arc<Self>, cluster: &Cluster, call: CallId) {
        let copy = self.drop_copy(cluster, call);
        self.give_way(cluster, call, copy).await;
    }

    /// Our copy of a call is no more, from this moment on; what is left of it.
    pub(super) fn drop_copy(&self, cluster: &Cluster, call: CallId) -> OldCopy {
        let ours = self.calls.read(call, Call::clone);
        let ours = ours.or_else(|| cluster.keeping.last(call));
        self.calls.retire(call);
        let leftover = cluster.keeping.forget(call);
        cluster.views.doubt(call);
        (ours, leftover)
    }

    /// Has all know that a call is not ours any more, and the new owner what was acknowledged here.
    pub(super) async fn give_way(
        self: &Arc<Self>,
        cluster: &Cluster,
        call: CallId,
        (ours, leftover): OldCopy,
    ) {
        drop(cluster.bus.delist(cluster.me(), &[call]).await);
        self.release_copy(call).await;
        tracing::info!(%call, "another node has a call that was ours");
        if let Some(ours) = ours {
            self.plead(ours, leftover);
        }
    }

    /// `user` has ended a call here at that time: where another node has taken it, that one is asked for it.
    pub(in crate::app) fn let_go(&self, call: CallId, user: &UserId, at: Timestamp) {
        if let Some(cluster) = self.cluster() {
            cluster.keeping.let_go(call, user, at);
        }
    }

    /// The local file no longer has the call as one of ours.
    pub(super) async fn release_copy(&self, call: CallId) {
        let Ok(permit) = self.journal.reserve() else { return };
        drop(permit.send(Record::Released(call), After::default()).await);
    }

    /// What was acknowledged here and is not known to the new owner is asked of it: who left or said no here
    /// after they last joined there. Tried until it is known there, or the new owner says no. Of those who stood to it
    /// here, as claimed for it, and whom the new owner does not know, nothing stays.
    pub(super) fn plead(self: &Arc<Self>, ours: Call, leftover: Leftover) {
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let until = Instant::now() + PLEAD_MAX;
            while let Err(error) = Box::pin(app.plead_once(&ours, &leftover)).await {
                if Instant::now() >= until {
                    tracing::warn!(%error, call = %ours.id, "what was acknowledged is not known to the new owner");
                    return;
                }
                sleep(PLEAD_PAUSE).await;
            }
            // What the new owner has told meanwhile was not heard here.
            app.resync(ours.participants.iter().map(|it| &it.user));
        }));
    }

    async fn plead_once(self: &Arc<Self>, ours: &Call, left: &Leftover) -> Result<(), AppError> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        let found = cluster.bus.call(ours.id).await?;
        let Some(found) = found.filter(|it| !it.over) else { return Ok(()) };
        let Ok(theirs) = serde_json::from_slice::<Call>(&found.snapshot) else { return Ok(()) };
        for user in left.stood.iter().filter(|it| theirs.participant(it).is_none()) {
            cluster.bus.withdraw(cluster.me(), user, ours.id).await?;
        }
        for (user, errand) in pleas(ours, &left.gone, &theirs) {
            match Box::pin(self.ask(ours.id, user, errand)).await {
                Err(error) if error.code() == Code::ClusterUnavailable => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Gives all calls to other nodes, for at most until `deadline`; those that nobody takes stay in the local file.
    /// This node still counts as there: its sockets are not gone yet, and hear what goes on at the others.
    pub async fn hand_over(self: &Arc<Self>, deadline: Instant) {
        if self.cluster().is_none() {
            return;
        }
        let mut calls = Vec::new();
        self.calls.each(|it| calls.push(it.id));
        let count = calls.len();
        let app = Arc::clone(self);
        let work = at_once(calls, move |call| {
            let app = Arc::clone(&app);
            async move { app.give(call).await }
        });
        let done = timeout_at(deadline, work).await.is_ok();
        let left = self.calls.len();
        tracing::info!(calls = count, left, done, "calls are handed over");
    }

    /// Says that this node is no more, once nobody is connected to it; not where it still has calls, so that others take
    /// them over.
    pub async fn retire(self: &Arc<Self>, deadline: Instant) {
        let Some(cluster) = self.cluster() else { return };
        if !self.calls.is_empty() {
            self.hand_over(deadline).await;
        }
        if self.calls.is_empty() && cluster.keeping.behind() == 0 {
            cluster.peers.retire();
            drop(cluster.bus.forget_node(cluster.me()).await);
        }
    }

    /// Gives one call to another node.
    async fn give(self: &Arc<Self>, call: CallId) {
        let Some(cluster) = self.cluster() else { return };
        let mut others = cluster.peers.living();
        others.sort_unstable();
        if others.is_empty() {
            return;
        }
        // Spread by chance: the end of an id is random.
        let start = usize::try_from(call.0.as_u128() % 997).unwrap_or(0);
        for turn in 0..OFFERS_MAX {
            let Some(other) = others.get((start + turn) % others.len()) else { return };
            drop(self.kept(call).await);
            let Some(user) = self.calls.read(call, |it| it.initiator.clone()) else { return };
            let asked = self.ask_node(cluster, other, Asked::about(call), (&user, &Errand::Take));
            match Box::pin(asked).await {
                Ok(_) => return self.depose(cluster, call).await,
                Err(error) => tracing::debug!(%error, node = %other, "a node takes no call"),
            }
        }
    }
}

/// What is left of a call that was ours: how it stood, and what is not known of it elsewhere.
pub(super) type OldCopy = (Option<Call>, Leftover);

/// Which of a dead node's calls a node takes: each of those that live has a part, so that it goes quicker and no node has
/// all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    index: usize,
    of: usize,
}

impl Share {
    /// All of them: where others may not have taken theirs.
    pub(super) const ALL: Self = Self { index: 0, of: 1 };

    /// That of `me` among `others`.
    pub(super) fn of(me: &NodeId, others: &[NodeId]) -> Self {
        Self { index: others.iter().filter(|it| *it < me).count(), of: others.len() + 1 }
    }

    /// The end of an id is random.
    fn has(self, call: CallId) -> bool {
        let chance = usize::try_from(call.0.as_u128() & 0xffff_ffff).unwrap_or(0);
        chance % self.of == self.index
    }
}

/// Does `work` for each, some at a time: what came of it, but where it panicked.
pub(super) async fn at_once<T, W>(
    each: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> W,
) -> Vec<W::Output>
where
    W: Future<Output: Send> + Send + 'static,
{
    let (mut working, mut done) = (JoinSet::new(), Vec::new());
    for one in each {
        while working.len() >= AT_ONCE {
            done.extend(working.join_next().await.and_then(Result::ok));
        }
        working.spawn(work(one));
    }
    while let Some(worked) = working.join_next().await {
        done.extend(worked);
    }
    done
}

/// What to ask the new owner for, in this order: a call that ended here because all said no ends there for the same
/// reason, and not because its initiator, who is out of it as it is over, left. At last for those who were `gone` by their
/// own word, though that changed nothing here, as the call was over here or they were out of it: where they have
/// joined there, and not since.
fn pleas<'a>(
    ours: &'a Call,
    gone: &'a [(UserId, Timestamp)],
    theirs: &Call,
) -> Vec<(&'a UserId, Errand)> {
    let ended_by_some =
        !ours.state.is_terminal() || matches!(ours.state, CallState::Ended | CallState::Cancelled);
    let all = ours.participants.iter().filter_map(|it| {
        let errand = plea(it, theirs.participant(&it.user)?)?;
        let may = ended_by_some || !matches!(errand, Errand::End);
        may.then_some((&it.user, errand))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, errand)| !matches!(errand, Errand::Decline));
    for (user, at) in gone {
        // Who is in it here came back after that.
        let is_back = ours.participant(user).is_some_and(|it| it.is_joined() || it.is_rung());
        let stays = |it: &Participant| it.is_joined() && it.since.is_some_and(|since| since < *at);
        let stays = !is_back && theirs.participant(user).is_some_and(stays);
        if stays && all.iter().all(|(it, _)| *it != user) {
            all.push((user, Errand::End));
        }
    }
    all
}

/// What to ask the new owner for, on behalf of one who stands so here and so there.
fn plea(here: &Participant, there: &Participant) -> Option<Errand> {
    let gone = matches!(here.connection, ConnectionState::Left);
    let later = here.left_at.is_some_and(|left| there.since.is_none_or(|since| left > since));
    match here.connection {
        ConnectionState::Left if gone && later && there.is_joined() => Some(Errand::End),
        ConnectionState::Declined if there.is_rung() => Some(Errand::Decline),
        ConnectionState::Left
        | ConnectionState::Declined
        | ConnectionState::Invited
        | ConnectionState::Ringing
        | ConnectionState::Connecting
        | ConnectionState::Connected
        | ConnectionState::Reconnecting
        | ConnectionState::Missed
        | ConnectionState::Busy
        | ConnectionState::Removed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::user;
    use crate::call::command::{Command, Invitee, Start};
    use crate::call::model::Limits;
    use crate::call::participant::Settings;
    use crate::call::state::{CallType, MediaPath};
    use uuid::Uuid;

    /// Anna calls these.
    fn ringing(others: &[&str]) -> Call {
        let invitee =
            |name: &&str| Invitee { user: user(name), participant: Uuid::new_v4(), busy: false };
        let start = Start {
            id: CallId(Uuid::now_v7()),
            epoch: 1,
            call_type: CallType::Audio,
            media: MediaPath::Peer,
            initiator: user("anna"),
            initiator_name: None,
            participant: Uuid::new_v4(),
            online: true,
            settings: Settings::default(),
            chat: None,
            invitees: others.iter().map(invitee).collect(),
            silent: false,
            limits: Limits::DEFAULT,
        };
        Call::start(start, Timestamp(1_000)).0
    }

    /// What is asked for where `here` and `there` this was done to a call of anna's, a second after the other, and these
    /// had ended it at that second.
    fn pleaded(
        others: &[&str],
        (here, there): (&[Command], &[Command]),
        gone: &[(&str, i64)],
    ) -> Vec<(String, &'static str)> {
        let gone: Vec<_> = gone.iter().map(|(it, at)| (user(it), Timestamp(at * 1_000))).collect();
        let call = ringing(others);
        let after = |commands: &[Command]| {
            let mut call = call.clone();
            for (command, at) in commands.iter().zip(2..) {
                call.apply(command.clone(), Timestamp(at * 1_000)).unwrap();
            }
            call
        };
        let name = |it: &Errand| if matches!(it, Errand::Decline) { "decline" } else { "end" };
        let (ours, theirs) = (after(here), after(there));
        pleas(&ours, &gone, &theirs).iter().map(|(user, it)| (user.to_string(), name(it))).collect()
    }

    #[test]
    fn what_ended_here_ends_there_for_the_same_reason() {
        let decline = |name: &str| Command::Decline { user: user(name) };
        let end = |name: &str| Command::End { user: user(name) };
        let of = |list: &[(&str, &'static str)]| -> Vec<(String, &'static str)> {
            list.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect()
        };
        for (others, here, expected) in [
            (&["bob"][..], &[decline("bob")][..], &[("bob", "decline")][..]),
            (
                &["bob", "carl"],
                &[decline("carl"), decline("bob")],
                &[("bob", "decline"), ("carl", "decline")],
            ),
            (&["bob", "carl"], &[decline("carl")], &[("carl", "decline")]),
            (&["bob"], &[end("anna")], &[("anna", "end")]),
            (
                &["bob", "carl"],
                &[decline("carl"), end("anna")],
                &[("carl", "decline"), ("anna", "end")],
            ),
        ] {
            assert_eq!(pleaded(others, (here, &[]), &[]), of(expected), "{here:?}");
        }
    }
    #[test]
    fn who_has_ended_it_is_out_there_too_unless_they_came_back() {
        let decline = |name: &str| Command::Decline { user: user(name) };
        let join = |name: &str| Command::Join {
            user: user(name),
            settings: Settings::default(),
            device: None,
            online: true,
        };
        for (here, there, gone, expected) in [
            // It was over here, as bob declined, when its initiator ended it.
            (
                &[decline("bob")][..],
                &[][..],
                &[("anna", 3)][..],
                &[("bob", "decline"), ("anna", "end")][..],
            ),
            (&[decline("bob")], &[join("bob")], &[("bob", 3), ("carl", 3)], &[("bob", "end")]),
            // They joined there after that, or are in it here as well.
            (&[decline("bob")], &[join("bob")], &[("bob", 2), ("anna", 0)], &[]),
            (&[join("bob")], &[join("bob")], &[("bob", 9)], &[]),
            (&[], &[], &[("anna", 9), ("bob", 9)], &[]),
        ] {
            let expected: Vec<(String, &str)> =
                expected.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect();
            let told = pleaded(&["bob"], (here, there), gone);
            assert_eq!(told, expected, "{here:?} {there:?} {gone:?}");
        }
    }
}
