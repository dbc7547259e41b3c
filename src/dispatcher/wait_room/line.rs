//! The requests of one tenant that wait for one provider.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::keyed::Keyed;
use super::turns::Account;
use crate::domain::bits::Bits;

/// A tenant's requests at one provider, and its account in the deficit round robin.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) account: Account,
    classes: Bits,
    by_class: Keyed<usize, SubLine>,
}

/// Who says what a provider may have room for.
pub(super) trait Judge {
    /// The first class from there on that is not known to be without room, of those.
    fn next_open(&self, of: &Bits, from: usize) -> Option<usize>;

    /// Whether there may be room for a member of that class.
    fn may_fit(&mut self, class: usize) -> bool;

    /// Whether there may be room for that member of the class.
    fn fits(&mut self, class: usize, number: u64) -> bool;
}

/// Those of one class. Their numbers are the order of arrival.
#[derive(Debug, Default)]
struct SubLine {
    numbers: BTreeSet<u64>,
    /// Up to here nobody can use what is left, as of the look of that count.
    looked_to: Option<u64>,
    looked_in: u64,
    /// Of those up to there, the ones who have come back since.
    returned: BTreeSet<u64>,
}

impl Line {
    pub(super) fn new(account: Account) -> Self {
        Self { account, classes: Bits::default(), by_class: Keyed::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_class.is_empty()
    }

    pub(super) fn insert(&mut self, class: usize, number: u64) {
        self.classes.insert(class);
        let sub_line = self.by_class.entry(class).or_default();
        sub_line.numbers.insert(number);
        sub_line.look_again_at(number);
    }

    pub(super) fn remove(&mut self, class: usize, number: u64) {
        if let Some(sub_line) = self.by_class.get_mut(&class) {
            sub_line.numbers.remove(&number);
            sub_line.returned.remove(&number);
            if sub_line.numbers.is_empty() {
                self.by_class.remove(&class);
                self.classes.remove(class);
            }
        }
    }

    /// That one may be eligible again.
    pub(super) fn look_again_at(&mut self, class: usize, number: u64) {
        if let Some(sub_line) = self.by_class.get_mut(&class) {
            sub_line.look_again_at(number);
        }
    }

    /// The first request that fits, of the classes that may. Within one look, which is the `look`th, each that does not
    /// fit is looked at once.
    pub(super) fn first(&mut self, look: u64, judge: &mut impl Judge) -> Option<u64> {
        let mut first: Option<u64> = None;
        let mut next = judge.next_open(&self.classes, 0);
        while let Some(class) = next {
            if judge.may_fit(class)
                && let Some(sub_line) = self.by_class.get_mut(&class)
                && sub_line.numbers.first().is_some_and(|number| first.is_none_or(|first| *number < first))
            {
                let own = sub_line.first(look, |number| judge.fits(class, number));
                first = first.into_iter().chain(own).min();
            }
            next = judge.next_open(&self.classes, class + 1);
        }
        first
    }
}

impl SubLine {
    fn look_again_at(&mut self, number: u64) {
        if self.looked_to.is_some_and(|looked_to| looked_to >= number) {
            self.returned.insert(number);
        }
    }

    fn first(&mut self, look: u64, mut fits: impl FnMut(u64) -> bool) -> Option<u64> {
        if self.looked_in != look {
            (self.looked_in, self.looked_to) = (look, None);
            self.returned.clear();
        }
        while let Some(number) = self.returned.first().copied() {
            if fits(number) {
                return Some(number);
            }
            self.returned.remove(&number);
        }
        let from = self.looked_to.map_or(Unbounded, Excluded);
        for number in self.numbers.range((from, Unbounded)) {
            if fits(*number) {
                return Some(*number);
            }
            self.looked_to = Some(*number);
        }
        None
    }
}
