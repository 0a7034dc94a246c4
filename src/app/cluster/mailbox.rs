//! What comes from the other nodes, one letter after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::bus::directory::{Incoming, Mailbox};
use crate::bus::letter::{Kind, Letter};

/// Reads the mailbox for as long as the service runs.
pub(super) async fn read(app: &Arc<App>, mut mailbox: Mailbox) {
    let Some(cluster) = app.cluster() else { return };
    while let Some(incoming) = mailbox.recv().await {
        // A fault in one must not keep all later ones back; the panic hook counts it.
        let taken = catch_unwind(AssertUnwindSafe(|| take(app, cluster, incoming)));
        if taken.is_err() {
            tracing::error!("a letter of another node was lost to a panic");
        }
    }
}

fn take(app: &Arc<App>, cluster: &Cluster, incoming: Incoming) {
    match incoming {
        Incoming::Letter(letter) => open(app, cluster, letter),
        Incoming::Undelivered(node) => cluster.commands.give_up(&node),
        Incoming::Gap => app.doubt_others(cluster),
    }
}

fn open(app: &Arc<App>, cluster: &Cluster, letter: Letter) {
    match letter.kind {
        Kind::Ask => app.hear_question(&letter),
        Kind::Answer => cluster.commands.answer(letter.id, letter.body),
        Kind::News => app.hear_news(cluster, &letter),
        Kind::Signal => app.hear_signal(cluster, &letter),
        Kind::Digest => app.hear_digest(cluster, &letter),
        // The bus' own.
        Kind::Echo => {}
    }
}
