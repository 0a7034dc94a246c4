//! What it costs to write behind to Postgres, and how long a change is on its way there.
//!
//! No criterion here: each figure comes from one long run with processor time beside it, and each run
//! changes the server that the next one meets. All are taken on one server of one's own, with its
//! settings as they come.
//!
//! The other ways are what one could do instead, and are helped: their rows are in memory already,
//! while ours are read from the local file, and forgotten there once they have been committed. COPY
//! could not take our place (it knows no conflict) and shows how far there is to go.
#![expect(clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]
#![expect(clippy::print_stdout, reason = "this is what a bench says")]

mod calls;
mod delay;
mod server;
mod ways;

use std::time::Duration;

use server::Server;

/// How much is measured.
pub(crate) struct Scale {
    /// Calls that wait to be written behind; seven rows each.
    waiting: u64,
    /// How long single rows are inserted.
    singles: Duration,
    /// Calls a second, and for how long they come.
    load: (u32, Duration),
    /// How long a call rings, and how long it lasts.
    alive: (Duration, Duration),
}

const MEASURED: Scale = Scale {
    waiting: 20_000,
    singles: Duration::from_secs(5),
    load: (2_000, Duration::from_secs(20)),
    alive: (Duration::from_secs(1), Duration::from_secs(2)),
};

/// As a test, only whether it works.
const TRIED: Scale = Scale {
    waiting: 200,
    singles: Duration::from_millis(100),
    load: (200, Duration::from_millis(300)),
    alive: (Duration::from_millis(50), Duration::from_millis(50)),
};

const COST: &str = "rows that wait get to Postgres in batches";
const DELAY: &str = "a change is in Postgres soon after it is durable here";

fn main() {
    // `cargo bench` says so; `cargo test` does not.
    let is_bench = std::env::args().any(|it| it == "--bench");
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let asked = |name: &str| words.is_empty() || words.iter().any(|it| name.contains(&**it));
    if !asked(COST) && !asked(DELAY) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let Some(server) = Server::start().await else {
            println!("write behind: no Postgres on this machine, so nothing is measured");
            return;
        };
        let scale = if is_bench { MEASURED } else { TRIED };
        let mut table = String::new();
        if asked(COST) {
            table.push_str(&ways::compare(&server, &scale).await);
        }
        if asked(DELAY) {
            table.push_str(&delay::measure(&server, &scale).await);
        }
        if is_bench {
            println!("{table}");
        } else {
            for name in [COST, DELAY].into_iter().filter(|it| asked(it)) {
                println!("Testing {name}\nSuccess");
            }
        }
    });
}
