//! Some replicas lease, ask exactly, settle and crash at random, on a ledger that only adds up; an independent list of
//! what upstream can have counted, and when, says whether any window saw too much.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::db::shared_ledger::Claim;
use crate::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged, Unit, Window};
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::Usage;
use crate::ledger::fixture::{names, spec};
use crate::ledger::shared::budgets::{self, Budgets, Past};
use crate::ledger::shared::lease_policy::PAUSE;
use crate::quota::{Charge, Demand, Finish, HoldRecord};

const REPLICAS: usize = 3;
const MODEL: ModelIndex = ModelIndex(0);
const ACCOUNT: AccountIndex = AccountIndex(0);
const WINDOW: Duration = Duration::from_secs(4);
const REQUESTS: u64 = 640;
const TOKENS: u64 = 64_000;
/// After an abort upstream may count for so long.
const LATE: Duration = Duration::from_secs(5);

fn limits() -> [Limit; 2] {
    let limit = |unit, max| Limit { scope: Scope::Account, unit, max, window: Window::Sliding(WINDOW) };
    [limit(Unit::Requests, REQUESTS), limit(Unit::Tokens, TOKENS)]
}

/// One claim's part in one limit, as the ledger holds it.
struct Held {
    unit: Unit,
    amount: u64,
    free_at: Moment,
}

/// What the SQL functions keep, in the plainest way.
#[derive(Default)]
struct Ledger {
    open: BTreeMap<AttemptId, Vec<Held>>,
    parts: BTreeMap<AttemptId, u64>,
    slots: Vec<Held>,
}

impl Ledger {
    fn held(&self, now: Moment, unit: Unit) -> u64 {
        let all = self.open.values().flatten().chain(&self.slots);
        all.filter(|held| held.unit == unit && held.free_at > now).map(|held| held.amount).sum()
    }

    fn reserve(&mut self, now: Moment, claim: &Claim) -> bool {
        let lines = &claim.accounts[0].lines;
        let fits = lines.iter().all(|line| {
            let max = line.budget.definitions[0].max;
            self.held(now, line.budget.unit) + line.amount + line.leave <= max
        });
        if fits {
            let free_at = |cap| now + claim.send_within + cap + long_window();
            let held = lines.iter().map(|line| Held {
                unit: line.budget.unit,
                amount: line.amount,
                free_at: free_at(line.crash_cap),
            });
            self.open.insert(claim.id, held.collect());
        }
        fits
    }

    /// `delay` is how long the news took.
    fn settle(&mut self, news: &Settlement, delay: Duration) {
        let Some(open) = self.open.get_mut(&news.id) else { return };
        let written = self.parts.entry(news.id).or_default();
        for part in &news.parts {
            if part.number <= *written {
                continue;
            }
            *written = part.number;
            for line in &part.lines {
                let held = open.iter_mut().find(|held| held.unit == line.unit).unwrap();
                held.amount = held.amount.checked_sub(line.taken).expect("more taken than the lease has");
                if let Some(last) = line.last_count {
                    let free_at = last + delay + long_window();
                    self.slots.push(Held { unit: line.unit, amount: line.held, free_at });
                }
            }
        }
        for line in &news.lines {
            let Some(last) = line.last_count.filter(|_| line.is_final) else { continue };
            if let Some(at) = open.iter().position(|held| held.unit == line.unit) {
                open.swap_remove(at);
                let free_at = last + delay + long_window();
                self.slots.push(Held { unit: line.unit, amount: line.amount, free_at });
            }
        }
        if news.is_given_back {
            self.open.remove(&news.id);
        }
    }
}

/// As the ledger holds it.
fn long_window() -> Duration {
    Duration::from_micros(4_000_400)
}

/// What upstream can have counted, at any instant between the two.
struct Counted {
    unit: Unit,
    from: Moment,
    to: Moment,
    amount: u64,
}

struct Attempt {
    id: AttemptId,
    is_leased: bool,
    record: HoldRecord,
    from: Moment,
}

#[derive(Default)]
struct Replica {
    leases: Option<Leases>,
    open: Vec<Attempt>,
    /// Not written yet.
    news: VecDeque<(Moment, Settlement)>,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// So many attempts of so many tokens.
    Burst(usize, u8, u64),
    FirstByte(usize, Index),
    Finish(usize, Index, How, u64),
    /// Some news are written; some twice, as after an answer that was lost.
    Write(usize, bool),
    Revoke(usize),
    Crash(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    NotSent,
    Ended,
    Aborted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let how = select(&[How::Ended, How::Ended, How::Ended, How::Aborted, How::NotSent][..]);
    let step = prop_oneof![
        4 => (0_u64..400).prop_map(Step::Wait),
        1 => (400_u64..6_000).prop_map(Step::Wait),
        6 => (replica.clone(), 1_u8..60, 20_u64..180).prop_map(|(r, n, t)| Step::Burst(r, n, t)),
        5 => (replica.clone(), any::<Index>()).prop_map(|(r, which)| Step::FirstByte(r, which)),
        9 => (replica.clone(), any::<Index>(), how, 0_u64..=100).prop_map(|(r, which, how, used)| Step::Finish(r, which, how, used)),
        5 => (replica.clone(), any::<bool>()).prop_map(|(r, twice)| Step::Write(r, twice)),
        1 => replica.clone().prop_map(Step::Revoke),
        1 => replica.prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 20..160)
}

struct World {
    spec: ProviderSpec,
    terms: Terms,
    budgets: Budgets,
    ledger: Ledger,
    replicas: Vec<Replica>,
    counted: Vec<Counted>,
    now: Moment,
    leased: usize,
}

impl World {
    fn new(tokens: TokensCharged, requests: RequestsCharged) -> Self {
        let mut spec = spec(&limits());
        (spec.tokens_charged, spec.requests_charged) = (tokens, requests);
        spec.timeouts.total = Duration::from_secs(8);
        spec.timeouts.first_token = Duration::from_secs(8);
        let terms = Terms::new(&spec);
        let now = Moment::from_unix_micros(1_000_000_000);
        let past = Past { is_empty: true, reach: Duration::MAX };
        let budgets = Budgets::new(now, &spec, &terms, &names(&spec), past);
        let replicas = (0..REPLICAS).map(|_| Replica::default()).collect();
        let (ledger, counted) = (Ledger::default(), Vec::new());
        let mut world = Self { spec, terms, budgets, ledger, replicas, counted, now, leased: 0 };
        (0..REPLICAS).for_each(|number| world.start(number));
        world
    }

    fn start(&mut self, number: usize) {
        self.replicas[number].leases = Some(Leases::new(&self.terms, 1));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis(*millis);
                (0..REPLICAS).for_each(|number| self.tell(number, |leases, now| leases.expire(now)));
                self.time_out();
            }
            Step::Burst(number, attempts, tokens) => {
                (0..*attempts).for_each(|_| self.ask(*number, *tokens));
            }
            Step::FirstByte(number, which) => self.first_byte(*number, which),
            Step::Finish(number, which, how, used) => {
                let open = self.replicas[*number].open.len();
                if open > 0 {
                    self.finish(*number, which.index(open), *how, *used);
                }
            }
            Step::Write(number, twice) => self.write(*number, *twice),
            Step::Revoke(number) => self.tell(*number, |leases, _| leases.revoke(ACCOUNT, None)),
            Step::Crash(number) => self.crash(*number),
        }
    }

    fn tell(&mut self, number: usize, say: impl FnOnce(&mut Leases, Moment) -> Vec<Settlement>) {
        let now = self.now;
        let replica = &mut self.replicas[number];
        let news = say(replica.leases.as_mut().unwrap(), now);
        replica.news.extend(news.into_iter().map(|news| (now, news)));
    }

    fn ask(&mut self, number: usize, tokens: u64) {
        let demand = Demand {
            model: MODEL,
            input_tokens: tokens / 2,
            output_tokens: tokens - tokens / 2,
            send_within: Duration::from_secs(1),
            is_streamed: true,
        };
        let amounts = budgets::amounts(&self.terms, &demand);
        let now = self.now;
        let leases = self.replicas[number].leases.as_mut().unwrap();
        let spend = leases.spend(now, MODEL, &[ACCOUNT], &amounts);
        let wish = leases.wish(now, MODEL);
        if let Some(asks) = wish {
            let claim = self.budgets.lease(&self.spec, &self.terms, &demand, &[ACCOUNT], &asks);
            if self.ledger.reserve(now, &claim) {
                let send_by = now + claim.send_within;
                let lease = Lease::granted(&claim, (0, ACCOUNT), send_by - demand.send_within, send_by);
                assert!(leases.granted(MODEL, lease.unwrap()).is_none());
            } else {
                leases.refused(now, MODEL, PAUSE);
            }
        }
        let (id, is_leased, send_by) = match spend {
            Some(spend) => (spend.lease, true, spend.send_by.min(now + demand.send_within)),
            None => {
                let claim = self.budgets.claim(&self.spec, &self.terms, &demand, &[ACCOUNT]);
                if !self.ledger.reserve(now, &claim) {
                    return;
                }
                (claim.id, false, now + demand.send_within)
            }
        };
        self.leased += usize::from(is_leased);
        let Demand { input_tokens, output_tokens, .. } = demand;
        let reserved = Usage { input_tokens, output_tokens };
        let record =
            HoldRecord { account: ACCOUNT, model: MODEL, reserved, send_by, first_byte: None, finish: None };
        self.replicas[number].open.push(Attempt { id, is_leased, record, from: now });
    }

    fn first_byte(&mut self, number: usize, which: &Index) {
        let now = self.now;
        let open = self.replicas[number].open.len();
        let Some(attempt) = (open > 0).then(|| which.index(open)) else { return };
        let attempt = &mut self.replicas[number].open[attempt];
        if attempt.record.first_byte.is_some() {
            return;
        }
        attempt.record.first_byte = Some(now);
        let (id, record, is_leased) = (attempt.id, attempt.record, attempt.is_leased);
        self.report(number, id, is_leased, &record, |leases, lines| leases.counted(id, lines));
    }

    fn report(
        &mut self,
        number: usize,
        id: AttemptId,
        is_leased: bool,
        record: &HoldRecord,
        say: impl FnOnce(&mut Leases, Vec<PartLine>) -> Option<Settlement>,
    ) {
        let lines = budgets::part_lines(&self.terms, record);
        if is_leased {
            self.tell(number, |leases, _| say(leases, lines).into_iter().collect());
        } else {
            let lines = budgets::settled_lines(&self.terms, record);
            let news = Settlement { lines, ..Settlement::of(id, self.spec.id.clone()) };
            self.replicas[number].news.push_back((self.now, news));
        }
    }

    fn finish(&mut self, number: usize, which: usize, how: How, used_percent: u64) {
        let Attempt { id, is_leased, mut record, from } = self.replicas[number].open.swap_remove(which);
        let of = |tokens: u64| tokens * used_percent / 100;
        let Usage { input_tokens, output_tokens } = record.reserved;
        let used = Usage { input_tokens: of(input_tokens), output_tokens: of(output_tokens) };
        let end = match how {
            How::NotSent if record.first_byte.is_none() => {
                let amounts = budgets::reserved_amounts(&self.terms, &record);
                if is_leased {
                    self.tell(number, |leases, _| leases.unspend(id, &amounts).into_iter().collect());
                } else {
                    let news = Settlement { is_given_back: true, ..Settlement::of(id, self.spec.id.clone()) };
                    self.replicas[number].news.push_back((self.now, news));
                }
                return;
            }
            How::NotSent | How::Ended => {
                record.finish = Some(Finish::Ended(self.now, Charge::Exact(used)));
                self.now
            }
            How::Aborted => {
                record.finish = Some(Finish::Aborted(self.now, Charge::Exact(used)));
                self.now + LATE
            }
        };
        self.report(number, id, is_leased, &record, |leases, lines| leases.settle(id, lines));
        self.count(&record, from, end, used);
    }

    /// Writes down between which instants upstream may have counted what.
    fn count(&mut self, record: &HoldRecord, from: Moment, end: Moment, used: Usage) {
        let answered = record.first_byte.unwrap_or(end);
        let arrived = match self.spec.requests_charged {
            RequestsCharged::Arrival => answered.min(record.send_by + LATE),
            RequestsCharged::Unknown => answered,
        };
        let with_cap = Usage { output_tokens: record.reserved.output_tokens, ..used };
        let (to, tokens) = match self.spec.tokens_charged {
            TokensCharged::Reserve => (arrived, with_cap),
            TokensCharged::Usage => (end, used),
            TokensCharged::Unknown => (end, with_cap),
        };
        self.counted.push(Counted { unit: Unit::Requests, from, to: arrived, amount: 1 });
        self.counted.push(Counted { unit: Unit::Tokens, from, to, amount: tokens.total_tokens() });
    }

    fn write(&mut self, number: usize, twice: bool) {
        let now = self.now;
        for (at, news) in std::mem::take(&mut self.replicas[number].news) {
            // The ledger dates what it is told by what it took: late, never early.
            let delay = now.saturating_since(at) / 4;
            self.ledger.settle(&news, delay);
            if twice {
                self.ledger.settle(&news, delay);
            }
        }
    }

    /// Nobody hears of its attempts any more. Upstream goes on with them for as long as it can.
    fn crash(&mut self, number: usize) {
        let replica = std::mem::take(&mut self.replicas[number]);
        for Attempt { record, from, .. } in replica.open {
            let end = record.send_by.max(self.now) + LATE;
            self.count(&record, from, end, record.reserved);
        }
        self.start(number);
    }

    /// No attempt lasts longer than its time-outs.
    fn time_out(&mut self) {
        for number in 0..REPLICAS {
            let total = self.spec.timeouts.total;
            while let Some(which) =
                self.replicas[number].open.iter().position(|open| open.from + total <= self.now)
            {
                self.finish(number, which, How::Aborted, 100);
            }
        }
    }

    fn judge(&self) {
        for Limit { unit, max, .. } in limits() {
            let counted: Vec<&Counted> = self.counted.iter().filter(|counted| counted.unit == unit).collect();
            for first in &counted {
                let end = first.to + WINDOW - Duration::from_micros(1);
                let inside = counted.iter().filter(|other| other.to >= first.to && other.from <= end);
                let sum: u64 = inside.map(|counted| counted.amount).sum();
                assert!(sum <= max, "{sum} {unit:?} in a window from {:?}", first.to);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_leased_no_window_sees_too_much_and_nothing_stays_held(
        steps in steps(),
        tokens in select(&[TokensCharged::Reserve, TokensCharged::Usage, TokensCharged::Unknown][..]),
        requests in select(&[RequestsCharged::Arrival, RequestsCharged::Unknown][..]),
    ) {
        let mut world = World::new(tokens, requests);
        for step in &steps {
            world.step(step);
        }
        world.judge();
        // Everything ends, and is written.
        world.step(&Step::Wait(9_000));
        for number in 0..REPLICAS {
            world.tell(number, |leases, _| leases.close());
            world.write(number, false);
            prop_assert!(world.replicas[number].leases.as_ref().unwrap().leases.is_empty());
        }
        world.now = world.now + Duration::from_secs(30);
        for unit in [Unit::Requests, Unit::Tokens] {
            prop_assert_eq!(world.ledger.held(world.now, unit), 0);
        }
    }
}

#[test]
fn most_requests_of_a_busy_replica_ask_nobody() {
    let mut world = World::new(TokensCharged::Usage, RequestsCharged::Unknown);
    for _ in 0..400 {
        world.ask(0, 100);
        world.step(&Step::Wait(5));
        let open = world.replicas[0].open.len();
        if open > 3 {
            world.finish(0, 0, How::Ended, 50);
        }
        world.write(0, false);
    }
    assert!(world.leased > 370, "{} of 400 were leased", world.leased);
}
