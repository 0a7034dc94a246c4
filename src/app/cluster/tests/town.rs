//! Several nodes in one process: how they come and go, and how their time passes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, advance};

use crate::app::App;
use crate::app::cluster::{Cluster, attend};
use crate::app::effects::deliver;
use crate::app::fixture;
use crate::app::tending::tend;
use crate::bus::memory::Net;
use crate::bus::node::NodeId;
use crate::call::time::Timestamp;
use crate::clock::Clock;
use crate::store::options::Sync;
use crate::store::sqlite::Sqlite;

/// How far time goes at once.
pub(super) const STEP: Duration = Duration::from_millis(50);
/// Looks at a town where nothing happens until nothing will before time passes.
const QUIET: usize = 3;

pub(super) const RINGING: Duration = Duration::from_secs(10);
pub(super) const GRACE: Duration = Duration::from_secs(8);
pub(super) const ALONE: Duration = Duration::from_secs(10);
/// One less than there are users, so that it is reached.
pub(super) const PARTICIPANTS_MAX: u16 = 4;

/// One node, in one run.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) id: NodeId,
    pub(super) app: Arc<App>,
    folder: TempDir,
    tasks: Vec<JoinHandle<()>>,
}

/// Nodes, and the Redis that they have in common.
pub(super) struct Town {
    pub(super) net: Net,
    clock: Clock,
    pub(super) nodes: Vec<Node>,
    /// What those who are dead were.
    dead: Vec<Node>,
    model: TempDir,
}

/// A folder of its own; in memory, where there is such a place.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// The files as they are, without the lock.
fn copy(from: &Path) -> TempDir {
    let to = folder();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.path().extension().is_none_or(|it| it != "lock") {
            std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
    }
    to
}

impl Node {
    pub(super) fn cluster(&self) -> &Cluster {
        self.app.cluster().unwrap()
    }

    /// What is to be written is written now: whether there was anything.
    fn write(&self) -> bool {
        self.app.journal.turn()
    }
}

impl Town {
    /// Nodes of these names that know each other.
    pub(super) async fn open(seed: u64, names: &[&'static str]) -> Self {
        let model = folder();
        drop(Sqlite::open(model.path()).unwrap());
        // Clocks of nodes are nearly the same, and Redis'.
        let clock = Clock::anchored(Timestamp(1_700_000_000_000));
        let net = Net::new(seed);
        let mut town = Self { net, clock, nodes: Vec::new(), dead: Vec::new(), model };
        for name in names {
            town.start(name, None);
        }
        town.pass(Duration::from_secs(2)).await;
        town
    }

    /// A node begins, on the folder of an earlier run or on one of its own.
    pub(super) fn start(&mut self, name: &'static str, on: Option<TempDir>) {
        let folder = on.unwrap_or_else(|| copy(self.model.path()));
        let mut parts = fixture::parts(folder.path());
        parts.clock = self.clock;
        parts.journal.sync = Sync::Off;
        let limits = &mut parts.settings.limits;
        limits.participants = PARTICIPANTS_MAX;
        (limits.ringing, limits.reconnecting, limits.alone) = (RINGING, GRACE, ALONE);
        let (bus, mailbox) = self.net.node(name);
        let id = bus.me().clone();
        parts.bus = Some(bus);
        let (app, deliveries) = App::open(parts).unwrap();
        app.journal.take_turns();
        app.store.local().read_at_once();
        let tasks = vec![
            tokio::spawn(deliver(Arc::clone(&app), deliveries)),
            tokio::spawn(attend(Arc::clone(&app), Some(mailbox))),
            tokio::spawn(tend(Arc::clone(&app))),
        ];
        self.nodes.push(Node { name, id, app, folder, tasks });
    }

    /// A node dies at once: what its journal has is what the next run on the folder given back finds.
    pub(super) fn kill(&mut self, index: usize) -> TempDir {
        let node = self.nodes.remove(index);
        self.net.kill(&node.id);
        for task in &node.tasks {
            task.abort();
        }
        // No task runs meanwhile: what is durable now may have been told to nobody.
        let _written = node.write();
        let left = copy(node.folder.path());
        // Tasks of the dead that have not ended change nothing any more.
        node.app.close();
        self.dead.push(node);
        left
    }

    /// Lets all that can happen now happen. Never waits: a runtime that does lets time jump, also while a
    /// journal is at work.
    pub(super) async fn settle(&self) {
        let (mut quiet, mut done) = (0, self.net.done());
        while quiet < QUIET {
            yield_now().await;
            let written = self.nodes.iter().filter(|it| it.write()).count();
            let now = self.net.done();
            if now == done && written == 0 {
                quiet += 1;
            } else {
                (quiet, done) = (0, now);
            }
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) {
        self.pass_in(time, STEP).await;
    }

    pub(super) async fn pass_in(&self, time: Duration, step: Duration) {
        let until = Instant::now() + time;
        self.settle().await;
        while Instant::now() < until {
            advance(step).await;
            self.settle().await;
        }
    }

    /// Carries `work` out while time passes, as far as it takes time.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let working = tokio::spawn(work);
        self.settle().await;
        while !working.is_finished() {
            advance(STEP).await;
            self.settle().await;
        }
        working.await.unwrap()
    }

    pub(super) fn at(&self, index: usize) -> &Arc<App> {
        &self.nodes[index].app
    }
}
