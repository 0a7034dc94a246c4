//! What the program does besides serving: part of the program, not of the library.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use call_service::auth::Verifier;
use call_service::bus::directory::Bus;
use call_service::call::id::UserId;
use call_service::config::{Config, SettingError};
use call_service::http::listener::bind;
use call_service::http::tls::Tls;
use call_service::media::livekit::LiveKit;
use call_service::media::probe::reach;
use call_service::parts::{self, StartError};
use call_service::store::error::{Kind, StoreError};
use call_service::store::journal::Journal;
use call_service::store::options::JournalOptions;
use call_service::store::postgres::behind::WriteBehind;
use call_service::store::postgres::connect::Postgres;
use call_service::store::retention::Erased;
use call_service::store::sqlite::Sqlite;

/// Tests what a start would need, a line each, and fails if anything does. To be run while the
/// service is down: a running one holds the ports and the data directory.
pub(crate) async fn check(config: &Config) -> ExitCode {
    let server = &config.server;
    let port = |port: Option<u16>| match port {
        Some(port) => bind(SocketAddr::new(server.host, port)).map(|_| format!("{port} is free")),
        None => Ok("off".to_owned()),
    };
    let tls = server.tls.clone().map_or(Ok("off"), |files| Tls::load(files).map(|_| "usable"));
    let fine = [
        told::<&str, SettingError>("settings", Ok("allowed")),
        told("JWT_SECRET, JWT_PUBLIC_KEY", Verifier::new(&config.identity).map(|_| "usable")),
        told("TLS_CERT, TLS_KEY", tls),
        told("DATA_DIR", Sqlite::open(&config.data.dir).map(|_| "open, tables up to date")),
        told("PORT", port(Some(server.port))),
        told("WS_PORT", port(server.ws_port)),
        told("METRICS_PORT", port(server.metrics_port)),
    ];
    let livekit = match &config.media.livekit {
        None => true,
        Some(settings) => {
            let rooms = LiveKit::new(settings, String::new()).rooms().await;
            let reached = rooms.map(|it| format!("reached, {} rooms of calls", it.len()));
            told("LIVEKIT_URL", reached.map_err(|it| it.in_full()))
        }
    };
    let mut ice = true;
    for (name, urls) in
        [("STUN_SERVER_URL", &config.media.stun_urls), ("TURN_SERVER_URL", &config.media.turn_urls)]
    {
        for url in urls {
            ice &= told(
                name,
                match reach(url).await {
                    Ok(()) => Ok(format!("{url} reached")),
                    Err(error) => Err(format!("{url}: {error}")),
                },
            );
        }
    }
    let database = match parts::postgres(config) {
        Ok(None) => true,
        Ok(Some(postgres)) => {
            let tested = postgres.prepare().await.map(|()| "reached, tables up to date");
            told("DATABASE_URL", tested.map_err(|it| it.in_full()))
        }
        Err(error) => told::<&str, _>("DATABASE_URL", Err(error)),
    };
    let redis = match &config.redis {
        None => true,
        Some(settings) => {
            let reached = Bus::check(settings).await.map(|it| format!("reached, Redis {it}"));
            told("REDIS_URL", reached.map_err(|it| it.in_full()))
        }
    };
    let all = !fine.contains(&false) && database && redis && livekit && ice;
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Opens the store, which brings its tables up to date.
pub(crate) async fn migrate(config: &Config) -> Result<(), StartError> {
    let store = Sqlite::open(&config.data.dir)?;
    say(&format!("{}: tables up to date", store.file().display()));
    if let Some(postgres) = parts::postgres(config)? {
        postgres.migrate().await.map_err(StartError::Database)?;
        say("DATABASE_URL: tables up to date");
    }
    Ok(())
}

/// How long an erasure may wait for rows to get to Postgres first.
const REST_WAIT: Duration = Duration::from_mins(10);

/// Removes the traces of one user, wherever they are; says what is gone.
pub(crate) async fn erase(config: &Config, user: &str) -> Result<(), StartError> {
    let user = UserId::parse(user).map_err(|allowed| {
        SettingError::new("--user", format!("holds {user:?}"), allowed.to_string())
    })?;
    let store = Sqlite::open(&config.data.dir)?;
    let journal = Journal::<()>::open(&store, JournalOptions::default(), drop)?;
    let erased = match parts::postgres(config)? {
        None => journal.erase(&user).await?,
        Some(postgres) => {
            store.open_outbox()?;
            let behind = WriteBehind::new(journal.clone(), store, postgres.clone());
            erase_both(&user, &journal, behind, &postgres).await?
        }
    };
    journal.close();
    say(&format!(
        "erased: {} calls made nameless, {} events, {} quality samples, {} idempotency keys; \
         left: {} calls that are not over",
        erased.calls, erased.events, erased.samples, erased.idempotency_keys, erased.live_calls
    ));
    Ok(())
}

/// Postgres has nearly all of it. Rows that are still on their way go first, so that none comes after.
async fn erase_both(
    user: &UserId,
    journal: &Journal<()>,
    mut behind: WriteBehind<()>,
    postgres: &Postgres,
) -> Result<Erased, StartError> {
    let late = || StartError::Database(StoreError::new("writing the rest to Postgres", Kind::Away));
    let all = behind.drain(REST_WAIT).await.map_err(StartError::Database)?;
    all.then_some(()).ok_or_else(late)?;
    postgres.prepare().await.map_err(StartError::Database)?;
    let erased = postgres.erase(user).await.map_err(StartError::Database)?;
    journal.erase(user).await?;
    let all = behind.drain(REST_WAIT).await.map_err(StartError::Database)?;
    all.then_some(()).ok_or_else(late)?;
    Ok(erased)
}

/// Prints a line and says whether it was good news.
fn told<T: Display, E: Display>(what: &str, tested: Result<T, E>) -> bool {
    match tested {
        Ok(good) => {
            say(&format!("ok      {what}: {good}"));
            true
        }
        Err(error) => {
            say(&format!("FAILED  {what}: {error}"));
            false
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn say(line: &str) {
    println!("{line}");
}
