//! The events of a call, for one who missed some.

use rusqlite::named_params;

use crate::call::id::{CallId, UserId};
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::rows::{self, IdText};
use crate::store::sqlite::Sqlite;

/// Events that one answer may hold.
pub const STORY_LIMIT_MAX: u16 = 1_000;

/// One event, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldEvent {
    /// Its number in its call.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Its name on the wire.
    pub name: String,
    /// Its payload: a JSON object.
    pub data: String,
}

/// A stretch of a call's story.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// In the order they happened.
    pub events: Vec<ToldEvent>,
    /// There are more after the last, or may be some before that can't be read right now.
    pub more: bool,
}

impl Sqlite {
    /// The first `limit` events of `call` after number `after` that were meant for `user`.
    pub async fn story(
        &self,
        call: CallId,
        user: &UserId,
        after: u64,
        limit: u16,
    ) -> Result<Story, StoreError> {
        // A user id holds nothing that JSON would escape: in quotes it is found whole or not at all.
        const SQL: &str = "SELECT seq, at, name, data FROM call_events
            WHERE call_id = :call AND seq > :after AND instr(recipients, :user) > 0
            ORDER BY seq LIMIT :limit";
        let user = format!("\"{user}\"");
        let limit = usize::from(limit.clamp(1, STORY_LIMIT_MAX));
        self.read("reading the story of a call", move |connection| {
            let mut statement = connection.prepare_cached(SQL)?;
            let values = named_params! {
                ":call": IdText::from(call),
                ":after": i64::try_from(after).unwrap_or(i64::MAX),
                ":user": user,
                ":limit": i64::try_from(limit + 1).unwrap_or(i64::MAX),
            };
            let events = statement.query_map(values, |row| {
                Ok(ToldEvent {
                    seq: rows::natural(row, 0)?,
                    at: Timestamp(row.get(1)?),
                    name: row.get(2)?,
                    data: row.get(3)?,
                })
            })?;
            let mut events = events.collect::<Result<Vec<_>, _>>()?;
            let more = events.len() > limit;
            events.truncate(limit);
            Ok(Story { events, more })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture;

    #[tokio::test]
    async fn each_hears_what_was_meant_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut change = fixture::change(1, 9);
        change.story = vec![
            fixture::event(1, 1, &["alice"]),
            fixture::event(1, 2, &["alice", "bob"]),
            fixture::event(1, 5, &["bob"]),
            fixture::event(1, 7, &[]),
            fixture::event(1, 9, &["bobby", "alice"]),
        ];
        let (store, _journal) = fixture::stored(folder.path(), vec![change]).await;
        for (name, after, limit, seqs, more) in [
            ("alice", 0, 10, vec![1, 2, 9], false),
            ("alice", 0, 2, vec![1, 2], true),
            ("alice", 1, 2, vec![2, 9], false),
            ("bob", 0, 10, vec![2, 5], false),
            ("bobby", 0, 10, vec![9], false),
            ("bob", 5, 10, vec![], false),
            ("bob", u64::MAX, 10, vec![], false),
            ("outsider", 0, 10, vec![], false),
            ("alice", 0, 0, vec![1], true),
        ] {
            let (call, name) = (fixture::call(1), fixture::user(name));
            let told = store.story(call, &name, after, limit).await.unwrap();
            let found: Vec<_> = told.events.iter().map(|it| it.seq).collect();
            assert_eq!((found, told.more), (seqs, more), "{name} {after} {limit}");
        }
        let told = store.story(fixture::call(1), &fixture::user("bob"), 2, 1).await.unwrap();
        let event = ToldEvent {
            seq: 5,
            at: Timestamp(1_000),
            name: "call:state_changed".to_owned(),
            data: "{\"seq\":5}".to_owned(),
        };
        assert_eq!(told.events, [event]);
    }
}
