//! Rooms: each live call over LiveKit has one, with nobody in it who must not be, and nothing else has.
//!
//! Whatever happens to a call or is heard of its room only says that the room has to be looked at. One
//! look ([`App::tend_room`]) compares the room with the call as it is then, and mends what differs; where LiveKit
//! can't be asked, the look is made again. And now and then all rooms are compared with all calls, so
//! that nothing depends on a webhook that was lost, on a process that was killed, or on a LiveKit that
//! has forgotten its rooms.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::counter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::app::App;
use crate::app::looks::{Due, Look};
use crate::call::command::Command;
use crate::call::id::CallId;
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::pass::Sources;
use crate::call::state::{ConnectionState, MediaPath, State};
use crate::call::time::Timestamp;
use crate::media::error::MediaError;
use crate::media::guest::Guest;
use crate::media::livekit::{LiveKit, Room, RoomWanted};
use crate::telemetry::LIVEKIT_ROOMS_MENDED_TOTAL;

/// Rooms that are looked at at once.
const LOOKS_AT_ONCE: usize = 32;
/// How long to wait after a look that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// When one who was not seen in a room is looked for again.
const SECOND_LOOK: Duration = Duration::from_millis(600);
/// Between two comparisons at least so many times as long as one took.
const REST: u32 = 3;
/// Between two while LiveKit is away: its clients give up where it is back and their room is not.
const HASTE: Duration = Duration::from_millis(250);

/// Looks at rooms for as long as the service runs; never returns. Ends at once without LiveKit.
pub async fn keep_rooms(app: Arc<App>) {
    let Some(livekit) = app.livekit().cloned() else { return };
    let mut looks = JoinSet::new();
    let mut compare_at = Instant::now();
    let mut line = Box::pin(livekit.line());
    let mut watched = true;
    loop {
        while looks.len() < LOOKS_AT_ONCE
            && let Some(due) = app.rooms.take(Instant::now())
        {
            looks.spawn(look(Arc::clone(&app), Arc::clone(&livekit), due));
        }
        let full = looks.len() >= LOOKS_AT_ONCE;
        let next = app.rooms.next().filter(|_| !full).unwrap_or(compare_at).min(compare_at);
        tokio::select! {
            Some(_) = looks.join_next() => {}
            () = app.rooms.wake.notified(), if !full => {}
            () = &mut line, if watched => {
                watched = false;
                compare_at = compare_at.min(Instant::now() + HASTE);
            }
            () = sleep_until(next) => {
                if Instant::now() >= compare_at {
                    compare_at = app.compare(&livekit).await;
                    if !watched && !app.rooms.is_away() {
                        line = Box::pin(livekit.line());
                        watched = true;
                    }
                }
            }
        }
    }
}

async fn look(app: Arc<App>, livekit: Arc<LiveKit>, (call, tries, chores): Look) {
    // Whatever becomes of this look, the next can be made.
    let _done = Done { app: &app, call };
    match Box::pin(app.tend_room(&livekit, call)).await {
        Ok(guests) => {
            for chore in chores {
                app.do_chore(&livekit, call, &guests, chore).await;
            }
        }
        Err(error) => {
            tracing::debug!(error = error.in_full(), %call, "a room could not be looked at");
            let wait = PAUSE.0.saturating_mul(1 << tries.min(8)).min(PAUSE.1);
            let due = Due { at: Instant::now() + wait, tries: tries + 1 };
            app.rooms.again(call, due, chores);
        }
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

/// A look may be needed although nobody asked for one, and LiveKit counts as many as we do: it counts
/// anew only every 5 s. Somebody who was removed after `since` may still have a token that lets in.
fn is_in_doubt(call: &Call, since: Timestamp) -> bool {
    let doubtful = |it: &Participant| {
        let removed = it.connection == ConnectionState::Removed;
        it.connection == ConnectionState::Reconnecting
            || (removed && it.left_at.is_some_and(|at| at > since))
    };
    matches!(call.state, State::Connecting | State::Reconnecting)
        || call.participants.iter().any(doubtful)
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
        let room = livekit.room(id).await?;
        let Some(wanted) = self.calls.read(id, Wanted::of).flatten() else {
            // Others may have rooms there too, and LiveKit tells everybody of all.
            if room.is_some_and(|it| it.ours) && !self.rooms.is_being_made(id) {
                livekit.delete_room(id).await?;
            }
            return Ok(Vec::new());
        };
        if room.is_none() {
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
        // One whose media is still coming up is no news, neither good nor bad.
        let session = |it: &Guest| it.active.then(|| it.session.clone());
        let present = guests.iter().map(|it| (it.user.clone(), session(it))).collect();
        self.nudge(id, Command::MediaChecked { present, asked });
        // Who was not seen this once is looked for again before that is believed.
        let unseen = |call: &Call| call.participants.iter().any(|it| it.unseen_at.is_some());
        if self.calls.read(id, unseen).unwrap_or(false) {
            self.rooms.look_in(id, SECOND_LOOK);
        }
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

    /// Compares all rooms with all calls, and says when to do so again.
    async fn compare(&self, livekit: &LiveKit) -> Instant {
        let began = Instant::now();
        let compared = self.compare_rooms(livekit).await;
        let took = began.elapsed();
        self.rooms.heard(compared.as_ref());
        let interval = livekit.check_interval();
        let rest = match compared {
            Ok(()) => (took * REST).max(interval),
            Err(_) => HASTE.min(interval),
        };
        Instant::now() + rest
    }

    /// Has the rooms looked at that differ from their calls.
    async fn compare_rooms(&self, livekit: &LiveKit) -> Result<(), MediaError> {
        let asked = self.clock.now();
        let mut rooms = livekit.rooms().await?;
        self.rooms.known.store(rooms.values().filter(|it| it.ours).count(), Ordering::Relaxed);
        let since = asked.minus(livekit.token_ttl());
        self.calls.each(|call| {
            let room: Option<Room> = rooms.remove(&call.id);
            if call.state.is_terminal() || call.media != MediaPath::Livekit {
                return;
            }
            let differs = match room {
                None => call.created_at < asked,
                Some(room) => room.participants != with_media(call) || is_in_doubt(call, since),
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
