//! What operators ask: is it alive, is it ready, how is it doing.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use metrics::gauge;
use serde::Serialize;

use super::Reply;
use super::exchange::{bytes_of, json};
use crate::app::App;
use crate::app::error::AppError;
use crate::telemetry::{CALLS_LIVE, Figures, JOURNAL_UNFLUSHED_ROWS, SOCKETS_CONNECTED};
use crate::wire::time::Iso;

const SERVICE: &str = "call-service";

/// The window of `/monitoring/metrics`.
const WINDOW: Duration = Duration::from_hours(24);

/// The probes of this process.
pub struct Probes {
    figures: Figures,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    service: &'static str,
    timestamp: Iso,
}

#[derive(Serialize)]
struct Checked<'a> {
    status: &'static str,
    service: &'static str,
    /// This one's name, where there are several nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    checks: Checks,
    timestamp: Iso,
}

/// Each backend by name.
#[derive(Serialize)]
struct Checks {
    journal: &'static str,
    store: &'static str,
    bus: &'static str,
    media: &'static str,
}

#[derive(Serialize)]
struct Metrics {
    calls: CallCounts,
    livekit: Rooms,
    performance: Performance,
    /// Postgres is away: these are the calls of the last hour or so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    timestamp: Iso,
}

#[derive(Serialize)]
struct CallCounts {
    total: u64,
    active: u64,
    completed: u64,
    failed: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rooms {
    active_rooms: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Performance {
    success_rate: String,
}

impl Checks {
    /// `SQLite` is the journal and, without Postgres, the store too; without Redis the bus is this process.
    fn of(app: &App) -> Self {
        let journal = if app.journal_is_well() { "ok" } else { "failing" };
        let store = match app.postgres_is_well() {
            None => journal,
            Some(true) => "ok",
            Some(false) => "away",
        };
        let media = match app.livekit_is_well() {
            None => "peer",
            Some(true) => "ok",
            Some(false) => "away",
        };
        let bus = match app.bus_is_well() {
            None => "in_process",
            Some(true) => "ok",
            Some(false) => "away",
        };
        Self { journal, store, bus, media }
    }
}

impl Probes {
    /// Probes that read `figures`.
    pub fn new(figures: Figures) -> Self {
        Self { figures }
    }

    /// Alive: depends on nothing.
    pub fn health(&self, app: &App) -> Reply {
        let timestamp = Iso(app.clock.wall());
        json(StatusCode::OK, &Health { status: "ok", service: SERVICE, timestamp })
    }

    /// Whether to send clients here.
    pub fn ready(&self, app: &App) -> Reply {
        let (status, code) = if app.is_draining() {
            ("draining", StatusCode::SERVICE_UNAVAILABLE)
        } else if app.journal_is_well() && app.is_settled() {
            ("ready", StatusCode::OK)
        } else {
            ("not_ready", StatusCode::SERVICE_UNAVAILABLE)
        };
        Self::checked(app, status, code)
    }

    /// The same for people: always 200.
    pub fn monitoring_health(&self, app: &App) -> Reply {
        let away = Some(false);
        let well = app.journal_is_well()
            && app.postgres_is_well() != away
            && app.livekit_is_well() != away
            && app.bus_is_well() != away;
        let status = if well { "healthy" } else { "degraded" };
        Self::checked(app, status, StatusCode::OK)
    }

    fn checked(app: &App, status: &'static str, code: StatusCode) -> Reply {
        let (checks, timestamp) = (Checks::of(app), Iso(app.clock.wall()));
        let node = app.node_name();
        json(code, &Checked { status, service: SERVICE, node, checks, timestamp })
    }

    /// The seed's summary, of the last 24 hours; answers without Postgres too, marked `stale`.
    pub async fn monitoring_metrics(&self, app: &App) -> Result<Reply, AppError> {
        let (stats, stale) = app.stats_at_hand(WINDOW).await?;
        let metrics = Metrics {
            calls: CallCounts {
                total: stats.total_calls,
                active: stats.active_calls,
                completed: stats.completed_calls,
                failed: stats.failed_calls,
            },
            livekit: Rooms { active_rooms: app.rooms_known() },
            performance: Performance {
                success_rate: format!("{:.2}%", stats.success_rate * 100.0),
            },
            stale,
            timestamp: Iso(app.clock.wall()),
        };
        Ok(json(StatusCode::OK, &metrics))
    }

    /// What Prometheus scrapes.
    pub fn prometheus(&self, app: &App) -> Reply {
        let figure = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        gauge!(CALLS_LIVE).set(figure(app.live_calls()));
        gauge!(SOCKETS_CONNECTED).set(figure(app.sockets()));
        gauge!(JOURNAL_UNFLUSHED_ROWS).set(figure(app.unwritten()));
        let text = Bytes::from(self.figures.render());
        bytes_of(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }
}
