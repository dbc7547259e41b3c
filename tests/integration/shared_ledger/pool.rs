//! Limits to claim from, on a database with a clock that tests can move.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use freellmapi::db::shared_ledger::{
    AttemptId, Budget, Claim, ClaimAccount, ClaimLine, Decision, Definition, Fill, LedgerConnection,
    SettledLine, Settlement, SharedLimit, Span,
};
use freellmapi::domain::clock::Moment;
use freellmapi::domain::ids::ProviderId;
use freellmapi::domain::limit::Unit;

use crate::support::database::TestDatabase;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// From sending to the last possible count in these tests.
pub(super) const CAP: Duration = Duration::from_secs(30);

pub(super) fn provider() -> ProviderId {
    ProviderId::new("p")
}

pub(super) fn connect(database: &TestDatabase) -> LedgerConnection {
    LedgerConnection::open(&database.url()).unwrap()
}

/// A connection without the ledger's time-outs, for what strangers do.
pub(super) fn stranger(database: &TestDatabase) -> PgConnection {
    PgConnection::establish(&database.url()).unwrap()
}

/// Puts the ledger on a clock that only [`set_clock`] moves.
pub(super) fn stop_clock(database: &TestDatabase) {
    database.execute(
        "CREATE TABLE test_clock (now_us BIGINT NOT NULL); INSERT INTO test_clock VALUES (1000000000000000); \
         CREATE OR REPLACE FUNCTION ledger_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS \
         $$ SELECT now_us FROM test_clock $$",
    );
}

pub(super) fn advance(clock: &mut PgConnection, duration: Duration) {
    clock
        .batch_execute(&format!("UPDATE test_clock SET now_us = now_us + {}", duration.as_micros()))
        .unwrap();
}

pub(super) fn sliding(max: u64, window: Duration) -> Definition {
    Definition { span: Span::Sliding(window), max, fill: Fill::Empty }
}

pub(super) fn budget(account: &str, unit: Unit, definitions: Vec<Definition>) -> Arc<Budget> {
    let (account, scope) = (account.to_owned(), "account".to_owned());
    Arc::new(Budget { account, scope, unit, models: None, definitions })
}

pub(super) fn requests(account: &str, max: u64) -> Arc<Budget> {
    budget(account, Unit::Requests, vec![sliding(max, MINUTE)])
}

pub(super) fn line(budget: &Arc<Budget>, amount: u64) -> ClaimLine {
    ClaimLine { budget: Arc::clone(budget), amount, crash_cap: CAP, returnable: 0, leave: 0 }
}

pub(super) fn account(lines: Vec<ClaimLine>) -> ClaimAccount {
    let account = lines[0].budget.account.clone();
    ClaimAccount { account, cooldowns: vec![String::new(), "model:m".to_owned()], lines }
}

pub(super) fn claim(accounts: Vec<ClaimAccount>) -> Claim {
    Claim { id: AttemptId::mint(), provider: provider(), send_within: SECOND, probe_within: CAP, accounts }
}

/// A claim of one unit from each of these budgets, all of one account.
pub(super) fn one_of(budgets: &[&Arc<Budget>]) -> Claim {
    claim(vec![account(budgets.iter().map(|budget| line(budget, 1)).collect())])
}

pub(super) fn introduce(ledger: &mut LedgerConnection, budgets: &[&Arc<Budget>]) {
    let budgets: Vec<&Budget> = budgets.iter().map(|budget| budget.as_ref()).collect();
    ledger.introduce(&provider(), &budgets).unwrap();
}

/// The decision on a claim that comes alone.
pub(super) fn ask(ledger: &mut LedgerConnection, claim: &Claim) -> Decision {
    ledger.reserve(&provider(), std::slice::from_ref(claim)).unwrap().decisions[0]
}

pub(super) const GRANTED: Decision = Decision::Granted { account: 0, is_probe: false };

pub(super) fn refused(after: Duration) -> Decision {
    Decision::Refused { after }
}

/// The end of everything a claim holds, all of it counted now.
pub(super) fn ended(claim: &Claim) -> Settlement {
    let lines = claim.accounts[0].lines.iter().map(|line| settled_line(line, line.amount, Duration::ZERO));
    settlement(claim, lines.collect())
}

pub(super) fn settlement(claim: &Claim, lines: Vec<SettledLine>) -> Settlement {
    Settlement { lines, ..Settlement::of(claim.id, provider()) }
}

pub(super) fn settled_line(line: &ClaimLine, amount: u64, after: Duration) -> SettledLine {
    SettledLine {
        scope: line.budget.scope.clone(),
        unit: line.budget.unit,
        amount,
        last_count: Some(now() + after),
        is_final: true,
        returnable: 0,
    }
}

pub(super) fn given_back(claim: &Claim) -> Settlement {
    Settlement { is_given_back: true, ..settlement(claim, Vec::new()) }
}

/// The clock of the tests' replica: only differences to it reach the ledger.
pub(super) fn now() -> Moment {
    Moment::from_unix_micros(77_000_000)
}

/// What the ledger says of the one limit there is.
pub(super) fn only_limit(ledger: &mut LedgerConnection) -> SharedLimit {
    let limits = ledger.snapshot().unwrap().limits;
    assert_eq!(limits.len(), 1, "{limits:?}");
    limits.into_iter().next().unwrap()
}
