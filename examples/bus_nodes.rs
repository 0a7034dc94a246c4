//! Two nodes over a Redis that a test makes fail: one writes to the other all the time, and asks. For each
//! line on standard input a line tells what has come of that since the last one.

use std::error::Error;
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use call_service::bus::directory::{Bus, Incoming, Mailbox, State};
use call_service::bus::letter::{Kind, Letter};
use call_service::bus::node::NodeId;
use call_service::call::id::{CallId, UserId};
use call_service::config::Secret;
use call_service::config::redis::Redis;
use clap::Parser;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::interval;
use uuid::Uuid;

/// How often a letter is written.
const LETTER_EVERY: Duration = Duration::from_millis(10);
/// How often something is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Settings {
    #[arg(long)]
    url: String,
    #[arg(long)]
    tls_ca: Option<std::path::PathBuf>,
}

/// What has come of it since the last report.
struct Seen {
    heard: u64,
    /// Letters that came after a later one, or twice.
    disordered: u64,
    last: u128,
    last_heard: Instant,
    silent: Duration,
    gaps: u64,
    undelivered: u64,
    answered: u64,
    failed: u64,
    longest: Duration,
}

impl Seen {
    fn new(last: u128, last_heard: Instant) -> Self {
        let silent = Duration::ZERO;
        let [heard, disordered, gaps, undelivered, answered, failed] = [0; 6];
        let longest = silent;
        Self {
            heard,
            disordered,
            last,
            last_heard,
            silent,
            gaps,
            undelivered,
            answered,
            failed,
            longest,
        }
    }

    fn take(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Letter(letter) => {
                self.heard += 1;
                self.disordered += u64::from(letter.id <= self.last);
                self.last = letter.id;
                self.silent = self.silent.max(self.last_heard.elapsed());
                self.last_heard = Instant::now();
            }
            Incoming::Undelivered(_) => self.undelivered += 1,
            Incoming::Gap => self.gaps += 1,
        }
    }

    fn note(&mut self, answered: bool, took: Duration) {
        self.answered += u64::from(answered);
        self.failed += u64::from(!answered);
        self.longest = self.longest.max(took);
    }
}

fn node(name: &str) -> Result<NodeId, &'static str> {
    NodeId::fresh(name).ok_or("no random bytes")
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what the test reads")]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    let prefix: Arc<str> = Arc::from("calls:");
    let redis = Redis {
        url: Secret::new(&settings.url),
        tls_ca: settings.tls_ca,
        prefix: Arc::clone(&prefix),
    };
    let begun = Instant::now();
    let opened = Bus::connect(&redis, node("a")?).await;
    let took = begun.elapsed().as_millis();
    let (a, at_a) = opened.inspect_err(|error| {
        println!("{}", json!({ "refused": format!("{:?}", error.kind), "tookMs": took }));
    })?;
    let (b, at_b) = Bus::connect(&redis, node("b")?).await?;
    let mailboxes = [&a, &b].map(|it| format!("{prefix}n:{{{}}}", it.me()));
    println!("{}", json!({ "mailboxes": mailboxes, "tookMs": took, "isWell": a.is_well() }));
    let seen = Arc::new(Mutex::new(Seen::new(0, Instant::now())));
    tokio::spawn(read(at_a, Arc::clone(&seen)));
    tokio::spawn(read(at_b, Arc::clone(&seen)));
    tokio::spawn(write(a.clone(), b.clone()));
    tokio::spawn(ask(a.clone(), Arc::clone(&seen)));
    let mut lines = lines();
    while lines.recv().await.is_some() {
        let mut seen = seen.lock();
        let silent = seen.silent.max(seen.last_heard.elapsed());
        let report = json!({
            "isWell": a.is_well() && b.is_well(),
            "heard": seen.heard,
            "disordered": seen.disordered,
            "silentMs": silent.as_millis(),
            "gaps": seen.gaps,
            "undelivered": seen.undelivered,
            "answered": seen.answered,
            "failed": seen.failed,
            "longestAskMs": seen.longest.as_millis(),
        });
        *seen = Seen::new(seen.last, seen.last_heard);
        drop(seen);
        println!("{report}");
    }
    Ok(())
}

fn lines() -> mpsc::Receiver<()> {
    let (sender, lines) = mpsc::channel(8);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}

async fn read(mut mailbox: Mailbox, seen: Arc<Mutex<Seen>>) {
    while let Some(incoming) = mailbox.recv().await {
        seen.lock().take(&incoming);
    }
}

async fn write(a: Bus, b: Bus) -> Option<()> {
    let mut clock = interval(LETTER_EVERY);
    for id in 1.. {
        clock.tick().await;
        let letter = Letter {
            kind: Kind::News,
            id,
            from: a.me().clone(),
            call: CallId(Uuid::nil()),
            epoch: 0,
            seq: 0,
            prev: 0,
            to: vec![UserId::parse("bob").ok()?],
            body: Bytes::from_static(b"{}"),
        };
        drop(a.post(b.me(), letter));
    }
    None
}

/// Asks about ever new calls, so that each server of a cluster has some of them.
async fn ask(a: Bus, seen: Arc<Mutex<Seen>>) {
    let mut clock = interval(ASK_EVERY);
    for seq in 1.. {
        clock.tick().await;
        let (a, seen) = (a.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let begun = Instant::now();
            let state = State { epoch: 1, seq, over: true, snapshot: b"{}" };
            let put = a.put(CallId(Uuid::now_v7()), &state, true).await;
            seen.lock().note(put.is_ok(), begun.elapsed());
        });
    }
}
