//! Reads: a connection for one, bounded in time, and what the columns mean.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::record::{CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::{
    CallType, ConnectionState, EndReason, Quality, RecordingStatus, Role, State,
};
use crate::call::time::Timestamp;
use crate::store::error::{Kind, StoreError};
use crate::store::postgres::connect::{Postgres, Server, kind_of};

/// A server that is well ends a statement itself once it has taken too long, and says so: it gets so
/// much time for that before it counts as hung.
const SERVER_FIRST: Duration = Duration::from_millis(250);

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum ReadError {
    /// Postgres says so.
    #[error("Postgres failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// A column holds what no version of ours would write.
    #[error("column {0} makes no sense")]
    Unreadable(usize),
}

impl Postgres {
    /// Does `read` at the replica where there is one and it is well, and where that fails, or there
    /// is none, at the primary; at once refused where that is away.
    pub(in crate::store) async fn read<T>(
        &self,
        during: &'static str,
        read: impl AsyncRead<T>,
    ) -> Result<T, StoreError> {
        let limit = self.shared.options.read_timeout;
        if let Some(replica) = self.shared.replica.as_ref().filter(|it| !it.is_away()) {
            match Box::pin(replica.read(during, &read, limit)).await {
                Err(error) => {
                    tracing::debug!(
                        error = error.in_full(),
                        "the replica failed: asking the primary"
                    );
                }
                answer => return answer,
            }
        }
        if self.shared.reader.is_away() {
            return Err(StoreError::new(during, Kind::Away));
        }
        Box::pin(self.shared.reader.read(during, &read, limit)).await
    }
}

impl Postgres {
    /// As [`Postgres::read`], for one who can do without: fails with [`Kind::Away`] once the time of
    /// one read is over, whatever was waited for. The read itself goes on, so that a server that
    /// hangs is found out, and the next does not wait for it.
    pub(in crate::store) async fn read_in_time<T: Send + 'static>(
        &self,
        during: &'static str,
        read: impl AsyncRead<T> + 'static,
    ) -> Result<T, StoreError> {
        let postgres = self.clone();
        let reading = tokio::spawn(async move { Box::pin(postgres.read(during, read)).await });
        let limit = self.shared.options.read_timeout;
        match timeout(limit, reading).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(cause)) => Err(StoreError::caused(during, Kind::Io, cause)),
            Err(cause) => Err(StoreError::caused(during, Kind::Away, cause)),
        }
    }
}

impl Server {
    async fn read<T>(
        &self,
        during: &'static str,
        read: &impl AsyncRead<T>,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let client = self.connection(during).await?;
        let error = match timeout(limit + SERVER_FIRST, Box::pin(read.on(&client))).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(cause) => {
                // A server that hangs does not even end its statements in time.
                self.note(Kind::Away);
                self.discard(client);
                return Err(StoreError::caused(during, Kind::Away, cause));
            }
        };
        let kind = match &error {
            ReadError::Postgres(cause) => kind_of(cause),
            ReadError::Unreadable(_) => Kind::Corrupt,
        };
        self.note(kind);
        Err(StoreError::caused(during, kind, error))
    }
}

/// Some queries on one connection.
pub(in crate::store) trait AsyncRead<T>: Send + Sync {
    /// Asks them.
    fn on(&self, client: &Object) -> impl Future<Output = Result<T, ReadError>> + Send;
}

/// Reads a call from the columns of [`CALL`](crate::store::rows::CALL).
pub(in crate::store) fn call(row: &Row) -> Result<CallRecord, ReadError> {
    let participants: i64 = row.try_get(6)?;
    Ok(CallRecord {
        id: CallId(row.try_get(0)?),
        call_type: word(row, 1, CallType::parse)?,
        state: word(row, 2, State::parse)?,
        initiator: user(row, 3)?,
        chat: optional(row, 4, |it: &str| ChatId::parse(it).ok())?,
        is_group: row.try_get(5)?,
        max_participants: u16::try_from(participants).ok().ok_or(ReadError::Unreadable(6))?,
        created_at: Timestamp(row.try_get(7)?),
        updated_at: Timestamp(row.try_get(8)?),
        started_at: optional(row, 9, |it| Some(Timestamp(it)))?,
        ended_at: optional(row, 10, |it| Some(Timestamp(it)))?,
        duration: optional(row, 11, |it: i64| u64::try_from(it).ok())?,
        end_reason: optional(row, 12, EndReason::parse)?,
        epoch: natural(row, 13)?,
        seq: natural(row, 14)?,
        recorded: row.try_get(15)?,
        recording_url: optional(row, 16, |it: &str| Some(it.into()))?,
    })
}

/// Reads a recording from the columns of [`RECORDING`](crate::store::rows::RECORDING).
pub(in crate::store) fn recording(row: &Row) -> Result<RecordingRecord, ReadError> {
    let number = |it: i64| u64::try_from(it).ok();
    Ok(RecordingRecord {
        id: row.try_get(0)?,
        call: CallId(row.try_get(1)?),
        started_at: Timestamp(row.try_get(2)?),
        ended_at: optional(row, 3, |it| Some(Timestamp(it)))?,
        duration: optional(row, 4, number)?,
        file_size: optional(row, 5, number)?,
        key: optional(row, 6, |it: &str| Some(it.into()))?,
        url: optional(row, 7, |it: &str| Some(it.into()))?,
        status: word(row, 8, RecordingStatus::parse)?,
    })
}

/// Reads a participant from the columns of [`PARTICIPANT`](crate::store::rows::PARTICIPANT).
pub(in crate::store) fn participant(row: &Row) -> Result<ParticipantRecord, ReadError> {
    Ok(ParticipantRecord {
        id: row.try_get::<_, Uuid>(0)?,
        call: CallId(row.try_get(1)?),
        user: user(row, 2)?,
        role: word(row, 3, Role::parse)?,
        connection: word(row, 4, ConnectionState::parse)?,
        joined_at: optional(row, 5, |it| Some(Timestamp(it)))?,
        left_at: optional(row, 6, |it| Some(Timestamp(it)))?,
        duration: optional(row, 7, |it: i64| u64::try_from(it).ok())?,
        audio: row.try_get(8)?,
        video: row.try_get(9)?,
        screen_share: row.try_get(10)?,
        quality: optional(row, 11, Quality::parse)?,
    })
}

/// A user's id.
pub(in crate::store) fn user(row: &Row, index: usize) -> Result<UserId, ReadError> {
    word(row, index, |it| UserId::parse(it).ok())
}

/// One of a few words.
pub(in crate::store) fn word<T>(
    row: &Row,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, ReadError> {
    parse(row.try_get(index)?).ok_or(ReadError::Unreadable(index))
}

/// A whole number that is not negative.
pub(in crate::store) fn natural(row: &Row, index: usize) -> Result<u64, ReadError> {
    u64::try_from(row.try_get::<_, i64>(index)?).ok().ok_or(ReadError::Unreadable(index))
}

/// What may be absent.
pub(in crate::store) fn optional<'a, V: FromSql<'a>, T>(
    row: &'a Row,
    index: usize,
    parse: impl Fn(V) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    match row.try_get::<_, Option<V>>(index)? {
        None => Ok(None),
        Some(value) => parse(value).map(Some).ok_or(ReadError::Unreadable(index)),
    }
}
