//! Starting a call where those concerned may be starting others on other nodes.
//!
//! The caller claims its own place first, then rings the others: so of two who call each other one sees the
//! other's ring, or both see the other's claim; then the call with the smaller id is the one that stays.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::app::cluster::Cluster;
use crate::app::cluster::errand::{Done, Errand};
use crate::app::error::{AppError, Code};
use crate::app::starting::{
    Ask, Callable, FULL_HOUSE, Origin, Started, new_call_id, new_participant_id,
};
use crate::auth::Identity;
use crate::bus::directory::{Mark, Ring, User};
use crate::bus::error::{BusError, Kind};
use crate::call::command::{Invitee, Unavailable};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::config::rates::Rule;
use crate::limits::{Key, RateLimited};
use crate::media::livekit::RoomWanted;
use crate::wire::reply::UnavailableView;
use crate::wire::request::StartRequest;

/// How long a call is waited for that another node is making just now.
const MAKING_WAIT: Duration = Duration::from_secs(1);
const MAKING_PAUSE: Duration = Duration::from_millis(15);
/// How often a key is taken that turns out to stand for nothing.
const KEY_TRIES_MAX: u32 = 3;

/// A start that goes on although its client may be gone.
pub(in crate::app) struct Start {
    pub(in crate::app) caller: Identity,
    pub(in crate::app) request: StartRequest,
    pub(in crate::app) key: Option<Box<str>>,
    pub(in crate::app) device: Option<DeviceId>,
}

/// What the others' standing makes of a start.
enum Rung {
    /// It goes on.
    With(Callable),
    /// The one who is called is calling the caller just now, and that call stays.
    Joins(CallId),
}

impl App {
    /// What an earlier start with `key` was answered with, once more; `None` where it came to nothing. What the database
    /// knows of a call that goes on may be older than its end, so that whoever has it is asked.
    pub(in crate::app) async fn started_earlier(
        self: &Arc<Self>,
        user: &UserId,
        key: &str,
    ) -> Result<Option<Started>, AppError> {
        let Some(facts) = self.earlier_start(user, key).await? else { return Ok(None) };
        if self.cluster().is_none() || facts.call.state.is_terminal() {
            return self.started_before(&facts, user).map(Some);
        }
        match Box::pin(self.ask(facts.call.id, user, Errand::Again)).await {
            Ok(data) => Ok(Some(Started { data: data.ok_or(AppError::Internal)?, created: false })),
            Err(error) if is_nowhere(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts a call among many nodes. It runs to its end whatever becomes of the client: half a start would
    /// leave its caller in a call that is none.
    pub(in crate::app) async fn start_anywhere(
        self: &Arc<Self>,
        start: Start,
    ) -> Result<Started, AppError> {
        let app = Arc::clone(self);
        let task = tokio::spawn(async move {
            let cluster = app.cluster().ok_or(AppError::Internal)?;
            Box::pin(app.start_claimed(cluster, &start)).await
        });
        // Lost only to a panic, which has been counted and logged.
        task.await.unwrap_or(Err(AppError::Internal))
    }

    async fn start_claimed(
        self: &Arc<Self>,
        cluster: &Cluster,
        start: &Start,
    ) -> Result<Started, AppError> {
        cluster.fence()?;
        let call = CallId(new_call_id(self.clock.now()));
        // Whoever finds somebody claimed for it, or a room, knows from here that it is being made.
        cluster.bus.begin(call).await?;
        cluster.keeping.begin(call);
        let started = Box::pin(self.start_begun(cluster, start, call)).await;
        let kept = started.as_ref().is_ok_and(|it| it.created)
            || matches!(started, Err(AppError::Busy(_)));
        if kept {
            cluster.keeping.made(call);
        } else {
            cluster.keeping.give_up(call);
            if let Some(key) = &start.key {
                drop(cluster.bus.free_key(&start.caller.user, key, call).await);
            }
        }
        started
    }

    async fn start_begun(
        self: &Arc<Self>,
        cluster: &Cluster,
        start: &Start,
        call: CallId,
    ) -> Result<Started, AppError> {
        if let Some(key) = &start.key
            && let Some(started) = self.started_elsewhere(cluster, start, (key, call)).await?
        {
            return Ok(started);
        }
        self.start_new(cluster, start, call).await
    }

    /// The same key was used before, or is being used just now at another node. `None`: it is this start's.
    async fn started_elsewhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        start: &Start,
        (key, call): (&str, CallId),
    ) -> Result<Option<Started>, AppError> {
        let user = &start.caller.user;
        for _ in 0..KEY_TRIES_MAX {
            let first = cluster.bus.key(user, key, call).await?;
            if first == call {
                return Ok(None);
            }
            match self.ask_when_made(first, user, Errand::Again).await {
                Ok(data) => {
                    let data = data.ok_or(AppError::Internal)?;
                    return Ok(Some(Started { data, created: false }));
                }
                Err(error) if is_nowhere(&error) => {}
                Err(error) => return Err(error),
            }
            let found = cluster.bus.call(first).await?;
            if found.is_some_and(|it| !it.over) {
                // Whoever makes it takes long, or died and is not known to be dead yet.
                return Err(BusError::new("waiting for a start", Kind::Away).into());
            }
            // It came to nothing, and nobody was told of it.
            cluster.bus.free_key(user, key, first).await?;
        }
        Err(BusError::new("using a key", Kind::Away).into())
    }

    /// Completes once no start here may take the call back any more: nobody is told of one before.
    pub(in crate::app) async fn until_made(&self, call: CallId) -> Result<(), AppError> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        let until = Instant::now() + MAKING_WAIT;
        while cluster.keeping.is_starting(call) {
            if Instant::now() >= until {
                return Err(BusError::new("waiting for a start", Kind::Away).into());
            }
            sleep(MAKING_PAUSE).await;
        }
        Ok(())
    }

    /// Asks for a call that may be being made just now.
    async fn ask_when_made(self: &Arc<Self>, call: CallId, user: &UserId, errand: Errand) -> Done {
        let until = Instant::now() + MAKING_WAIT;
        loop {
            match Box::pin(self.ask(call, user, errand.clone())).await {
                Err(error) if is_nowhere(&error) && Instant::now() < until => {
                    sleep(MAKING_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn start_new(
        self: &Arc<Self>,
        cluster: &Cluster,
        start: &Start,
        call: CallId,
    ) -> Result<Started, AppError> {
        let (user, users) = (&start.caller.user, &start.request.participants);
        let calling = match users.as_slice() {
            [other] => Some(other),
            _ => None,
        };
        let _expecting = self.expect(cluster, users.iter().chain([user]));
        let known = self.claim(cluster, user, call, calling).await?;
        if let Some(first) = calling.and_then(|other| rung_by(&known, other)) {
            let here = Stay { cluster, call };
            if let Some(joined) = self.join_instead(here, start, first).await? {
                return Ok(joined);
            }
            self.claim(cluster, user, call, calling).await?;
        }
        let (invitees, unavailable) = match self.ring_all(cluster, start, call).await? {
            Rung::With(callable) => callable,
            Rung::Joins(first) => {
                let here = Stay { cluster, call };
                let joined = self.join_instead(here, start, first).await?;
                // It came to nothing, and so has this one, which gave way to it.
                let away = BusError::new("joining the call of who is called", Kind::Away);
                return joined.ok_or_else(|| away.into());
            }
        };
        let rings = start.request.silent || !invitees.iter().all(|it| it.busy);
        let room = self.make_room(call, rings).await?;
        let key = start.key.as_deref();
        let from = Origin { key, device: start.device.clone() };
        let ask = Ask { caller: &start.caller, request: &start.request, from };
        let made = self.make_called(&ask, call, (invitees, unavailable))?;
        if let Some(room) = room {
            room.keep();
        }
        let started = self.started_new(made, &start.caller, key).await;
        if matches!(started, Ok(_) | Err(AppError::Busy(_)))
            && let Err(error) = self.kept(call).await
        {
            self.take_back(call, user, key);
            return Err(error);
        }
        started
    }

    /// Joins the call of one who is calling the caller, and leaves the own one be. `None`: it is over.
    async fn join_instead(
        self: &Arc<Self>,
        own: Stay<'_>,
        start: &Start,
        first: CallId,
    ) -> Result<Option<Started>, AppError> {
        let user = &start.caller.user;
        own.cluster.bus.stand(user, own.call, None, false).await?;
        let (settings, device) = (start.request.settings, start.device.clone());
        let join = Errand::Join { settings, device };
        let joined = self.ask_when_made(first, user, join).await;
        match joined {
            Ok(data) => Ok(Some(Started { data: data.ok_or(AppError::Internal)?, created: false })),
            // It ended this very moment: then this is a start like any other.
            Err(error) if is_over(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Rings all who may be called.
    async fn ring_all(
        self: &Arc<Self>,
        cluster: &Cluster,
        start: &Start,
        call: CallId,
    ) -> Result<Rung, AppError> {
        let (caller, users) = (&start.caller.user, &start.request.participants);
        let mark = match (users.len(), start.request.silent) {
            (_, true) => Mark::Member,
            (1, false) => Mark::RungBy(caller.clone()),
            (_, false) => Mark::Rung,
        };
        let rung = self.ring_each(cluster, (caller, users), call, &mark).await?;
        if let [(user, Ring::Busy, known)] = rung.as_slice()
            && known.calling.as_ref() == Some(caller)
            && let Some(other) = known.joined
        {
            if other < call {
                return Ok(Rung::Joins(other));
            }
            // The other start sees ours, and gives way.
            cluster.bus.stand(user, call, Some(&mark), false).await?;
            let invitee =
                Invitee { user: user.clone(), participant: new_participant_id(), busy: false };
            return Ok(Rung::With((vec![invitee], Vec::new())));
        }
        called(&rung, users).map(Rung::With)
    }

    /// Rings those of `users` whom the caller has not called too often.
    pub(super) async fn ring_each(
        self: &Arc<Self>,
        cluster: &Cluster,
        (caller, users): (&UserId, &[UserId]),
        call: CallId,
        mark: &Mark,
    ) -> Result<Vec<Rang>, AppError> {
        let mut limited = None;
        let mut callable = Vec::with_capacity(users.len());
        for user in users {
            let pair = Key::Pair(caller.clone(), user.clone());
            match self.rates.check(Rule::Invite, pair) {
                Ok(()) => callable.push(user),
                Err(error) => limited = Some(error),
            }
        }
        if let (true, Some(limited)) = (callable.is_empty(), limited) {
            return Err(limited.into());
        }
        let rung = callable.iter().map(|user| self.ring_anywhere(cluster, user, call, mark));
        let rung = join_all(rung).await.into_iter().zip(callable);
        rung.map(|(rung, user)| rung.map(|(ring, known)| (user.clone(), ring, known))).collect()
    }

    /// The room of a call that rings somebody, before anybody is rung.
    async fn make_room(
        &self,
        call: CallId,
        rings: bool,
    ) -> Result<Option<crate::app::looks::Making<'_>>, AppError> {
        let Some(livekit) = self.livekit().filter(|_| rings) else { return Ok(None) };
        let making = self.rooms.making(call);
        let participants_max = self.settings.limits.participants;
        let made = livekit.create_room(RoomWanted { call, participants_max }).await;
        made.inspect_err(|error| tracing::debug!(error = error.in_full(), "no room for a call"))?;
        Ok(Some(making))
    }

    /// Adds users to a call that is here.
    pub(in crate::app) async fn callable_anywhere(
        self: &Arc<Self>,
        cluster: &Cluster,
        by: &UserId,
        users: &[UserId],
        call: CallId,
    ) -> Result<Callable, AppError> {
        let rung = self.ring_each(cluster, (by, users), call, &Mark::Rung).await?;
        called(&rung, users)
    }
}

/// One who was called, and what came of it.
type Rang = (UserId, Ring, User);

/// A call to be, of this node.
#[derive(Clone, Copy)]
struct Stay<'a> {
    cluster: &'a Cluster,
    call: CallId,
}

/// There is no such call, as far as anybody knows.
fn is_nowhere(error: &AppError) -> bool {
    error.code() == Code::NotFound
}

fn is_over(error: &AppError) -> bool {
    matches!(error.code(), Code::NotFound | Code::CallOver)
}

/// The call of two by which `other` rings the user.
fn rung_by(known: &User, other: &UserId) -> Option<CallId> {
    let by = |mark: &Mark| matches!(mark, Mark::RungBy(it) if it == other);
    known.calls.iter().find(|(.., mark)| by(mark)).map(|(call, ..)| *call)
}

/// Who is called, and who is not right now: those who were not rung among `users`, or by too many.
fn called(rung: &[Rang], users: &[UserId]) -> Result<Callable, AppError> {
    let mut unavailable: Vec<UnavailableView> = Vec::new();
    let mut invitees = Vec::new();
    for user in users {
        let how = rung.iter().find(|(it, ..)| it == user).map(|(_, ring, _)| *ring);
        match how {
            Some(Ring::Rung | Ring::Busy) => {
                let (participant, busy) = (new_participant_id(), how == Some(Ring::Busy));
                invitees.push(Invitee { user: user.clone(), participant, busy });
            }
            Some(Ring::TooMany) | None => {
                unavailable.push(UnavailableView::new(user, Unavailable::RateLimited));
            }
        }
    }
    if invitees.is_empty() {
        return Err(RateLimited { retry_after: FULL_HOUSE }.into());
    }
    Ok((invitees, unavailable))
}
