//! Leases in the SQL functions: what an attempt has counted leaves its lease once, for a window of its own.

use std::sync::Arc;
use std::time::Duration;

use freellmapi::db::shared_ledger::{AttemptId, Budget, Claim, LedgerConnection, Part, PartLine, Settlement};
use freellmapi::domain::limit::Unit;

use super::pool::*;
use crate::support::database::TestDatabase;

/// A lease of 40 of 100 requests a minute.
fn lease(ledger: &mut LedgerConnection) -> (Arc<Budget>, Claim) {
    let budget = requests("a", 100);
    introduce(ledger, &[&budget]);
    let mut claim = Claim { id: AttemptId::mint_lease(), ..one_of(&[&budget]) };
    let line = &mut claim.accounts[0].lines[0];
    (line.amount, line.returnable) = (40, 40);
    assert_eq!(ask(ledger, &claim), GRANTED);
    (budget, claim)
}

fn part(number: u64, taken: u64, held: u64, ago: Duration) -> Part {
    let last_count = (held > 0).then(|| now() - ago);
    let line = PartLine { scope: "account".to_owned(), unit: Unit::Requests, taken, held, last_count };
    Part { number, lines: vec![line] }
}

fn settle(ledger: &mut LedgerConnection, claim: &Claim, parts: Vec<Part>, is_given_back: bool) {
    let news = Settlement { parts, is_given_back, ..Settlement::of(claim.id, provider()) };
    ledger.settle(&[news], now()).unwrap();
}

/// What is held, and how much of it by leases.
fn held(ledger: &mut LedgerConnection) -> (u64, u64) {
    let limit = only_limit(ledger);
    (limit.held, limit.leased)
}

#[test]
fn a_part_leaves_the_lease_once_for_a_window_of_its_own() {
    let database = TestDatabase::postgres();
    stop_clock(&database);
    let (mut ledger, mut clock) = (connect(&database), stranger(&database));
    let (_, claim) = lease(&mut ledger);
    assert_eq!(held(&mut ledger), (40, 40));
    // Ten were counted ten seconds ago; three of five estimated are used, eight of five are debt.
    let parts = vec![part(1, 10, 10, 10 * SECOND), part(2, 5, 3, SECOND), part(3, 5, 8, SECOND)];
    for _ in 0..3 {
        settle(&mut ledger, &claim, parts.clone(), false);
        assert_eq!(held(&mut ledger), (41, 20));
    }
    // Written late, with what was written before.
    settle(&mut ledger, &claim, vec![parts[2].clone(), part(4, 5, 0, SECOND)], false);
    assert_eq!(held(&mut ledger), (36, 15));
    advance(&mut clock, 50 * SECOND);
    assert_eq!(held(&mut ledger), (26, 15), "a minute after they were counted");
    advance(&mut clock, 9 * SECOND);
    assert_eq!(held(&mut ledger), (15, 15));
    settle(&mut ledger, &claim, vec![part(5, 1, 1, SECOND)], true);
    assert_eq!(held(&mut ledger), (1, 0), "what is left is free with the last attempt");
    advance(&mut clock, 59 * SECOND);
    assert_eq!(held(&mut ledger), (0, 0));
    settle(&mut ledger, &claim, vec![part(6, 1, 1, SECOND)], true);
    assert_eq!(held(&mut ledger), (0, 0), "a lease that is over takes no news");
    let left = database.texts("", "SELECT id::text AS value FROM ledger_attempts");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_lease_of_a_dead_replica_ends_by_its_crash_cap() {
    let database = TestDatabase::postgres();
    stop_clock(&database);
    let (mut ledger, mut clock) = (connect(&database), stranger(&database));
    let (_, claim) = lease(&mut ledger);
    settle(&mut ledger, &claim, vec![part(1, 10, 10, Duration::ZERO)], false);
    // A second to send in, the cap, and the window.
    advance(&mut clock, SECOND + CAP + MINUTE - Duration::from_micros(1));
    assert_eq!(held(&mut ledger), (30, 30));
    advance(&mut clock, Duration::from_micros(1));
    assert_eq!(held(&mut ledger), (0, 0));
}

#[test]
fn others_are_told_to_ask_again_for_what_a_lease_may_give_back() {
    let database = TestDatabase::postgres();
    stop_clock(&database);
    let mut ledger = connect(&database);
    let (budget, claim) = lease(&mut ledger);
    let mut rest = one_of(&[&budget]);
    rest.accounts[0].lines[0].amount = 61;
    assert_eq!(ask(&mut ledger, &rest), refused(SECOND));
    settle(&mut ledger, &claim, vec![part(1, 40, 40, Duration::ZERO)], false);
    assert_eq!(ask(&mut ledger, &rest), refused(MINUTE), "all of it was spent");
}

#[test]
fn a_lease_that_is_settled_by_two_connections_at_once_is_settled_once() {
    let database = TestDatabase::postgres();
    let (_, claim) = lease(&mut connect(&database));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (database, claim) = (&database, &claim);
            scope.spawn(move || {
                let mut ledger = connect(database);
                let parts: Vec<Part> = (1..=20).map(|number| part(number, 1, 1, Duration::ZERO)).collect();
                for _ in 0..10 {
                    let news = Settlement { parts: parts.clone(), ..Settlement::of(claim.id, provider()) };
                    // A lock that was not given in time: sent again by the next.
                    if ledger.settle(&[news], now()).is_err() {
                        ledger = connect(database);
                    }
                }
            });
        }
    });
    assert_eq!(held(&mut connect(&database)), (40, 20));
}
