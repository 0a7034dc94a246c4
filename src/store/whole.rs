//! The local file and Postgres as one store: what is recent comes from the one, the rest from the
//! other, and each call from one of them only.
//!
//! The local file has every call of this node that is not over, every one that is not in Postgres
//! yet, and those of the last hour or so. What it has, it has whole and newest. So a user sees the
//! call that just ended, however far behind Postgres or its replica may be.
//!
//! Where there are other nodes, two things differ. A call that has gone to one of them is newer in
//! Postgres, and is not read from the file. One that came from there is newest here, its participants
//! with it; but what happened to it there is in Postgres alone, so its events, samples and recordings
//! are those of both.

use crate::call::id::{CallId, UserId};
use crate::call::record::{CallFacts, RecordingRecord};
use crate::call::state::RecordingStatus;
use crate::call::time::Timestamp;
use crate::store::error::{Kind, StoreError};
use crate::store::history::{Cursor, HISTORY_LIMIT_MAX, HistoryPage, HistoryQuery, LocalHistory};
use crate::store::postgres::connect::Postgres;
use crate::store::postgres::figures::PastLives;
use crate::store::postgres::past::{
    OneCall, PastHistory, PastPage, PastQuality, PastRecordings, PastStart, PastStory,
};
use crate::store::quality::QualitySummary;
use crate::store::released::Holding;
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

    /// A call, live or past. Fails with [`Kind::Away`] only where the local file does not have it, or
    /// another node has what is newer.
    pub async fn call(&self, id: CallId) -> Result<Option<CallFacts>, StoreError> {
        let Some(postgres) = &self.postgres else { return self.local.call(id).await };
        let (found, holding) = self.local.held_call(id).await?;
        if matches!(holding, Holding::Whole | Holding::Recent) {
            return Ok(found);
        }
        let past = Box::pin(postgres.read("reading a call", OneCall(id))).await?;
        // What has gone to another node just now may not be in Postgres yet, or not the last of it.
        let both = found.into_iter().chain(past);
        Ok(both.max_by_key(|it| (it.call.epoch, it.call.seq)))
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

    /// The call that `user` started under `key` at `since` or later, on this node. Keys are in the
    /// local file for as long as they serve: a start never waits for Postgres.
    pub async fn idempotent_start(
        &self,
        user: &UserId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<CallId>, StoreError> {
        self.local.idempotent_start(user, key, since).await
    }

    /// The same on any node. What can't be had from Postgres within the time of a read counts as not
    /// found: a start must not fail for it, and the cluster's directory remembers keys for an hour
    /// beside, which covers the client that tries again. So it takes both an hour and an outage for a
    /// key to make a second call.
    pub async fn idempotent_start_anywhere(
        &self,
        user: &UserId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<CallId>, StoreError> {
        let found = self.local.idempotent_start(user, key, since).await?;
        let Some(postgres) = self.postgres.as_ref().filter(|_| found.is_none()) else {
            return Ok(found);
        };
        let past = PastStart { user: user.clone(), key: key.to_owned(), since };
        match postgres.read_in_time("looking for an idempotency key", past).await {
            Ok(found) => Ok(found),
            Err(error) => {
                tracing::debug!(error = error.in_full(), "a key may be known to Postgres");
                Ok(None)
            }
        }
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

    /// The samples of a call, summed for each participant who sent any, in no fixed order. Sums don't
    /// add up across stores: of a call that came from another node, those of Postgres are the fuller.
    pub async fn quality(&self, call: CallId) -> Result<Vec<QualitySummary>, StoreError> {
        let Some((postgres, holding)) = self.behind(call).await? else {
            return self.local.quality(call).await;
        };
        let past = PastQuality(call);
        match Box::pin(postgres.read("reading the quality of a call", past)).await {
            Err(error) if holding == Holding::Recent => {
                without_the_rest(&error);
                self.local.quality(call).await
            }
            answer => answer,
        }
    }

    /// The recordings of a call, the oldest first.
    pub async fn recordings(&self, call: CallId) -> Result<Vec<RecordingRecord>, StoreError> {
        let Some((postgres, holding)) = self.behind(call).await? else {
            return self.local.recordings(call).await;
        };
        let past = PastRecordings(call);
        let past = Box::pin(postgres.read("reading the recordings of a call", past)).await;
        if holding != Holding::Recent {
            return past;
        }
        let recent = self.local.recordings(call).await?;
        Ok(both_recordings(recent, past.inspect_err(without_the_rest).unwrap_or_default()))
    }

    /// The first `limit` events of `call` after number `after` that were meant for `user`.
    pub async fn story(
        &self,
        call: CallId,
        user: &UserId,
        after: u64,
        limit: u16,
    ) -> Result<Story, StoreError> {
        let Some((postgres, holding)) = self.behind(call).await? else {
            return self.local.story(call, user, after, limit).await;
        };
        let limit = limit.clamp(1, STORY_LIMIT_MAX);
        let past = PastStory { call, user: user.clone(), after, limit };
        let past = Box::pin(postgres.read("reading the story of a call", past)).await;
        if holding != Holding::Recent {
            return past;
        }
        let recent = self.local.story(call, user, after, limit).await?;
        Ok(match past.inspect_err(without_the_rest) {
            Ok(past) => both_stories(recent, past, limit),
            // Some may be missing before these: who goes by the story has to know.
            Err(_) => Story { more: true, ..recent },
        })
    }

    /// Where to look for what belongs to a call, if not in the local file alone; and what that has.
    async fn behind(&self, call: CallId) -> Result<Option<(&Postgres, Holding)>, StoreError> {
        let Some(postgres) = &self.postgres else { return Ok(None) };
        let holding = self.local.holding(call).await?;
        Ok((holding != Holding::Whole).then_some((postgres, holding)))
    }
}

/// Says that a call is told of without what another node had of it.
fn without_the_rest(error: &StoreError) {
    tracing::debug!(error = error.in_full(), "part of a call can't be read right now");
}

/// One story of two, each of which has its first `limit` events. What is in both is taken from here.
fn both_stories(recent: Story, past: Story, limit: u16) -> Story {
    let mut events = recent.events;
    events.extend(past.events);
    // A stable sort: of two of one number, ours stays first.
    events.sort_by_key(|it| it.seq);
    events.dedup_by_key(|it| it.seq);
    let limit = usize::from(limit);
    let more = recent.more || past.more || events.len() > limit;
    events.truncate(limit);
    Story { events, more }
}

/// All recordings of both. What is in both is taken from here, unless it has come to its end elsewhere.
fn both_recordings(
    recent: Vec<RecordingRecord>,
    past: Vec<RecordingRecord>,
) -> Vec<RecordingRecord> {
    let is_over = |it: &RecordingRecord| match it.status {
        RecordingStatus::Recording | RecordingStatus::Processing => false,
        RecordingStatus::Completed | RecordingStatus::Failed => true,
    };
    let (over, others): (Vec<_>, Vec<_>) = past.into_iter().partition(is_over);
    let mut all: Vec<RecordingRecord> = Vec::new();
    for it in over.into_iter().chain(recent).chain(others) {
        if !all.iter().any(|known| known.id == it.id) {
            all.push(it);
        }
    }
    all.sort_by_key(|it| (it.started_at, it.id));
    all
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;
    use crate::store::story::ToldEvent;

    #[test]
    fn two_stories_become_one() {
        let story = |seqs: &[u64], from: &str, more| Story {
            events: seqs
                .iter()
                .map(|&seq| ToldEvent {
                    seq,
                    at: Timestamp(seq.cast_signed()),
                    name: from.to_owned(),
                    data: "{}".to_owned(),
                })
                .collect(),
            more,
        };
        for (recent, past, limit, seqs, more) in [
            ((&[5, 6][..], false), (&[1, 2][..], false), 9, &[1, 2, 5, 6][..], false),
            ((&[1, 5], false), (&[1, 2], false), 9, &[1, 2, 5], false),
            ((&[5, 6], true), (&[1, 2], true), 2, &[1, 2], true),
            ((&[1, 2], true), (&[1], false), 2, &[1, 2], true),
            ((&[5], false), (&[1, 2], false), 2, &[1, 2], true),
            ((&[], false), (&[], false), 2, &[], false),
        ] {
            let recent = story(recent.0, "recent", recent.1);
            let both = both_stories(recent.clone(), story(past.0, "past", past.1), limit);
            let found: Vec<u64> = both.events.iter().map(|it| it.seq).collect();
            assert_eq!((&found[..], both.more), (seqs, more));
            let ours = |it: &ToldEvent| recent.events.iter().any(|other| other.seq == it.seq);
            assert!(both.events.iter().all(|it| (it.name == "recent") == ours(it)));
        }
    }

    #[test]
    fn recordings_of_both_are_there_once() {
        use RecordingStatus::{Completed, Failed, Processing, Recording};
        let all = |recordings: &[(u128, RecordingStatus)]| -> Vec<_> {
            recordings.iter().map(|&(number, status)| fixture::recording(number, status)).collect()
        };
        let recent = all(&[(1, Processing), (2, Completed), (3, Processing)]);
        let past = all(&[(1, Recording), (2, Processing), (3, Completed), (4, Failed)]);
        let both = all(&[(1, Processing), (2, Completed), (3, Completed), (4, Failed)]);
        assert_eq!(both_recordings(recent, past), both);
    }
}
