//! Logs as JSON lines, figures for Prometheus, and panics that are counted.
//!
//! Only this crate's own lines follow `LOG_LEVEL`; libraries are held at `warn`, because at `debug`
//! and `trace` they print headers and frames, and with them tokens and session descriptions.

use std::error::Error;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use metrics::{Unit, counter, describe_counter, describe_gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Changes in the local journal that the database has not got yet.
pub const JOURNAL_UNFLUSHED_ROWS: &str = "journal_unflushed_rows";
/// Calls that this node holds and that have not ended.
pub const CALLS_LIVE: &str = "calls_live";
/// Socket.IO clients connected to this node.
pub const SOCKETS_CONNECTED: &str = "sockets_connected";
/// Panics since the start, each of which cost one task and not the process.
pub const PANICS_TOTAL: &str = "panics_total";
/// Calls started.
pub const CALLS_STARTED_TOTAL: &str = "calls_started_total";
/// Calls that are over, by their final `state`.
pub const CALLS_ENDED_TOTAL: &str = "calls_ended_total";
/// Requests to LiveKit, by `outcome`.
pub const LIVEKIT_REQUESTS_TOTAL: &str = "livekit_requests_total";
/// Webhooks of LiveKit, by `outcome`: taken, again, of others, refused.
pub const LIVEKIT_WEBHOOKS_TOTAL: &str = "livekit_webhooks_total";
/// What a look at a room had to mend, by `how`: made, removed, put out.
pub const LIVEKIT_ROOMS_MENDED_TOTAL: &str = "livekit_rooms_mended_total";
/// HTTP requests but those of Socket.IO, by `route` and class of `status`.
pub const HTTP_REQUESTS_TOTAL: &str = "http_requests_total";
/// Letters of other nodes that could not be read: of another version, or of no kind that is known.
pub const BUS_LETTERS_REFUSED_TOTAL: &str = "bus_letters_refused_total";
/// Letters to other nodes that Redis has not taken.
pub const BUS_LETTERS_LOST_TOTAL: &str = "bus_letters_lost_total";

/// Reads the figures of this process.
#[derive(Clone)]
pub struct Figures(PrometheusHandle);

impl Figures {
    /// All figures in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}

/// Sets up logs on standard error, the recorder of figures and the panic hook; `level` is a name as
/// `LOG_LEVEL` has it. Called twice, it hands out the same figures and changes nothing.
pub fn start(level: &str) -> Figures {
    static FIGURES: OnceLock<Figures> = OnceLock::new();
    let figures = FIGURES.get_or_init(|| {
        // Fails only where a test has set a subscriber of its own, which may stay.
        drop(
            tracing_subscriber::fmt()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(std::io::stderr)
                .with_env_filter(filter(level))
                .try_init(),
        );
        std::panic::set_hook(Box::new(note));
        record()
    });
    figures.clone()
}

/// What is logged at `level`: this crate at that level, libraries at `warn` at most.
fn filter(level: &str) -> EnvFilter {
    let others = if matches!(level, "off" | "error") { level } else { "warn" };
    EnvFilter::new(format!("{others},call_service={level}"))
}

fn record() -> Figures {
    let recorder = PrometheusBuilder::new().build_recorder();
    let figures = Figures(recorder.handle());
    // Fails only where a test has set a recorder of its own; then nothing comes in here.
    drop(metrics::set_global_recorder(recorder));
    let rows = "Changes in the local journal that are not in the database yet.";
    describe_gauge!(JOURNAL_UNFLUSHED_ROWS, Unit::Count, rows);
    describe_gauge!(CALLS_LIVE, Unit::Count, "Calls on this node that have not ended.");
    describe_gauge!(SOCKETS_CONNECTED, Unit::Count, "Socket.IO clients connected to this node.");
    describe_counter!(PANICS_TOTAL, Unit::Count, "Panics, each of which cost one task.");
    describe_counter!(CALLS_STARTED_TOTAL, Unit::Count, "Calls started.");
    describe_counter!(CALLS_ENDED_TOTAL, Unit::Count, "Calls that are over, by final state.");
    describe_counter!(HTTP_REQUESTS_TOTAL, Unit::Count, "HTTP requests, by route and status.");
    describe_counter!(LIVEKIT_REQUESTS_TOTAL, Unit::Count, "Requests to LiveKit, by outcome.");
    describe_counter!(LIVEKIT_WEBHOOKS_TOTAL, Unit::Count, "Webhooks of LiveKit, by outcome.");
    let refused = "Letters of other nodes that could not be read.";
    describe_counter!(BUS_LETTERS_REFUSED_TOTAL, Unit::Count, refused);
    let lost = "Letters to other nodes that Redis has not taken.";
    describe_counter!(BUS_LETTERS_LOST_TOTAL, Unit::Count, lost);
    let mended = "Rooms that had to be made, removed or cleared of somebody.";
    describe_counter!(LIVEKIT_ROOMS_MENDED_TOTAL, Unit::Count, mended);
    counter!(PANICS_TOTAL).absolute(0);
    metrics::gauge!(JOURNAL_UNFLUSHED_ROWS).set(0.0);
    metrics::gauge!(CALLS_LIVE).set(0.0);
    metrics::gauge!(SOCKETS_CONNECTED).set(0.0);
    figures
}

/// Counts a panic and says where it was. A payload made at run time may hold what a client sent,
/// so only a literal is shown.
fn note(panic: &PanicHookInfo<'_>) {
    counter!(PANICS_TOTAL).increment(1);
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, message = message.unwrap_or("(made at run time, not shown)"), "panic");
}

/// What went wrong and every cause, for an operator's eyes.
pub fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text.push_str(": ");
        text.push_str(&it.to_string());
        cause = it.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_counted_and_figures_named() {
        let figures = start("off");
        let before = panics(&figures);
        drop(std::thread::spawn(|| panic!("on purpose")).join());
        assert!(panics(&figures) > before);
        let text = figures.render();
        for name in [JOURNAL_UNFLUSHED_ROWS, CALLS_LIVE, SOCKETS_CONNECTED, PANICS_TOTAL] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} in\n{text}");
            assert!(text.contains(&format!("\n{name} ")), "{name} in\n{text}");
        }
    }

    fn panics(figures: &Figures) -> u64 {
        let text = figures.render();
        let line = text.lines().find(|it| it.starts_with("panics_total ")).expect("the counter");
        line.trim_start_matches("panics_total ").parse().expect("a number")
    }

    #[test]
    fn libraries_never_log_below_warn() {
        for level in ["off", "error", "warn", "info", "debug", "trace"] {
            let text = filter(level).to_string();
            assert!(text.contains(&format!("call_service={level}")), "{text}");
            assert!(!text.contains(",debug") && !text.contains(",trace"), "{text}");
        }
    }
}
