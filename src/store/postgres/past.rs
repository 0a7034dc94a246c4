//! Calls that the local file no longer has, or never had: one, a user's, their quality and their story.

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::call::id::{CallId, UserId};
use crate::call::record::{CallFacts, CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::Quality;
use crate::call::time::Timestamp;
use crate::store::history::HistoryQuery;
use crate::store::postgres::read::{self, AsyncRead, ReadError};
use crate::store::quality::{QualitySummary, Spread, mean_opinion_score};
use crate::store::rows;
use crate::store::story::{Story, ToldEvent};

/// One call.
pub(in crate::store) struct OneCall(pub(crate) CallId);

impl AsyncRead<Option<CallFacts>> for OneCall {
    async fn on(&self, client: &Object) -> Result<Option<CallFacts>, ReadError> {
        let sql = format!("SELECT {} FROM calls c WHERE c.id = $1", rows::CALL);
        let statement = client.prepare_cached(&sql).await?;
        let Some(row) = client.query_opt(&statement, &[&self.0.0]).await? else { return Ok(None) };
        Ok(with_participants(client, vec![read::call(&row)?]).await?.pop())
    }
}

/// The call that `user` started under `key` at `since` or later.
pub(in crate::store) struct PastStart {
    pub(in crate::store) user: UserId,
    pub(in crate::store) key: String,
    pub(in crate::store) since: Timestamp,
}

impl AsyncRead<Option<CallId>> for PastStart {
    async fn on(&self, client: &Object) -> Result<Option<CallId>, ReadError> {
        const SQL: &str = "SELECT call_id FROM idempotency_keys
            WHERE user_id = $1 AND key = $2 AND created_at >= $3";
        let statement = client.prepare_cached(SQL).await?;
        let values: [&(dyn ToSql + Sync); 3] = [&self.user.as_str(), &self.key, &self.since.0];
        let found = client.query_opt(&statement, &values).await?;
        Ok(found.map(|row| row.try_get(0).map(CallId)).transpose()?)
    }
}

/// What Postgres alone has of a user's history.
pub(in crate::store) struct PastHistory {
    /// Whose.
    pub(in crate::store) user: UserId,
    /// Which calls; `offset` and `limit` as they are to be taken here.
    pub(in crate::store) query: HistoryQuery,
    /// How many calls, at most.
    pub(in crate::store) limit: u64,
    /// Calls that are looked up elsewhere.
    pub(in crate::store) but: Vec<Uuid>,
}

/// Some calls of a history, and how many there are in all.
#[derive(Default)]
pub(in crate::store) struct PastPage {
    pub(in crate::store) calls: Vec<CallFacts>,
    pub(in crate::store) total: u64,
}

impl AsyncRead<PastPage> for PastHistory {
    async fn on(&self, client: &Object) -> Result<PastPage, ReadError> {
        let filter = Filter::new(self);
        // On their way together: the answer to one is not waited for with the other.
        let (total, calls) =
            tokio::try_join!(filter.total(client), filter.page(client, &self.query, self.limit))?;
        Ok(PastPage { calls: with_participants(client, calls).await?, total })
    }
}

type Value = Box<dyn ToSql + Sync + Send>;

/// Conditions as SQL, with the values they need. Only fixed words get into the text.
struct Filter {
    conditions: String,
    values: Vec<Value>,
}

impl Filter {
    fn new(past: &PastHistory) -> Self {
        let query = &past.query;
        let mut filter = Self { conditions: String::new(), values: Vec::new() };
        filter.and("p.user_id =", Some(past.user.as_str().to_owned()));
        if !past.but.is_empty() {
            filter.and("p.call_id <> ALL", Some(past.but.clone()));
        }
        filter.and("p.call_created_at >=", query.start.map(|it| it.0));
        filter.and("p.call_created_at <", query.end.map(|it| it.0));
        let chat = query.chat.as_ref().map(|it| it.as_str().to_owned());
        filter.and_call("chat_id", "chat_id", "call_type", chat);
        let call_type = query.call_type.map(|it| it.as_str().to_owned());
        filter.and_call("type", "call_type", "call_type", call_type);
        let state = query.state.map(|it| it.as_str().to_owned());
        filter.and_call("state", "call_state", "call_state", state);
        filter
    }

    /// A condition on the call's `column`: answered by `copy` of it in the user's index, but where `known` is absent
    /// there.
    fn and_call(&mut self, column: &str, copy: &str, known: &str, value: Option<String>) {
        let Some(value) = value else { return };
        let place = self.place(Box::new(value));
        let condition = format!(
            " AND (p.{copy} = {place} OR (p.{known} IS NULL AND EXISTS
                (SELECT FROM calls c WHERE c.id = p.call_id AND c.{column} = {place})))"
        );
        self.conditions.push_str(&condition);
    }

    fn and(&mut self, condition: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        let Some(value) = value else { return };
        if !self.values.is_empty() {
            self.conditions.push_str(" AND ");
        }
        let place = self.place(Box::new(value));
        for part in [condition, " (", &place, ")"] {
            self.conditions.push_str(part);
        }
    }

    /// Adds a value: its place in the text.
    fn place(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    async fn total(&self, client: &Object) -> Result<u64, ReadError> {
        let sql = format!("SELECT count(*) FROM call_participants p WHERE {}", self.conditions);
        let statement = client.prepare_cached(&sql).await?;
        read::natural(&client.query_one(&statement, &plain(&self.values)).await?, 0)
    }

    async fn page(
        &self,
        client: &Object,
        query: &HistoryQuery,
        limit: u64,
    ) -> Result<Vec<CallRecord>, ReadError> {
        let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        let (limit, offset) = (number(limit), number(query.offset));
        let cursor = query.cursor.map(|it| (it.created_at.0, it.call.0));
        let mut values = plain(&self.values);
        let mut place = |value| {
            values.push(value);
            format!("${}", values.len())
        };
        let after = cursor.as_ref().map(|(at, call)| {
            format!("AND (p.call_created_at, p.call_id) < ({}, {})", place(at), place(call))
        });
        let sql = format!(
            "SELECT {} FROM (SELECT p.call_id, p.call_created_at FROM call_participants p
                 WHERE {} {} ORDER BY p.call_created_at DESC, p.call_id DESC LIMIT {} OFFSET {}) u
             JOIN calls c ON c.id = u.call_id ORDER BY u.call_created_at DESC, u.call_id DESC",
            rows::CALL,
            self.conditions,
            after.unwrap_or_default(),
            place(&limit),
            place(&offset),
        );
        let statement = client.prepare_cached(&sql).await?;
        let found = client.query(&statement, &values).await?;
        found.iter().map(read::call).collect()
    }
}

fn plain(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    fn one(value: &Value) -> &(dyn ToSql + Sync) {
        &**value
    }
    values.iter().map(one).collect()
}

/// Adds to each of `calls` all who were ever in it, with one query for all of them.
async fn with_participants(
    client: &Object,
    calls: Vec<CallRecord>,
) -> Result<Vec<CallFacts>, ReadError> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {} FROM call_participants p WHERE p.call_id = ANY($1)
         ORDER BY p.call_id, p.role, p.created_at, p.id",
        rows::PARTICIPANT
    );
    let ids: Vec<Uuid> = calls.iter().map(|it| it.id.0).collect();
    let statement = client.prepare_cached(&sql).await?;
    let found = client.query(&statement, &[&ids]).await?;
    let found: Vec<ParticipantRecord> =
        found.iter().map(read::participant).collect::<Result<_, _>>()?;
    let whole = |call: CallRecord| {
        // Sorted by call: a call's own are next to each other.
        let from = found.partition_point(|it| it.call < call.id);
        let to = found.partition_point(|it| it.call <= call.id);
        CallFacts { call, participants: found.get(from..to).unwrap_or_default().to_vec() }
    };
    Ok(calls.into_iter().map(whole).collect())
}

/// The samples of a call, summed for each participant who sent any.
pub(in crate::store) struct PastQuality(pub(crate) CallId);

impl AsyncRead<Vec<QualitySummary>> for PastQuality {
    async fn on(&self, client: &Object) -> Result<Vec<QualitySummary>, ReadError> {
        const SQL: &str = "
            SELECT p.id, p.user_id, count(*), avg(m.jitter), max(m.jitter), avg(m.packet_loss),
                max(m.packet_loss), avg(m.round_trip_time), max(m.round_trip_time),
                avg(m.bandwidth), max(m.bandwidth),
                (array_agg(m.quality ORDER BY m.timestamp DESC, m.id DESC))[1]
            FROM call_quality_metrics m
            JOIN call_participants p ON p.call_id = m.call_id AND p.id = m.participant_id
            WHERE m.call_id = $1 GROUP BY p.id, p.user_id";
        let statement = client.prepare_cached(SQL).await?;
        let found = client.query(&statement, &[&self.0.0]).await?;
        found.iter().map(summary).collect()
    }
}

fn summary(row: &tokio_postgres::Row) -> Result<QualitySummary, ReadError> {
    let spread = |at: usize| -> Result<Spread, ReadError> {
        Ok(Spread { average: row.try_get(at)?, maximum: row.try_get(at + 1)? })
    };
    let (jitter, packet_loss, round_trip_time) = (spread(3)?, spread(5)?, spread(7)?);
    let bandwidth: Option<f64> = row.try_get(9)?;
    Ok(QualitySummary {
        participant: row.try_get(0)?,
        user: read::user(row, 1)?,
        samples: read::natural(row, 2)?,
        jitter,
        packet_loss,
        round_trip_time,
        bandwidth: bandwidth.map(|_| spread(9)).transpose()?,
        quality: read::word(row, 11, Quality::parse)?,
        mean_opinion_score: mean_opinion_score(
            jitter.average,
            packet_loss.average,
            round_trip_time.average,
        ),
    })
}

/// The recordings of a call.
pub(in crate::store) struct PastRecordings(pub(crate) CallId);

impl AsyncRead<Vec<RecordingRecord>> for PastRecordings {
    async fn on(&self, client: &Object) -> Result<Vec<RecordingRecord>, ReadError> {
        let sql = format!(
            "SELECT {} FROM call_recordings r WHERE r.call_id = $1 ORDER BY r.started_at, r.id",
            rows::RECORDING
        );
        let statement = client.prepare_cached(&sql).await?;
        let found = client.query(&statement, &[&self.0.0]).await?;
        found.iter().map(read::recording).collect()
    }
}

/// Events of a call after number `after` that were meant for `user`.
pub(in crate::store) struct PastStory {
    pub(in crate::store) call: CallId,
    pub(in crate::store) user: UserId,
    pub(in crate::store) after: u64,
    pub(in crate::store) limit: u16,
}

impl AsyncRead<Story> for PastStory {
    async fn on(&self, client: &Object) -> Result<Story, ReadError> {
        const SQL: &str = "SELECT seq, at, name, data FROM call_events
            WHERE call_id = $1 AND seq > $2 AND strpos(recipients, $3) > 0
            ORDER BY seq LIMIT $4";
        let after = i64::try_from(self.after).unwrap_or(i64::MAX);
        let (user, limit) = (format!("\"{}\"", self.user), usize::from(self.limit));
        let statement = client.prepare_cached(SQL).await?;
        let one_more = i64::from(self.limit) + 1;
        let found = client.query(&statement, &[&self.call.0, &after, &user, &one_more]).await?;
        let told = |row: &tokio_postgres::Row| -> Result<ToldEvent, ReadError> {
            Ok(ToldEvent {
                seq: read::natural(row, 0)?,
                at: Timestamp(row.try_get(1)?),
                name: row.try_get(2)?,
                data: row.try_get(3)?,
            })
        };
        let mut events = found.iter().map(told).collect::<Result<Vec<_>, _>>()?;
        let more = events.len() > limit;
        events.truncate(limit);
        Ok(Story { events, more })
    }
}
