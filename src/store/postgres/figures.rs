//! What statistics need of the calls that the local file no longer has; and the end of a user's
//! traces.

use std::collections::HashSet;
use std::pin::pin;

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::call::id::UserId;
use crate::call::state::State;
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::postgres::connect::Postgres;
use crate::store::postgres::read::{self, AsyncRead, ReadError};
use crate::store::retention::Erased;
use crate::store::stats::{Life, Tally};

/// The sums over the calls that were over after `since`, or are not: those are other nodes'.
pub(in crate::store) struct PastLives {
    pub(in crate::store) since: Timestamp,
    pub(in crate::store) now: Timestamp,
    /// Calls that are counted elsewhere.
    pub(in crate::store) but: HashSet<Uuid>,
}

impl AsyncRead<Tally> for PastLives {
    async fn on(&self, client: &Object) -> Result<Tally, ReadError> {
        // Two ways, each by an index of its own.
        const SQL: &str = "SELECT id, state, created_at, started_at, ended_at, duration FROM calls
            WHERE ended_at > $1 AND created_at <= $2
            UNION ALL
            SELECT id, state, created_at, started_at, ended_at, duration FROM calls
            WHERE ended_at IS NULL AND created_at <= $2";
        let statement = client.prepare_cached(SQL).await?;
        let values: [&(dyn ToSql + Sync); 2] = [&self.since.0, &self.now.0];
        // One row at a time: a window may hold millions.
        let mut tally = Tally::default();
        let mut found = pin!(client.query_raw(&statement, values).await?);
        while let Some(row) = next(&mut found).await {
            let row = row?;
            if self.but.contains(&row.try_get::<_, Uuid>(0)?) {
                continue;
            }
            tally.add(&Life {
                state: read::word(&row, 1, State::parse)?,
                created_at: row.try_get(2)?,
                started_at: row.try_get(3)?,
                ended_at: row.try_get(4)?,
                duration: read::optional(&row, 5, |it: i64| u64::try_from(it).ok())?,
            });
        }
        Ok(tally)
    }
}

type Rows<'a> = std::pin::Pin<&'a mut tokio_postgres::RowStream>;

async fn next(rows: &mut Rows<'_>) -> Option<Result<tokio_postgres::Row, tokio_postgres::Error>> {
    use futures_core::Stream as _;
    std::future::poll_fn(|context| rows.as_mut().poll_next(context)).await
}

impl Postgres {
    /// Removes the traces of `user` as [`Journal::erase`](crate::store::journal::Journal::erase) does
    /// from the local file, in one transaction. To be called when all is written behind.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, StoreError> {
        const DURING: &str = "erasing a user";
        let writer = &self.shared.writer;
        let mut client = writer.connection(DURING).await?;
        let outcome = erase(&mut client, user).await;
        writer.settle(DURING, client, outcome)
    }
}

async fn erase(client: &mut Object, user: &UserId) -> Result<Erased, tokio_postgres::Error> {
    /// The user's calls that are over.
    const THEIRS: &str = "SELECT p.call_id, p.id FROM call_participants p
        JOIN calls c ON c.id = p.call_id WHERE p.user_id = $1 AND c.ended_at IS NOT NULL";
    let (who, quoted) = (user.as_str(), format!("\"{user}\""));
    let transaction = client.transaction().await?;
    // It may have a great deal to go through.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let events = format!(
        "DELETE FROM call_events WHERE call_id IN (SELECT call_id FROM ({THEIRS}) t)
            AND (strpos(recipients, $2) > 0 OR strpos(data, $2) > 0)"
    );
    let samples = format!(
        "DELETE FROM call_quality_metrics WHERE (call_id, participant_id) IN (SELECT * FROM ({THEIRS}) t)"
    );
    let started = format!(
        "UPDATE calls SET initiator_id = 'erased:' || t.id::text
            FROM ({THEIRS}) t WHERE calls.id = t.call_id AND calls.initiator_id = $1"
    );
    let took_part = format!(
        "UPDATE call_participants SET user_id = 'erased:' || id::text
            WHERE (call_id, id) IN (SELECT * FROM ({THEIRS}) t)"
    );
    let left = "SELECT count(*) FROM call_participants WHERE user_id = $1";
    let events = transaction.execute(&events, &[&who, &quoted]).await?;
    let samples = transaction.execute(&samples, &[&who]).await?;
    transaction.execute(&started, &[&who]).await?;
    // The participants last: by their user the others are found.
    let calls = transaction.execute(&took_part, &[&who]).await?;
    let keys = "DELETE FROM idempotency_keys WHERE user_id = $1";
    let idempotency_keys = transaction.execute(keys, &[&who]).await?;
    let left: i64 = transaction.query_one(left, &[&who]).await?.try_get(0)?;
    transaction.commit().await?;
    Ok(Erased { calls, events, samples, idempotency_keys, live_calls: left.unsigned_abs() })
}
