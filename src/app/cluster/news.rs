//! What happens in a call, told to the nodes that have sockets of those concerned: one letter a node.
//!
//! Each letter bears the number of the call's last event and of the one last told to that node before, so that
//! a node sees when it has missed something; and who is in the call and where, which signaling goes by. The
//! last of all letters may be lost too: so numbers are repeated for a while (`reminding`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::keeping::Latest;
use crate::app::cluster::views::{Extent, Member, Reading, Standing, Word};
use crate::app::effects::{Delivery, Manner};
use crate::bus::letter::{Kind as About, Letter};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;

/// A call after a change, as others have to know it.
#[derive(Debug)]
pub(in crate::app) struct Told {
    pub(super) call: CallId,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    over: bool,
    word: Word,
    /// What Redis has to have of it.
    latest: Option<Latest>,
    pub(super) people: Vec<(UserId, Standing, bool)>,
}

impl Told {
    /// A call that is over although it does not look so.
    pub(super) fn over(call: &Call, epoch: u64) -> Self {
        Self { epoch, over: true, word: Word::Anew, ..Self::of(call) }
    }

    pub(super) fn of(call: &Call) -> Self {
        let standing = |it: &Participant| {
            if it.is_joined() {
                Standing::Joined
            } else if it.is_rung() {
                Standing::Rung
            } else {
                Standing::Other
            }
        };
        let person = |it: &Participant| (it.user.clone(), standing(it), it.listens());
        Self {
            call: call.id,
            epoch: call.epoch,
            seq: call.seq,
            over: call.state.is_terminal(),
            word: Word::News,
            latest: None,
            people: call.participants.iter().map(person).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct News<'a> {
    over: bool,
    sync: bool,
    members: Vec<Member>,
    /// The number of this word on them.
    places: u64,
    /// How often it had to be looked at anew, this time included.
    #[serde(default)]
    anew: u64,
    #[serde(borrow)]
    events: Vec<Telling<'a>>,
}

/// One event for users of the receiver.
#[derive(Serialize, Deserialize)]
struct Telling<'a> {
    to: Vec<UserId>,
    except: Option<DeviceId>,
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    /// It rings them for so long, milliseconds.
    rings: Option<u64>,
    /// With credentials of each receiver's own.
    ice: bool,
}

impl App {
    /// What others have to know of a call after a change; called under its lock.
    pub(in crate::app) fn told(&self, call: &Call, snapshot: &str) -> Option<Box<Told>> {
        let cluster = self.cluster()?;
        let snapshot = Bytes::copy_from_slice(snapshot.as_bytes());
        let latest = Some(cluster.keeping.expect(call, snapshot));
        Some(Box::new(Told { latest, ..Told::of(call) }))
    }

    fn members(&self, cluster: &Cluster, told: &Told) -> Vec<Member> {
        let member = |(user, standing, listens): &(UserId, Standing, bool)| {
            let mut nodes = cluster.nodes_of(user);
            if self.presence.has(user) {
                nodes.push(cluster.me().clone());
            }
            Member { user: user.clone(), standing: *standing, nodes, listens: *listens }
        };
        told.people.iter().map(member).collect()
    }

    /// Tells the other nodes of one durable change, in the order of changes.
    pub(in crate::app) fn spread(&self, told: &Told, deliveries: &[Delivery]) {
        let Some(cluster) = self.cluster() else { return };
        if let Some(latest) = &told.latest {
            cluster.keeping.note(told.call, latest.clone());
        }
        let number = (told.epoch, told.seq);
        let people = || self.members(cluster, told);
        let (extent, members) = if told.over {
            cluster.views.end(told.call, number);
            (Extent { epoch: told.epoch, seq: told.seq, places: 0, anew: 0 }, people())
        } else {
            cluster.views.tell((told.call, cluster.me()), number, told.word, people)
        };
        let mut letters: BTreeMap<NodeId, Vec<Telling<'_>>> = BTreeMap::new();
        for it in members.iter().filter(|it| it.standing != Standing::Other || it.listens) {
            for node in it.nodes.iter().filter(|node| *node != cluster.me()) {
                letters.entry(node.clone()).or_default();
            }
        }
        let sync = told.word == Word::Anew;
        // Who has nobody left of those who listen may yet have missed why.
        if told.over || told.word != Word::News {
            for (node, ..) in cluster.keeping.told(told.call) {
                letters.entry(node).or_default();
            }
        }
        for delivery in deliveries {
            for (node, to) in cluster.by_node(&delivery.to) {
                if let Some(telling) = telling(delivery, to) {
                    letters.entry(node).or_default().push(telling);
                }
            }
        }
        if told.over {
            cluster.over.note(told, letters.keys().cloned().collect());
        }
        for (node, events) in letters {
            let (over, members) = (told.over, members.clone());
            let Extent { places, anew, .. } = extent;
            let news = News { over, sync, members, places, anew, events };
            cluster.tell_news(told, (&node, extent), &news);
        }
    }

    /// Tells all who know of a call of ours where its people are by now, and with `sync` that they have to look
    /// at it anew.
    pub(super) fn retell(&self, cluster: &Cluster, call: CallId, sync: bool) {
        let told = self.calls.read(call, |it| (!it.state.is_terminal()).then(|| Told::of(it)));
        if let Some(told) = told.flatten() {
            let word = if sync { Word::Anew } else { Word::Again };
            self.spread(&Told { word, ..told }, &[]);
        }
        debug_assert!(self.cluster().is_some_and(|it| std::ptr::eq(it, cluster)));
    }

    /// Hears what happened in a call of another node.
    pub(super) fn hear_news(self: &Arc<Self>, cluster: &Cluster, letter: &Letter) {
        let Ok(news) = serde_json::from_slice::<News<'_>>(&letter.body) else {
            tracing::warn!(from = %letter.from, "news that can't be read");
            return;
        };
        if let Some(epoch) = self.calls.read(letter.call, |it| it.epoch) {
            cluster.keeping.check(letter.call, epoch, letter.epoch);
            return;
        }
        let of = (news.members.as_slice(), news.places, news.anew);
        let (reading, before) = cluster.views.take(letter, of, !news.events.is_empty());
        if reading == Reading::Old {
            return;
        }
        self.correct(cluster, &news.members);
        for user in news.events.iter().flat_map(|it| &it.to) {
            cluster.gatherings.note(user);
        }
        let deliveries = news.events.iter().map(|it| delivery(letter.call, it));
        self.dispatch_all(&deliveries.collect::<Vec<_>>());
        if news.over {
            cluster.views.end(letter.call, (letter.epoch, letter.seq));
        }
        if reading == Reading::Gap || news.sync {
            // One who is no longer among them, or hears no more of it, may not have heard that: where people are is told
            // as it is, and may be ahead of the events.
            let mut users: Vec<&UserId> =
                before.iter().chain(&news.members).map(|it| &it.user).collect();
            users.sort_unstable();
            users.dedup();
            self.resync(users.into_iter());
        }
    }

    /// An owner that takes somebody to be here who is not, or the reverse, hears how it is: the word of a node may
    /// have been lost or overtaken, and a Redis that went back knows what was. Who is here has heard nothing then.
    fn correct(&self, cluster: &Cluster, members: &[Member]) {
        for it in members {
            let here = self.presence.has(&it.user);
            if it.nodes.contains(cluster.me()) != here {
                cluster.untold.add(&it.user, here);
            }
        }
    }

    /// Letters may have been lost: all that is known of others' calls is looked at anew.
    pub(super) fn doubt_others(self: &Arc<Self>, cluster: &Cluster) {
        tracing::info!("what other nodes told may be incomplete: asking anew");
        let mut people: Vec<UserId> = Vec::new();
        for mut view in cluster.views.0.iter_mut() {
            if view.owner == *cluster.me() {
                // So may those that we have told others: they are reminded.
                view.changed = Instant::now();
            } else {
                view.doubtful = true;
                people.extend(view.members.iter().map(|it| it.user.clone()));
            }
        }
        people.sort_unstable();
        people.dedup();
        self.resync(people.iter());
        self.doubt_directory(cluster, true);
    }
}

impl Cluster {
    fn by_node(&self, users: &[UserId]) -> BTreeMap<NodeId, Vec<UserId>> {
        let mut by_node: BTreeMap<NodeId, Vec<UserId>> = BTreeMap::new();
        for user in users {
            for node in self.nodes_of(user) {
                by_node.entry(node).or_default().push(user.clone());
            }
        }
        by_node
    }

    fn tell_news(&self, told: &Told, (node, extent): (&NodeId, Extent), news: &News<'_>) {
        // Views are structs of strings and numbers, which always serialise.
        let body = Bytes::from(serde_json::to_vec(news).unwrap_or_default());
        let word = if told.over { Word::News } else { told.word };
        let (seq, prev) = self.keeping.tell(told.call, node, extent, word);
        let letter = self.letter(About::News, 0, told.call, body);
        let letter = Letter { epoch: told.epoch, seq, prev, ..letter };
        if let Err(error) = self.bus.post(node, letter) {
            // It will see the gap.
            tracing::debug!(%error, %node, "news of a call was not sent");
        }
    }
}

fn telling(delivery: &Delivery, to: Vec<UserId>) -> Option<Telling<'_>> {
    let rings = match delivery.manner {
        Manner::Rings(_, patience) => Some(u64::try_from(patience.as_millis()).unwrap_or(0)),
        Manner::Plain | Manner::IceServers => None,
    };
    Some(Telling {
        to,
        except: delivery.except.clone(),
        name: Cow::Borrowed(&delivery.name),
        data: serde_json::from_str(&delivery.data).ok()?,
        rings,
        ice: matches!(delivery.manner, Manner::IceServers),
    })
}

fn delivery(call: CallId, it: &Telling<'_>) -> Delivery {
    let manner = match it.rings {
        Some(millis) => Manner::Rings(call, Duration::from_millis(millis)),
        None if it.ice => Manner::IceServers,
        None => Manner::Plain,
    };
    Delivery {
        to: it.to.clone(),
        except: it.except.clone(),
        manner,
        name: Cow::Owned(it.name.clone().into_owned()),
        data: it.data.get().into(),
    }
}
