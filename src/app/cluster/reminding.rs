//! The last of all letters of a call may be lost too: so the numbers of calls' last events are repeated for a
//! while, and whoever has missed something looks at the call anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::app::cluster::news::Told;
use crate::app::cluster::views::{Extent, Last};
use crate::app::cluster::{Cluster, Nodes};
use crate::bus::letter::{Kind as About, Letter};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;

/// How often nodes are reminded of the last numbers of calls, and of which: of those told of lately.
const REMIND: Duration = Duration::from_secs(2);
const LATELY: Duration = Duration::from_secs(10);
/// How often nodes are reminded of a call that is over.
const OVER_TIMES: u32 = 5;
/// Calls in one reminder: some 110 bytes each.
const REMINDED_MAX: usize = 1000;

/// How far calls have been told to the receiver.
#[derive(Serialize, Deserialize)]
struct Digest(Vec<Numbered>);

type Numbered = (CallId, Reach);

/// How far a call was told, and whether it is over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reach {
    #[serde(flatten)]
    told: Extent,
    #[serde(default)]
    over: bool,
}

/// Calls of ours that are over, and whoever has to know that.
#[derive(Default)]
pub(super) struct Over(Mutex<Vec<Reminder>>);

struct Reminder {
    call: Numbered,
    /// Who was told.
    nodes: Nodes,
    /// Its people: that one of them is at yet another node may be heard of after the end.
    people: Vec<UserId>,
    times: u32,
}

impl Over {
    pub(super) fn note(&self, told: &Told, nodes: Nodes) {
        let extent = Extent { epoch: told.epoch, seq: told.seq, places: 0, anew: 0 };
        let call = (told.call, Reach { told: extent, over: true });
        let people = told.people.iter().map(|(user, ..)| user.clone()).collect();
        self.0.lock().push(Reminder { call, nodes, people, times: OVER_TIMES });
    }

    /// Whom to remind of what; as long as the way is not well, that does not count.
    fn remind(&self, cluster: &Cluster) -> Vec<(NodeId, Numbered)> {
        let well = cluster.bus.is_well();
        let mut all = self.0.lock();
        let mut reminders = Vec::new();
        for it in all.iter() {
            let mut nodes: Vec<NodeId> = it.nodes.to_vec();
            nodes.extend(it.people.iter().flat_map(|user| cluster.nodes_of(user)));
            nodes.sort_unstable();
            nodes.dedup();
            let others = nodes.into_iter().filter(|node| node != cluster.me());
            reminders.extend(others.map(|node| (node, it.call)));
        }
        for it in all.iter_mut() {
            it.times -= u32::from(well);
        }
        all.retain(|it| it.times > 0);
        reminders
    }
}

impl App {
    /// Compares what a node has told with what has come.
    pub(super) fn hear_digest(self: &Arc<Self>, cluster: &Cluster, letter: &Letter) {
        let Ok(Digest(calls)) = serde_json::from_slice::<Digest>(&letter.body) else { return };
        for (call, Reach { told, over }) in calls {
            if let Some(epoch) = self.calls.read(call, |it| it.epoch) {
                cluster.keeping.check(call, epoch, told.epoch);
            } else if cluster.views.is_behind(call, told) {
                self.look_anew(cluster, (call, (told.epoch, told.seq)), over);
            }
        }
    }

    /// Something of a call was missed: those of its people who are here look at their calls anew. Where Redis does not know
    /// of it, it is over if its owner is gone or says so; else Redis has lost it, and will hear of it from its owner.
    fn look_anew(self: &Arc<Self>, cluster: &Cluster, (call, told): Last, over: bool) {
        let mut people = cluster.views.people(call);
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            let Some(cluster) = app.cluster() else { return };
            let Ok(found) = cluster.bus.call(call).await else {
                for user in people.iter().filter(|it| app.presence.has(it)) {
                    cluster.untold.add(user, true);
                }
                return;
            };
            // Where its owner says so, Redis may have gone back to before that.
            if found.as_ref().map_or(over, |it| it.over || (over && it.epoch <= told.0)) {
                cluster.views.end(call, told);
            }
            let found = found.and_then(|it| serde_json::from_slice::<Call>(&it.snapshot).ok());
            people.extend(found.into_iter().flat_map(|it| it.participants).map(|it| it.user));
            people.sort_unstable();
            people.dedup();
            // What was missed of one that goes on may be that its owner takes them to be here.
            for user in people.iter().filter(|it| !over && !app.presence.has(it)) {
                cluster.untold.add(user, false);
            }
            app.resync(people.iter());
        }));
    }

    /// A node is gone: what it could not tell any more of its calls, as that they are over, is looked up.
    pub(super) fn look_after(self: &Arc<Self>, cluster: &Cluster, node: &NodeId) {
        for (call, told) in cluster.views.of_node(node) {
            self.look_anew(cluster, (call, told), true);
        }
    }
}

/// Repeats the last numbers of calls to those who were told of them; never returns.
#[expect(clippy::infinite_loop, reason = "ends with its task")]
pub(super) async fn remind(app: &Arc<App>) {
    let Some(cluster) = app.cluster() else { return };
    let mut ticks = interval(REMIND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut digests: BTreeMap<NodeId, Vec<Numbered>> = BTreeMap::new();
        for view in &cluster.views.0 {
            if view.owner == *cluster.me() && view.changed.elapsed() < LATELY {
                for (node, seq, places) in cluster.keeping.told(*view.key()) {
                    let told = Extent { epoch: view.epoch, seq, places, anew: view.anew };
                    let reach = Reach { told, over: false };
                    digests.entry(node).or_default().push((*view.key(), reach));
                }
            }
        }
        for (node, numbered) in cluster.over.remind(cluster) {
            digests.entry(node).or_default().push(numbered);
        }
        for (node, mut calls) in digests {
            calls.sort_unstable_by_key(|(call, _)| *call);
            for some in calls.chunks(REMINDED_MAX) {
                let body = serde_json::to_vec(&Digest(some.to_vec())).unwrap_or_default();
                let nil = CallId(uuid::Uuid::nil());
                cluster.tell(&node, cluster.letter(About::Digest, 0, nil, Bytes::from(body)));
            }
        }
    }
}
