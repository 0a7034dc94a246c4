//! What the service does: commands to calls, and what follows from them.
//!
//! A command goes through [`App::change`](effects): the call decides under its lock, the change takes
//! its place in the journal before the lock is gone, the events leave once it is durable. So events of
//! one call leave in the order in which they happened, and nothing is told that could be lost.

mod asking;
pub mod calls;
mod chores;
pub mod cluster;
pub mod effects;
pub mod error;
pub mod hearing;
mod joining;
mod looks;
pub mod presence;
mod queries;
mod recent;
mod recordings;
mod relay;
pub mod rooms;
pub mod starting;
pub mod tending;
pub mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::app::cluster::Cluster;
use crate::app::effects::After;
use crate::app::hearing::Heard;
use crate::app::looks::Rooms;
use crate::app::presence::Presence;
use crate::app::recent::RecentStarts;
use crate::app::recordings::Beginning;
use crate::bus::directory::Bus;
use crate::call::id::UserId;
use crate::call::model::{Call, Limits};
use crate::clock::Clock;
use crate::config::rates::Rule;
use crate::limits::{Key, Limits as Rates, RateLimited};
use crate::media::ice::Ice;
use crate::media::livekit::LiveKit;
use crate::registry::admission::Admission;
use crate::registry::calls::Calls;
use crate::socketio::hub::Hub;
use crate::store::error::StoreError;
use crate::store::journal::Journal;
use crate::store::options::JournalOptions;
use crate::store::postgres::connect::Postgres;
use crate::store::retention::RetentionOptions;
use crate::store::whole::Store;

/// Batches of durable changes whose events wait to leave. Past it the journal waits: commits slow down
/// before memory grows.
const DELIVERY_BATCHES_MAX: usize = 1024;

/// What the app goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time limits and the cap of new calls.
    pub limits: Limits,
    /// Sockets of one user, at most (contract, section 6).
    pub sockets_per_user_max: usize,
    /// Calls that ring one user at once, at most.
    pub rings_per_user_max: usize,
    /// Live calls on this node, at most.
    pub live_calls_max: usize,
    /// How often clients are asked to send a quality sample.
    pub quality_check_interval: Duration,
    /// How long rows are kept.
    pub retention: RetentionOptions,
}

/// The parts the app stands on, made by `server`.
pub struct Parts {
    /// Time.
    pub clock: Clock,
    /// The sockets of this node.
    pub hub: Arc<Hub>,
    /// The local file, and Postgres behind it where there is one.
    pub store: Store,
    /// How the journal writes.
    pub journal: JournalOptions,
    /// What helps peers to reach each other.
    pub ice: Ice,
    /// The media server; without one, calls are peer to peer.
    pub livekit: Option<LiveKit>,
    /// The way to other nodes; without one, this is the only one.
    pub bus: Option<Bus>,
    /// Rates per user and address.
    pub rates: Rates,
    /// What the app goes by.
    pub settings: Settings,
}

/// The service.
pub struct App {
    /// Time.
    pub clock: Clock,
    /// Rates per user and address.
    pub rates: Rates,
    /// The sockets of this node.
    pub hub: Arc<Hub>,
    calls: Calls,
    admission: Admission,
    presence: Presence,
    recent_starts: RecentStarts,
    journal: Journal<After>,
    store: Store,
    ice: Ice,
    livekit: Option<Arc<LiveKit>>,
    rooms: Rooms,
    heard: Heard,
    beginning: Beginning,
    cluster: Option<Cluster>,
    settings: Settings,
    draining: AtomicBool,
}

/// The app, and what leaves it.
pub type Opened = (Arc<App>, Deliveries);

/// Durable changes whose events wait to leave; for [`effects::deliver`].
pub struct Deliveries(mpsc::Receiver<Vec<After>>);

impl App {
    /// Opens the journal and brings the live calls back, with the time that remains on their timers; one of
    /// many nodes does so once it knows that no other has them ([`cluster`]).
    pub fn open(parts: Parts) -> Result<Opened, StoreError> {
        let (sender, receiver) = mpsc::channel(DELIVERY_BATCHES_MAX);
        let snapshots = parts.store.local().live_snapshots()?;
        let alone = parts.bus.is_none();
        let journal = Journal::open(parts.store.local(), parts.journal, move |batch| {
            if sender.blocking_send(batch).is_err() {
                tracing::debug!("events of the last changes have nobody left to go to");
            }
        })?;
        let app = Self {
            clock: parts.clock,
            rates: parts.rates,
            hub: parts.hub,
            calls: Calls::default(),
            admission: Admission::default(),
            presence: Presence::default(),
            recent_starts: RecentStarts::default(),
            journal,
            store: parts.store,
            ice: parts.ice,
            livekit: parts.livekit.map(Arc::new),
            rooms: Rooms::default(),
            heard: Heard::default(),
            beginning: Beginning::default(),
            cluster: parts.bus.map(Cluster::new),
            settings: parts.settings,
            draining: AtomicBool::new(false),
        };
        if alone {
            app.restore(&snapshots);
        }
        Ok((Arc::new(app), Deliveries(receiver)))
    }

    fn restore(&self, snapshots: &[String]) {
        let now = self.clock.now();
        for snapshot in snapshots {
            match serde_json::from_str::<Call>(snapshot) {
                Ok(mut call) => {
                    call.restore(now);
                    self.stop_unknown_later(call.id);
                    self.calls.insert(call, |_| ());
                }
                Err(error) => tracing::error!(%error, "a live call can't be read back"),
            }
        }
        tracing::info!(calls = self.calls.len(), "live calls are back");
    }

    /// No new calls from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the service is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Writes all that waits, and closes the journal. Blocks.
    pub fn close(&self) {
        self.journal.close();
    }

    /// How many calls are live on this node.
    pub fn live_calls(&self) -> usize {
        self.calls.len()
    }

    /// The most that may be in a call at once.
    pub fn participants_max(&self) -> u16 {
        self.settings.limits.participants
    }

    /// Records that are not durable yet and, with Postgres, rows that are not there yet.
    pub fn unwritten(&self) -> usize {
        self.journal.pending() + self.store.postgres().map_or(0, Postgres::unwritten)
    }

    /// Whether Postgres was there when last asked; `None` where there is none.
    pub fn postgres_is_well(&self) -> Option<bool> {
        self.store.postgres().map(Postgres::is_well)
    }

    /// Completes when the disk has failed and nothing more can be made durable.
    pub async fn journal_failed(&self) {
        self.journal.failed().await;
    }

    /// Whether the journal takes and keeps changes.
    pub fn journal_is_well(&self) -> bool {
        !self.journal.is_full() && !self.journal.has_failed()
    }

    /// Takes one from `user`'s bucket for `rule`.
    fn pace(&self, rule: Rule, user: &UserId) -> Result<(), RateLimited> {
        self.rates.check(rule, Key::User(user.clone()))
    }

    /// Whether `user` has a socket, here or, as far as calls of this node go, at another node.
    fn is_online(&self, user: &UserId) -> bool {
        let elsewhere = |it: &Cluster| it.has(user);
        self.presence.has(user) || self.cluster.as_ref().is_some_and(elsewhere)
    }
}

#[cfg(test)]
mod crowd;
#[cfg(test)]
pub(crate) mod fixture;
