//! Which rows of the local file are not in Postgres yet.
//!
//! Triggers note every row that is written, in the transaction that writes it, so that the note is
//! as durable as the row. The notes leave from the front, once what they name has been committed
//! elsewhere. That the triggers are there is what says that the outbox is in use: switched off, it
//! goes, and switched on again it begins with every row there is.

use std::collections::HashSet;

use rusqlite::{Connection, Statement, params, params_from_iter};

use crate::call::time::Timestamp;
use crate::store::cells::Cell;
use crate::store::error::StoreError;
use crate::store::journal::Journal;
use crate::store::sqlite::Sqlite;
use crate::store::tables::{Key, PARTICIPANTS, Row, TABLES, Table};

/// Calls of either kind that one transaction removes: each has rows in five tables.
const TRIM_CALLS: i64 = 50;
/// Transactions of one [`Journal::trim`]; what is left waits for the next.
const TRIM_CHUNKS_MAX: usize = 200;
/// With more notes than this, nothing is removed: they would have to be looked through too often.
const TRIM_NOTES_MAX: u64 = 5_000;
/// Rows that may be set aside before somebody has to look: past it Postgres is at fault, not a row.
const DEAD_MAX: i64 = 10_000;

/// No number is ever given twice, even where the outbox was empty in between: to forget a batch again
/// must not take a note that came after it.
const OPEN: &str = "
    DROP TABLE IF EXISTS outbox;
    CREATE TABLE outbox (
        n       INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of writing
        kind    INTEGER NOT NULL,
        call_id TEXT    NOT NULL,
        part    TEXT,
        at      INTEGER
    );
    -- What Postgres refuses for its content, as it was.
    CREATE TABLE IF NOT EXISTS outbox_dead (
        n     INTEGER PRIMARY KEY,
        name  TEXT NOT NULL,
        row   TEXT NOT NULL, -- JSON object
        error TEXT NOT NULL
    );";

/// A row that is to be kept aside.
#[derive(Debug)]
pub(super) struct Dead {
    /// Its table's name.
    pub(super) table: &'static str,
    /// What it holds, or is called.
    pub(super) row: String,
    /// Why.
    pub(super) error: String,
}

/// What waits to be written behind.
pub(super) struct Batch {
    /// The number of the last note that the rows stand for.
    pub(super) upto: i64,
    /// The rows as they are now, each once.
    pub(super) rows: Vec<Row>,
    /// Rows that make no sense: what they are, and why.
    pub(super) unreadable: Vec<Dead>,
    /// There was nothing after it.
    pub(super) last: bool,
}

impl Sqlite {
    /// Begins to note what is written, with every row there is. Does nothing where it was on
    /// as this version has it.
    pub fn open_outbox(&self) -> Result<(), StoreError> {
        const DURING: &str = "opening the outbox";
        let connection = self.connect()?;
        if has_outbox(&connection).map_err(StoreError::sqlite(DURING))? {
            return Ok(());
        }
        let triggers: String = TABLES.iter().map(end_noting).collect();
        let tables: String = TABLES.iter().map(begin_noting).collect();
        let sql = format!("BEGIN IMMEDIATE; {triggers} {OPEN} {tables} COMMIT;");
        connection.execute_batch(&sql).map_err(StoreError::sqlite(DURING))
    }

    /// Notes nothing any more, and forgets what was noted. Does nothing where it was off.
    pub fn close_outbox(&self) -> Result<(), StoreError> {
        const DURING: &str = "closing the outbox";
        let connection = self.connect()?;
        let triggers: String = TABLES.iter().map(end_noting).collect();
        let sql = format!("BEGIN IMMEDIATE; {triggers} DROP TABLE IF EXISTS outbox; COMMIT;");
        connection.execute_batch(&sql).map_err(StoreError::sqlite(DURING))
    }
}

/// Triggers, and a note of each row there is.
fn begin_noting(table: &Table) -> String {
    let (name, row, new) = (table.name, table.note(""), table.note("NEW."));
    format!(
        "CREATE TRIGGER outbox_{name}_new AFTER INSERT ON {name} BEGIN
             INSERT INTO outbox (kind, call_id, part, at) VALUES ({new}); END;
         CREATE TRIGGER outbox_{name}_changed AFTER UPDATE ON {name} BEGIN
             INSERT INTO outbox (kind, call_id, part, at) VALUES ({new}); END;
         INSERT INTO outbox (kind, call_id, part, at) SELECT {row} FROM {name};"
    )
}

fn end_noting(table: &Table) -> String {
    let name = table.name;
    format!(
        "DROP TRIGGER IF EXISTS outbox_{name}_new; DROP TRIGGER IF EXISTS outbox_{name}_changed;"
    )
}

/// Whether it is there for every table, as this version makes it: one whose numbers start over once it is
/// empty is none, and neither is one that does not know a table yet.
fn has_outbox(connection: &Connection) -> rusqlite::Result<bool> {
    const TABLE: &str = "SELECT count(*) > 0 FROM sqlite_schema
        WHERE name = 'outbox' AND sql LIKE '%AUTOINCREMENT%'";
    const TRIGGERS: &str = "SELECT count(*) FROM sqlite_schema
        WHERE type = 'trigger' AND name LIKE 'outbox\\_%\\_new' ESCAPE '\\'";
    let is_current = connection.query_row(TABLE, [], |row| row.get(0))?;
    let tables: i64 = connection.query_row(TRIGGERS, [], |row| row.get(0))?;
    Ok(is_current && usize::try_from(tables) == Ok(TABLES.len()))
}

/// How many notes there are: they leave from the front, so there are no gaps.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<u64> {
    const SQL: &str = "SELECT coalesce((SELECT max(n) FROM outbox), 0)
        - coalesce((SELECT min(n) FROM outbox), 1) + 1";
    let count: i64 = connection.prepare_cached(SQL)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The first rows that wait: those of `rows_max` notes at most, and of `bytes_max` but for the last. The participants of
/// a change come with the row of its call, past these bounds too: whose they are is seen by both.
pub(super) fn take(
    connection: &mut Connection,
    rows_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Batch> {
    const SQL: &str = "SELECT n, kind, call_id, part, at FROM outbox ORDER BY n";
    let transaction = connection.transaction()?;
    let mut batch = Batch { upto: 0, rows: Vec::new(), unreadable: Vec::new(), last: false };
    let (mut bytes, mut notes, mut call) = (0, 0, String::new());
    let mut seen = HashSet::new();
    // Written out once, not for each note.
    let selects: Vec<(&'static Table, String)> =
        TABLES.iter().map(|it| (it, it.select())).collect();
    {
        let mut statement = transaction.prepare_cached(SQL)?;
        let mut waiting = statement.query([])?;
        loop {
            let Some(note) = waiting.next()? else {
                batch.last = true;
                break;
            };
            let kind: i64 = note.get(1)?;
            let key = Key { call: note.get(2)?, part: note.get(3)?, at: note.get(4)? };
            let is_full = notes >= rows_max || bytes >= bytes_max;
            if is_full && !(kind == PARTICIPANTS.kind && key.call == call) {
                break;
            }
            call.clone_from(&key.call);
            notes += 1;
            batch.upto = note.get(0)?;
            let Some((table, select)) = selects.iter().find(|(it, _)| it.kind == kind) else {
                continue;
            };
            if seen.insert((kind, key.clone())) {
                let from = batch.rows.len();
                let mut statement = transaction.prepare_cached(select)?;
                read(&mut statement, table, &key, &mut batch)?;
                bytes += batch.rows.iter().skip(from).map(Row::bytes).sum::<usize>();
            }
        }
    }
    transaction.commit()?;
    Ok(batch)
}

/// The rows that one note names, as they are now: none where they are gone.
fn read(
    statement: &mut Statement<'_>,
    table: &'static Table,
    key: &Key,
    batch: &mut Batch,
) -> rusqlite::Result<()> {
    let mut found = statement.query(params![key.call, key.part, key.at])?;
    while let Some(row) = found.next()? {
        let cells = table.columns.iter().enumerate();
        let cells = cells.map(|(index, column)| Cell::read(row, index, column.kind));
        match cells.collect::<rusqlite::Result<Vec<Cell>>>() {
            Ok(cells) => batch.rows.push(Row { table, cells }),
            Err(error) => batch.unreadable.push(Dead {
                table: table.name,
                row: format!("{key:?}"),
                error: error.to_string(),
            }),
        }
    }
    Ok(())
}

impl<A: Send + 'static> Journal<A> {
    /// Forgets the notes up to number `upto`: what they name is where it belongs, but for `dead`,
    /// which is kept aside.
    pub(super) async fn written_behind(
        &self,
        upto: i64,
        dead: Vec<Dead>,
    ) -> Result<(), StoreError> {
        self.run("trimming the outbox", move |connection| {
            for it in &dead {
                connection
                    .prepare_cached(
                        "INSERT INTO outbox_dead (name, row, error) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![it.table, it.row, it.error])?;
            }
            connection.prepare_cached("DELETE FROM outbox WHERE n <= ?1")?.execute([upto])
        })
        .await
        .map(|_| ())
    }

    /// Whether one more row may be set aside.
    pub(super) async fn may_set_aside(&self) -> Result<bool, StoreError> {
        self.run("counting what was set aside", |connection| {
            let count = "SELECT count(*) FROM outbox_dead";
            let dead: i64 = connection.query_row(count, [], |row| row.get(0))?;
            Ok(dead < DEAD_MAX)
        })
        .await
    }

    /// Removes calls that are wholly in Postgres, their recordings finished, and that ended at `until`
    /// or before, or are another node's now: how many.
    pub(super) async fn trim(&self, until: Timestamp) -> Result<usize, StoreError> {
        const DURING: &str = "trimming the local file";
        let calm = self.run(DURING, |it| Ok(pending(it)? <= TRIM_NOTES_MAX)).await?;
        if !calm {
            return Ok(0);
        }
        let mut removed = 0;
        for _ in 0..TRIM_CHUNKS_MAX {
            let work = move |it: &Connection| Ok(trim_released(it)? + trim_over(it, until)?);
            let done = self.run(DURING, work).await?;
            removed += done;
            if done == 0 {
                break;
            }
        }
        Ok(removed)
    }
}

fn trim_over(connection: &Connection, until: Timestamp) -> rusqlite::Result<usize> {
    const OLD: &str = "SELECT id FROM calls WHERE ended_at <= ?1
        AND id NOT IN (SELECT call_id FROM outbox)
        AND id NOT IN (SELECT call_id FROM call_recordings
            WHERE status IN ('recording', 'processing'))
        ORDER BY ended_at, id LIMIT ?2";
    remove(connection, OLD, &[until.0, TRIM_CALLS])
}

/// How many marks go, though some may be of calls that went before.
fn trim_released(connection: &Connection) -> rusqlite::Result<usize> {
    // A recording that has ended waits here for its file; one that goes on went with its call.
    const GONE: &str = "SELECT call_id FROM released_calls
        WHERE call_id NOT IN (SELECT call_id FROM outbox)
        AND call_id NOT IN (SELECT call_id FROM call_recordings
            WHERE status IN ('recording', 'processing') AND ended_at IS NOT NULL)
        ORDER BY call_id LIMIT ?1";
    remove(connection, GONE, &[TRIM_CALLS])?;
    let sql = format!("DELETE FROM released_calls WHERE call_id IN ({GONE})");
    connection.prepare_cached(&sql)?.execute([TRIM_CALLS])
}

/// Removes the calls that `which` finds, with all that belongs to them: how many.
fn remove(connection: &Connection, which: &str, values: &[i64]) -> rusqlite::Result<usize> {
    for table in ["call_events", "call_quality_metrics", "call_recordings", "call_participants"] {
        let sql = format!("DELETE FROM {table} WHERE call_id IN ({which})");
        connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    }
    let sql = format!("DELETE FROM calls WHERE id IN ({which})");
    connection.prepare_cached(&sql)?.execute(params_from_iter(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::state::RecordingStatus;
    use crate::store::history::HistoryQuery;
    use crate::store::{Record, fixture};

    /// Tables of the rows that wait, in the order they are written.
    fn waiting(store: &Sqlite, rows_max: usize, bytes_max: usize) -> (Vec<&'static str>, bool) {
        let mut connection = store.connect().unwrap();
        let batch = take(&mut connection, rows_max, bytes_max).unwrap();
        assert!(batch.unreadable.is_empty());
        (batch.rows.iter().map(|it| it.table.name).collect(), batch.last)
    }

    fn upto(store: &Sqlite) -> i64 {
        take(&mut store.connect().unwrap(), usize::MAX, usize::MAX).unwrap().upto
    }

    fn count(store: &Sqlite) -> u64 {
        pending(&store.connect().unwrap()).unwrap()
    }

    const OF_ONE_CALL: [&str; 4] =
        ["calls", "call_participants", "call_participants", "call_events"];

    #[tokio::test]
    async fn each_row_that_is_written_waits_once_and_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), Vec::new()).await;
        store.open_outbox().unwrap();
        assert_eq!((count(&store), waiting(&store, 9, 9_999)), (0, (Vec::new(), true)));
        fixture::send(&journal, fixture::change(1, 1)).await.unwrap();
        assert_eq!(waiting(&store, 9, 9_999), (OF_ONE_CALL.to_vec(), true));
        fixture::send(&journal, fixture::ended(1, 2, 60_000, 3)).await.unwrap();
        assert_eq!(count(&store), 8);
        let mut connection = store.connect().unwrap();
        let batch = take(&mut connection, 99, 99_999).unwrap();
        assert_eq!(batch.rows.len(), 5, "the second event alone is new");
        assert_eq!(batch.rows[0].integer("seq"), Some(2));
        let sample = Record::Sample(Box::new(fixture::sample(1, "alice", 5, 1.0)));
        journal.reserve().unwrap().send(sample, ()).await.unwrap();
        journal.written_behind(batch.upto, Vec::new()).await.unwrap();
        assert_eq!(waiting(&store, 9, 9_999), (vec!["call_quality_metrics"], true));
        assert_eq!(count(&store), 1);
    }

    #[tokio::test]
    async fn to_forget_a_batch_again_takes_nothing_that_came_after() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        store.open_outbox().unwrap();
        let upto = upto(&store);
        journal.written_behind(upto, Vec::new()).await.unwrap();
        assert_eq!(count(&store), 0);
        fixture::send(&journal, fixture::change(2, 1)).await.unwrap();
        // As where a writer was stopped while this was on its way, and the next took the same batch.
        journal.written_behind(upto, Vec::new()).await.unwrap();
        assert_eq!(waiting(&store, 9, 9_999), (OF_ONE_CALL.to_vec(), true));
    }

    #[tokio::test]
    async fn a_batch_is_bounded_by_rows_and_by_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let changes = (0..10).map(|it| fixture::change(it, 1)).collect();
        let (store, _journal) = fixture::stored(folder.path(), changes).await;
        store.open_outbox().unwrap();
        for (rows_max, bytes_max, rows, last) in [
            (7, usize::MAX, 7, false),
            (5, usize::MAX, 5, false),
            (40, 1, 1, false),
            (41, usize::MAX, 40, true),
        ] {
            let (found, is_last) = waiting(&store, rows_max, bytes_max);
            assert_eq!((found.len(), is_last), (rows, last), "{rows_max} {bytes_max}");
        }
    }

    #[tokio::test]
    async fn a_batch_parts_no_call_from_its_participants() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), Vec::new()).await;
        store.open_outbox().unwrap();
        for number in 1..=3 {
            fixture::send(&journal, fixture::change(number, 1)).await.unwrap();
        }
        for (rows_max, bytes_max, rows) in
            [(1, usize::MAX, 3), (3, usize::MAX, 3), (4, usize::MAX, 4), (40, 1, 3), (6, 9_999, 7)]
        {
            let (found, last) = waiting(&store, rows_max, bytes_max);
            assert_eq!((found.len(), last), (rows, false), "{rows_max} {bytes_max}");
        }
    }

    #[tokio::test]
    async fn switched_on_again_it_begins_with_all_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        for _ in 0..2 {
            store.open_outbox().unwrap();
            assert_eq!(count(&store), 4, "what was there before, and no more");
        }
        journal.written_behind(upto(&store), Vec::new()).await.unwrap();
        store.close_outbox().unwrap();
        store.close_outbox().unwrap();
        fixture::send(&journal, fixture::change(2, 1)).await.unwrap();
        store.open_outbox().unwrap();
        assert_eq!(count(&store), 8);
    }

    #[tokio::test]
    async fn only_what_is_over_and_written_behind_leaves_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let changes = vec![
            fixture::ended(1, 1, 60_000, 1),
            fixture::change(2, 1),
            fixture::ended(3, 1, 90_000, 1),
        ];
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        store.open_outbox().unwrap();
        assert_eq!(journal.trim(Timestamp(80_000)).await.unwrap(), 0, "not written behind");
        journal.written_behind(upto(&store), Vec::new()).await.unwrap();
        fixture::send(&journal, fixture::ended(4, 1, 60_000, 1)).await.unwrap();
        assert_eq!(journal.trim(Timestamp(80_000)).await.unwrap(), 1);
        let query = HistoryQuery { limit: 9, ..HistoryQuery::default() };
        let page = store.history(&fixture::user("bob"), query).await.unwrap();
        let left: Vec<_> = page.calls.iter().map(|it| it.call.id).collect();
        assert_eq!(left, [4, 3, 2].map(fixture::call));
        assert_eq!(page.total, 3);
    }

    #[tokio::test]
    async fn what_is_another_nodes_leaves_once_it_is_written_behind() {
        let folder = tempfile::tempdir().unwrap();
        let changes = (1..=4).map(|it| fixture::change(it, 1)).collect();
        let (store, journal) = fixture::stored(folder.path(), changes).await;
        store.open_outbox().unwrap();
        for (number, ended_at) in [(2, None), (3, Some(Timestamp(5_000)))] {
            let mut it = fixture::recording(number.into(), RecordingStatus::Recording);
            it.call = fixture::call(number);
            it.ended_at = ended_at;
            let record = Record::Recording(Box::new(it));
            journal.reserve().unwrap().send(record, ()).await.unwrap();
        }
        for number in 1..=3 {
            fixture::release(&journal, number).await.unwrap();
        }
        let before = Timestamp(0);
        assert_eq!(journal.trim(before).await.unwrap(), 0, "not written behind");
        journal.written_behind(upto(&store), Vec::new()).await.unwrap();
        // One comes back in time.
        fixture::send(&journal, fixture::change(1, 2)).await.unwrap();
        journal.written_behind(upto(&store), Vec::new()).await.unwrap();
        assert_eq!(journal.trim(before).await.unwrap(), 1, "one waits for its file");
        let of = |number| store.call(fixture::call(number));
        assert_eq!(of(2).await.unwrap(), None);
        for number in [1, 3, 4] {
            assert!(of(number).await.unwrap().is_some(), "{number}");
        }
        let page = store.history(&fixture::user("bob"), HistoryQuery::default()).await.unwrap();
        assert_eq!(page.total, 3);
        let left = "SELECT (SELECT count(*) FROM released_calls),
            (SELECT count(*) FROM call_events WHERE call_id NOT IN (SELECT id FROM calls))";
        let counts = |it: &rusqlite::Row<'_>| Ok((it.get(0)?, it.get(1)?));
        let left: (i64, i64) = store.connect().unwrap().query_row(left, [], counts).unwrap();
        assert_eq!(left, (1, 0));
    }

    #[tokio::test]
    async fn what_is_refused_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal) = fixture::stored(folder.path(), vec![fixture::change(1, 1)]).await;
        store.open_outbox().unwrap();
        let batch = take(&mut store.connect().unwrap(), 1, 9_999).unwrap();
        let row = batch.rows[0].json();
        assert!(row.contains("\"state\":\"ringing\""), "{row}");
        let dead = Dead { table: "calls", row: row.clone(), error: "why".to_owned() };
        journal.written_behind(batch.upto, vec![dead]).await.unwrap();
        assert!(journal.may_set_aside().await.unwrap());
        let kept: String = store
            .connect()
            .unwrap()
            .query_row("SELECT row FROM outbox_dead WHERE error = 'why'", [], |it| it.get(0))
            .unwrap();
        assert_eq!((kept, count(&store)), (row, 1), "those of the call went with it");
    }
}
