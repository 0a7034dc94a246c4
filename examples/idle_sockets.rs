//! What an idle, authenticated websocket costs: resident memory of the whole service, per socket.
//!
//! `cargo run --release --example idle_sockets -- --sockets 5000` starts itself a second time as
//! the service on an empty data folder, connects that many users with their tokens, waits until
//! each has its `call:sync`, and prints KiB per socket. The budget is 4 KiB.

use std::error::Error;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use call_service::auth::Verifier;
use call_service::call::id::UserId;
use call_service::clock::Clock;
use call_service::config::Config;
use call_service::{server, telemetry};
use clap::Parser;

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
    /// Be the service, with its data in this folder and on the given port.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
    /// Where the service listens.
    #[arg(long, hide = true, default_value_t = 0)]
    port: u16,
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    match settings.serve {
        Some(folder) => serve(&folder, settings.port),
        None => measure(settings.sockets),
    }
}

// === the server ===

/// As a start with these variables of the environment would have it. The limits of rates are off:
/// all clients come at once, from one address.
fn config(folder: &Path, port: u16) -> Result<Config, Box<dyn Error>> {
    let set = |name: &str| match name {
        "HOST" => Some("127.0.0.1".to_owned()),
        "PORT" => Some(port.to_string()),
        "METRICS_PORT" | "RATE_LIMITS" => Some("off".to_owned()),
        "LOG_LEVEL" => Some("warn".to_owned()),
        "DATA_DIR" => Some(folder.display().to_string()),
        "JWT_SECRET" => Some("known to this measurement alone".to_owned()),
        _ => None,
    };
    Ok(Config::load(set)?)
}

fn serve(folder: &Path, port: u16) -> Result<(), Box<dyn Error>> {
    let config = config(folder, port)?;
    let figures = telemetry::start(config.log_level.name());
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(server::run(config, figures, pending()))?)
}

// === the clients ===

fn measure(sockets: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Free a moment ago, and nobody else is about to take it.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut service = Command::new(std::env::current_exe()?)
        .args(["--port", &port.to_string(), "--serve"])
        .arg(folder.path())
        .spawn()?;
    let tokens = Tokens::new(folder.path(), port)?;
    let measured = connect_and_compare(service.id(), port, sockets, &tokens);
    service.kill()?;
    service.wait()?;
    let kib = measured?;
    writeln!(std::io::stdout(), "{kib:.2} KiB per idle websocket ({sockets} of them)")?;
    if kib > BUDGET_KIB { Err(format!("more than {BUDGET_KIB} KiB").into()) } else { Ok(()) }
}

/// Tokens that the service accepts.
struct Tokens {
    verifier: Verifier,
    clock: Clock,
}

impl Tokens {
    fn new(folder: &Path, port: u16) -> Result<Self, Box<dyn Error>> {
        let verifier = Verifier::new(&config(folder, port)?.identity)?;
        Ok(Self { verifier, clock: Clock::start() })
    }

    fn of(&self, user: usize) -> Result<String, Box<dyn Error>> {
        let user = UserId::parse(&format!("user-{user:06}"))?;
        let lifetime = Duration::from_hours(1);
        let token = self.verifier.issue(&user, Some("Somebody"), self.clock.wall(), lifetime);
        token.ok_or_else(|| "no key to sign with".into())
    }
}

fn connect_and_compare(
    service: u32,
    port: u16,
    sockets: usize,
    tokens: &Tokens,
) -> Result<f64, Box<dyn Error>> {
    let mut clients = vec![first(port, tokens)?];
    for user in 1..WARM_UP {
        clients.push(connect(port, &tokens.of(user)?)?);
    }
    let before = settled_kib(service)?;
    for user in WARM_UP..WARM_UP + sockets {
        clients.push(connect(port, &tokens.of(user)?)?);
    }
    let after = settled_kib(service)?;
    let count = f64::from(u32::try_from(sockets)?);
    Ok((after - before) / count)
}

/// The first client waits until the service is there.
fn first(port: u16, tokens: &Tokens) -> Result<TcpStream, Box<dyn Error>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match connect(port, &tokens.of(0)?) {
            Err(_) if Instant::now() < end => {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// A websocket whose user has its `call:sync`.
fn connect(port: u16, token: &str) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: localhost\r\n\
                user-agent: Mozilla/5.0 (X11; Linux x86_64) Safari/537.36\r\n\
                connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    until(&mut stream, b"\"maxPayload\":65536}")?;
    let packet = format!("40{{\"token\":\"{token}\"}}");
    // A masked text frame with a length of two bytes (RFC 6455, 5.2), and a mask that changes nothing.
    let [high, low] = u16::try_from(packet.len())?.to_be_bytes();
    let frame = [0x81, 0x80 | 0x7e, high, low, 0, 0, 0, 0];
    stream.write_all(&[&frame, packet.as_bytes()].concat())?;
    until(&mut stream, b"}]")?;
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
