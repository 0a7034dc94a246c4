//! One call, and the calls of one user, newest first.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, ToSql, named_params, params_from_iter};
use uuid::Uuid;

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::record::{CallRecord, ParticipantRecord};
use crate::call::state::{CallType, State};
use crate::call::time::Timestamp;
use crate::store::StoredCall;
use crate::store::error::StoreError;
use crate::store::rows::{self, IdText};
use crate::store::sqlite::Sqlite;

/// Calls a page may have (contract, section 8).
pub const HISTORY_LIMIT_MAX: u16 = 100;

/// Bytes of a cursor before it is made text: a time and a call id.
const CURSOR_BYTES: usize = 8 + 16;

/// Where a page ended: the next begins right after it, whatever has been added before it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    created_at: Timestamp,
    call: CallId,
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor as the page before gave it")]
pub struct InvalidCursor;

impl Cursor {
    /// A text for clients, of characters that need no escape in a URL.
    pub fn encode(self) -> String {
        let mut bytes = [0; CURSOR_BYTES];
        let (time, call) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.created_at.0.to_be_bytes());
        call.copy_from_slice(self.call.0.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let mut bytes = [0; CURSOR_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        let (Ok(CURSOR_BYTES), Some((time, call))) = (length, bytes.split_first_chunk::<8>())
        else {
            return Err(InvalidCursor);
        };
        let call = Uuid::from_slice(call).ok().ok_or(InvalidCursor)?;
        Ok(Self { created_at: Timestamp(i64::from_be_bytes(*time)), call: CallId(call) })
    }
}

/// Which calls of a user, and how many. All conditions have to hold.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    /// Calls of the page: 1 to [`HISTORY_LIMIT_MAX`]; brought into that range otherwise.
    pub limit: u16,
    /// Calls to pass over, counted from `cursor` where there is one.
    pub offset: u64,
    /// Only what comes after it.
    pub cursor: Option<Cursor>,
    /// Only calls of this chat.
    pub chat: Option<ChatId>,
    /// Only audio, or only video.
    pub call_type: Option<CallType>,
    /// Only calls in this state.
    pub state: Option<State>,
    /// Only calls created then or later.
    pub start: Option<Timestamp>,
    /// Only calls created before.
    pub end: Option<Timestamp>,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Newest first, by creation; of one millisecond, the greater id first.
    pub calls: Vec<StoredCall>,
    /// How many calls the query has in all, whatever the page.
    pub total: u64,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

impl Sqlite {
    /// A call, live or past, as it was last stored.
    pub async fn call(&self, id: CallId) -> Result<Option<StoredCall>, StoreError> {
        self.read("reading a call", move |connection| {
            let sql = format!("SELECT {} FROM calls c WHERE c.id = ?1", rows::CALL);
            let mut statement = connection.prepare_cached(&sql)?;
            let call = statement.query_row([IdText::from(id)], rows::call).optional()?;
            let Some(call) = call else { return Ok(None) };
            Ok(with_participants(connection, vec![call])?.pop())
        })
        .await
    }

    /// A page of the calls that `user` was ever part of.
    pub async fn history(
        &self,
        user: &UserId,
        query: HistoryQuery,
    ) -> Result<HistoryPage, StoreError> {
        let user = user.clone();
        self.read("reading a history", move |connection| page(connection, &user, &query)).await
    }

    /// The call that `user` started under `key` at `since` or later.
    pub async fn idempotent_start(
        &self,
        user: &UserId,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<CallId>, StoreError> {
        let (user, key) = (user.clone(), key.to_owned());
        self.read("looking for an idempotency key", move |connection| {
            const SQL: &str = "SELECT call_id FROM idempotency_keys
                WHERE user_id = :user AND key = :key AND created_at >= :since";
            let values = named_params! { ":user": user.as_str(), ":key": key, ":since": since.0 };
            let mut statement = connection.prepare_cached(SQL)?;
            statement.query_row(values, |row| rows::call_id(row, 0)).optional()
        })
        .await
    }
}

fn page(
    connection: &Connection,
    user: &UserId,
    query: &HistoryQuery,
) -> rusqlite::Result<HistoryPage> {
    let filter = Filter::new(user, query);
    let total = filter.total(connection, user)?;
    let limit = usize::from(query.limit.clamp(1, HISTORY_LIMIT_MAX));
    let mut calls = filter.calls(connection, query, limit)?;
    let more = calls.len() > limit;
    calls.truncate(limit);
    let last = calls.last().map(|it| Cursor { created_at: it.created_at, call: it.id });
    let next = last.filter(|_| more);
    Ok(HistoryPage { calls: with_participants(connection, calls)?, total, next })
}

/// Conditions as SQL, with the values they need. Only fixed words get into the text.
struct Filter {
    conditions: String,
    values: Vec<Named<Value>>,
    /// Some condition is on the call itself, not only on the user's index.
    needs_call: bool,
    /// There is no condition but the user.
    is_bare: bool,
}

impl Filter {
    fn new(user: &UserId, query: &HistoryQuery) -> Self {
        let mut filter = Self {
            conditions: "p.user_id = :user".to_owned(),
            values: vec![(":user", Value::from(user.as_str().to_owned()))],
            needs_call: false,
            is_bare: true,
        };
        let time = |it: Timestamp| Value::from(it.0);
        filter.and("p.call_created_at >= :start", ":start", query.start.map(time));
        filter.and("p.call_created_at < :end", ":end", query.end.map(time));
        filter.needs_call =
            query.chat.is_some() || query.call_type.is_some() || query.state.is_some();
        let word = |it: &str| Value::from(it.to_owned());
        let chat = query.chat.as_ref().map(|it| word(it.as_str()));
        filter.and("c.chat_id = :chat", ":chat", chat);
        filter.and("c.type = :type", ":type", query.call_type.map(|it| word(it.as_str())));
        filter.and("c.state = :state", ":state", query.state.map(|it| word(it.as_str())));
        filter
    }

    fn and(&mut self, condition: &str, name: &'static str, value: Option<Value>) {
        let Some(value) = value else { return };
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
        self.values.push((name, value));
        self.is_bare = false;
    }

    fn tables(&self) -> &'static str {
        // CROSS JOIN: from the user's index to the calls, never the other way round.
        if self.needs_call {
            "call_participants p CROSS JOIN calls c ON c.id = p.call_id"
        } else {
            "call_participants p"
        }
    }

    /// Without conditions this is a counter; else the user's own rows are counted.
    fn total(&self, connection: &Connection, user: &UserId) -> rusqlite::Result<u64> {
        if self.is_bare {
            let mut statement =
                connection.prepare_cached("SELECT calls FROM call_counts WHERE user_id = ?1")?;
            let total = statement.query_row([user.as_str()], |row| rows::natural(row, 0));
            return Ok(total.optional()?.unwrap_or(0));
        }
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.tables(), self.conditions);
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_row(&*borrowed(&self.values), |row| rows::natural(row, 0))
    }

    /// The page's calls and one more, if there is one. What is passed over is only looked up in the
    /// user's index, unless a condition is on the calls themselves.
    fn calls(
        &self,
        connection: &Connection,
        query: &HistoryQuery,
        limit: usize,
    ) -> rusqlite::Result<Vec<CallRecord>> {
        let mut values = self.values.clone();
        let after = if let Some(cursor) = query.cursor {
            values.push((":after", Value::from(cursor.created_at.0)));
            values.push((":after_call", Value::from(cursor.call.to_string())));
            "AND (p.call_created_at, p.call_id) < (:after, :after_call)"
        } else {
            ""
        };
        values.push((":limit", Value::from(i64::try_from(limit + 1).unwrap_or(i64::MAX))));
        values.push((":offset", Value::from(i64::try_from(query.offset).unwrap_or(i64::MAX))));
        let sql = format!(
            "SELECT {} FROM (SELECT p.call_id, p.call_created_at FROM {} WHERE {} {after}
                 ORDER BY p.call_created_at DESC, p.call_id DESC LIMIT :limit OFFSET :offset) u
             CROSS JOIN calls c ON c.id = u.call_id
             ORDER BY u.call_created_at DESC, u.call_id DESC",
            rows::CALL,
            self.tables(),
            self.conditions
        );
        let mut statement = connection.prepare_cached(&sql)?;
        statement.query_map(&*borrowed(&values), rows::call)?.collect()
    }
}

type Named<T> = (&'static str, T);

/// In the form that a statement takes.
fn borrowed(values: &[Named<Value>]) -> Vec<Named<&dyn ToSql>> {
    fn one((name, value): &Named<Value>) -> Named<&dyn ToSql> {
        (name, value)
    }
    values.iter().map(one).collect()
}

/// Adds to each of `calls` all who were ever in it, with one query for all of them.
fn with_participants(
    connection: &Connection,
    calls: Vec<CallRecord>,
) -> rusqlite::Result<Vec<StoredCall>> {
    // A fixed number of places keeps one prepared statement for every page; the rest stay NULL.
    let places = if calls.len() == 1 { 1 } else { usize::from(HISTORY_LIMIT_MAX) };
    let sql = format!(
        "SELECT {} FROM call_participants p WHERE p.call_id IN ({}?)
         ORDER BY p.call_id, p.role, p.created_at, p.id",
        rows::PARTICIPANT,
        "?, ".repeat(places - 1)
    );
    let ids = calls.iter().map(|it| Some(IdText::from(it.id)));
    let ids = ids.chain(std::iter::repeat_with(|| None)).take(places);
    let mut statement = connection.prepare_cached(&sql)?;
    let participants = statement.query_map(params_from_iter(ids), rows::participant)?;
    let mut participants: Vec<ParticipantRecord> = participants.collect::<Result<_, _>>()?;
    let stored = |call: CallRecord| {
        // Sorted by call: a call's own are next to each other.
        let from = participants.partition_point(|it| it.call < call.id);
        let to = participants.partition_point(|it| it.call <= call.id);
        let participants = participants.get_mut(from..to).unwrap_or_default().to_vec();
        StoredCall { call, participants }
    };
    Ok(calls.into_iter().map(stored).collect())
}
