//! The smallest sizes of many requests.

use super::size::Size;

/// So many sizes are told apart. Chosen: of requests in random order some ten in ten thousand are smaller in some part
/// than all others.
const SIZES_MAX: usize = 16;

/// Sizes of which every request asks for at least as much as one. What has no room for any of these has none for any
/// request, however many they are. A request that has gone may leave its size here: that only says less.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor(Vec<Size>);

impl Floor {
    pub(super) fn of<'a>(sizes: impl Iterator<Item = &'a Size>) -> Self {
        let mut floor = Self::default();
        sizes.for_each(|size| floor.add(size));
        floor
    }

    pub(super) fn add(&mut self, size: &Size) {
        if self.0.iter().any(|known| size.covers(known)) {
            return;
        }
        self.0.retain(|known| !known.covers(size));
        let is_full = self.0.len() >= SIZES_MAX;
        match self.0.iter_mut().find(|known| is_full && known.is_comparable(size)) {
            Some(known) => *known = known.least(size),
            None => self.0.push(*size),
        }
    }

    pub(super) fn sizes(&self) -> impl Iterator<Item = &Size> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::input_tokens::InputTokens;

    fn size() -> impl Strategy<Value = Size> {
        (0..50_u64, 0..50_u64, prop::option::of(0..50_u64)).prop_map(|(large, small, output_tokens)| Size {
            input: InputTokens { large, small, images: 0 },
            output_tokens,
            choices: 1,
        })
    }

    proptest! {
        #[test]
        fn every_size_is_at_least_one_of_few(sizes in prop::collection::vec(size(), 0..300)) {
            let floor = Floor::of(sizes.iter());
            for size in &sizes {
                prop_assert!(floor.sizes().any(|least| size.covers(least)), "{size:?} is below {floor:?}");
            }
            prop_assert!(floor.sizes().count() <= SIZES_MAX + 1);
        }
    }
}
