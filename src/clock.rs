//! The only place that reads a clock: wall time for tokens, steady time for everything else.
//!
//! A call's timers must not move when an administrator sets the clock, so [`Clock::now`] reads the
//! wall once, at the start, and counts on with the monotonic clock. Tokens are the exception: they
//! are issued by others, so their lifetimes follow [`Clock::wall`].

use std::time::SystemTime;

use tokio::time::Instant;

use crate::call::time::Timestamp;

/// A clock that never jumps and never goes back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Timestamp,
    started: Instant,
}

impl Clock {
    /// Anchors the clock to the wall time of this moment.
    pub fn start() -> Self {
        Self { anchor: unix_now(), started: Instant::now() }
    }

    /// A clock that reads `anchor` now: for tests, and for a run that is replayed.
    pub fn anchored(anchor: Timestamp) -> Self {
        Self { anchor, started: Instant::now() }
    }

    /// Wall time of the start plus what has gone by since, whatever happened to the wall clock.
    pub fn now(&self) -> Timestamp {
        self.anchor.plus(self.started.elapsed())
    }

    /// What the wall clock says at this moment: for the `exp`, `nbf` and `iat` of tokens only.
    pub fn wall(&self) -> Timestamp {
        unix_now()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn unix_now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().plus(since_epoch)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_on_from_its_anchor() {
        let clock = Clock::anchored(Timestamp(1_000));
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.now(), Timestamp(1_250));
    }

    #[test]
    fn starts_at_the_wall_time() {
        let clock = Clock::start();
        assert!(clock.now().since(clock.wall()) < Duration::from_secs(1));
        assert!(clock.wall().since(clock.now()) < Duration::from_secs(1));
        assert!(clock.wall() > Timestamp(1_700_000_000_000), "this century");
    }
}
