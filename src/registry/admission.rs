//! Decisions that concern several users at once: who may start or join, and who is busy.
//!
//! Each user hangs on one of many locks; a decision takes the locks of all its users, in order, so
//! that two calls that begin at once between the same people see each other. A call's own lock is
//! taken inside, never the other way round.

use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::call::id::UserId;

/// Two users share a lock by chance once in so many; a lock is a byte.
const STRIPES: usize = 4096;

/// The locks.
pub struct Admission {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for Admission {
    fn default() -> Self {
        let stripes = std::iter::repeat_with(|| Mutex::new(())).take(STRIPES).collect();
        Self { stripes, hasher: RandomState::new() }
    }
}

impl Admission {
    /// Runs `decide` while no other decision about any of `users` is under way.
    pub fn decide<'a, R>(
        &self,
        users: impl IntoIterator<Item = &'a UserId>,
        decide: impl FnOnce() -> R,
    ) -> R {
        let index = |user: &UserId| {
            usize::try_from(self.hasher.hash_one(user)).unwrap_or(0) % self.stripes.len()
        };
        let mut indices: SmallVec<[usize; 8]> = users.into_iter().map(index).collect();
        indices.sort_unstable();
        indices.dedup();
        let _held: SmallVec<[_; 8]> =
            indices.iter().filter_map(|&it| self.stripes.get(it)).map(Mutex::lock).collect();
        decide()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn decisions_about_one_user_do_not_overlap() {
        let admission = Admission::default();
        let users: Vec<UserId> = ["a", "b", "c"].map(|it| UserId::parse(it).unwrap()).to_vec();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (admission, users, inside) = (&admission, &users, &inside);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let mine = if turn % 2 == 0 { [0, 1] } else { [2, 0] };
                        admission.decide(mine.map(|it| &users[it]), || {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
    }
}
