//! Starts by their keys: those that the store knows, and those so late that nobody but this memory knows them.

use std::time::Duration;

use dashmap::DashMap;

use crate::app::App;
use crate::app::error::AppError;
use crate::call::id::{CallId, UserId};
use crate::call::record::CallFacts;
use crate::call::state::EndReason;
use crate::call::time::Timestamp;
use crate::config::rates::Rule;

/// How long the same key means the same call (contract, section 4).
const IDEMPOTENCY: Duration = Duration::from_hours(24);
/// How long a start is remembered in memory: until long after its key is in the store.
pub(super) const RECENT: Duration = Duration::from_mins(1);

type UserAndKey = (UserId, Box<str>);

/// Starts so recent that their keys may not be in the store yet.
#[derive(Default)]
pub(super) struct RecentStarts(DashMap<UserAndKey, (CallId, Timestamp)>);

impl RecentStarts {
    pub(super) fn find(&self, user: &UserId, key: &str) -> Option<CallId> {
        self.0.get(&(user.clone(), key.into())).map(|it| it.0)
    }

    pub(super) fn note(&self, user: &UserId, key: &str, call: CallId, now: Timestamp) {
        self.0.insert((user.clone(), key.into()), (call, now));
    }

    /// The start is taken back.
    pub(super) fn forget(&self, user: &UserId, key: &str) {
        self.0.remove(&(user.clone(), key.into()));
    }

    /// Forgets what is in the store by now.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.0.retain(|_, (_, at)| now.since(*at) < RECENT);
    }
}

impl App {
    /// The call that `key` stands for. A start that was taken back was refused, so its key is free.
    pub(super) async fn earlier_start(
        &self,
        user: &UserId,
        key: &str,
    ) -> Result<Option<CallFacts>, AppError> {
        self.pace(Rule::Read, user)?;
        let since = self.clock.now().minus(IDEMPOTENCY);
        let Some(call) = self.store.idempotent_start_anywhere(user, key, since).await? else {
            return Ok(None);
        };
        let facts = self.facts(call).await?;
        Ok(facts.filter(|it| it.call.end_reason != Some(EndReason::Failed)))
    }
}
