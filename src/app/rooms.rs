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
use crate::call::media::TAKEOVER;
use crate::call::model::Call;
use crate::call::participant::{Participant, Sent, Settings};
use crate::call::pass::Sources;
use crate::call::state::{ConnectionState, MediaPath, State};
use crate::call::time::Timestamp;
use crate::media::error::MediaError;
use crate::media::guest::{Guest, Source};
use crate::media::livekit::{LiveKit, Room, RoomWanted};
use crate::telemetry::LIVEKIT_ROOMS_MENDED_TOTAL;

/// Rooms that are looked at at once.
const LOOKS_AT_ONCE: usize = 32;
/// How long to wait after a look that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long after a takeover could have ended one who was not seen in a room is looked for again.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// After how long what the room tells counts more than what a participant last said of what it sends:
/// time to publish it.
const SETTLED: Duration = Duration::from_secs(5);
/// A line that ends sooner never stood, and is no news.
const LINE_STANDS: Duration = Duration::from_secs(1);
/// Between two comparisons at least so many times as long as one took.
const REST: u32 = 3;
/// Between two while LiveKit is away: its clients give up where it is back and their room is not.
const HASTE: Duration = Duration::from_millis(250);

/// Looks at rooms for as long as the service runs; never returns. Ends at once without LiveKit.
pub async fn keep_rooms(app: Arc<App>) {
    let Some(livekit) = app.livekit().cloned() else { return };
    let mut looks = JoinSet::new();
    let mut compare_at = Instant::now();
    let mut comparing = JoinSet::new();
    let (mut line, mut watched) = (Box::pin(livekit.line()), Some(Instant::now()));
    loop {
        while looks.len() < LOOKS_AT_ONCE
            && let Some(due) = app.rooms.take(Instant::now())
        {
            looks.spawn(look(Arc::clone(&app), Arc::clone(&livekit), due));
        }
        let full = looks.len() >= LOOKS_AT_ONCE;
        let idle = comparing.is_empty();
        let look_at = app.rooms.next().filter(|_| !full);
        let next = [look_at, idle.then_some(compare_at)].into_iter().flatten().min();
        tokio::select! {
            Some(_) = looks.join_next() => {}
            () = app.rooms.wake.notified(), if !full => {}
            () = &mut line, if watched.is_some() => {
                if watched.take().is_some_and(|since| since.elapsed() >= LINE_STANDS) {
                    compare_at = compare_at.min(Instant::now() + HASTE);
                }
            }
            Some(compared) = comparing.join_next() => {
                // Lost only to a panic, which has been counted and logged.
                compare_at = compared.unwrap_or(Instant::now() + livekit.check_interval());
                if watched.is_none() && !app.rooms.is_away() {
                    (line, watched) = (Box::pin(livekit.line()), Some(Instant::now()));
                }
            }
            () = sleep_until(next.unwrap_or(compare_at)), if next.is_some() => {
                if idle && Instant::now() >= compare_at {
                    let (app, livekit) = (Arc::clone(&app), Arc::clone(&livekit));
                    comparing.spawn(async move { app.compare(&livekit).await });
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
    /// Those who are in it, and what each may send.
    joined: Vec<(Participant, Sources)>,
}

impl Wanted {
    fn of(call: &Call) -> Option<Self> {
        if call.state.is_terminal() || call.media != MediaPath::Livekit {
            return None;
        }
        let joined = call.participants.iter().filter(|it| it.is_joined());
        let joined = joined.map(|it| (it.clone(), call.sources(it))).collect();
        Some(Self { participants_max: call.limits.participants, joined })
    }
}

/// A look may be needed although nobody asked for one, and LiveKit counts as many as we do: it counts
/// anew only every 5 s. Somebody who was removed after `since` may still have a token that lets in.
fn is_in_doubt(call: &Call, since: Timestamp) -> bool {
    let doubtful = |it: &Participant| {
        let removed = it.connection == ConnectionState::Removed;
        it.connection == ConnectionState::Reconnecting
            || !it.muting.is_empty()
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
        if self.is_lost(id).await {
            return Ok(Vec::new());
        }
        let asked = self.clock.now();
        let room = livekit.room(id).await?;
        // Asked first: a call that is there by then was not being made after.
        let being_made = self.rooms.is_being_made(id);
        let Some(wanted) = self.calls.read(id, Wanted::of).flatten() else {
            // Others may have rooms there too, and LiveKit tells everybody of all.
            let stray = room.is_some_and(|it| it.ours || it.formerly) && !being_made;
            if stray && !self.is_elsewhere(id).await? {
                livekit.delete_room(id).await?;
            }
            return Ok(Vec::new());
        };
        match room {
            Some(room) if room.ours => {}
            Some(_) => livekit.adopt_room(id).await?,
            None => {
                counter!(LIVEKIT_ROOMS_MENDED_TOTAL, "how" => "made").increment(1);
                let participants_max = wanted.participants_max;
                livekit.create_room(RoomWanted { call: id, participants_max }).await?;
            }
        }
        let guests = livekit.guests(id).await?;
        let mut failed = Ok(());
        for guest in &guests {
            // One whom LiveKit can't reach must not keep it from all others.
            failed = failed.and(self.tend_guest(livekit, id, &wanted, guest).await);
        }
        // One whose media is still coming up is no news, neither good nor bad.
        let session = |it: &Guest| it.active.then(|| it.session.clone());
        let present = guests.iter().map(|it| (it.user.clone(), session(it))).collect();
        self.nudge(id, Command::MediaChecked { present, asked });
        // Who was not seen this once is looked for again before that is believed.
        let unseen = |call: &Call| call.participants.iter().any(|it| it.unseen_at.is_some());
        if self.calls.read(id, unseen).unwrap_or(false) {
            self.rooms.look_in(id, TAKEOVER + SECOND_LOOK);
        }
        failed.map(|()| guests)
    }

    /// Makes somebody in the room what they are in the call.
    async fn tend_guest(
        &self,
        livekit: &LiveKit,
        id: CallId,
        wanted: &Wanted,
        guest: &Guest,
    ) -> Result<(), MediaError> {
        let Some((it, allowed)) = wanted.joined.iter().find(|(it, _)| it.user == guest.user) else {
            return self.put_out(livekit, id, guest).await;
        };
        if *allowed != guest.sources {
            livekit.permit(id, &guest.user, *allowed).await?;
        }
        self.silence(livekit, id, it.muting, guest).await?;
        self.see(id, it, guest);
        Ok(())
    }

    /// Mutes what the initiator has turned off, unless it has been turned on since.
    async fn silence(
        &self,
        livekit: &LiveKit,
        id: CallId,
        off: Sent,
        guest: &Guest,
    ) -> Result<(), MediaError> {
        if off.is_empty() {
            return Ok(());
        }
        let is_off = |source| match source {
            Source::Microphone => off.audio,
            Source::Camera => off.video,
            Source::Screen | Source::ScreenSound => off.screen_share,
            Source::Other => false,
        };
        for track in guest.tracks.iter().filter(|it| !it.muted && is_off(it.source)) {
            livekit.mute(id, &guest.user, &track.sid).await?;
        }
        self.nudge(id, Command::Muted { user: guest.user.clone(), off });
        Ok(())
    }

    /// Notes what the room has told otherwise for long enough: a report may have been lost. Whether a track
    /// is muted is left to who mutes it.
    fn see(&self, id: CallId, it: &Participant, guest: &Guest) {
        let known = it.session.as_ref().is_some_and(|it| it.sid == guest.session.sid);
        let settled = self.clock.now().since(it.wanted_at.max(it.media_at)) >= SETTLED;
        if !known || !settled || !guest.active || !it.muting.is_empty() {
            return;
        }
        let seen = |shown: bool, source| match (shown, guest.has(source)) {
            (true, false) => Some(false),
            (false, true) => Some(true).filter(|_| guest.sends(source)),
            (true, true) | (false, false) => None,
        };
        let settings = Settings {
            // One who is muted may well send: its own word counts.
            audio: seen(it.audio, Source::Microphone).filter(|on| !on),
            video: seen(it.video, Source::Camera),
            screen_share: seen(it.screen_share, Source::Screen),
        };
        if settings != Settings::default() {
            self.nudge(id, Command::Reflect { user: it.user.clone(), settings });
        }
    }

    /// Puts out one who is not in the call, unless they have joined it since.
    async fn put_out(
        &self,
        livekit: &LiveKit,
        id: CallId,
        guest: &Guest,
    ) -> Result<(), MediaError> {
        let joined = self.calls.read(id, |call| call.is_joined(&guest.user)).unwrap_or(false);
        if joined || !self.is_still_ours(id).await? {
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
                Some(room) => {
                    !room.ours || room.participants != with_media(call) || is_in_doubt(call, since)
                }
            };
            if differs {
                self.rooms.look(call.id);
            }
        });
        let keeps = self.keeps_strays();
        for (call, room) in rooms {
            let stray = (room.formerly || room.ours && keeps) && !self.rooms.is_being_made(call);
            if stray && !self.is_elsewhere(call).await.unwrap_or(true) {
                counter!(LIVEKIT_ROOMS_MENDED_TOTAL, "how" => "removed").increment(1);
                self.rooms.look(call);
            }
        }
        Ok(())
    }
}
