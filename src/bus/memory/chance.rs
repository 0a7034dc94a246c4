//! What goes wrong by chance: the same for the same seed.

use std::collections::BTreeMap;

use crate::bus::node::NodeId;

/// Random numbers that are the same for the same seed.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % count.max(1)
    }

    pub(super) fn hits(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }
}

/// Whose luck it is: that of letters from one to another, or of a node's questions of one kind.
pub(super) type Stream = (NodeId, Option<NodeId>, &'static str);

/// One for each, all of one seed.
pub(super) struct Chances {
    pub(super) seed: u64,
    pub(super) all: BTreeMap<Stream, Chance>,
}

impl Chances {
    pub(super) fn of(
        &mut self,
        from: &NodeId,
        to: Option<&NodeId>,
        what: &'static str,
    ) -> &mut Chance {
        let seed = self.seed;
        self.all.entry((from.clone(), to.cloned(), what)).or_insert_with(|| {
            let names = [from.as_str(), to.map_or("", NodeId::as_str), what];
            // FNV-1a, and the last step of SplitMix64: names that differ little differ much.
            let mix = |it: u64, byte: u8| (it ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            let mixed = names.iter().flat_map(|it| it.bytes()).fold(seed, mix);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Chance((mixed ^ (mixed >> 31)) | 1)
        })
    }
}
