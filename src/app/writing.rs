//! What goes on behind the calls where there is Postgres.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::App;
use crate::app::effects::After;
use crate::store::postgres::behind::WriteBehind;
use crate::store::postgres::connect::Postgres;

/// How often old rows are looked for, in Postgres and in the local file.
const TIDY: Duration = Duration::from_mins(1);

/// Writes behind to Postgres and tidies up there; never returns. Ends at once where there is none.
pub async fn write_behind(app: Arc<App>) {
    let Some((behind, postgres)) = app.behind() else { return };
    tokio::join!(behind.run(), postgres.watch(), tidy(&app, &postgres));
}

#[expect(clippy::infinite_loop, reason = "ends with its task")]
async fn tidy(app: &App, postgres: &Postgres) {
    let mut ticks = interval(TIDY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = postgres.tidy(&app.journal, app.clock.now()).await {
            tracing::debug!(%error, "old rows could not be removed; tried again later");
        }
    }
}

/// What writes, and to where.
type Behind = (WriteBehind<After>, Postgres);

impl App {
    fn behind(&self) -> Option<Behind> {
        let postgres = self.store.postgres()?.clone();
        let (journal, local) = (self.journal.clone(), self.store.local().clone());
        Some((WriteBehind::new(journal, local, postgres.clone()), postgres))
    }

    /// Writes behind what is left, for at most `limit`; to be called when [`write_behind`] has been
    /// stopped. What does not get there is in the local file, for the next start.
    pub async fn write_rest(&self, limit: Duration) {
        let Some((mut behind, _)) = self.behind() else { return };
        match behind.drain(limit).await {
            Ok(true) => {}
            Ok(false) => tracing::info!("Postgres gets the rest after the next start"),
            Err(error) => tracing::warn!(%error, "Postgres gets the rest after the next start"),
        }
    }
}
