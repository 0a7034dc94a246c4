//! What comes of a user's calls while they are being gathered: then what was gathered may be older than that.

use dashmap::DashMap;

use crate::call::id::UserId;

/// Users whose calls are being gathered.
#[derive(Default)]
pub(super) struct Gatherings(DashMap<UserId, Gathering>);

#[derive(Default)]
struct Gathering {
    running: usize,
    /// Grows with what comes.
    news: u64,
    /// How many readings of those calls have begun.
    begun: u64,
    /// The last begun of those that were done.
    done: u64,
}

/// One gathering; ends when dropped.
pub(super) struct Watch<'a> {
    all: &'a Gatherings,
    user: UserId,
    seen: u64,
    reading: u64,
}

impl Gatherings {
    pub(super) fn begin(&self, user: &UserId) -> Watch<'_> {
        let mut it = self.0.entry(user.clone()).or_default();
        it.running += 1;
        Watch { all: self, user: user.clone(), seen: it.news, reading: 0 }
    }

    /// Something has come for `user`.
    pub(super) fn note(&self, user: &UserId) {
        if let Some(mut it) = self.0.get_mut(user) {
            it.news += 1;
        }
    }
}

impl Watch<'_> {
    /// The calls are read, anew or for the first time.
    pub(super) fn read(&mut self) {
        if let Some(mut it) = self.all.0.get_mut(&self.user) {
            it.begun += 1;
            self.reading = it.begun;
        }
    }

    /// They have been read: whether another reading that began later was done before.
    pub(super) fn is_overtaken(&self) -> bool {
        let Some(mut it) = self.all.0.get_mut(&self.user) else { return false };
        let overtaken = it.done > self.reading;
        it.done = it.done.max(self.reading);
        overtaken
    }

    /// Whether something has come since the beginning, or since this was asked last.
    pub(super) fn has_news(&mut self) -> bool {
        let news = self.all.0.get(&self.user).map_or(self.seen, |it| it.news);
        std::mem::replace(&mut self.seen, news) != news
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(mut it) = self.all.0.get_mut(&self.user) {
            it.running -= 1;
        }
        self.all.0.remove_if(&self.user, |_, it| it.running == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_count_for_whoever_is_gathering_and_no_longer() {
        let (all, [anna, bob]) =
            (Gatherings::default(), ["anna", "bob"].map(|it| UserId::parse(it).unwrap()));
        all.note(&anna);
        let mut first = all.begin(&anna);
        assert!(!first.has_news());
        all.note(&bob);
        all.note(&anna);
        let mut second = all.begin(&anna);
        assert!(first.has_news() && !first.has_news() && !second.has_news());
        drop(first);
        all.note(&anna);
        assert!(second.has_news());
        drop(second);
        assert!(all.0.is_empty());
    }

    #[test]
    fn a_reading_is_overtaken_by_one_that_began_later_and_was_done_before() {
        let (all, anna) = (Gatherings::default(), UserId::parse("anna").unwrap());
        let (mut first, mut second) = (all.begin(&anna), all.begin(&anna));
        first.read();
        second.read();
        assert!(!second.is_overtaken() && first.is_overtaken());
        first.read();
        assert!(!first.is_overtaken());
    }
}
