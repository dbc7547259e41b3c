//! Sets of positions, quick to ask.

/// A set of positions, a bit each.
#[derive(Clone, Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    pub fn insert(&mut self, position: usize) {
        let word = position / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (position % 64);
        }
    }

    pub fn remove(&mut self, position: usize) {
        if let Some(word) = self.0.get_mut(position / 64) {
            *word &= !(1 << (position % 64));
        }
    }

    pub fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The first position from there on that both sets have.
    pub fn next_common(&self, other: &Self, from: usize) -> Option<usize> {
        let words = self.0.iter().zip(&other.0).enumerate().skip(from / 64);
        words.into_iter().find_map(|(index, (one, two))| {
            let hidden = if index == from / 64 { from % 64 } else { 0 };
            let common = (one & two) >> hidden << hidden;
            (common != 0).then(|| 64 * index + common.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_positions_are_found_in_order() {
        let (mut one, mut other) = (Bits::default(), Bits::default());
        [0, 5, 63, 64, 200].into_iter().for_each(|position| one.insert(position));
        [5, 63, 64, 130, 200, 300].into_iter().for_each(|position| other.insert(position));
        other.remove(63);
        let found: Vec<usize> =
            std::iter::successors(one.next_common(&other, 0), |last| one.next_common(&other, last + 1))
                .collect();
        assert_eq!(found, [5, 64, 200]);
        assert!(one.contains(200) && !one.contains(201) && !one.contains(10_000) && !one.is_empty());
        found.into_iter().chain([0, 63]).for_each(|position| one.remove(position));
        assert!(one.is_empty());
    }
}
