//! From a decided command to what everyone sees of it: journal first, then events.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::app::chores::{Chore, Work};
use crate::app::cluster::Told;
use crate::app::cluster::errand::Errand;
use crate::app::error::AppError;
use crate::app::{App, Deliveries};
use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Event, Notice};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::Call;
use crate::call::state::MediaPath;
use crate::socketio::engine::run::together;
use crate::socketio::outlet::{AckError, Outlet, SocketId};
use crate::socketio::packet::Packet;
use crate::store::error::StoreError;
use crate::store::journal::{Durable, Permit};
use crate::store::{Change, Record, StoryEvent};
use crate::telemetry::CALLS_ENDED_TOTAL;
use crate::wire::event::encode;

/// What happens once a change is durable.
#[derive(Debug, Default)]
pub struct After {
    deliveries: SmallVec<[Delivery; 2]>,
    retire: Option<CallId>,
    /// The call whose room has to be looked at.
    look: Option<CallId>,
    chores: Vec<Work>,
    /// What other nodes have to know.
    told: Option<Box<Told>>,
}

/// One event on its way to users' devices.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) to: Vec<UserId>,
    pub(super) except: Option<DeviceId>,
    pub(super) manner: Manner,
    pub(super) name: Cow<'static, str>,
    pub(super) data: Arc<str>,
}

/// How an event reaches devices.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    /// The same for all.
    Plain,
    /// This call rings for so long: devices are asked to say that they ring.
    Rings(CallId, Duration),
    /// With credentials of each receiver's own, which are kept nowhere.
    IceServers,
}

/// What was seen, and the commit to wait for if there is one.
type Expendable<V> = (V, Option<Durable>);

/// What the journal keeps of a start that named an idempotency key.
pub(super) type IdempotencyKey = Option<(UserId, Box<str>)>;

impl App {
    /// Carries `command` out on a live call, and looks at the outcome with `view`. The answer may
    /// leave once the [`Durable`] is done.
    pub(super) fn change<V>(
        &self,
        id: CallId,
        command: Command,
        view: impl FnOnce(&Call, &Applied) -> V,
    ) -> Result<(V, Durable), AppError> {
        let permit = self.journal.reserve()?;
        let now = self.clock.now();
        let changed = self.calls.change(id, |call| {
            let applied = call.apply(command, now)?;
            let seen = view(call, &applied);
            // Also where nothing changed: an answer that repeats another must not overtake its commit.
            Ok((seen, self.submit(permit, call, &applied, None)))
        });
        changed.ok_or(AppError::NoSuchCall)?
    }

    /// As [`App::change`], for what may be lost: where nothing changed, there is nothing to write
    /// and nothing to wait for.
    pub(super) fn change_expendable<V>(
        &self,
        id: CallId,
        command: Command,
        view: impl FnOnce(&Call) -> V,
    ) -> Result<Expendable<V>, AppError> {
        let permit = self.journal.reserve()?;
        let now = self.clock.now();
        let changed = self.calls.change(id, |call| {
            let applied = call.apply(command, now)?;
            let durable = (!applied.is_noop()).then(|| self.submit(permit, call, &applied, None));
            Ok((view(call), durable))
        });
        changed.ok_or(AppError::NoSuchCall)?
    }

    /// Carries out what nobody waits for. Refused, or without a place in the journal, it is no more
    /// than a thing that did not happen, or that time will try again.
    pub(super) fn nudge(&self, id: CallId, command: Command) {
        if let Err(error) = self.nudge_if(id, |_| Some(command)) {
            tracing::debug!(%error, call = %id, "no place for a change that nobody waits for");
        }
    }

    /// As [`App::nudge`], with a command that depends on the call as it is found; `None` is none. The
    /// error is a journal without a place: it was not tried.
    pub(super) fn nudge_if(
        &self,
        id: CallId,
        command: impl FnOnce(&Call) -> Option<Command>,
    ) -> Result<(), StoreError> {
        let permit = self.journal.reserve()?;
        let now = self.clock.now();
        self.calls.change(id, |call| {
            if let Some(command) = command(call)
                && let Ok(applied) = call.apply(command, now)
                && !applied.is_noop()
            {
                drop(self.submit(permit, call, &applied, None));
            }
        });
        Ok(())
    }

    /// Lets the events of one durable change leave.
    fn release(self: &Arc<Self>, after: After) {
        if let Some(told) = &after.told {
            self.spread(told, &after.deliveries);
        }
        self.dispatch_all(&after.deliveries);
        if let Some(call) = after.retire {
            self.calls.retire(call);
            self.forget_whereabouts(after.told.as_deref());
        }
        if let Some(call) = after.look {
            for work in after.chores {
                self.rooms.look_and(call, Chore::new(work, Duration::ZERO));
            }
            self.rooms.look(call);
        }
    }

    /// Lets the events of one change leave, in their order: in one piece for each device.
    pub(super) fn dispatch_all(self: &Arc<Self>, deliveries: &[Delivery]) {
        together(|| deliveries.iter().for_each(|it| self.dispatch(it)));
    }

    fn dispatch(self: &Arc<Self>, delivery: &Delivery) {
        match delivery.manner {
            Manner::Plain => self.send(delivery),
            Manner::Rings(call, patience) => {
                for user in &delivery.to {
                    self.ring(call, user, patience, delivery);
                }
            }
            Manner::IceServers => self.send_ice_servers(delivery),
        }
    }

    /// A device of `user` has said that it rings.
    fn has_rung(self: &Arc<Self>, call: CallId, user: UserId) {
        if self.cluster().is_none() {
            return self.nudge(call, Command::Rings { user });
        }
        let app = Arc::clone(self);
        drop(tokio::spawn(async move {
            // Refused, it is no more than a ring that nobody heard.
            drop(Box::pin(app.ask(call, &user, Errand::Rings)).await);
        }));
    }

    fn send(&self, delivery: &Delivery) {
        let packet = Packet::event(&delivery.name, &[&delivery.data]);
        for user in &delivery.to {
            match &delivery.except {
                None => self.hub.send(user.as_str(), &packet),
                Some(device) => {
                    for outlet in self.hub.outlets(user.as_str()) {
                        if !self.is_device(&outlet, user, device) {
                            outlet.send(&packet);
                        }
                    }
                }
            }
        }
    }

    fn send_ice_servers(&self, delivery: &Delivery) {
        let envelope = delivery.data.trim_end_matches('}');
        for user in &delivery.to {
            let servers = self.ice.ice_servers(user, self.clock.wall());
            let Ok(servers) = serde_json::to_string(&servers) else { continue };
            let data = format!("{envelope},\"iceServers\":{servers}}}");
            self.hub.send(user.as_str(), &Packet::event(&delivery.name, &[&data]));
        }
    }

    /// Rings every device of `user`; the acknowledgement of one says that it rings. A device that
    /// leaves too many unanswered is rung all the same: many clients acknowledge nothing.
    fn ring(self: &Arc<Self>, call: CallId, user: &UserId, patience: Duration, it: &Delivery) {
        let packet = Packet::event(&it.name, &[&it.data]);
        for outlet in self.hub.outlets(user.as_str()) {
            let (app, user) = (Arc::clone(self), user.clone());
            let (plain, device) = (packet.clone(), outlet.clone());
            outlet.emit_with_ack(&packet, patience, move |answer| match answer {
                Ok(_) => app.has_rung(call, user),
                Err(AckError::TooMany) => device.send(&plain),
                Err(AckError::Timeout | AckError::Disconnected) => {}
            });
        }
    }

    fn is_device(&self, outlet: &Outlet, user: &UserId, device: &DeviceId) -> bool {
        let id = outlet.id();
        unnamed_device(id).as_ref() == Some(device)
            || self.hub.outlets(&device_room(user, device)).iter().any(|it| it.id() == id)
    }
}

/// The room of one named device. Ids have no such separator, so it can't be a user's room.
pub(super) fn device_room(user: &UserId, device: &DeviceId) -> String {
    format!("{user}\u{1f}{device}")
}

/// The device that a socket without `auth.deviceId` is.
pub fn unnamed_device(socket: SocketId) -> Option<DeviceId> {
    DeviceId::parse(&format!("socket:{socket}")).ok()
}

impl App {
    /// Gives the change of a call its place in the journal. Called under the call's lock, so that places
    /// follow the order of the changes.
    pub(super) fn submit(
        &self,
        permit: Permit<After>,
        call: &Call,
        applied: &Applied,
        idempotency_key: IdempotencyKey,
    ) -> Durable {
        let mut after = After::default();
        let (mut story, mut recordings) = (Vec::with_capacity(applied.effects.len()), Vec::new());
        for effect in &applied.effects {
            match effect {
                Effect::Notify(notice) => {
                    let (event, delivery) = tell(call, notice);
                    // Credentials are nobody's story: who was away asks for new ones.
                    if !matches!(notice.event, Event::IceServers) {
                        story.push(event);
                    }
                    after.deliveries.push(delivery);
                }
                Effect::CheckMedia => after.look = Some(call.id),
                Effect::RecordingStarted(it) => recordings.push(it.record(call.id, None)),
                Effect::RecordingStopped(it) => {
                    after.chores.push(Work::Stop(Arc::clone(&it.egress)));
                    recordings.push(it.record(call.id, Some(call.updated_at)));
                }
                Effect::Unavailable(..) | Effect::Noted => {}
            }
        }
        if call.state.is_terminal() || !after.chores.is_empty() {
            after.look = (call.media == MediaPath::Livekit).then_some(call.id);
        }
        if call.state.is_terminal() && !applied.is_noop() {
            counter!(CALLS_ENDED_TOTAL, "state" => call.state.as_str()).increment(1);
            tracing::debug!(call = %call.id, state = call.state.as_str(), "call over");
        }
        after.retire = call.state.is_terminal().then_some(call.id);
        let live = !call.state.is_terminal();
        // A call is plain data that always serialises.
        let snapshot = (live || self.cluster().is_some())
            .then(|| serde_json::to_string(call).unwrap_or_default());
        after.told = snapshot.as_deref().and_then(|it| self.told(call, it));
        let change = Change {
            call: call.record(),
            participants: applied
                .changed(call)
                .map(|it| it.record(call.id, call.updated_at))
                .collect(),
            story,
            recordings,
            live: snapshot.filter(|_| live),
            idempotency_key,
        };
        permit.send(Record::Change(Box::new(change)), after)
    }
}

fn tell(call: &Call, notice: &Notice) -> (StoryEvent, Delivery) {
    let encoded = encode(call, notice);
    let data: Arc<str> = encoded.data.into();
    let manner = if let Event::Incoming { expires_at, .. } = &notice.event {
        Manner::Rings(call.id, expires_at.since(notice.at))
    } else if notice.event == Event::IceServers {
        Manner::IceServers
    } else {
        Manner::Plain
    };
    let story = StoryEvent {
        call: call.id,
        seq: notice.seq,
        at: notice.at,
        name: encoded.name,
        to: notice.to.clone(),
        data: Arc::clone(&data),
    };
    let (to, except) = (notice.to.clone(), notice.except.clone());
    (story, Delivery { to, except, manner, name: Cow::Borrowed(encoded.name), data })
}

/// Lets events leave in the order of their commits, until the journal is closed. One task does it, so
/// that no event overtakes another.
pub async fn deliver(app: Arc<App>, mut deliveries: Deliveries) {
    while let Some(batch) = deliveries.0.recv().await {
        for after in batch {
            // A fault in one event must not keep all later ones back; the panic hook counts it.
            if catch_unwind(AssertUnwindSafe(|| app.release(after))).is_err() {
                tracing::error!("the events of one change were lost to a panic");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// JSON that is ready to be sent.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Box<RawValue>, AppError> {
    // Views are structs of strings and numbers, which always serialise.
    serde_json::value::to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "an answer can't be written as JSON");
        AppError::Internal
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{Device, House};

    #[tokio::test]
    async fn a_device_that_acknowledges_nothing_is_rung_all_the_same() {
        let mut house = House::open();
        let bob = Device::connect(&house.app, "bob");
        let other = Packet::event("other", &["{}"]);
        for _ in 0..100 {
            bob.outlet.emit_with_ack(&other, Duration::from_mins(1), |_| ());
        }
        drop(bob.heard());
        house.call("anna", &["bob"]).await;
        house.settle().await;
        assert_eq!(bob.names(), ["call:incoming"]);
    }

    #[tokio::test]
    async fn what_changes_nothing_waits_for_nothing() {
        let house = House::open();
        let call = house.call("anna", &["bob"]).await;
        let app = &house.app;
        let toggled = |audio| {
            let user = crate::app::fixture::user("anna");
            let settings =
                crate::call::participant::Settings { audio: Some(audio), ..Default::default() };
            app.change_expendable(call, Command::Change { user, settings }, |call| call.seq)
        };
        let (seq, durable) = toggled(false).unwrap();
        durable.unwrap().await.unwrap();
        let (again, durable) = toggled(false).unwrap();
        assert!(durable.is_none() && again == seq);
    }
}
