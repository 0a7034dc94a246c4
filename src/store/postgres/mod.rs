//! Postgres, where there is one: what has happened is written there behind the local file.
//!
//! [`connect`] reads the address, opens pools and knows which server is away; `schema` keeps the
//! tables; [`behind`] moves rows from the outbox in batches, made by `batch`; `read`, `past` and `figures` look at what the
//! local file no longer has. No call ever waits for Postgres.

mod batch;
pub mod behind;
pub mod connect;
pub(super) mod figures;
pub(super) mod past;
pub(super) mod read;
mod schema;
mod tls;

use std::time::Duration;

/// The bounds of everything that has to do with Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Rows of one transaction, at most.
    pub batch_rows_max: usize,
    /// Bytes of one transaction's rows: it ends with the row that goes past it.
    pub batch_bytes_max: usize,
    /// How long a row may wait for others to go with it.
    pub batch_age: Duration,
    /// Connections that read, to each server.
    pub read_connections_max: usize,
    /// How long a statement of a read may take, and the wait for a connection. A replica that fails
    /// has had so long before the primary is asked.
    pub read_timeout: Duration,
    /// How long the local file keeps a call that is over and written behind.
    pub local_keep: Duration,
    /// How long Postgres keeps quality samples: `None` for ever. Whole days go.
    pub samples: Option<Duration>,
    /// How long Postgres keeps calls that are over: `None` for ever.
    pub calls: Option<Duration>,
}

impl Default for PostgresOptions {
    /// The figures of the fault table: 500 rows, 50 ms or 1 MiB.
    fn default() -> Self {
        Self {
            batch_rows_max: 500,
            batch_bytes_max: 1024 * 1024,
            batch_age: Duration::from_millis(50),
            read_connections_max: 8,
            read_timeout: Duration::from_secs(2),
            local_keep: Duration::from_hours(1),
            samples: Some(Duration::from_hours(7 * 24)),
            calls: None,
        }
    }
}
