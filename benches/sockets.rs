//! Websockets of clients over loopback: what they send is passed on, and what happens in a call is told to all of it.
#![expect(clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use call_service::socketio::DisconnectReason;
use call_service::socketio::endpoint::Endpoint;
use call_service::socketio::engine::options::Options;
use call_service::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use call_service::socketio::hub::Hub;
use call_service::socketio::packet::Packet;
use criterion::{Criterion, criterion_group, criterion_main};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tungstenite::{Message, WebSocket, client};

/// People of a call, and devices of each of them.
const MEMBERS: usize = 8;
const DEVICES: usize = 2;

/// Whoever connects is in the room that it names; events go to the other room of two.
struct Rooms(Arc<Hub>);

impl Handler for Rooms {
    type Session = String;

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<String, Refused> {
        let room = request.handshake.query("room");
        room.map(Cow::into_owned).ok_or(Refused::new("which room?"))
    }

    fn connected(&self, socket: &Socket<String>) {
        self.0.join(socket.session(), socket.outlet());
        socket.outlet().send(&Packet::event("ready", &[]));
    }

    fn event(&self, socket: &Socket<String>, event: Event<'_>) {
        let other = if socket.session() == "0" { "1" } else { "0" };
        let Some(argument) = event.args.get(0) else { return };
        for outlet in self.0.outlets(other) {
            outlet.send_event(event.name, |out| out.extend_from_slice(argument.get().as_bytes()));
        }
    }

    fn disconnected(&self, socket: &Socket<String>, _: DisconnectReason) {
        self.0.leave(socket.session(), socket.id());
    }
}

/// A server in a thread of its own, as the program has for its websockets; it ends with the bench.
fn serve() -> (SocketAddr, Arc<Hub>) {
    let hub = Arc::new(Hub::new());
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("as tokio wants it");
    let address = listener.local_addr().expect("is bound");
    let rooms = Arc::new(Rooms(Arc::clone(&hub)));
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("in a runtime");
            let sockets = Arc::new(Endpoint::new(rooms, Options::default(), [Handle::current()]));
            while let Ok((stream, remote)) = listener.accept().await {
                stream.set_nodelay(true).expect("TCP");
                let sockets = Arc::clone(&sockets);
                let service = service_fn(move |request: Request<Incoming>| {
                    let sockets = Arc::clone(&sockets);
                    async move { Ok::<_, Infallible>(sockets.handle(request, remote).await) }
                });
                let http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(http.with_upgrades());
            }
        });
    });
    (address, hub)
}

/// A device in a room, which is let in.
struct Device(WebSocket<TcpStream>);

impl Device {
    fn open(address: SocketAddr, room: usize) -> Self {
        let stream = TcpStream::connect(address).expect("is served");
        stream.set_nodelay(true).expect("TCP");
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&room={room}");
        let mut device = Self(client(url, stream).expect("a websocket").0);
        device.hear("0");
        device.say("40");
        device.hear("42[\"ready\"");
        device
    }

    fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).expect("is connected");
    }

    /// The next text that begins like that.
    fn hear(&mut self, head: &str) -> usize {
        loop {
            match self.0.read().expect("is connected") {
                Message::Text(text) if text.starts_with(head) => return text.len(),
                Message::Text(text) if text.as_str() == "2" => self.say("3"),
                Message::Close(why) => panic!("the server closed it: {why:?}"),
                Message::Text(_)
                | Message::Binary(_)
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Frame(_) => {}
            }
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let (address, hub) = serve();
    let rooms: Vec<String> = (0..MEMBERS).map(|it| it.to_string()).collect();
    let mut devices: Vec<Device> =
        (0..MEMBERS * DEVICES).map(|it| Device::open(address, it % MEMBERS)).collect();
    let data = r#"{"callId":"0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","seq":12,"timestamp":1767225600000,"userId":"user-000042","participant":{"audioEnabled":true,"videoEnabled":false,"screenShareEnabled":false}}"#;
    let name = "an event is told to eight members with two devices each";
    let tell = || {
        let packet = Packet::event("call:participant_updated", &[data]);
        for room in &rooms {
            hub.send(room, &packet);
        }
    };
    criterion.bench_function(&format!("{name}, until it has been handed over"), |bencher| {
        bencher.iter_custom(|turns| {
            let mut took = Duration::ZERO;
            for _ in 0..turns {
                let begun = Instant::now();
                tell();
                took += begun.elapsed();
                drain(&mut devices);
            }
            took
        });
    });
    criterion.bench_function(&format!("{name}, until all have it"), |bencher| {
        bencher.iter(|| {
            tell();
            drain(&mut devices);
        });
    });
    drop(devices);
    let (mut from, mut to) = (Device::open(address, 0), Device::open(address, 1));
    for (name, filled) in [("a candidate", 80), ("an offer of 4 KB", 3900)] {
        let payload = "x".repeat(filled);
        let event = format!(
            r#"42["webrtc:ice_candidate",{{"callId":"0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","targetUserId":"user-000042","candidate":{{"candidate":"{payload}","sdpMid":"0","sdpMLineIndex":0}}}}]"#
        );
        criterion.bench_function(&format!("{name}, from the bytes in to the bytes out"), |it| {
            it.iter(|| {
                from.say(&event);
                to.hear("42[\"webrtc:")
            });
        });
    }
}

/// Each hears one.
fn drain(devices: &mut [Device]) {
    for device in devices {
        device.hear("42[\"call:");
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
