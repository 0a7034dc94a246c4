//! Which rooms have to be looked at, when, and what is to be done there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::chores::Chore;
use crate::call::id::CallId;
use crate::media::error::{Kind, MediaError};

/// Rooms that wait to be looked at, at most: beyond it the comparison of all finds them again.
const WAITING_MAX: usize = 100_000;
/// Chores of one room that wait for LiveKit, at most.
const CHORES_MAX: usize = 64;

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
                return;
            }
            waiting.set(call, due);
            let waits = waiting.chores.entry(call).or_default();
            waits.extend(chores.into_iter().take(CHORES_MAX.saturating_sub(waits.len())));
        }
        self.wake.notify_one();
    }

    /// Notes that the room of a call to be is being made: until that is over, nobody removes it.
    pub(super) fn making(&self, call: CallId) -> Making<'_> {
        self.waiting.lock().making.insert(call);
        Making(self, call)
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
