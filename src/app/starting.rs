//! Starting a call: idempotency, glare, who is busy, who is called too often.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::app::App;
use crate::app::cluster;
use crate::app::effects::json;
use crate::app::error::AppError;
use crate::app::joining::Joined;
use crate::auth::Identity;
use crate::call::applied::Applied;
use crate::call::command::{Command, Effect, Invitee, Refusal, Start, Unavailable};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::pass::Pass;
use crate::call::record::CallFacts;
use crate::call::state::{EndReason, MediaPath, State};
use crate::call::time::Timestamp;
use crate::config::rates::Rule;
use crate::limits::{Key, RateLimited};
use crate::media::Ticket;
use crate::media::ice::IceServer;
use crate::media::livekit::RoomWanted;
use crate::store::error::{Kind, StoreError};
use crate::store::journal::Durable;
use crate::telemetry::CALLS_STARTED_TOTAL;
use crate::wire::reply::{CallView, UnavailableView};
use crate::wire::request::StartRequest;

/// When to try again where this node has as many live calls as it may, or a user rings for as many.
pub(super) const FULL_HOUSE: Duration = Duration::from_secs(2);

/// Ownership of calls on a service of one node.
const EPOCH: u64 = 1;

/// What a start says of itself.
#[derive(Debug, Clone, Default)]
pub struct Origin<'a> {
    /// The client's idempotency key.
    pub key: Option<&'a str>,
    /// The device it came from: the one that does not hear of itself where the start is an answer.
    pub device: Option<DeviceId>,
}

/// What came of a start.
pub struct Started {
    /// `{call, token, iceServers, unavailable?}`.
    pub data: Box<RawValue>,
    /// A new call; otherwise one that was there already.
    pub created: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StartedView<'a> {
    call: CallView<'a>,
    token: Ticket,
    ice_servers: Vec<IceServer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<UnavailableView>,
}

/// Who may be called, and who not right now.
pub(super) type Callable = (Vec<Invitee>, Vec<UnavailableView>);

/// What the users' standing makes of a start.
pub(super) enum Outcome {
    Same(CallId),
    Joined(Joined),
    /// Media goes through a room, which has to be there before anybody is rung.
    NeedsRoom,
    New {
        facts: CallFacts,
        pass: Option<Pass>,
        unavailable: Vec<UnavailableView>,
        durable: Durable,
    },
}

/// What makes one call of a start.
pub(super) struct Ask<'a> {
    pub(super) caller: &'a Identity,
    pub(super) request: &'a StartRequest,
    pub(super) from: Origin<'a>,
}

impl App {
    /// Starts a call; the same `key` by the same user within a day is the same call.
    pub async fn start(
        self: &Arc<Self>,
        caller: &Identity,
        request: StartRequest,
        from: Origin<'_>,
    ) -> Result<Started, AppError> {
        let key = from.key;
        if let Some(key) = key
            && let Some(started) = self.started_earlier(&caller.user, key).await?
        {
            return Ok(started);
        }
        if self.is_draining() {
            return Err(AppError::Draining);
        }
        self.pace(Rule::Start, &caller.user)?;
        self.pace(Rule::StartHourly, &caller.user)?;
        if self.journal.is_full() {
            return Err(StoreError::new("starting a call", Kind::Full).into());
        }
        if self.calls.len() >= self.settings.live_calls_max {
            return Err(RateLimited { retry_after: FULL_HOUSE }.into());
        }
        if self.cluster().is_some() {
            let Origin { key, device } = from;
            let (caller, key) = (caller.clone(), key.map(Box::from));
            return self
                .start_anywhere(cluster::starting::Start { caller, request, key, device })
                .await;
        }
        let ask = Ask { caller, request: &request, from };
        let outcome = self.decide_with_room(&ask).await?;
        self.started_new(outcome, caller, key).await
    }

    /// What the one who started is told, once it is durable.
    pub(super) async fn started_new(
        &self,
        outcome: Outcome,
        caller: &Identity,
        key: Option<&str>,
    ) -> Result<Started, AppError> {
        match outcome {
            Outcome::NeedsRoom => Err(AppError::Internal),
            Outcome::Same(call) => {
                self.until_durable(call).await?;
                let facts = self.facts(call).await?.ok_or(AppError::NoSuchCall)?;
                self.started_before(&facts, &caller.user)
            }
            Outcome::Joined(joined) => {
                let data = self.joined(&caller.user, joined).await?;
                Ok(Started { data, created: false })
            }
            Outcome::New { facts, pass, unavailable, durable } => {
                if let Err(error) = durable.await {
                    self.take_back(facts.call.id, &caller.user, key);
                    return Err(error.into());
                }
                if facts.call.state == State::Busy {
                    return Err(AppError::Busy(Box::new(facts)));
                }
                let data = self.started(&facts, &caller.user, pass.as_ref(), unavailable)?;
                Ok(Started { data, created: true })
            }
        }
    }

    /// Decides a start; where that takes a room, makes one and decides again, since much may have
    /// happened meanwhile. A room that turned out not to be needed goes.
    async fn decide_with_room(&self, ask: &Ask<'_>) -> Result<Outcome, AppError> {
        let outcome = self.decide_start(ask, None)?;
        let (Outcome::NeedsRoom, Some(livekit)) = (&outcome, self.livekit()) else {
            return Ok(outcome);
        };
        let call = CallId(new_call_id(self.clock.now()));
        let participants_max = self.settings.limits.participants;
        let making = self.rooms.making(call);
        let made = livekit.create_room(RoomWanted { call, participants_max }).await;
        made.inspect_err(|error| tracing::debug!(error = error.in_full(), "no room for a call"))?;
        let decided = self.decide_start(ask, Some(call));
        if matches!(&decided, Ok(Outcome::New { facts, .. }) if !facts.call.state.is_terminal()) {
            making.keep();
        }
        decided
    }

    /// A new call that can't be made durable is not started.
    pub(super) fn take_back(&self, call: CallId, caller: &UserId, key: Option<&str>) {
        if let Some(key) = key {
            self.recent_starts.forget(caller, key);
        }
        self.nudge(call, Command::Abort);
    }

    /// Waits until what has happened to a call so far is durable: an answer that repeats another must
    /// not overtake its commit.
    pub(super) async fn until_durable(&self, call: CallId) -> Result<(), AppError> {
        match self.change(call, Command::Tick, |_, _| ()) {
            Ok(((), durable)) => Ok(durable.await?),
            // A call that is no longer live is in the store.
            Err(AppError::NoSuchCall) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn started_before(
        &self,
        facts: &CallFacts,
        user: &UserId,
    ) -> Result<Started, AppError> {
        let pass = self.calls.read(facts.call.id, |call| call.pass(user)).flatten();
        let data = self.started(facts, user, pass.as_ref(), Vec::new())?;
        Ok(Started { data, created: false })
    }

    /// What the start of a call that is here was answered with, once more.
    pub(super) async fn again_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.until_made(id).await?;
        self.until_durable(id).await?;
        let facts = self.own_facts(id, user).await?;
        if facts.call.end_reason == Some(EndReason::Failed) {
            // It was taken back: its key is free.
            return Err(AppError::NoSuchCall);
        }
        self.kept(id).await?;
        Ok(self.started_before(&facts, user)?.data)
    }

    fn started(
        &self,
        facts: &CallFacts,
        user: &UserId,
        pass: Option<&Pass>,
        unavailable: Vec<UnavailableView>,
    ) -> Result<Box<RawValue>, AppError> {
        json(&StartedView {
            call: CallView::from(&facts.call),
            token: self.ticket(facts.call.id, user, pass)?,
            ice_servers: self.ice.ice_servers(user, self.clock.wall()),
            unavailable,
        })
    }

    /// Decides while nobody else decides about any of the users. `room` is the call whose room is there.
    fn decide_start(&self, ask: &Ask<'_>, room: Option<CallId>) -> Result<Outcome, AppError> {
        let Ask { caller, request, from } = ask;
        let (key, users) = (from.key, &request.participants);
        self.admission.decide(users.iter().chain([&caller.user]), || {
            if let Some(call) = key.and_then(|key| self.recent_starts.find(&caller.user, key)) {
                return Ok(Outcome::Same(call));
            }
            if let Some(call) = self.calls.joined_by(&caller.user, None) {
                return Err(AppError::AlreadyInCall(call));
            }
            if let Some(call) = self.glare(&caller.user, users) {
                match self.let_in(call, &caller.user, request.settings, from.device.clone()) {
                    // It ended this very moment: then this is a start like any other.
                    Err(AppError::NoSuchCall | AppError::Refused(Refusal::Over)) => {}
                    joined => return joined.map(Outcome::Joined),
                }
            }
            // Nobody is in the room of a call that is busy at once.
            let busy = |user: &UserId| self.calls.joined_by(user, None).is_some();
            let rings = request.silent || !users.iter().all(busy);
            if self.livekit().is_some() && room.is_none() && rings {
                return Ok(Outcome::NeedsRoom);
            }
            let called = self.callable(&caller.user, users, None)?;
            let call = room.unwrap_or_else(|| CallId(new_call_id(self.clock.now())));
            self.make_called(ask, call, called)
        })
    }

    /// The 1:1 call by which the one who is called rings the caller right now.
    fn glare(&self, caller: &UserId, invited: &[UserId]) -> Option<CallId> {
        let [other] = invited else { return None };
        let rings = |call: &Call| {
            !call.is_group
                && call.initiator == *other
                && call.participant(caller).is_some_and(Participant::is_rung)
        };
        self.calls.of(caller).into_iter().find(|id| self.calls.read(*id, rings).unwrap_or(false))
    }

    /// Makes the call, and rings those who may be called.
    pub(super) fn make_called(
        &self,
        ask: &Ask<'_>,
        id: CallId,
        (invitees, mut unavailable): Callable,
    ) -> Result<Outcome, AppError> {
        let Ask { caller, request, from } = ask;
        let key = from.key;
        let now = self.clock.now();
        let permit = self.journal.reserve()?;
        let online = self.is_online(&caller.user);
        let (call, applied) = Call::start(
            Start {
                id,
                epoch: EPOCH,
                call_type: request.call_type,
                media: if self.livekit().is_some() { MediaPath::Livekit } else { MediaPath::Peer },
                initiator: caller.user.clone(),
                initiator_name: caller.name.clone(),
                participant: new_participant_id(),
                online,
                settings: request.settings,
                chat: request.chat.clone(),
                invitees,
                silent: request.silent,
                limits: self.settings.limits,
            },
            now,
        );
        counter!(CALLS_STARTED_TOTAL).increment(1);
        unavailable.extend(unavailable_of(&applied));
        let idempotency_key = key.map(|key| (caller.user.clone(), Box::from(key)));
        if let Some(key) = key {
            self.recent_starts.note(&caller.user, key, call.id, now);
        }
        let (facts, pass) = (CallFacts::of(&call, now), call.pass(&caller.user));
        let durable =
            self.calls.insert(call, |call| self.submit(permit, call, &applied, idempotency_key));
        self.heed_since(&caller.user, online);
        Ok(Outcome::New { facts, pass, unavailable, durable })
    }

    /// Of `users`, those that may be called, with who of them is busy; and those that may not be
    /// called so often. Where none is left, the caller has called too often.
    pub(super) fn callable(
        &self,
        caller: &UserId,
        users: &[UserId],
        call: Option<CallId>,
    ) -> Result<Callable, AppError> {
        let (mut invitees, mut unavailable, mut limited) = (Vec::new(), Vec::new(), None);
        for user in users {
            let pair = Key::Pair(caller.clone(), user.clone());
            match self.rates.check(Rule::Invite, pair) {
                Ok(()) if self.ringing(user) < self.settings.rings_per_user_max => {
                    let busy = self.calls.joined_by(user, call).is_some();
                    let participant = new_participant_id();
                    invitees.push(Invitee { user: user.clone(), participant, busy });
                }
                other => {
                    limited = other.err().or(limited);
                    unavailable.push(UnavailableView::new(user, Unavailable::RateLimited));
                }
            }
        }
        if invitees.is_empty() {
            return Err(limited.unwrap_or(RateLimited { retry_after: FULL_HOUSE }).into());
        }
        Ok((invitees, unavailable))
    }

    fn ringing(&self, user: &UserId) -> usize {
        let rings = |call: &Call| call.participant(user).is_some_and(Participant::is_rung);
        let calls = self.calls.of(user);
        calls.iter().filter(|id| self.calls.read(**id, rings).unwrap_or(false)).count()
    }
}

/// Those of a command's users who are not rung.
pub(super) fn unavailable_of(applied: &Applied) -> Vec<UnavailableView> {
    let view = |effect: &Effect| match effect {
        Effect::Unavailable(user, why) => Some(UnavailableView::new(user, *why)),
        Effect::Notify(_)
        | Effect::CheckMedia
        | Effect::RecordingStarted(_)
        | Effect::RecordingStopped(_)
        | Effect::Noted => None,
    };
    applied.effects.iter().filter_map(view).collect()
}

/// Ids sort in the order of the invitation, so that a call's people stand in the same order for ever.
pub(super) fn new_participant_id() -> Uuid {
    #[cfg(test)]
    if let Some(it) = crate::app::fixture::seeded() {
        return uuid::Builder::from_unix_timestamp_millis(it.count, &it.chance).into_uuid();
    }
    Uuid::now_v7()
}

/// Ids sort by creation, so that rows of one time lie together.
pub(super) fn new_call_id(now: Timestamp) -> Uuid {
    #[cfg(test)]
    if let Some(it) = crate::app::fixture::seeded() {
        let millis = u64::try_from(now.0).unwrap();
        return uuid::Builder::from_unix_timestamp_millis(millis, &it.chance).into_uuid();
    }
    let seconds = u64::try_from(now.0.div_euclid(1000)).unwrap_or(0);
    let nanos = u32::try_from(now.0.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{House, call_of, identity, request, user};
    use crate::app::recent::RECENT;

    async fn start(house: &House, caller: &str, others: &[&str], key: &str) -> (bool, CallId) {
        let started = house
            .app
            .start(&identity(caller), request(others), Origin { key: Some(key), device: None })
            .await;
        let started = started.unwrap();
        (started.created, call_of(started.data.get()))
    }

    #[tokio::test]
    async fn the_same_key_is_the_same_call_for_the_same_user() {
        let house = House::open();
        let (first, second) = tokio::join!(
            start(&house, "anna", &["bob"], "k"),
            start(&house, "anna", &["bob"], "k")
        );
        // Whichever came first made it.
        assert!(first.0 != second.0 && first.1 == second.1, "{first:?} {second:?}");
        assert_eq!(start(&house, "anna", &["carl"], "k").await, (false, first.1));
        house.app.recent_starts.sweep(house.app.clock.now().plus(RECENT));
        assert_eq!(start(&house, "anna", &["carl"], "k").await, (false, first.1), "by the store");
        assert!(start(&house, "dora", &["emil"], "k").await.0);
    }

    #[tokio::test]
    async fn a_start_that_was_taken_back_frees_its_key() {
        let house = House::open();
        let (_, failed) = start(&house, "anna", &["bob"], "k").await;
        house.app.take_back(failed, &user("anna"), Some("k"));
        let (created, call) = start(&house, "anna", &["bob"], "k").await;
        assert!(created && call != failed);
    }

    #[tokio::test]
    async fn both_calling_each_other_is_one_call() {
        let house = House::open();
        let call = house.call("anna", &["bob"]).await;
        assert_eq!(start(&house, "bob", &["anna"], "k").await, (false, call));
        let again = house.app.start(&identity("bob"), request(&["anna"]), Origin::default()).await;
        assert!(matches!(again.err(), Some(AppError::AlreadyInCall(it)) if it == call));
    }

    #[tokio::test]
    async fn one_who_has_joined_another_call_is_busy() {
        let house = House::open();
        house.call("anna", &["bob"]).await;
        let busy = house.app.start(&identity("carl"), request(&["anna"]), Origin::default()).await;
        assert!(matches!(busy.err(), Some(AppError::Busy(it)) if it.call.state == State::Busy));
        assert!(
            house
                .app
                .start(&identity("carl"), request(&["bob"]), Origin::default())
                .await
                .unwrap()
                .created
        );
    }

    #[tokio::test]
    async fn rings_of_one_user_are_bounded() {
        let house = House::with(|it| it.settings.rings_per_user_max = 1);
        house.call("anna", &["bob"]).await;
        let refused =
            house.app.start(&identity("carl"), request(&["bob"]), Origin::default()).await.err();
        assert!(matches!(refused, Some(AppError::RateLimited(_))));
        let group =
            house.app.start(&identity("carl"), request(&["bob", "dora"]), Origin::default()).await;
        let data = group.unwrap().data;
        let unavailable = r#""unavailable":[{"userId":"bob","why":"rate_limited"}]"#;
        assert!(data.get().contains(unavailable), "{data}");
    }
}
