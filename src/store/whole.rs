//! The local file and Postgres as one store: what is recent comes from the one, the rest from the
//! other, and each call from one of them only.
//!
//! The local file has every call that is not over, every one that is not in Postgres yet, and those
//! of the last hour or so. What it has, it has whole and newest. So a user sees the call that just
//! ended, however far behind Postgres or its replica may be.

use crate::call::id::{CallId, UserId};
use crate::call::record::{CallFacts, RecordingRecord};
use crate::call::time::Timestamp;
use crate::store::error::{Kind, StoreError};
use crate::store::history::{Cursor, HISTORY_LIMIT_MAX, HistoryPage, HistoryQuery, LocalHistory};
use crate::store::postgres::connect::Postgres;
use crate::store::postgres::figures::PastLives;
use crate::store::postgres::past::{
    OneCall, PastHistory, PastPage, PastQuality, PastRecordings, PastStory,
};
use crate::store::quality::QualitySummary;
use crate::store::sqlite::Sqlite;
use crate::store::stats::Stats;
use crate::store::story::{STORY_LIMIT_MAX, Story};

/// All that is kept, wherever it is. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    local: Sqlite,
    postgres: Option<Postgres>,
}

impl Store {
    /// The local file, and Postgres behind it where there is one.
    pub fn new(local: Sqlite, postgres: Option<Postgres>) -> Self {
        Self { local, postgres }
    }

    /// The local file.
    pub fn local(&self) -> &Sqlite {
        &self.local
    }

    /// What is behind it.
    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// A call, live or past. Fails with [`Kind::Away`] only where the local file does not have it.
    pub async fn call(&self, id: CallId) -> Result<Option<CallFacts>, StoreError> {
        let found = self.local.call(id).await?;
        match &self.postgres {
            Some(postgres) if found.is_none() => {
                Box::pin(postgres.read("reading a call", OneCall(id))).await
            }
            Some(_) | None => Ok(found),
        }
    }

    /// A page of the calls that `user` was ever part of. While Postgres is away, the page as far as the
    /// local file has it, marked as stale; fails with [`Kind::Away`] where it has none of it.
    pub async fn history(
        &self,
        user: &UserId,
        query: HistoryQuery,
    ) -> Result<HistoryPage, StoreError> {
        let Some(postgres) = &self.postgres else { return self.local.history(user, query).await };
        let limit = u64::from(query.limit.clamp(1, HISTORY_LIMIT_MAX));
        let mut local = self.local.local_history(user, query.clone()).await?;
        // So many of Postgres' calls come before the page, whatever is in the local file.
        let ours = u64::try_from(local.calls.len()).unwrap_or(u64::MAX);
        let over = query.offset.saturating_sub(ours);
        let past = PastHistory {
            user: user.clone(),
            limit: limit + 1 + (query.offset - over),
            query: HistoryQuery { offset: over, ..query.clone() },
            but: std::mem::take(&mut local.known),
        };
        let past = Box::pin(postgres.read("reading a history", past)).await;
        let over = query.offset - over;
        match past {
            Ok(past) => Ok(merge(local, past, over, limit)),
            Err(error) if error.kind == Kind::Away && over < ours => {
                let mut page = merge(local, PastPage::default(), over, limit);
                page.stale = true;
                // What comes after is there, and can be asked for later.
                page.next = page.calls.last().map(|it| Cursor::after(&it.call));
                Ok(page)
            }
            Err(error) => Err(error),
        }
    }

    /// The call that `user` started under `key` at `since` or later. Keys are in the local file for
    /// as long as they serve: a start never waits for Postgres.
    pub async fn idempotent_start(
        &self,
        user: &UserId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<CallId>, StoreError> {
        self.local.idempotent_start(user, key, since).await
    }

    /// The figures of the time from `since` to `now`.
    pub async fn stats(&self, since: Timestamp, now: Timestamp) -> Result<Stats, StoreError> {
        let Some(postgres) = &self.postgres else { return self.local.stats(since, now).await };
        let (mut tally, but) = self.local.local_stats(since, now).await?;
        let past = PastLives { since, now, but };
        tally.join(Box::pin(postgres.read("reading the statistics", past)).await?);
        Ok(tally.stats(since))
    }

    /// The same for those who look after the service: where Postgres fails, the figures of the calls
    /// that the local file has, and that these are not all.
    pub async fn stats_at_hand(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<(Stats, bool), StoreError> {
        match self.stats(since, now).await {
            Err(_) if self.postgres.is_some() => Ok((self.local.stats(since, now).await?, true)),
            answer => answer.map(|it| (it, false)),
        }
    }

    /// The samples of a call, summed for each participant who sent any, in no fixed order.
    pub async fn quality(&self, call: CallId) -> Result<Vec<QualitySummary>, StoreError> {
        match self.behind(call).await? {
            None => self.local.quality(call).await,
            Some(postgres) => {
                Box::pin(postgres.read("reading the quality of a call", PastQuality(call))).await
            }
        }
    }

    /// The recordings of a call, the oldest first.
    pub async fn recordings(&self, call: CallId) -> Result<Vec<RecordingRecord>, StoreError> {
        match self.behind(call).await? {
            None => self.local.recordings(call).await,
            Some(postgres) => {
                let past = PastRecordings(call);
                Box::pin(postgres.read("reading the recordings of a call", past)).await
            }
        }
    }

    /// The first `limit` events of `call` after number `after` that were meant for `user`.
    pub async fn story(
        &self,
        call: CallId,
        user: &UserId,
        after: u64,
        limit: u16,
    ) -> Result<Story, StoreError> {
        let Some(postgres) = self.behind(call).await? else {
            return self.local.story(call, user, after, limit).await;
        };
        let limit = limit.clamp(1, STORY_LIMIT_MAX);
        let past = PastStory { call, user: user.clone(), after, limit };
        Box::pin(postgres.read("reading the story of a call", past)).await
    }

    /// Where to look for what belongs to a call, if not in the local file.
    async fn behind(&self, call: CallId) -> Result<Option<&Postgres>, StoreError> {
        let Some(postgres) = &self.postgres else { return Ok(None) };
        Ok(if self.local.call(call).await?.is_some() { None } else { Some(postgres) })
    }
}

/// Both in one order, without the first `over`.
fn merge(local: LocalHistory, past: PastPage, over: u64, limit: u64) -> HistoryPage {
    let [over, limit] = [over, limit].map(|it| usize::try_from(it).unwrap_or(usize::MAX));
    let mut calls = local.calls;
    calls.extend(past.calls);
    calls.sort_by_key(|it| std::cmp::Reverse((it.call.created_at, it.call.id)));
    let mut calls: Vec<CallFacts> = calls.into_iter().skip(over).take(limit + 1).collect();
    let more = calls.len() > limit;
    calls.truncate(limit);
    let next = calls.last().map(|it| Cursor::after(&it.call)).filter(|_| more);
    HistoryPage { calls, total: local.total + past.total, next, stale: false }
}
