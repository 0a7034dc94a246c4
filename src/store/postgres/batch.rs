//! One transaction of rows, and what to do where one of them is refused.

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::store::cells::Array;
use crate::store::error::{Kind, StoreError};
use crate::store::postgres::connect::{Postgres, WRITE_MAX};
use crate::store::tables::{self, CALLS, Row, TABLES};

const WRITING: &str = "writing behind to Postgres";

/// Whoever takes over a call writes all of its participants anew. Of those that only an earlier owner knew nobody was
/// told: they came to that one's journal and no further before it died.
const STRAYS: &str = "DELETE FROM call_participants p USING calls c
    WHERE c.id = ANY($1) AND p.call_id = c.id AND p.epoch < c.epoch";

/// Those who had left before the end, and whose rows it did not change, know of it too.
const OVER: &str = "UPDATE call_participants p SET call_state = c.state FROM calls c
    WHERE c.id = ANY($1) AND c.ended_at IS NOT NULL AND p.call_id = c.id AND p.call_state IS NULL";

/// A row that Postgres will never take, and why.
pub(super) type Refused = (Row, StoreError);

impl Postgres {
    /// Commits `rows`. What is wrong with one row keeps only that one out: it is found by halves and
    /// given back. All is as if it had never been sent, or may be, where this fails: to send it again
    /// does no harm.
    pub(super) async fn land(&self, mut rows: Vec<Row>) -> Result<Vec<Refused>, StoreError> {
        rows.sort_by(Row::order);
        let recorded: BTreeSet<Uuid> = rows.iter().filter_map(Row::recorded_call).collect();
        let mut refused = Vec::new();
        let mut parts = vec![rows];
        while let Some(mut part) = parts.pop() {
            match self.commit(&part).await {
                Ok(()) => {}
                Err(error) if error.kind != Kind::Rejected => return Err(error),
                Err(error) => {
                    let half = part.split_off(part.len() / 2);
                    if part.is_empty() {
                        refused.extend(half.into_iter().map(|row| (row, error.clone())));
                    } else {
                        parts.extend([half, part]);
                    }
                }
            }
        }
        self.tell_files(recorded.into_iter().collect()).await?;
        Ok(refused)
    }

    /// Has the rows of these calls know the file of their newest recording. Of what a recording came to, any node may
    /// hear, before or after the row of its call comes from another, and in whichever epoch that is. So both look when
    /// theirs is committed: the later of the two sees what both have brought.
    async fn tell_files(&self, calls: Vec<Uuid>) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE calls c SET recording_url = r.url
            FROM (SELECT DISTINCT ON (call_id) call_id, url FROM call_recordings
                WHERE call_id = ANY($1) AND status = 'completed' AND url IS NOT NULL
                ORDER BY call_id, started_at DESC, id) r
            WHERE c.id = r.call_id AND c.recording_url IS DISTINCT FROM r.url";
        if calls.is_empty() {
            return Ok(());
        }
        let writer = &self.shared.writer;
        let client = writer.connection(WRITING).await?;
        let Ok(outcome) = timeout(WRITE_MAX, client.execute(SQL, &[&calls])).await else {
            writer.note(Kind::Away);
            writer.discard(client);
            return Err(StoreError::new(WRITING, Kind::Away));
        };
        writer.settle(WRITING, client, outcome).map(drop)
    }

    async fn commit(&self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let writer = &self.shared.writer;
        let mut client = writer.connection(WRITING).await?;
        let Ok(outcome) = timeout(WRITE_MAX, write(&mut client, rows)).await else {
            // Hung: whether it will ever be committed is not known, and does not matter.
            writer.note(Kind::Away);
            writer.discard(client);
            return Err(StoreError::new(WRITING, Kind::Away));
        };
        writer.settle(WRITING, client, outcome)?;
        writer.is_back();
        Ok(())
    }
}

async fn write(client: &mut Object, rows: &[Row]) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let mut stale = false;
    for table in TABLES {
        let rows: Vec<&Row> = rows.iter().filter(|it| it.table.kind == table.kind).collect();
        if rows.is_empty() {
            continue;
        }
        let statement = transaction.prepare_cached(&table.upsert()).await?;
        let columns = table.columns.iter().enumerate();
        let arrays: Vec<Array<'_>> =
            columns.map(|(index, it)| tables::array(&rows, index, it.kind)).collect();
        let arrays: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(plain).collect();
        let written = transaction.execute(&statement, &arrays).await?;
        stale |= table.kind == CALLS.kind && usize::try_from(written) != Ok(rows.len());
    }
    let over = |it: &Row| it.call().filter(|_| it.integer("ended_at").is_some());
    let over: Vec<Uuid> = rows.iter().filter_map(over).collect();
    if !over.is_empty() {
        let statement = transaction.prepare_cached(OVER).await?;
        transaction.execute(&statement, &[&over]).await?;
    }
    if stale || rows.iter().any(|it| it.call().is_some() && it.integer("epoch") > Some(1)) {
        let calls: Vec<Uuid> = rows.iter().filter_map(Row::call).collect();
        let statement = transaction.prepare_cached(STRAYS).await?;
        transaction.execute(&statement, &[&calls]).await?;
    }
    transaction.commit().await
}

fn plain<'a>(array: &'a Array<'_>) -> &'a (dyn ToSql + Sync) {
    &**array
}
