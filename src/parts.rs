//! From the settings to the parts of the service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::app::{Parts, Settings};
use crate::bus::directory::{Bus, Mailbox};
use crate::bus::error::BusError;
use crate::bus::node::NodeId;
use crate::call::model::Limits as CallLimits;
use crate::clock::Clock;
use crate::config::{Calls, Config, Database, JournalSync, Secret, SettingError};
use crate::http::tls::TlsError;
use crate::limits::Limits;
use crate::media::ice::Ice;
use crate::media::livekit::LiveKit;
use crate::socketio::hub::Hub;
use crate::store::error::{Kind, StoreError};
use crate::store::options::{JournalOptions, Sync};
use crate::store::postgres::PostgresOptions;
use crate::store::postgres::connect::{ADDRESS_FORM, Address, Postgres};
use crate::store::retention::RetentionOptions;
use crate::store::sqlite::Sqlite;
use crate::store::whole::Store;

/// How long a start waits for Postgres before it goes on without.
const DATABASE_WAIT: Duration = Duration::from_secs(5);
/// How long to wait before one that is away is asked again, where nothing goes without.
const DATABASE_PAUSE: Duration = Duration::from_millis(250);

/// Why the service did not start, or could not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting that can't be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The store can't be opened.
    #[error("DATA_DIR: {0}")]
    Store(#[from] StoreError),
    /// Postgres refuses us, or has tables that are not ours.
    #[error("DATABASE_URL: {}", .0.in_full())]
    Database(StoreError),
    /// A node that never was one of its deployment can't find out what that is called.
    #[error(
        "DATABASE_URL: the first start of a node with LIVEKIT_URL takes Postgres, which knows by what name \
         rooms are this deployment's: {}", .0.in_full()
    )]
    Nameless(StoreError),
    /// Redis refuses us, or can't do what is needed.
    #[error("REDIS_URL: {}", .0.in_full())]
    Redis(BusError),
    /// `TLS_CERT` or `TLS_KEY` can't be used.
    #[error("TLS_CERT, TLS_KEY: {0}")]
    Tls(#[from] TlsError),
    /// A port can't be had.
    #[error("{variable}: {address} can't be listened on: {source}")]
    Bind {
        /// The setting that names the port.
        variable: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The disk failed while the service ran: nothing more could be kept.
    #[error("DATA_DIR: the disk failed; nothing more can be kept")]
    DiskFailed,
    /// The operating system refused a thread or a runtime.
    #[error("starting: {0}")]
    System(#[from] io::Error),
}

/// The local file and, where `DATABASE_URL` is set, Postgres behind it. Where that can't be reached,
/// the service starts all the same; where it refuses us, that is for the operator to see at once.
async fn store(config: &Config) -> Result<Store, StartError> {
    let folder = &config.data.dir;
    let local =
        if config.data.migrate { Sqlite::open(folder)? } else { Sqlite::open_migrated(folder)? };
    let Some(postgres) = postgres(config)? else {
        local.close_outbox()?;
        return Ok(Store::new(local, None));
    };
    local.open_outbox()?;
    look_behind(config, &local, &postgres).await?;
    Ok(Store::new(local, Some(postgres)))
}

/// Sees to the tables in Postgres, and notes by what name rooms are known as those of this deployment: that is for
/// Postgres to say, once for all nodes. While it is away, what it said last counts. Who was never told can't do
/// without: to the other nodes its rooms would be a stranger's.
async fn look_behind(
    config: &Config,
    local: &Sqlite,
    postgres: &Postgres,
) -> Result<(), StartError> {
    let among_nodes = config.redis.is_some();
    let known = local.deployment()?;
    let is_needed = among_nodes && config.media.livekit.is_some() && known.is_none();
    let look = async || {
        postgres.prepare().await?;
        if among_nodes { postgres.instance().await.map(Some) } else { Ok(None) }
    };
    let until = Instant::now() + DATABASE_WAIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match timeout(left, look()).await {
            Ok(Ok(name)) => {
                return match name {
                    Some(name) if known.as_ref() != Some(&name) => {
                        Ok(local.note_deployment(&name)?)
                    }
                    Some(_) | None => Ok(()),
                };
            }
            Ok(Err(error)) if error.kind == Kind::Schema => {
                return Err(StartError::Database(error));
            }
            Ok(Err(error)) => error,
            Err(_) => StoreError::new("waiting for an answer of Postgres", Kind::Away),
        };
        if !is_needed {
            tracing::warn!(error = error.in_full(), "starting without Postgres");
            return Ok(());
        }
        if Instant::now() + DATABASE_PAUSE >= until {
            return Err(StartError::Nameless(error));
        }
        sleep(DATABASE_PAUSE).await;
    }
}

/// By what name rooms are known as ours: the deployment's or, of a node alone, its own.
fn service_name(config: &Config, local: &Sqlite) -> Result<String, StoreError> {
    let deployment = if config.redis.is_some() { local.deployment()? } else { None };
    deployment.map_or_else(|| local.instance(), Ok)
}

/// Connections to Postgres as the settings have it; none is opened yet.
///
/// # Errors
/// Where an address is of no form that is understood, or the certificates it names can't be used.
pub fn postgres(config: &Config) -> Result<Option<Postgres>, StartError> {
    let Some(database) = &config.database else { return Ok(None) };
    let address = |name: &str, url: &Secret| {
        let held = format!("holds {} bytes (not shown)", url.expose().len());
        let wrong = || SettingError::new(name, held, ADDRESS_FORM);
        Address::parse(url.expose()).ok_or_else(wrong)
    };
    let primary = address("DATABASE_URL", &database.url)?;
    let replica = database.replica.as_ref();
    let replica = replica.map(|it| address("DATABASE_REPLICA_URL", it)).transpose()?;
    let options = database_options(config, database);
    let postgres = Postgres::new(&primary, replica.as_ref(), options, config.data.migrate);
    postgres.map(Some).map_err(StartError::Database)
}

fn database_options(config: &Config, database: &Database) -> PostgresOptions {
    PostgresOptions {
        batch_rows_max: database.batch_rows_max,
        batch_bytes_max: database.batch_bytes_max,
        batch_age: database.batch_age,
        read_connections_max: database.read_connections_max,
        read_timeout: database.read_timeout,
        local_keep: database.local_keep,
        samples: config.data.quality_retention,
        calls: config.data.call_retention,
    }
}

/// The way to other nodes, and what comes from them.
type Opened = (Bus, Mailbox);

/// The way to other nodes, where `REDIS_URL` is set. This node is called `NODE_NAME`, or else after its folder, which
/// no other has.
async fn bus(config: &Config, store: &Store) -> Result<Option<Opened>, StartError> {
    /// Characters of the folder's own name that are enough to tell nodes apart.
    const NAME_CHARS: usize = 12;
    let Some(settings) = &config.redis else { return Ok(None) };
    let instance = store.local().instance()?;
    let default = instance.get(..NAME_CHARS).unwrap_or(&instance);
    let name = config.server.node_name.as_deref().unwrap_or(default);
    let me = NodeId::run_of(name, &instance);
    let me = me.ok_or_else(|| io::Error::other("no random bytes"))?;
    Bus::connect(settings, me).await.map(Some).map_err(StartError::Redis)
}

/// Makes the parts, and what comes from other nodes where there may be any.
///
/// # Errors
/// Where one of them can't be had.
pub async fn parts(config: &Config) -> Result<(Parts, Option<Mailbox>), StartError> {
    let store = store(config).await?;
    let (bus, mailbox) = bus(config, &store).await?.unzip();
    let sync = match config.data.journal_sync {
        JournalSync::Full => Sync::Full,
        JournalSync::Normal => Sync::Normal,
        JournalSync::Off => Sync::Off,
    };
    let kept = RetentionOptions::default();
    let ice = Ice::new(&config.media);
    let livekit = match &config.media.livekit {
        Some(settings) => {
            let (local, name) = (store.local(), service_name(config, store.local())?);
            // What this node left behind when it was alone no other knows.
            Some(LiveKit::new(settings, name).formerly(local.instance()?))
        }
        None => None,
    };
    let renewal = ice.renewal();
    let parts = Parts {
        clock: Clock::start(),
        hub: Arc::new(Hub::new()),
        store,
        journal: JournalOptions { sync, ..JournalOptions::default() },
        ice,
        livekit,
        bus,
        rates: Limits::new(&config.rates),
        settings: Settings {
            limits: CallLimits { ice_renewal: renewal, ..call_limits(&config.calls) },
            sockets_per_user_max: config.server.sockets_per_user_max,
            rings_per_user_max: config.calls.rings_per_user_max,
            live_calls_max: config.calls.live_max,
            quality_check_interval: config.calls.quality_interval,
            retention: RetentionOptions {
                samples: config.data.quality_retention.unwrap_or(Duration::MAX),
                calls: config.data.call_retention,
                ..kept
            },
        },
    };
    Ok((parts, mailbox))
}

fn call_limits(calls: &Calls) -> CallLimits {
    CallLimits {
        ringing: calls.ringing_timeout,
        connecting: calls.connection_timeout,
        reconnecting: calls.reconnect_grace,
        alone: calls.alone_timeout,
        duration: calls.duration_max,
        participants: u16::try_from(calls.participants_max).unwrap_or(u16::MAX),
        ice_renewal: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_calls_have_the_default_limits() {
        let config = Config::load(|_| None).unwrap();
        assert_eq!(call_limits(&config.calls), CallLimits::DEFAULT);
    }
}
