//! Who is here: sockets per user, and how long each may stay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use crate::app::App;
use crate::app::effects::device_room;
use crate::auth::Identity;
use crate::call::command::Command;
use crate::call::id::{DeviceId, UserId};
use crate::call::time::Timestamp;
use crate::socketio::outlet::{Outlet, SocketId};
use crate::socketio::packet::Packet;

struct Here {
    name: Option<Arc<str>>,
    sockets: usize,
}

/// Sockets by the wall time at which they have to go.
type Expiries = BTreeMap<(Timestamp, SocketId), Outlet>;

/// The users with sockets on this node.
#[derive(Default)]
pub(super) struct Presence {
    users: DashMap<UserId, Here>,
    sockets: AtomicUsize,
    expiries: Mutex<Expiries>,
}

/// A user who is connected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Who.
    pub user_id: UserId,
    /// The name in the token of the user's last socket.
    pub username: Option<Arc<str>>,
    /// How many sockets.
    pub sockets: usize,
}

/// The moment at which a socket has to go.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    at: Timestamp,
    socket: SocketId,
}

/// The user has as many sockets as a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many sockets")]
pub struct TooManySockets;

impl Presence {
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// Counts a socket in; says whether it is the user's first.
    fn enter(&self, who: &Identity, max: usize) -> Result<bool, TooManySockets> {
        let new = Here { name: None, sockets: 0 };
        let mut here = self.users.entry(who.user.clone()).or_insert(new);
        if here.sockets >= max {
            return Err(TooManySockets);
        }
        here.sockets += 1;
        self.sockets.fetch_add(1, Ordering::Relaxed);
        here.name.clone_from(&who.name);
        Ok(here.sockets == 1)
    }

    /// Counts a socket out; says whether it was the user's last.
    fn leave(&self, user: &UserId) -> bool {
        let Entry::Occupied(mut here) = self.users.entry(user.clone()) else { return false };
        here.get_mut().sockets -= 1;
        self.sockets.fetch_sub(1, Ordering::Relaxed);
        let last = here.get().sockets == 0;
        if last {
            here.remove();
        }
        last
    }
}

impl App {
    /// Counts a socket of `who` in, before it hears that it is connected.
    pub fn admit(&self, who: &Identity) -> Result<(), TooManySockets> {
        let first = self.presence.enter(who, self.settings.sockets_per_user_max)?;
        if first {
            self.tell_calls(&who.user, |user| Command::SocketBack { user });
        }
        Ok(())
    }

    /// Lets a socket hear its user's events from now on, and tells it what is going on.
    pub fn welcome(&self, user: &UserId, device: Option<&DeviceId>, outlet: &Outlet) {
        self.hub.join(user.as_str(), outlet);
        if let Some(device) = device {
            self.hub.join(&device_room(user, device), outlet);
        }
        if let Ok(sync) = self.sync(user) {
            outlet.send(&Packet::event("call:sync", &[sync.get()]));
        }
    }

    /// A socket of `user` that was counted in is gone.
    pub fn farewell(&self, user: &UserId, device: Option<&DeviceId>, socket: SocketId) {
        self.hub.leave(user.as_str(), socket);
        if let Some(device) = device {
            self.hub.leave(&device_room(user, device), socket);
        }
        if self.presence.leave(user) {
            self.tell_calls(user, |user| Command::SocketsGone { user });
        }
    }

    fn tell_calls(&self, user: &UserId, command: impl Fn(UserId) -> Command) {
        for id in self.calls.of(user) {
            if self.calls.read(id, |call| call.is_joined(user)).unwrap_or(false) {
                self.nudge(id, command(user.clone()));
            }
        }
    }

    /// Has a socket closed at `at`, wall time, unless that is called off before.
    pub fn expire(&self, outlet: &Outlet, at: Timestamp) -> Expiry {
        let expiry = Expiry { at, socket: outlet.id() };
        self.presence.expiries.lock().insert((at, outlet.id()), outlet.clone());
        expiry
    }

    /// Calls it off: the socket is gone, or has a newer token.
    pub fn call_off(&self, expiry: Expiry) {
        self.presence.expiries.lock().remove(&(expiry.at, expiry.socket));
    }

    /// Closes the sockets whose tokens ran out at `wall` time.
    pub(super) fn close_expired(&self, wall: Timestamp) {
        let expired = {
            let mut expiries = self.presence.expiries.lock();
            let due = expiries.keys().take_while(|(at, _)| *at <= wall).count();
            std::iter::from_fn(|| expiries.pop_first()).take(due).collect::<Vec<_>>()
        };
        for (_, outlet) in expired {
            outlet.disconnect(true);
        }
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.presence.sockets.load(Ordering::Relaxed)
    }

    /// Everyone who is connected, in the order of their ids.
    pub fn present(&self) -> Vec<Present> {
        let view = |it: dashmap::mapref::multiple::RefMulti<'_, UserId, Here>| Present {
            user_id: it.key().clone(),
            username: it.name.clone(),
            sockets: it.sockets,
        };
        let mut present: Vec<Present> = self.presence.users.iter().map(view).collect();
        present.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        present
    }
}
