//! Who is being let into which call of ours just now: what Redis says of those is not to be put right meanwhile.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::call::id::{CallId, UserId};

type Key = (CallId, UserId);

/// One lock for each user in each call, for as long as somebody holds it.
#[derive(Default)]
pub(in crate::app) struct Deciding(DashMap<Key, Arc<RwLock<()>>>);

/// Held while a user is let in, or put right; gives the lock up when dropped.
pub(in crate::app) struct Held<'a, G> {
    all: &'a Deciding,
    key: Key,
    guard: Option<G>,
}

/// Others may let the same user in at the same time.
pub(in crate::app) type LettingIn<'a> = Held<'a, OwnedRwLockReadGuard<()>>;
/// Nobody else may.
pub(super) type PuttingRight<'a> = Held<'a, OwnedRwLockWriteGuard<()>>;

impl Deciding {
    fn lock(&self, key: &Key) -> Arc<RwLock<()>> {
        Arc::clone(&self.0.entry(key.clone()).or_default())
    }

    /// Waits for one who puts right: no longer than Redis may take for an answer.
    pub(in crate::app) async fn let_in(&self, call: CallId, user: &UserId) -> LettingIn<'_> {
        let key = (call, user.clone());
        let guard = Some(self.lock(&key).read_owned().await);
        Held { all: self, key, guard }
    }

    /// `None` while somebody lets the user in, or puts right.
    pub(super) fn put_right(&self, call: CallId, user: &UserId) -> Option<PuttingRight<'_>> {
        let key = (call, user.clone());
        let guard = self.lock(&key).try_write_owned();
        let guard = Some(guard.ok()?);
        Some(Held { all: self, key, guard })
    }
}

impl<G> Drop for Held<'_, G> {
    fn drop(&mut self) {
        self.guard = None;
        self.all.0.remove_if(&self.key, |_, it| Arc::strong_count(it) == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_let_in_and_one_alone_puts_right() {
        let all = Deciding::default();
        let (call, anna) = (CallId(uuid::Uuid::nil()), UserId::parse("anna").unwrap());
        let (first, second) = (all.let_in(call, &anna).await, all.let_in(call, &anna).await);
        drop(first);
        assert!(all.put_right(call, &anna).is_none());
        drop(second);
        let putting = all.put_right(call, &anna);
        assert!(putting.is_some() && all.put_right(call, &anna).is_none());
        drop(putting);
        drop(all.let_in(call, &anna).await);
        assert!(all.0.is_empty());
    }
}
