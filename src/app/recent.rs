//! Starts that were made so lately that nobody but this memory knows their keys.

use std::time::Duration;

use dashmap::DashMap;

use crate::call::id::{CallId, UserId};
use crate::call::time::Timestamp;

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
