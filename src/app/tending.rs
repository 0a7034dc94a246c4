//! What time asks for: deadlines of calls, tokens that run out, rows that have been kept long enough.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::call::command::Command;

/// How late a deadline may be noticed. Shorter wakes an idle service more often for nothing.
const TICK: Duration = Duration::from_millis(50);

/// How often old rows are looked for.
const SWEEP: Duration = Duration::from_mins(1);

/// Keeps time for the service; never returns.
#[expect(clippy::infinite_loop, reason = "time does not end; the task is dropped at the stop")]
pub async fn tend(app: Arc<App>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        app.tick();
    }
}

/// Forgets what has been kept long enough, now and then; never returns. Not a part of [`tend`]: a disk
/// that is slow or full must not hold up anybody's deadline.
#[expect(clippy::infinite_loop, reason = "as above")]
pub async fn tidy(app: Arc<App>) {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        sweeps.tick().await;
        app.sweep().await;
    }
}

/// A fault in one thing must not stop the clock of all; the panic hook counts it.
fn guarded(what: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!(what, "lost to a panic");
    }
}

impl App {
    fn tick(&self) {
        for id in self.calls.due(self.clock.now()) {
            guarded("the deadline of a call", || self.nudge(id, Command::Tick));
        }
        guarded("the end of tokens", || self.close_expired(self.clock.wall()));
        guarded("news of who is there", || self.heed_late());
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        self.recent_starts.sweep(now);
        if let Err(error) = self.journal.sweep(now, self.settings.retention).await {
            tracing::warn!(%error, "old rows could not be removed; tried again later");
        }
        if let Err(error) = self.ask_for_files().await {
            tracing::warn!(%error, "nobody could be asked for recordings; tried again later");
        }
    }
}
