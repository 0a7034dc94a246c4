//! One call, and the calls of one user, newest first.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, ToSql, named_params, params_from_iter};
use uuid::Uuid;

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::record::CallFacts;
use crate::call::record::{CallRecord, ParticipantRecord};
use crate::call::state::{CallType, State};
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::released::RELEASED;
use crate::store::rows::{self, IdText};
use crate::store::sqlite::Sqlite;

/// Calls a page may have (contract, section 8).
pub const HISTORY_LIMIT_MAX: u16 = 100;

/// Bytes of a cursor before it is made text: a time and a call id.
const CURSOR_BYTES: usize = 8 + 16;

/// Where a page ended: the next begins right after it, whatever has been added before it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(super) created_at: Timestamp,
    pub(super) call: CallId,
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor as the page before gave it")]
pub struct InvalidCursor;

impl Cursor {
    /// Right after that call.
    pub(super) fn after(call: &CallRecord) -> Self {
        Self { created_at: call.created_at, call: call.id }
    }

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
    pub calls: Vec<CallFacts>,
    /// How many calls the query has in all, whatever the page.
    pub total: u64,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// Only what is recent is here: the rest can't be read right now, and is not in `total`.
    pub stale: bool,
}

impl Sqlite {
    /// A call, live or past, as it was last stored.
    pub async fn call(&self, id: CallId) -> Result<Option<CallFacts>, StoreError> {
        self.read("reading a call", move |connection| one(connection, id)).await
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

    /// What this file has of a page that is to be made of two stores.
    pub(super) async fn local_history(
        &self,
        user: &UserId,
        query: HistoryQuery,
    ) -> Result<LocalHistory, StoreError> {
        let user = user.clone();
        self.read("reading a history", move |it| local_history(it, &user, query)).await
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

/// A call as it was last stored here.
pub(super) fn one(connection: &Connection, id: CallId) -> rusqlite::Result<Option<CallFacts>> {
    let sql = format!("SELECT {} FROM calls c WHERE c.id = ?1", rows::CALL);
    let mut statement = connection.prepare_cached(&sql)?;
    let call = statement.query_row([IdText::from(id)], rows::call).optional()?;
    let Some(call) = call else { return Ok(None) };
    Ok(with_participants(connection, vec![call])?.pop())
}

/// What the local file has of a user's history, but for what is another node's now.
pub(super) struct LocalHistory {
    /// All calls of the user that it has, whatever the query.
    pub(super) known: Vec<Uuid>,
    /// How many of them the query has.
    pub(super) total: u64,
    /// The first of those: as many as could be on the page, with those that `offset` passes over.
    pub(super) calls: Vec<CallFacts>,
}

fn local_history(
    connection: &Connection,
    user: &UserId,
    mut query: HistoryQuery,
) -> rusqlite::Result<LocalHistory> {
    let filter = Filter::new(user, &query);
    let is_bare = filter.is_bare;
    let filter = filter.but_released();
    let known = "SELECT call_id FROM call_participants WHERE user_id = ?1";
    let known: Vec<Uuid> = connection
        .prepare_cached(&format!("{known} AND call_id NOT IN ({RELEASED})"))?
        .query_map([user.as_str()], |row| rows::uuid(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    // The counter counts what is another node's too; here the calls themselves are at hand.
    let total = if is_bare {
        u64::try_from(known.len()).unwrap_or(u64::MAX)
    } else {
        filter.total(connection, user)?
    };
    let reach = query.offset.saturating_add(u64::from(query.limit.clamp(1, HISTORY_LIMIT_MAX)));
    query.offset = 0;
    // The filter adds one more, by which the caller sees that there are more.
    let limit = usize::try_from(reach.min(total)).unwrap_or(usize::MAX);
    let mut records = filter.calls(connection, &query, limit)?;
    let mut calls = Vec::with_capacity(records.len());
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(usize::from(HISTORY_LIMIT_MAX)));
        calls.append(&mut with_participants(connection, records)?);
        records = rest;
    }
    Ok(LocalHistory { known, total, calls })
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
    let next = calls.last().map(Cursor::after).filter(|_| more);
    Ok(HistoryPage { calls: with_participants(connection, calls)?, total, next, stale: false })
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

    /// Leaves out what is another node's now.
    fn but_released(mut self) -> Self {
        self.conditions.push_str(" AND p.call_id NOT IN (");
        self.conditions.push_str(RELEASED);
        self.conditions.push(')');
        self.is_bare = false;
        self
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
) -> rusqlite::Result<Vec<CallFacts>> {
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
        CallFacts { call, participants }
    };
    Ok(calls.into_iter().map(stored).collect())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::*;
    use crate::call::state::Role;
    use crate::store::{Change, fixture};

    const USERS: [&str; 3] = ["alice", "bob", "carol"];
    const CHATS: [&str; 2] = ["chat-1", "chat-2"];
    const STATES: [State; 3] = [State::Ringing, State::Ended, State::Missed];

    fn chat(name: &str) -> ChatId {
        ChatId::parse(name).unwrap()
    }

    /// One call as the model has it: its number comes from its place.
    #[derive(Debug, Clone)]
    struct Made {
        users: Vec<&'static str>,
        created_at: i64,
        chat: Option<&'static str>,
        video: bool,
        state: State,
    }

    fn made() -> impl Strategy<Value = Made> {
        let users = proptest::sample::subsequence(USERS.to_vec(), 1..=3);
        let chat = option::of(select(&CHATS[..]));
        // Few moments, so that many calls share one.
        (users, 0..20_i64, chat, any::<bool>(), select(&STATES[..])).prop_map(
            |(users, created_at, chat, video, state)| Made {
                users,
                created_at,
                chat,
                video,
                state,
            },
        )
    }

    fn query() -> impl Strategy<Value = HistoryQuery> {
        let time = || option::weighted(0.3, (0..22_i64).prop_map(Timestamp));
        let conditions = (
            option::weighted(0.3, select(&CHATS[..]).prop_map(chat)),
            option::weighted(0.3, select(CallType::ALL)),
            option::weighted(0.3, select(&STATES[..])),
        );
        (1..8_u16, 0..4_u64, conditions, time(), time()).prop_map(
            |(limit, offset, (chat, call_type, state), start, end)| HistoryQuery {
                limit,
                offset,
                chat,
                call_type,
                state,
                start,
                end,
                cursor: None,
            },
        )
    }

    fn change(number: u64, made: &Made) -> Change {
        let mut change = fixture::change(number, 1);
        change.call.created_at = Timestamp(made.created_at);
        change.call.chat = made.chat.map(chat);
        change.call.call_type = if made.video { CallType::Video } else { CallType::Audio };
        change.call.state = made.state;
        change.call.initiator = fixture::user(made.users[0]);
        let role = |index| if index == 0 { Role::Initiator } else { Role::Participant };
        let people = made.users.iter().enumerate();
        change.participants =
            people.map(|(index, name)| fixture::participant(number, name, role(index))).collect();
        change
    }

    /// What the query means, said as simply as possible: numbers of calls, newest first.
    fn expected(calls: &[Made], user: &str, query: &HistoryQuery) -> Vec<u64> {
        let mut found: Vec<(i64, u64)> = (0..)
            .zip(calls)
            .filter(|(_, it)| {
                it.users.contains(&user)
                    && query.chat.as_ref().is_none_or(|chat| it.chat == Some(chat.as_str()))
                    && query.call_type.is_none_or(|wanted| (wanted == CallType::Video) == it.video)
                    && query.state.is_none_or(|state| it.state == state)
                    && query.start.is_none_or(|start| it.created_at >= start.0)
                    && query.end.is_none_or(|end| it.created_at < end.0)
            })
            .map(|(number, it)| (it.created_at, number))
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, number)| number).collect()
    }

    fn numbers(page: &HistoryPage) -> Vec<u64> {
        page.calls.iter().map(|it| it.call.id.0.as_u64_pair().0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn pages_are_those_of_a_naive_model(calls in vec(made(), 0..40), queries in vec(query(), 12)) {
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let changes = (0..).zip(&calls).map(|(number, it)| change(number, it)).collect();
            runtime.block_on(async {
                let (store, _journal) = fixture::stored(folder.path(), changes).await;
                for (query, name) in queries.into_iter().zip(USERS.iter().cycle()) {
                    let all = expected(&calls, name, &query);
                    let user = fixture::user(name);
                    let offset = usize::try_from(query.offset).unwrap();
                    let limit = usize::from(query.limit);
                    // The first page by offset, all that follow by cursor.
                    let mut rest = all.get(offset..).unwrap_or_default();
                    let mut next = query.clone();
                    loop {
                        let page = store.history(&user, next.clone()).await.unwrap();
                        let (now, later) = rest.split_at(limit.min(rest.len()));
                        prop_assert_eq!(numbers(&page), now);
                        prop_assert_eq!(page.total, u64::try_from(all.len()).unwrap());
                        prop_assert_eq!(page.next.is_some(), !later.is_empty());
                        for (stored, number) in page.calls.iter().zip(now) {
                            let made = &calls[usize::try_from(*number).unwrap()];
                            let users: Vec<_> = stored.participants.iter().map(|it| it.user.as_str()).collect();
                            prop_assert_eq!(&users, &made.users);
                            prop_assert_eq!(stored.participants[0].role, Role::Initiator);
                        }
                        let Some(cursor) = page.next else { break };
                        rest = later;
                        let cursor = Cursor::decode(&cursor.encode()).unwrap();
                        next = HistoryQuery { cursor: Some(cursor), offset: 0, ..query.clone() };
                    }
                }
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn limits_are_brought_into_their_range() {
        let folder = tempfile::tempdir().unwrap();
        let changes = (0..130).map(|it| fixture::change(it, 1)).collect();
        let (store, _journal) = fixture::stored(folder.path(), changes).await;
        for (limit, length) in [(0, 1), (1, 1), (100, 100), (101, 100), (u16::MAX, 100)] {
            let query = HistoryQuery { limit, ..HistoryQuery::default() };
            let page = store.history(&fixture::user("bob"), query).await.unwrap();
            assert_eq!((page.calls.len(), page.total), (length, 130), "{limit}");
        }
        let far = HistoryQuery { limit: 10, offset: u64::MAX, ..HistoryQuery::default() };
        let page = store.history(&fixture::user("bob"), far).await.unwrap();
        assert_eq!((page.calls.len(), page.total, page.next), (0, 130, None));
        let page = store.history(&fixture::user("nobody"), HistoryQuery::default()).await.unwrap();
        assert_eq!((page.calls.len(), page.total), (0, 0));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let fine = Cursor { created_at: Timestamp(-1), call: fixture::call(5) };
        assert_eq!(Cursor::decode(&fine.encode()), Ok(fine));
        let long = "A".repeat(10_000);
        let short = &fine.encode()[1..];
        for text in ["", "AAAA", short, "!".repeat(32).as_str(), "ä", &long] {
            assert_eq!(Cursor::decode(text), Err(InvalidCursor), "{text}");
        }
    }

    #[tokio::test]
    async fn one_call_and_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut change = fixture::change(1, 3);
        change.idempotency_key = Some((fixture::user("alice"), "key 1".into()));
        let (store, _journal) = fixture::stored(folder.path(), vec![change]).await;
        let stored = store.call(fixture::call(1)).await.unwrap().unwrap();
        assert_eq!((stored.call.seq, stored.participants.len()), (3, 2));
        assert_eq!(store.call(fixture::call(2)).await.unwrap(), None);
        for (name, key, since, found) in [
            ("alice", "key 1", 1_000, true),
            ("alice", "key 1", 1_001, false),
            ("alice", "key 2", 0, false),
            ("bob", "key 1", 0, false),
        ] {
            let since = Timestamp(since);
            let call = store.idempotent_start(&fixture::user(name), key, since).await.unwrap();
            assert_eq!(call, found.then_some(fixture::call(1)), "{name} {key}");
        }
    }

    #[tokio::test]
    async fn a_page_never_scans_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        let full = HistoryQuery {
            chat: Some(chat("chat-1")),
            state: Some(State::Ended),
            start: Some(Timestamp(0)),
            cursor: Some(Cursor { created_at: Timestamp(5), call: fixture::call(1) }),
            ..HistoryQuery::default()
        };
        let queries = [HistoryQuery::default(), full];
        for (query, both) in queries.iter().flat_map(|it| [(it.clone(), false), (it.clone(), true)])
        {
            let plan = store.read("explaining", move |connection| {
                let filter = Filter::new(&fixture::user("alice"), &query);
                let filter = if both { filter.but_released() } else { filter };
                let sql = format!(
                    "EXPLAIN QUERY PLAN SELECT p.call_id FROM {} WHERE {}
                     AND (p.call_created_at, p.call_id) < (9, 'x')
                     ORDER BY p.call_created_at DESC, p.call_id DESC",
                    filter.tables(),
                    filter.conditions
                );
                let mut statement = connection.prepare(&sql)?;
                let lines =
                    statement.query_map(&*borrowed(&filter.values), |it| it.get::<_, String>(3))?;
                lines.collect::<Result<Vec<_>, _>>()
            });
            let plan = plan.await.unwrap();
            let short = |it: &String| it.starts_with("SEARCH") || it.starts_with("USING INDEX");
            assert!(plan.iter().all(short), "{plan:?}");
        }
    }
}
