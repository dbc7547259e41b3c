//! What a model has refused in this round.

use super::size::Size;
use crate::domain::clock::Moment;

/// Refusals kept of one model. Chosen: each is smaller in some part than all others; of requests in random order
/// that is some ten in ten thousand. One that is not kept costs an offer that is refused.
const KEPT_MAX: usize = 16;

/// Until when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    pub until: Moment,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It has no room for as much.
    Full,
    /// It is off because of failures.
    Off,
    /// What is used of it cannot be written down.
    LedgerAway,
}

impl Cause {
    fn concerns_every_size(self) -> bool {
        self != Self::Full
    }
}

/// What one model has refused; what is at least as large need not ask.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<(Size, Shut)>);

impl Refusals {
    /// Whether a request of that size would be refused.
    pub(super) fn cover(&self, size: &Size) -> bool {
        // The latest is the likeliest: it was as small as what is asked for now, or smaller.
        self.0.iter().rev().any(|(refused, shut)| size.covers(refused) || shut.cause.concerns_every_size())
    }

    /// Why a request of that size would be refused; the latest instant of all reasons.
    pub(super) fn covering(&self, size: &Size) -> Option<Shut> {
        let concerns =
            |(refused, shut): &&(Size, Shut)| shut.cause.concerns_every_size() || size.covers(refused);
        self.0.iter().filter(concerns).map(|(_, shut)| *shut).max_by_key(|shut| shut.until)
    }

    pub(super) fn note(&mut self, size: Size, shut: Shut) {
        let is_for_all = shut.cause.concerns_every_size();
        // What is larger and refused for no longer says nothing more.
        self.0.retain(|(refused, known)| {
            let is_within = !known.cause.concerns_every_size() && refused.covers(&size);
            known.until > shut.until || !(is_for_all || is_within)
        });
        // The smaller one keeps more requests from asking in vain.
        if self.0.len() >= KEPT_MAX
            && let Some(larger) = self
                .0
                .iter()
                .position(|(refused, known)| !known.cause.concerns_every_size() && refused.covers(&size))
        {
            self.0.swap_remove(larger);
        }
        if self.0.len() < KEPT_MAX {
            self.0.push((size, shut));
        }
    }

    /// The round is over. What was said of the room holds no longer; that a ledger is away has nothing to do with
    /// what has come free, and whoever believed so would ask it as fast as it fails.
    pub(super) fn end_round(&mut self, now: Moment) {
        self.0.retain(|(_, shut)| shut.cause == Cause::LedgerAway && shut.until > now);
    }

    /// Whether anything was refused.
    pub(super) fn has_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// When the first of them ends.
    pub(super) fn next_end(&self) -> Moment {
        self.0.iter().map(|(_, shut)| shut.until).min().unwrap_or(Moment::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::input_tokens::InputTokens;

    fn size(input_tokens: u64) -> Size {
        Size { input: InputTokens::certain(input_tokens), output_tokens: Some(0), choices: 1 }
    }

    fn shut(until: i64) -> Shut {
        Shut { until: Moment::from_unix_micros(until), cause: Cause::Full }
    }

    #[test]
    fn the_larger_is_covered_and_the_smaller_is_not() {
        let mut refusals = Refusals::default();
        refusals.note(size(10), shut(5));
        assert_eq!(refusals.covering(&size(9)), None);
        assert_eq!(refusals.covering(&size(10)), Some(shut(5)));
        refusals.note(size(20), shut(9));
        assert_eq!(refusals.covering(&size(15)), Some(shut(5)));
        assert_eq!(refusals.covering(&size(25)), Some(shut(9)));
    }

    #[test]
    fn what_is_off_is_off_for_every_size() {
        let mut refusals = Refusals::default();
        refusals.note(size(10), Shut { cause: Cause::Off, ..shut(5) });
        assert_eq!(refusals.covering(&size(1)), Some(Shut { cause: Cause::Off, ..shut(5) }));
    }

    #[test]
    fn a_ledger_that_is_away_stays_so_when_something_comes_free() {
        let mut refusals = Refusals::default();
        refusals.note(size(10), shut(5));
        let away = Shut { cause: Cause::LedgerAway, ..shut(7) };
        refusals.note(size(20), away);
        refusals.end_round(Moment::from_unix_micros(6));
        assert_eq!((refusals.covering(&size(1)), refusals.next_end()), (Some(away), away.until));
        refusals.end_round(away.until);
        assert_eq!((refusals.covering(&size(20)), refusals.next_end()), (None, Moment::NEVER));
    }

    #[test]
    fn memory_is_bounded() {
        let mut refusals = Refusals::default();
        (0..1_000).for_each(|step| refusals.note(size(1_000 - step), shut(i64::MAX - step as i64)));
        assert!(refusals.0.len() <= KEPT_MAX);
        assert!(refusals.covering(&size(1)).is_some(), "the smallest is kept");
    }
}
