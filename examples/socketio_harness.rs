//! The small server that the conformance suites drive: `--port` is set up for the protocol
//! suites, `--client-port` for the tests of the published JavaScript client.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use call_service::socketio::DisconnectReason;
use call_service::socketio::endpoint::Endpoint;
use call_service::socketio::engine::answer::{Answer, Refusal};
use call_service::socketio::engine::application::Application;
use call_service::socketio::engine::endpoint::Engine;
use call_service::socketio::engine::handshake::Handshake;
use call_service::socketio::engine::options::{CorsOrigins, Options};
use call_service::socketio::engine::session::Session;
use call_service::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use call_service::socketio::hub::Hub;
use call_service::socketio::json::Args;
use call_service::socketio::outlet::Outlet;
use call_service::socketio::packet::Packet;
use clap::Parser;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

#[derive(Parser)]
struct Settings {
    /// Port of the protocol suites: a bare echo at /engine.io/, Socket.IO at /socket.io/.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Port of the JavaScript client's tests.
    #[arg(long, default_value_t = 3210)]
    client_port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    let protocol = Arc::new(Protocol::new());
    for listener in listen(settings.port).await {
        let protocol = Arc::clone(&protocol);
        tokio::spawn(accept(listener, move |request, remote| {
            let protocol = Arc::clone(&protocol);
            async move { protocol.answer(request, remote).await }
        }));
    }
    let options = Options { ping_interval: Duration::from_secs(2), ..reference_options() };
    let client = Arc::new(Endpoint::new(Arc::new(ClientSuite), options, [Handle::current()]));
    for listener in listen(settings.client_port).await {
        let client = Arc::clone(&client);
        tokio::spawn(accept(listener, move |request: Request<Incoming>, remote| {
            let client = Arc::clone(&client);
            async move {
                if !request.uri().query().unwrap_or_default().contains("sid=") {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                client.handle(request, remote).await
            }
        }));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// The reference server's defaults, as far as they differ from the service's.
fn reference_options() -> Options {
    Options {
        max_payload: 1_000_000,
        connect_timeout: Duration::from_secs(45),
        cors_origins: CorsOrigins::Any,
        queue_bytes_max: 8 * 1024 * 1024,
        packets_per_post_max: 1000,
        namespaces_per_connection_max: 16,
        ..Options::default()
    }
}

/// Both loopbacks; a machine may lack one.
async fn listen(port: u16) -> Vec<TcpListener> {
    let mut listeners = Vec::new();
    listeners.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await);
    listeners.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await);
    listeners
}

async fn accept<F>(
    listener: TcpListener,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    while let Ok((stream, remote)) = listener.accept().await {
        tokio::spawn(serve(stream, remote, answer.clone()));
    }
}

async fn serve<F>(
    stream: TcpStream,
    remote: SocketAddr,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Sync,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let service = service_fn(|request| {
        let answer = answer(request, remote);
        async { Ok::<_, Infallible>(answer.await) }
    });
    // An error is a client that went away or spoke no HTTP.
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

// === the protocol suites ===

struct Protocol {
    engine: Engine<Echo>,
    socketio: Endpoint<ProtocolSuite>,
}

impl Protocol {
    fn new() -> Self {
        let options = Options {
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(1),
            ..reference_options()
        };
        let engine = Options { path: "/engine.io/".to_owned(), ..options.clone() };
        let suite = Arc::new(ProtocolSuite { hub: Arc::new(Hub::new()) });
        Self {
            engine: Engine::new(Echo, engine, [Handle::current()]),
            socketio: Endpoint::new(suite, options, [Handle::current()]),
        }
    }

    async fn answer(&self, request: Request<Incoming>, remote: SocketAddr) -> Answer {
        if self.engine.serves(request.uri().path()) {
            self.engine.handle(request, remote).await
        } else if self.socketio.serves(request.uri().path()) {
            self.socketio.handle(request, remote).await
        } else {
            Refusal::BadRequest.answer()
        }
    }
}

/// Every message goes back as it came.
struct Echo;

impl Application for Echo {
    type State = Arc<Session>;

    fn open(&self, session: &Arc<Session>, _: Handshake) -> Arc<Session> {
        session.settle();
        Arc::clone(session)
    }

    fn text(&self, session: &mut Arc<Session>, text: &str) -> Result<(), DisconnectReason> {
        session.send_text(text);
        Ok(())
    }

    fn binary(&self, session: &mut Arc<Session>, data: &[u8]) -> Result<(), DisconnectReason> {
        session.send_binary(data);
        Ok(())
    }

    fn attend(&self, _: &mut Arc<Session>) {}

    fn closed(&self, _: &mut Arc<Session>, _: DisconnectReason) {}
}

struct ProtocolSuite {
    hub: Arc<Hub>,
}

/// A client of the protocol suites.
struct Tester {
    auth: String,
    rooms: Mutex<Vec<String>>,
}

impl Handler for ProtocolSuite {
    type Session = Tester;

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<Tester, Refused> {
        match request.namespace {
            "/" | "/custom" => {
                let auth = request.auth.map_or("{}", RawValue::get).to_owned();
                Ok(Tester { auth, rooms: Mutex::default() })
            }
            "/denied" => Err(Refused {
                message: "denied".into(),
                data: RawValue::from_string(r#"{"code":7}"#.to_owned()).ok(),
            }),
            _ => Err(Refused::invalid_namespace()),
        }
    }

    fn connected(&self, socket: &Socket<Tester>) {
        socket.outlet().send(&Packet::event("auth", &[&socket.session().auth]));
    }

    fn event(&self, socket: &Socket<Tester>, event: Event<'_>) {
        let outlet = socket.outlet();
        if outlet.namespace() != "/" {
            return;
        }
        match event.name {
            "message" => outlet.send(&relayed("message-back", event.args, event.attachments)),
            "message-with-ack" => answer(event, |event| text_of(event.args)),
            "ask" => ask(outlet),
            "leave-me" => outlet.disconnect(false),
            "kick-me" => outlet.disconnect(true),
            "join" => answer(event, |event| {
                let room = first_string(event.args);
                self.hub.join(&room, outlet);
                socket.session().rooms.lock().push(room);
                String::new()
            }),
            "leave" => answer(event, |event| {
                let room = first_string(event.args);
                self.hub.leave(&room, socket.id());
                socket.session().rooms.lock().retain(|it| *it != room);
                String::new()
            }),
            "say" => answer(event, |event| {
                if let Some((_, what)) = event.args.split_first() {
                    let packet = relayed("said", what, event.attachments);
                    self.hub.send_except(&first_string(event.args), socket.id(), &packet);
                }
                String::new()
            }),
            _ => (),
        }
    }

    fn disconnected(&self, socket: &Socket<Tester>, _: DisconnectReason) {
        for room in socket.session().rooms.lock().drain(..) {
            self.hub.leave(&room, socket.id());
        }
    }
}

fn ask(outlet: &Outlet) {
    let to = outlet.clone();
    let question = Packet::event("question", &[]);
    outlet.emit_with_ack(&question, Duration::from_secs(10), move |reply| {
        if let Ok(reply) = reply {
            to.send(&relayed("answered", reply.args, reply.attachments));
        }
    });
}

/// Acks with what `args` says, and with the attachments that came.
fn answer(mut event: Event<'_>, args: impl FnOnce(&Event<'_>) -> String) {
    let ack = event.ack.take();
    let args = args(&event);
    // Only an echo has placeholders for attachments.
    let attachments = if args.contains("_placeholder") { event.attachments } else { &[] };
    if let Some(ack) = ack {
        ack.send_with_attachments(&args, attachments);
    }
}

fn relayed(name: &str, args: Args<'_>, attachments: &[Bytes]) -> Packet {
    Packet::build(name, attachments, |out| args.write(out))
}

fn text_of(args: Args<'_>) -> String {
    args.iter().map(RawValue::get).collect::<Vec<_>>().join(",")
}

fn first_string(args: Args<'_>) -> String {
    let first = args.get(0).map(RawValue::get);
    first.and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default()
}

// === the JavaScript client's tests ===

struct ClientSuite;

/// A client of the JavaScript client's tests.
struct Visitor {
    /// `{query, auth}` of its handshake.
    handshake: String,
    /// How far it has come in a sequence of blobs.
    blobs: AtomicU8,
}

impl Handler for ClientSuite {
    type Session = Visitor;

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<Visitor, Refused> {
        match request.namespace {
            "/" if request.handshake.query("fail").is_some() => {
                Err(Refused::new("Auth failed (main namespace)"))
            }
            "/no" => Err(Refused::new("Auth failed (custom namespace)")),
            "/" | "/foo" | "/timeout_socket" | "/valid" | "/asd" | "/abc" => {
                let query: serde_json::Map<_, _> = request
                    .handshake
                    .query_pairs()
                    .map(|(key, value)| (key.into_owned(), value.into_owned().into()))
                    .collect();
                let handshake = json!({ "query": query, "auth": request.auth });
                Ok(Visitor { handshake: handshake.to_string(), blobs: AtomicU8::new(0) })
            }
            _ => Err(Refused::invalid_namespace()),
        }
    }

    fn connected(&self, socket: &Socket<Visitor>) {
        if socket.outlet().namespace() == "/abc" {
            socket.outlet().send(&Packet::event("handshake", &[&socket.session().handshake]));
        }
    }

    fn event(&self, socket: &Socket<Visitor>, event: Event<'_>) {
        let id = format!("\"{}\"", socket.id());
        match (socket.outlet().namespace(), event.name) {
            ("/" | "/foo", "getId") => answer(event, |_| id),
            ("/", "getHandshake") => answer(event, |_| socket.session().handshake.clone()),
            ("/", "echo") => answer(event, |event| text_of(event.args)),
            ("/", "getAckDate") => answer(event, |_| now()),
            ("/", _) => visit(socket, &event),
            _ => (),
        }
    }

    fn disconnected(&self, _: &Socket<Visitor>, _: DisconnectReason) {}
}

fn visit(socket: &Socket<Visitor>, event: &Event<'_>) {
    let outlet = socket.outlet();
    let send = |name: &str, args: &[&str]| outlet.send(&Packet::event(name, args));
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let binary = |name: &str| {
        let attachments = [Bytes::from_static(b"asdfasdf")];
        outlet.send(&Packet::with_attachments(name, &[placeholder], &attachments));
    };
    match event.name {
        "hi" => send("hi", &[]),
        "ack" => ask_for_test(outlet),
        "getDate" => send("takeDate", &[&now()]),
        "getDateObj" => send("takeDateObj", &[&format!(r#"{{"date":{}}}"#, now())]),
        "getUtf8" => {
            for text in ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]
            {
                send("takeUtf8", &[&format!("\"{text}\"")]);
            }
        }
        "false" => send("false", &["false"]),
        "doge" => binary("doge"),
        "getbin" => binary("takebin"),
        "buffa" if event.attachments.len() == 1 => send("buffack", &[]),
        "jsonbuff" if is_message(event) => send("jsonbuff-ack", &[]),
        "jsonblob" if is_message(event) => send("jsonblob-ack", &[]),
        "abuff1" => in_order(socket, 0, 1, None),
        "abuff2" => in_order(socket, 1, 0, Some("abuff2-ack")),
        "blob1" => in_order(socket, 0, 11, None),
        "blob2" => in_order(socket, 11, 12, None),
        "blob3" => in_order(socket, 12, 0, Some("blob3-ack")),
        "blob" if event.attachments.len() == 1 => send("back", &[]),
        _ => (),
    }
}

/// Sends `done` if the steps before this one were taken.
fn in_order(socket: &Socket<Visitor>, before: u8, after: u8, done: Option<&str>) {
    let blobs = &socket.session().blobs;
    if blobs.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        && let Some(done) = done
    {
        socket.outlet().send(&Packet::event(done, &[]));
    }
}

fn is_message(event: &Event<'_>) -> bool {
    let value = event.args.get(0).map(RawValue::get);
    let value = value.and_then(|it| serde_json::from_str::<serde_json::Value>(it).ok());
    let placeholder = json!({ "_placeholder": true, "num": 0 });
    value == Some(json!({ "hello": "lol", "message": placeholder, "goodbye": "gotcha" }))
}

fn ask_for_test(outlet: &Outlet) {
    let to = outlet.clone();
    let question = Packet::event("ack", &[]);
    outlet.emit_with_ack(&question, Duration::from_secs(10), move |reply| {
        let expected = |args: Args<'_>| text_of(args) == r#"5,{"test":true}"#;
        if reply.is_ok_and(|reply| expected(reply.args)) {
            to.send(&Packet::event("got it", &[]));
        }
    });
}

/// The time as a JSON string.
fn now() -> String {
    format!("\"{:.3}\"", jiff::Timestamp::now())
}
