//! Calls that have gone to another node: what the local file is still worth for them.
//!
//! A node that loses a call keeps its rows until they are written behind, as the other may not have
//! heard of the last of them; but they are no longer the newest, so nobody reads them here. What says
//! so is a mark of its own, not the absence of a live row: a call that ended here while another node
//! had it already is the other's too.

use rusqlite::{Connection, OptionalExtension};

use crate::call::id::CallId;
use crate::call::record::CallFacts;
use crate::store::error::StoreError;
use crate::store::history;
use crate::store::rows::IdText;
use crate::store::sqlite::Sqlite;

/// The calls that are another node's, as SQL.
pub(super) const RELEASED: &str = "SELECT call_id FROM released_calls";

/// What the local file has of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing.
    Nothing,
    /// All of it, and the newest.
    Whole,
    /// The newest, but not what happened while it was another node's: events, samples, recordings.
    Recent,
    /// Something, but another node has what is newer.
    Released,
}

/// The call is another node's from now on, until it changes here again. One of which nothing is here
/// leaves no mark: there is nothing that could be taken for the newest.
pub(super) fn write(connection: &Connection, call: CallId) -> rusqlite::Result<()> {
    const LIVE: &str = "DELETE FROM live_calls WHERE call_id = ?1";
    const MARK: &str = "INSERT INTO released_calls (call_id) SELECT id FROM calls WHERE id = ?1
        ON CONFLICT DO NOTHING";
    for sql in [LIVE, MARK] {
        connection.prepare_cached(sql)?.execute([IdText::from(call)])?;
    }
    Ok(())
}

/// The call is this node's, again or still.
pub(super) fn take_back(connection: &Connection, call: CallId) -> rusqlite::Result<()> {
    const MARK: &str = "DELETE FROM released_calls WHERE call_id = ?1";
    connection.prepare_cached(MARK)?.execute([IdText::from(call)]).map(|_| ())
}

impl Sqlite {
    /// What there is of a call.
    pub(super) async fn holding(&self, call: CallId) -> Result<Holding, StoreError> {
        self.read("looking for a call", move |connection| holding(connection, call)).await
    }

    /// A call, and what that is worth.
    pub(super) async fn held_call(
        &self,
        call: CallId,
    ) -> Result<(Option<CallFacts>, Holding), StoreError> {
        self.read("reading a call", move |connection| {
            Ok((history::one(connection, call)?, holding(connection, call)?))
        })
        .await
    }
}

fn holding(connection: &Connection, call: CallId) -> rusqlite::Result<Holding> {
    // The epoch grows with every node that takes a call.
    let sql = format!("SELECT id IN ({RELEASED}), epoch > 1 FROM calls WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(match statement.query_row([IdText::from(call)], read).optional()? {
        None => Holding::Nothing,
        Some((true, _)) => Holding::Released,
        Some((false, true)) => Holding::Recent,
        Some((false, false)) => Holding::Whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[tokio::test]
    async fn a_call_goes_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let call = fixture::call(1);
        let (store, journal) = fixture::stored(folder.path(), Vec::new()).await;
        assert_eq!(store.holding(call).await.unwrap(), Holding::Nothing);
        fixture::release(&journal, 1).await.unwrap();
        assert_eq!(store.holding(call).await.unwrap(), Holding::Nothing, "nothing to mark");
        let taken = |epoch, seq| {
            let mut change = fixture::change(1, seq);
            change.call.epoch = epoch;
            fixture::send(&journal, change)
        };
        taken(1, 1).await.unwrap();
        assert_eq!(store.holding(call).await.unwrap(), Holding::Whole);
        for _ in 0..2 {
            fixture::release(&journal, 1).await.unwrap();
            assert_eq!(store.holding(call).await.unwrap(), Holding::Released);
            assert!(store.live_snapshots().unwrap().is_empty());
            assert!(store.call(call).await.unwrap().is_some(), "its rows stay");
        }
        taken(3, 2_000_001).await.unwrap();
        assert_eq!(store.holding(call).await.unwrap(), Holding::Recent);
        assert_eq!(store.live_snapshots().unwrap().len(), 1);
        taken(2, 9_000_000).await.unwrap();
        let (facts, holding) = store.held_call(call).await.unwrap();
        assert_eq!((facts.unwrap().call.epoch, holding), (3, Holding::Recent));
    }

    #[tokio::test]
    async fn what_is_stale_takes_nothing_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut change = fixture::change(1, 5);
        change.call.epoch = 7;
        let (store, journal) = fixture::stored(folder.path(), vec![change]).await;
        fixture::release(&journal, 1).await.unwrap();
        fixture::send(&journal, fixture::change(1, 6)).await.unwrap();
        assert_eq!(store.holding(fixture::call(1)).await.unwrap(), Holding::Released);
    }

    #[tokio::test]
    async fn one_that_ended_meanwhile_is_the_others_too() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) =
            fixture::stored(folder.path(), vec![fixture::ended(1, 2, 60_000, 3)]).await;
        fixture::release(&journal, 1).await.unwrap();
        assert_eq!(store.holding(fixture::call(1)).await.unwrap(), Holding::Released);
    }
}
