//! The bus alone, without calls: one node writes to another, which writes back. So many letters are on
//! their way at any time. A line says that both are there, another what came of it.

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use call_service::bus::directory::{Bus, Incoming, Mailbox};
use call_service::bus::error::BusError;
use call_service::bus::letter::{Kind, Letter};
use call_service::bus::node::NodeId;
use call_service::call::id::CallId;
use call_service::config::Secret;
use call_service::config::redis::Redis;
use clap::Parser;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// As long as an errand with its settings is.
static BODY: [u8; 330] = [b'x'; 330];
/// How long a letter on its way is waited for.
const STRAGGLER: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Settings {
    #[arg(long)]
    url: String,
    #[arg(long, default_value_t = 1)]
    window: u32,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

fn node(name: &str) -> Result<NodeId, &'static str> {
    NodeId::fresh(name).ok_or("no random bytes")
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what the bench reads")]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    let redis =
        Redis { url: Secret::new(&settings.url), tls_ca: None, prefix: Arc::from("trips:") };
    let (a, at_a) = Bus::connect(&redis, node("a")?).await?;
    let (b, at_b) = Bus::connect(&redis, node("b")?).await?;
    println!("{}", json!({ "isWell": a.is_well() && b.is_well() }));
    let to = b.me().clone();
    tokio::spawn(answer(b, at_b));
    let mut trips = Trips { a, to, sent: HashMap::new(), times: Vec::new() };
    let until = Instant::now() + Duration::from_secs_f64(settings.seconds);
    trips.go(at_a, settings.window, until).await?;
    trips.times.sort_unstable();
    let at = |part: usize| trips.times.get(trips.times.len() * part / 100).map(micros);
    println!(
        "{}",
        json!({
            "count": trips.times.len(),
            "lost": trips.sent.len(),
            "p50": at(50),
            "p99": at(99),
        })
    );
    // Until then it can be seen what this has cost.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn micros(it: &Duration) -> f64 {
    it.as_secs_f64() * 1e6
}

async fn answer(b: Bus, mut mailbox: Mailbox) {
    while let Some(incoming) = mailbox.recv().await {
        if let Incoming::Letter(letter) = incoming {
            drop(b.post(&letter.from, written(&b, Kind::Answer, letter.id)));
        }
    }
}

fn written(by: &Bus, kind: Kind, id: u128) -> Letter {
    Letter {
        kind,
        id,
        from: by.me().clone(),
        call: CallId(Uuid::nil()),
        epoch: 0,
        seq: 0,
        prev: 0,
        to: Vec::new(),
        body: Bytes::from_static(&BODY),
    }
}

/// Letters of one node to the other, and how long it took until their answers came.
struct Trips {
    a: Bus,
    to: NodeId,
    sent: HashMap<u128, Instant>,
    times: Vec<Duration>,
}

impl Trips {
    fn send(&mut self, id: u128) -> Result<(), BusError> {
        self.sent.insert(id, Instant::now());
        self.a.post(&self.to, written(&self.a, Kind::Ask, id))
    }

    async fn go(
        &mut self,
        mut mailbox: Mailbox,
        window: u32,
        until: Instant,
    ) -> Result<(), BusError> {
        let mut ids = 1..;
        for id in ids.by_ref().take(usize::try_from(window).unwrap_or(1)) {
            self.send(id)?;
        }
        while !self.sent.is_empty() {
            let heard = timeout_at(until + STRAGGLER, mailbox.recv()).await;
            let Ok(Some(incoming)) = heard else { break };
            let Incoming::Letter(letter) = incoming else { continue };
            let Some(sent) = self.sent.remove(&letter.id) else { continue };
            self.times.push(sent.elapsed());
            if Instant::now() < until
                && let Some(id) = ids.next()
            {
                self.send(id)?;
            }
        }
        Ok(())
    }
}
