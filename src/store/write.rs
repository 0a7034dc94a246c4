//! The statements that put one record into the tables.
//!
//! A row never goes back to an older `(epoch, seq)`, nor out of a terminal state. A change that
//! would is stale: it comes from an owner that has been deposed, and none of it is stored.

use std::fmt::Write as _;

use rusqlite::{Connection, ToSql, named_params, params, params_from_iter};

use crate::call::id::ChatId;
use crate::call::record::{CallRecord, ParticipantRecord};
use crate::call::state::{EndReason, Quality};
use crate::call::time::Timestamp;
use crate::store::rows::{IdText, integer, optional_integer};
use crate::store::{Change, Record, StoredSample, StoryEvent};
use crate::store::{recordings, released};

const CALL: &str = "
    INSERT INTO calls (id, room_id, type, state, initiator_id, chat_id, is_group, max_participants,
        started_at, ended_at, duration, end_reason, recording_enabled, recording_url, created_at,
        updated_at, epoch, seq)
    VALUES (?1, 'room_' || ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
        ?17)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, is_group = excluded.is_group,
        max_participants = excluded.max_participants, started_at = excluded.started_at,
        ended_at = excluded.ended_at, duration = excluded.duration,
        end_reason = excluded.end_reason, recording_enabled = excluded.recording_enabled,
        recording_url = coalesce(excluded.recording_url, calls.recording_url),
        updated_at = excluded.updated_at, epoch = excluded.epoch, seq = excluded.seq
    WHERE (excluded.epoch, excluded.seq) >= (calls.epoch, calls.seq)
        AND (calls.state = excluded.state
            OR calls.state NOT IN ('ended', 'failed', 'busy', 'declined', 'missed', 'cancelled'))";

/// One who is there already; what comes first is the key, and what both statements set.
const PARTICIPANT: &str = "
    UPDATE call_participants SET joined_at = ?3, left_at = ?4, duration = ?5,
        connection_state = ?6, audio_enabled = ?7, video_enabled = ?8, screen_share_enabled = ?9,
        connection_quality = ?10, updated_at = ?11, epoch = ?12, seq = ?13
    WHERE call_id = ?1 AND id = ?2 AND (epoch, seq) <= (?12, ?13)";

const NEW_PARTICIPANT: &str = "
    INSERT INTO call_participants (call_id, id, joined_at, left_at, duration, connection_state,
        audio_enabled, video_enabled, screen_share_enabled, connection_quality, created_at,
        updated_at, epoch, seq, user_id, role, call_created_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?15, ?16)
    ON CONFLICT (call_id, id) DO NOTHING";

/// Of one who is new. There is no trigger for it (`V5__counts.sql`).
const ONE_MORE: &str = "
    INSERT INTO call_counts (user_id, calls) VALUES (?1, 1)
    ON CONFLICT (user_id) DO UPDATE SET calls = calls + 1";

/// Whoever takes over a call writes all of its participants anew. Of those that only an earlier owner knew nobody was
/// told.
const STRAYS: &str = "DELETE FROM call_participants WHERE call_id = ?1 AND epoch < ?2";

const STORY: &str = "
    INSERT INTO call_events (call_id, seq, at, name, recipients, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (call_id, seq) DO NOTHING";

const LIVE: &str = "
    INSERT INTO live_calls (call_id, epoch, seq, snapshot) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (call_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq,
        snapshot = excluded.snapshot
    WHERE (excluded.epoch, excluded.seq) >= (live_calls.epoch, live_calls.seq)";

const OVER: &str = "DELETE FROM live_calls WHERE call_id = ?1";

/// A key that has run out may serve again: then the newer call takes it.
const KEY: &str = "
    INSERT INTO idempotency_keys (user_id, key, call_id, created_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (user_id, key) DO UPDATE SET call_id = excluded.call_id,
        created_at = excluded.created_at
    WHERE excluded.created_at >= idempotency_keys.created_at";

const SAMPLE: &str = "
    INSERT INTO call_quality_metrics (id, call_id, participant_id, timestamp, jitter, packet_loss,
        round_trip_time, bandwidth, fps, resolution, codec, quality)
    VALUES (:id, :call, :participant, :at, :jitter, :loss, :trip, :bandwidth, :fps, :resolution,
        :codec, :quality)
    ON CONFLICT DO NOTHING";

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is in the tables.
    Stored,
    /// The tables know better: nothing of it was stored.
    Stale,
}

/// Puts `record` into the tables, inside the caller's transaction.
pub(super) fn record(connection: &Connection, record: &Record) -> rusqlite::Result<Written> {
    match record {
        Record::Change(change) => self::change(connection, change),
        Record::Sample(sample) => self::sample(connection, sample).map(|()| Written::Stored),
        Record::Recording(it) => recordings::write(connection, it).map(|()| Written::Stored),
        Record::Released(call) => released::write(connection, *call).map(|()| Written::Stored),
    }
}

/// About how much of a transaction `record` takes, in bytes.
pub(super) fn size(record: &Record) -> usize {
    /// Of a record with nothing in it, and of each participant or event: rows and their indexes.
    const FIXED: usize = 256;
    match record {
        Record::Sample(_) | Record::Recording(_) | Record::Released(_) => FIXED,
        Record::Change(change) => {
            let rows = 1 + change.participants.len() + change.story.len();
            let story: usize = change.story.iter().map(|it| it.data.len()).sum();
            rows * FIXED + story + change.live.as_ref().map_or(0, String::len)
        }
    }
}

fn change(connection: &Connection, change: &Change) -> rusqlite::Result<Written> {
    if call(connection, &change.call)? == 0 {
        return Ok(Written::Stale);
    }
    released::take_back(connection, change.call.id)?;
    for participant in &change.participants {
        self::participant(connection, &change.call, participant)?;
    }
    if change.call.epoch > 1 {
        let (call, epoch) = (IdText::from(change.call.id), integer(change.call.epoch)?);
        connection.prepare_cached(STRAYS)?.execute(params![call, epoch])?;
    }
    let mut recipients = String::new();
    for event in &change.story {
        story(connection, event, &mut recipients)?;
    }
    live(connection, change)?;
    for recording in &change.recordings {
        recordings::write(connection, recording)?;
    }
    if let Some((user, key)) = &change.idempotency_key {
        let (call, at) = (IdText::from(change.call.id), change.call.created_at.0);
        connection.prepare_cached(KEY)?.execute(params![user.as_str(), key, call, at])?;
    }
    Ok(Written::Stored)
}

fn call(connection: &Connection, call: &CallRecord) -> rusqlite::Result<usize> {
    connection.prepare_cached(CALL)?.execute(params![
        IdText::from(call.id),
        call.call_type.as_str(),
        call.state.as_str(),
        call.initiator.as_str(),
        call.chat.as_ref().map(ChatId::as_str),
        call.is_group,
        call.max_participants,
        millis(call.started_at),
        millis(call.ended_at),
        optional_integer(call.duration)?,
        call.end_reason.map(EndReason::as_str),
        call.recorded,
        call.recording_url,
        call.created_at.0,
        call.updated_at.0,
        integer(call.epoch)?,
        integer(call.seq)?,
    ])
}

fn participant(
    connection: &Connection,
    call: &CallRecord,
    participant: &ParticipantRecord,
) -> rusqlite::Result<()> {
    let (of, id) = (IdText::from(participant.call), IdText::from(participant.id));
    let (joined, left) = (millis(participant.joined_at), millis(participant.left_at));
    let duration = optional_integer(participant.duration)?;
    let (state, quality) =
        (participant.connection.as_str(), participant.quality.map(Quality::as_str));
    let (epoch, seq) = (integer(call.epoch)?, integer(call.seq)?);
    let both: [&dyn ToSql; 13] = [
        &of,
        &id,
        &joined,
        &left,
        &duration,
        &state,
        &participant.audio,
        &participant.video,
        &participant.screen_share,
        &quality,
        &call.updated_at.0,
        &epoch,
        &seq,
    ];
    if connection.prepare_cached(PARTICIPANT)?.execute(both.as_slice())? > 0 {
        return Ok(());
    }
    let (user, role) = (participant.user.as_str(), participant.role.as_str());
    let once: [&dyn ToSql; 3] = [&user, &role, &call.created_at.0];
    let all = params_from_iter(both.into_iter().chain(once));
    if connection.prepare_cached(NEW_PARTICIPANT)?.execute(all)? > 0 {
        connection.prepare_cached(ONE_MORE)?.execute([user])?;
    }
    Ok(())
}

fn story(
    connection: &Connection,
    event: &StoryEvent,
    recipients: &mut String,
) -> rusqlite::Result<()> {
    recipients.clear();
    recipients.push('[');
    for (index, user) in event.to.iter().enumerate() {
        // A user id holds nothing that JSON would escape. Writing to a String cannot fail.
        let comma = if index == 0 { "" } else { "," };
        write!(recipients, "{comma}\"{user}\"").unwrap_or_default();
    }
    recipients.push(']');
    connection.prepare_cached(STORY)?.execute(params![
        IdText::from(event.call),
        integer(event.seq)?,
        event.at.0,
        event.name,
        &*recipients,
        &*event.data,
    ])?;
    Ok(())
}

fn live(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let id = IdText::from(change.call.id);
    match &change.live {
        Some(snapshot) => connection.prepare_cached(LIVE)?.execute(params![
            id,
            integer(change.call.epoch)?,
            integer(change.call.seq)?,
            snapshot,
        ])?,
        None => connection.prepare_cached(OVER)?.execute([id])?,
    };
    Ok(())
}

fn sample(connection: &Connection, stored: &StoredSample) -> rusqlite::Result<()> {
    let sample = &stored.sample;
    connection.prepare_cached(SAMPLE)?.execute(named_params! {
        ":id": IdText::from(stored.id),
        ":call": IdText::from(stored.call),
        ":participant": IdText::from(stored.participant),
        ":at": stored.at.0,
        ":jitter": sample.jitter,
        ":loss": sample.packet_loss,
        ":trip": sample.round_trip_time,
        ":bandwidth": sample.bandwidth,
        ":fps": sample.fps,
        ":resolution": sample.resolution,
        ":codec": sample.codec,
        ":quality": stored.quality.as_str(),
    })?;
    Ok(())
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(|it| it.0)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::call::state::{ConnectionState, State};
    use crate::store::fixture;
    use crate::store::sqlite::Sqlite;

    fn connection(folder: &tempfile::TempDir) -> Connection {
        Sqlite::open(folder.path()).unwrap().connect().unwrap()
    }

    fn stored(connection: &Connection) -> CallRecord {
        let sql = format!("SELECT {} FROM calls c", crate::store::rows::CALL);
        connection.query_row(&sql, [], crate::store::rows::call).unwrap()
    }

    #[test]
    fn never_back_and_never_out_of_a_terminal_state() {
        let live = State::Ringing;
        for (first, then, expected) in [
            ((live, 1, 5), (State::Connecting, 1, 6), Written::Stored),
            ((live, 1, 5), (State::Connecting, 1, 5), Written::Stored),
            ((live, 1, 5), (State::Connecting, 1, 4), Written::Stale),
            ((live, 2, 5), (State::Connecting, 1, 9), Written::Stale),
            ((live, 1, 5), (State::Connecting, 2, 1), Written::Stored),
            ((live, 1, 5), (State::Ended, 1, 6), Written::Stored),
            ((live, 1, 5), (State::Ended, 1, 4), Written::Stale),
            ((State::Ended, 1, 5), (State::Ringing, 1, 6), Written::Stale),
            ((State::Ended, 1, 5), (State::Missed, 2, 6), Written::Stale),
            ((State::Ended, 1, 5), (State::Ended, 1, 5), Written::Stored),
            ((State::Ended, 1, 5), (State::Ended, 1, 6), Written::Stored),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let connection = connection(&folder);
            let write = |(state, epoch, seq): (State, u64, u64)| {
                let mut change = fixture::change(1, seq);
                change.call.state = state;
                change.call.epoch = epoch;
                change.live = (!state.is_terminal()).then(|| format!("{epoch} {seq}"));
                change.participants[1].connection = if state == live {
                    ConnectionState::Ringing
                } else {
                    ConnectionState::Connected
                };
                record(&connection, &Record::Change(Box::new(change))).unwrap()
            };
            assert_eq!(write(first), Written::Stored);
            assert_eq!(write(then), expected, "{first:?} {then:?}");
            let kept = if expected == Written::Stored { then } else { first };
            let call = stored(&connection);
            assert_eq!((call.state, call.epoch, call.seq), kept, "{first:?} {then:?}");
            let count =
                |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
            let lives = i64::from(!kept.0.is_terminal());
            assert_eq!(count("SELECT count(*) FROM live_calls"), lives, "{first:?} {then:?}");
            // A stale change leaves no participant and no event behind either.
            let newest = count("SELECT max(seq) FROM call_participants");
            assert_eq!(newest, i64::try_from(kept.2).unwrap(), "{first:?} {then:?}");
            let told = count("SELECT count(DISTINCT seq) FROM call_events");
            let both = expected == Written::Stored && first.2 != then.2;
            assert_eq!(told, if both { 2 } else { 1 }, "{first:?} {then:?}");
        }
    }

    #[test]
    fn of_an_earlier_ownership_nobody_stays_whom_the_next_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connection(&folder);
        let users = || -> String {
            let sql = "SELECT group_concat(user_id) FROM
                (SELECT user_id FROM call_participants ORDER BY user_id)";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let write = |epoch, seq, participants: std::ops::Range<usize>| {
            let mut change = fixture::change(1, seq);
            change.call.epoch = epoch;
            change.participants = change.participants[participants].to_vec();
            record(&connection, &Record::Change(Box::new(change))).unwrap();
        };
        write(1, 1, 0..2);
        let both = users();
        write(1, 2, 0..1);
        assert_eq!(users(), both, "one who has not changed");
        write(7, 3, 0..1);
        let one = users();
        assert!(one.len() < both.len(), "{one}");
        write(7, 4, 0..0);
        write(1, 9, 0..2);
        assert_eq!(users(), one);
        // One whom another owner has asked in anew.
        let mut change = fixture::change(1, 5);
        change.call.epoch = 9;
        change.participants.truncate(1);
        change.participants[0].id = Uuid::from_u128(99);
        let written = record(&connection, &Record::Change(Box::new(change)));
        assert_eq!(written.unwrap(), Written::Stored);
        assert_eq!(users(), one);
        let count = "SELECT calls FROM call_counts";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let connection = connection(&folder);
        let mut change = fixture::ended(1, 9, 90_000, 30);
        change.call.chat = Some(ChatId::parse("chat-1").unwrap());
        change.call.is_group = true;
        change.participants[1].left_at = Some(Timestamp(80_000));
        change.participants[1].duration = Some(12);
        change.participants[1].quality = Some(fixture::BEST);
        let expected = (change.call.clone(), change.participants[1].clone());
        record(&connection, &Record::Change(Box::new(change))).unwrap();
        assert_eq!(stored(&connection), expected.0);
        let sql = format!(
            "SELECT {} FROM call_participants p WHERE user_id = 'bob'",
            crate::store::rows::PARTICIPANT
        );
        let bob = connection.query_row(&sql, [], crate::store::rows::participant).unwrap();
        assert_eq!(bob, expected.1);
    }

    #[test]
    fn a_size_follows_what_is_in_a_record() {
        let small = size(&Record::Change(Box::new(fixture::change(1, 1))));
        let mut change = fixture::change(1, 1);
        change.live = Some("x".repeat(10_000));
        let large = size(&Record::Change(Box::new(change)));
        assert!(small >= 256 && large > small + 9_000, "{small} {large}");
    }
}
