//! The address of a server, its pools, and whether it is there.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error, NoTls};

use crate::store::error::{Kind, StoreError};
use crate::store::postgres::PostgresOptions;
use crate::store::postgres::tls::{self, Encryption};
use crate::telemetry::in_full;

/// How long opening a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long the network may leave what was sent unanswered.
const UNANSWERED_MAX: Duration = Duration::from_secs(5);
/// How long a statement of a batch may run: a busy server needs some seconds, and a row's lock that a
/// broken session left is gone by then.
pub(super) const WRITE_MAX: Duration = Duration::from_secs(5);
/// Connections that write: one for batches, one for partitions and retention.
const WRITERS: usize = 2;

/// What an address may look like.
pub const ADDRESS_FORM: &str = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with \
     ?sslmode=disable, prefer, require or verify-full, and sslrootcert=FILE";

/// A server's address, understood.
#[derive(Clone)]
pub struct Address {
    config: Config,
    encryption: Encryption,
}

impl Address {
    /// Reads a URL; `None` where it is not of [`ADDRESS_FORM`].
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut mode, mut file, mut others) = ("prefer".to_owned(), None, Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "sslmode" => mode = value.into_owned(),
                "sslrootcert" => file = Some(PathBuf::from(value.into_owned())),
                _ => others.push((name, value)),
            }
        }
        let others = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
        let mut config: Config = format!("postgresql://{place}?{others}").parse().ok()?;
        if config.get_hosts().is_empty() {
            return None;
        }
        let (ssl, encryption) = match &*mode {
            "disable" => (SslMode::Disable, Encryption::Off),
            "prefer" => (SslMode::Prefer, Encryption::Unverified),
            "require" => (SslMode::Require, Encryption::Unverified),
            "verify-full" => (SslMode::Require, Encryption::Verified(file)),
            _ => return None,
        };
        config.ssl_mode(ssl).application_name("call-service").connect_timeout(CONNECT_MAX);
        config.tcp_user_timeout(UNANSWERED_MAX).keepalives_idle(UNANSWERED_MAX);
        Some(Self { config, encryption })
    }

    /// Where it is, without the secrets.
    fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        format!("{host}:{}", self.config.get_ports().first().unwrap_or(&5432))
    }
}

/// One server, by one pool.
pub(super) struct Server {
    pub(super) place: String,
    pool: Pool,
    away: AtomicBool,
}

impl Server {
    fn open(address: &Address, connections: usize, limit: Duration) -> Result<Self, StoreError> {
        const DURING: &str = "setting up the connections to Postgres";
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let config = address.config.clone();
        let manager = if address.encryption == Encryption::Off {
            Manager::from_config(config, NoTls, manager)
        } else {
            let tls = tls::connector(Some(&address.encryption))
                .map_err(|cause| StoreError::caused(DURING, Kind::Schema, cause))?;
            Manager::from_config(config, tls, manager)
        };
        let set = format!(
            "SET statement_timeout = {limit}; SET lock_timeout = {limit};
             SET idle_in_transaction_session_timeout = {limit}",
            limit = limit.as_millis()
        );
        let prepare = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
            let set = set.clone();
            Box::pin(async move { client.batch_execute(&set).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limit))
            .create_timeout(Some(CONNECT_MAX))
            .recycle_timeout(Some(CONNECT_MAX))
            .post_create(prepare)
            .build()
            .map_err(|cause| StoreError::caused(DURING, Kind::Schema, cause))?;
        Ok(Self { place: address.place(), pool, away: AtomicBool::new(false) })
    }

    pub(super) async fn connection(&self, during: &'static str) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|cause| {
            let fault = match &cause {
                PoolError::Backend(error)
                | PoolError::PostCreateHook(HookError::Backend(error)) => kind_of(error),
                // A pool that is busy says nothing about its server.
                PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Kind::Busy,
                PoolError::Timeout(_)
                | PoolError::Closed
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_) => Kind::Away,
            };
            self.note(fault);
            StoreError::caused(during, fault, cause)
        })
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Remembers a failure that says that the server is away.
    pub(super) fn note(&self, kind: Kind) {
        if kind == Kind::Away && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(server = self.place, "Postgres is away; calls go on without it");
        }
    }

    /// It has answered.
    pub(super) fn is_back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!(server = self.place, "Postgres is back");
        }
    }

    /// Asks a server that is away whether it still is.
    pub(super) async fn probe(&self) {
        if !self.is_away() {
            return;
        }
        let asked = async {
            let client = self.connection("looking for Postgres").await?;
            let answer = client.simple_query("SELECT 1").await;
            self.settle("looking for Postgres", client, answer)
        };
        if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_MAX, asked).await {
            self.is_back();
        }
    }

    /// The outcome of a statement; a connection that is not fit for another does not go back.
    pub(super) fn settle<T>(
        &self,
        during: &'static str,
        client: Object,
        outcome: Result<T, Error>,
    ) -> Result<T, StoreError> {
        outcome.map_err(|cause| {
            let error = StoreError::postgres(during)(cause);
            self.note(error.kind);
            if error.kind == Kind::Away {
                self.discard(client);
            }
            error
        })
    }

    /// A connection whose answer never came is closed, and so are all that wait unused: they go
    /// to the same server.
    pub(super) fn discard(&self, client: Object) {
        drop(Object::take(client));
        self.pool.retain(|_, _| false);
    }
}

/// What a failure means to us. Sorted by SQLSTATE's class.
pub(super) fn kind_of(cause: &Error) -> Kind {
    let Some(state) = cause.code() else {
        let ours = cause.source().is_some_and(|it| !it.is::<std::io::Error>());
        // A value that can't be encoded never gets to the server.
        return if ours && !cause.is_closed() && is_encoding(cause) {
            Kind::Rejected
        } else {
            Kind::Away
        };
    };
    match state.code().get(..2) {
        // Data exceptions, broken constraints, program limits (a row too long for an index).
        Some("22" | "23" | "54") => Kind::Rejected,
        Some("28" | "3D" | "42") => Kind::Schema,
        Some("40") => Kind::Busy,
        _ if *state == SqlState::QUERY_CANCELED || *state == SqlState::LOCK_NOT_AVAILABLE => {
            Kind::Busy
        }
        _ => Kind::Away,
    }
}

fn is_encoding(cause: &Error) -> bool {
    cause.to_string().starts_with("error serializing")
}

impl StoreError {
    /// Turns Postgres' failure into ours; made for `map_err`.
    pub(super) fn postgres(during: &'static str) -> impl Fn(Error) -> Self {
        move |cause| Self::caused(during, kind_of(&cause), cause)
    }

    /// What was being done and every cause, for an operator's eyes.
    pub fn in_full(&self) -> String {
        in_full(self)
    }
}

/// The servers, for those who write and those who read. Cheap to clone; connects when first needed.
#[derive(Clone)]
pub struct Postgres {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) options: PostgresOptions,
    pub(super) writer: Server,
    pub(super) reader: Server,
    pub(super) replica: Option<Server>,
    /// Rows that are not in Postgres, as last counted.
    pub(super) unwritten: AtomicU64,
    /// Whether tables may be changed; otherwise they have to be as they should.
    pub(super) migrate: bool,
    /// Whether the tables are known to be those of this version.
    pub(super) migrated: AtomicBool,
}

impl Postgres {
    /// Sets up connections to `primary`, and to `replica` for reads, opening none yet. `migrate`:
    /// whether tables may be brought up to date.
    ///
    /// Fails with [`Kind::Schema`] where the certificates that the address names can't be used.
    pub fn new(
        primary: &Address,
        replica: Option<&Address>,
        options: PostgresOptions,
        migrate: bool,
    ) -> Result<Self, StoreError> {
        let (readers, limit) = (options.read_connections_max, options.read_timeout);
        let replica = replica.map(|it| Server::open(it, readers, limit)).transpose()?;
        let shared = Shared {
            writer: Server::open(primary, WRITERS, WRITE_MAX)?,
            reader: Server::open(primary, readers, limit)?,
            replica,
            options,
            unwritten: AtomicU64::new(0),
            migrate,
            migrated: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Rows that are not in Postgres yet.
    pub fn unwritten(&self) -> usize {
        usize::try_from(self.shared.unwritten.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Whether the primary was there when last asked, by those who write and those who read.
    pub fn is_well(&self) -> bool {
        !self.shared.writer.is_away() && !self.shared.reader.is_away()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, wanted) in [
            ("postgresql://u:p@db:5433/calls", Some((Encryption::Unverified, "db:5433"))),
            ("postgres://db/calls?sslmode=disable", Some((Encryption::Off, "db:5432"))),
            (
                "postgres://db/c?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
                Some((Encryption::Verified(Some("/etc/ca.pem".into())), "db:5432")),
            ),
            ("postgres://db/c?sslmode=require", Some((Encryption::Unverified, "db:5432"))),
            ("postgres://db/c?sslmode=verify", None),
            ("postgres://db/c?nonsense=1", None),
            ("postgres:///c", None),
            ("mysql://db/c", None),
        ] {
            let found = Address::parse(url).map(|it| (it.encryption.clone(), it.place()));
            let wanted = wanted.map(|(encryption, place)| (encryption, place.to_owned()));
            assert_eq!(found, wanted, "{url}");
        }
    }
}
