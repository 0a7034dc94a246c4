//! The rate limits by name: what each counts, and how much of it is allowed by default.

use std::num::NonZeroU32;
use std::time::Duration;

/// Something that may be done only so often. The figures are the defaults, each a token bucket:
/// so many a period, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Starting a call, a user: 6 a minute, 3 at once.
    Start,
    /// Starting a call, a user: 60 an hour.
    StartHourly,
    /// Ringing one invitee, per caller and invitee: 10 a minute.
    Invite,
    /// Joining and accepting, a user: 30 a minute.
    Join,
    /// Asking for a new media token, a user: 12 a minute.
    Token,
    /// Ending, leaving, declining, a user: 30 a minute.
    Leave,
    /// Media toggles and PATCH, a user: 10 a second, 20 at once.
    Toggle,
    /// Relayed `webrtc:*` events, a socket: 50 a second, 200 at once.
    Relay,
    /// Events of any kind, a socket: 50 a second, 200 at once.
    Event,
    /// Quality samples, a user and call: one in 5 s; two at once, since a client's timer wavers.
    Quality,
    /// REST reads, a user: 10 a second, 40 at once.
    Read,
    /// History and stats, a user: 2 a second.
    History,
    /// Socket.IO handshakes, a user: 5 a second.
    HandshakeUser,
    /// Socket.IO handshakes, an address: 20 a second.
    HandshakeAddress,
    /// Tokens that do not verify, an address: 10 in 30 minutes.
    FailedAuth,
    /// Webhooks, in all: 500 a second.
    Webhook,
    /// Refusals by the other rules, a socket: past 10 a minute it is disconnected.
    Violation,
}

impl Rule {
    /// Every rule, in the order of `--help`.
    pub const ALL: [Self; 17] = [
        Self::Start,
        Self::StartHourly,
        Self::Invite,
        Self::Join,
        Self::Token,
        Self::Leave,
        Self::Toggle,
        Self::Relay,
        Self::Event,
        Self::Quality,
        Self::Read,
        Self::History,
        Self::HandshakeUser,
        Self::HandshakeAddress,
        Self::FailedAuth,
        Self::Webhook,
        Self::Violation,
    ];

    /// The variable that sets it, and its default as that variable spells it.
    pub fn variable(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("RATE_LIMIT_START", "6/1min:3"),
            Self::StartHourly => ("RATE_LIMIT_START_HOURLY", "60/1h:60"),
            Self::Invite => ("RATE_LIMIT_INVITE", "10/1min:10"),
            Self::Join => ("RATE_LIMIT_JOIN", "30/1min:30"),
            Self::Token => ("RATE_LIMIT_TOKEN", "12/1min:12"),
            Self::Leave => ("RATE_LIMIT_LEAVE", "30/1min:30"),
            Self::Toggle => ("RATE_LIMIT_TOGGLE", "10/1s:20"),
            Self::Relay => ("RATE_LIMIT_RELAY", "50/1s:200"),
            Self::Event => ("RATE_LIMIT_EVENT", "50/1s:200"),
            Self::Quality => ("RATE_LIMIT_QUALITY", "1/5s:2"),
            Self::Read => ("RATE_LIMIT_READ", "10/1s:40"),
            Self::History => ("RATE_LIMIT_HISTORY", "2/1s:2"),
            Self::HandshakeUser => ("RATE_LIMIT_HANDSHAKE_USER", "5/1s:5"),
            Self::HandshakeAddress => ("RATE_LIMIT_HANDSHAKE_ADDRESS", "20/1s:20"),
            Self::FailedAuth => ("RATE_LIMIT_FAILED_AUTH", "10/30min:10"),
            Self::Webhook => ("RATE_LIMIT_WEBHOOK", "500/1s:500"),
            Self::Violation => ("RATE_LIMIT_VIOLATION", "10/1min:10"),
        }
    }

    /// What it counts, and for whom.
    pub fn help(self) -> &'static str {
        match self {
            Self::Start => "calls started by one user",
            Self::StartHourly => "calls started by one user in the long run",
            Self::Invite => "invitations of one user by one caller",
            Self::Join => "joins and accepts of one user",
            Self::Token => "media tokens asked for by one user",
            Self::Leave => "ends, leaves and declines of one user",
            Self::Toggle => "media toggles and PATCHes of one user",
            Self::Relay => "webrtc:* events of one socket",
            Self::Event => "events of one socket",
            Self::Quality => "quality samples of one user in one call",
            Self::Read => "REST reads of one user",
            Self::History => "history and stats reads of one user",
            Self::HandshakeUser => "Socket.IO handshakes of one user",
            Self::HandshakeAddress => "Socket.IO handshakes from one address",
            Self::FailedAuth => "tokens that do not verify, from one address",
            Self::Webhook => "webhooks, in all",
            Self::Violation => "refusals by these limits before a socket is disconnected",
        }
    }
}

/// So many a period, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in one period, in the long run.
    pub count: NonZeroU32,
    /// The period.
    pub period: Duration,
    /// How many at once after a pause.
    pub burst: NonZeroU32,
}

/// What a rate may look like: the `allowed` of a setting that does not.
pub const RATE_FORM: &str =
    "off, or COUNT/PERIOD[:BURST] as in 6/1min:3, the period in s, min or h, up to 24h";
/// A longer period would outlive what is remembered of a client.
const PERIOD_MAX: Duration = Duration::from_hours(24);

impl Rate {
    /// Reads `6/1min:3`, `50/s` or `1/5s`; without a burst it is the count.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, rest) = text.split_once('/')?;
        let (period, burst) = rest.split_once(':').unwrap_or((rest, count));
        let (count, burst) = (count.parse().ok()?, burst.parse().ok()?);
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = period.split_at_checked(digits)?;
        let number: u64 = if number.is_empty() { 1 } else { number.parse().ok()? };
        let seconds = match unit {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return None,
        };
        let period = Duration::from_secs(number.checked_mul(seconds)?);
        (!period.is_zero() && period <= PERIOD_MAX).then_some(Self { count, period, burst })
    }
}

/// The rates in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates(pub(super) Vec<(Rule, Rate)>);

impl Rates {
    /// No limit at all: `RATE_LIMITS=off`, for load tests.
    pub fn off() -> Self {
        Self(Vec::new())
    }

    /// The rules that are on, with their rates.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, Rate)> {
        self.0.iter().copied()
    }
}

impl Default for Rates {
    /// The defaults of the table above.
    fn default() -> Self {
        let rate = |rule: Rule| Rate::parse(rule.variable().1).map(|rate| (rule, rate));
        Self(Rule::ALL.into_iter().filter_map(rate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_written() {
        for (text, wanted) in [
            ("6/1min:3", Some((6, 60, 3))),
            ("50/s:200", Some((50, 1, 200))),
            ("1/5s", Some((1, 5, 1))),
            ("60/h", Some((60, 3600, 60))),
            ("60/24h", Some((60, 86_400, 60))),
            ("60/25h", None),
            ("0/1s", None),
            ("1/0s", None),
            ("1/1s:0", None),
            ("6", None),
            ("6/1d", None),
            ("-1/1s", None),
            ("6/", None),
            ("6/99999999999999999999h", None),
            ("6/9999999999999999999h", None),
            ("", None),
        ] {
            let rate = Rate::parse(text);
            let seen = rate.map(|it| (it.count.get(), it.period.as_secs(), it.burst.get()));
            assert_eq!(seen, wanted, "{text}");
        }
    }

    #[test]
    fn every_rule_has_a_default() {
        assert_eq!(Rates::default().iter().count(), Rule::ALL.len());
    }
}
