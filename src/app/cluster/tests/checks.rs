//! What must hold when nothing has gone wrong for a while, and what must be left at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::life::{Life, OUTSIDER, Told, USERS, Wish};
use super::town::{Node, Town};
use crate::app::cluster::stands::Stand;
use crate::app::cluster::views::{Member, Standing};
use crate::app::error::Code;
use crate::app::fixture::user;
use crate::bus::directory::User;
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::ConnectionState;

/// Steps for which something may still be carried out that was told to be away.
const LATE: u64 = 40;

/// The calls that are live, and who owns each.
pub(super) type Live = BTreeMap<CallId, (NodeId, Call)>;

/// Every call has one owner, and is where all can find it as it is.
async fn owners(town: &Town) -> Live {
    let mut living = Live::new();
    for node in &town.nodes {
        let mut own = Vec::new();
        node.app.calls.each(|it| own.push(it.clone()));
        for call in own {
            assert!(!call.state.is_terminal(), "{} is over, and not retired", call.id);
            let (id, owner) = (call.id, node.id.clone());
            let bus = node.cluster().bus.clone();
            let found = town.work(async move { bus.call(id).await }).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("Redis has no {id}, which {owner} has"));
            let there = (found.owner, found.epoch, found.seq, found.over);
            assert_eq!(there, (owner.clone(), call.epoch, call.seq, false), "{id} in Redis");
            let there = serde_json::from_slice::<Value>(&found.snapshot).unwrap();
            assert_eq!(there, serde_json::to_value(&call).unwrap(), "{id} in Redis");
            let other = living.insert(id, (owner, call));
            assert!(other.is_none(), "{id} belongs to {} and to {}", other.unwrap().0, node.id);
        }
    }
    living
}

/// Every node tells the same of every call, and nobody speaks of calls that are none.
async fn same_everywhere(town: &Town, life: &Life, living: &Live) {
    for (id, (owner, call)) in living {
        let mut told = BTreeSet::new();
        for node in &town.nodes {
            let (app, id, who) = (Arc::clone(&node.app), *id, call.initiator.clone());
            let seen = town.work(async move { Box::pin(app.call(id, &who)).await }).await;
            let seen = seen.unwrap_or_else(|error| panic!("{} of {id}: {error:?}", node.id));
            told.insert(without_durations(seen.get()));
        }
        assert_eq!(told.len(), 1, "{id} of {owner}: {told:?}");
    }
    for id in life.calls.iter().copied().filter(|it| !living.contains_key(it)) {
        if life.went_back {
            // What one master has forgotten another may not know of: whoever asks for it finds out.
            let app = Arc::clone(&town.nodes[0].app);
            drop(town.work(async move { Box::pin(app.call(id, &user(USERS[0]))).await }).await);
        }
        assert!(is_nothing(town, life, id).await, "{id} is nowhere, but goes on in Redis");
    }
}

/// Those who are in the call have been there for longer with every second, also while nodes are being asked.
fn without_durations(details: &str) -> String {
    let mut details = serde_json::from_str::<Value>(details).unwrap();
    for it in details["participants"].as_array_mut().unwrap() {
        it["duration"].take();
    }
    details.to_string()
}

async fn known_of(town: &Town, name: &str) -> User {
    let (bus, it) = (town.nodes[0].cluster().bus.clone(), user(name));
    town.work(async move { bus.user(&it).await }).await.unwrap()
}

/// Whether nobody takes that call for one that goes on: whoever comes across it forgets it.
async fn is_nothing(town: &Town, life: &Life, call: CallId) -> bool {
    let bus = town.nodes[0].cluster().bus.clone();
    let found = town.work(async move { bus.call(call).await }).await.unwrap();
    // A Redis that went back may take it to be being made, for a minute.
    let gone = |it: &NodeId| life.went_back || town.nodes.iter().all(|node| node.id != *it);
    found.is_none_or(|it| it.over || (it.snapshot.is_empty() && gone(&it.owner)))
}

/// Whether something is known of a call that has gone on without the user: claimed by an owner that is no more.
fn is_stray(town: &Town, living: &Live, it: &UserId, known: &User) -> bool {
    known.calls.iter().any(|(call, by, _)| {
        let unknown = |(_, live): &(NodeId, Call)| live.participant(it).is_none();
        living.get(call).is_some_and(unknown) && town.nodes.iter().all(|node| node.id != *by)
    })
}

/// What is known of a user whom somebody has asked for.
async fn asked_for(town: &Town, it: &UserId, joined: Option<CallId>) -> User {
    let (app, it) = (Arc::clone(&town.nodes[0].app), it.clone());
    town.work(async move {
        let cluster = app.cluster().unwrap();
        if let Some(call) = joined {
            drop(Box::pin(app.holds(cluster, &it, call)).await);
        }
        drop(Box::pin(app.gather(&it, true, None)).await);
        cluster.bus.user(&it).await.unwrap()
    })
    .await
}

/// Nobody is in two calls, no call is overfull, and Redis knows of each user what is so.
async fn users(town: &Town, life: &Life, living: &Live) {
    for (id, (_, call)) in living {
        let taken = call.participants.iter().filter(|it| it.is_joined() || it.is_rung()).count();
        assert!(taken <= usize::from(call.limits.participants), "{id} is overfull");
    }
    for name in USERS.into_iter().chain([OUTSIDER]) {
        let (it, mut known) = (user(name), known_of(town, name).await);
        let old = known.calls.iter().any(|(call, ..)| !living.contains_key(call));
        if is_stray(town, living, &it, &known) || (old && life.went_back) {
            known = asked_for(town, &it, known.joined).await;
        }
        let joined: Vec<CallId> =
            living.values().filter(|(_, call)| call.is_joined(&it)).map(|(_, it)| it.id).collect();
        assert!(joined.len() <= 1, "{name} is in {joined:?}");
        if let Some(call) = known.joined.filter(|it| !living.contains_key(it)) {
            assert!(is_nothing(town, life, call).await, "{name} is in {call}, which is nowhere");
            known.joined = joined.first().copied().filter(|_| life.went_back);
        }
        assert_eq!(known.joined, joined.first().copied(), "{name} is in");
        let stand = |(owner, call): &(NodeId, Call)| {
            let mark = Stand::of(call, call.participant(&it)?).mark?;
            Some((call.id, owner.clone(), mark))
        };
        let wanted: Vec<_> = living.values().filter_map(stand).collect();
        for (call, ..) in known.calls.iter().filter(|(it, ..)| !living.contains_key(it)) {
            assert!(is_nothing(town, life, *call).await, "{name} knows {call}, which is nowhere");
        }
        known.calls.retain(|(it, ..)| living.contains_key(it));
        assert_eq!(known.calls, wanted, "{name}'s calls");
        // A Redis that went back may know of more: whoever asks there is told so.
        for node in town.nodes.iter().filter(|at| at.app.presence.has(&it)) {
            assert!(
                known.nodes.iter().any(|(it, _)| *it == node.id),
                "{name} is at {} too",
                node.id
            );
        }
    }
}

/// Every device knows its user's calls, and every node who is where in the calls of its users.
fn devices(town: &Town, living: &Live, life: &Life) {
    for client in &life.clients {
        let it = user(client.name);
        let (mut may, mut must) = (BTreeSet::new(), BTreeSet::new());
        for (_, call) in living.values() {
            let Some(who) = call.participant(&it).filter(|it| it.listens()) else { continue };
            may.insert(call.id);
            // Who is busy is not told so; nor are the other devices of one who starts a call.
            if who.connection != ConnectionState::Busy && call.initiator != it {
                must.insert(call.id);
            }
        }
        let (who, known) = (format!("{} at {}", client.name, client.node), &client.known);
        assert!(must.is_subset(known), "{who} does not know all of {must:?}: {known:?}");
        assert!(known.is_subset(&may), "{who} knows more than {may:?}: {known:?}");
    }
    for node in &town.nodes {
        let cluster = node.cluster();
        assert!(!cluster.peers.is_fenced(), "{} is fenced", node.id);
        assert_eq!(cluster.keeping.behind(), 0, "{} has not brought all", node.id);
        for (id, (owner, call)) in living {
            let view = cluster.views.0.get(id);
            let listens = |it: &str| call.participant(&user(it)).is_some_and(Participant::listens);
            let here = |it: &str| node.app.presence.has(&user(it));
            let concerned = USERS.iter().any(|it| here(it) && listens(it));
            assert!(view.is_some() || !concerned, "{} does not know {id} of {owner}", node.id);
            let Some(view) = view.filter(|_| concerned) else { continue };
            assert_eq!((&view.owner, view.epoch), (owner, call.epoch), "{} of {id}", node.id);
            let concerned = |it: &&Member| it.listens || it.standing != Standing::Other;
            for member in view.members.iter().filter(concerned) {
                let mut nodes = member.nodes.to_vec();
                nodes.sort_unstable();
                let has = |it: &&Node| it.app.presence.has(&member.user);
                let mut there: Vec<_> =
                    town.nodes.iter().filter(has).map(|it| it.id.clone()).collect();
                there.sort_unstable();
                assert_eq!(nodes, there, "{} of {} in {id} of {owner}", node.id, member.user);
            }
        }
    }
}

/// How one told wish concerns a user in a call.
fn concerns(it: &Told, name: &str, call: CallId) -> bool {
    match &it.wish {
        // Whoever calls somebody may join that one's call.
        Wish::Start(_) => it.who == name && it.call.is_none_or(|it| it == call),
        Wish::Join | Wish::End | Wish::Decline => it.who == name && it.call == Some(call),
        Wish::Invite(other) | Wish::Remove(other) => *other == name && it.call == Some(call),
        Wish::Set(_) | Wish::Rings | Wish::Signal(..) => false,
    }
}

/// What was acknowledged last, and by nothing else overlapped, is so.
fn acknowledged(life: &Life, living: &Live) {
    for (name, call) in USERS.iter().flat_map(|name| life.calls.iter().map(move |it| (name, it))) {
        let all: Vec<&Told> = life.told.iter().filter(|it| concerns(it, name, *call)).collect();
        let Some(last) = all.iter().max_by_key(|it| it.began) else { continue };
        let away = |it: &Told| it.outcome == Some(Err(Code::ClusterUnavailable));
        let refused = |it: &&&Told| it.outcome.is_some_and(|code| code.is_err()) && !away(it);
        // What was not answered in time may be done a while after that.
        let over = |it: &Told| it.ended.map(|step| if away(it) { step + LATE } else { step });
        let alone = all
            .iter()
            .filter(|it| !refused(it))
            .all(|it| std::ptr::eq(*it, *last) || over(it).is_some_and(|over| over < last.began));
        let done = last.outcome == Some(Ok(()));
        let Some((owner, it)) = living.get(call).filter(|_| alone && done) else { continue };
        let who = it.participant(&user(name));
        let (joined, rung) = (it.is_joined(&user(name)), who.is_some_and(Participant::is_rung));
        let stayed = life.here.get(name).is_none_or(|it| *it < last.began);
        let kept = match last.wish {
            Wish::Start(_) | Wish::Join => joined || !stayed,
            Wish::End | Wish::Remove(_) => !joined && !rung,
            Wish::Decline => !rung,
            Wish::Invite(_) | Wish::Set(_) | Wish::Rings | Wish::Signal(..) => true,
        };
        let wish = &last.wish;
        assert!(
            kept,
            "{name}'s {wish:?} of {} is undone in {call} of {owner}: {who:?}",
            last.began
        );
    }
}

/// All that must hold once all is well.
pub(super) async fn all(town: &Town, life: &Life) {
    let living = owners(town).await;
    users(town, life, &living).await;
    same_everywhere(town, life, &living).await;
    devices(town, &living, life);
    acknowledged(life, &living);
}

/// All is over, and nobody is there: nothing is left.
pub(super) async fn nothing_left(town: &Town, life: &Life) {
    let living = owners(town).await;
    let left: HashMap<_, _> = living.values().map(|(at, it)| (it.id, (at, it))).collect();
    assert!(left.is_empty(), "not over: {left:?}");
    users(town, life, &living).await;
    for name in USERS.into_iter().chain([OUTSIDER]) {
        let known = known_of(town, name).await;
        assert!(known.joined.is_none() && known.calls.is_empty(), "of {name} is left {known:?}");
    }
    same_everywhere(town, life, &living).await;
    for node in &town.nodes {
        let (app, cluster, id) = (&node.app, node.cluster(), &node.id);
        assert_eq!(app.calls.leftovers(), [0; 3], "calls, their users, their deadlines at {id}");
        assert_eq!(app.sockets() + app.unwritten(), 0, "{id}");
        let kept = (cluster.keeping.behind(), cluster.keeping.leftovers());
        assert_eq!(kept, (0, 0), "calls kept at {id}");
        let found = cluster.views.0.iter().map(|it| *it.key()).collect::<Vec<_>>();
        assert!(found.is_empty(), "{id} has views of {found:?}");
        let found = cluster.whereabouts.iter().map(|it| it.key().clone()).collect::<Vec<_>>();
        assert!(found.is_empty(), "{id} knows where {found:?} are");
        assert_eq!((cluster.untold.len(), cluster.commands.waiting()), (0, 0), "{id}");
        assert!(app.store.local().live_snapshots().unwrap().is_empty(), "journal of {id}");
        let bus = cluster.bus.clone();
        let (me, beats) = (id.clone(), cluster.bus.clone());
        let listed = town.work(async move { bus.calls_of(&me).await }).await.unwrap();
        assert!(listed.is_empty(), "{id} is listed with {listed:?}");
        let beats = town.work(async move { beats.beat().await }).await.unwrap();
        assert_eq!(beats.len(), town.nodes.len(), "{beats:?}");
    }
}
