//! Looking at calls: one, the active ones, history, statistics, quality, what was missed.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::effects::json;
use crate::app::error::AppError;
use crate::call::command::Refusal;
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::record::CallFacts;
use crate::call::state::ConnectionState;
use crate::config::rates::Rule;
use crate::store::history::{Cursor, HistoryQuery};
use crate::store::quality::{QualitySummary, Spread};
use crate::store::stats::Stats;
use crate::store::story::ToldEvent;
use crate::wire::invitation::{Sync, sync_call};
use crate::wire::reply::{CallDetails, CallEntry};
use crate::wire::time::Iso;

/// Events that a resume gives at most; beyond it the whole state is shorter.
const RESUME_EVENTS_MAX: u16 = 200;

#[derive(Serialize)]
struct CallList<'a> {
    calls: Vec<CallEntry<'a>>,
}

#[derive(Serialize)]
struct HistoryView<'a> {
    calls: Vec<CallEntry<'a>>,
    pagination: Pagination,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    limit: u16,
    offset: u64,
    total: u64,
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsView {
    total_calls: u64,
    active_calls: u64,
    completed_calls: u64,
    failed_calls: u64,
    average_duration: f64,
    average_connection_time: f64,
    success_rate: f64,
    peak_concurrent_calls: u64,
}

impl From<Stats> for StatsView {
    fn from(it: Stats) -> Self {
        Self {
            total_calls: it.total_calls,
            active_calls: it.active_calls,
            completed_calls: it.completed_calls,
            failed_calls: it.failed_calls,
            average_duration: it.average_duration,
            average_connection_time: it.average_connection_time,
            success_rate: it.success_rate,
            peak_concurrent_calls: it.peak_concurrent_calls,
        }
    }
}

#[derive(Serialize)]
struct QualityList<'a> {
    participants: Vec<QualityView<'a>>,
}

#[derive(Serialize)]
struct SpreadView {
    average: f64,
    maximum: f64,
}

impl From<Spread> for SpreadView {
    fn from(it: Spread) -> Self {
        Self { average: it.average, maximum: it.maximum }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QualityView<'a> {
    user_id: &'a str,
    samples: u64,
    jitter: SpreadView,
    packet_loss: SpreadView,
    round_trip_time: SpreadView,
    bandwidth: Option<SpreadView>,
    quality: &'static str,
    mean_opinion_score: f64,
}

impl<'a> From<&'a QualitySummary> for QualityView<'a> {
    fn from(it: &'a QualitySummary) -> Self {
        Self {
            user_id: it.user.as_str(),
            samples: it.samples,
            jitter: it.jitter.into(),
            packet_loss: it.packet_loss.into(),
            round_trip_time: it.round_trip_time.into(),
            bandwidth: it.bandwidth.map(SpreadView::from),
            quality: it.quality.as_str(),
            mean_opinion_score: it.mean_opinion_score,
        }
    }
}

#[derive(Serialize)]
struct ResumedEvent<'a> {
    event: &'a str,
    data: &'a RawValue,
}

impl<'a> ResumedEvent<'a> {
    /// Events were stored as JSON objects: one that is none is no event.
    fn read(told: &'a ToldEvent) -> Option<Self> {
        Some(Self { event: &told.name, data: serde_json::from_str(&told.data).ok()? })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct ResumedEvents<'a> {
    mode: &'static str,
    events: Vec<ResumedEvent<'a>>,
}

#[derive(Serialize)]
struct ResumedState<'a> {
    mode: &'static str,
    #[serde(flatten)]
    details: CallDetails<'a>,
}

impl App {
    /// The facts of a call, live or past.
    pub(super) async fn facts(&self, id: CallId) -> Result<Option<CallFacts>, AppError> {
        let now = self.clock.now();
        match self.calls.read(id, |call| CallFacts::of(call, now)) {
            Some(facts) => Ok(Some(facts)),
            None => Ok(Box::pin(self.store.call(id)).await?),
        }
    }

    /// The facts of a call that `user` belongs to.
    pub(super) async fn own_facts(&self, id: CallId, user: &UserId) -> Result<CallFacts, AppError> {
        let facts = self.facts(id).await?.ok_or(AppError::NoSuchCall)?;
        facts.participant(user).ok_or(Refusal::Forbidden)?;
        Ok(facts)
    }

    /// `{call, participants}`.
    pub async fn call(&self, id: CallId, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        json(&CallDetails::from(&self.own_facts(id, user).await?))
    }

    /// The user's live calls, newest first; a call one was removed from is no longer one's own.
    pub fn active(&self, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        let now = self.clock.now();
        let own = |call: &Call| {
            let member = call.participant(user)?;
            let belongs = member.connection != ConnectionState::Removed;
            (belongs && !call.state.is_terminal()).then(|| CallFacts::of(call, now))
        };
        let mut calls: Vec<CallFacts> =
            self.calls.of(user).iter().filter_map(|id| self.calls.read(*id, own)?).collect();
        calls.sort_by_key(|it| std::cmp::Reverse((it.call.created_at, it.call.id)));
        json(&CallList { calls: calls.iter().map(CallEntry::from).collect() })
    }

    /// A page of the user's history.
    pub async fn history(
        &self,
        user: &UserId,
        query: HistoryQuery,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::History, user)?;
        let (limit, offset) = (query.limit, query.offset);
        let page = Box::pin(self.store.history(user, query)).await?;
        let next_cursor = page.next.map(Cursor::encode);
        json(&HistoryView {
            calls: page.calls.iter().map(CallEntry::from).collect(),
            pagination: Pagination {
                limit,
                offset,
                total: page.total,
                next_cursor,
                stale: page.stale,
            },
        })
    }

    /// Statistics of the whole service in the `window` before now.
    async fn stats(&self, window: Duration) -> Result<Stats, AppError> {
        let now = self.clock.now();
        Ok(Box::pin(self.store.stats(now.minus(window), now)).await?)
    }

    /// The same for an operator, who looks while Postgres is away too: whether they are stale then,
    /// of the calls that the local file has.
    pub async fn stats_at_hand(&self, window: Duration) -> Result<(Stats, bool), AppError> {
        let now = self.clock.now();
        Ok(Box::pin(self.store.stats_at_hand(now.minus(window), now)).await?)
    }

    /// The same for a user who asks.
    pub async fn stats_for(
        &self,
        user: &UserId,
        window: Duration,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::History, user)?;
        json(&StatsView::from(self.stats(window).await?))
    }

    /// Quality per participant.
    pub async fn quality(&self, id: CallId, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        self.own_facts(id, user).await?;
        let summaries = self.store.quality(id).await?;
        json(&QualityList { participants: summaries.iter().map(QualityView::from).collect() })
    }

    /// What a device that just connected has to know of the user's live calls.
    pub(super) fn sync(&self, user: &UserId) -> Result<Box<RawValue>, AppError> {
        let now = self.clock.now();
        let heard = |call: &Call| {
            let listens = call.participant(user).is_some_and(Participant::listens);
            if listens && !call.state.is_terminal() { sync_call(call, user, now) } else { None }
        };
        let own = self.calls.of(user);
        let calls = own.iter().filter_map(|id| self.calls.read(*id, heard)?).collect();
        let quality_check_interval = millis(self.settings.quality_check_interval);
        let ringing_timeout = millis(self.settings.limits.ringing);
        json(&Sync { calls, timestamp: Iso(now), quality_check_interval, ringing_timeout })
    }

    /// What `user` missed of a call after event `last_seq`: the events, or the whole state where they
    /// are too many.
    pub async fn resume(
        &self,
        id: CallId,
        user: &UserId,
        last_seq: u64,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        let facts = self.own_facts(id, user).await?;
        if last_seq <= facts.call.seq {
            let story = self.store.story(id, user, last_seq, RESUME_EVENTS_MAX).await?;
            if !story.more {
                let events = story.events.iter().filter_map(ResumedEvent::read);
                return json(&ResumedEvents { mode: "events", events: events.collect() });
            }
        }
        json(&ResumedState { mode: "state", details: CallDetails::from(&facts) })
    }
}
