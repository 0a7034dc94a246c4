//! The tables in Postgres: made and changed under a lock, a partition a day, old rows dropped.

use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::Object;
use refinery::{Migration, Runner};
use tokio::time::timeout;

use crate::call::time::Timestamp;
use crate::store::error::{Kind, StoreError};
use crate::store::postgres::connect::Postgres;

/// The advisory lock under which tables are changed: "calls" in ASCII.
const LOCK: i64 = 0x63_61_6c_6c_73;
/// How long bringing the tables up to date may take: an index on a large table takes minutes.
const MIGRATION_MAX: Duration = Duration::from_mins(10);
/// A partition's length, milliseconds.
const DAY: i64 = 24 * 3600 * 1000;
/// Days made ahead: a service that can't make partitions for so long still has them.
const DAYS_AHEAD: i64 = 3;
/// Calls that one transaction removes, and how many of those in a row.
const OLD_CALLS: i64 = 200;
const OLD_CHUNKS_MAX: usize = 100;
/// Keys are kept for as long as they serve.
const KEYS_KEPT: i64 = DAY;

fn runner() -> Result<Runner, StoreError> {
    let calls = include_str!("../../../migrations/postgres/V1__calls.sql");
    let instance = include_str!("../../../migrations/postgres/V2__instance.sql");
    let history = include_str!("../../../migrations/postgres/V3__history.sql");
    let migrations = [("V1__calls", calls), ("V2__instance", instance), ("V3__history", history)]
        .map(|(name, sql)| Migration::unapplied(name, sql).map_err(failed));
    Ok(Runner::new(&migrations.into_iter().collect::<Result<Vec<_>, _>>()?))
}

fn failed(cause: refinery::Error) -> StoreError {
    use std::error::Error as _;
    let mut source = cause.source();
    let mut kind = Kind::Schema;
    while let Some(it) = source {
        if let Some(postgres) = it.downcast_ref::<tokio_postgres::Error>() {
            kind = super::connect::kind_of(postgres);
        }
        source = it.source();
    }
    StoreError::caused("migrating Postgres", kind, cause)
}

impl Postgres {
    /// Brings the tables up to date, whatever `MIGRATE` says. Others who do the same wait their turn.
    ///
    /// Fails with [`Kind::Away`] where Postgres can't be reached, with [`Kind::Schema`] where it
    /// refuses us, or has tables of another version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        const DURING: &str = "migrating Postgres";
        let writer = &self.shared.writer;
        let client = writer.connection(DURING).await?;
        // Timeouts that suit batches do not suit this. The session ends with it, and so its lock.
        let mut client = Object::take(client);
        let work = async {
            let set = "SET statement_timeout = 0; SET lock_timeout = 0; \
                       SET idle_in_transaction_session_timeout = 0";
            client.batch_execute(set).await.map_err(StoreError::postgres(DURING))?;
            let lock = "SELECT pg_advisory_lock($1)";
            client.execute(lock, &[&LOCK]).await.map_err(StoreError::postgres(DURING))?;
            runner()?.run_async(&mut *client).await.map_err(failed)
        };
        let done = timeout(MIGRATION_MAX, work).await;
        done.map_err(|cause| StoreError::caused(DURING, Kind::Away, cause))??;
        self.shared.migrated.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sees to the tables once: brings them up to date, or with `MIGRATE=off` insists that they are.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        const DURING: &str =
            "looking at Postgres' tables with MIGRATE=off: run `call-service migrate` first";
        if self.shared.migrated.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.shared.migrate {
            return self.migrate().await;
        }
        let mut client = self.shared.writer.connection(DURING).await?;
        let there = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
        let there = client.query_one(there, &[]).await.and_then(|it| it.try_get::<_, bool>(0));
        if !there.map_err(StoreError::postgres(DURING))? {
            return Err(StoreError::new(DURING, Kind::Schema));
        }
        let runner = runner()?;
        let applied = runner.get_applied_migrations_async(&mut **client).await.map_err(failed)?;
        if applied.len() != runner.get_migrations().len() {
            return Err(StoreError::new(DURING, Kind::Schema));
        }
        self.shared.migrated.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The name of the deployment, the same for all of its nodes: made with the tables, which have to be up to
    /// date.
    pub async fn instance(&self) -> Result<String, StoreError> {
        const DURING: &str = "reading the deployment's name";
        let writer = &self.shared.writer;
        let client = writer.connection(DURING).await?;
        let found = client.query_opt("SELECT id FROM instance", &[]).await;
        let found = writer.settle(DURING, client, found)?;
        // Somebody has emptied the table: another name would make strangers of those that know the old one.
        let found = found.ok_or_else(|| StoreError::new(DURING, Kind::Schema))?;
        found.try_get(0).map_err(StoreError::postgres(DURING))
    }

    /// Makes the partitions of the days around `now`, drops those that are old enough, and removes
    /// old calls and keys. To be called every now and then; does a bounded amount of work.
    pub(super) async fn keep_house(&self, now: Timestamp) -> Result<(), StoreError> {
        const DURING: &str = "removing old rows from Postgres";
        let today = now.0.div_euclid(DAY);
        self.make_partitions(today..=today + DAYS_AHEAD).await?;
        let writer = &self.shared.writer;
        let client = writer.connection(DURING).await?;
        let before = |age: Duration| {
            now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        };
        let work = async {
            if let Some(age) = self.shared.options.samples {
                drop_partitions(&client, before(age)).await?;
            }
            client
                .execute(
                    "DELETE FROM idempotency_keys WHERE created_at < $1",
                    &[&(now.0 - KEYS_KEPT)],
                )
                .await?;
            if let Some(age) = self.shared.options.calls {
                drop_calls(&client, before(age)).await?;
            }
            Ok(())
        };
        let outcome = work.await;
        writer.settle(DURING, client, outcome)
    }

    /// Makes the partitions of these days (counted from 1970) where they are missing.
    pub(super) async fn make_partitions(
        &self,
        days: impl IntoIterator<Item = i64> + Send,
    ) -> Result<(), StoreError> {
        const DURING: &str = "making partitions";
        let sql: String = days.into_iter().map(partition).collect();
        let writer = &self.shared.writer;
        let client = writer.connection(DURING).await?;
        // One who makes the same at the same time would fail over its name.
        let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {sql} COMMIT");
        let made = client.batch_execute(&sql).await;
        if made.is_err() && !client.is_closed() {
            drop(client.batch_execute("ROLLBACK").await);
        }
        writer.settle(DURING, client, made)
    }
}

/// The day of a sample's time.
pub(super) fn day_of(at: i64) -> i64 {
    at.div_euclid(DAY)
}

fn partition(day: i64) -> String {
    let (from, to) = (day.saturating_mul(DAY), day.saturating_add(1).saturating_mul(DAY));
    format!(
        "CREATE TABLE IF NOT EXISTS call_quality_metrics_{} PARTITION OF call_quality_metrics
         FOR VALUES FROM ({from}) TO ({to}); ",
        if day < 0 { format!("before_{}", -day) } else { day.to_string() }
    )
}

/// Partitions all of whose samples are older.
async fn drop_partitions(client: &Object, before: i64) -> Result<(), tokio_postgres::Error> {
    const SQL: &str = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'call_quality_metrics'::regclass";
    for row in client.query(SQL, &[]).await? {
        let name: String = row.try_get(0)?;
        let day = name.strip_prefix("call_quality_metrics_").and_then(|it| it.parse::<i64>().ok());
        if day.is_some_and(|day| (day + 1).saturating_mul(DAY) <= before) {
            client.batch_execute(&format!("DROP TABLE IF EXISTS {name}")).await?;
            tracing::info!(partition = name, "old quality samples are dropped");
        }
    }
    Ok(())
}

async fn drop_calls(client: &Object, before: i64) -> Result<(), tokio_postgres::Error> {
    const SQL: &str =
        "WITH old AS (SELECT id FROM calls WHERE ended_at < $1 ORDER BY ended_at LIMIT $2),
        e AS (DELETE FROM call_events WHERE call_id IN (SELECT id FROM old)),
        m AS (DELETE FROM call_quality_metrics WHERE call_id IN (SELECT id FROM old)),
        r AS (DELETE FROM call_recordings WHERE call_id IN (SELECT id FROM old)),
        p AS (DELETE FROM call_participants WHERE call_id IN (SELECT id FROM old))
        DELETE FROM calls WHERE id IN (SELECT id FROM old)";
    for _ in 0..OLD_CHUNKS_MAX {
        let removed = client.execute(SQL, &[&before, &OLD_CALLS]).await?;
        if removed < OLD_CALLS.unsigned_abs() {
            break;
        }
    }
    Ok(())
}
