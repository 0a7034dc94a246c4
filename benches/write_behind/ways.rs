//! The same rows by three ways.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use call_service::store::journal::Journal;
use call_service::store::options::JournalOptions;
use call_service::store::postgres::PostgresOptions;
use call_service::store::postgres::behind::WriteBehind;
use call_service::store::postgres::connect::{Address, Postgres};
use call_service::store::sqlite::Sqlite;
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::Scale;
use crate::calls::{Stage, change};
use crate::server::{Server, own_processor_micros};

/// The tables that calls are written to.
const TABLES: [&str; 3] = ["calls", "call_participants", "call_events"];
/// How long writing all behind may take.
const DRAIN_MAX: Duration = Duration::from_mins(2);
/// What a copy is sent in.
const CHUNK_BYTES: usize = 64 * 1024;

/// What one way came to.
struct Cost {
    rows: u64,
    time: Duration,
    ours: f64,
    theirs: f64,
}

/// Takes the time and the processor's time of some work.
struct Watch<'a> {
    server: &'a Server,
    began: Instant,
    ours: f64,
    theirs: f64,
}

impl<'a> Watch<'a> {
    async fn start(server: &'a Server, client: &Client) -> Self {
        // Every way begins with nothing left to be written.
        client.batch_execute("CHECKPOINT").await.expect("a checkpoint");
        let (ours, theirs) = (own_processor_micros(), server.processor_micros());
        Self { server, began: Instant::now(), ours, theirs }
    }

    fn stop(self, rows: u64) -> Cost {
        Cost {
            rows,
            time: self.began.elapsed(),
            ours: own_processor_micros() - self.ours,
            theirs: self.server.processor_micros() - self.theirs,
        }
    }
}

/// All three: lines of a table.
pub(crate) async fn compare(server: &Server, scale: &Scale) -> String {
    let client = server.connect().await.expect("a connection");
    let behind = behind(server, &client, scale).await;
    let single = single(server, &client, scale).await;
    let copy = copy(server, &client).await;
    let mut table = format!(
        "{:<44} {:>9} {:>9} {:>12} {:>17}\n",
        "", "rows", "rows/s", "our us/row", "Postgres' us/row"
    );
    for (name, it) in [
        ("written behind, in batches, from the outbox", behind),
        ("INSERT of one row, a transaction each", single),
        ("COPY into an empty table", copy),
    ] {
        let rows = real(it.rows);
        let rate = rows / it.time.as_secs_f64();
        let line = (it.rows, it.ours / rows, it.theirs / rows);
        writeln!(table, "{name:<44} {:>9} {rate:>9.0} {:>12.1} {:>17.1}", line.0, line.1, line.2)
            .expect("text");
    }
    table
}

/// Leaves its rows to the other two.
async fn behind(server: &Server, client: &Client, scale: &Scale) -> Cost {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path()).expect("a store");
    store.open_outbox().expect("an outbox");
    let journal = Journal::open(&store, JournalOptions::default(), drop).expect("a journal");
    let mut last = None;
    for number in 0..scale.waiting {
        let permit = loop {
            match journal.reserve() {
                Ok(permit) => break permit,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        last = Some(permit.send(change(number, Stage::Whole), ()));
    }
    last.expect("some calls").await.expect("durable");
    let postgres = connect(server);
    postgres.migrate().await.expect("tables");
    let watch = Watch::start(server, client).await;
    let mut behind = WriteBehind::new(journal.clone(), store, postgres);
    assert!(behind.drain(DRAIN_MAX).await.expect("no failure"), "all gets there in time");
    let cost = watch.stop(scale.waiting * 7);
    journal.close();
    let mut rows = 0;
    for table in TABLES {
        rows += count(client, table).await;
    }
    assert_eq!(rows, cost.rows, "all is there");
    cost
}

pub(crate) fn connect(server: &Server) -> Postgres {
    let address = Address::parse(&server.url()).expect("an address");
    Postgres::new(&address, None, PostgresOptions::default(), true).expect("no certificates")
}

async fn count(client: &Client, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    let row = client.query_one(&sql, &[]).await.expect("a count");
    row.get::<_, i64>(0).unsigned_abs()
}

/// An empty table of the same shape, indexes and all.
async fn empty(client: &Client, table: &str, prefix: &str) -> String {
    let name = format!("{prefix}_{table}");
    let sql = format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)");
    client.batch_execute(&sql).await.expect("a table");
    name
}

/// Values go as texts: that costs little beside a transaction.
async fn single(server: &Server, client: &Client, scale: &Scale) -> Cost {
    const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum";
    let mut work = Vec::new();
    for table in TABLES {
        let columns = client.query(COLUMNS, &[&table]).await.expect("columns");
        let columns: Vec<(String, String)> =
            columns.iter().map(|it| (it.get(0), it.get(1))).collect();
        let texts: Vec<String> = columns.iter().map(|(it, _)| format!("{it}::text")).collect();
        let sql = format!("SELECT {} FROM {table} LIMIT {}", texts.join(", "), scale.waiting);
        let rows = client.query(&sql, &[]).await.expect("rows");
        let read = |row: &tokio_postgres::Row| -> Vec<Option<String>> {
            (0..columns.len()).map(|index| row.get(index)).collect()
        };
        let rows: Vec<Vec<Option<String>>> = rows.iter().map(read).collect();
        let name = empty(client, table, "single").await;
        let places = (1..).zip(&columns).map(|(n, (_, kind))| format!("${n}::text::{kind}"));
        let sql = format!("INSERT INTO {name} VALUES ({})", places.collect::<Vec<_>>().join(", "));
        work.push((client.prepare(&sql).await.expect("a statement"), rows));
    }
    let watch = Watch::start(server, client).await;
    let mut done = 0;
    for index in 0.. {
        let mut any = false;
        for (statement, rows) in &work {
            let Some(row) = rows.get(index) else { continue };
            let values: Vec<&(dyn ToSql + Sync)> = row.iter().map(plain).collect();
            client.execute(statement, &values).await.expect("a row");
            (done, any) = (done + 1, true);
        }
        if !any || watch.began.elapsed() > scale.singles {
            break;
        }
    }
    watch.stop(done)
}

fn plain<T: ToSql + Sync>(value: &T) -> &(dyn ToSql + Sync) {
    value
}

async fn copy(server: &Server, client: &Client) -> Cost {
    let (mut work, mut rows) = (Vec::new(), 0);
    for table in TABLES {
        let out = client.copy_out(&format!("COPY {table} TO STDOUT")).await.expect("a copy");
        let parts: Vec<Bytes> = out.try_collect().await.expect("all of it");
        rows += count(client, table).await;
        work.push((empty(client, table, "copied").await, Bytes::from(parts.concat())));
    }
    let watch = Watch::start(server, client).await;
    for (name, mut bytes) in work {
        let sink = client.copy_in(&format!("COPY {name} FROM STDIN")).await.expect("a copy");
        let mut sink = std::pin::pin!(sink);
        while !bytes.is_empty() {
            let chunk = bytes.split_to(CHUNK_BYTES.min(bytes.len()));
            sink.feed(chunk).await.expect("a part of it");
        }
        sink.finish().await.expect("all of it");
    }
    watch.stop(rows)
}

/// Counts of a bench are far below 2^32.
fn real(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
