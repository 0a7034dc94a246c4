//! The HTTP face of Engine.IO: which request belongs to which session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use http::header::ORIGIN;
use http::{Method, Request};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::engine::answer::{self, Answer, Refusal};
use crate::socketio::engine::application::Application;
use crate::socketio::engine::driven::{Driven, FAREWELL, Shared};
use crate::socketio::engine::frame::Limits;
use crate::socketio::engine::handshake::{Handshake, accept_key, asks_for_upgrade, parameter};
use crate::socketio::engine::input::Input;
use crate::socketio::engine::options::Options;
use crate::socketio::engine::outbox::Outbox;
use crate::socketio::engine::polling;
use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::run;
use crate::socketio::engine::session::Session;
use crate::socketio::engine::sink::{Goodbye, Home, Line};
use crate::socketio::engine::stream::Connection;
use crate::socketio::engine::websocket;
use crate::socketio::{DisconnectReason, Transport};

/// Bytes of a query string; a session keeps a copy of it. Room for a token of some size.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// How often a drain looks whether all sessions are gone.
const DRAIN_CHECK: Duration = Duration::from_millis(10);
/// How long a drain waits for the last session: what each has, and a little.
const DRAIN_FAREWELL: Duration = FAREWELL.saturating_add(Duration::from_millis(500));
/// Time a connection has between the answer 101 and being a websocket.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Engine.IO sessions under one path, with one application on them.
pub struct Engine<A: Application> {
    shared: Arc<Shared<A>>,
    homes: Box<[Arc<Home>]>,
    next_home: AtomicUsize,
}

impl<A: Application> Engine<A> {
    /// `websockets` are the runtimes that run the sessions' tasks, one at least; current-thread
    /// ones are cheapest. They need IO and time.
    pub fn new(
        application: A,
        options: Options,
        websockets: impl IntoIterator<Item = Handle>,
    ) -> Self {
        let options = Arc::new(options);
        let home = |runtime| Arc::new(Home { options: Arc::clone(&options), runtime });
        let homes = websockets.into_iter().map(home).collect();
        let shared = Shared {
            application,
            options,
            sessions: DashMap::new(),
            draining: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), homes, next_home: AtomicUsize::new(0) }
    }

    /// Whether requests for `path` belong here.
    pub fn serves(&self, path: &str) -> bool {
        let mounted = self.shared.options.path.as_str();
        path == mounted || mounted.strip_suffix('/') == Some(path)
    }

    /// Sessions that are open at the moment.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.len()
    }

    /// Answers one request. A GET waits for packets, for at most a heartbeat.
    pub async fn handle(&self, mut request: Request<Incoming>, remote: SocketAddr) -> Answer {
        let origins = &self.shared.options.cors_origins;
        let origin = request.headers_mut().get(ORIGIN).cloned();
        let answered = if !answer::origin_allowed(origins, request.uri(), request.headers()) {
            Err(Refusal::Forbidden)
        } else if *request.method() == Method::OPTIONS {
            Ok(answer::preflight(request.headers()))
        } else {
            self.route(request, remote).await
        };
        let mut answer = answered.unwrap_or_else(Refusal::answer);
        answer::allow_origin(origins, origin.as_ref(), &mut answer);
        answer
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        remote: SocketAddr,
    ) -> Result<Answer, Refusal> {
        let query = request.uri().query().unwrap_or_default();
        if query.len() > QUERY_BYTES_MAX {
            return Err(Refusal::BadRequest);
        }
        let transport = match parameter(query, "transport").as_deref() {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::Websocket,
            _ => return Err(Refusal::UnknownTransport),
        };
        let websocket = transport == Transport::Websocket;
        if websocket && !asks_for_upgrade(request.headers()) {
            let sid = parameter(query, "sid");
            let unknown = sid.is_some_and(|sid| self.find(&sid).is_none());
            return Err(if unknown { Refusal::UnknownSession } else { Refusal::BadRequest });
        }
        if let Some(sid) = parameter(query, "sid") {
            let driven = self.find(&sid).ok_or(Refusal::UnknownSession)?;
            check_version(query)?;
            return if websocket {
                self.switch(request, remote, Some(driven))
            } else {
                poll(&driven, request).await
            };
        }
        if *request.method() != Method::GET {
            return Err(Refusal::BadHandshakeMethod);
        }
        check_version(query)?;
        if self.shared.draining.load(Ordering::Acquire)
            || self.sessions() >= self.shared.options.sessions_max
        {
            return Err(Refusal::Unavailable);
        }
        if websocket { self.switch(request, remote, None) } else { self.begin(&request, remote) }
    }

    /// The session of this id, unless it is over.
    fn find(&self, sid: &str) -> Option<Arc<Driven<A>>> {
        let id = sid.parse().ok()?;
        let driven = Arc::clone(&*self.shared.sessions.get(&id)?);
        // Its task may be late to find out that a ping was not answered; the clock is not.
        driven.session.tick(Instant::now());
        let session = &driven.session;
        (session.closed().is_none() || session.sink.says_goodbye()).then_some(driven)
    }

    fn home(&self) -> Result<Arc<Home>, Refusal> {
        let turn = self.next_home.fetch_add(1, Ordering::Relaxed);
        let home = turn.checked_rem(self.homes.len()).and_then(|it| self.homes.get(it));
        home.cloned().ok_or(Refusal::Unavailable)
    }

    /// A handshake over polling.
    fn begin(&self, request: &Request<Incoming>, remote: SocketAddr) -> Result<Answer, Refusal> {
        let home = self.home()?;
        let id = RandomId::generate().ok_or(Refusal::Unavailable)?;
        let query = request.uri().query().unwrap_or_default();
        let handshake = Handshake::new(remote, Transport::Polling, query, request.headers());
        let session = Arc::new(Session::new(id, Arc::clone(&home), None));
        let driven = Driven::open(&self.shared, session, handshake);
        let greeting = driven.session.sink.outbox(Outbox::take);
        drop(home.runtime.spawn(polling::watch(driven)));
        Ok(answer::payload(greeting.into()))
    }

    /// A websocket: a handshake of its own, or one that asks to take `driven` over.
    fn switch(
        &self,
        request: Request<Incoming>,
        remote: SocketAddr,
        driven: Option<Arc<Driven<A>>>,
    ) -> Result<Answer, Refusal> {
        let accept = accept_key(request.method(), request.version(), request.headers());
        let accept = accept.ok_or(Refusal::BadRequest)?;
        let home = match &driven {
            Some(driven) => Arc::clone(driven.session.home()),
            None => self.home()?,
        };
        let id = RandomId::generate().ok_or(Refusal::Unavailable)?;
        let query = request.uri().query().unwrap_or_default();
        let arrival = Arrival {
            base64: parameter(query, "b64").is_some_and(|it| it == "1"),
            handshake: Handshake::new(remote, Transport::Websocket, query, request.headers()),
            shared: Arc::clone(&self.shared),
            id,
            home,
            driven,
        };
        tokio::spawn(async move {
            let upgraded = timeout(SWITCH_TIMEOUT, hyper::upgrade::on(request)).await;
            // An error means that the client left during the handshake.
            let Ok(Ok(upgraded)) = upgraded else { return };
            let take_tcp = arrival.home.options.take_tcp;
            if let Ok(connection) = Connection::take(upgraded, take_tcp) {
                let runtime = arrival.home.runtime.clone();
                drop(runtime.spawn(arrival.settle_in(connection)));
            }
        });
        Ok(answer::switching(&accept))
    }

    /// Ends all sessions for a restart: nobody new is let in, and those inside are told to go,
    /// spread evenly over `spread`. Returns when all have left, or once the last has had its time.
    pub async fn drain(&self, spread: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        let sessions: Vec<_> =
            self.shared.sessions.iter().map(|it| Arc::clone(&it.session)).collect();
        let begin = Instant::now();
        let gap = spread / u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        for (turn, session) in (0_u32..).zip(sessions) {
            sleep_until(begin + gap * turn).await;
            session.close(DisconnectReason::ServerShutdown, Goodbye::Code(CloseCode::Away));
        }
        let deadline = Instant::now() + DRAIN_FAREWELL;
        while self.sessions() > 0 && Instant::now() < deadline {
            sleep(DRAIN_CHECK).await;
        }
    }
}

fn check_version(query: &str) -> Result<(), Refusal> {
    match parameter(query, "EIO").as_deref() {
        Some("4") => Ok(()),
        _ => Err(Refusal::UnsupportedVersion),
    }
}

/// A request of a polling session.
async fn poll<A: Application>(
    driven: &Arc<Driven<A>>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    // During and after an upgrade the poll that is still under way is let go with a noop, but a
    // session that has its websocket takes no further requests.
    if driven.session.transport() == Transport::Websocket {
        return Err(Refusal::BadRequest);
    }
    if *request.method() == Method::GET {
        polling::get(&driven.session).await
    } else if *request.method() == Method::POST {
        polling::post(driven, request).await
    } else {
        Err(Refusal::BadHandshakeMethod)
    }
}

/// A connection on its way from HTTP to the websocket runtime.
struct Arrival<A: Application> {
    shared: Arc<Shared<A>>,
    id: RandomId,
    home: Arc<Home>,
    handshake: Handshake,
    base64: bool,
    driven: Option<Arc<Driven<A>>>,
}

impl<A: Application> Arrival<A> {
    /// Starts the websocket's task; on the runtime where it will stay.
    async fn settle_in(self, mut connection: Connection) {
        let early = std::mem::take(&mut connection.early);
        let unsent = std::mem::take(&mut connection.unsent);
        let Ok((reader, writer)) = connection.split() else { return };
        if writer.ready().await.is_err() {
            return;
        }
        let options = &self.shared.options;
        let limits =
            Limits { bytes_max: options.max_payload, fragments_max: options.fragments_max };
        let input = Input::new(reader, early, limits);
        let line = Line { writer, base64: self.base64 };
        let Some(driven) = self.driven else {
            let session = Arc::new(Session::new(self.id, self.home, Some(line)));
            // The answer to the request leaves together with the open packet.
            let driven = run::batch(|| {
                run::write(&session.sink, &unsent);
                Driven::open(&self.shared, session, self.handshake)
            });
            drop(tokio::spawn(websocket::serve(driven, input)));
            return;
        };
        websocket::write_all(&line, &unsent).await;
        if driven.session.transport() == Transport::Websocket {
            drop(tokio::spawn(websocket::refuse(Arc::new(line), input)));
        } else {
            drop(tokio::spawn(websocket::upgrade(driven, input, line)));
        }
    }
}
