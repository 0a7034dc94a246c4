//! Whether Redis answers, and whether our mailbox works.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::bus::error::Kind;

/// Failures in a row after which it is away: one alone may be a command that was lost on the way.
const FAILURES_MAX: u32 = 2;

/// Whether one client gets answers.
#[derive(Default)]
pub(super) struct Lamp(AtomicU32);

impl Lamp {
    /// `kind` is what a failure meant. Whoever refuses has answered.
    pub(super) fn note(&self, kind: Option<Kind>) {
        match kind {
            // Not counted on for ever: that would end at zero again.
            Some(Kind::Away) if self.is_away() => {}
            Some(Kind::Away) => {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            // Says nothing about Redis.
            Some(Kind::Crowded) => {}
            None | Some(Kind::Refused | Kind::Odd) => self.0.store(0, Ordering::Relaxed),
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FAILURES_MAX
    }

    pub(super) fn put_out(&self) {
        self.0.store(FAILURES_MAX, Ordering::Relaxed);
    }
}

/// All that is known of how it goes.
#[derive(Default)]
pub(super) struct Health {
    /// Of what is asked.
    pub(super) commands: Lamp,
    /// Of what is sent.
    pub(super) letters: Lamp,
    /// Whether we hear ourselves.
    hearing: AtomicBool,
    told: AtomicBool,
}

impl Health {
    pub(super) fn hear(&self, hearing: bool) {
        self.hearing.store(hearing, Ordering::Relaxed);
    }

    pub(super) fn is_hearing(&self) -> bool {
        self.hearing.load(Ordering::Relaxed)
    }

    pub(super) fn is_well(&self) -> bool {
        self.is_hearing() && !self.commands.is_away() && !self.letters.is_away()
    }

    /// Logs what has changed since the last time.
    pub(super) fn tell(&self) {
        let well = self.is_well();
        if self.told.swap(well, Ordering::Relaxed) == well {
            return;
        }
        if well {
            tracing::info!("Redis answers, and the mailbox works");
        } else {
            tracing::warn!(
                answers = !self.commands.is_away(),
                takes_letters = !self.letters.is_away(),
                hears = self.is_hearing(),
                "Redis is away; calls of this node go on without it"
            );
        }
    }
}
