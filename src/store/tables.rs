//! The tables that are written behind: their columns here and in Postgres, and how a row goes over.

use std::cmp::Ordering;
use std::iter::once;

use uuid::Uuid;

use crate::store::cells::{Array, Cell, Kind};

/// Columns that a table's key may have.
const KEY_COLUMNS: usize = 4;

/// A column, of the same name on both sides.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A table that is written behind.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its number in the outbox, for ever.
    pub(super) kind: i64,
    pub(super) columns: &'static [Column],
    /// The columns that stand in the outbox as call, part and at; an absent one is NULL there.
    key: [&'static str; 3],
    /// Columns that Postgres alone has, and what they copy from the row's call `c`.
    copied: &'static [(&'static str, &'static str)],
    /// What becomes of a row that Postgres has already.
    conflict: &'static str,
}

/// A row's name in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) call: String,
    pub(super) part: Option<String>,
    pub(super) at: Option<i64>,
}

/// A row on its way.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) table: &'static Table,
    pub(super) cells: Vec<Cell>,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// The guards are those of `write`: never back to an older change, never out of a terminal state.
/// What is over may still change otherwise, as by an erasure.
pub(super) const CALLS: Table = Table {
    name: "calls",
    kind: 1,
    columns: &[
        column("id", Kind::Uuid),
        column("room_id", Kind::Text),
        column("type", Kind::Text),
        column("state", Kind::Text),
        column("initiator_id", Kind::Text),
        column("chat_id", Kind::Text),
        column("is_group", Kind::Bool),
        column("max_participants", Kind::Integer),
        column("started_at", Kind::Integer),
        column("ended_at", Kind::Integer),
        column("duration", Kind::Integer),
        column("end_reason", Kind::Text),
        column("recording_enabled", Kind::Bool),
        column("recording_url", Kind::Text),
        column("created_at", Kind::Integer),
        column("updated_at", Kind::Integer),
        column("epoch", Kind::Integer),
        column("seq", Kind::Integer),
    ],
    key: ["id", "NULL", "NULL"],
    copied: &[],
    conflict: "(id) DO UPDATE SET state = excluded.state, initiator_id = excluded.initiator_id,
        is_group = excluded.is_group, max_participants = excluded.max_participants,
        started_at = excluded.started_at, ended_at = excluded.ended_at,
        duration = excluded.duration, end_reason = excluded.end_reason,
        recording_enabled = excluded.recording_enabled,
        recording_url = coalesce(excluded.recording_url, t.recording_url),
        updated_at = excluded.updated_at, epoch = excluded.epoch, seq = excluded.seq
        WHERE (t.epoch, t.seq, t.updated_at) <= (excluded.epoch, excluded.seq, excluded.updated_at)
        AND (t.state = excluded.state
            OR t.state NOT IN ('ended', 'failed', 'busy', 'declined', 'missed', 'cancelled'))",
};

pub(super) const PARTICIPANTS: Table = Table {
    name: "call_participants",
    kind: 2,
    columns: &[
        column("call_id", Kind::Uuid),
        column("id", Kind::Uuid),
        column("user_id", Kind::Text),
        column("role", Kind::Text),
        column("joined_at", Kind::Integer),
        column("left_at", Kind::Integer),
        column("duration", Kind::Integer),
        column("connection_state", Kind::Text),
        column("audio_enabled", Kind::Bool),
        column("video_enabled", Kind::Bool),
        column("screen_share_enabled", Kind::Bool),
        column("connection_quality", Kind::Text),
        column("call_created_at", Kind::Integer),
        column("created_at", Kind::Integer),
        column("updated_at", Kind::Integer),
        column("epoch", Kind::Integer),
        column("seq", Kind::Integer),
    ],
    key: ["call_id", "id", "NULL"],
    copied: &[
        ("call_type", "c.type"),
        ("call_state", "CASE WHEN c.ended_at IS NOT NULL THEN c.state END"),
        ("chat_id", "c.chat_id"),
    ],
    conflict:
        "(call_id, id) DO UPDATE SET user_id = excluded.user_id,
        joined_at = excluded.joined_at, left_at = excluded.left_at, duration = excluded.duration,
        connection_state = excluded.connection_state, audio_enabled = excluded.audio_enabled,
        video_enabled = excluded.video_enabled,
        screen_share_enabled = excluded.screen_share_enabled,
        connection_quality = excluded.connection_quality, updated_at = excluded.updated_at,
        epoch = excluded.epoch, seq = excluded.seq,
        call_type = coalesce(excluded.call_type, t.call_type),
        call_state = coalesce(excluded.call_state, t.call_state),
        chat_id = coalesce(excluded.chat_id, t.chat_id)
        WHERE (t.epoch, t.seq, t.updated_at) <= (excluded.epoch, excluded.seq, excluded.updated_at)",
};

const EVENTS: Table = Table {
    name: "call_events",
    kind: 3,
    columns: &[
        column("call_id", Kind::Uuid),
        column("seq", Kind::Integer),
        column("at", Kind::Integer),
        column("name", Kind::Text),
        column("recipients", Kind::Text),
        column("data", Kind::Text),
    ],
    key: ["call_id", "NULL", "seq"],
    copied: &[],
    conflict: "DO NOTHING",
};

const SAMPLES: Table = Table {
    name: "call_quality_metrics",
    kind: 4,
    columns: &[
        column("call_id", Kind::Uuid),
        column("participant_id", Kind::Uuid),
        column("timestamp", Kind::Integer),
        column("id", Kind::Uuid),
        column("jitter", Kind::Real),
        column("packet_loss", Kind::Real),
        column("round_trip_time", Kind::Real),
        column("bandwidth", Kind::Real),
        column("fps", Kind::Real),
        column("resolution", Kind::Text),
        column("codec", Kind::Text),
        column("quality", Kind::Text),
    ],
    key: ["call_id", "participant_id", "timestamp"],
    copied: &[],
    conflict: "DO NOTHING",
};

const KEYS: Table = Table {
    name: "idempotency_keys",
    kind: 5,
    columns: &[
        column("user_id", Kind::Text),
        column("key", Kind::Text),
        column("call_id", Kind::Uuid),
        column("created_at", Kind::Integer),
    ],
    key: ["call_id", "user_id", "NULL"],
    copied: &[],
    conflict: "(user_id, key) DO UPDATE SET call_id = excluded.call_id,
        created_at = excluded.created_at WHERE t.created_at <= excluded.created_at",
};

/// As in the local file: never back, and what is known stays known.
const RECORDINGS: Table = Table {
    name: "call_recordings",
    kind: 6,
    columns: &[
        column("id", Kind::Uuid),
        column("call_id", Kind::Uuid),
        column("started_at", Kind::Integer),
        column("ended_at", Kind::Integer),
        column("duration", Kind::Integer),
        column("file_size", Kind::Integer),
        column("s3_key", Kind::Text),
        column("url", Kind::Text),
        column("status", Kind::Text),
    ],
    key: ["call_id", "id", "NULL"],
    copied: &[],
    conflict: "(id) DO UPDATE SET ended_at = coalesce(excluded.ended_at, t.ended_at),
        duration = coalesce(excluded.duration, t.duration),
        file_size = coalesce(excluded.file_size, t.file_size),
        s3_key = coalesce(excluded.s3_key, t.s3_key), url = coalesce(excluded.url, t.url),
        status = excluded.status
        WHERE t.status = 'recording'
            OR (t.status = 'processing' AND excluded.status <> 'recording')",
};

/// All of them, in the order they are written.
pub(super) static TABLES: &[Table] = &[CALLS, PARTICIPANTS, EVENTS, SAMPLES, KEYS, RECORDINGS];

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|it| it.name).collect::<Vec<_>>().join(", ")
    }

    /// The values of a row's note, its columns prefixed by `row`.
    pub(super) fn note(&self, row: &str) -> String {
        let [call, part, at] = self.key.map(|it| match it {
            "NULL" => it.to_owned(),
            column => format!("{row}{column}"),
        });
        format!("{}, {call}, {part}, {at}", self.kind)
    }

    /// Finds the rows of a note (call, part, at) in the local file.
    pub(super) fn select(&self) -> String {
        let [call, part, at] = self.key;
        let names = self.names();
        format!(
            "SELECT {names} FROM {} WHERE {call} = ?1 AND {part} IS ?2 AND {at} IS ?3",
            self.name
        )
    }

    /// Puts rows into Postgres: an array for each column.
    pub(super) fn upsert(&self) -> String {
        let arrays: Vec<String> = (1..)
            .zip(self.columns)
            .map(|(number, it)| format!("${number}::{}", it.kind.array()))
            .collect();
        let own = self.names();
        let copies = self.copied.iter();
        let into: Vec<&str> = once(&*own).chain(copies.clone().map(|it| it.0)).collect();
        let values: Vec<&str> = once("r.*").chain(copies.map(|it| it.1)).collect();
        let call =
            if self.copied.is_empty() { "" } else { "LEFT JOIN calls c ON c.id = r.call_id" };
        format!(
            "INSERT INTO {} AS t ({}) SELECT {} FROM unnest({}) AS r ({own}) {call} ON CONFLICT {}",
            self.name,
            into.join(", "),
            values.join(", "),
            arrays.join(", "),
            self.conflict
        )
    }
}

/// The values of column `index`. Every cell was read as its column's kind, or is absent.
pub(super) fn array<'a>(rows: &'a [&Row], index: usize, kind: Kind) -> Array<'a> {
    let cells = rows.iter().map(move |it| it.cells.get(index).unwrap_or(&Cell::Null));
    match kind {
        Kind::Uuid => Box::new(cells.map(Cell::as_uuid).collect::<Vec<_>>()),
        Kind::Text => Box::new(cells.map(Cell::as_text).collect::<Vec<_>>()),
        Kind::Integer => Box::new(cells.map(Cell::as_integer).collect::<Vec<_>>()),
        Kind::Real => Box::new(cells.map(Cell::as_real).collect::<Vec<_>>()),
        Kind::Bool => Box::new(cells.map(Cell::as_bool).collect::<Vec<_>>()),
    }
}

impl Row {
    /// About how much of a transaction it takes.
    pub(super) fn bytes(&self) -> usize {
        let text = |cell: &Cell| cell.as_text().map_or(16, str::len);
        self.cells.iter().map(text).sum()
    }

    /// The value of a column by name.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.cell(name)?.as_integer()
    }

    /// The call that it is the row of.
    pub(super) fn call(&self) -> Option<Uuid> {
        (self.table.kind == CALLS.kind).then(|| self.cell("id")?.as_uuid()).flatten()
    }

    fn cell(&self, name: &str) -> Option<&Cell> {
        let index = self.table.columns.iter().position(|it| it.name == name)?;
        self.cells.get(index)
    }

    /// The call whose row may have to be told of a file: of a recording that is there, or one that is over and was
    /// recorded, and does not know where the file is.
    pub(super) fn recorded_call(&self) -> Option<Uuid> {
        if self.table.kind == RECORDINGS.kind {
            self.cell("url")?.as_text()?;
            return self.cell("call_id")?.as_uuid();
        }
        let recorded =
            self.table.kind == CALLS.kind && self.cell("recording_enabled")?.as_bool()?;
        let told = self.cell("recording_url").is_some_and(|it| it.as_text().is_some());
        (recorded && !told && self.integer("ended_at").is_some()).then_some(())?;
        self.cell("id")?.as_uuid()
    }

    /// Itself as a JSON object.
    pub(super) fn json(&self) -> String {
        let names = self.table.columns.iter().map(|it| it.name.to_owned());
        let object = names.zip(self.cells.iter().map(Cell::json)).collect();
        serde_json::Value::Object(object).to_string()
    }

    /// The order that rows are written in: by table and key, which is in the first columns. Two
    /// writers that lock rows in the same order never wait for each other in a circle.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let keys = || {
            let (ours, others) = (self.cells.get(..KEY_COLUMNS), other.cells.get(..KEY_COLUMNS));
            ours.partial_cmp(&others).unwrap_or(Ordering::Equal)
        };
        self.table.kind.cmp(&other.table.kind).then_with(keys)
    }
}
