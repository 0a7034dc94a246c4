//! Load for the benches; the floors that the service is held against; and the processor time that a process takes
//! for an operation meanwhile. Each command prints one line of JSON. `node benches/paths.mjs` runs them in turns.

#![expect(clippy::print_stdout, reason = "what the benches read")]

mod bus;
mod figures;
mod floors;
mod http;
mod lives;
mod people;
mod relay;
mod sockets;

use std::error::Error;
use std::time::Duration;

use clap::{Args, Parser};
use serde_json::Value;

/// What went wrong, for whoever ran it.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Load {
    /// Be the least that an HTTP service can be.
    FloorHttp { port: u16 },
    /// Be the least that a relay between websockets can be.
    FloorRelay { port: u16 },
    /// Pass messages through a Redis and nothing else: the least that a relay between nodes can cost.
    Bus {
        #[arg(long)]
        redis: String,
        #[command(flatten)]
        span: Span,
        /// On their way, where there is no rate.
        #[arg(long, default_value_t = 100)]
        window: usize,
        #[arg(long, default_value_t = 330)]
        bytes: usize,
    },
    /// Ask the same few things again and again, as read from standard input.
    Requests {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
    /// Start calls, join and end them.
    Lives {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value_t = 256)]
        clients: usize,
    },
    /// Start calls of two, join them, and leave them be.
    Fill {
        #[command(flatten)]
        on: On,
        #[arg(long)]
        calls: usize,
        #[arg(long, default_value_t = 256)]
        clients: usize,
    },
    /// Pass messages from one of each pair to the other.
    Relay {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        messages: relay::Messages,
    },
    /// Open websockets and leave them be.
    Idle {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
        /// Of the floor's kind.
        #[arg(long)]
        bare: bool,
        /// Stay after the figures are printed, until it is stopped.
        #[arg(long)]
        stay: bool,
    },
}

/// On whom, and for how long.
#[derive(Args, Clone)]
pub(crate) struct On {
    /// Host and port.
    #[arg(long)]
    address: String,
    /// The process whose time is counted.
    #[arg(long)]
    pid: u32,
    /// What checks tokens there.
    #[arg(long, default_value = "secret")]
    secret: String,
    #[command(flatten)]
    span: Span,
}

/// For how long, and how much.
#[derive(Args, Clone)]
pub(crate) struct Span {
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// So many a second, whatever comes back when; as many as go without.
    #[arg(long)]
    rate: Option<f64>,
}

impl Span {
    fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn warms_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}

fn main() -> Result<(), Failure> {
    let load = Load::parse();
    // A server may use all processors; whoever asks it leaves it one.
    let is_server = matches!(load, Load::FloorHttp { .. } | Load::FloorRelay { .. });
    let runtime = if is_server {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    };
    let found = runtime.block_on(run(load))?;
    println!("{found}");
    Ok(())
}

async fn run(load: Load) -> Result<Value, Failure> {
    match load {
        Load::FloorHttp { port } => floors::http(port).await,
        Load::FloorRelay { port } => floors::relay(port).await,
        Load::Bus { redis, span, window, bytes } => {
            Box::pin(bus::run(&redis, &span, window, bytes)).await
        }
        Load::Requests { on, connections } => http::requests(on, connections).await,
        Load::Lives { on, clients } => lives::run(on, clients).await,
        Load::Fill { on, calls, clients } => lives::fill(on, calls, clients).await,
        Load::Relay { on, messages } => relay::run(on, messages).await,
        Load::Idle { on, sockets, bare, stay } => {
            let (found, all) = sockets::idle(&on, sockets, bare).await?;
            if stay {
                println!("{found}");
                sockets::attend(all).await;
            }
            Ok(found)
        }
    }
}
