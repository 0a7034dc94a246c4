//! Wiring: makes the parts, binds the ports, splits Socket.IO from the rest, and stops in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::app::cluster;
use crate::app::effects::deliver;
use crate::app::rooms::keep_rooms;
use crate::app::tending::{tend, tidy};
use crate::app::writing::write_behind;
use crate::app::{App, Deliveries};
use crate::auth::Verifier;
use crate::bus::directory::Mailbox;
use crate::config::{Config, Origins, Server};
use crate::events::Events;
use crate::http::Reply;
use crate::http::console::Console;
use crate::http::gate::Gate;
use crate::http::listener::{self, serve};
use crate::http::probes::Probes;
use crate::http::service::{Answered, Api};
use crate::http::tls::Tls;
use crate::limits::client_address;
use crate::parts::{StartError, parts};
use crate::shutdown::{self, Reloads, Stop};
use crate::socketio::endpoint::Endpoint;
use crate::socketio::engine::options::{CorsOrigins, Options};
use crate::telemetry::Figures;

/// Over how long clients are told to go elsewhere, so that they do not all come at once.
const FAREWELL_SPREAD: Duration = Duration::from_secs(2);
/// The same where there are other nodes, which they find at once (fault F16).
const FAREWELL_SPREAD_AMONG_NODES: Duration = Duration::from_secs(10);
/// How long a stop waits for the last rows to get to Postgres.
const LAST_ROWS_WAIT: Duration = Duration::from_secs(3);

/// Everything that answers requests on the public ports.
struct Front {
    api: Arc<Api>,
    sockets: Arc<Endpoint<Events>>,
    trusted_proxies: Arc<[ipnet::IpNet]>,
}

impl Front {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        secure: bool,
    ) -> Reply {
        // A line that can't be read is one that nobody can be found behind.
        let lines = request.headers().get_all("x-forwarded-for").iter();
        let forwarded = lines.map(|it| it.to_str().unwrap_or_default());
        let client = client_address(peer.ip(), forwarded, &self.trusted_proxies);
        if self.sockets.serves(request.uri().path()) {
            self.sockets.handle(request, SocketAddr::new(client, peer.port())).await
        } else {
            Box::pin(self.api.handle(request, client, secure)).await
        }
    }
}

/// A runtime of one thread for websockets: the cheapest way to relay, and HTTP can't hold it up.
struct SocketThread {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl SocketThread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let name = format!("websockets-{number}");
        let thread = thread::Builder::new().name(name).spawn(move || {
            // An error means that the other side is gone, which is the same word.
            drop(runtime.block_on(stopped));
        })?;
        Ok(Self { handle, stop, thread })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("a websocket thread panicked");
        }
    }
}

/// Serves until `stop` ends, then stops in order: no new calls, clients told to go, everything
/// written, out.
pub async fn run(
    config: Config,
    figures: Figures,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let verifier = Arc::new(Verifier::new(&config.identity)?);
    let (made, mailbox) = parts(&config).await?;
    let (app, deliveries) = App::open(made)?;
    let threads: Vec<SocketThread> =
        (0..config.server.ws_threads).map(SocketThread::start).collect::<io::Result<_>>()?;
    let runtimes: Vec<Handle> = threads.iter().map(|it| it.handle.clone()).collect();
    let events = Arc::new(Events::new(Arc::clone(&app), Arc::clone(&verifier)));
    let sockets = Arc::new(Endpoint::new(events, socket_options(&config.server), runtimes));
    let front = Arc::new(Front {
        api: Arc::new(api(&config, &app, verifier, figures)),
        sockets: Arc::clone(&sockets),
        trusted_proxies: Arc::clone(&config.server.trusted_proxies),
    });
    let work = begin(&app, deliveries, mailbox, &threads);
    let (stopper, told) = shutdown::stop();
    let ports = open_ports(&config, &front, told)?;
    // Only now: a start that fails says one line.
    tracing::info!(environment = ?config.environment, "started");
    if config.identity.made_up {
        tracing::warn!("JWT_SECRET is not set: a random one is in force, until this process ends");
    }
    let outcome = tokio::select! {
        () = stop => Ok(()),
        () = app.journal_failed() => Err(StartError::DiskFailed),
    };
    app.drain();
    let (patience, began) = (config.server.drain_timeout, Instant::now());
    // Calls first: who goes elsewhere finds them there.
    app.hand_over(began + patience / 4).await;
    let spread = match config.redis {
        Some(_) => FAREWELL_SPREAD_AMONG_NODES.min(patience * 2 / 5),
        None => FAREWELL_SPREAD.min(patience / 4),
    };
    // Whoever has not gone in half the time is cut off with the ports.
    drop(timeout(patience / 2, sockets.drain(spread)).await);
    stopper.stop();
    if timeout(patience.saturating_sub(began.elapsed()), ports.join_all()).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
    }
    app.retire(began + patience).await;
    drop(work);
    let left = patience.saturating_sub(began.elapsed());
    app.write_rest(left.min(LAST_ROWS_WAIT)).await;
    let closing = Arc::clone(&app);
    tokio::task::spawn_blocking(move || closing.close()).await.map_err(io::Error::other)?;
    threads.into_iter().for_each(SocketThread::stop);
    tracing::info!("stopped");
    outcome
}

/// Starts what goes on without being asked: events leave from a websocket thread, where most of their
/// receivers are, until the journal is closed; the rest is returned, to be dropped at the stop.
fn begin(
    app: &Arc<App>,
    deliveries: Deliveries,
    mailbox: Option<Mailbox>,
    threads: &[SocketThread],
) -> JoinSet<()> {
    match threads.first() {
        Some(first) => first.handle.spawn(deliver(Arc::clone(app), deliveries)),
        None => tokio::spawn(deliver(Arc::clone(app), deliveries)),
    };
    let mut work = JoinSet::new();
    work.spawn(tend(Arc::clone(app)));
    work.spawn(tidy(Arc::clone(app)));
    work.spawn(write_behind(Arc::clone(app)));
    work.spawn(keep_rooms(Arc::clone(app)));
    work.spawn(cluster::attend(Arc::clone(app), mailbox));
    work
}

fn api(config: &Config, app: &Arc<App>, verifier: Arc<Verifier>, figures: Figures) -> Api {
    Api {
        app: Arc::clone(app),
        verifier,
        console: config.server.console.then(Console::embedded),
        dev_endpoints: config.server.dev_endpoints,
        origins: config.server.origins.clone(),
        probes: Probes::new(figures),
        answered: Answered::default(),
    }
}

fn socket_options(server: &Server) -> Options {
    let cors_origins = match &server.origins {
        Origins::Any => CorsOrigins::Any,
        Origins::Listed(list) => {
            CorsOrigins::List(list.iter().map(|it| (**it).to_owned()).collect())
        }
    };
    Options {
        cors_origins,
        sessions_max: server.sockets_max,
        take_tcp: listener::take_tcp,
        ..Options::default()
    }
}

/// Binds every port and serves it in a task of its own, until told to stop.
fn open_ports(config: &Config, front: &Arc<Front>, told: Stop) -> Result<JoinSet<()>, StartError> {
    let server = &config.server;
    let tls = server.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
    if let Some(tls) = &tls {
        tokio::spawn(reload(Arc::clone(tls), Reloads::listen()?));
    }
    let gate = Gate::new(server);
    let mut ports = JoinSet::new();
    // The same port twice is one: the settings have left the second out.
    for (variable, port) in [("PORT", Some(server.port)), ("WS_PORT", server.ws_port)] {
        let Some(port) = port else { continue };
        let (front, until) = (Arc::clone(front), (told.clone(), server.drain_timeout));
        let service = move |request, peer, secure| Arc::clone(&front).answer(request, peer, secure);
        let listener = bind(variable, SocketAddr::new(server.host, port))?;
        ports.spawn(serve(listener, gate.clone(), tls.clone(), service, until));
    }
    if let Some(port) = server.metrics_port {
        let api = Arc::clone(&front.api);
        let service = move |request: Request<Incoming>, _, _| {
            let reply = api.scrape(request.uri().path());
            async { reply }
        };
        let listener = bind("METRICS_PORT", SocketAddr::new(server.host, port))?;
        // A gate of its own: figures are wanted most when the house is full.
        let gate = Gate::new(server);
        ports.spawn(serve(listener, gate, None, service, (told, server.drain_timeout)));
    }
    Ok(ports)
}

fn bind(variable: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Bind { variable, address, source };
    let listener = listener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(variable, %address, "listening");
    Ok(listener)
}

/// Takes the certificate anew at each SIGHUP.
#[expect(clippy::infinite_loop, reason = "ends with the runtime")]
async fn reload(tls: Arc<Tls>, mut reloads: Reloads) {
    loop {
        reloads.next().await;
        match tls.reload() {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the old certificate stays in force"),
        }
    }
}
