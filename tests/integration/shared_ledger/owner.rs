//! The owner and its connections, on the real Postgres.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use freellmapi::db::shared_ledger::{Budget, Claim};
use freellmapi::domain::clock::SystemClock;
use freellmapi::domain::limit::Unit;
use freellmapi::ledger::shared::{SharedLedger, SharedLedgerStatus, Verdict};

use super::pool::*;
use crate::support::database::TestDatabase;

/// How long a test waits for what must come, at the very most.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(database: &TestDatabase) -> SharedLedger {
    SharedLedger::start(&database.url(), Arc::new(SystemClock::start())).unwrap()
}

fn ask(ledger: &SharedLedger, claim: &Claim) -> Receiver<Verdict> {
    let (tell, verdict) = channel();
    ledger.reserve(claim.clone(), Box::new(move |verdict| tell.send(verdict).unwrap()));
    verdict
}

fn answer(ledger: &SharedLedger, claim: &Claim) -> Verdict {
    ask(ledger, claim).recv_timeout(PATIENCE).unwrap()
}

/// Asks again and again, as a caller who waits does, until `is_right`.
fn ask_until(ledger: &SharedLedger, budget: &Arc<Budget>, is_right: impl Fn(Verdict) -> bool) {
    for _ in 0..100_000 {
        let claim = one_of(&[budget]);
        let verdict = answer(ledger, &claim);
        if is_right(verdict) {
            return;
        }
        if is_granted(verdict) {
            ledger.settle(given_back(&claim));
        }
        std::thread::yield_now();
    }
    panic!("never: {ledger:?}");
}

fn wait_for(ledger: &SharedLedger, is_right: impl Fn(SharedLedgerStatus) -> bool) {
    let (_tell, never) = channel::<()>();
    for _ in 0..3_000 {
        if is_right(ledger.snapshot()) {
            return;
        }
        // A pause, not a wait for an event: the status is only published.
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
    panic!("never: {ledger:?}");
}

fn is_granted(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Granted { .. })
}

fn is_away(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Away(_))
}

#[test]
fn replicas_share_one_budget() {
    let database = TestDatabase::postgres();
    let budget = requests("a", 7);
    let replicas: Vec<SharedLedger> = (0..3).map(|_| start(&database)).collect();
    // The limit is new to the ledger: the owners introduce it.
    let pending: Vec<_> = (0..30).map(|number| ask(&replicas[number % 3], &one_of(&[&budget]))).collect();
    let verdicts: Vec<Verdict> =
        pending.iter().map(|verdict| verdict.recv_timeout(PATIENCE).unwrap()).collect();
    let granted = verdicts.iter().filter(|verdict| is_granted(**verdict)).count();
    // A claim that was told "away" on a busy machine holds nothing, so room may be left, but never too little.
    assert!(granted <= 7, "{verdicts:?}");
    for replica in &replicas {
        ask_until(replica, &budget, |verdict| matches!(verdict, Verdict::NotUntil(_)));
    }
    // And the refusal is remembered.
    let before = replicas[0].snapshot().counters;
    assert!(!is_granted(answer(&replicas[0], &one_of(&[&budget]))));
    wait_for(&replicas[0], |status| status.counters.refused_from_memory > before.refused_from_memory);
}

#[test]
fn news_are_written_at_once_and_at_the_latest_when_it_ends() {
    let database = TestDatabase::postgres();
    let budget = requests("a", 2);
    let ledger = start(&database);
    let [first, second] = [one_of(&[&budget]), one_of(&[&budget])];
    for claim in [&first, &second] {
        while !is_granted(answer(&ledger, claim)) {}
    }
    ledger.settle(given_back(&first));
    wait_for(&ledger, |status| status.counters.settled == 1);
    ledger.settle(given_back(&second));
    assert!(ledger.drain(PATIENCE));
    assert_eq!(only_limit(&mut connect(&database)).held, 0);
    assert!(is_away(answer(&ledger, &one_of(&[&budget]))), "who asks after the end is told");
}

#[test]
fn an_outage_is_told_and_survived() {
    let database = TestDatabase::postgres();
    let budget = budget("a", Unit::Requests, vec![sliding(2, MINUTE)]);
    let ledger = start(&database);
    let open = one_of(&[&budget]);
    while !is_granted(answer(&ledger, &open)) {}
    database.take_away();
    ask_until(&ledger, &budget, is_away);
    ledger.settle(given_back(&open));
    wait_for(&ledger, |status| status.is_away && status.unwritten > 0);
    database.bring_back();
    wait_for(&ledger, |status| !status.is_away && status.unwritten == 0);
    // Nothing is left of what was asked in between.
    assert_eq!(only_limit(&mut connect(&database)).held, 0);
    ask_until(&ledger, &budget, is_granted);
}

#[test]
fn a_lock_that_is_not_given_is_survived() {
    let database = TestDatabase::postgres();
    let budget = requests("a", 100);
    let ledger = start(&database);
    ask_until(&ledger, &budget, is_granted);
    let mut other = stranger(&database);
    other.batch_execute("BEGIN; SELECT id FROM ledger_limits FOR UPDATE").unwrap();
    ask_until(&ledger, &budget, is_away);
    other.batch_execute("ROLLBACK").unwrap();
    wait_for(&ledger, |status| status.unwritten == 0 && !status.is_away);
    assert_eq!(only_limit(&mut connect(&database)).held, 1, "what was asked in vain holds nothing");
}

/// The number of calls goes back, as it does when the database is replaced by a backup of itself.
#[test]
fn an_older_copy_of_the_database_is_noticed_and_blocked() {
    let database = TestDatabase::postgres();
    let budget = requests("a", 100);
    let ledger = start(&database);
    ask_until(&ledger, &budget, is_granted);
    ask_until(&ledger, &budget, is_granted);
    database.execute("ALTER SEQUENCE ledger_serial RESTART");
    ask_until(&ledger, &budget, |verdict| matches!(verdict, Verdict::NotUntil(_)));
    assert_eq!(ledger.snapshot().counters.restores_seen, 1);
    let limit = only_limit(&mut connect(&database));
    assert!(limit.blocked_for > MINUTE / 2, "{limit:?}");
}
