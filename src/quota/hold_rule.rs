//! The hold rule: how much an attempt holds of one limit, and until when, given all that is known of it.
//!
//! What an upstream's counter does, and when, is unknown; only that it counts an attempt between our first byte
//! out and the event named by [`Counted`]. So the units are held from the reservation until the limit's window
//! after the last instant at which upstream can have counted them. Then no window of that length, aligned or
//! sliding, on any clock, sees more than the limit's maximum.
//!
//! Pure functions of what is known: each event in an attempt's life calls [`held`] again.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::limit::{RequestsCharged, TokensCharged, Unit};
use crate::domain::price::Price;
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::domain::usage::Usage;

use super::span::Span;
use super::spent::{Charge, Spent};

/// How long after our abort, or after the last byte out, upstream may still count.
/// Source: the contract's hold rule. It leaves room for a lost close to be sent again twice (1 s, then 2 s), and
/// for what upstream has queued in front of its counter; `docs/QUOTAS.md` lists it as an assumption.
pub const LATE_COUNT: Duration = Duration::from_secs(5);

/// How long after the end of an answer upstream may still see the call as open.
/// Source: the contract's hold rule. Upstream sends the last byte before its own books are closed.
pub(super) const CLOSE_DELAY: Duration = Duration::from_millis(100);

/// How often an open attempt is worth looking at for units that it may give back.
/// Source: the contract says that a refused demand is asked again at least every second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// No attempt counts for more tokens than this: reported usage is a claim, and sums must not overflow.
/// Chosen: a million times the largest context windows, and 2^24 such attempts still fit into 64 bits.
const MAX_TOKENS: u64 = 1 << 40;

/// No attempt costs more millionths of a credit than this, for the same reason.
/// Chosen: a thousand million credits, and 2^14 such attempts still fit into 64 bits.
const MAX_MICRO_CREDITS: u64 = 1 << 50;

/// How a provider charges for a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charging {
    pub(super) requests: RequestsCharged,
    pub(super) tokens: TokensCharged,
    pub(super) price: Price,
}

impl Charging {
    /// A model without a price costs nothing: the configuration allows none under a limit on credits.
    pub(super) fn of(spec: &ProviderSpec, model: &ModelSpec) -> Self {
        let (requests, tokens) = (spec.requests_charged, spec.tokens_charged);
        Self { requests, tokens, price: model.price.unwrap_or_default() }
    }

    /// How many of a limit's units that usage is.
    pub(super) fn units(self, unit: Unit, usage: Usage) -> u64 {
        match unit {
            Unit::Requests | Unit::Parallel => 1,
            Unit::Tokens => usage.total_tokens().min(MAX_TOKENS),
            Unit::InputTokens => usage.input_tokens.min(MAX_TOKENS),
            Unit::OutputTokens => usage.output_tokens.min(MAX_TOKENS),
            Unit::Credits => self.price.of(usage).min(MAX_MICRO_CREDITS),
        }
    }
}

/// What is known of an attempt so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// What the grant took.
    pub(super) reserved: Usage,
    /// The latest instant of sending.
    pub(super) send_by: Moment,
    /// When the first byte of the answer arrived.
    pub(super) first_byte: Option<Moment>,
    pub(super) finish: Option<Finish>,
}

impl Course {
    /// Of an attempt that was just granted.
    pub(super) fn reserved(reserved: Usage, send_by: Moment) -> Self {
        Self { reserved, send_by, first_byte: None, finish: None }
    }
}

/// How and when an attempt that was sent came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Ended(Moment, Charge),
    Aborted(Moment, Charge),
}

impl Finish {
    /// `None` when nothing was sent, so that there is nothing to hold.
    pub fn of(spent: Spent, now: Moment) -> Option<Self> {
        match spent {
            Spent::NotSent => None,
            Spent::Ended(charge) => Some(Self::Ended(now, charge)),
            Spent::Aborted(charge) => Some(Self::Aborted(now, charge)),
        }
    }

    pub fn charge(self) -> Charge {
        match self {
            Self::Ended(_, charge) | Self::Aborted(_, charge) => charge,
        }
    }

    /// The end, or `after_end` later, or [`LATE_COUNT`] after an abort.
    fn last_instant(self, after_end: Duration) -> Moment {
        match self {
            Self::Ended(at, _) => at + after_end,
            Self::Aborted(at, _) => at + LATE_COUNT,
        }
    }
}

/// What an attempt holds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// In the limit's unit.
    pub(super) amount: u64,
    /// Free again at this instant; `None` while nobody knows.
    pub(super) until: Option<Moment>,
    /// How much of `amount` may come back at once when the attempt ends.
    pub(super) returnable: u64,
    /// Whether the attempt goes on, so that this may change.
    pub(super) is_open: bool,
}

/// What an attempt with this course holds of a limit on `unit` over `span`.
pub(super) fn held(unit: Unit, span: &Span, charging: Charging, course: &Course) -> Held {
    let used = charged(charging.tokens, course);
    let until = last_count(unit, charging, course).map(|last| span.release(last));
    let is_open = course.finish.is_none();
    let returnable = if is_open { returnable(unit, charging, course.reserved) } else { 0 };
    Held { amount: charging.units(unit, used), until, returnable, is_open }
}

/// The earliest instant at which asking again for what open attempts may give back makes sense.
pub(super) fn next_look(now: Moment) -> Moment {
    now + LOOK_AGAIN
}

/// By which event of an attempt upstream has counted it.
enum Counted {
    ByFirstByte,
    ByEnd,
    /// For as long as the call is open.
    WhileOpen,
}

fn counted(unit: Unit, tokens: TokensCharged) -> Counted {
    match (unit, tokens) {
        (Unit::Requests, _) => Counted::ByFirstByte,
        (Unit::Parallel, _) => Counted::WhileOpen,
        (_, TokensCharged::Reserve) => Counted::ByFirstByte,
        (_, TokensCharged::Usage | TokensCharged::Unknown) => Counted::ByEnd,
    }
}

/// The last instant at which upstream can have counted the attempt; `None` while it is not known.
pub(super) fn last_count(unit: Unit, charging: Charging, course: &Course) -> Option<Moment> {
    match counted(unit, charging.tokens) {
        Counted::ByFirstByte => by_first_byte(charging.requests, course),
        Counted::ByEnd => course.finish.map(|finish| finish.last_instant(Duration::ZERO)),
        Counted::WhileOpen => course.finish.map(|finish| finish.last_instant(CLOSE_DELAY)),
    }
}

fn by_first_byte(requests: RequestsCharged, course: &Course) -> Option<Moment> {
    let at_the_end = course.finish.map(|finish| finish.last_instant(Duration::ZERO));
    let answered = course.first_byte.or(at_the_end);
    match requests {
        RequestsCharged::Unknown => answered,
        RequestsCharged::Arrival => {
            let arrived = course.send_by + LATE_COUNT;
            Some(answered.map_or(arrived, |answered| answered.min(arrived)))
        }
    }
}

/// The tokens that the attempt counts for: the reservation, until its end corrects it.
///
/// `AtLeast` keeps the larger of reservation and count for input and output each: their sum is then an upper
/// edge too, which the larger of the two sums would not be.
fn charged(tokens: TokensCharged, course: &Course) -> Usage {
    let reserved = course.reserved;
    match (tokens, course.finish.map(Finish::charge)) {
        (_, None) => reserved,
        (TokensCharged::Usage, Some(Charge::Exact(usage))) => usage,
        // The cap stays charged. Unknown: of both counts this is never the smaller one.
        (TokensCharged::Reserve | TokensCharged::Unknown, Some(Charge::Exact(usage))) => {
            Usage { output_tokens: usage.output_tokens.max(reserved.output_tokens), ..usage }
        }
        (_, Some(Charge::AtLeast(usage))) => Usage {
            input_tokens: usage.input_tokens.max(reserved.input_tokens),
            output_tokens: usage.output_tokens.max(reserved.output_tokens),
        },
    }
}

/// How much of an open attempt's units its end may give back at once: what an exact report of nothing would.
fn returnable(unit: Unit, charging: Charging, reserved: Usage) -> u64 {
    let kept = match charging.tokens {
        TokensCharged::Usage => Usage::default(),
        TokensCharged::Reserve | TokensCharged::Unknown => Usage { input_tokens: 0, ..reserved },
    };
    match unit {
        Unit::Parallel => 1,
        _ => charging.units(unit, reserved).saturating_sub(charging.units(unit, kept)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span::Sliding(Duration::from_secs(60));
    const PRICE: Price = Price { per_request: 1_000, per_1k_input: 2_000, per_1k_output: 4_000 };
    const ESTIMATE: Usage = Usage { input_tokens: 100, output_tokens: 50 };
    const REPORT: Usage = Usage { input_tokens: 80, output_tokens: 10 };
    const EXACT: Charge = Charge::Exact(REPORT);

    fn second(second: i64) -> Moment {
        Moment::from_unix_micros(second * 1_000_000)
    }

    /// Sent between second 0 and 1.
    fn course(first_byte: Option<i64>, finish: Option<Finish>) -> Course {
        Course { reserved: ESTIMATE, send_by: second(1), first_byte: first_byte.map(second), finish }
    }

    fn ended(at: i64, charge: Charge) -> Option<Finish> {
        Some(Finish::Ended(second(at), charge))
    }

    fn aborted(at: i64, charge: Charge) -> Option<Finish> {
        Some(Finish::Aborted(second(at), charge))
    }

    fn until(
        unit: Unit,
        requests: RequestsCharged,
        tokens: TokensCharged,
        course: &Course,
    ) -> Option<Moment> {
        held(unit, &WINDOW, Charging { requests, tokens, price: PRICE }, course).until
    }

    fn amount(unit: Unit, tokens: TokensCharged, finish: Option<Finish>) -> u64 {
        let charging = Charging { requests: RequestsCharged::Unknown, tokens, price: PRICE };
        held(unit, &WINDOW, charging, &course(None, finish)).amount
    }

    #[test]
    fn requests_are_held_until_a_window_after_the_first_byte() {
        let cases = [
            // first byte, finish, unknown, arrival (at the latest 5 s after sending, so 6 + 60)
            (None, None, None, Some(66)),
            (Some(3), None, Some(63), Some(63)),
            (Some(30), None, Some(90), Some(66)),
            (Some(3), ended(40, EXACT), Some(63), Some(63)),
            (None, ended(40, EXACT), Some(100), Some(66)),
            (None, aborted(40, EXACT), Some(105), Some(66)),
            (None, aborted(0, EXACT), Some(65), Some(65)),
            (Some(3), aborted(40, EXACT), Some(63), Some(63)),
        ];
        for (first_byte, finish, unknown, arrival) in cases {
            let course = course(first_byte, finish);
            // Tokens that are charged as reserved are counted at the same instants.
            for unit in [Unit::Requests, Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Credits] {
                let until = |requests| until(unit, requests, TokensCharged::Reserve, &course);
                assert_eq!(until(RequestsCharged::Unknown), unknown.map(second), "{course:?}");
                assert_eq!(until(RequestsCharged::Arrival), arrival.map(second), "{course:?}");
            }
        }
    }

    #[test]
    fn tokens_by_usage_are_held_until_a_window_after_the_end() {
        for tokens in [TokensCharged::Usage, TokensCharged::Unknown] {
            for unit in [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Credits] {
                let until = |finish| until(unit, RequestsCharged::Arrival, tokens, &course(Some(3), finish));
                assert_eq!(until(None), None);
                assert_eq!(until(ended(40, EXACT)), Some(second(100)));
                assert_eq!(until(aborted(40, EXACT)), Some(second(105)));
            }
        }
    }

    #[test]
    fn a_parallel_slot_is_held_a_little_longer_than_the_call() {
        let charging =
            Charging { requests: RequestsCharged::Arrival, tokens: TokensCharged::Reserve, price: PRICE };
        let held = |finish| held(Unit::Parallel, &Span::InFlight, charging, &course(Some(3), finish));
        assert_eq!((held(None).amount, held(None).until, held(None).returnable), (1, None, 1));
        assert_eq!(held(ended(4, EXACT)).until, Some(second(4) + Duration::from_millis(100)));
        assert_eq!(held(aborted(4, EXACT)).until, Some(second(9)));
    }

    #[test]
    fn reports_replace_the_estimate_as_far_as_upstream_gives_back() {
        use TokensCharged::{Reserve, Unknown, Usage as Used};
        let at_least =
            |input_tokens, output_tokens| ended(9, Charge::AtLeast(Usage { input_tokens, output_tokens }));
        let cases = [
            // finish, tokens, input, output
            (Used, None, 150, 100, 50),
            (Used, ended(9, EXACT), 90, 80, 10),
            (Used, aborted(9, EXACT), 90, 80, 10),
            (Used, at_least(80, 10), 150, 100, 50),
            (Used, at_least(120, 10), 170, 120, 50),
            (Reserve, None, 150, 100, 50),
            (Reserve, ended(9, EXACT), 130, 80, 50),
            (Reserve, at_least(80, 70), 170, 100, 70),
            (Unknown, ended(9, EXACT), 130, 80, 50),
            (Unknown, at_least(80, 10), 150, 100, 50),
        ];
        for (charged, finish, tokens, input, output) in cases {
            let amounts = [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens]
                .map(|unit| amount(unit, charged, finish));
            assert_eq!(amounts, [tokens, input, output], "{charged:?} {finish:?}");
            let credits = 1_000 + input * 2 + output * 4;
            assert_eq!(amount(Unit::Credits, charged, finish), credits, "{charged:?} {finish:?}");
        }
    }

    #[test]
    fn use_above_the_cap_is_charged_and_absurd_reports_are_bounded() {
        let huge = Charge::Exact(Usage { input_tokens: u64::MAX, output_tokens: u64::MAX });
        for tokens in [TokensCharged::Usage, TokensCharged::Reserve, TokensCharged::Unknown] {
            assert_eq!(amount(Unit::Tokens, tokens, ended(9, huge)), MAX_TOKENS);
            assert_eq!(amount(Unit::Credits, tokens, ended(9, huge)), MAX_MICRO_CREDITS);
        }
    }

    #[test]
    fn what_may_come_back_is_what_an_exact_report_of_nothing_would_give_back() {
        let units = [
            Unit::Requests,
            Unit::Tokens,
            Unit::InputTokens,
            Unit::OutputTokens,
            Unit::Credits,
            Unit::Parallel,
        ];
        for (tokens, expected) in [
            (TokensCharged::Usage, [0, 150, 100, 50, 400, 1]),
            (TokensCharged::Reserve, [0, 100, 100, 0, 200, 1]),
            (TokensCharged::Unknown, [0, 100, 100, 0, 200, 1]),
        ] {
            let charging = Charging { requests: RequestsCharged::Unknown, tokens, price: PRICE };
            let open = course(None, None);
            let returnable = units.map(|unit| held(unit, &WINDOW, charging, &open).returnable);
            assert_eq!(returnable, expected, "{tokens:?}");
        }
    }
}
