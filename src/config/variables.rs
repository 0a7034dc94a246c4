//! Every variable the service reads, in the order of `--help`.

use super::rates::Rule;

/// One variable of the environment.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name, also its flag: `MAX_CALL_DURATION` is `--max-call-duration`.
    pub name: &'static str,
    /// What holds where it is absent or empty.
    pub default: &'static str,
    /// What it is, in which unit.
    pub help: &'static str,
    /// The heading it stands under.
    pub group: &'static str,
    /// Whether its value must not be shown.
    pub secret: bool,
}

const fn open(
    group: &'static str,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Variable {
    Variable { name, default, help, group, secret: false }
}

const fn secret(group: &'static str, name: &'static str, help: &'static str) -> Variable {
    Variable { name, default: "", help, group, secret: true }
}

const SERVER: &str = "Server";
const DATA: &str = "Data";
const NODES: &str = "Several nodes (with DATABASE_URL)";
const IDENTITY: &str = "Identity";
const MEDIA: &str = "Media";
const RECORDING: &str = "Recording (through LiveKit's egress)";
const CALLS: &str = "Calls";
const RATES: &str = "Rate limits (COUNT/PERIOD:BURST, or off)";
const MONITORING: &str = "Monitoring";

const PLAIN: &[Variable] = &[
    open(
        SERVER,
        "NODE_ENV",
        "development",
        "production is strict: no weak secret, no dev endpoint",
    ),
    open(SERVER, "HOST", "0.0.0.0", "address to listen on"),
    open(SERVER, "PORT", "3003", "REST, Socket.IO and the console; 0 takes any free port"),
    open(SERVER, "WS_PORT", "", "a second port for Socket.IO"),
    open(
        SERVER,
        "CORS_ORIGIN",
        "",
        "origins whose pages may call, comma separated, or *; default *, in production its own alone",
    ),
    open(SERVER, "CONSOLE", "", "on or off; default on, in production off"),
    open(SERVER, "TLS_CERT", "", "PEM file of the certificate chain; read again at SIGHUP"),
    open(SERVER, "TLS_KEY", "", "PEM file of its private key"),
    open(SERVER, "WS_THREADS", "1", "threads that carry websockets"),
    open(SERVER, "TRUSTED_PROXIES", "", "networks whose X-Forwarded-For is believed"),
    open(SERVER, "CONNECTIONS_MAX", "50000", "open HTTP connections, at most"),
    open(SERVER, "CONNECTIONS_PER_ADDRESS_MAX", "off", "the same from one address"),
    open(SERVER, "SOCKETS_MAX", "100000", "Socket.IO clients, at most"),
    open(SERVER, "SOCKETS_PER_USER_MAX", "10", "Socket.IO clients of one user, at most"),
    open(SERVER, "DRAIN_TIMEOUT", "25", "seconds a stop may take"),
    open(DATA, "DATA_DIR", "./data", "folder of the database file"),
    open(DATA, "JOURNAL_SYNC", "full", "full, normal or off: what is durable before an answer"),
    open(DATA, "MIGRATE", "on", "off: tables are changed by `call-service migrate` only"),
    open(DATA, "QUALITY_RETENTION_DAYS", "7", "days quality samples are kept, or forever"),
    open(DATA, "CALL_RETENTION_DAYS", "forever", "days ended calls are kept, or forever"),
    secret(DATA, "DATABASE_URL", "Postgres, written behind: postgresql://USER:PASSWORD@HOST/NAME"),
    secret(DATA, "DATABASE_REPLICA_URL", "a replica of it, for reads"),
    open(DATA, "DATABASE_CONNECTIONS_MAX", "8", "connections that read, to each of them"),
    open(DATA, "DATABASE_READ_TIMEOUT", "2000", "milliseconds a read may take"),
    open(DATA, "DATABASE_BATCH_ROWS", "500", "rows written behind at once, at most"),
    open(DATA, "DATABASE_BATCH_BYTES", "1048576", "bytes of those, but for the last row"),
    open(DATA, "DATABASE_BATCH_AGE", "50", "milliseconds a row may wait for others"),
    open(
        DATA,
        "DATABASE_LOCAL_KEEP",
        "3600",
        "seconds DATA_DIR keeps ended calls that are in Postgres",
    ),
    secret(NODES, "REDIS_URL", "Redis of all nodes: redis:, redis-cluster: or redis-sentinel:"),
    open(NODES, "REDIS_TLS_CA", "", "PEM file of certificates trusted beside the system's"),
    open(NODES, "REDIS_PREFIX", "calls:", "what every key and channel there begins with"),
    open(NODES, "NODE_NAME", "", "name of this node among them; default made from its DATA_DIR"),
    secret(IDENTITY, "JWT_SECRET", "checks HS256 tokens; default random, in production required"),
    secret(IDENTITY, "JWT_SECRET_PREVIOUS", "the secret before, still accepted"),
    open(IDENTITY, "JWT_PUBLIC_KEY", "", "PEM that checks RS256, ES256 or EdDSA tokens"),
    open(MEDIA, "STUN_SERVER_URL", "", "stun: addresses, comma separated"),
    open(MEDIA, "TURN_SERVER_URL", "", "turn: addresses, comma separated"),
    open(MEDIA, "TURN_USERNAME", "", "one name for all clients"),
    secret(MEDIA, "TURN_PASSWORD", "its password"),
    secret(MEDIA, "TURN_SECRET", "coturn's static-auth-secret, instead of name and password"),
    open(MEDIA, "TURN_TTL", "600", "seconds a credential made with TURN_SECRET lasts"),
    open(
        MEDIA,
        "LIVEKIT_URL",
        "",
        "LiveKit as clients reach it, ws: or wss:; without, peer to peer",
    ),
    secret(MEDIA, "LIVEKIT_API_KEY", "its key"),
    secret(MEDIA, "LIVEKIT_API_SECRET", "its secret; also checks its webhooks"),
    open(MEDIA, "LIVEKIT_API_URL", "", "LiveKit as this service reaches it; default LIVEKIT_URL"),
    open(MEDIA, "LIVEKIT_TOKEN_TTL", "600", "seconds a token lets its owner connect"),
    open(
        MEDIA,
        "LIVEKIT_TIMEOUT",
        "1800",
        "milliseconds a request to LiveKit may take, and a start may wait for it",
    ),
    open(MEDIA, "LIVEKIT_CONCURRENCY", "64", "requests about rooms to LiveKit at once, at most"),
    open(MEDIA, "LIVEKIT_EMPTY_TIMEOUT", "300", "seconds a room may be empty before it closes"),
    open(MEDIA, "LIVEKIT_CHECK_INTERVAL", "5000", "milliseconds between looks at all rooms"),
    open(RECORDING, "RECORDING_DIR", "", "folder, on the machine of LiveKit's egress"),
    open(RECORDING, "RECORDING_S3_BUCKET", "", "bucket of an S3 store, instead of a folder"),
    open(RECORDING, "RECORDING_S3_REGION", "", "its region"),
    open(RECORDING, "RECORDING_S3_ENDPOINT", "", "the store's address; default Amazon's"),
    open(
        RECORDING,
        "RECORDING_S3_ACCESS_KEY",
        "",
        "who writes there; default the egress' own role",
    ),
    secret(RECORDING, "RECORDING_S3_SECRET", "the secret of that key"),
    open(RECORDING, "RECORDING_S3_PATH_STYLE", "off", "on: the bucket stands in the path"),
    open(RECORDING, "RECORDING_PREFIX", "", "what every file's name begins with, as calls/"),
    open(RECORDING, "RECORDING_PUBLIC_URL", "", "where the bucket or folder can be read"),
    open(CALLS, "MAX_CALL_PARTICIPANTS", "8", "people in one call, at most"),
    open(CALLS, "MAX_CALL_DURATION", "14400", "seconds a connected call may last"),
    open(CALLS, "RINGING_TIMEOUT", "60", "seconds an invitee is rung"),
    open(CALLS, "CONNECTION_TIMEOUT", "30", "seconds a call may take to connect"),
    open(CALLS, "RECONNECT_GRACE", "30", "seconds one who was lost may take to come back"),
    open(CALLS, "ALONE_TIMEOUT", "60", "seconds one may stay alone in a group call"),
    open(CALLS, "QUALITY_CHECK_INTERVAL", "5000", "milliseconds between quality samples"),
    open(CALLS, "RINGS_PER_USER_MAX", "5", "calls that ring one user at once, at most"),
    open(CALLS, "CALLS_MAX", "50000", "live calls, at most"),
    open(MONITORING, "METRICS_PORT", "9091", "port of /metrics for Prometheus, or off"),
    open(MONITORING, "LOG_LEVEL", "info", "off, error, warn, info, debug or trace"),
    open(RATES, "RATE_LIMITS", "on", "off lifts every rate, for load tests"),
];

/// Every variable.
pub fn all() -> impl Iterator<Item = Variable> {
    let rate = |rule: Rule| {
        let (name, default) = rule.variable();
        open(RATES, name, default, rule.help())
    };
    PLAIN.iter().copied().chain(Rule::ALL.into_iter().map(rate))
}
