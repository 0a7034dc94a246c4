//! Rooms: names under which sockets of this node can be reached together.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use smallvec::SmallVec;

use crate::socketio::outlet::{Outlet, SocketId};
use crate::socketio::packet::Packet;

/// The members of a room; most have a handful.
pub type Members = SmallVec<[Outlet; 4]>;

/// Which sockets of this node are in which room. Whoever puts a socket in takes it out again,
/// at the latest when it has disconnected.
#[derive(Debug, Default)]
pub struct Hub {
    rooms: DashMap<Box<str>, Members>,
    memberships: AtomicUsize,
}

impl Hub {
    /// No rooms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a socket into a room; in it already, it stays.
    pub fn join(&self, room: &str, outlet: &Outlet) {
        let mut members = self.rooms.entry(room.into()).or_default();
        if members.iter().all(|it| it.id() != outlet.id()) {
            members.push(outlet.clone());
            self.memberships.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a socket out of a room; the last one closes it.
    pub fn leave(&self, room: &str, id: SocketId) {
        let Some(mut members) = self.rooms.get_mut(room) else { return };
        if let Some(index) = members.iter().position(|it| it.id() == id) {
            // In order: who came first is reached first.
            drop(members.remove(index));
            self.memberships.fetch_sub(1, Ordering::Relaxed);
        }
        let empty = members.is_empty();
        drop(members);
        if empty {
            self.rooms.remove_if(room, |_, members| members.is_empty());
        }
    }

    /// Sends to everyone in the room.
    pub fn send(&self, room: &str, packet: &Packet) {
        for outlet in self.outlets(room) {
            outlet.send(packet);
        }
    }

    /// Sends to everyone in the room but one.
    pub fn send_except(&self, room: &str, except: SocketId, packet: &Packet) {
        for outlet in self.outlets(room).iter().filter(|it| it.id() != except) {
            outlet.send(packet);
        }
    }

    /// The sockets in a room, in the order in which they came. A copy: nothing is locked while
    /// they are used.
    pub fn outlets(&self, room: &str) -> Members {
        self.rooms.get(room).map(|it| it.clone()).unwrap_or_default()
    }

    /// How many sockets are in a room.
    pub fn count(&self, room: &str) -> usize {
        self.rooms.get(room).map_or(0, |it| it.len())
    }

    /// Calls `visit` with each room and how many are in it. `visit` must not call the hub.
    pub fn for_each_room(&self, mut visit: impl FnMut(&str, usize)) {
        for room in &self.rooms {
            visit(room.key(), room.value().len());
        }
    }

    /// Memberships over all rooms: the number of sockets, where each is in one room.
    pub fn sockets(&self) -> usize {
        self.memberships.load(Ordering::Relaxed)
    }
}
