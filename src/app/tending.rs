//! What time asks for: deadlines of calls, tokens that run out, rows that have been kept long enough.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

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
    let mut swept = Instant::now();
    loop {
        ticks.tick().await;
        app.tick();
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            app.sweep().await;
        }
    }
}

impl App {
    fn tick(&self) {
        for id in self.calls.due(self.clock.now()) {
            // A fault in one call must not stop the clock of all; the panic hook counts it.
            if catch_unwind(AssertUnwindSafe(|| self.nudge(id, Command::Tick))).is_err() {
                tracing::error!(call = %id, "a deadline was lost to a panic");
            }
        }
        self.close_expired(self.clock.wall());
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        self.recent_starts.sweep(now);
        if let Err(error) = self.journal.sweep(now, self.settings.retention).await {
            tracing::warn!(%error, "old rows could not be removed; tried again later");
        }
    }
}
