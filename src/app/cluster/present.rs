//! Who is connected, to whatever node: for the console, which shows whom one may call.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures_util::future::join_all;

use crate::app::App;
use crate::app::cluster::errand::Errand;
use crate::app::cluster::forwarding::Command;
use crate::app::presence::Present;
use crate::call::id::UserId;

impl App {
    /// Everyone who is connected, to whatever node, in the order of their ids. Nodes that do not answer are passed over.
    pub async fn present_anywhere(&self) -> Vec<Present> {
        let mut all: BTreeMap<UserId, Present> = BTreeMap::new();
        for it in self.present().into_iter().chain(self.present_elsewhere().await) {
            match all.entry(it.user_id.clone()) {
                Entry::Vacant(place) => drop(place.insert(it)),
                Entry::Occupied(mut known) => known.get_mut().sockets += it.sockets,
            }
        }
        all.into_values().collect()
    }

    async fn present_elsewhere(&self) -> Vec<Present> {
        let Some(cluster) = self.cluster() else { return Vec::new() };
        let Ok(nobody) = UserId::parse("nobody") else { return Vec::new() };
        let (others, nobody) = (cluster.peers.living(), &nobody);
        let asked = others.iter().map(|node| {
            let asked = (nobody, &Errand::Present);
            Box::pin(self.ask_node(cluster, node, Command::about_none(), asked))
        });
        let told = join_all(asked).await.into_iter().filter_map(|it| it.ok().flatten());
        told.filter_map(|it| serde_json::from_str::<Vec<Present>>(it.get()).ok())
            .flatten()
            .collect()
    }
}
