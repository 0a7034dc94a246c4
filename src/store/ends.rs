//! Which of many calls are over, by whatever is known of them: asked once for all that a node is about to take over.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Object;
use rusqlite::{Connection, OptionalExtension};
use tokio::time::timeout;
use uuid::Uuid;

use crate::call::id::CallId;
use crate::call::state::State;
use crate::store::error::StoreError;
use crate::store::postgres::read::{self, AsyncRead, ReadError};
use crate::store::released::RELEASED;
use crate::store::rows::{self, IdText};
use crate::store::sqlite::Sqlite;
use crate::store::whole::Store;

const DURING: &str = "looking which calls are over";
/// How long each place may take for that: calls of a dead node wait for it.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How far a place knows of a call.
#[derive(Debug, Clone, Copy)]
struct Known {
    call: CallId,
    epoch: u64,
    seq: u64,
    over: bool,
    /// Another node has had it since.
    released: bool,
}

impl Store {
    /// Those of `calls` that are over, by the newest that is known of each, and the ownership in which they ended. A place
    /// that does not answer within a second knows of nothing, and then the local file says nothing either of those that
    /// another node has had since.
    pub async fn over_among(&self, calls: &[CallId]) -> HashMap<CallId, u64> {
        let local = timeout(ANSWER_MAX, local(self.local(), calls.to_vec())).await;
        let mut known = local.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
        if let Some(postgres) = self.postgres() {
            let ids = Ids(calls.iter().map(|it| it.0).collect());
            let read = Box::pin(postgres.read_in_time(DURING, ids));
            if let Ok(Ok(past)) = timeout(ANSWER_MAX, read).await {
                known.extend(past);
            } else {
                tracing::debug!("which calls are over is not known to Postgres in time");
                known.retain(|it| !it.released);
            }
        }
        let mut newest: HashMap<CallId, Known> = HashMap::new();
        for it in known {
            let last = newest.entry(it.call).or_insert(it);
            if (it.epoch, it.seq) > (last.epoch, last.seq) {
                *last = it;
            }
        }
        newest.into_values().filter(|it| it.over).map(|it| (it.call, it.epoch)).collect()
    }
}

async fn local(store: &Sqlite, calls: Vec<CallId>) -> Result<Vec<Known>, StoreError> {
    let look = move |connection: &Connection| {
        let sql = format!("SELECT epoch, seq, state, id IN ({RELEASED}) FROM calls WHERE id = ?1");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut known = Vec::new();
        for call in calls {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Known {
                    call,
                    epoch: rows::natural(row, 0)?,
                    seq: rows::natural(row, 1)?,
                    over: rows::word(row, 2, State::parse)?.is_terminal(),
                    released: row.get(3)?,
                })
            };
            known.extend(statement.query_row([IdText::from(call)], read).optional()?);
        }
        Ok(known)
    };
    store.read(DURING, look).await
}

/// The same of Postgres.
struct Ids(Vec<Uuid>);

impl AsyncRead<Vec<Known>> for Ids {
    async fn on(&self, client: &Object) -> Result<Vec<Known>, ReadError> {
        const SQL: &str = "SELECT id, epoch, seq, state FROM calls WHERE id = ANY($1)";
        let statement = client.prepare_cached(SQL).await?;
        let found = client.query(&statement, &[&self.0]).await?;
        let known = |row: &tokio_postgres::Row| {
            Ok(Known {
                call: CallId(row.try_get(0)?),
                epoch: read::natural(row, 1)?,
                seq: read::natural(row, 2)?,
                over: read::word(row, 3, State::parse)?.is_terminal(),
                released: false,
            })
        };
        found.iter().map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::time::Timestamp;
    use crate::store::fixture;

    #[tokio::test]
    async fn over_is_what_has_ended_here_whoever_has_had_it_since() {
        let folder = tempfile::tempdir().unwrap();
        let ended = |number| {
            let mut change = fixture::change(number, 2);
            (change.call.state, change.live) = (State::Ended, None);
            change.call.ended_at = Some(Timestamp(2_000));
            change
        };
        let changes = vec![fixture::change(1, 1), ended(2), ended(3)];
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        fixture::release(&journal, 3).await.unwrap();
        let calls = [1, 2, 3, 4].map(fixture::call);
        let store = Store::new(store, None);
        let over = [2, 3].map(|it| (fixture::call(it), 1));
        assert_eq!(store.over_among(&calls).await, HashMap::from(over));
        assert_eq!(store.over_among(&[]).await, HashMap::new());
    }
}
