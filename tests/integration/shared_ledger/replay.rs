//! Random use over many connections, compared with the reference.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::PgConnection;
use freellmapi::db::shared_ledger::{
    Budget, Claim, Decision, Definition, LedgerConnection, Settlement, Span,
};
use freellmapi::domain::limit::Unit;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::pool::*;
use super::reference::{Reference, micros};
use crate::support::database::TestDatabase;

const CONNECTIONS: usize = 8;

/// Two accounts, each under a limit on requests (kept exactly), on tokens (kept in slots) and in parallel.
struct Pool {
    budgets: Vec<[Arc<Budget>; 3]>,
}

impl Pool {
    /// `tag` keeps runs apart that share a database.
    fn new(tag: usize, requests: Duration, tokens: Duration) -> Self {
        let of_account = |number: usize| {
            let name = format!("{tag}-{number}");
            let in_flight = Definition { span: Span::InFlight, ..sliding(3, requests) };
            [
                budget(&name, Unit::Requests, vec![sliding(4, requests)]),
                budget(&name, Unit::Tokens, vec![sliding(2_000, tokens)]),
                budget(&name, Unit::Parallel, vec![in_flight]),
            ]
        };
        Self { budgets: (0..2).map(of_account).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.budgets.iter().flatten()
    }

    fn introduce(&self, ledger: &mut LedgerConnection) {
        introduce(ledger, &self.all().collect::<Vec<_>>());
    }

    /// A claim on one account or both, in either order.
    fn claim(&self, order: &[usize], tokens: u64) -> Claim {
        let of_account = |&number: &usize| {
            let [requests, all_tokens, parallel] = &self.budgets[number];
            let mut lines = vec![line(requests, 1), line(all_tokens, tokens), line(parallel, 1)];
            (lines[1].returnable, lines[2].returnable) = (tokens / 2, 1);
            account(lines)
        };
        claim(order.iter().map(of_account).collect())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait { millis: u64 },
    Reserve { claims: Vec<(u8, u64)> },
    FirstByte { which: Index },
    End { which: Index, used_percent: u64, is_abort: bool },
    GiveBack { which: Index },
    Release { which: Index },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u64..25_000).prop_map(|millis| Step::Wait { millis }),
        6 => prop::collection::vec((0_u8..4, 1_u64..1_200), 1..4).prop_map(|claims| Step::Reserve { claims }),
        2 => any::<Index>().prop_map(|which| Step::FirstByte { which }),
        5 => (any::<Index>(), 0_u64..150, any::<bool>())
            .prop_map(|(which, used_percent, is_abort)| Step::End { which, used_percent, is_abort }),
        1 => any::<Index>().prop_map(|which| Step::GiveBack { which }),
        1 => any::<Index>().prop_map(|which| Step::Release { which }),
    ]
}

fn order(kind: u8) -> &'static [usize] {
    match kind {
        0 => &[0],
        1 => &[1],
        2 => &[0, 1],
        _ => &[1, 0],
    }
}

/// What a step says of an attempt.
fn news(claim: &Claim, granted: usize, step: &Step) -> Settlement {
    let lines = &claim.accounts[granted].lines;
    match step {
        Step::FirstByte { .. } => {
            let mut tokens = settled_line(&lines[1], lines[1].amount, Duration::ZERO);
            (tokens.is_final, tokens.last_count, tokens.returnable) = (false, None, lines[1].amount / 4);
            settlement(claim, vec![settled_line(&lines[0], 1, Duration::ZERO), tokens])
        }
        Step::End { used_percent, is_abort, .. } => {
            let after = if *is_abort { 5 * SECOND } else { Duration::ZERO };
            let closed = if *is_abort { 5 * SECOND } else { SECOND / 10 };
            let used = lines[1].amount * used_percent / 100;
            settlement(
                claim,
                vec![
                    settled_line(&lines[0], 1, after),
                    settled_line(&lines[1], used, after),
                    settled_line(&lines[2], 1, closed),
                ],
            )
        }
        _ => given_back(claim),
    }
}

/// A run on a stopped clock, one call after the other, each on a connection of its own.
struct Sequence<'a> {
    pool: Pool,
    ledgers: &'a mut [LedgerConnection],
    clock: &'a mut PgConnection,
    reference: Reference,
    open: Vec<(Claim, usize)>,
    now: i64,
    turn: usize,
}

impl Sequence<'_> {
    fn ledger(&mut self) -> &mut LedgerConnection {
        self.turn += 1;
        let count = self.ledgers.len();
        &mut self.ledgers[self.turn % count]
    }

    fn take(&mut self, which: &Index) -> Option<(Claim, usize)> {
        (!self.open.is_empty()).then(|| self.open.swap_remove(which.index(self.open.len())))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Wait { millis } => {
                advance(self.clock, Duration::from_millis(*millis));
                self.now += micros(Duration::from_millis(*millis));
            }
            Step::Reserve { claims } => self.reserve(claims),
            Step::FirstByte { which } => {
                let Some((claim, granted)) = self.take(which) else { return };
                self.settle(&claim, granted, step);
                self.open.push((claim, granted));
            }
            Step::End { which, .. } | Step::GiveBack { which } => {
                let Some((claim, granted)) = self.take(which) else { return };
                self.settle(&claim, granted, step);
            }
            Step::Release { which } => {
                let Some((claim, _)) = self.take(which) else { return };
                self.ledger().release(&[claim.id]).unwrap();
                self.reference.release(claim.id);
            }
        }
        self.compare_what_is_held();
    }

    fn reserve(&mut self, kinds: &[(u8, u64)]) {
        let claims: Vec<Claim> =
            kinds.iter().map(|(kind, tokens)| self.pool.claim(order(*kind), *tokens)).collect();
        let reserved = self.ledger().reserve(&provider(), &claims).unwrap();
        self.now = reserved.now_us;
        let expected: Vec<_> = claims.iter().map(|claim| self.reference.reserve(self.now, claim)).collect();
        for ((claim, decision), (expected, obstacles)) in
            claims.into_iter().zip(reserved.decisions).zip(expected)
        {
            match (decision, expected) {
                (Decision::Refused { after }, Decision::Refused { .. }) => {
                    assert_eq!(self.now + micros(after), self.reference.not_until(self.now, &obstacles));
                    assert!(after > Duration::ZERO);
                }
                _ => assert_eq!(decision, expected),
            }
            if let Decision::Granted { account, .. } = decision {
                self.open.push((claim, account));
            }
        }
    }

    fn settle(&mut self, claim: &Claim, granted: usize, step: &Step) {
        let news = news(claim, granted, step);
        // Twice, as after an answer that was lost.
        for _ in 0..2 {
            let settled = self.ledger().settle(std::slice::from_ref(&news), now()).unwrap();
            self.now = settled.now_us;
        }
        let budgets: Vec<&Budget> = self.pool.all().map(Arc::as_ref).collect();
        self.reference.settle(self.now, &news, &budgets, now().unix_micros());
    }

    fn compare_what_is_held(&mut self) {
        let budgets: Vec<Arc<Budget>> = self.pool.all().cloned().collect();
        let limits = self.ledger().snapshot().unwrap().limits;
        for budget in budgets {
            let is_same =
                |unit: &str, account: &str| unit == budget.unit.as_str() && account == budget.account;
            let limit = limits.iter().find(|limit| is_same(&limit.unit, &limit.account)).unwrap();
            assert_eq!(limit.held, self.reference.held(&budget, self.now), "{budget:?}");
        }
    }
}

/// Every decision, every instant and every sum, on a clock that stands still in between.
#[test]
fn every_answer_is_the_references_whatever_connection_asks() {
    let database = TestDatabase::postgres();
    stop_clock(&database);
    let mut clock = stranger(&database);
    let mut ledgers: Vec<LedgerConnection> = (0..CONNECTIONS).map(|_| connect(&database)).collect();
    let mut tag = 0;
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    for _ in 0..16 {
        let steps = prop::collection::vec(step(), 20..50).new_tree(&mut runner).unwrap().current();
        // Shown when the test fails.
        println!("{steps:?}");
        tag += 1;
        let pool = Pool::new(tag, MINUTE, MINUTE / 2);
        pool.introduce(&mut ledgers[0]);
        // What other runs left is over, so that definitions and holds of this one are all there is.
        let mut run = Sequence {
            pool,
            ledgers: &mut ledgers,
            clock: &mut clock,
            reference: Reference::default(),
            open: Vec::new(),
            now: 0,
            turn: tag,
        };
        run.reserve(&[(2, 1)]);
        for step in &steps {
            run.step(step);
        }
    }
}

/// One call that some thread made, by the ledger's clock.
enum Call {
    Reserved(i64, Vec<(Claim, Decision)>),
    Settled(i64, Settlement),
}

impl Call {
    fn at(&self) -> i64 {
        match self {
            Self::Reserved(at, _) | Self::Settled(at, _) => *at,
        }
    }
}

fn use_at_random(database: &TestDatabase, pool: &Pool, seed: u8, calls: &Mutex<Vec<Call>>) {
    let mut ledger = connect(database);
    let rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut open: Vec<(Claim, usize)> = Vec::new();
    for _ in 0..60 {
        let step = step().new_tree(&mut runner).unwrap().current();
        match &step {
            Step::Reserve { claims } => {
                let claims: Vec<Claim> =
                    claims.iter().map(|(kind, tokens)| pool.claim(order(*kind), *tokens)).collect();
                // A lock that was not given in time: nothing may be held of it.
                let Ok(reserved) = ledger.reserve(&provider(), &claims) else {
                    ledger = connect(database);
                    continue;
                };
                let outcome: Vec<_> = claims.into_iter().zip(reserved.decisions).collect();
                open.extend(outcome.iter().filter_map(|(claim, decision)| match decision {
                    Decision::Granted { account, .. } => Some((claim.clone(), *account)),
                    _ => None,
                }));
                calls.lock().unwrap().push(Call::Reserved(reserved.now_us, outcome));
            }
            Step::FirstByte { which }
            | Step::End { which, is_abort: false, .. }
            | Step::GiveBack { which }
                if !open.is_empty() =>
            {
                let (claim, granted) = open.swap_remove(which.index(open.len()));
                let news = news(&claim, granted, &step);
                let settled = loop {
                    match ledger.settle(std::slice::from_ref(&news), now()) {
                        Ok(settled) => break settled,
                        Err(_) => ledger = connect(database),
                    }
                };
                calls.lock().unwrap().push(Call::Settled(settled.now_us, news));
                if matches!(step, Step::FirstByte { .. }) {
                    open.push((claim, granted));
                }
            }
            _ => {}
        }
    }
}

/// Threads race on windows of fractions of a second. Calls that share a limit are one after the other by the ledger's
/// clock, which is read under their locks; so in that order the reference must come to every one of the decisions.
#[test]
fn calls_that_race_are_decided_as_if_one_after_the_other() {
    let database = TestDatabase::postgres();
    let pool = Pool::new(0, Duration::from_millis(150), Duration::from_millis(70));
    pool.introduce(&mut connect(&database));
    let calls = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for seed in 0..CONNECTIONS {
            let (database, pool, calls) = (&database, &pool, &calls);
            scope.spawn(move || use_at_random(database, pool, u8::try_from(seed).unwrap(), calls));
        }
    });
    let mut calls = calls.into_inner().unwrap();
    calls.sort_by_key(Call::at);
    let budgets: Vec<&Budget> = pool.all().map(Arc::as_ref).collect();
    let mut reference = Reference::default();
    let (mut granted, mut refusals) = (0, 0);
    for call in &calls {
        match call {
            Call::Settled(at, news) => reference.settle(*at, news, &budgets, now().unix_micros()),
            Call::Reserved(at, outcome) => {
                for (claim, decision) in outcome {
                    let (expected, _) = reference.reserve(*at, claim);
                    match decision {
                        Decision::Refused { .. } => {
                            refusals += 1;
                            assert!(matches!(expected, Decision::Refused { .. }), "{expected:?}");
                        }
                        _ => {
                            granted += 1;
                            assert_eq!(*decision, expected);
                        }
                    }
                }
            }
        }
    }
    // Three calls fit in parallel on each of two accounts; more were granted only because some came back.
    assert!(granted > 6 && refusals > 6, "too little happened: {granted} granted, {refusals} refused");
}
