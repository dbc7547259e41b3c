//! What a book promises, tried at random against judges that know nothing of how it is made.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::limit::{RequestsCharged, Scope, TokensCharged, Unit};
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::Usage;

use super::tests::{
    LONG_MINUTE, MINUTE, POOLED, SECOND, demand, exact, granted, parallel, per_minute, provider, refused,
    start,
};
use super::*;

const MICRO: Duration = Duration::from_micros(1);
const LATE: Duration = Duration::from_secs(5);

/// One thing that happens in a run.
#[derive(Clone, Debug)]
enum Step {
    Wait { millis: u64 },
    Reserve { input: u64, output: u64 },
    FirstByte { which: Index },
    Finish { which: Index, how: How, used_percent: u64, counted_at_percent: u32 },
}

#[derive(Clone, Copy, Debug)]
enum How {
    NotSent,
    Ended,
    EndedUnreported,
    Aborted,
    AbortedUnreported,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        1 => Just(How::NotSent),
        6 => Just(How::Ended),
        2 => Just(How::EndedUnreported),
        2 => Just(How::Aborted),
        2 => Just(How::AbortedUnreported),
    ];
    prop_oneof![
        4 => (0_u64..25_000).prop_map(|millis| Step::Wait { millis }),
        6 => (1_u64..250, 1_u64..250).prop_map(|(input, output)| Step::Reserve { input, output }),
        2 => any::<Index>().prop_map(|which| Step::FirstByte { which }),
        5 => (any::<Index>(), how, 0_u64..=100, 0_u32..=100).prop_map(
            |(which, how, used_percent, counted_at_percent)| {
                Step::Finish { which, how, used_percent, counted_at_percent }
            }
        ),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..120)
}

fn requests_charged() -> impl Strategy<Value = RequestsCharged> {
    prop_oneof![Just(RequestsCharged::Arrival), Just(RequestsCharged::Unknown)]
}

fn tokens_charged() -> impl Strategy<Value = TokensCharged> {
    prop_oneof![Just(TokensCharged::Reserve), Just(TokensCharged::Usage), Just(TokensCharged::Unknown)]
}

/// A provider under every kind of limit; tokens once exact and once in slots.
fn limited(accounts: usize, requests: RequestsCharged, tokens: TokensCharged) -> ProviderSpec {
    let mut spec = provider(
        accounts,
        vec![
            per_minute(Scope::Account, Unit::Requests, 4),
            per_minute(Scope::Account, Unit::Tokens, 1_100),
            per_minute(Scope::Pool("shared".to_owned()), Unit::InputTokens, 600),
            parallel(3),
        ],
    );
    spec.models[0].limits = vec![per_minute(Scope::Model, Unit::OutputTokens, 700)];
    (spec.requests_charged, spec.tokens_charged) = (requests, tokens);
    spec
}

/// An attempt as the world sees it.
struct Attempt {
    hold: Option<Hold>,
    granted_at: Moment,
    reserved: Usage,
    first_byte: Option<Moment>,
}

/// A run of a book: its open attempts, and what upstream's judges counted.
struct Run {
    book: Book,
    spec: ProviderSpec,
    now: Moment,
    open: Vec<Attempt>,
    requests: Vec<(usize, Moment, u64)>,
    /// As an upstream counts that charges what was reserved, and as one that charges what was used.
    by_reserve: Vec<(usize, Moment, Usage)>,
    by_usage: Vec<(usize, Moment, Usage)>,
    calls: Vec<(usize, Moment, Moment)>,
}

impl Run {
    fn new(spec: ProviderSpec) -> Self {
        Self {
            book: Book::new(&spec),
            spec,
            now: start(),
            open: Vec::new(),
            requests: Vec::new(),
            by_reserve: Vec::new(),
            by_usage: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// Runs all steps and then ends what is still open.
    fn finish(mut self, steps: &[Step]) -> Self {
        steps.iter().for_each(|step| self.step(step));
        while let Some(attempt) = self.open.pop() {
            self.close(attempt, How::Ended, 100, 100);
        }
        self
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait { millis } => self.now = self.now + Duration::from_millis(*millis),
            Step::Reserve { input, output } => self.reserve(*input, *output),
            Step::FirstByte { which } if !self.open.is_empty() => {
                let attempt = which.index(self.open.len());
                let attempt = &mut self.open[attempt];
                self.book.first_byte(self.now, attempt.hold.as_mut().unwrap());
                attempt.first_byte.get_or_insert(self.now);
            }
            Step::Finish { which, how, used_percent, counted_at_percent } if !self.open.is_empty() => {
                let attempt = self.open.swap_remove(which.index(self.open.len()));
                self.close(attempt, *how, *used_percent, *counted_at_percent);
            }
            Step::FirstByte { .. } | Step::Finish { .. } => {}
        }
    }

    fn reserve(&mut self, input: u64, output: u64) {
        let before = self.book.snapshot(self.now);
        match self.book.reserve(self.now, &demand(POOLED, input, output)) {
            Answer::Granted(hold) => self.open.push(Attempt {
                hold: Some(hold),
                granted_at: self.now,
                reserved: Usage { input_tokens: input, output_tokens: output },
                first_byte: None,
            }),
            Answer::Refused(refusal) => {
                assert_eq!(self.book.snapshot(self.now), before, "a refusal takes nothing");
                assert!(matches!(refusal, Refusal::NotUntil(instant) if instant > self.now), "{refusal:?}");
            }
            Answer::Pending(ticket) => panic!("{ticket:?} from a book in memory"),
        }
    }

    /// Ends an attempt and lets the judges count it at an instant that the hold rule allows for.
    fn close(&mut self, mut attempt: Attempt, how: How, used_percent: u64, counted_at_percent: u32) {
        let used = Usage {
            input_tokens: attempt.reserved.input_tokens * used_percent / 100,
            output_tokens: attempt.reserved.output_tokens * used_percent / 100,
        };
        // What we saw of an answer without a report is at most what was used.
        let seen = Usage { input_tokens: 0, output_tokens: used.output_tokens / 2 };
        let hold = attempt.hold.take().unwrap();
        let (account, send_by) = (hold.account().0, hold.send_by());
        let (spent, end, closed) = match how {
            How::NotSent => return self.book.settle(self.now, hold, Spent::NotSent),
            How::Ended => (Spent::Ended(Charge::Exact(used)), Duration::ZERO, SECOND / 10),
            How::EndedUnreported => (Spent::Ended(Charge::AtLeast(seen)), Duration::ZERO, SECOND / 10),
            How::Aborted => (Spent::Aborted(Charge::Exact(used)), LATE, LATE),
            How::AbortedUnreported => (Spent::Aborted(Charge::AtLeast(seen)), LATE, LATE),
        };
        self.book.settle(self.now, hold, spent);
        let last_end = self.now + end;
        let answered = attempt.first_byte.unwrap_or(last_end);
        let arrived = match self.spec.requests_charged {
            RequestsCharged::Arrival => answered.min(send_by + LATE),
            RequestsCharged::Unknown => answered,
        };
        let between = |last: Moment| {
            attempt.granted_at + last.saturating_since(attempt.granted_at) * counted_at_percent / 100
        };
        self.requests.push((account, between(arrived), 1));
        let capped = Usage { output_tokens: attempt.reserved.output_tokens, ..used };
        let reserve_last = match self.spec.tokens_charged {
            TokensCharged::Reserve => arrived,
            TokensCharged::Usage | TokensCharged::Unknown => last_end,
        };
        self.by_reserve.push((account, between(reserve_last), capped));
        self.by_usage.push((account, between(last_end), used));
        self.calls.push((account, attempt.granted_at, self.now + closed));
    }

    /// Whether no budget was ever overdrawn, on any account, in any window, by any fitting interpretation.
    fn judge(&self) {
        for account in 0..self.spec.accounts.len() {
            judge_window(account, &self.requests, |one| *one, 4);
            let (reserve, usage) = match self.spec.tokens_charged {
                TokensCharged::Reserve => (true, false),
                TokensCharged::Usage => (false, true),
                TokensCharged::Unknown => (true, true),
            };
            for (counts, applies) in [(&self.by_reserve, reserve), (&self.by_usage, usage)] {
                if applies {
                    judge_window(account, counts, |usage| usage.total_tokens(), 1_100);
                    judge_window(account, counts, |usage| usage.input_tokens, 600);
                    judge_window(account, counts, |usage| usage.output_tokens, 700);
                }
            }
            for (_, opened, _) in self.calls.iter().filter(|call| call.0 == account) {
                let open = |call: &&(usize, Moment, Moment)| {
                    call.0 == account && call.1 <= *opened && *opened < call.2
                };
                assert!(self.calls.iter().filter(open).count() <= 3, "too many calls open at {opened:?}");
            }
        }
    }
}

/// Every window of a minute, ends included, that begins with a count.
fn judge_window<T>(account: usize, counts: &[(usize, Moment, T)], amount: impl Fn(&T) -> u64, max: u64) {
    for (_, first, _) in counts.iter().filter(|count| count.0 == account) {
        let inside = counts.iter().filter(|(whose, at, _)| {
            *whose == account && *at >= *first && at.saturating_since(*first) <= MINUTE
        });
        let sum: u64 = inside.map(|(_, _, counted)| amount(counted)).sum();
        assert!(sum <= max, "{sum} in the minute from {first:?}, {max} allowed");
    }
}

/// A log that keeps everything for good and adds up what matters at each question.
#[derive(Default)]
struct NaiveLog(Vec<NaiveEntry>);

struct NaiveEntry {
    tokens: u64,
    request_until: Option<Moment>,
    tokens_until: Option<Moment>,
}

impl NaiveLog {
    fn has_room(&self, now: Moment, tokens: u64) -> bool {
        let counts = |until: Option<Moment>| until.is_none_or(|until| until > now);
        let requests = self.0.iter().filter(|entry| counts(entry.request_until)).count();
        let held: u64 =
            self.0.iter().filter(|entry| counts(entry.tokens_until)).map(|entry| entry.tokens).sum();
        requests < 4 && held + tokens <= 1_000
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_window_ever_sees_more_than_the_limit(
        steps in steps(), accounts in 1_usize..3, requests in requests_charged(), tokens in tokens_charged(),
    ) {
        let run = Run::new(limited(accounts, requests, tokens)).finish(&steps);
        run.judge();
        prop_assert_eq!(run.book.open_holds(), 0);
        let forgotten = run.book.snapshot(run.now + LATE + LATE + LONG_MINUTE);
        prop_assert!(forgotten.budgets.iter().all(|budget| budget.held == 0), "{:?}", forgotten);
    }

    #[test]
    fn grants_are_those_of_a_naive_log(steps in steps()) {
        let limits = vec![
            per_minute(Scope::Account, Unit::Requests, 4),
            per_minute(Scope::Account, Unit::Tokens, 1_000),
        ];
        let mut book = Book::new(&provider(1, limits));
        let (mut naive, mut now) = (NaiveLog::default(), start());
        let mut open: Vec<(usize, Hold)> = Vec::new();
        for step in &steps {
            match step {
                Step::Wait { millis } => now = now + Duration::from_millis(*millis),
                Step::Reserve { input, output } => {
                    let answer = book.reserve(now, &demand(POOLED, *input, *output));
                    let is_granted = matches!(answer, Answer::Granted(_));
                    prop_assert_eq!(is_granted, naive.has_room(now, input + output), "{:?} at {:?}", answer, now);
                    if let Answer::Granted(hold) = answer {
                        open.push((naive.0.len(), hold));
                        let tokens = input + output;
                        naive.0.push(NaiveEntry { tokens, request_until: None, tokens_until: None });
                    }
                }
                Step::FirstByte { which } if !open.is_empty() => {
                    let (entry, hold) = { let at = which.index(open.len()); &mut open[at] };
                    book.first_byte(now, hold);
                    naive.0[*entry].request_until.get_or_insert(now + LONG_MINUTE);
                }
                Step::Finish { which, how, used_percent, .. } if !open.is_empty() => {
                    let (entry, hold) = open.swap_remove(which.index(open.len()));
                    let entry = &mut naive.0[entry];
                    // Up to three times the estimate, so that there is debt.
                    let used = entry.tokens * used_percent * 3 / 100;
                    let (spent, end, tokens) = match how {
                        How::NotSent => (Spent::NotSent, now, 0),
                        How::Ended => (Spent::Ended(exact(used, 0)), now + LONG_MINUTE, used),
                        How::Aborted => (Spent::Aborted(exact(used, 0)), now + LATE + LONG_MINUTE, used),
                        How::EndedUnreported => {
                            (Spent::Ended(Charge::AtLeast(Usage::default())), now + LONG_MINUTE, entry.tokens)
                        }
                        How::AbortedUnreported => {
                            let spent = Spent::Aborted(Charge::AtLeast(Usage::default()));
                            (spent, now + LATE + LONG_MINUTE, entry.tokens)
                        }
                    };
                    book.settle(now, hold, spent);
                    entry.tokens = tokens;
                    entry.tokens_until = Some(end);
                    if matches!(how, How::NotSent) {
                        entry.request_until = Some(now);
                    }
                    entry.request_until.get_or_insert(end);
                }
                Step::FirstByte { .. } | Step::Finish { .. } => {}
            }
        }
    }

    #[test]
    fn a_refusal_of_what_is_settled_tells_the_exact_instant(
        steps in steps(), accounts in 1_usize..3, tokens in tokens_charged(), input in 1_u64..600,
        cooling in 0_u64..90,
    ) {
        let mut run = Run::new(limited(accounts, RequestsCharged::Unknown, tokens)).finish(&steps);
        let cooling_until = run.now + SECOND * u32::try_from(cooling).unwrap();
        run.book.cool_down(AccountIndex(0), None, cooling_until, CooldownReason::RateLimited);
        let wanted = demand(POOLED, input, 500);
        if let Answer::Refused(refusal) = run.book.reserve(run.now, &wanted) {
            let Refusal::NotUntil(instant) = refusal else { panic!("{refusal:?}") };
            prop_assert_eq!(refused(run.book.reserve(instant - MICRO, &wanted)), refusal);
            let hold = granted(run.book.reserve(instant, &wanted));
            run.book.settle(instant, hold, Spent::NotSent);
        }
    }

    #[test]
    fn reserving_too_much_and_settling_exactly_equals_paying_at_once(
        paid in prop::collection::vec((1_u64..150, 1_u64..150, 0_u64..30), 1..40),
    ) {
        let spec = || limited(1, RequestsCharged::Unknown, TokensCharged::Usage);
        let (mut estimating, mut paying) = (Book::new(&spec()), Book::new(&spec()));
        let mut now = start();
        for (input, output, seconds) in paid {
            now = now + SECOND * u32::try_from(seconds).unwrap();
            let used = demand(POOLED, input, output);
            if let Answer::Granted(hold) = estimating.reserve(now, &demand(POOLED, input * 2, output * 3)) {
                let at_once = granted(paying.reserve(now, &used));
                estimating.settle(now, hold, Spent::Ended(exact(input, output)));
                paying.settle(now, at_once, Spent::Ended(exact(input, output)));
            }
            prop_assert_eq!(estimating.snapshot(now), paying.snapshot(now));
            let answers = [&mut estimating, &mut paying].map(|book| match book.reserve(now, &used) {
                Answer::Granted(hold) => {
                    book.settle(now, hold, Spent::NotSent);
                    None
                }
                Answer::Refused(refusal) => Some(refusal),
                Answer::Pending(ticket) => panic!("{ticket:?}"),
            });
            prop_assert_eq!(answers[0], answers[1]);
        }
    }

    #[test]
    fn what_was_not_sent_leaves_no_trace(
        steps in steps(), requests in requests_charged(), tokens in tokens_charged(), wait in 0_u64..70,
    ) {
        let mut run = Run::new(limited(2, requests, tokens));
        steps.iter().for_each(|step| run.step(step));
        let before = run.book.snapshot(run.now);
        let later = run.now + SECOND * u32::try_from(wait).unwrap();
        let expected = run.book.snapshot(later);
        if let Answer::Granted(hold) = run.book.reserve(run.now, &demand(POOLED, 20, 20)) {
            prop_assert_ne!(&run.book.snapshot(run.now), &before);
            run.book.settle(later, hold, Spent::NotSent);
        }
        prop_assert_eq!(run.book.snapshot(later), expected);
    }

    #[test]
    fn a_clock_that_steps_back_grants_and_releases_nothing(
        steps in steps(), back in 1_u64..200, tokens in tokens_charged(),
    ) {
        let mut run = Run::new(limited(1, RequestsCharged::Unknown, tokens)).finish(&steps);
        let wanted = demand(POOLED, 500, 500);
        let earlier = run.now - SECOND * u32::try_from(back).unwrap();
        if let Answer::Refused(refusal) = run.book.reserve(run.now, &wanted) {
            prop_assert_eq!(refused(run.book.reserve(earlier, &wanted)), refusal);
        }
        let before = run.book.snapshot(run.now);
        prop_assert_eq!(&run.book.snapshot(earlier), &before);
        // What is reserved and settled on the stepped-back clock is held as if it had stood still.
        if let Answer::Granted(mut hold) = run.book.reserve(earlier, &demand(POOLED, 1, 1)) {
            prop_assert_eq!(hold.send_by(), run.now + SECOND);
            run.book.first_byte(earlier, &mut hold);
            run.book.settle(earlier, hold, Spent::Ended(exact(1, 1)));
            let last_moment = run.book.snapshot(run.now + LONG_MINUTE - MICRO);
            prop_assert_eq!(last_moment.budgets[0].held > 0, true);
        }
    }
}
