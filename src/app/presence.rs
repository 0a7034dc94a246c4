//! Who is here: sockets per user, and how long each may stay.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::call::model::Call;
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
    /// Users who came or went while the journal had no place for it: their calls are told later.
    unheeded: Mutex<BTreeSet<UserId>>,
}

/// A user who is connected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

    /// How many sockets of `user` are here.
    pub(super) fn count(&self, user: &UserId) -> usize {
        self.users.get(user).map_or(0, |it| it.sockets)
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
            self.heed(&who.user);
        }
        Ok(())
    }

    /// Lets a socket hear its user's events from now on, and tells it what is going on.
    pub fn welcome(self: &Arc<Self>, user: &UserId, device: Option<&DeviceId>, outlet: &Outlet) {
        self.hub.join(user.as_str(), outlet);
        if let Some(device) = device {
            self.hub.join(&device_room(user, device), outlet);
        }
        if self.cluster().is_some() {
            self.arrive(user, outlet);
        } else if let Ok(sync) = self.sync(user) {
            outlet.send(&Packet::event("call:sync", &[sync.get()]));
        }
    }

    /// A socket of `user` that was counted in is gone.
    pub fn farewell(self: &Arc<Self>, user: &UserId, device: Option<&DeviceId>, socket: SocketId) {
        self.hub.leave(user.as_str(), socket);
        if let Some(device) = device {
            self.hub.leave(&device_room(user, device), socket);
        }
        if self.presence.leave(user) {
            self.heed(user);
            if self.cluster().is_some() {
                self.depart(user);
            }
        }
    }

    /// Tells the calls that `user` has joined whether the user can be reached. One who comes and one
    /// who goes may overtake each other on the way here, so what a call is told is read under its lock:
    /// whoever looks last has seen both.
    pub(super) fn heed(&self, user: &UserId) {
        let standing = |call: &Call| {
            let (joined, user) = (call.is_joined(user), user.clone());
            let here = self.is_online(&user);
            let news =
                if here { Command::SocketBack { user } } else { Command::SocketsGone { user } };
            joined.then_some(news)
        };
        let told = self.calls.of(user).into_iter().map(|id| self.nudge_if(id, standing));
        // Each call is told, whatever became of the others.
        if told.fold(false, |missed, told| missed | told.is_err()) {
            self.presence.unheeded.lock().insert(user.clone());
        }
    }

    /// A call has taken `user` in as one who is `online`: who came or went meanwhile found no call to
    /// tell, so it is told now.
    pub(super) fn heed_since(&self, user: &UserId, online: bool) {
        if self.is_online(user) != online {
            self.heed(user);
        }
    }

    /// Tells calls what could not be told when it happened.
    pub(super) fn heed_late(&self) {
        let unheeded = std::mem::take(&mut *self.presence.unheeded.lock());
        for user in unheeded {
            self.heed(&user);
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

    /// Everyone who is connected here, in the order of their ids.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::fixture::{Device, House, identity, user};
    use crate::call::id::CallId;
    use crate::call::participant::Sockets;
    use crate::call::state::ConnectionState;

    fn standing(app: &App, call: CallId, name: &str) -> (Sockets, ConnectionState) {
        let of = |call: &Call| {
            let it = call.participant(&user(name)).unwrap();
            (it.sockets, it.connection)
        };
        app.calls.read(call, of).unwrap()
    }

    #[tokio::test]
    async fn who_is_back_before_the_farewell_is_heard_is_not_lost() {
        let house = House::open();
        let app = &house.app;
        let [_anna, bob] = ["anna", "bob"].map(|it| Device::connect(app, it));
        let call = house.call("anna", &["bob"]).await;
        house.joins("bob", call).await;
        // The first half of a farewell, a whole arrival, the second half.
        assert!(app.presence.leave(&user("bob")));
        app.admit(&identity("bob")).unwrap();
        app.heed(&user("bob"));
        assert_eq!(standing(app, call, "bob"), (Sockets::Here, ConnectionState::Connected));
        bob.leave(app);
        assert_eq!(standing(app, call, "bob"), (Sockets::Gone, ConnectionState::Reconnecting));
        let back = Device::connect(app, "bob");
        assert_eq!(standing(app, call, "bob"), (Sockets::Here, ConnectionState::Connected));
        drop(back);
    }

    #[tokio::test]
    async fn who_is_lost_while_being_let_in_is_missed() {
        let house = House::open();
        let app = &house.app;
        let anna = Device::connect(app, "anna");
        let call = house.call("anna", &["bob"]).await;
        assert!(app.presence.leave(&user("anna")), "a farewell that found no call to tell");
        app.heed_since(&user("anna"), true);
        assert_eq!(standing(app, call, "anna"), (Sockets::Gone, ConnectionState::Reconnecting));
        app.admit(&identity("anna")).unwrap();
        anna.leave(app);
    }

    #[tokio::test]
    async fn news_without_a_place_in_the_journal_is_told_later() {
        let house = House::with(|it| it.journal.queue_records_max = 4);
        let app = &house.app;
        let anna = Device::connect(app, "anna");
        let call = house.call("anna", &["bob"]).await;
        let taken: Vec<_> = std::iter::from_fn(|| app.journal.reserve().ok()).collect();
        anna.leave(app);
        assert_eq!(standing(app, call, "anna").0, Sockets::Here, "no place");
        app.heed_late();
        drop(taken);
        app.heed_late();
        assert_eq!(standing(app, call, "anna").0, Sockets::Gone);
        assert!(app.presence.unheeded.lock().is_empty());
    }

    #[tokio::test]
    async fn sockets_are_bounded_and_counted_out() {
        let house = House::with(|it| it.settings.sockets_per_user_max = 2);
        let app = &house.app;
        let [first, second] = ["anna", "anna"].map(|it| Device::connect(app, it));
        assert_eq!(app.admit(&identity("anna")), Err(TooManySockets));
        let anna = user("anna");
        let present = Present { user_id: anna, username: None, sockets: 2 };
        assert_eq!((app.present(), app.sockets()), (vec![present], 2));
        first.leave(app);
        let third = Device::connect(app, "anna");
        second.leave(app);
        third.leave(app);
        third.leave(app);
        assert_eq!((app.present(), app.sockets()), (vec![], 0));
        assert!(!app.is_online(&user("anna")));
    }

    #[tokio::test]
    async fn sockets_end_with_their_tokens() {
        let house = House::open();
        let (app, now) = (&house.app, house.app.clock.wall());
        let [due, later, refreshed] = ["a", "b", "c"].map(|it| Device::connect(app, it));
        app.expire(&due.outlet, now);
        app.expire(&later.outlet, now.plus(Duration::from_millis(1)));
        let called_off = app.expire(&refreshed.outlet, now);
        app.call_off(called_off);
        app.close_expired(now);
        let connected = [&due, &later, &refreshed].map(|it| it.outlet.is_connected());
        assert_eq!(connected, [false, true, true]);
        assert_eq!(app.presence.expiries.lock().len(), 1);
    }
}
