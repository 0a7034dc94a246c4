//! Many nodes as one service.
//!
//! Each live call has one owner, the node that alone changes it; the others ask it ([`forwarding`]) what their
//! clients want done ([`errand`]). What the owner changes it puts where all can find it ([`keeping`], [`bringing`]) and
//! tells the nodes that have sockets of those concerned ([`news`], [`reminding`]), which so know the call too
//! ([`views`]). How users stand to it is written where each user is known ([`stands`]). Who is where is known by user
//! ([`people`], [`gatherings`], [`present`], [`untold`]), and who may join what is decided there too, one user at a time ([`claims`], [`deciding`], [`starting`]).
//! Nodes watch each other ([`peers`]), and take over what one leaves behind ([`taking`], [`adopting`], [`returning`], [`strays`]); what Redis has
//! forgotten that it is over is told anew ([`ghosts`]). Signaling goes from
//! node to node without the owner ([`signaling`]).
//!
//! A service of one node has none of this.

mod adopting;
mod bringing;
mod changes;
mod claims;
mod contested;
mod deciding;
pub mod errand;
mod expecting;
mod forwarding;
mod gatherings;
mod ghosts;
mod keeping;
mod mailbox;
mod news;
mod peers;
mod people;
mod present;
mod reminding;
mod returning;
mod signaling;
mod stands;
pub(in crate::app) mod starting;
mod strays;
mod taking;
#[cfg(test)]
mod tests;
mod untold;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::app::App;
use crate::app::cluster::adopting::Adoptions;
pub(super) use crate::app::cluster::claims::Withdrawing;
use crate::app::cluster::contested::Contested;
use crate::app::cluster::deciding::Deciding;
use crate::app::cluster::forwarding::Commands;
use crate::app::cluster::gatherings::Gatherings;
use crate::app::cluster::keeping::Keeping;
pub(super) use crate::app::cluster::news::Told;
use crate::app::cluster::peers::Peers;
use crate::app::cluster::reminding::Over;
pub use crate::app::cluster::signaling::{Signal, Targets};
use crate::app::cluster::untold::Untold;
use crate::app::cluster::views::Views;
use crate::app::error::AppError;
use crate::bus::directory::{Bus, Mailbox};
use crate::bus::error::{BusError, Kind};
use crate::bus::node::NodeId;
use crate::call::id::UserId;

/// The nodes of one user: nearly always one.
pub(super) type Nodes = SmallVec<[NodeId; 1]>;

/// What a node knows of the others.
pub struct Cluster {
    /// The way to them.
    pub(super) bus: Bus,
    peers: Peers,
    keeping: Keeping,
    views: Views,
    commands: Commands,
    over: Over,
    untold: Untold,
    adoptions: Adoptions,
    gatherings: Gatherings,
    pub(super) deciding: Deciding,
    /// The other nodes that have sockets of those who belong to our calls.
    whereabouts: DashMap<UserId, Nodes>,
    /// Those who are about to belong to a call of ours, and how many times: where they are is not forgotten.
    expected: DashMap<UserId, u32>,
    /// Those who may have sockets at a node that is not known yet.
    unsure: Mutex<BTreeSet<UserId>>,
    contested: Mutex<BTreeSet<Contested>>,
}

impl Cluster {
    /// Nobody is known yet.
    pub fn new(bus: Bus) -> Self {
        Self {
            bus,
            peers: Peers::default(),
            keeping: Keeping::default(),
            views: Views::default(),
            commands: Commands::default(),
            over: Over::default(),
            untold: Untold::default(),
            adoptions: Adoptions::default(),
            gatherings: Gatherings::default(),
            deciding: Deciding::default(),
            whereabouts: DashMap::new(),
            expected: DashMap::new(),
            unsure: Mutex::new(BTreeSet::new()),
            contested: Mutex::new(BTreeSet::new()),
        }
    }

    /// This node, in this run.
    pub(super) fn me(&self) -> &NodeId {
        self.bus.me()
    }

    /// What takes the others must not be done by one who may have been taken for dead.
    pub(super) fn fence(&self) -> Result<(), AppError> {
        if self.peers.is_fenced() {
            return Err(BusError::new("deciding apart from the others", Kind::Away).into());
        }
        Ok(())
    }

    /// Whether another node has sockets of `user`, who belongs to a call of ours.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.whereabouts.contains_key(user)
    }

    /// The nodes of `user`, as far as they are others.
    pub(super) fn nodes_of(&self, user: &UserId) -> Nodes {
        self.whereabouts.get(user).map(|it| it.value().clone()).unwrap_or_default()
    }
}

impl App {
    /// The other nodes, where there may be any.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The name of this node, where it is one of many.
    pub fn node_name(&self) -> Option<&str> {
        self.cluster().map(|it| it.me().name())
    }

    /// Whether this node may take people in: its calls of an earlier run are back, where others may have taken them over.
    pub fn is_settled(&self) -> bool {
        self.cluster().is_none_or(|it| it.peers.is_settled())
    }

    /// Whether the way to the others works; `None` where there are none.
    pub fn bus_is_well(&self) -> Option<bool> {
        self.cluster().map(|it| it.bus.is_well() && !it.peers.is_fenced())
    }
}

/// Lives with the others for as long as the service runs; never returns. Ends at once on a node alone.
pub async fn attend(app: Arc<App>, mailbox: Option<Mailbox>) {
    let Some(mailbox) = mailbox else { return };
    tokio::join!(
        mailbox::read(&app, mailbox),
        peers::watch(&app),
        bringing::bring(&app),
        reminding::remind(&app),
        untold::attend(&app)
    );
}
