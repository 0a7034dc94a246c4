//! The settings: the environment, read once, typed.
//!
//! [`variables`] lists every variable with its default and what it means (`--help` prints that
//! list), [`reader`] turns one text into one value or a [`SettingError`], [`load`] reads them all
//! into a [`Config`], and [`command`] is the command line around it. [`rates`] names the rate limits,
//! [`livekit`] what is set of a media server, [`redis`] of what nodes share.

pub mod command;
pub mod livekit;
mod load;
pub mod rates;
mod reader;
pub mod redis;
#[cfg(test)]
mod tests;
pub mod variables;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use self::livekit::LiveKit;
use self::rates::Rates;
use self::redis::Redis;

/// Everything the service can be told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether this is production (`NODE_ENV=production`).
    pub environment: Environment,
    /// Where it listens and how much it takes in.
    pub server: Server,
    /// Where it keeps what it must not lose.
    pub data: Data,
    /// Postgres behind that, where there is one.
    pub database: Option<Database>,
    /// What nodes share, where this is one of several.
    pub redis: Option<Redis>,
    /// How tokens are checked.
    pub identity: Identity,
    /// How media flows.
    pub media: Media,
    /// The times and sizes of a call.
    pub calls: Calls,
    /// How often anybody may do anything.
    pub rates: Rates,
    /// The least important line that is still logged.
    pub log_level: LogLevel,
}

/// Strict or forthcoming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Secrets are made up where missing, the console and the dev endpoints are served.
    Development,
    /// Weak secrets stop the start, no dev endpoints.
    Production,
}

/// Where the service listens and how much it takes in.
#[derive(Debug, Clone)]
pub struct Server {
    /// What this node is called among others, the same over restarts; `None`: after its data.
    pub node_name: Option<Arc<str>>,
    /// The address of every port.
    pub host: IpAddr,
    /// REST, Socket.IO and the console; 0 takes any free port.
    pub port: u16,
    /// Socket.IO once more, where set and different from `port`.
    pub ws_port: Option<u16>,
    /// Prometheus text; `None` where off.
    pub metrics_port: Option<u16>,
    /// Pages of which origins may call.
    pub origins: Origins,
    /// Whether the call console is served at `/`.
    pub console: bool,
    /// Whether `/dev/token` and `/dev/users` exist; never in production.
    pub dev_endpoints: bool,
    /// Certificate and key, where connections are encrypted here.
    pub tls: Option<TlsFiles>,
    /// Runtimes of one thread each that carry the websockets.
    pub ws_threads: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Open HTTP connections, at most; what comes above gets a 503.
    pub connections_max: usize,
    /// Open HTTP connections from one address (IPv6: one /64), at most; `None` where unlimited.
    pub connections_per_address_max: Option<u32>,
    /// Socket.IO clients on this node, at most.
    pub sockets_max: usize,
    /// Socket.IO clients of one user, at most.
    pub sockets_per_user_max: usize,
    /// How long a stop may take, from the signal to the exit.
    pub drain_timeout: Duration,
}

/// PEM files, read at the start and again at each SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where the service keeps what it must not lose.
#[derive(Debug, Clone)]
pub struct Data {
    /// The folder of the `SQLite` file.
    pub dir: PathBuf,
    /// What is durable before an answer leaves.
    pub journal_sync: JournalSync,
    /// Whether the tables are brought up to date at the start.
    pub migrate: bool,
    /// Quality samples older than this are deleted; `None` keeps them for ever.
    pub quality_retention: Option<Duration>,
    /// Calls that ended longer ago than this are deleted; `None` keeps them for ever.
    pub call_retention: Option<Duration>,
}

/// Postgres, which rows are written behind to.
#[derive(Debug, Clone)]
pub struct Database {
    /// `DATABASE_URL`, not yet understood.
    pub url: Secret,
    /// `DATABASE_REPLICA_URL`: read where it is there.
    pub replica: Option<Secret>,
    /// Connections that read, to each server.
    pub read_connections_max: usize,
    /// How long a read may take.
    pub read_timeout: Duration,
    /// Rows of one batch, at most.
    pub batch_rows_max: usize,
    /// Bytes of one batch, but for its last row.
    pub batch_bytes_max: usize,
    /// How long a row may wait for others.
    pub batch_age: Duration,
    /// How long the local file keeps calls that are over and written behind.
    pub local_keep: Duration,
}

/// `SQLite`'s `synchronous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalSync {
    /// Survives a power cut.
    Full,
    /// Survives a kill of the process; a power cut may lose the last commits.
    Normal,
    /// For load tests: the operating system decides.
    Off,
}

/// How tokens are checked.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Signs and checks HS256; `None` in production with a public key alone.
    pub secret: Option<Secret>,
    /// Still checks, signs no more: for a change of secrets without logging anybody out.
    pub previous_secret: Option<Secret>,
    /// A public key in PEM: RS256, ES256 or `EdDSA`, by its kind.
    pub public_key: Option<Arc<str>>,
    /// Whether `secret` was made up at this start, so that its tokens end with the process.
    pub made_up: bool,
}

/// How media flows, and what helps it through firewalls.
#[derive(Debug, Clone)]
pub struct Media {
    /// `stun:` and `stuns:` addresses.
    pub stun_urls: Vec<Arc<str>>,
    /// `turn:` and `turns:` addresses.
    pub turn_urls: Vec<Arc<str>>,
    /// How a client proves itself to the TURN server.
    pub turn_credentials: TurnCredentials,
    /// The media server; `None`: calls are peer to peer.
    pub livekit: Option<LiveKit>,
}

/// How a client proves itself to the TURN server.
#[derive(Debug, Clone)]
pub enum TurnCredentials {
    /// It does not.
    None,
    /// One name and password for all.
    Fixed {
        /// `TURN_USERNAME`.
        username: Arc<str>,
        /// `TURN_PASSWORD`.
        password: Secret,
    },
    /// A name that says when it ends, and its MAC under the secret shared with coturn.
    Timed {
        /// `TURN_SECRET`: coturn's `static-auth-secret`.
        secret: Secret,
        /// How long a credential lasts.
        ttl: Duration,
    },
}

/// The times and sizes of a call.
#[derive(Debug, Clone)]
pub struct Calls {
    /// People in one call, at most.
    pub participants_max: usize,
    /// How long a connected call may last.
    pub duration_max: Duration,
    /// How long an invitee is rung.
    pub ringing_timeout: Duration,
    /// How long after the first answer a call may take to connect.
    pub connection_timeout: Duration,
    /// How long a participant who was lost may take to come back.
    pub reconnect_grace: Duration,
    /// How long one may stay alone in a group call.
    pub alone_timeout: Duration,
    /// How often clients are asked to send a quality sample.
    pub quality_interval: Duration,
    /// Calls that ring one user at once, at most.
    pub rings_per_user_max: usize,
    /// Live calls on this node, at most.
    pub live_max: usize,
}

/// The least important line that is still logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What an operator must look at.
    Error,
    /// What an operator should know.
    Warn,
    /// Starts, stops, calls that end badly.
    Info,
    /// Every command.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// From silent to talkative.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// As `LOG_LEVEL` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Pages of which origins may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any: tokens travel in headers and never in cookies, so no page gains by being called.
    Any,
    /// These, each `scheme://host` or `scheme://host:port` in lower case.
    Listed(Arc<[Arc<str>]>),
}

impl Origins {
    /// Whether a page of `origin` (as the `Origin` header says it) may call.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(list) => list.iter().any(|it| it.eq_ignore_ascii_case(origin)),
        }
    }
}

/// A text that must not be shown: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A setting that stops the start, told in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {held}; allowed: {allowed}")]
pub struct SettingError {
    /// The variable's name.
    pub variable: String,
    /// What it holds, with secrets left out.
    pub held: String,
    /// What it may hold.
    pub allowed: String,
}

impl SettingError {
    /// `variable` holds `held`, which is not `allowed`.
    pub fn new(variable: &str, held: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { variable: variable.to_owned(), held: held.into(), allowed: allowed.into() }
    }
}
