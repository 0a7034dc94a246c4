//! What an idle, connected websocket costs: resident memory of a server process, per socket.
//!
//! `cargo run --release --example idle_sockets -- --sockets 5000` starts itself a second time as
//! the server, connects that many clients and prints KiB per socket. The budget is 4 KiB.

use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use call_service::socketio::DisconnectReason;
use call_service::socketio::endpoint::Endpoint;
use call_service::socketio::engine::options::Options;
use call_service::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use call_service::socketio::hub::Hub;
use clap::Parser;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Idle sockets may cost so much, each.
const BUDGET_KIB: f64 = 4.0;
/// Clients that connect before the first measurement: what they cost once is not counted.
const WARM_UP: usize = 200;

#[derive(Parser)]
struct Settings {
    /// How many clients are measured.
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    /// Serve, and print the port.
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    if settings.serve { serve() } else { measure(settings.sockets) }
}

// === the server ===

/// Keeps of each client what a service would: who it is, and its room.
struct Users {
    hub: Hub,
}

impl Handler for Users {
    type Session = Box<str>;

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<Box<str>, Refused> {
        let auth = request.auth.ok_or_else(|| Refused::new("Who are you?"))?;
        Ok(auth.get().into())
    }

    fn connected(&self, socket: &Socket<Box<str>>) {
        self.hub.join(socket.session(), socket.outlet());
    }

    fn event(&self, _: &Socket<Box<str>>, _: Event<'_>) {}

    fn disconnected(&self, socket: &Socket<Box<str>>, _: DisconnectReason) {
        self.hub.leave(socket.session(), socket.id());
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let websockets = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let users = Arc::new(Users { hub: Hub::new() });
    let options = Options::default();
    let endpoint = Arc::new(Endpoint::new(users, options, [websockets.handle().clone()]));
    std::thread::spawn(move || websockets.block_on(std::future::pending::<()>()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
        loop {
            let (stream, remote) = listener.accept().await?;
            let endpoint = Arc::clone(&endpoint);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let endpoint = Arc::clone(&endpoint);
                    async move { Ok::<_, Infallible>(endpoint.handle(request, remote).await) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let io = TokioIo::new(stream);
                // An error is a client that went away.
                drop(builder.serve_connection_with_upgrades(io, service).await);
            });
        }
    })
}

// === the clients ===

fn measure(sockets: usize) -> Result<(), Box<dyn Error>> {
    let mut server =
        Command::new(std::env::current_exe()?).arg("--serve").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let output = server.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let port = line.trim().parse()?;
    let measured = connect_and_compare(server.id(), port, sockets);
    server.kill()?;
    server.wait()?;
    let kib = measured?;
    writeln!(std::io::stdout(), "{kib:.2} KiB per idle websocket ({sockets} of them)")?;
    if kib > BUDGET_KIB { Err(format!("more than {BUDGET_KIB} KiB").into()) } else { Ok(()) }
}

fn connect_and_compare(server: u32, port: u16, sockets: usize) -> Result<f64, Box<dyn Error>> {
    let mut clients = Vec::new();
    for user in 0..WARM_UP {
        clients.push(connect(port, user)?);
    }
    let before = settled_kib(server)?;
    for user in WARM_UP..WARM_UP + sockets {
        clients.push(connect(port, user)?);
    }
    let after = settled_kib(server)?;
    let count = f64::from(u32::try_from(sockets)?);
    Ok((after - before) / count)
}

/// A websocket in the main namespace.
fn connect(port: u16, user: usize) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: localhost\r\n\
                user-agent: Mozilla/5.0 (X11; Linux x86_64) Safari/537.36\r\n\
                connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    until(&mut stream, b"\"maxPayload\":65536}")?;
    let packet = format!("40{{\"user\":\"{user:06}\"}}");
    let length = u8::try_from(packet.len())?;
    stream.write_all(&[&[0x81, 0x80 | length, 0, 0, 0, 0], packet.as_bytes()].concat())?;
    until(&mut stream, b"\"}")?;
    Ok(stream)
}

fn until(stream: &mut TcpStream, end: &[u8]) -> Result<(), Box<dyn Error>> {
    let (mut got, mut buffer) = (Vec::new(), [0; 1024]);
    while !got.ends_with(end) {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server closed".into());
        }
        got.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    Ok(())
}

/// Resident memory once it has stopped changing.
fn settled_kib(process: u32) -> Result<f64, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut last = resident_kib(process)?;
    loop {
        std::thread::park_timeout(Duration::from_millis(300));
        let now = resident_kib(process)?;
        if (now - last).abs() < 1.0 || Instant::now() > end {
            return Ok(now);
        }
        last = now;
    }
}

fn resident_kib(process: u32) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
