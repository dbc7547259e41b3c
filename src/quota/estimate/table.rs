//! The steps of all states as one table, so that a byte costs one load and no branch.

use super::class::Class;
use super::piece::Cost;
use super::state::State;
use crate::domain::input_tokens::InputTokens;

/// The classes of a state's row; a power of two, so that an index is put together by bits.
const ROW: usize = 32;

/// An entry holds where the next state's row begins, in the lowest 11 bits, and two costs of 10 bits each. Above each
/// are 11 bits of room, so that entries are added up as they are, and taken apart once for many of them.
const NEXT_MASK: u64 = 0x7ff;
const LARGE_SHIFT: u32 = 22;
const SMALL_SHIFT: u32 = 43;
const COST_MASK: u32 = 0x3ff;

/// As many entries fit into one sum.
const ENTRIES_MAX: usize = 1 << 11;
/// Of a sum: what was added up of the costs.
const LARGE_SUM_MASK: u64 = 0x1f_ffff;

/// Of an index into the steps: no other is ever made, but the compiler does not know that, and would check each.
const STEP_MASK: usize = State::COUNT * ROW - 1;

static CLASSES: [u8; 256] = classes();
static STEPS: [u64; State::COUNT * ROW] = steps();

#[expect(clippy::indexing_slicing, reason = "runs at compile time, where a panic is a failed build")]
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = Class::of(byte as u8) as u8;
        byte += 1;
    }
    classes
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time, where a panic is a failed build")]
const fn steps() -> [u64; State::COUNT * ROW] {
    let mut steps = [0; State::COUNT * ROW];
    let mut state = 0;
    while state < State::COUNT {
        let mut class = 0;
        while class < Class::COUNT {
            let (next, piece) = State::at(state as u8).step(Class::ALL[class]);
            steps[state * ROW + class] = entry(next, piece.cost());
            class += 1;
        }
        state += 1;
    }
    steps
}

const fn entry(next: State, cost: Cost) -> u64 {
    assert!(next.index() < State::COUNT && cost.large <= COST_MASK && cost.small <= COST_MASK);
    (next.index() * ROW) as u64 | (cost.large as u64) << LARGE_SHIFT | (cost.small as u64) << SMALL_SHIFT
}

/// Bytes are read in so many places of a text at once: a step needs the one before it, so that one place alone would
/// leave the processor waiting most of the time (measured: three times as long).
const LANES: usize = 4;

/// Shorter texts are not worth the seams.
const LANES_FROM_BYTES: usize = 256;

/// What a lane looks back over to know in which state it begins: the longest word whose positions are told apart, and
/// the character before it.
const LOOK_BACK_BYTES: usize = 16;

/// The hundredths of tokens of `text`, by both vocabularies.
pub(super) fn hundredths(text: &[u8]) -> InputTokens {
    let lane_bytes = if text.len() < LANES_FROM_BYTES { 0 } else { text.len() / LANES };
    let part = |index: usize| text.get(index * lane_bytes..).unwrap_or_default();
    let [first, second, third, rest] = [0, 1, 2, 3].map(part);
    let mut lanes = [0, 1, 2, 3].map(|index| Lane::at(text, index * lane_bytes));
    let [first, second, third, fourth] = [first, second, third, rest]
        .map(|part| part.get(..lane_bytes).unwrap_or_default().chunks(ENTRIES_MAX));
    for (((first, second), third), fourth) in first.zip(second).zip(third).zip(fourth) {
        let [a, b, c, d] = &mut lanes;
        for (((first, second), third), fourth) in first.iter().zip(second).zip(third).zip(fourth) {
            a.step(*first);
            b.step(*second);
            c.step(*third);
            d.step(*fourth);
        }
        lanes.iter_mut().for_each(Lane::take_apart);
    }
    let [.., last] = &mut lanes;
    for chunk in rest.get(lane_bytes..).unwrap_or_default().chunks(ENTRIES_MAX) {
        chunk.iter().for_each(|byte| last.step(*byte));
        last.take_apart();
    }
    InputTokens {
        large: lanes.iter().map(|lane| lane.large).sum(),
        small: lanes.iter().map(|lane| lane.small).sum(),
        images: 0,
    }
}

/// One place in a text, and the hundredths of tokens from where it began.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    row: usize,
    /// Of the entries since the last time that it was taken apart.
    sum: u64,
    large: u64,
    small: u64,
}

impl Lane {
    /// Begins at `start` of `text`, in the state that the bytes before it lead to.
    fn at(text: &[u8], start: usize) -> Self {
        let before = text.get(start.saturating_sub(LOOK_BACK_BYTES)..start).unwrap_or_default();
        let mut lane = Self { row: State::START.index() * ROW, ..Self::default() };
        before.iter().for_each(|byte| lane.step(*byte));
        Self { row: lane.row, ..Self::default() }
    }

    #[inline]
    fn step(&mut self, byte: u8) {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or_default();
        let step = STEPS.get((self.row | usize::from(class)) & STEP_MASK).copied().unwrap_or_default();
        self.row = (step & NEXT_MASK) as usize;
        self.sum += step;
    }

    /// At the latest after `ENTRIES_MAX` steps.
    fn take_apart(&mut self) {
        let sum = std::mem::take(&mut self.sum);
        self.large += sum >> LARGE_SHIFT & LARGE_SUM_MASK;
        self.small += sum >> SMALL_SHIFT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One lane, whose sum is taken apart after every step.
    fn one_by_one(text: &[u8]) -> InputTokens {
        let mut lane = Lane::at(text, 0);
        for byte in text {
            lane.step(*byte);
            lane.take_apart();
        }
        InputTokens { large: lane.large, small: lane.small, images: 0 }
    }

    #[test]
    fn however_long_a_text_is_nothing_of_its_sum_is_lost() {
        let most = STEPS.iter().map(|step| step >> SMALL_SHIFT).max().unwrap();
        assert!(most * ENTRIES_MAX as u64 <= u64::MAX >> SMALL_SHIFT);
        for run in ["a b ", "\u{1f600}", "\u{4e00}", "é~", "{\"k\":1}\n", "\0\x7f"] {
            let text = run.repeat(40_000 / run.len());
            assert_eq!(hundredths(text.as_bytes()), one_by_one(text.as_bytes()), "{run:?}");
        }
    }
}
