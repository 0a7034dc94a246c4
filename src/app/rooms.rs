//! Rooms: each live call over LiveKit has one, with nobody in it who must not be, and nothing else has.
//!
//! Whatever happens to a call or is heard of its room only says that the room has to be looked at. One
//! look ([`App::tend_room`]) compares the room with the call as it is then, and mends what differs; where LiveKit
//! can't be asked, the look is made again. And now and then all rooms are compared with all calls, so
//! that nothing depends on a webhook that was lost, on a process that was killed, or on a LiveKit that
//! has forgotten its rooms.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::app::chores::Chore;
use crate::call::command::Command;
use crate::call::id::CallId;
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::pass::Sources;
use crate::call::state::{ConnectionState, MediaPath, State};
use crate::media::error::{Kind, MediaError};
use crate::media::livekit::{Guest, LiveKit, Room, RoomWanted};
use crate::telemetry::LIVEKIT_ROOMS_MENDED_TOTAL;

/// Rooms that are looked at at once.
const LOOKS_AT_ONCE: usize = 32;
/// Rooms that wait to be looked at, at most: beyond it the comparison of all finds them again.
const WAITING_MAX: usize = 100_000;
/// How long to wait after a look that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Between two comparisons at least so many times as long as one took.
const REST: u32 = 10;

/// A look that is to be made.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    tries: u32,
}

/// Which rooms have to be looked at.
#[derive(Default)]
pub(super) struct Rooms {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Rooms of this service, when last counted.
    known: AtomicUsize,
    away: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    due: HashMap<CallId, Due>,
    /// The same by time.
    order: BTreeSet<(Instant, CallId)>,
    /// Being looked at right now: not twice at once.
    busy: HashSet<CallId>,
    chores: HashMap<CallId, Vec<Chore>>,
    /// Rooms that are being made for calls to be: no call has them yet.
    making: HashSet<CallId>,
}

/// A room that is being made, for as long as nobody else knows its call.
pub(super) struct Making<'a>(&'a Rooms, CallId);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().making.remove(&self.1);
    }
}

impl Waiting {
    /// The first of those that are not being looked at.
    fn first(&self) -> Option<(Instant, CallId)> {
        self.order.iter().find(|(_, call)| !self.busy.contains(call)).copied()
    }

    /// The earlier of two times counts.
    fn set(&mut self, call: CallId, due: Due) {
        if let Some(known) = self.due.get(&call) {
            if known.at <= due.at {
                return;
            }
            self.order.remove(&(known.at, call));
        }
        self.due.insert(call, due);
        self.order.insert((due.at, call));
    }
}

impl Rooms {
    /// Has the call's room looked at, soon.
    pub(super) fn look(&self, call: CallId) {
        self.look_in(call, Duration::ZERO);
    }

    /// Has it looked at after `wait`, unless it is before.
    pub(super) fn look_in(&self, call: CallId, wait: Duration) {
        self.again(call, Due { at: Instant::now() + wait, tries: 0 });
    }

    /// Has it looked at, and something else done there.
    pub(super) fn look_and(&self, call: CallId, chore: Chore, wait: Duration) {
        self.put(call, Due { at: Instant::now() + wait, tries: 0 }, Some(chore));
    }

    fn again(&self, call: CallId, due: Due) {
        self.put(call, due, None);
    }

    fn put(&self, call: CallId, due: Due, chore: Option<Chore>) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.due.len() >= WAITING_MAX && !waiting.due.contains_key(&call) {
                return;
            }
            waiting.set(call, due);
            if let Some(chore) = chore {
                waiting.chores.entry(call).or_default().push(chore);
            }
        }
        self.wake.notify_one();
    }

    /// Notes that the room of a call to be is being made: until that is over, nobody removes it.
    pub(super) fn making(&self, call: CallId) -> Making<'_> {
        self.waiting.lock().making.insert(call);
        Making(self, call)
    }

    fn is_being_made(&self, call: CallId) -> bool {
        self.waiting.lock().making.contains(&call)
    }

    /// A look that is due, with what else is to be done there.
    fn take(&self, now: Instant) -> Option<Look> {
        let mut waiting = self.waiting.lock();
        let (at, call) = waiting.first().filter(|(at, _)| *at <= now)?;
        waiting.order.remove(&(at, call));
        let tries = waiting.due.remove(&call).map_or(0, |it| it.tries);
        waiting.busy.insert(call);
        let chores = waiting.chores.remove(&call).unwrap_or_default();
        Some((call, tries, chores))
    }

    fn done(&self, call: CallId) {
        self.waiting.lock().busy.remove(&call);
    }

    /// When the next look is due, of those that can be made.
    fn next(&self) -> Option<Instant> {
        self.waiting.lock().first().map(|(at, _)| at)
    }

    /// Makes at once what waits for LiveKit to come back.
    fn hurry(&self) {
        let at = Instant::now();
        let mut waiting = self.waiting.lock();
        let calls: Vec<CallId> = waiting.due.keys().copied().collect();
        for call in calls {
            waiting.set(call, Due { at, tries: 0 });
        }
    }

    /// Notes whether LiveKit answered, and says so where that is news.
    fn heard(&self, outcome: Result<&(), &MediaError>) {
        let away = matches!(outcome, Err(error) if error.kind != Kind::NotFound);
        let was_away = self.away.swap(away, Ordering::Relaxed);
        match outcome {
            Err(error) if away && !was_away => {
                tracing::warn!(error = error.in_full(), "LiveKit is away: live calls go on");
            }
            Ok(&()) if was_away => {
                tracing::info!("LiveKit is back");
                self.hurry();
            }
            Ok(&()) | Err(_) => {}
        }
    }

    pub(super) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// Looks at rooms for as long as the service runs; never returns. Ends at once without LiveKit.
pub async fn keep_rooms(app: Arc<App>) {
    let Some(livekit) = app.livekit().cloned() else { return };
    let mut looks = JoinSet::new();
    let mut compare_at = Instant::now();
    loop {
        while looks.len() < LOOKS_AT_ONCE
            && let Some((call, tries, chores)) = app.rooms.take(Instant::now())
        {
            looks.spawn(look(Arc::clone(&app), Arc::clone(&livekit), (call, tries, chores)));
        }
        let full = looks.len() >= LOOKS_AT_ONCE;
        let next = app.rooms.next().filter(|_| !full).unwrap_or(compare_at).min(compare_at);
        tokio::select! {
            Some(_) = looks.join_next() => {}
            () = app.rooms.wake.notified(), if !full => {}
            () = sleep_until(next) => {
                if Instant::now() >= compare_at {
                    let began = Instant::now();
                    let compared = app.compare_rooms(&livekit).await;
                    let took = if compared.is_ok() { began.elapsed() } else { Duration::ZERO };
                    app.rooms.heard(compared.as_ref());
                    compare_at = Instant::now() + (took * REST).max(livekit.check_interval());
                }
            }
        }
    }
}

type Look = (CallId, u32, Vec<Chore>);

async fn look(app: Arc<App>, livekit: Arc<LiveKit>, (call, tries, chores): Look) {
    // Whatever becomes of this look, the next can be made.
    let _done = Done { app: &app, call };
    let looked = Box::pin(app.tend_room(&livekit, call)).await;
    if let Err(error) = &looked {
        tracing::debug!(error = error.in_full(), %call, "a room could not be looked at");
        let wait = PAUSE.0.saturating_mul(1 << tries.min(8)).min(PAUSE.1);
        app.rooms.again(call, Due { at: Instant::now() + wait, tries: tries + 1 });
    }
    let guests = looked.unwrap_or_default();
    for chore in chores {
        app.do_chore(&livekit, call, &guests, chore).await;
    }
}

struct Done<'a> {
    app: &'a App,
    call: CallId,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.app.rooms.done(self.call);
        self.app.rooms.wake.notify_one();
    }
}

/// What a call wants of its room.
struct Wanted {
    participants_max: u16,
    joined: Vec<Participant>,
    sources: Vec<Sources>,
}

impl Wanted {
    fn of(call: &Call) -> Option<Self> {
        if call.state.is_terminal() || call.media != MediaPath::Livekit {
            return None;
        }
        let joined: Vec<Participant> =
            call.participants.iter().filter(|it| it.is_joined()).cloned().collect();
        let sources = joined.iter().map(|it| call.sources(it)).collect();
        Some(Self { participants_max: call.limits.participants, joined, sources })
    }
}

/// A look may be needed although nobody asked for one.
fn is_in_doubt(call: &Call) -> bool {
    let lost = |it: &Participant| it.connection == ConnectionState::Reconnecting;
    matches!(call.state, State::Connecting | State::Reconnecting)
        || call.participants.iter().any(lost)
}

fn with_media(call: &Call) -> usize {
    call.participants.iter().filter(|it| it.is_joined() && it.media_up).count()
}

impl App {
    /// The media server, where there is one.
    pub(super) fn livekit(&self) -> Option<&Arc<LiveKit>> {
        self.livekit.as_ref()
    }

    /// Whether LiveKit answered when last asked; `None` where there is none.
    pub fn livekit_is_well(&self) -> Option<bool> {
        self.livekit().map(|_| !self.rooms.is_away())
    }

    /// Rooms of this service, when last counted.
    pub fn rooms_known(&self) -> usize {
        self.rooms.known()
    }

    /// Makes the room of a call what it should be, and the call what the room says. Gives those who are
    /// in it.
    async fn tend_room(&self, livekit: &LiveKit, id: CallId) -> Result<Vec<Guest>, MediaError> {
        let asked = self.clock.now();
        let Some(wanted) = self.calls.read(id, Wanted::of).flatten() else {
            livekit.delete_room(id).await?;
            return Ok(Vec::new());
        };
        if livekit.room(id).await?.is_none() {
            counter!(LIVEKIT_ROOMS_MENDED_TOTAL, "how" => "made").increment(1);
            livekit
                .create_room(RoomWanted { call: id, participants_max: wanted.participants_max })
                .await?;
        }
        let guests = livekit.guests(id).await?;
        for guest in &guests {
            let joined = wanted.joined.iter().position(|it| it.user == guest.user);
            let allowed = joined.and_then(|index| wanted.sources.get(index));
            match allowed {
                None => self.put_out(livekit, id, guest).await?,
                Some(allowed) if *allowed != guest.sources => {
                    livekit.permit(id, &guest.user, *allowed).await?;
                }
                Some(_) => {}
            }
        }
        let present = guests.iter().filter(|it| it.active);
        let present = present.map(|it| (it.user.clone(), it.session.clone())).collect();
        self.nudge(id, Command::MediaChecked { present, asked });
        Ok(guests)
    }

    /// Puts out one who is not in the call, unless they have joined it since.
    async fn put_out(
        &self,
        livekit: &LiveKit,
        id: CallId,
        guest: &Guest,
    ) -> Result<(), MediaError> {
        let joined = self.calls.read(id, |call| call.is_joined(&guest.user)).unwrap_or(false);
        if joined {
            return Ok(());
        }
        counter!(LIVEKIT_ROOMS_MENDED_TOTAL, "how" => "put_out").increment(1);
        livekit.remove(id, &guest.user).await
    }

    /// Compares all rooms with all calls, and has those looked at that differ.
    async fn compare_rooms(&self, livekit: &LiveKit) -> Result<(), MediaError> {
        let asked = self.clock.now();
        let mut rooms = livekit.rooms().await?;
        self.rooms.known.store(rooms.values().filter(|it| it.ours).count(), Ordering::Relaxed);
        self.calls.each(|call| {
            let room: Option<Room> = rooms.remove(&call.id);
            if call.state.is_terminal() || call.media != MediaPath::Livekit {
                return;
            }
            let differs = match room {
                None => call.created_at < asked,
                Some(room) => room.participants != with_media(call) || is_in_doubt(call),
            };
            if differs {
                self.rooms.look(call.id);
            }
        });
        for (call, room) in rooms {
            if room.ours && !self.rooms.is_being_made(call) {
                counter!(LIVEKIT_ROOMS_MENDED_TOTAL, "how" => "removed").increment(1);
                self.rooms.look(call);
            }
        }
        Ok(())
    }
}
