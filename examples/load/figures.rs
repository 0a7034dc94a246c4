//! What is counted while it is measured: operations, how long each took, and the processor time of a process.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Failure, Span};

/// Microseconds of a tick of /proc: `USER_HZ` is 100 wherever Linux runs.
const TICK_US: u64 = 10_000;

/// Shared by all who work, in one thread.
#[derive(Clone, Default)]
pub(crate) struct Tally(Rc<Inner>);

#[derive(Default)]
struct Inner {
    counting: Cell<bool>,
    over: Cell<bool>,
    times: RefCell<Vec<u32>>,
    steps: RefCell<Vec<u32>>,
    events: Cell<u64>,
}

impl Tally {
    /// One is done that began, or was due, then.
    pub(crate) fn done(&self, since: Instant) {
        self.note(&self.0.times, since);
    }

    /// The first step of one is done: how long that takes is told apart.
    pub(crate) fn stepped(&self, since: Instant) {
        self.note(&self.0.steps, since);
    }

    fn note(&self, times: &RefCell<Vec<u32>>, since: Instant) {
        if self.0.counting.get() {
            let micros = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
            times.borrow_mut().push(micros);
        }
    }

    /// An event has come beside what was asked for.
    pub(crate) fn heard(&self) {
        if self.0.counting.get() {
            self.0.events.set(self.0.events.get() + 1);
        }
    }

    /// Nobody is to begin anything any more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.over.get()
    }

    /// Lets those who work warm up, then counts for as long as is asked: the figures, with what these processes took.
    pub(crate) async fn measure(&self, pids: &[u32], span: &Span) -> Result<Value, Failure> {
        let spent = || pids.iter().map(|pid| processor_us(*pid)).sum::<Result<u64, Failure>>();
        sleep(span.warms_up()).await;
        let (before, own) = (spent()?, processor_us(std::process::id())?);
        let began = Instant::now();
        self.0.counting.set(true);
        sleep(span.lasts()).await;
        self.0.counting.set(false);
        let lasted = began.elapsed();
        let (after, own_after) = (spent()?, processor_us(std::process::id())?);
        self.0.over.set(true);
        Ok(self.figures(lasted, after - before, own_after - own))
    }

    fn figures(&self, lasted: Duration, us: u64, own_us: u64) -> Value {
        let (mut times, mut steps) = (self.0.times.borrow_mut(), self.0.steps.borrow_mut());
        times.sort_unstable();
        steps.sort_unstable();
        let count = times.len();
        json!({
            "count": count,
            "rate": ratio(count, lasted.as_secs_f64()),
            "cpuUs": ratio_us(us, count),
            "loadUs": ratio_us(own_us, count),
            "share": ratio_us(us, 1) / 1e6 / lasted.as_secs_f64(),
            "p50": at(&times, 500),
            "p99": at(&times, 990),
            "p999": at(&times, 999),
            "stepP99": at(&steps, 990),
            "eventsEach": ratio_us(self.0.events.get(), count),
        })
    }
}

/// What so many of a thousand are not above.
fn at(sorted: &[u32], of_thousand: usize) -> Option<u32> {
    sorted.get((sorted.len() * of_thousand / 1000).min(sorted.len().max(1) - 1)).copied()
}

fn ratio(count: usize, seconds: f64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds
}

fn ratio_us(us: u64, count: usize) -> f64 {
    let count = f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / count
}

/// User and system time of a process with all its threads.
pub(crate) fn processor_us(pid: u32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, a name, may hold anything: what follows its last bracket is counted.
    let (_, rest) = stat.rsplit_once(") ").ok_or("/proc says nothing")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |index: usize| -> Result<u64, Failure> {
        Ok(fields.get(index).ok_or("/proc says too little")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) * TICK_US)
}

/// Resident memory, KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
