//! A server with a small service on it, and clients that say exactly what they are told to.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use call_service::socketio::DisconnectReason;
use call_service::socketio::endpoint::Endpoint;
use call_service::socketio::engine::options::Options;
use call_service::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use call_service::socketio::hub::Hub;
use call_service::socketio::outlet::{Ack, Outlet};
use call_service::socketio::packet::Packet;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tungstenite::protocol::WebSocket;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

/// No test waits longer for anything that ought to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

// === the service ===

pub(crate) struct Service {
    pub(crate) hub: Hub,
    /// The last client that connected.
    pub(crate) outlet: Mutex<Option<Outlet>>,
    /// An ack that the test answers when it likes.
    pub(crate) held: Mutex<Option<Ack>>,
    disconnects: SyncSender<String>,
    replies: SyncSender<String>,
}

impl Handler for Service {
    type Session = ();

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<(), Refused> {
        match request.namespace {
            "/panic" => panic!("asked for by the test"),
            "/denied" => Err(Refused {
                message: "\"denied\"".into(),
                data: RawValue::from_string(r#"{"code":7}"#.to_owned()).ok(),
            }),
            it if it == "/" || it.starts_with("/room") => Ok(()),
            _ => Err(Refused::invalid_namespace()),
        }
    }

    fn connected(&self, socket: &Socket<()>) {
        *self.outlet.lock() = Some(socket.outlet().clone());
        self.hub.join("all", socket.outlet());
    }

    fn event(&self, socket: &Socket<()>, mut event: Event<'_>) {
        let outlet = socket.outlet();
        match event.name {
            "echo" => outlet.send_event("echo", |out| event.args.write(out)),
            "ack" => event.ack.take().expect("an ack id").send("1,\"two\""),
            "ack-binary" => {
                let placeholder = r#"{"_placeholder":true,"num":0}"#;
                let ack = event.ack.take().expect("an ack id");
                ack.send_with_attachments(placeholder, &[Bytes::from_static(&[1, 2])]);
            }
            "hold" => *self.held.lock() = event.ack.take(),
            "ask" => self.ask(outlet, Duration::from_millis(50)),
            "ask-patiently" => self.ask(outlet, PATIENCE),
            "say" => {
                let packet = Packet::build("said", event.attachments, |out| event.args.write(out));
                self.hub.send_except("all", socket.id(), &packet);
            }
            "flood" => flood(outlet, &event),
            "leave" => outlet.disconnect(false),
            "kick" => outlet.disconnect(true),
            "panic" => panic!("asked for by the test"),
            _ => (),
        }
    }

    fn disconnected(&self, socket: &Socket<()>, reason: DisconnectReason) {
        self.hub.leave("all", socket.id());
        let said = format!("{} {reason}", socket.outlet().namespace());
        self.disconnects.send(said).expect("the test listens");
    }
}

impl Service {
    fn ask(&self, outlet: &Outlet, timeout: Duration) {
        let replies = self.replies.clone();
        outlet.emit_with_ack(&Packet::event("question", &[]), timeout, move |reply| {
            let said = match reply {
                Ok(reply) => {
                    let mut out = Vec::new();
                    reply.args.write(&mut out);
                    String::from_utf8(out).expect("JSON is UTF-8")
                }
                Err(error) => error.to_string(),
            };
            replies.send(said).expect("the test listens");
        });
    }
}

/// Sends `[count, bytes]`: so many events of that size, numbered.
fn flood(outlet: &Outlet, event: &Event<'_>) {
    let number = |index: usize| -> usize {
        event.args.get(index).and_then(|it| it.get().parse().ok()).expect("a number")
    };
    let filler = "x".repeat(number(1));
    for index in 0..number(0) {
        outlet.send(&Packet::event("flood", &[&index.to_string(), &format!("\"{filler}\"")]));
    }
}

// === the server ===

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: Arc<Service>,
    pub(crate) endpoint: Arc<Endpoint<Service>>,
    pub(crate) runtime: Runtime,
    disconnects: Receiver<String>,
    replies: Receiver<String>,
}

/// How connections come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    /// Something that is not plain TCP, as a TLS stream is not.
    Wrapped,
}

impl Server {
    pub(crate) fn start(adjust: impl FnOnce(&mut Options)) -> Self {
        Self::start_on(Carrier::Tcp, adjust)
    }

    pub(crate) fn start_on(carrier: Carrier, adjust: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        adjust(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (said_goodbye, disconnects) = sync_channel(1000);
        let (answered, replies) = sync_channel(1000);
        let service = Arc::new(Service {
            hub: Hub::new(),
            outlet: Mutex::default(),
            held: Mutex::default(),
            disconnects: said_goodbye,
            replies: answered,
        });
        let websockets = [runtime.handle().clone()];
        let endpoint = Arc::new(Endpoint::new(Arc::clone(&service), options, websockets));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener");
        let answering = Arc::clone(&endpoint);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, remote)) = listener.accept().await {
                let endpoint = Arc::clone(&answering);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let endpoint = Arc::clone(&endpoint);
                        async move { Ok::<_, Infallible>(endpoint.handle(request, remote).await) }
                    });
                    let builder = Builder::new(TokioExecutor::new());
                    let served = if carrier == Carrier::Tcp {
                        let io = TokioIo::new(stream);
                        builder.serve_connection_with_upgrades(io, service).await
                    } else {
                        let io = TokioIo::new(Wrapped(stream));
                        builder.serve_connection_with_upgrades(io, service).await
                    };
                    drop(served);
                });
            }
        });
        Self { address, service, endpoint, runtime, disconnects, replies }
    }

    /// The next `namespace reason` that the service was told.
    pub(crate) fn disconnect(&self) -> String {
        self.disconnects.recv_timeout(PATIENCE).expect("a disconnect")
    }

    /// Nobody was disconnected so far.
    pub(crate) fn nobody_left(&self) -> bool {
        self.disconnects.try_recv().is_err()
    }

    /// What became of the next `ask`.
    pub(crate) fn reply(&self) -> String {
        self.replies.recv_timeout(PATIENCE).expect("a reply")
    }

    /// The outlet of the last client that connected.
    pub(crate) fn outlet(&self) -> Outlet {
        self.service.outlet.lock().clone().expect("a client")
    }

    /// Sends an HTTP request of its own connection, without waiting for the answer.
    pub(crate) fn begin(&self, method: &str, query: &str, headers: &str, body: &str) -> Pending {
        let head = format!(
            "{method} /socket.io/?{query} HTTP/1.1\r\nhost: calls.test\r\nconnection: close\r\n\
             content-length: {}\r\n{headers}\r\n",
            body.len()
        );
        let mut stream = self.stream();
        stream.write_all(head.as_bytes()).expect("a request");
        // A body that is refused by its length may find the connection closed.
        drop(stream.write_all(body.as_bytes()));
        Pending(stream)
    }

    pub(crate) fn http(&self, method: &str, query: &str, headers: &str, body: &str) -> Reply {
        self.begin(method, query, headers, body).finish()
    }

    pub(crate) fn get(&self, query: &str) -> Reply {
        self.http("GET", &format!("EIO=4&transport=polling{query}"), "", "")
    }

    pub(crate) fn post(&self, sid: &str, body: &str) -> Reply {
        self.http("POST", &format!("EIO=4&transport=polling&sid={sid}"), "", body)
    }

    pub(crate) fn poll(&self, sid: &str) -> Reply {
        self.get(&format!("&sid={sid}"))
    }

    /// A new polling session.
    pub(crate) fn session(&self) -> String {
        let handshake: Value = serde_json::from_str(&self.get("").body[1..]).expect("a handshake");
        handshake["sid"].as_str().expect("a sid").to_owned()
    }

    /// A new polling session in the main namespace.
    pub(crate) fn poller(&self) -> String {
        let sid = self.session();
        assert_eq!(self.post(&sid, "40").body, "ok");
        assert!(self.poll(&sid).body.starts_with("40{"));
        sid
    }

    pub(crate) fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// A websocket whose handshake is not read.
    pub(crate) fn websocket(&self, query: &str) -> Client {
        let url = format!("ws://calls.test/socket.io/?EIO=4&transport=websocket{query}");
        let (socket, _) = tungstenite::client(url, self.stream()).expect("a websocket");
        Client(socket)
    }

    /// A websocket with its Engine.IO handshake read.
    pub(crate) fn engine(&self) -> Client {
        let mut client = self.websocket("");
        assert!(client.text().starts_with("0{"));
        client
    }

    /// A websocket in the main namespace.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.engine();
        client.send("40");
        assert!(client.text().starts_with("40{"));
        client
    }

    /// Waits until `what` holds.
    pub(crate) fn until(&self, mut what: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !what() {
            assert!(Instant::now() < end, "it never came to hold");
            self.pause(5);
        }
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn pause(&self, milliseconds: u64) {
        let pause = Duration::from_millis(milliseconds);
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }
}

/// A request under way.
pub(crate) struct Pending(pub(crate) TcpStream);

impl Pending {
    pub(crate) fn finish(mut self) -> Reply {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            // Answered, then reset because the body was not read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (),
            read => drop(read.expect("an answer in time")),
        }
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// Goes away without waiting for the answer.
    pub(crate) fn cancel(self) {
        self.0.shutdown(Shutdown::Both).expect("an open connection");
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Status line and headers in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(": "))
    }
}

// === a websocket client ===

pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Client {
    pub(crate) fn send(&mut self, text: &str) {
        // A server that closes meanwhile is what some tests are about.
        drop(self.0.send(Message::text(text)));
    }

    pub(crate) fn send_binary(&mut self, data: &[u8]) {
        drop(self.0.send(Message::binary(data.to_vec())));
    }

    /// Sends bytes that are no frames of tungstenite's making.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        drop(self.0.get_mut().write_all(bytes));
    }

    /// The next text message; Engine.IO pings are answered and passed over.
    pub(crate) fn text(&mut self) -> String {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) if text.as_str() == "2" => self.send("3"),
                Ok(Message::Text(text)) => return text.as_str().to_owned(),
                Ok(Message::Ping(_) | Message::Pong(_)) => (),
                other => panic!("text expected, got {other:?}"),
            }
        }
    }

    pub(crate) fn binary(&mut self) -> Vec<u8> {
        match self.0.read() {
            Ok(Message::Binary(data)) => data.to_vec(),
            other => panic!("binary expected, got {other:?}"),
        }
    }

    /// Reads until the server closes; the code it gave.
    pub(crate) fn closed(&mut self) -> Option<CloseCode> {
        loop {
            match self.0.read() {
                Ok(Message::Close(frame)) => return frame.map(|it| it.code),
                Ok(_) => (),
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("the server did not close")
                }
                Err(_) => return None,
            }
        }
    }

    /// The connection still serves events.
    pub(crate) fn is_alive(&mut self) {
        self.send(r#"42["echo","alive"]"#);
        assert_eq!(self.text(), r#"42["echo","alive"]"#);
    }

    /// Nothing comes for so many milliseconds.
    pub(crate) fn silent_for(&mut self, milliseconds: u64) -> bool {
        let timeout = Duration::from_millis(milliseconds);
        self.0.get_ref().set_read_timeout(Some(timeout)).expect("a time-out");
        let silent = matches!(
            self.0.read(),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        );
        self.0.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out");
        silent
    }
}

/// A TCP stream that hyper cannot give back as one.
struct Wrapped(tokio::net::TcpStream);

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
