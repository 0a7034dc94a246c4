//! Settings as operators write them, good and bad.

use std::ffi::OsString;
use std::time::Duration;

use super::command::{CommandError, Task, command, read};
use super::rates::Rule;
use super::{Config, Environment, JournalSync, Origins, TurnCredentials, variables};

const LONG: &str = "0123456789abcdef0123456789abcdef";

fn load(set: &[(&str, &str)]) -> Result<Config, String> {
    let find =
        |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, text)| (*text).to_owned());
    Config::load(find).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_the_contracts() {
    let config = load(&[]).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert_eq!((config.server.port, config.server.ws_port), (3003, None));
    assert_eq!(config.server.metrics_port, Some(9091));
    assert_eq!(config.server.origins, Origins::Any);
    assert!(config.server.console && config.server.dev_endpoints);
    assert_eq!(config.calls.participants_max, 8);
    assert_eq!(config.calls.duration_max, Duration::from_hours(4));
    assert_eq!(config.calls.ringing_timeout, Duration::from_mins(1));
    assert_eq!(config.calls.quality_interval, Duration::from_secs(5));
    assert_eq!(config.data.journal_sync, JournalSync::Full);
    assert_eq!(config.data.quality_retention, Some(Duration::from_hours(7 * 24)));
    assert_eq!(config.data.call_retention, None);
    assert!(config.identity.made_up);
    assert!(config.identity.secret.unwrap().expose().len() >= 32);
    assert_eq!(config.rates.iter().count(), Rule::ALL.len());
}

#[test]
fn made_up_secrets_differ() {
    let secret = || load(&[]).unwrap().identity.secret.unwrap();
    assert_ne!(secret(), secret());
}

#[test]
fn what_is_set_holds() {
    let config = load(&[
        ("NODE_ENV", "production"),
        ("JWT_SECRET", LONG),
        ("PORT", " 8080 "),
        ("WS_PORT", "8080"),
        ("METRICS_PORT", "off"),
        ("CORS_ORIGIN", "https://A.example, http://localhost:5173/"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("TURN_SERVER_URL", "turn:a.example:3478?transport=udp,turns:a.example"),
        ("TURN_SECRET", "shared"),
        ("RATE_LIMIT_START", "1/1h:1"),
        ("RATE_LIMIT_READ", "off"),
        ("JOURNAL_SYNC", "NORMAL"),
        ("CALL_RETENTION_DAYS", "30"),
        ("DATABASE_URL", ""),
    ])
    .unwrap();
    assert_eq!(config.environment, Environment::Production);
    assert!(!config.server.console && !config.server.dev_endpoints);
    assert_eq!((config.server.port, config.server.ws_port), (8080, None), "the same port is one");
    assert_eq!(config.server.metrics_port, None);
    assert!(config.server.origins.allow("https://a.example"));
    assert!(config.server.origins.allow("http://localhost:5173"));
    assert!(!config.server.origins.allow("http://localhost:5174"));
    assert!(!config.server.origins.allow("null"));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert!(matches!(config.media.turn_credentials, TurnCredentials::Timed { .. }));
    assert_eq!(config.media.turn_urls.len(), 2);
    assert_eq!(config.data.call_retention, Some(Duration::from_hours(30 * 24)));
    let rate = |rule| config.rates.iter().find(|(it, _)| *it == rule).map(|(_, rate)| rate);
    assert_eq!(rate(Rule::Start).unwrap().period, Duration::from_hours(1));
    assert_eq!(rate(Rule::Read), None);
    assert!(!config.identity.made_up);
}

#[test]
fn rate_limits_off_lifts_all() {
    assert_eq!(load(&[("RATE_LIMITS", "off")]).unwrap().rates.iter().count(), 0);
}

type Bad = (&'static [(&'static str, &'static str)], &'static str);

const BAD: &[Bad] = &[
    (&[("PORT", "abc")], "PORT holds \"abc\"; allowed: a whole number from 0 to 65535"),
    (&[("PORT", "70000")], "PORT holds \"70000\"; allowed: a whole number from 0 to 65535"),
    (&[("PORT", "80\n90")], "PORT holds \"80\\n90\"; allowed: a whole number from 0 to 65535"),
    (
        &[("METRICS_PORT", "no")],
        "METRICS_PORT holds \"no\"; allowed: a whole number from 0 to 65535 or off",
    ),
    (
        &[("MAX_CALL_PARTICIPANTS", "1")],
        "MAX_CALL_PARTICIPANTS holds \"1\"; allowed: a whole number from 2 to 50",
    ),
    (
        &[("RINGING_TIMEOUT", "-5")],
        "RINGING_TIMEOUT holds \"-5\"; allowed: a whole number from 1 to 604800 (seconds)",
    ),
    (
        &[("HOST", "localhost")],
        "HOST holds \"localhost\"; allowed: an IP address, as 0.0.0.0, ::1 or ::",
    ),
    (&[("JOURNAL_SYNC", "always")], "JOURNAL_SYNC holds \"always\"; allowed: full, normal, off"),
    (&[("MIGRATE", "yes")], "MIGRATE holds \"yes\"; allowed: on, off, true, false"),
    (
        &[("CORS_ORIGIN", "example.com")],
        "CORS_ORIGIN holds \"example.com\"; allowed: * or origins as https://example.com:8443, comma separated",
    ),
    (
        &[("STUN_SERVER_URL", "http://x")],
        "STUN_SERVER_URL holds \"http://x\"; allowed: stun:HOST[:PORT] or stuns:HOST[:PORT], comma separated",
    ),
    (
        &[("TURN_SERVER_URL", "turn:x")],
        "TURN_SECRET is not set; allowed: with TURN_SERVER_URL, a secret, or TURN_USERNAME and TURN_PASSWORD",
    ),
    (
        &[("TURN_USERNAME", "u")],
        "TURN_PASSWORD is not set; allowed: a password, since TURN_USERNAME is set",
    ),
    (
        &[("TLS_CERT", "/nowhere.pem")],
        "TLS_CERT holds \"/nowhere.pem\"; allowed: the path of a PEM file",
    ),
    (
        &[("TRUSTED_PROXIES", "10.0.0.0/99")],
        "TRUSTED_PROXIES holds \"10.0.0.0/99\"; allowed: addresses or networks, as 10.0.0.0/8, comma separated",
    ),
    (
        &[("RATE_LIMIT_JOIN", "30")],
        "RATE_LIMIT_JOIN holds \"30\"; allowed: off, or COUNT/PERIOD[:BURST] as in 6/1min:3, the period in s, min or h, up to 24h",
    ),
    (
        &[("LOG_LEVEL", "verbose")],
        "LOG_LEVEL holds \"verbose\"; allowed: off, error, warn, info, debug, trace",
    ),
    (
        &[("REDIS_URL", "redis://:pass@x")],
        "REDIS_URL holds 15 bytes (not shown); allowed: only together with DATABASE_URL (nodes would keep histories apart)",
    ),
    (
        &[("DATABASE_URL", "postgresql://u:p@x/y"), ("REDIS_URL", "http://:pass@x")],
        "REDIS_URL holds 14 bytes (not shown); allowed: redis://USER:PASSWORD@HOST:PORT, redis-cluster://HOST:PORT?node=HOST:PORT or redis-sentinel://HOST:PORT?node=HOST:PORT&sentinelServiceName=NAME; rediss with TLS",
    ),
    (
        &[("REDIS_PREFIX", "{calls}")],
        "REDIS_PREFIX holds \"{calls}\"; allowed: up to 32 characters of A-Z a-z 0-9 _ . : -",
    ),
    (
        &[("REDIS_TLS_CA", "/nowhere.pem")],
        "REDIS_TLS_CA holds \"/nowhere.pem\"; allowed: the path of a PEM file",
    ),
    (
        &[("NODE_NAME", "a.b")],
        "NODE_NAME holds \"a.b\"; allowed: up to 64 characters of A-Z a-z 0-9 _ -",
    ),
    (
        &[("LIVEKIT_URL", "ws://x"), ("LIVEKIT_API_KEY", "k")],
        "LIVEKIT_API_SECRET is not set; allowed: LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET together, or none",
    ),
    (
        &[("LIVEKIT_URL", "x:7880"), ("LIVEKIT_API_KEY", "k"), ("LIVEKIT_API_SECRET", "s")],
        "LIVEKIT_URL holds \"x:7880\"; allowed: ws://HOST[:PORT] or wss://HOST[:PORT] or http://HOST[:PORT] or https://HOST[:PORT]",
    ),
    (
        &[("RECORDING_DIR", "/var/calls")],
        "RECORDING_DIR holds \"/var/calls\"; allowed: only with LIVEKIT_URL",
    ),
    (
        &[
            ("LIVEKIT_URL", "ws://x"),
            ("LIVEKIT_API_KEY", "k"),
            ("LIVEKIT_API_SECRET", "s"),
            ("RECORDING_S3_BUCKET", "b"),
            ("RECORDING_PREFIX", "a/../b"),
        ],
        "RECORDING_PREFIX holds \"a/../b\"; allowed: a path of A-Z a-z 0-9 - _ . / = without .. and without a slash in front",
    ),
    (
        &[("DATABASE_REPLICA_URL", "postgresql://u:p@x/y")],
        "DATABASE_REPLICA_URL holds 20 bytes (not shown); allowed: only with DATABASE_URL",
    ),
    (
        &[("DATABASE_URL", "postgresql://u:p@x/y"), ("DATABASE_BATCH_ROWS", "0")],
        "DATABASE_BATCH_ROWS holds \"0\"; allowed: a whole number from 1 to 10000",
    ),
];

#[test]
fn addresses_of_redis() {
    for (url, is_fine) in [
        ("redis://h", true),
        ("redis://:pass@h:6379", true),
        ("rediss://user:p%40ss@h:6379", true),
        ("redis-cluster://h:7000?node=i:7001&node=j:7002", true),
        ("rediss-cluster://u:p@h:7000", true),
        ("redis-sentinel://h:26379?node=i:26379&sentinelServiceName=calls", true),
        ("redis-sentinel://h:26379", false),
        ("redis-cluster://h:7000?node=i", false),
        ("redis://", false),
        ("redis://h:port", false),
        ("redis://h/a/b", false),
        ("unix:///tmp/redis", false),
        ("h:6379", false),
    ] {
        let set = [("DATABASE_URL", "postgresql://u:p@x/y"), ("REDIS_URL", url)];
        assert_eq!(load(&set).is_ok(), is_fine, "{url}");
    }
    let config = load(&[("NODE_NAME", "node-1")]).unwrap();
    assert_eq!(config.server.node_name.as_deref(), Some("node-1"));
    assert!(config.redis.is_none());
}

/// Each bad value is told in one line with the variable, what it holds and what is allowed.
#[test]
fn bad_values_are_told_in_one_line() {
    for (set, wanted) in BAD {
        assert_eq!(load(set).unwrap_err(), *wanted);
    }
}

#[test]
fn production_refuses_weak_secrets() {
    let production = |more: &[(&'static str, &'static str)]| {
        let mut set = vec![("NODE_ENV", "production")];
        set.extend_from_slice(more);
        load(&set).map_err(|error| error.split_once(';').unwrap().0.to_owned())
    };
    let long = ("JWT_SECRET", LONG);
    for (more, wanted) in [
        (vec![], "JWT_SECRET is not set"),
        (vec![("JWT_SECRET", "short")], "JWT_SECRET holds 5 bytes (not shown)"),
        (
            vec![long, ("JWT_SECRET_PREVIOUS", "short")],
            "JWT_SECRET_PREVIOUS holds 5 bytes (not shown)",
        ),
        (
            vec![long, ("TURN_USERNAME", "supuser"), ("TURN_PASSWORD", "suppassword")],
            "TURN_PASSWORD holds a value known from examples",
        ),
        (
            vec![long, ("LIVEKIT_API_KEY", "devkey")],
            "LIVEKIT_API_KEY holds a value known from examples",
        ),
        (
            vec![long, ("LIVEKIT_API_SECRET", "short")],
            "LIVEKIT_API_SECRET holds 5 bytes (not shown)",
        ),
    ] {
        assert_eq!(production(&more).unwrap_err(), wanted);
    }
    let config = production(&[long]).unwrap();
    // Without a word of the operator no page of another origin may call (CVE-2020-28481).
    assert_eq!(config.server.origins, Origins::Listed([].into()));
    let config = production(&[("JWT_PUBLIC_KEY", "-----BEGIN\\nX")]).unwrap();
    assert!(config.identity.secret.is_none());
    assert_eq!(config.identity.public_key.as_deref(), Some("-----BEGIN\nX"));
}

#[test]
fn a_secret_is_never_shown() {
    let config =
        load(&[("JWT_SECRET", LONG), ("TURN_SERVER_URL", "turn:x"), ("TURN_SECRET", "hush")]);
    let shown = format!("{:?}", config.unwrap());
    assert!(!shown.contains(LONG) && !shown.contains("hush"), "{shown}");
}

fn arguments(line: &str) -> impl Iterator<Item = OsString> {
    line.split_whitespace().map(OsString::from).collect::<Vec<_>>().into_iter()
}

#[test]
fn the_command_line() {
    command().debug_assert();
    for (line, wanted) in [
        ("call-service", Task::Serve),
        ("call-service serve", Task::Serve),
        ("call-service check", Task::Check),
        ("call-service migrate", Task::Migrate),
        ("call-service erase --user alice", Task::Erase { user: "alice".to_owned() }),
    ] {
        assert_eq!(read(arguments(line)).unwrap().0, wanted, "{line}");
    }
    for line in
        ["call-service --port 81", "call-service serve --port 81", "call-service --port 81 serve"]
    {
        assert_eq!(read(arguments(line)).unwrap().1.server.port, 81, "{line}");
    }
    assert!(matches!(
        read(arguments("call-service --port x")),
        Err(CommandError::Setting(error)) if error.variable == "PORT"
    ));
    for (line, is_failure) in
        [("call-service --help", false), ("call-service fly", true), ("call-service erase", true)]
    {
        assert!(matches!(
            read(arguments(line)),
            Err(CommandError::Usage { failure, .. }) if failure == is_failure
        ));
    }
}

#[test]
fn help_lists_every_variable() {
    let help = command().render_long_help().to_string();
    for variable in variables::all() {
        assert!(
            help.contains(&format!("[env: {}]", variable.name)),
            "{} in\n{help}",
            variable.name
        );
        assert!(help.contains(variable.default), "{} in\n{help}", variable.default);
    }
}
