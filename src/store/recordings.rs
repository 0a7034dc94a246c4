//! Recordings: what is known of each, from its begin to its file.

use rusqlite::{Connection, named_params};

use crate::call::id::CallId;
use crate::call::record::RecordingRecord;
use crate::call::state::RecordingStatus;
use crate::call::time::Timestamp;
use crate::store::error::StoreError;
use crate::store::rows::{self, IdText, optional_integer};
use crate::store::sqlite::Sqlite;

/// A recording goes from `recording` over `processing` to its end, and never back; what is known of it
/// stays known.
const RECORDING: &str = "
    INSERT INTO call_recordings (id, call_id, started_at, ended_at, duration, file_size, s3_key, url,
        status)
    VALUES (:id, :call, :started, :ended, :duration, :size, :key, :url, :status)
    ON CONFLICT (id) DO UPDATE SET ended_at = coalesce(excluded.ended_at, ended_at),
        duration = coalesce(excluded.duration, duration),
        file_size = coalesce(excluded.file_size, file_size),
        s3_key = coalesce(excluded.s3_key, s3_key), url = coalesce(excluded.url, url),
        status = excluded.status
    WHERE status = 'recording' OR (status = 'processing' AND excluded.status <> 'recording')";

const URL: &str = "UPDATE calls SET recording_url = ?2 WHERE id = ?1";

/// Puts `it` into the tables, and where it can be had into its call's row.
pub(super) fn write(connection: &Connection, it: &RecordingRecord) -> rusqlite::Result<()> {
    let written = connection.prepare_cached(RECORDING)?.execute(named_params! {
        ":id": IdText::from(it.id),
        ":call": IdText::from(it.call),
        ":started": it.started_at.0,
        ":ended": it.ended_at.map(|it| it.0),
        ":duration": optional_integer(it.duration)?,
        ":size": optional_integer(it.file_size)?,
        ":key": it.key,
        ":url": it.url,
        ":status": it.status.as_str(),
    })?;
    if written > 0
        && it.status == RecordingStatus::Completed
        && let Some(url) = &it.url
    {
        connection.prepare_cached(URL)?.execute((IdText::from(it.call), url))?;
    }
    Ok(())
}

impl Sqlite {
    /// The recordings of a call, the oldest first.
    pub async fn recordings(&self, call: CallId) -> Result<Vec<RecordingRecord>, StoreError> {
        let sql = format!(
            "SELECT {} FROM call_recordings r WHERE r.call_id = ?1 ORDER BY r.started_at, r.id",
            rows::RECORDING
        );
        self.read("reading the recordings of a call", move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map([IdText::from(call)], rows::recording)?.collect()
        })
        .await
    }

    /// Recordings that ended at `until` or before and whose file nobody has told of; of more than `limit`
    /// any, so that none has to wait for others that are never told of.
    pub async fn unfinished_recordings(
        &self,
        until: Timestamp,
        limit: u16,
    ) -> Result<Vec<RecordingRecord>, StoreError> {
        let sql = format!(
            "SELECT {} FROM call_recordings r
             WHERE r.status IN ('recording', 'processing') AND r.ended_at <= ?1
             ORDER BY random() LIMIT ?2",
            rows::RECORDING
        );
        self.read("reading unfinished recordings", move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map((until.0, limit), rows::recording)?.collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::store::{Record, fixture};

    fn recording(status: RecordingStatus) -> RecordingRecord {
        RecordingRecord {
            id: Uuid::from_u128(5),
            call: fixture::call(1),
            started_at: Timestamp(2_000),
            ended_at: None,
            duration: None,
            file_size: None,
            key: Some(Arc::from("a.mp4")),
            url: None,
            status,
        }
    }

    #[tokio::test]
    async fn a_recording_never_goes_back_and_forgets_nothing() {
        use RecordingStatus::{Completed, Failed, Processing, Recording};
        for (first, then, kept) in [
            (Recording, Processing, Processing),
            (Recording, Completed, Completed),
            (Processing, Recording, Processing),
            (Processing, Failed, Failed),
            (Completed, Processing, Completed),
            (Completed, Failed, Completed),
            (Failed, Completed, Failed),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (store, journal) =
                fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
            let known = RecordingRecord {
                duration: Some(7),
                url: Some(Arc::from("https://files.example/a.mp4")),
                ..recording(first)
            };
            let later = RecordingRecord { key: None, ..recording(then) };
            for it in [known.clone(), later] {
                let record = Record::Recording(Box::new(it));
                journal.reserve().unwrap().send(record, ()).await.unwrap();
            }
            let found = store.recordings(fixture::call(1)).await.unwrap();
            assert_eq!(found, [RecordingRecord { status: kept, ..known.clone() }]);
            let call = store.call(fixture::call(1)).await.unwrap().unwrap().call;
            let url = (first == Completed).then_some(known.url).flatten();
            assert_eq!(call.recording_url, url, "{first:?} {then:?}");
        }
    }

    #[tokio::test]
    async fn unfinished_ones_are_found_by_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        let mut it = recording(RecordingStatus::Processing);
        it.ended_at = Some(Timestamp(9_000));
        let record = Record::Recording(Box::new(it.clone()));
        journal.reserve().unwrap().send(record, ()).await.unwrap();
        assert_eq!(store.unfinished_recordings(Timestamp(8_999), 9).await.unwrap(), []);
        assert_eq!(store.unfinished_recordings(Timestamp(9_000), 9).await.unwrap(), [it]);
    }
}
