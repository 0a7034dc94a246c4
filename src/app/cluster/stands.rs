//! How users stand towards one call, as Redis was told, and what it has to be told once more.
//!
//! A user's place is claimed by whoever lets the user in, and written by whoever brings the call to Redis, at the same
//! time; and an answer may be lost. So of each user it is counted how often Redis was told: who has told it meanwhile
//! leaves a doubt, and what is in doubt is told again.

use smallvec::SmallVec;

use crate::bus::directory::Mark;
use crate::call::id::UserId;
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::ConnectionState;

/// How one user stands towards a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) user: UserId,
    pub(super) mark: Option<Mark>,
    pub(super) joined: bool,
}

impl Stand {
    /// How `it` stands towards `call`, for all to see.
    pub(super) fn of(call: &Call, it: &Participant) -> Self {
        let rung = it.is_rung();
        let mark = if call.state.is_terminal() || it.connection == ConnectionState::Removed {
            None
        } else if rung && !call.is_group {
            Some(Mark::RungBy(call.initiator.clone()))
        } else if rung {
            Some(Mark::Rung)
        } else {
            Some(Mark::Member)
        };
        Self { user: it.user.clone(), mark, joined: it.is_joined() }
    }

    /// In no way.
    pub(super) fn none(user: &UserId) -> Self {
        Self { user: user.clone(), mark: None, joined: false }
    }
}

/// How all stand, by what the call is.
pub(super) type Wanted = SmallVec<[Stand; 4]>;

/// What Redis is being told of a user, and how often it was told of that one before.
pub(super) type Telling = (Stand, u32);

/// What Redis was told of a call's users.
#[derive(Debug, Default)]
pub(super) struct Stands(SmallVec<[Known; 4]>);

#[derive(Debug)]
struct Known {
    stand: Stand,
    /// How often it was told.
    times: u32,
    /// It is being told, or what came of that is not known.
    doubtful: bool,
}

impl Stands {
    fn find(&mut self, user: &UserId) -> Option<&mut Known> {
        self.0.iter_mut().find(|it| it.stand.user == *user)
    }

    /// Redis says so now, or is about to: what it said before, as far as we know.
    pub(super) fn establish(&mut self, stand: Stand) -> Option<Stand> {
        if let Some(known) = self.find(&stand.user) {
            known.times += 1;
            return Some(std::mem::replace(&mut known.stand, stand));
        }
        self.0.push(Known { stand, times: 1, doubtful: false });
        None
    }

    /// Whether it says so is not known.
    pub(super) fn doubt(&mut self, user: &UserId) {
        if let Some(known) = self.find(user) {
            (known.times, known.doubtful) = (known.times + 1, true);
        }
    }

    /// Nothing of what it says is known.
    pub(super) fn doubt_all(&mut self) {
        for known in &mut self.0 {
            (known.times, known.doubtful) = (known.times + 1, true);
        }
    }

    /// What has to be told, so that they stand as `wanted` and nobody else does; until [`told`](Self::told), whether it
    /// was is not known. Left out is who is to be out of the call and `may` not be put there.
    pub(super) fn tell(
        &mut self,
        wanted: &[Stand],
        mut may: impl FnMut(&UserId) -> bool,
    ) -> Vec<Telling> {
        for it in wanted {
            if self.find(&it.user).is_none() {
                let stand = Stand::none(&it.user);
                self.0.push(Known { stand, times: 0, doubtful: true });
            }
        }
        let mut tellings = Vec::new();
        for known in &mut self.0 {
            let user = &known.stand.user;
            let stand = wanted.iter().find(|it| it.user == *user).cloned();
            let stand = stand.unwrap_or_else(|| Stand::none(user));
            let differs = known.doubtful || known.stand != stand;
            if differs && (stand.joined || may(user)) {
                known.doubtful = true;
                tellings.push((stand, known.times));
            }
        }
        tellings
    }

    /// It was told: whether all of it is known now.
    pub(super) fn told(&mut self, tellings: &[Telling]) -> bool {
        let mut all = true;
        for (stand, times) in tellings {
            match self.find(&stand.user).filter(|it| it.times == *times) {
                Some(known) => {
                    known.stand = stand.clone();
                    (known.times, known.doubtful) = (known.times + 1, false);
                }
                None => all = false,
            }
        }
        all
    }

    /// Of whom it was told anything.
    pub(super) fn into_users(self) -> Vec<UserId> {
        self.0.into_iter().map(|it| it.stand.user).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, joined: bool) -> Stand {
        Stand { user: UserId::parse(name).unwrap(), mark: Some(Mark::Member), joined }
    }

    fn anybody(_: &UserId) -> bool {
        true
    }

    fn only(tellings: &[Telling]) -> Vec<Stand> {
        tellings.iter().map(|(it, _)| it.clone()).collect()
    }

    #[test]
    fn what_is_new_or_gone_is_told_once() {
        let mut stands = Stands::default();
        let (anna, bob) = (member("anna", true), member("bob", false));
        let first = stands.tell(&[anna.clone(), bob.clone()], anybody);
        assert_eq!(only(&first), [anna.clone(), bob.clone()]);
        assert!(stands.told(&first));
        assert_eq!(stands.tell(&[anna.clone(), bob.clone()], anybody), []);
        let last = stands.tell(&[anna], anybody);
        assert_eq!(only(&last), [Stand::none(&bob.user)]);
        assert!(stands.told(&last));
        assert_eq!(stands.into_users().len(), 2);
    }

    #[test]
    fn what_was_not_answered_is_told_again_whatever_is_wanted_by_then() {
        let mut stands = Stands::default();
        let (out, within) = (member("anna", false), member("anna", true));
        let first = stands.tell(std::slice::from_ref(&out), anybody);
        stands.told(&first);
        // The answer to this one is lost.
        stands.tell(std::slice::from_ref(&within), anybody);
        let again = stands.tell(std::slice::from_ref(&out), anybody);
        assert_eq!(only(&again), [out]);
    }

    #[test]
    fn a_claim_in_between_leaves_a_doubt() {
        let mut stands = Stands::default();
        let (out, within) = (member("anna", false), member("anna", true));
        let telling = stands.tell(std::slice::from_ref(&out), anybody);
        assert_eq!(stands.establish(within), Some(Stand::none(&out.user)));
        assert!(!stands.told(&telling));
        let again = stands.tell(std::slice::from_ref(&out), anybody);
        assert_eq!(only(&again), [out]);
        assert!(stands.told(&again));
    }

    #[test]
    fn who_is_being_let_in_is_not_put_out() {
        let mut stands = Stands::default();
        let (anna, bob) = (member("anna", false), member("bob", true));
        stands.establish(Stand { joined: true, ..anna.clone() });
        let wanted = [anna.clone(), bob.clone()];
        let telling = stands.tell(&wanted, |user| *user != anna.user);
        assert_eq!(only(&telling), [bob]);
        assert!(stands.told(&telling));
        assert_eq!(only(&stands.tell(&wanted, anybody)), [anna]);
    }

    #[test]
    fn a_claim_without_an_answer_is_taken_back() {
        let mut stands = Stands::default();
        let anna = member("anna", true);
        stands.establish(anna.clone());
        let telling = stands.tell(&[], anybody);
        stands.doubt(&anna.user);
        assert!(!stands.told(&telling));
        assert_eq!(only(&stands.tell(&[], anybody)), [Stand::none(&anna.user)]);
        stands.doubt_all();
        assert_eq!(only(&stands.tell(std::slice::from_ref(&anna), anybody)), [anna]);
    }
}
