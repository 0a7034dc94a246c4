//! What carrying a command out has come to.

use crate::call::command::Effect;
use crate::call::model::Call;
use crate::call::participant::Participant;

/// What a command did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// What follows, in order.
    pub effects: Vec<Effect>,
    /// Bit `i` is set where participant `i` changed.
    pub(super) touched: u64,
}

impl Applied {
    /// Nothing happened: nothing to store, nobody to tell.
    pub fn is_noop(&self) -> bool {
        self.effects.is_empty() && self.touched == 0
    }

    /// Nothing to tell, and everybody counts as changed.
    pub(super) fn of_all(call: &Call) -> Self {
        let bits = u32::try_from(call.participants.len()).unwrap_or(u32::MAX);
        let touched = 1_u64.checked_shl(bits).map_or(u64::MAX, |it| it - 1);
        Self { effects: Vec::new(), touched }
    }

    /// The same, but everybody counts as changed: what an earlier owner has written of them is no longer so.
    #[must_use]
    pub fn and_all(self, call: &Call) -> Self {
        Self { effects: self.effects, ..Self::of_all(call) }
    }

    /// The participants of `call` that changed.
    pub fn changed<'a>(&self, call: &'a Call) -> impl Iterator<Item = &'a Participant> {
        let touched = self.touched;
        let marked = move |index: usize| touched.checked_shr(u32::try_from(index).unwrap_or(64));
        let changed = move |&(index, _): &(usize, &Participant)| {
            marked(index).is_some_and(|bits| bits & 1 == 1)
        };
        call.participants.iter().enumerate().filter(changed).map(|(_, it)| it)
    }
}
