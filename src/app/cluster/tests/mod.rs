//! Several nodes in one process under faults, many lives of some seconds each: what must hold whenever all is
//! well again, and what must be left at the end.
//!
//! A life follows from its seed: who does what, when and where, which letters are lost, who is cut off or dies.
//! `SEED=123 cargo test --lib app::cluster` repeats one, `SEEDS=1000` runs that many. Time is stopped, and goes on
//! by hand when nothing is left to do; journals write when it is their turn, ids follow from the seed, and what
//! nodes tell each other goes in an order of its own, not a map's. So a seed is the same life each time, to the last
//! letter: that is tested too.

mod checks;
mod life;
mod losses;
mod races;
mod stories;
mod town;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Builder;

use self::life::{Life, Wish};
use self::town::{ALONE, GRACE, RINGING, STEP, Town};
use crate::app::fixture::seed_ids;
use crate::bus::memory::store::MASTERS;
use crate::bus::memory::{Faults, Saved};
use crate::bus::node::NodeId;

const NODES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 2;
/// Lives in one run of the tests.
const SEEDS: u64 = 400;
/// Lives that are lived twice.
const TWICE: u64 = 20;
/// For so long all is well before it is looked at: time for a node to be found dead and its calls to be taken.
const HEALING: Duration = Duration::from_secs(15);
/// The last steps that a failure tells.
const TOLD_MAX: usize = 120;

/// What goes wrong in a round.
enum Trouble {
    Nothing,
    Cut(NodeId),
    CutAll,
    Dead(&'static str, Option<TempDir>),
    /// Redis goes back to what it was then, or to nothing.
    Back(Saved),
    /// One of Redis' masters fails over, to a replica that has what there was then.
    Failover(Saved),
}

impl Town {
    fn is_reached(&self, trouble: Option<&Trouble>, node: &NodeId) -> bool {
        match trouble {
            Some(Trouble::Cut(cut)) => cut != node && self.nodes.iter().any(|it| it.id == *node),
            Some(Trouble::CutAll | Trouble::Failover(_)) => false,
            Some(Trouble::Nothing | Trouble::Dead(..) | Trouble::Back(_)) | None => {
                self.nodes.iter().any(|it| it.id == *node)
            }
        }
    }
}

fn letters(life: &mut Life) -> Faults {
    let mut some = |most| life.chance.u64(..most);
    match some(5) {
        0 => Faults { late_ms: some(40), ..Faults::default() },
        1 => Faults { lost: some(200), late_ms: some(20), ..Faults::default() },
        2 => Faults { late_ms: some(40), slow_ms: some(150), ..Faults::default() },
        // Slower than anybody waits.
        3 => Faults { slow_ms: some(700), ..Faults::default() },
        _ => Faults {
            lost: some(100),
            doubled: some(100),
            overtaken: some(100),
            late_ms: some(60),
            unanswered: some(30),
            slow_ms: some(60),
        },
    }
}

async fn begin(town: &mut Town, life: &mut Life) -> Trouble {
    let index = life.chance.usize(..town.nodes.len());
    let node = town.nodes[index].id.clone();
    match life.chance.usize(..8) {
        0 | 1 => {
            life.note(&format!("{node} is cut off"));
            town.net.cut(&node);
            Trouble::Cut(node)
        }
        2 => {
            life.note("all are cut off");
            town.net.cut_all();
            Trouble::CutAll
        }
        3 | 4 if town.nodes.len() > 1 => {
            life.note(&format!("{node} dies"));
            let name = town.nodes[index].name;
            let folder = town.kill(index);
            life.give_up(&node);
            Trouble::Dead(name, (life.chance.usize(..3) > 0).then_some(folder))
        }
        5 => {
            let empty = life.chance.usize(..3) == 0;
            life.note(&format!("Redis will go back, to nothing: {empty}"));
            Trouble::Back(if empty { Saved::nothing() } else { town.net.save() })
        }
        6 => {
            let master = life.chance.usize(..usize::try_from(MASTERS).unwrap());
            life.note(&format!("master {master} is away"));
            let saved = town.net.save();
            for _ in 0..life.chance.usize(..4) {
                life.act(town);
                step(town, life, None).await;
            }
            town.net.lose_master(u64::try_from(master).unwrap());
            Trouble::Failover(saved)
        }
        _ => Trouble::Nothing,
    }
}

async fn end(town: &mut Town, life: &mut Life, trouble: Trouble) {
    life.note("all is well again");
    match trouble {
        Trouble::Nothing => {}
        Trouble::Cut(node) => town.net.mend(&node),
        Trouble::CutAll => mend_each(town, life).await,
        Trouble::Failover(saved) => {
            town.net.replace_master(&saved);
            life.went_back = true;
            mend_each(town, life).await;
        }
        Trouble::Dead(name, folder) => {
            let grown = folder.is_some() || town.nodes.len() < 2;
            if grown {
                town.start(name, folder);
            }
        }
        Trouble::Back(saved) => {
            // Whoever loses its data, loses its connections before.
            town.net.cut_all();
            town.pass(4 * STEP).await;
            town.net.restore(&saved);
            life.went_back = true;
            mend_each(town, life).await;
        }
    }
}

/// Nodes find their way back to Redis one after the other.
async fn mend_each(town: &Town, life: &mut Life) {
    let mut nodes: Vec<NodeId> = town.nodes.iter().map(|it| it.id.clone()).collect();
    while !nodes.is_empty() {
        let node = nodes.swap_remove(life.chance.usize(..nodes.len()));
        life.note(&format!("{node} is back"));
        town.net.mend(&node);
        for _ in 0..life.chance.usize(..30) {
            step(town, life, Some(&Trouble::CutAll)).await;
        }
    }
}

async fn step(town: &Town, life: &mut Life, trouble: Option<&Trouble>) {
    town.pass(STEP).await;
    life.listen(|node| town.is_reached(trouble, node)).await;
    assert_eq!(PANICS.get(), 0, "a task has panicked");
}

async fn round(town: &mut Town, life: &mut Life) {
    if life.chance.bool() {
        let faults = letters(life);
        life.note(&format!("{faults:?}"));
        town.net.fail(faults);
    }
    let (before, during) = (life.chance.usize(..20), 20 + life.chance.usize(..160));
    let busy = 1 + life.chance.usize(..3);
    for _ in 0..before {
        life.act(town);
        step(town, life, None).await;
    }
    let trouble = begin(town, life).await;
    for index in 0..during {
        // Those who were thrown out come back soon.
        if index % 8 == 7 {
            life.reconnect(town);
        }
        if life.chance.usize(..10) < busy {
            life.act(town);
        }
        step(town, life, Some(&trouble)).await;
    }
    end(town, life, trouble).await;
    town.net.fail(Faults::default());
    life.reconnect(town);
    let steps = HEALING.as_millis() / STEP.as_millis();
    for _ in 0..steps {
        step(town, life, None).await;
    }
    life.note(&format!("looking, the nodes' talk so far: {:016x}", town.net.digest()));
    checks::all(town, life).await;
}

/// Everybody hangs up and goes: nothing is left.
async fn leave(town: &Town, life: &mut Life) {
    let all = 0..life.clients.len();
    for client in all {
        for call in life.clients[client].known.clone() {
            life.tell(town, client, Wish::End, Some(call));
        }
    }
    for _ in 0..20 {
        step(town, life, None).await;
    }
    life.disconnect_all(town);
    town.pass_in(RINGING.max(ALONE) + GRACE, 10 * STEP).await;
    // Whoever comes once more finds nothing, and forgets what came to nothing.
    town.pass_in(Duration::from_mins(1), 20 * STEP).await;
    life.gather(town);
    for _ in 0..40 {
        step(town, life, None).await;
    }
    life.disconnect_all(town);
    // The next sweep.
    town.pass_in(Duration::from_mins(5), 20 * STEP).await;
    checks::nothing_left(town, life).await;
}

async fn live(seed: u64, trace: Arc<Mutex<Vec<String>>>) {
    let mut town = Town::open(seed, &NODES).await;
    let mut life = Trace { life: Life::new(seed), kept: trace };
    let life = &mut life.life;
    life.gather(&town);
    step(&town, life, None).await;
    for _ in 0..ROUNDS {
        round(&mut town, life).await;
    }
    leave(&town, life).await;
}

/// Leaves the trace behind, however a life ends.
struct Trace {
    life: Life,
    kept: Arc<Mutex<Vec<String>>>,
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.kept.lock().append(&mut self.life.trace);
    }
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Tasks may panic where nobody looks.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.set(0);
}

/// One life: what happened, and where it failed, why.
#[derive(PartialEq)]
struct Lived {
    trace: Vec<String>,
    failure: Option<String>,
}

impl Lived {
    fn of(seed: u64) -> Self {
        count_panics();
        seed_ids(seed);
        let trace = Arc::new(Mutex::new(Vec::new()));
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let life = AssertUnwindSafe(|| runtime.block_on(live(seed, Arc::clone(&trace))));
        let failure = catch_unwind(life).err();
        let why =
            |it: Box<dyn Any + Send>| it.downcast_ref::<String>().cloned().unwrap_or_default();
        let trace = std::mem::take(&mut *trace.lock());
        Self { trace, failure: failure.map(why) }
    }

    /// The steps before `end`, at most so many.
    fn told(&self, end: usize, most: usize) -> String {
        self.trace[end.saturating_sub(most)..end].join("\n")
    }
}

/// Where a life fails, why, and what happened last.
fn failure(seed: u64) -> Option<String> {
    let life = Lived::of(seed);
    let why = life.failure.as_ref()?;
    Some(format!("{}\nSEED={seed}: {why}", life.told(life.trace.len(), TOLD_MAX)))
}

/// Where a life that is lived twice is not the same.
fn difference(seed: u64) -> Option<String> {
    let (first, again) = (Lived::of(seed), Lived::of(seed));
    if first == again {
        return None;
    }
    let differs = first.trace.iter().zip(&again.trace).position(|(one, other)| one != other);
    let end = differs.unwrap_or(first.trace.len().min(again.trace.len()));
    let [one, other] = [&first, &again].map(|it| (it.trace.get(end), &it.failure));
    Some(format!("{}\nSEED={seed}: {one:?}, and then {other:?}\n", first.told(end, 10)))
}

#[expect(clippy::disallowed_methods, reason = "a seed for this run alone is no setting")]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[expect(clippy::print_stdout, reason = "a test tells why it failed")]
fn many_lives_on_many_nodes_under_many_faults() {
    let seeds = match variable("SEED") {
        Some(seed) => {
            // With what the nodes themselves say.
            let log = tracing_subscriber::fmt().with_test_writer().without_time().with_ansi(false);
            drop(log.with_max_level(tracing::Level::DEBUG).try_init());
            seed..seed + 1
        }
        None => 1..1 + variable("SEEDS").unwrap_or(SEEDS),
    };
    let failed: Vec<String> = seeds.filter_map(failure).collect();
    // Another test may have put a panic hook in place that does not print.
    if !failed.is_empty() {
        println!("{}", failed.concat());
    }
    assert!(failed.is_empty(), "{}\n{} failed", failed.concat(), failed.len());
}

#[test]
fn a_seed_is_the_same_life_each_time() {
    let seeds = 1..=variable("TWICE").unwrap_or(TWICE);
    let differing: Vec<String> = seeds.filter_map(difference).collect();
    assert!(differing.is_empty(), "{}\n{} differ", differing.concat(), differing.len());
}
