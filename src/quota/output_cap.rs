//! The output cap for requests that state none: learned from what a model really writes.

/// How long the answers of one model are, and the cap that most of them stay below.
///
/// A histogram of answers that nobody but us capped. It halves as it fills, so that it follows what the model is used
/// for now. An answer that was cut by our own cap is as long as nobody knows: it counts as twice the cap, so that a
/// cap that cuts too many answers rises, and never learns itself.
#[derive(Clone, Debug)]
pub struct OutputCap {
    counts: [u16; BUCKETS],
    total: u32,
}

/// The cap before anything is known. The original API's own default (its documentation, 2026-11-22), doubled: long
/// enough for most answers, short enough to leave room for others.
const DEFAULT_CAP: u64 = 2_048;

/// The least cap: the contract's, and the original API's default.
const LEAST_CAP: u64 = 1_024;

/// A bucket holds the lengths up to a quarter of an octave longer than the one before; the first ends at 64 tokens,
/// the last beyond a million.
const BUCKETS: usize = 60;
const FIRST_OCTAVE: u32 = 6;
const BUCKETS_PER_OCTAVE: u32 = 4;

/// Chosen: below it a high percentile is a guess.
const ENOUGH: u32 = 50;

/// Where the counts are halved. Chosen: some hours of a busy free tier; a change of use shows after half as many.
const HALVED_AT: u32 = 1_000;

/// The share of answers that may be longer than the cap. Chosen: each costs its caller an end, while a higher cap costs
/// everybody the tokens that it holds.
const LONGER_PERCENT: u32 = 2;

/// How many answers, at least, the tightest limit has room for; the default cap needs no room. Chosen: one long answer
/// that holds a whole window starves everybody else.
const ANSWERS_PER_WINDOW: u64 = 4;

impl Default for OutputCap {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], total: 0 }
    }
}

impl OutputCap {
    /// Takes note of an answer of `tokens` whose request stated no cap; `own_cap` is the one that we sent for it.
    pub fn note(&mut self, tokens: u64, own_cap: Option<u64>) {
        // No upstream answers without a token; it has not said.
        if tokens == 0 {
            return;
        }
        let length = match own_cap {
            Some(cap) if tokens >= cap => cap.saturating_mul(2),
            _ => tokens,
        };
        if let Some(count) = self.counts.get_mut(bucket(length)) {
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
        if self.total >= HALVED_AT {
            self.halve();
        }
    }

    /// The cap to send and to reserve, in tokens: what all but a few answers stay below, and at least 1,024. `most` is
    /// what the model can write and wins; `tightest` is the least limit on tokens that the model is under.
    pub fn cap(&self, most: u64, tightest: u64) -> u64 {
        let learned = if self.total < ENOUGH { DEFAULT_CAP } else { self.percentile() };
        let share = (tightest / ANSWERS_PER_WINDOW).max(DEFAULT_CAP);
        learned.max(LEAST_CAP).min(share).min(most)
    }

    fn percentile(&self) -> u64 {
        let may_be_longer = self.total * LONGER_PERCENT / 100;
        let mut longer = 0;
        for (index, count) in self.counts.iter().enumerate().rev() {
            longer += u32::from(*count);
            if longer > may_be_longer {
                return upper_end(index);
            }
        }
        DEFAULT_CAP
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
    }
}

/// The first bucket that ends at `tokens` or later.
fn bucket(tokens: u64) -> usize {
    (0..BUCKETS).find(|&index| upper_end(index) >= tokens).unwrap_or(BUCKETS - 1)
}

/// The longest answer of a bucket, in tokens.
fn upper_end(index: usize) -> u64 {
    let index = u32::try_from(index).unwrap_or(0);
    let octave = 1_u64 << (FIRST_OCTAVE + index / BUCKETS_PER_OCTAVE);
    octave + octave / u64::from(BUCKETS_PER_OCTAVE) * u64::from(index % BUCKETS_PER_OCTAVE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NO_MOST: u64 = u64::MAX;
    const NO_LIMIT: u64 = u64::MAX;

    fn after(lengths: impl IntoIterator<Item = u64>) -> OutputCap {
        let mut cap = OutputCap::default();
        lengths.into_iter().for_each(|tokens| cap.note(tokens, None));
        cap
    }

    #[test]
    fn the_default_holds_until_enough_is_known() {
        assert_eq!(OutputCap::default().cap(NO_MOST, NO_LIMIT), 2_048);
        assert_eq!(after(vec![9_000; 49]).cap(NO_MOST, NO_LIMIT), 2_048);
        assert_eq!(after(vec![9_000; 50]).cap(NO_MOST, NO_LIMIT), 10_240);
    }

    #[test]
    fn short_answers_lower_it_to_the_least_and_the_models_maximum_wins() {
        assert_eq!(after(vec![80; 200]).cap(NO_MOST, NO_LIMIT), 1_024);
        assert_eq!(after(vec![80; 200]).cap(512, NO_LIMIT), 512);
        assert_eq!(OutputCap::default().cap(1_000, NO_LIMIT), 1_000);
        assert_eq!(after(vec![50_000; 200]).cap(8_192, NO_LIMIT), 8_192);
    }

    #[test]
    fn one_answer_never_holds_most_of_a_window() {
        let long = after(vec![50_000; 200]);
        assert_eq!(long.cap(NO_MOST, 40_000), 10_000);
        assert_eq!(long.cap(NO_MOST, 6_000), 2_048);
        assert_eq!(OutputCap::default().cap(NO_MOST, 6_000), 2_048);
    }

    #[test]
    fn a_few_long_answers_do_not_raise_it_for_all() {
        let lengths = |long: usize| (0..100).map(move |index| if index < long { 30_000 } else { 1_500 });
        assert_eq!(after(lengths(2)).cap(NO_MOST, NO_LIMIT), 1_536);
        assert!(after(lengths(3)).cap(NO_MOST, NO_LIMIT) >= 30_000);
    }

    #[test]
    fn answers_that_our_own_cap_cut_raise_it() {
        let mut cap = OutputCap::default();
        // A model that always writes 6,000 tokens: every answer is as long as we let it.
        for _ in 0..1_000 {
            let own = cap.cap(NO_MOST, NO_LIMIT);
            cap.note(own.min(6_000), Some(own));
        }
        assert!((6_000..=16_384).contains(&cap.cap(NO_MOST, NO_LIMIT)), "{}", cap.cap(NO_MOST, NO_LIMIT));
    }

    #[test]
    fn it_follows_a_change_of_use() {
        let mut cap = after(vec![20_000; 2_000]);
        assert!(cap.cap(NO_MOST, NO_LIMIT) >= 20_000);
        (0..5_000).for_each(|_| cap.note(200, None));
        assert_eq!(cap.cap(NO_MOST, NO_LIMIT), 1_024);
    }

    #[test]
    fn what_says_nothing_teaches_nothing() {
        assert_eq!(after(vec![0; 500]).cap(NO_MOST, NO_LIMIT), 2_048);
    }

    proptest! {
        #[test]
        fn most_answers_stay_below_it_and_it_stays_within_its_bounds(
            lengths in proptest::collection::vec(1_u64..1_800_000, 50..900),
            most in 1_024_u64..4_000_000,
        ) {
            let cap = after(lengths.iter().copied()).cap(most, NO_LIMIT);
            prop_assert!(cap >= 1_024 && cap <= most);
            let longer = lengths.iter().filter(|tokens| **tokens > cap).count();
            prop_assert!(cap == most || longer * 50 <= lengths.len());
        }

        #[test]
        fn a_length_is_in_the_bucket_that_covers_it(tokens in 1_u64..1_500_000) {
            let end = upper_end(bucket(tokens));
            prop_assert!(end >= tokens && end <= 64.max(tokens * 5 / 4 + 1));
        }
    }
}
