//! What goes wrong by chance: the same for the same seed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;

use crate::bus::node::NodeId;

/// Whether something happens that does `of_thousand` times in a thousand.
pub(super) fn hits(chance: &mut Rng, of_thousand: u64) -> bool {
    chance.u64(..1000) < of_thousand
}

/// Whose luck it is: that of letters from one to another, or of a node's questions of one kind.
type Stream = (NodeId, Option<NodeId>, &'static str);

/// One for each, all of one seed.
pub(super) struct Chances {
    seed: u64,
    all: BTreeMap<Stream, Rng>,
}

impl Chances {
    pub(super) const fn of_seed(seed: u64) -> Self {
        Self { seed, all: BTreeMap::new() }
    }

    pub(super) fn of(
        &mut self,
        from: &NodeId,
        to: Option<&NodeId>,
        what: &'static str,
    ) -> &mut Rng {
        let seed = self.seed;
        let stream = (from.clone(), to.cloned(), what);
        self.all.entry(stream).or_insert_with_key(|stream| {
            let mut hasher = DefaultHasher::new();
            (seed, stream).hash(&mut hasher);
            Rng::with_seed(hasher.finish())
        })
    }
}
