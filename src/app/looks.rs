//! Which rooms have to be looked at, when, and what is to be done there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::chores::{Chore, Work};
use crate::call::id::CallId;
use crate::media::error::{Kind, MediaError};

/// Rooms that wait to be looked at, at most: beyond it the comparison of all finds them again.
const WAITING_MAX: usize = 100_000;
/// Chores of one room that wait for LiveKit, at most: past it what somebody sends is not looked at.
const CHORES_MAX: usize = 64;
/// When a room is looked at that no call has come to know.
const UNUSED_ROOM: Duration = Duration::from_secs(5);

/// A look: at the room of which call, how often it has been tried, and what else is to be done there.
pub(super) type Look = (CallId, u32, Vec<Chore>);

/// A look that is to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) tries: u32,
}

/// Which rooms have to be looked at.
#[derive(Default)]
pub(super) struct Rooms {
    waiting: Mutex<Waiting>,
    pub(super) wake: Notify,
    /// Rooms of this service, when last counted.
    pub(super) known: AtomicUsize,
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

/// A room that is being made, for as long as nobody else knows its call. Where none comes to know it, it
/// is looked at a little later, and goes: LiveKit may carry out late what it did not answer.
pub(super) struct Making<'a> {
    rooms: &'a Rooms,
    call: CallId,
    needed: bool,
}

impl Making<'_> {
    /// The call is there, and has the room.
    pub(super) fn keep(mut self) {
        self.needed = true;
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.rooms.waiting.lock().making.remove(&self.call);
        if !self.needed {
            self.rooms.look_in(self.call, UNUSED_ROOM);
        }
    }
}

impl Waiting {
    /// The first of those that are not being looked at.
    fn first(&self) -> Option<(Instant, CallId)> {
        self.order.iter().find(|(_, call)| !self.busy.contains(call)).copied()
    }

    /// Of two that are as good the later takes the place of the first.
    fn add(&mut self, call: CallId, chore: Chore) {
        let waits = self.chores.entry(call).or_default();
        if let Some(same) = waits.iter_mut().find(|it| it.what.is_as_good_as(&chore.what)) {
            *same = chore;
        } else if waits.len() < CHORES_MAX || !matches!(chore.what, Work::Reflect(..)) {
            waits.push(chore);
        }
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
        self.put(call, Due { at: Instant::now() + wait, tries: 0 }, Vec::new());
    }

    /// Has it looked at, and something else done there.
    pub(super) fn look_and(&self, call: CallId, chore: Chore) {
        self.put(call, Due { at: chore.at, tries: 0 }, vec![chore]);
    }

    /// Has a look that failed made again, with what was to be done.
    pub(super) fn again(&self, call: CallId, due: Due, chores: Vec<Chore>) {
        self.put(call, due, chores);
    }

    fn put(&self, call: CallId, due: Due, chores: Vec<Chore>) {
        {
            let mut waiting = self.waiting.lock();
            if waiting.due.len() >= WAITING_MAX && !waiting.due.contains_key(&call) {
                if !chores.is_empty() {
                    tracing::warn!(%call, ?chores, "too much waits for LiveKit: not done");
                }
                return;
            }
            waiting.set(call, due);
            for chore in chores {
                waiting.add(call, chore);
            }
        }
        self.wake.notify_one();
    }

    /// Notes that the room of a call to be is being made: until that is over, nobody removes it.
    pub(super) fn making(&self, call: CallId) -> Making<'_> {
        self.waiting.lock().making.insert(call);
        Making { rooms: self, call, needed: false }
    }

    pub(super) fn is_being_made(&self, call: CallId) -> bool {
        self.waiting.lock().making.contains(&call)
    }

    /// A look that is due, with what else is to be done there.
    pub(super) fn take(&self, now: Instant) -> Option<Look> {
        let mut waiting = self.waiting.lock();
        let (at, call) = waiting.first().filter(|(at, _)| *at <= now)?;
        waiting.order.remove(&(at, call));
        let tries = waiting.due.remove(&call).map_or(0, |it| it.tries);
        waiting.busy.insert(call);
        let chores = waiting.chores.remove(&call).unwrap_or_default();
        let (ripe, rest): (Vec<Chore>, Vec<Chore>) =
            chores.into_iter().partition(|it| it.at <= now);
        if let Some(at) = rest.iter().map(|it| it.at).min() {
            waiting.set(call, Due { at, tries: 0 });
            waiting.chores.insert(call, rest);
        }
        Some((call, tries, ripe))
    }

    pub(super) fn done(&self, call: CallId) {
        self.waiting.lock().busy.remove(&call);
    }

    /// When the next look is due, of those that can be made.
    pub(super) fn next(&self) -> Option<Instant> {
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
    pub(super) fn heard(&self, outcome: Result<&(), &MediaError>) {
        // A crowd of our own says nothing of LiveKit.
        if matches!(outcome, Err(error) if error.kind == Kind::Busy) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::app::fixture::user;
    use crate::call::participant::Settings;

    const SECOND: Duration = Duration::from_secs(1);

    fn call(number: u128) -> CallId {
        CallId(Uuid::from_u128(number))
    }

    fn reflect(sid: &str, video: bool, wait: Duration) -> Chore {
        let settings = Settings { video: Some(video), ..Settings::default() };
        Chore::new(Work::Reflect(user("anna"), sid.into(), settings), wait)
    }

    /// The calls whose looks are due now, each with how many chores, until none is.
    fn due(rooms: &Rooms) -> Vec<(CallId, usize)> {
        let taken = std::iter::from_fn(|| rooms.take(Instant::now()));
        taken.map(|(call, _, chores)| (call, chores.len())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_looks_counts_and_none_is_made_twice_at_once() {
        let rooms = Rooms::default();
        rooms.look_in(call(1), 3 * SECOND);
        rooms.look_in(call(1), SECOND);
        rooms.look_in(call(1), 2 * SECOND);
        assert_eq!(due(&rooms), []);
        tokio::time::advance(SECOND).await;
        assert_eq!(due(&rooms), [(call(1), 0)]);
        rooms.look(call(1));
        assert_eq!((due(&rooms), rooms.next()), (vec![], None), "it is being looked at");
        rooms.done(call(1));
        assert_eq!(due(&rooms), [(call(1), 0)]);
        rooms.done(call(1));
        tokio::time::advance(SECOND).await;
        assert_eq!(due(&rooms), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_chore_waits_for_its_own_time() {
        let rooms = Rooms::default();
        rooms.look_and(call(1), Chore::new(Work::StopUnknown, 2 * SECOND));
        rooms.look_and(call(1), reflect("a", true, Duration::ZERO));
        assert_eq!(due(&rooms), [(call(1), 1)]);
        rooms.done(call(1));
        assert_eq!(due(&rooms), []);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(due(&rooms), [(call(1), 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_that_are_as_good_is_done_and_no_end_of_a_recording_is_dropped() {
        let rooms = Rooms::default();
        for video in [true, false, true] {
            rooms.look_and(call(1), reflect("a", video, Duration::ZERO));
        }
        assert_eq!(due(&rooms), [(call(1), 1)]);
        rooms.done(call(1));
        for stay in 0..2 * CHORES_MAX {
            rooms.look_and(call(1), reflect(&stay.to_string(), true, Duration::ZERO));
        }
        rooms.look_and(call(1), Chore::new(Work::Stop("e".into()), Duration::ZERO));
        let (_, _, chores) = rooms.take(Instant::now()).unwrap();
        assert_eq!(chores.len(), CHORES_MAX + 1);
        assert_eq!(chores.last().unwrap().what, Work::Stop("e".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_livekit_goes_at_once_when_it_is_back() {
        let rooms = Rooms::default();
        let away = MediaError::new("asking", Kind::Away);
        let busy = MediaError::new("asking", Kind::Busy);
        rooms.heard(Err(&busy));
        assert!(!rooms.is_away(), "a crowd of our own");
        rooms.heard(Err(&away));
        rooms.again(call(1), Due { at: Instant::now() + 9 * SECOND, tries: 5 }, Vec::new());
        assert!(rooms.is_away() && due(&rooms).is_empty());
        rooms.heard(Ok(&()));
        assert!(!rooms.is_away());
        assert_eq!(rooms.take(Instant::now()).map(|it| (it.0, it.1)), Some((call(1), 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_no_call_came_to_know_is_looked_at() {
        let rooms = Rooms::default();
        rooms.making(call(1)).keep();
        let making = rooms.making(call(2));
        assert!(rooms.is_being_made(call(2)) && !rooms.is_being_made(call(1)));
        drop(making);
        assert!(!rooms.is_being_made(call(2)));
        tokio::time::advance(UNUSED_ROOM).await;
        assert_eq!(due(&rooms), [(call(2), 0)]);
    }
}
