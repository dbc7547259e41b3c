//! Ways in which such ledgers are known to go wrong.

use std::sync::Arc;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use freellmapi::db::shared_ledger::{Budget, Claim, Decision, LedgerConnection};
use freellmapi::domain::limit::Unit;

use super::pool::*;
use crate::support::database::TestDatabase;

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    verdict: String,
    #[diesel(sql_type = BigInt)]
    now_us: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

/// A database with the limit of one request a minute on account `a`.
fn one_request() -> (TestDatabase, LedgerConnection, Arc<Budget>) {
    let database = TestDatabase::postgres();
    let mut ledger = connect(&database);
    let budget = requests("a", 1);
    introduce(&mut ledger, &[&budget]);
    (database, ledger, budget)
}

/// Number `id` asks for a request of account `a`, on a connection without time-outs: for calls that hang by design.
fn reserve_by_hand(connection: &mut PgConnection, id: u32) -> Answer {
    let query = format!(
        r#"SELECT answer -> 'verdicts' -> 0 ->> 'verdict' AS verdict, (answer ->> 'now_us')::bigint AS now_us
        FROM (SELECT ledger_reserve('{{"provider": "p",
            "groups": [{{"account": "a", "scope": "account", "unit": "requests",
                         "limits": [{{"span": "sliding:60000000", "max": 1, "resets_us": []}}]}}],
            "claims": [{{"id": "00000000-0000-0000-0000-{id:012}", "send_within_us": 0, "probe_us": 0,
                        "accounts": [{{"account": "a", "cooldowns": [], "lines": [[0, 1, 0, 0, 0]]}}]}}]}}') AS answer
        ) AS reserved"#
    );
    diesel::sql_query(query).get_result(connection).unwrap()
}

/// Asks for a request of account `b`, in a batch that also looks at account `a`; the verdict.
fn reserve_of_b_by_hand(connection: &mut PgConnection) -> String {
    let group = |account: &str| {
        format!(
            r#"{{"account": "{account}", "scope": "account", "unit": "requests",
                 "limits": [{{"span": "sliding:60000000", "max": 1, "resets_us": []}}]}}"#
        )
    };
    let query = format!(
        r#"SELECT answer -> 'verdicts' -> 0 ->> 'verdict' AS verdict, (answer ->> 'now_us')::bigint AS now_us
        FROM (SELECT ledger_reserve('{{"provider": "p", "groups": [{}, {}],
            "claims": [{{"id": "00000000-0000-0000-0000-000000000001", "send_within_us": 0, "probe_us": 0,
                        "accounts": [{{"account": "b", "cooldowns": [], "lines": [[1, 1, 0, 0, 0]]}}]}}]}}') AS answer
        ) AS reserved"#,
        group("a"),
        group("b")
    );
    diesel::sql_query(query).get_result::<Answer>(connection).unwrap().verdict
}

fn release_by_hand(connection: &mut PgConnection, id: u32) {
    connection
        .batch_execute(&format!("SELECT ledger_release('{{00000000-0000-0000-0000-{id:012}}}')"))
        .unwrap();
}

fn number(connection: &mut PgConnection, query: &str) -> i64 {
    diesel::sql_query(query).get_result::<Number>(connection).unwrap().value
}

/// Waits until a call of this database waits for a lock.
fn wait_for_a_waiter(database: &TestDatabase) {
    let mut watcher = stranger(database);
    let waiting = "SELECT count(*) AS value FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for _ in 0..20_000 {
        if number(&mut watcher, waiting) > 0 {
            return;
        }
        thread::yield_now();
    }
    panic!("nobody waits for a lock");
}

const CLOCK: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS value";

/// One statement that locks and sums sees what was true before it waited, and grants the unit a second time. The
/// clock, too, must be read after the wait.
#[test]
fn who_waited_for_the_lock_sums_and_tells_the_time_anew() {
    let (database, mut ledger, _) = one_request();
    let mut first = stranger(&database);
    first.batch_execute("BEGIN").unwrap();
    assert_eq!(reserve_by_hand(&mut first, 1).verdict, "granted");
    let second = thread::scope(|scope| {
        let second = scope.spawn(|| reserve_by_hand(&mut stranger(&database), 2));
        wait_for_a_waiter(&database);
        let committed_at = number(&mut first, CLOCK);
        first.batch_execute("COMMIT").unwrap();
        let second = second.join().unwrap();
        assert!(second.now_us > committed_at, "the clock was read before the lock was given");
        second
    });
    assert_eq!(second.verdict, "refused");
    assert_eq!(only_limit(&mut ledger).held, 1);
}

/// A transaction that keeps one snapshot would not see what was committed while it waited.
#[test]
fn a_limit_that_is_introduced_while_another_replica_asks_is_unknown_to_that_one() {
    let (database, mut ledger, _budget) = one_request();
    let slow_sum = "CREATE OR REPLACE FUNCTION ledger_held(of_limit BIGINT, at_us BIGINT) RETURNS BIGINT \
                    LANGUAGE sql VOLATILE AS 'SELECT 0::BIGINT FROM pg_sleep(1)'";
    stranger(&database).batch_execute(slow_sum).unwrap();
    let verdict = thread::scope(|scope| {
        let asking = scope.spawn(|| reserve_of_b_by_hand(&mut stranger(&database)));
        let mut looking = stranger(&database);
        let is_summing = "SELECT count(*) AS value FROM pg_stat_activity \
                          WHERE datname = current_database() AND wait_event = 'PgSleep'";
        while number(&mut looking, is_summing) == 0 {
            assert!(!asking.is_finished(), "it asked without a sum");
            thread::yield_now();
        }
        introduce(&mut ledger, &[&requests("b", 1)]);
        asking.join().unwrap()
    });
    assert_eq!(verdict, "unknown", "known, and yet charged nothing");
}

#[test]
fn another_isolation_level_is_refused() {
    let (database, _, _) = one_request();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut connection = stranger(&database);
        connection.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).unwrap();
        for call in ["ledger_settle('{\"settlements\": []}')", "ledger_release('{}')"] {
            connection.batch_execute("SAVEPOINT here").unwrap();
            let refused = connection.batch_execute(&format!("SELECT {call}")).unwrap_err();
            assert!(refused.to_string().contains("read committed"), "{refused}");
            connection.batch_execute("ROLLBACK TO here").unwrap();
        }
    }
    // A level that the database prescribes does not reach our own connections.
    database.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''serializable''', \
         current_database()); END $$",
    );
    let budget = requests("a", 1);
    assert_eq!(ask(&mut connect(&database), &one_of(&[&budget])), GRANTED);
}

/// Batches that name the same limits in any order. Waits are looked into long before they are given up, so that two
/// calls that wait for each other would be counted.
#[test]
fn overlapping_batches_do_not_deadlock() {
    let database = TestDatabase::postgres();
    database.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''5ms''', current_database()); \
         END $$",
    );
    let budgets: Vec<_> = (0..6)
        .map(|number| budget(&format!("{number}"), Unit::Requests, vec![sliding(1_000, MINUTE)]))
        .collect();
    introduce(&mut connect(&database), &budgets.iter().collect::<Vec<_>>());
    let carried_out: usize = thread::scope(|scope| {
        let ask_often = |seed: usize| {
            let (database, budgets) = (&database, &budgets);
            move || {
                let mut ledger = connect(database);
                // A stride that is coprime to the number of budgets visits them all, in an order of its own.
                let stride = if seed.is_multiple_of(2) { 1 } else { 5 };
                let order: Vec<usize> = (0..6).map(|step| (seed + step * stride) % 6).collect();
                let mut carried_out = 0;
                for round in 0..25 {
                    let claims: Vec<Claim> =
                        order[..2 + round % 5].iter().map(|&number| one_of(&[&budgets[number]])).collect();
                    let reserved = ledger.reserve(&provider(), &claims);
                    let settled = ledger.settle(&claims.iter().rev().map(ended).collect::<Vec<_>>(), now());
                    carried_out += usize::from(reserved.is_ok() && settled.is_ok());
                }
                carried_out
            }
        };
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(ask_often(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let deadlocks = "SELECT deadlocks AS value FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(number(&mut stranger(&database), deadlocks), 0);
    assert!(carried_out > 0, "every call gave up");
}

/// A backup, a migration or a curious operator.
#[test]
fn a_lock_held_by_a_stranger_costs_a_call_and_holds_nothing() {
    let (database, mut ledger, budget) = one_request();
    let mut other = stranger(&database);
    other.batch_execute("BEGIN; SELECT id FROM ledger_limits FOR UPDATE").unwrap();
    let claim = one_of(&[&budget]);
    assert!(ledger.reserve(&provider(), std::slice::from_ref(&claim)).is_err());
    // To take it back needs no lock on a limit.
    ledger.release(&[claim.id]).unwrap();
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(only_limit(&mut ledger).held, 0);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

/// The client gives up and takes the attempt back while the server is about to commit it.
#[test]
fn a_commit_that_races_with_its_release_holds_nothing() {
    let (database, mut ledger, _) = one_request();
    let mut late = stranger(&database);
    late.batch_execute("BEGIN").unwrap();
    assert_eq!(reserve_by_hand(&mut late, 7).verdict, "granted");
    thread::scope(|scope| {
        let release = scope.spawn(|| release_by_hand(&mut stranger(&database), 7));
        wait_for_a_waiter(&database);
        late.batch_execute("COMMIT").unwrap();
        release.join().unwrap();
    });
    assert_eq!(only_limit(&mut ledger).held, 0);
}

/// The call arrives only after the client has taken the attempt back.
#[test]
fn a_call_that_arrives_after_its_release_is_void() {
    let (database, mut ledger, budget) = one_request();
    let claim = one_of(&[&budget]);
    ledger.release(&[claim.id]).unwrap();
    assert_eq!(ask(&mut ledger, &claim), Decision::Void);
    assert_eq!(only_limit(&mut ledger).held, 0);
    // In a batch it stands in nobody's way for longer than the batch.
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
    drop(database);
}

/// The release has voided the attempt but not committed, and the reserve holds the locks of its limits.
#[test]
fn a_release_under_way_is_waited_for() {
    let (database, mut ledger, _) = one_request();
    let mut releasing = stranger(&database);
    releasing.batch_execute("BEGIN").unwrap();
    release_by_hand(&mut releasing, 8);
    thread::scope(|scope| {
        let reserve = scope.spawn(|| reserve_by_hand(&mut stranger(&database), 8));
        wait_for_a_waiter(&database);
        releasing.batch_execute("COMMIT").unwrap();
        assert_eq!(reserve.join().unwrap().verdict, "void");
    });
    assert_eq!(only_limit(&mut ledger).held, 0);
}

/// The same news again, because the first answer was lost.
#[test]
fn news_that_arrive_twice_count_once() {
    let (_database, mut ledger, budget) = one_request();
    let claim = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &claim), GRANTED);
    let first = ledger.settle(&[ended(&claim)], now()).unwrap();
    let again = ledger.settle(&[ended(&claim)], now()).unwrap();
    assert_eq!((first.settled, again.settled, again.missing), (1, 0, 1));
    assert_eq!(only_limit(&mut ledger).held, 1);
}
