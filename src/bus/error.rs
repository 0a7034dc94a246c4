//! Why the bus did not do what it was asked.

use std::error::Error;
use std::sync::Arc;

use crate::telemetry::in_full;

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis can't be reached, or did not answer in time: what was asked may have happened.
    Away,
    /// Too much waits already: what was asked has not happened.
    Crowded,
    /// Redis refuses: a user without rights, a version without what is needed.
    Refused,
    /// The answer makes no sense.
    Odd,
}

/// A failure of the bus.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the bus failed while {during}")]
pub struct BusError {
    /// What was being done.
    pub during: &'static str,
    /// What a caller can do about it.
    pub kind: Kind,
    /// What lies behind, for the log.
    #[source]
    pub cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl BusError {
    /// A failure without a deeper cause.
    pub fn new(during: &'static str, kind: Kind) -> Self {
        Self { during, kind, cause: None }
    }

    /// A failure with its cause.
    pub fn caused(
        during: &'static str,
        kind: Kind,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { during, kind, cause: Some(Arc::from(cause.into())) }
    }

    /// What was being done and every cause, for an operator's eyes.
    pub fn in_full(&self) -> String {
        in_full(self)
    }
}
