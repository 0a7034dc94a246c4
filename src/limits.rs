//! How often anybody may do anything: token buckets by user, address, socket or pair.
//!
//! All buckets live in one table of bounded size. When it is full, keys seen once give way before
//! keys seen often, so that a flood of new addresses pushes itself out and not the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use ipnet::IpNet;
use quick_cache::sync::Cache;

use crate::call::id::{CallId, UserId};
use crate::config::rates::{Rate, Rates, Rule};

/// Buckets that are remembered, of all rules together: about 100 bytes each.
pub const KEYS_MAX: usize = 200_000;
/// Entries of `X-Forwarded-For` that are looked at: proxies in a row, at most.
const FORWARDED_MAX: usize = 16;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A user, on whichever device.
    User(UserId),
    /// A host, or a whole IPv6 /64: see [`Key::address`].
    Address(IpAddr),
    /// One connection, by a number that the caller gives it.
    Socket(u64),
    /// One user towards another.
    Pair(UserId, UserId),
    /// One user in one call.
    InCall(UserId, CallId),
    /// Everybody together.
    All,
}

impl Key {
    /// A host's key. One IPv6 host has a /64 to choose its addresses from, so that is one key; an
    /// IPv4 address written as IPv6 is the IPv4 address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }
}

/// The address itself, or the first of its /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Too often; there will be room again in `retry_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests, try again in {} s", self.seconds())]
pub struct RateLimited {
    /// How long until one more is allowed.
    pub retry_after: Duration,
}

impl RateLimited {
    /// Whole seconds for `Retry-After`: rounded up, and never zero.
    pub fn seconds(&self) -> u64 {
        let up = u64::from(self.retry_after.subsec_nanos() > 0);
        self.retry_after.as_secs().saturating_add(up).max(1)
    }
}

type BucketKey = (Rule, Key);
type Limiter = RateLimiter<BucketKey, Table, DefaultClock>;

/// The buckets of this node.
pub struct Limits {
    rules: BTreeMap<Rule, Limiter>,
    table: Table,
}

impl Limits {
    /// Buckets for the rules that are on.
    pub fn new(rates: &Rates) -> Self {
        let table = Table(Arc::new(Cache::new(KEYS_MAX)));
        let limiter = |rate| RateLimiter::new(quota(rate), table.clone(), DefaultClock::default());
        let rules = rates.iter().map(|(rule, rate)| (rule, limiter(rate))).collect();
        Self { rules, table }
    }

    /// Buckets remembered at this moment.
    pub fn keys(&self) -> usize {
        self.table.0.len()
    }

    /// Takes one from `key`'s bucket for `rule`.
    ///
    /// # Errors
    /// Where it is empty; nothing is taken then, so that waiting helps.
    pub fn check(&self, rule: Rule, key: Key) -> Result<(), RateLimited> {
        let Some(limiter) = self.rules.get(&rule) else { return Ok(()) };
        limiter.check_key(&(rule, key)).map_err(|not_until| {
            let retry_after = not_until.wait_time_from(DefaultClock::default().now());
            RateLimited { retry_after }
        })
    }
}

fn quota(rate: Rate) -> Quota {
    let each = rate.period / rate.count.get();
    let quota = Quota::with_period(each.max(Duration::from_nanos(1)));
    quota.unwrap_or_else(|| Quota::per_second(rate.count)).allow_burst(rate.burst)
}

/// All buckets of all rules.
#[derive(Clone)]
struct Table(Arc<Buckets>);

type Buckets = Cache<BucketKey, Arc<InMemoryState>>;

impl StateStore for Table {
    type Key = BucketKey;

    fn measure_and_replace<T, F, E>(&self, key: &Self::Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(bucket) = self.0.get_or_insert_with(key, fresh);
        bucket.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// The client behind trusted proxies: the last address of `X-Forwarded-For` that is none of ours. The
/// header may come in several lines: a proxy may add its own below the client's. What stands before it was written by the client and proves nothing; from a peer that is no
/// trusted proxy nothing is believed.
pub fn client_address<'h>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'h str>,
    trusted: &[IpNet],
) -> IpAddr {
    let is_trusted = |it: IpAddr| trusted.iter().any(|net| net.contains(&it));
    let mut client = peer.to_canonical();
    for hop in forwarded.rev().flat_map(|line| line.rsplit(',')).take(FORWARDED_MAX) {
        if !is_trusted(client) {
            break;
        }
        match address_of(hop.trim()) {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
    }
    client
}

/// Proxies write `1.2.3.4`, `1.2.3.4:5678`, `::1`, `[::1]` or `[::1]:5678`.
fn address_of(hop: &str) -> Option<IpAddr> {
    let plain = hop.trim_start_matches('[').trim_end_matches(']');
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|it| it.ip());
    plain.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    fn limits(name: &str, rate: &str) -> Limits {
        let set = |it: &str| (it == name).then(|| rate.to_owned());
        Limits::new(&Config::load(set).unwrap().rates)
    }

    fn user(id: &str) -> Key {
        Key::User(UserId::parse(id).unwrap())
    }

    #[test]
    fn a_burst_then_a_wait() {
        let limits = limits("RATE_LIMIT_START", "6/1h:3");
        for _ in 0..3 {
            limits.check(Rule::Start, user("a")).unwrap();
        }
        let refused = limits.check(Rule::Start, user("a")).unwrap_err();
        assert!(refused.seconds() > 590 && refused.seconds() <= 600, "{refused}");
        limits.check(Rule::Start, user("b")).unwrap();
        limits.check(Rule::Join, user("a")).unwrap();
    }

    #[tokio::test]
    async fn waiting_as_told_helps() {
        let limits = limits("RATE_LIMIT_JOIN", "200/1s:1");
        limits.check(Rule::Join, user("a")).unwrap();
        let refused = limits.check(Rule::Join, user("a")).unwrap_err();
        assert_eq!(refused.seconds(), 1, "never zero");
        tokio::time::sleep(refused.retry_after + Duration::from_millis(1)).await;
        limits.check(Rule::Join, user("a")).unwrap();
    }

    #[test]
    fn off_lifts_the_rule() {
        let limits = limits("RATE_LIMIT_START", "off");
        for _ in 0..1000 {
            limits.check(Rule::Start, user("a")).unwrap();
        }
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_does_not_free_the_busy() {
        let limits = limits("RATE_LIMIT_FAILED_AUTH", "10/24h:10");
        let attacker = || Key::address("192.0.2.1".parse().unwrap());
        while limits.check(Rule::FailedAuth, attacker()).is_ok() {}
        for bits in 0..u32::try_from(KEYS_MAX + KEYS_MAX / 4).unwrap() {
            let key = Key::Address(IpAddr::V4((0x0a00_0000 + bits).into()));
            assert!(limits.check(Rule::FailedAuth, key).is_ok(), "a fresh bucket is full");
        }
        assert!(limits.keys() <= KEYS_MAX, "{}", limits.keys());
        assert!(limits.check(Rule::FailedAuth, attacker()).is_err(), "still remembered");
    }

    #[test]
    fn addresses() {
        for (address, wanted) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(address.parse().unwrap()).to_string(), wanted);
        }
    }

    #[test]
    fn forwarded_addresses() {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "::1/128"].iter().map(|it| it.parse().unwrap()).collect();
        for (peer, header, wanted) in [
            ("192.0.2.1", Some("198.51.100.9"), "192.0.2.1"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("10.0.0.1", Some("198.51.100.9"), "198.51.100.9"),
            ("10.0.0.1", Some("1.1.1.1, 198.51.100.9"), "198.51.100.9"),
            ("10.0.0.1", Some("1.1.1.1, 198.51.100.9, 10.2.3.4"), "198.51.100.9"),
            ("10.0.0.1", Some("198.51.100.9:4711"), "198.51.100.9"),
            ("10.0.0.1", Some("[2001:db8::1]:4711"), "2001:db8::1"),
            ("10.0.0.1", Some("[2001:db8::1]"), "2001:db8::1"),
            ("::ffff:10.0.0.1", Some("198.51.100.9"), "198.51.100.9"),
            ("10.0.0.1", Some("unknown, nonsense"), "10.0.0.1"),
            ("10.0.0.1", Some(""), "10.0.0.1"),
        ] {
            let client = client_address(peer.parse().unwrap(), header.into_iter(), &trusted);
            assert_eq!(client.to_string(), wanted, "{peer} {header:?}");
        }
        for (lines, wanted) in [
            (["1.1.1.1", "198.51.100.9"], "198.51.100.9"),
            (["198.51.100.9", "10.2.3.4"], "198.51.100.9"),
            (["1.1.1.1, 198.51.100.9", "10.2.3.4, 10.2.3.5"], "198.51.100.9"),
            (["1.1.1.1", ""], "10.0.0.1"),
        ] {
            let client = client_address("10.0.0.1".parse().unwrap(), lines.into_iter(), &trusted);
            assert_eq!(client.to_string(), wanted, "{lines:?}");
        }
    }

    proptest! {
        /// Never more than the burst and what the time that went by allows.
        #[test]
        fn never_above_the_rate(count in 1_u32..50, burst in 1_u32..50, tries in 1_u32..200) {
            let limits = limits("RATE_LIMIT_EVENT", &format!("{count}/1h:{burst}"));
            let passed = (0..tries).filter(|_| limits.check(Rule::Event, user("a")).is_ok()).count();
            prop_assert_eq!(passed, usize::try_from(tries.min(burst)).unwrap());
        }
    }
}
