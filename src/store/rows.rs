//! Values to columns and back.

use std::error::Error;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Row, ToSql};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::record::{CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::{
    CallType, ConnectionState, EndReason, Quality, RecordingStatus, Role, State,
};
use crate::call::time::Timestamp;

/// A cell that should hold one of a few words, and does not.
#[derive(Debug, thiserror::Error)]
#[error("not a known word")]
struct UnknownWord;

/// An id as the tables have it: hyphenated, in lower case, so that text sorts as the ids do.
pub(super) struct IdText([u8; Hyphenated::LENGTH]);

impl From<Uuid> for IdText {
    fn from(id: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }
}

impl From<CallId> for IdText {
    fn from(id: CallId) -> Self {
        Self::from(id.0)
    }
}

impl ToSql for IdText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// Columns of `calls`, in the order that [`call`] reads them.
pub(super) const CALL: &str = "c.id, c.type, c.state, c.initiator_id, c.chat_id, c.is_group, \
     c.max_participants, c.created_at, c.updated_at, c.started_at, c.ended_at, c.duration, \
     c.end_reason, c.epoch, c.seq, c.recording_enabled, c.recording_url";

/// Columns of `call_participants`, in the order that [`participant`] reads them.
pub(super) const PARTICIPANT: &str = "p.id, p.call_id, p.user_id, p.role, p.connection_state, \
     p.joined_at, p.left_at, p.duration, p.audio_enabled, p.video_enabled, \
     p.screen_share_enabled, p.connection_quality";

/// Reads a call from the columns of [`CALL`].
pub(super) fn call(row: &Row<'_>) -> rusqlite::Result<CallRecord> {
    Ok(CallRecord {
        id: call_id(row, 0)?,
        call_type: word(row, 1, CallType::parse)?,
        state: word(row, 2, State::parse)?,
        initiator: user(row, 3)?,
        chat: chat(row, 4)?,
        is_group: row.get(5)?,
        max_participants: row.get(6)?,
        created_at: Timestamp(row.get(7)?),
        updated_at: Timestamp(row.get(8)?),
        started_at: time(row, 9)?,
        ended_at: time(row, 10)?,
        duration: optional_natural(row, 11)?,
        end_reason: optional_word(row, 12, EndReason::parse)?,
        epoch: natural(row, 13)?,
        seq: natural(row, 14)?,
        recorded: row.get(15)?,
        recording_url: text(row, 16)?,
    })
}

/// Reads a participant from the columns of [`PARTICIPANT`].
pub(super) fn participant(row: &Row<'_>) -> rusqlite::Result<ParticipantRecord> {
    Ok(ParticipantRecord {
        id: uuid(row, 0)?,
        call: call_id(row, 1)?,
        user: user(row, 2)?,
        role: word(row, 3, Role::parse)?,
        connection: word(row, 4, ConnectionState::parse)?,
        joined_at: time(row, 5)?,
        left_at: time(row, 6)?,
        duration: optional_natural(row, 7)?,
        audio: row.get(8)?,
        video: row.get(9)?,
        screen_share: row.get(10)?,
        quality: optional_word(row, 11, Quality::parse)?,
    })
}

/// Columns of `call_recordings`, in the order that [`recording`] reads them.
pub(super) const RECORDING: &str =
    "r.id, r.call_id, r.started_at, r.ended_at, r.duration, r.file_size, r.s3_key, r.url, r.status";

/// Reads a recording from the columns of [`RECORDING`].
pub(super) fn recording(row: &Row<'_>) -> rusqlite::Result<RecordingRecord> {
    Ok(RecordingRecord {
        id: uuid(row, 0)?,
        call: call_id(row, 1)?,
        started_at: Timestamp(row.get(2)?),
        ended_at: time(row, 3)?,
        duration: optional_natural(row, 4)?,
        file_size: optional_natural(row, 5)?,
        key: text(row, 6)?,
        url: text(row, 7)?,
        status: word(row, 8, RecordingStatus::parse)?,
    })
}

/// A call's id.
pub(super) fn call_id(row: &Row<'_>, index: usize) -> rusqlite::Result<CallId> {
    uuid(row, index).map(CallId)
}

/// A UUID in its text form.
pub(super) fn uuid(row: &Row<'_>, index: usize) -> rusqlite::Result<Uuid> {
    let text = row.get_ref(index)?.as_str()?;
    Uuid::try_parse(text).map_err(|cause| unreadable(index, cause))
}

/// A user's id.
pub(super) fn user(row: &Row<'_>, index: usize) -> rusqlite::Result<UserId> {
    let text = row.get_ref(index)?.as_str()?;
    UserId::parse(text).map_err(|cause| unreadable(index, cause))
}

/// One of the words of `call::state`.
pub(super) fn word<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    parse(row.get_ref(index)?.as_str()?).ok_or_else(|| unreadable(index, UnknownWord))
}

/// A whole number that is not negative.
pub(super) fn natural(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    u64::try_from(number).ok().ok_or(rusqlite::Error::IntegralValueOutOfRange(index, number))
}

/// A number for a column of integers. SQLite's end at `i64::MAX`; one beyond it makes its record
/// unstorable, and is never cut off.
pub(super) fn integer(number: u64) -> rusqlite::Result<i64> {
    i64::try_from(number).map_err(|cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause)))
}

/// [`integer`] for what may be absent.
pub(super) fn optional_integer(number: Option<u64>) -> rusqlite::Result<Option<i64>> {
    number.map(integer).transpose()
}

fn chat(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<ChatId>> {
    let text = row.get_ref(index)?.as_str_or_null()?;
    text.map(|it| ChatId::parse(it).map_err(|cause| unreadable(index, cause))).transpose()
}

fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp))
}

fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(index)?.as_str_or_null()?.map(Arc::from))
}

fn optional_natural(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    match row.get::<_, Option<i64>>(index)? {
        Some(_) => natural(row, index).map(Some),
        None => Ok(None),
    }
}

fn optional_word<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(index)?.as_str_or_null()?;
    text.map(|it| parse(it).ok_or_else(|| unreadable(index, UnknownWord))).transpose()
}

fn unreadable(index: usize, cause: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(cause))
}
