//! When to ping and when to give a client up: data only, the clock is a parameter.

use std::time::Duration;

use tokio::time::Instant;

/// What is due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this moment.
    Nothing(Instant),
    /// A ping must be sent now.
    Ping,
    /// The last ping was not answered in time.
    Timeout,
}

/// The heartbeat of one session: the server pings, the client answers.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The next ping is due then.
    Resting(Instant),
    /// A ping is out; its answer is due then.
    Pinged(Instant),
}

impl Heartbeat {
    /// The first ping comes `interval` after the handshake, not at once.
    pub fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, phase: Phase::Resting(now + interval) }
    }

    /// What must be done at `now`. After [`Due::Ping`] the ping counts as sent at the moment it
    /// was due, so that a late timer does not lengthen a dead client's life.
    pub fn check(&mut self, now: Instant) -> Due {
        match self.phase {
            Phase::Resting(at) | Phase::Pinged(at) if now < at => Due::Nothing(at),
            Phase::Resting(at) => {
                // A process that was suspended for long must not call its clients dead at once.
                let late = now.saturating_duration_since(at) > self.timeout;
                self.phase = Phase::Pinged(if late { now } else { at } + self.timeout);
                Due::Ping
            }
            Phase::Pinged(_) => Due::Timeout,
        }
    }

    /// The client answered.
    pub fn pong(&mut self, now: Instant) {
        self.phase = Phase::Resting(now + self.interval);
    }

    /// When to look again at the latest. A pong may bring the next ping nearer than the answer's
    /// deadline, hence never later than one interval from now.
    pub fn next_check(&self, now: Instant) -> Instant {
        let (Phase::Resting(at) | Phase::Pinged(at)) = self.phase;
        at.min(now + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(300);
    const TIMEOUT: Duration = Duration::from_millis(200);

    /// Milliseconds, a pong then?, what is due after it.
    type Step = (u64, bool, &'static str);

    fn check(steps: &[Step]) {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(INTERVAL, TIMEOUT, start);
        for &(at, pong, wanted) in steps {
            let now = start + Duration::from_millis(at);
            if pong {
                heartbeat.pong(now);
            }
            let due = match heartbeat.check(now) {
                Due::Nothing(until) => format!("until {}", (until - start).as_millis()),
                Due::Ping => "ping".to_owned(),
                Due::Timeout => "timeout".to_owned(),
            };
            assert_eq!(due, wanted, "at {at} ms");
        }
    }

    #[test]
    fn the_first_ping_comes_after_one_interval() {
        check(&[(0, false, "until 300"), (299, false, "until 300"), (300, false, "ping")]);
    }

    #[test]
    fn an_unanswered_ping_ends_it() {
        check(&[(300, false, "ping"), (499, false, "until 500"), (500, false, "timeout")]);
    }

    #[test]
    fn a_late_timer_does_not_lengthen_the_deadline() {
        check(&[(350, false, "ping"), (350, false, "until 500"), (500, false, "timeout")]);
    }

    #[test]
    fn after_a_long_suspension_the_client_gets_its_full_time() {
        check(&[
            (60_000, false, "ping"),
            (60_199, false, "until 60200"),
            (60_200, false, "timeout"),
        ]);
    }

    #[test]
    fn a_pong_starts_the_next_interval() {
        check(&[(300, false, "ping"), (310, true, "until 610"), (610, false, "ping")]);
    }

    #[test]
    fn a_short_interval_is_not_slept_through() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(TIMEOUT, Duration::from_secs(20), start);
        assert_eq!(heartbeat.check(start + TIMEOUT), Due::Ping);
        let now = start + TIMEOUT;
        assert_eq!(heartbeat.next_check(now), now + TIMEOUT);
    }
}
