//! What goes wrong at a provider without the caller's doing.

use super::random::SplitMix64;

/// One way to fail, or to be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429 although there was room.
    RateLimited,
    /// 500.
    Internal,
    /// 503.
    Overloaded,
    /// The connection ends in the middle of the answer.
    Cut,
    /// The first token takes many times as long as usual.
    SlowStart,
}

impl Fault {
    const ALL: [Self; 5] = [Self::RateLimited, Self::Internal, Self::Overloaded, Self::Cut, Self::SlowStart];

    /// Draws one of all, each as likely as the others, in `percent` of 100 cases.
    pub(super) fn draw(random: &mut SplitMix64, percent: u64) -> Option<Self> {
        if !random.is_within_percent(percent) {
            return None;
        }
        let which = usize::try_from(random.below(Self::ALL.len() as u64)).unwrap_or(0);
        Self::ALL.get(which).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_drawn_sooner_or_later() {
        let mut random = SplitMix64::new(3);
        let drawn: Vec<Fault> = (0..200).filter_map(|_| Fault::draw(&mut random, 100)).collect();
        assert_eq!(drawn.len(), 200);
        for fault in Fault::ALL {
            assert!(drawn.contains(&fault), "{fault:?}");
        }
    }

    #[test]
    fn no_share_no_fault() {
        let mut random = SplitMix64::new(3);
        assert!((0..200).all(|_| Fault::draw(&mut random, 0).is_none()));
    }
}
