//! From the texts of all variables to the settings.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;

use super::livekit;
use super::rates::{RATE_FORM, Rate, Rates, Rule};
use super::reader::Reader;
use super::redis;
use super::{
    Calls, Config, Data, Database, Environment, Identity, JournalSync, LogLevel, Media, Origins,
    Secret, Server, SettingError, TlsFiles, TurnCredentials,
};

/// The shortest secret that production takes: HS256's own key length (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Passwords that stand in examples, so that everybody knows them.
const TURN_PASSWORDS_KNOWN: &[&str] =
    &["suppassword", "password", "turnpassword", "changeme", "secret"];
/// LiveKit's own development keys and those of the examples.
const LIVEKIT_KEYS_KNOWN: &[&str] = &["devkey", "secret", "your_api_key", "your_api_secret"];
/// A longer drain would be killed by any supervisor before it ended.
const DRAIN_SECONDS_MAX: u64 = 600;
/// The longest any timer of a call can be set to: a week.
const SECONDS_MAX: u64 = 7 * 24 * 3600;
const DAYS_MAX: u64 = 36_500;

impl Config {
    /// Reads every variable, `set` giving the text of those that are set.
    ///
    /// # Errors
    /// The first setting that is not allowed.
    pub fn load(set: impl FnMut(&str) -> Option<String>) -> Result<Self, SettingError> {
        let reader = Reader::new(set);
        let environment = match reader.text("NODE_ENV").to_ascii_lowercase().as_str() {
            "production" => Environment::Production,
            _ => Environment::Development,
        };
        if environment == Environment::Production {
            refuse_known_secrets(&reader)?;
        }
        Ok(Self {
            environment,
            server: server(&reader, environment)?,
            data: data(&reader)?,
            database: database(&reader)?,
            redis: redis::read(&reader)?,
            identity: identity(&reader, environment)?,
            media: media(&reader, environment)?,
            calls: calls(&reader)?,
            rates: rates(&reader)?,
            log_level: reader
                .word("LOG_LEVEL", &LogLevel::ALL.map(|level| (level.name(), level)))?,
        })
    }
}

/// What every reader of the examples knows protects nothing.
fn refuse_known_secrets(reader: &Reader) -> Result<(), SettingError> {
    let known = |name: &str, list: &[&str]| {
        if list.contains(&reader.text(name)) {
            let held = "holds a value known from examples";
            return Err(SettingError::new(name, held, "in production, a secret of your own"));
        }
        Ok(())
    };
    known("TURN_PASSWORD", TURN_PASSWORDS_KNOWN)?;
    known("TURN_SECRET", TURN_PASSWORDS_KNOWN)?;
    known("LIVEKIT_API_KEY", LIVEKIT_KEYS_KNOWN)?;
    known("LIVEKIT_API_SECRET", LIVEKIT_KEYS_KNOWN)
}

fn server(reader: &Reader, environment: Environment) -> Result<Server, SettingError> {
    let production = environment == Environment::Production;
    let port = reader.number("PORT", 0..=u16::MAX)?;
    let ws_port = reader.number_or("WS_PORT", "off", 0..=u16::MAX)?;
    let console = match reader.optional("CONSOLE") {
        Some(_) => reader.switch("CONSOLE")?,
        None => !production,
    };
    let host: Option<IpAddr> = reader.text("HOST").parse().ok();
    Ok(Server {
        node_name: redis::node_name(reader)?,
        host: host.ok_or_else(|| reader.wrong("HOST", "an IP address, as 0.0.0.0, ::1 or ::"))?,
        port,
        ws_port: ws_port.filter(|it| *it != port || port == 0),
        metrics_port: reader.number_or("METRICS_PORT", "off", 0..=u16::MAX)?,
        origins: origins(reader, production)?,
        console,
        dev_endpoints: !production,
        tls: tls(reader)?,
        ws_threads: reader.number("WS_THREADS", 1..=256)?,
        trusted_proxies: reader
            .list("TRUSTED_PROXIES", "addresses or networks, as 10.0.0.0/8, comma separated", net)?
            .into(),
        connections_max: reader.number("CONNECTIONS_MAX", 1..=10_000_000)?,
        connections_per_address_max: reader.number_or(
            "CONNECTIONS_PER_ADDRESS_MAX",
            "off",
            1..=10_000_000,
        )?,
        sockets_max: reader.number("SOCKETS_MAX", 1..=10_000_000)?,
        sockets_per_user_max: reader.number("SOCKETS_PER_USER_MAX", 1..=1000)?,
        drain_timeout: reader.seconds("DRAIN_TIMEOUT", 0..=DRAIN_SECONDS_MAX)?,
    })
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// In production no page of another origin may call unless it is named.
fn origins(reader: &Reader, production: bool) -> Result<Origins, SettingError> {
    let text = reader.text("CORS_ORIGIN");
    if text == "*" || (text.is_empty() && !production) {
        return Ok(Origins::Any);
    }
    let allowed = "* or origins as https://example.com:8443, comma separated";
    let list = reader.list("CORS_ORIGIN", allowed, |part| {
        let origin = part.trim_end_matches('/').to_ascii_lowercase();
        let (scheme, host) = origin.split_once("://")?;
        let plain = |it: u8| it.is_ascii_graphic() && !b"/?#*\\@\"<>".contains(&it);
        let scheme_fine =
            scheme.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it));
        let fine = scheme_fine && !scheme.is_empty() && !host.is_empty() && host.bytes().all(plain);
        fine.then(|| Arc::from(origin.as_str()))
    })?;
    Ok(Origins::Listed(list.into()))
}

fn tls(reader: &Reader) -> Result<Option<TlsFiles>, SettingError> {
    let file = |name: &str| match reader.optional(name).map(PathBuf::from) {
        Some(path) if !path.is_file() => Err(reader.wrong(name, "the path of a PEM file")),
        path => Ok(path),
    };
    match (file("TLS_CERT")?, file("TLS_KEY")?) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(reader.wrong("TLS_KEY", "a PEM file, since TLS_CERT is set")),
        (None, Some(_)) => Err(reader.wrong("TLS_CERT", "a PEM file, since TLS_KEY is set")),
    }
}

fn data(reader: &Reader) -> Result<Data, SettingError> {
    let days = |name| {
        let days = reader.number_or(name, "forever", 1..=DAYS_MAX)?;
        Ok(days.map(|it| Duration::from_hours(24 * it)))
    };
    let sync =
        [("full", JournalSync::Full), ("normal", JournalSync::Normal), ("off", JournalSync::Off)];
    Ok(Data {
        dir: PathBuf::from(reader.text("DATA_DIR")),
        journal_sync: reader.word("JOURNAL_SYNC", &sync)?,
        migrate: reader.switch("MIGRATE")?,
        quality_retention: days("QUALITY_RETENTION_DAYS")?,
        call_retention: days("CALL_RETENTION_DAYS")?,
    })
}

fn database(reader: &Reader) -> Result<Option<Database>, SettingError> {
    let milliseconds = |name, range| reader.number(name, range).map(Duration::from_millis);
    let replica = reader.secret("DATABASE_REPLICA_URL");
    let database = Database {
        url: match reader.secret("DATABASE_URL") {
            Some(url) => url,
            None if replica.is_none() => return Ok(None),
            None => return Err(reader.wrong("DATABASE_REPLICA_URL", "only with DATABASE_URL")),
        },
        replica,
        read_connections_max: reader.number("DATABASE_CONNECTIONS_MAX", 1..=1000)?,
        read_timeout: milliseconds("DATABASE_READ_TIMEOUT", 10..=60_000)?,
        batch_rows_max: reader.number("DATABASE_BATCH_ROWS", 1..=10_000)?,
        batch_bytes_max: reader.number("DATABASE_BATCH_BYTES", 1024..=64 * 1024 * 1024)?,
        batch_age: milliseconds("DATABASE_BATCH_AGE", 1..=10_000)?,
        local_keep: reader.seconds("DATABASE_LOCAL_KEEP", 0..=SECONDS_MAX)?,
    };
    Ok(Some(database))
}

fn identity(reader: &Reader, environment: Environment) -> Result<Identity, SettingError> {
    // Carried in one line of an env file, a PEM has its line ends written out.
    let public_key = reader.optional("JWT_PUBLIC_KEY").map(|pem| pem.replace("\\n", "\n"));
    let mut secret = reader.secret("JWT_SECRET");
    if environment == Environment::Production {
        let allowed = "in production, at least 32 bytes that nobody can guess, or JWT_PUBLIC_KEY";
        long_enough(reader, "JWT_SECRET", allowed)?;
        long_enough(reader, "JWT_SECRET_PREVIOUS", "in production, at least 32 bytes")?;
        if secret.is_none() && public_key.is_none() {
            return Err(reader.wrong("JWT_SECRET", allowed));
        }
    }
    let made_up = secret.is_none() && environment == Environment::Development;
    if made_up {
        secret = Some(random_secret()?);
    }
    Ok(Identity {
        secret,
        previous_secret: reader.secret("JWT_SECRET_PREVIOUS"),
        public_key: public_key.map(Arc::from),
        made_up,
    })
}

fn long_enough(reader: &Reader, name: &str, allowed: &str) -> Result<(), SettingError> {
    match reader.optional(name) {
        Some(text) if text.len() < SECRET_BYTES_MIN => Err(reader.wrong(name, allowed)),
        _ => Ok(()),
    }
}

fn random_secret() -> Result<Secret, SettingError> {
    let mut bytes = [0; SECRET_BYTES_MIN];
    getrandom::fill(&mut bytes).map_err(|error| {
        let held = format!("is not set, and this system gives no random bytes ({error})");
        SettingError::new("JWT_SECRET", held, "a secret of at least 32 bytes")
    })?;
    Ok(Secret::new(&URL_SAFE_NO_PAD.encode(bytes)))
}

fn media(reader: &Reader, environment: Environment) -> Result<Media, SettingError> {
    if environment == Environment::Production {
        let allowed = "in production, at least 32 bytes that nobody can guess";
        long_enough(reader, "LIVEKIT_API_SECRET", allowed)?;
    }
    let turn_urls = reader.addresses("TURN_SERVER_URL", &["turn:", "turns:"])?;
    let ttl = reader.seconds("TURN_TTL", 10..=24 * 3600)?;
    let fixed = (reader.optional("TURN_USERNAME"), reader.secret("TURN_PASSWORD"));
    let turn_credentials = match (reader.secret("TURN_SECRET"), fixed) {
        (Some(secret), _) => TurnCredentials::Timed { secret, ttl },
        (None, (Some(username), Some(password))) => {
            TurnCredentials::Fixed { username: Arc::from(username), password }
        }
        (None, (None, None)) => TurnCredentials::None,
        (None, (Some(_), None)) => {
            return Err(reader.wrong("TURN_PASSWORD", "a password, since TURN_USERNAME is set"));
        }
        (None, (None, Some(_))) => {
            return Err(reader.wrong("TURN_USERNAME", "a name, since TURN_PASSWORD is set"));
        }
    };
    if matches!(turn_credentials, TurnCredentials::None) && !turn_urls.is_empty() {
        let allowed = "with TURN_SERVER_URL, a secret, or TURN_USERNAME and TURN_PASSWORD";
        return Err(reader.wrong("TURN_SECRET", allowed));
    }
    let stun_urls = reader.addresses("STUN_SERVER_URL", &["stun:", "stuns:"])?;
    Ok(Media { stun_urls, turn_urls, turn_credentials, livekit: livekit::read(reader)? })
}

fn calls(reader: &Reader) -> Result<Calls, SettingError> {
    let interval = reader.number("QUALITY_CHECK_INTERVAL", 1000..=600_000)?;
    Ok(Calls {
        participants_max: reader.number("MAX_CALL_PARTICIPANTS", 2..=50)?,
        duration_max: reader.seconds("MAX_CALL_DURATION", 1..=SECONDS_MAX)?,
        ringing_timeout: reader.seconds("RINGING_TIMEOUT", 1..=SECONDS_MAX)?,
        connection_timeout: reader.seconds("CONNECTION_TIMEOUT", 1..=SECONDS_MAX)?,
        reconnect_grace: reader.seconds("RECONNECT_GRACE", 1..=SECONDS_MAX)?,
        alone_timeout: reader.seconds("ALONE_TIMEOUT", 1..=SECONDS_MAX)?,
        quality_interval: Duration::from_millis(interval),
        rings_per_user_max: reader.number("RINGS_PER_USER_MAX", 1..=100)?,
        live_max: reader.number("CALLS_MAX", 1..=1_000_000)?,
    })
}

fn rates(reader: &Reader) -> Result<Rates, SettingError> {
    let mut rates = Vec::new();
    for rule in Rule::ALL {
        let (name, _) = rule.variable();
        if reader.text(name) != "off" {
            let rate = Rate::parse(reader.text(name));
            rates.push((rule, rate.ok_or_else(|| reader.wrong(name, RATE_FORM))?));
        }
    }
    Ok(if reader.switch("RATE_LIMITS")? { Rates(rates) } else { Rates::off() })
}
