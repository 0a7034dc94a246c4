//! Looking at calls: one, the active ones, history, statistics, quality, what was missed.

use std::sync::Arc;
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
struct CallList {
    calls: Vec<Box<RawValue>>,
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
        if let Some(facts) = self.calls.read(id, |call| CallFacts::of(call, now)) {
            return Ok(Some(facts));
        }
        // What has just ended at another node may not be in the store yet.
        let late = Box::pin(self.late(id)).await;
        let told = |it: &CallFacts| !it.call.recorded || !it.call.state.is_terminal();
        if late.as_ref().is_some_and(told) {
            return Ok(late);
        }
        let stored = Box::pin(self.store.call(id)).await;
        // A recording's file is there after the end, and then the store alone hears of it.
        let Some(mut late) = late else { return Ok(stored?) };
        if let Ok(Some(stored)) = stored {
            late.call.recording_url = stored.call.recording_url.or(late.call.recording_url);
        }
        Ok(Some(late))
    }

    /// The facts of a call that another node has, or had until lately. Of one that has ended here Redis may not have
    /// heard yet.
    async fn late(&self, id: CallId) -> Option<CallFacts> {
        let cluster = self.cluster()?;
        let found = cluster.bus.call(id).await.ok()??;
        let call: Call = serde_json::from_slice(&found.snapshot).ok()?;
        if found.owner == *cluster.me() {
            let past = self.store.local().call(id).await.ok().flatten();
            let over = |it: &CallFacts| it.call.state.is_terminal() && it.call.epoch >= call.epoch;
            if past.as_ref().is_some_and(over) {
                return None;
            }
        }
        Some(CallFacts::of(&call, self.clock.now()))
    }

    /// The facts of a call that `user` belongs to.
    pub(super) async fn own_facts(&self, id: CallId, user: &UserId) -> Result<CallFacts, AppError> {
        let facts = self.facts(id).await?.ok_or(AppError::NoSuchCall)?;
        facts.participant(user).ok_or(Refusal::Forbidden)?;
        Ok(facts)
    }

    pub(super) async fn call_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        let now = self.clock.now();
        let belongs =
            |call: &Call| call.participant(user).map(|_| ()).ok_or(Refusal::Forbidden.into());
        let tell = |call: &Call| json(&CallDetails::from(&CallFacts::of(call, now)));
        match self.calls.tell(id, now, belongs, tell)? {
            Some(told) => Ok(told),
            None => json(&CallDetails::from(&self.own_facts(id, user).await?)),
        }
    }

    /// The user's live calls, newest first; a call one was removed from is no longer one's own.
    pub async fn active(self: &Arc<Self>, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        json(&CallList { calls: Box::pin(self.gather(user, false, None)).await.calls })
    }

    /// The call as it is listed for `user`, if it belongs to the user's live ones.
    pub(super) fn listed_for(&self, call: &Call, user: &UserId) -> Option<Box<RawValue>> {
        let member = call.participant(user)?;
        let belongs = member.connection != ConnectionState::Removed;
        let facts = CallFacts::of(call, self.clock.now());
        (belongs && !call.state.is_terminal()).then(|| json(&CallEntry::from(&facts)).ok())?
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

    pub(super) async fn quality_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.own_facts(id, user).await?;
        let summaries = self.store.quality(id).await?;
        json(&QualityList { participants: summaries.iter().map(QualityView::from).collect() })
    }

    /// The call as a device of `user` has to know it, if the user hears of it.
    pub(super) fn heard_by(&self, call: &Call, user: &UserId) -> Option<Box<RawValue>> {
        let listens = call.participant(user).is_some_and(Participant::listens);
        (listens && !call.state.is_terminal()).then(|| sync_call(call, user, self.clock.now()))?
    }

    /// What a device that just connected has to know of the user's live calls, where all of them are here.
    pub(super) fn sync(&self, user: &UserId) -> Result<Box<RawValue>, AppError> {
        self.sync_of(self.own_of(user, true).into_iter().map(|(_, call)| call).collect())
    }

    /// `call:sync` of these calls.
    pub(super) fn sync_of(&self, calls: Vec<Box<RawValue>>) -> Result<Box<RawValue>, AppError> {
        let quality_check_interval = millis(self.settings.quality_check_interval);
        let ringing_timeout = millis(self.settings.limits.ringing);
        let timestamp = Iso(self.clock.now());
        let node = self.node_name();
        json(&Sync { calls, timestamp, quality_check_interval, ringing_timeout, node })
    }

    pub(super) async fn resume_here(
        &self,
        id: CallId,
        user: &UserId,
        last_seq: u64,
    ) -> Result<Box<RawValue>, AppError> {
        let facts = self.own_facts(id, user).await?;
        // What happened before a call came here may be known to nobody but a node that is dead.
        let since = self.calls.read(id, |call| call.taken_at).unwrap_or(0);
        if last_seq <= facts.call.seq && last_seq >= since {
            let story = self.store.story(id, user, last_seq, RESUME_EVENTS_MAX).await?;
            if !story.more {
                let events = story.events.iter().filter_map(ResumedEvent::read);
                return json(&ResumedEvents { mode: "events", events: events.collect() });
            }
        }
        json(&ResumedState { mode: "state", details: CallDetails::from(&facts) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{House, user};
    use crate::call::participant::Settings;
    use crate::call::time::Timestamp;

    /// What a look at the call says, `ahead` from now; and whether it was written anew for it.
    fn looked(house: &House, call: CallId, ahead: Duration) -> (String, bool) {
        let now = house.app.clock.now().plus(ahead);
        let mut anew = false;
        let tell = |it: &Call| {
            anew = true;
            json(&CallDetails::from(&CallFacts::of(it, now)))
        };
        let told = house.app.calls.tell(call, now, |_| Ok(()), tell).unwrap().unwrap();
        (told.get().to_owned(), anew)
    }

    #[tokio::test]
    async fn a_call_is_told_as_it_is() {
        let house = House::open();
        let call = house.call("anna", &["bob"]).await;
        let app = &house.app;
        let now = Duration::ZERO;
        let (ringing, anew) = looked(&house, call, now);
        assert!(anew && ringing.contains("\"ringing\""), "{ringing}");
        assert_eq!(app.call(call, &user("bob")).await.unwrap().get(), ringing);
        assert_eq!(looked(&house, call, now), (ringing.clone(), false));
        let outsider = app.call(call, &user("eve")).await.unwrap_err();
        assert!(matches!(outsider, AppError::Refused(Refusal::Forbidden)));

        house.joins("bob", call).await;
        let (joined, anew) = looked(&house, call, now);
        assert!(anew && joined != ringing, "{joined}");
        let quiet = Settings { audio: Some(false), ..Settings::default() };
        app.set(call, &user("bob"), quiet).await.unwrap();
        let (muted, anew) = looked(&house, call, now);
        assert!(anew && muted != joined, "{muted}");
        // A second later both have been in it for longer.
        let (later, anew) = looked(&house, call, Duration::from_secs(1));
        assert!(anew && later != muted, "{later}");

        app.end(call, &user("anna")).await.unwrap();
        let over = app.call(call, &user("bob")).await.unwrap();
        assert!(over.get().contains("\"ended\""), "{}", over.get());
    }

    #[tokio::test]
    async fn what_is_kept_of_a_call_is_what_would_be_written() {
        let house = House::open();
        let call = house.call("anna", &["bob", "carl"]).await;
        house.joins("bob", call).await;
        let begun = house.app.clock.now();
        // Asked often, by a clock that goes on: now from what is kept, now written anew.
        let mut kept = 0;
        for step in 0..400 {
            let now = Timestamp(begun.0 + 7 * step);
            let write = |it: &Call| json(&CallDetails::from(&CallFacts::of(it, now)));
            let fresh = house.app.calls.read(call, write).unwrap().unwrap();
            let mut anew = false;
            let tell = |it: &Call| {
                anew = true;
                write(it)
            };
            let told = house.app.calls.tell(call, now, |_| Ok(()), tell).unwrap().unwrap();
            assert_eq!(told.get(), fresh.get(), "after {} ms", 7 * step);
            kept += usize::from(!anew);
        }
        assert!(kept > 380, "{kept}");
    }
}
