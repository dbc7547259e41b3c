//! Which of an answer's choices an event speaks of.

use std::ops::BitOrAssign;

/// The last place of the set. A request may ask for 128 choices at most, so that only an upstream that invents
/// more shares it.
const LAST_PLACE: u64 = 127;

/// A set of choices, by their index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct ChoiceSet(u128);

impl ChoiceSet {
    /// Adds the choice with that index.
    pub(in crate::provider) fn insert(&mut self, index: u64) {
        self.0 |= 1 << index.min(LAST_PLACE);
    }

    pub(in crate::provider) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every choice in `other` is in this one too.
    pub(in crate::provider) fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

impl BitOrAssign for ChoiceSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(indices: &[u64]) -> ChoiceSet {
        let mut set = ChoiceSet::default();
        for index in indices {
            set.insert(*index);
        }
        set
    }

    #[test]
    fn a_set_covers_what_it_holds() {
        assert!(of(&[0, 1]).covers(of(&[1])));
        assert!(!of(&[1]).covers(of(&[0, 1])));
        assert!(of(&[]).is_empty() && !of(&[127]).is_empty());
        assert_eq!(of(&[127]), of(&[u64::MAX]));
        let mut both = of(&[0]);
        both |= of(&[5]);
        assert_eq!(both, of(&[0, 5]));
    }
}
