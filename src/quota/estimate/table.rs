//! The steps of all states as one table, so that a byte costs one load and no branch.

use super::class::Class;
use super::piece::Cost;
use super::state::State;
use crate::domain::input_tokens::InputTokens;

/// The classes of a state's row; a power of two, so that an index is put together by bits.
const ROW: usize = 32;

/// Where the next state's row begins, in the lowest bits of an entry; a cost of 10 bits each above.
const NEXT_MASK: u32 = 0x7ff;
const LARGE_SHIFT: u32 = 11;
const SMALL_SHIFT: u32 = 21;
const COST_MASK: u32 = 0x3ff;

/// Of an index into the steps: no other is ever made, but the compiler does not know that, and would check each.
const STEP_MASK: usize = State::COUNT * ROW - 1;

static CLASSES: [u8; 256] = classes();
static STEPS: [u32; State::COUNT * ROW] = steps();

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
const fn steps() -> [u32; State::COUNT * ROW] {
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

const fn entry(next: State, cost: Cost) -> u32 {
    assert!(next.index() < State::COUNT && cost.large <= COST_MASK && cost.small <= COST_MASK);
    (next.index() * ROW) as u32 | cost.large << LARGE_SHIFT | cost.small << SMALL_SHIFT
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
    let [a, b, c, d] = &mut lanes;
    let together = first.iter().zip(second).zip(third).zip(rest).take(lane_bytes);
    for (((first, second), third), fourth) in together {
        a.step(*first);
        b.step(*second);
        c.step(*third);
        d.step(*fourth);
    }
    rest.iter().skip(lane_bytes).for_each(|byte| d.step(*byte));
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
        self.large += u64::from(step >> LARGE_SHIFT & COST_MASK);
        self.small += u64::from(step >> SMALL_SHIFT);
    }
}
