//! What each function of the ledger promises.

use std::sync::Arc;
use std::time::Duration;

use freellmapi::db::shared_ledger::{
    AccountPart, Budget, Claim, Cooled, Decision, Definition, Fill, LedgerConnection, ProbeEnd, Settlement,
    Span, Why,
};
use freellmapi::db::{StoreError, shared_ledger};
use freellmapi::domain::clock::Moment;
use freellmapi::domain::cooldown::CooldownReason;
use freellmapi::domain::ids::{EventId, KeyId, ProviderId, RequestId, TenantId};
use freellmapi::domain::limit::Unit;
use freellmapi::domain::usage::{Outcome, ServedBy, Usage, UsageRecord};

use super::pool::*;
use crate::support::database::TestDatabase;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A ledger on a stopped clock that knows these budgets.
fn stopped(budgets: &[&Arc<Budget>]) -> (TestDatabase, LedgerConnection, impl FnMut(Duration) + use<>) {
    let database = TestDatabase::postgres();
    stop_clock(&database);
    let mut ledger = connect(&database);
    if !budgets.is_empty() {
        introduce(&mut ledger, budgets);
    }
    let mut clock = stranger(&database);
    (database, ledger, move |duration| advance(&mut clock, duration))
}

#[test]
fn a_store_that_is_no_postgres_has_no_shared_ledger() {
    let refused = shared_ledger::LedgerConnection::open("sqlite:data/x.db").unwrap_err();
    assert!(matches!(refused, StoreError::BadUrl(_)), "{refused}");
}

#[test]
fn the_first_account_with_room_in_every_limit_serves() {
    let [first, second] = ["a", "b"].map(|name| requests(name, 1));
    let tokens = budget("a", Unit::Tokens, vec![sliding(100, MINUTE)]);
    let (_database, mut ledger, _) = stopped(&[&first, &second, &tokens]);
    let attempt = |amount| {
        claim(vec![account(vec![line(&first, 1), line(&tokens, amount)]), account(vec![line(&second, 1)])])
    };
    // Too many tokens for the first account for ever; then room on it; then none of the two.
    let on = |account| Decision::Granted { account, is_probe: false };
    assert_eq!(ask(&mut ledger, &attempt(101)), on(1));
    assert_eq!(ask(&mut ledger, &attempt(60)), on(0));
    assert!(matches!(ask(&mut ledger, &attempt(10)), Decision::Refused { .. }));
    let held: Vec<u64> = ledger.snapshot().unwrap().limits.iter().map(|limit| limit.held).collect();
    assert_eq!(held, [1, 1, 60]);
    let large = claim(vec![account(vec![line(&tokens, 101)])]);
    assert_eq!(ask(&mut ledger, &large), Decision::TooLarge);
}

#[test]
fn a_refusal_of_settled_units_is_exact() {
    let budget = requests("a", 1);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    let first = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    // Open: the earliest end is a window away, whatever the crash cap says.
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(MINUTE));
    wait(10 * SECOND);
    ledger.settle(&[ended(&first)], now()).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(MINUTE));
    wait(MINUTE - Duration::from_micros(1));
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(Duration::from_micros(1)));
    wait(Duration::from_micros(1));
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn what_an_end_may_give_back_is_asked_for_every_second() {
    let in_flight = Definition { span: Span::InFlight, ..sliding(1, MINUTE) };
    let budget = budget("a", Unit::Parallel, vec![in_flight]);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    let mut first = one_of(&[&budget]);
    first.accounts[0].lines[0].returnable = 1;
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(SECOND));
    let mut end = ended(&first);
    end.lines[0].last_count = Some(now() + SECOND / 10);
    ledger.settle(&[end], now()).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(SECOND / 10));
    wait(SECOND / 10);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn what_a_dead_replica_held_expires_by_itself() {
    let budget = requests("a", 1);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
    // Sent within a second, counted within the cap, held for a window.
    wait(SECOND + CAP + MINUTE - Duration::from_micros(1));
    assert!(matches!(ask(&mut ledger, &one_of(&[&budget])), Decision::Refused { .. }));
    wait(Duration::from_micros(1));
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
    wait(2 * SECOND);
    // The hold and the attempt of the first.
    assert_eq!(ledger.sweep(100).unwrap(), 2);
    assert_eq!(only_limit(&mut ledger).held, 1);
}

#[test]
fn use_above_the_estimate_is_debt() {
    let budget = budget("a", Unit::Tokens, vec![sliding(100, MINUTE)]);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    let first = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    let used = settled_line(&first.accounts[0].lines[0], 250, Duration::ZERO);
    ledger.settle(&[settlement(&first, vec![used])], now()).unwrap();
    assert_eq!(only_limit(&mut ledger).held, 250);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(MINUTE));
    wait(MINUTE);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn what_was_not_sent_is_free_at_once() {
    let budget = requests("a", 1);
    let (_database, mut ledger, _) = stopped(&[&budget]);
    let first = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    ledger.settle(&[given_back(&first)], now()).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn a_large_limit_keeps_few_rows() {
    let budget = budget("a", Unit::Tokens, vec![sliding(1_000_000, MINUTE)]);
    let (database, mut ledger, mut wait) = stopped(&[&budget]);
    for _ in 0..20 {
        let claims: Vec<Claim> = (0..32).map(|_| one_of(&[&budget])).collect();
        ledger.reserve(&provider(), &claims).unwrap();
        ledger.settle(&claims.iter().map(ended).collect::<Vec<_>>(), now()).unwrap();
        wait(Duration::from_millis(10));
    }
    assert_eq!(only_limit(&mut ledger).held, 640);
    let rows = database.texts("", "SELECT count(*)::text AS value FROM ledger_slots");
    // 200 ms are four slots of a 1024th of a minute.
    assert!(rows[0].parse::<u64>().unwrap() <= 5, "{rows:?}");
    assert_eq!(database.texts("", "SELECT count(*)::text AS value FROM ledger_attempts"), ["0"]);
}

/// Two replicas, one of them on an older configuration.
#[test]
fn while_replicas_differ_the_smaller_maximum_and_the_longer_window_hold() {
    let old = budget("a", Unit::Requests, vec![sliding(3, MINUTE)]);
    let smaller = budget("a", Unit::Requests, vec![sliding(2, MINUTE)]);
    let longer = budget("a", Unit::Requests, vec![sliding(2, HOUR)]);
    let (_database, mut ledger, mut wait) = stopped(&[&old]);
    let first = one_of(&[&old]);
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    ledger.settle(&[ended(&first)], now()).unwrap();
    // The smaller maximum comes with the call and binds everybody.
    assert_eq!(ask(&mut ledger, &one_of(&[&smaller])), GRANTED);
    assert_eq!(ask(&mut ledger, &one_of(&[&old])), refused(MINUTE));
    // A longer window is a limit of its own, filled with what the shorter one remembers, then charged by both.
    assert_eq!(ask(&mut ledger, &one_of(&[&longer])), Decision::Unknown);
    introduce(&mut ledger, &[&longer]);
    assert_eq!(ask(&mut ledger, &one_of(&[&longer])), refused(HOUR));
    wait(40 * SECOND);
    assert!(matches!(ask(&mut ledger, &one_of(&[&old])), Decision::Refused { .. }));
    wait(30 * SECOND);
    // A minute after its last use by anybody a definition is forgotten: now only the old one is in use.
    assert_eq!(ask(&mut ledger, &one_of(&[&old])), GRANTED);
    // What the old one takes meanwhile is missing in the longer one, which has to be filled again.
    assert_eq!(ask(&mut ledger, &one_of(&[&longer])), Decision::Unknown);
    introduce(&mut ledger, &[&longer]);
    assert!(matches!(ask(&mut ledger, &one_of(&[&longer])), Decision::Refused { .. }));
}

#[test]
fn an_idle_ledger_forgets_no_limit() {
    let budget = requests("a", 1);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    wait(HOUR);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn a_limit_that_cannot_be_filled_is_blocked_for_one_window() {
    let blocked = Definition { fill: Fill::Block, ..sliding(5, MINUTE) };
    let budget = budget("a", Unit::Requests, vec![blocked]);
    let (_database, mut ledger, mut wait) = stopped(&[]);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), Decision::Unknown);
    introduce(&mut ledger, &[&budget]);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(MINUTE));
    wait(MINUTE);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

fn event(platform: Option<&str>, model: &str, attempts: u32, ended: Moment) -> UsageRecord {
    UsageRecord {
        event_id: EventId::mint(),
        request_id: RequestId::mint(),
        tenant: TenantId(1),
        key: KeyId(1),
        served_by: platform
            .map(|platform| ServedBy { provider: ProviderId::new(platform), model: model.into() }),
        outcome: Outcome::Served,
        streamed: false,
        attempts,
        usage: Usage { input_tokens: 10, output_tokens: 5 },
        usage_reported: true,
        started_at: ended - SECOND,
        first_byte_at: None,
        ended_at: ended,
    }
}

#[test]
fn a_new_limit_is_filled_from_the_attempts_of_its_last_window() {
    let (database, mut ledger, mut wait) = stopped(&[]);
    let start = Moment::from_unix_micros(1_000_000_000_000_000);
    let store = database.open();
    store
        .record(&[
            event(Some("p"), "m", 1, start - 2 * HOUR),
            event(Some("p"), "m", 1, start - HOUR / 2),
            event(Some("p"), "other", 2, start - HOUR / 4),
            event(Some("else"), "m", 3, start - HOUR / 4),
            event(None, "", 1, start - HOUR / 4),
        ])
        .unwrap();
    let filled = |unit, scope: &str, models: Option<Vec<String>>| {
        let definitions = vec![Definition { fill: Fill::Statistics, ..sliding(1_000, HOUR) }];
        let (account, scope) = ("a".to_owned(), scope.to_owned());
        Arc::new(Budget { account, scope, unit, models, definitions })
    };
    let all = filled(Unit::Requests, "account", None);
    let tokens = filled(Unit::Tokens, "account", None);
    let model = filled(Unit::Requests, "model:m", Some(vec!["m".to_owned()]));
    introduce(&mut ledger, &[&all, &tokens, &model]);
    // Of the last hour: what the provider served whole, of others all but the attempt that served.
    let held = |ledger: &mut LedgerConnection| {
        ledger.snapshot().unwrap().limits.iter().map(|limit| limit.held).collect::<Vec<_>>()
    };
    assert_eq!(held(&mut ledger), [1 + 2 + 2 + 1, 15 * (1 + 2 + 2 + 1), 1 + 1 + 2 + 1]);
    wait(HOUR / 2 + MINUTE);
    assert_eq!(held(&mut ledger), [5, 15 * 5, 4]);
    wait(HOUR);
    assert_eq!(held(&mut ledger), [0, 0, 0]);
}

/// Resets at second 1,000 and 87,400 of the test's clock.
fn daily(max: u64) -> Arc<Budget> {
    let start = Moment::from_unix_micros(1_000_000_000_000_000);
    let resets = [0, 1].map(|day| start + 1_000 * SECOND + day * DAY).to_vec();
    let span = Span::Calendar { name: "day@UTC".to_owned(), longest: DAY + HOUR, resets };
    budget("a", Unit::Requests, vec![Definition { span, max, fill: Fill::Empty }])
}

#[test]
fn a_day_ends_at_its_reset_and_the_guard() {
    let budget = daily(1);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    let first = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &first), GRANTED);
    ledger.settle(&[ended(&first)], now()).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), refused(1_005 * SECOND));
    wait(1_005 * SECOND);
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn an_attempt_that_straddles_the_reset_counts_in_both_days() {
    let budget = daily(2);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    let [straddling, early] = [one_of(&[&budget]), one_of(&[&budget])];
    wait(900 * SECOND);
    assert_eq!(ask(&mut ledger, &straddling), GRANTED);
    assert_eq!(ask(&mut ledger, &early), GRANTED);
    ledger.settle(&[ended(&early)], now()).unwrap();
    // Less than five seconds before the reset, on a clock that may be five seconds late.
    wait(96 * SECOND);
    ledger.settle(&[ended(&straddling)], now()).unwrap();
    wait(9 * SECOND);
    assert_eq!(only_limit(&mut ledger).held, 1);
    wait(DAY);
    assert_eq!(only_limit(&mut ledger).held, 0);
}

fn cool(ledger: &mut LedgerConnection, scope: &str, duration: Option<Duration>) {
    leave_alone(ledger, scope, duration, 0);
}

fn part(scope: &str) -> AccountPart {
    AccountPart { account: "a".to_owned(), scope: scope.to_owned() }
}

fn leave_alone(ledger: &mut LedgerConnection, scope: &str, duration: Option<Duration>, level: u32) {
    let why = Why { reason: CooldownReason::RateLimited, level };
    ledger.cool_down(&provider(), &part(scope), duration, why).unwrap();
}

#[test]
fn why_and_how_often_is_told_to_whoever_asks_until_a_probe_has_passed() {
    let budget = requests("a", 10);
    let (database, mut ledger, mut wait) = stopped(&[&budget]);
    // Two replicas at the same time, one of which knew that it was not the first wait.
    leave_alone(&mut ledger, "model:m", Some(MINUTE), 2);
    leave_alone(&mut ledger, "model:m", Some(SECOND), 1);
    leave_alone(&mut ledger, "model:unasked", Some(MINUTE), 1);
    let told = |after, is_probed, level| {
        let why = Why { reason: CooldownReason::RateLimited, level };
        vec![Cooled { part: part("model:m"), after, is_probed, why }]
    };
    let cooled = |ledger: &mut LedgerConnection| {
        let claim = one_of(&[&budget]);
        let reserved = ledger.reserve(&provider(), std::slice::from_ref(&claim)).unwrap();
        (claim, reserved.cooled)
    };
    assert_eq!(cooled(&mut ledger).1, told(MINUTE, false, 2));
    wait(MINUTE);
    assert_eq!(cooled(&mut ledger).1, told(SECOND, true, 2), "the probe has to know it");
    leave_alone(&mut ledger, "model:m", Some(MINUTE), 3);
    wait(MINUTE);
    let (probe, told_to_probe) = cooled(&mut ledger);
    assert_eq!(told_to_probe, told(SECOND, true, 3));
    let passed = Settlement { probe: Some(ProbeEnd::Passed), ..ended(&probe) };
    ledger.settle(&[passed], now()).unwrap();
    assert_eq!(cooled(&mut ledger).1, []);
    // As the release before says it, which does not count.
    database.execute("SELECT ledger_cool_down('p', 'a', 'model:m', 60000000, 'rate_limited')");
    assert_eq!(cooled(&mut ledger).1, told(MINUTE, false, 0));
}

#[test]
fn what_nobody_has_probed_for_a_day_is_forgotten() {
    let (_database, mut ledger, mut wait) = stopped(&[]);
    leave_alone(&mut ledger, "key:old", Some(MINUTE), 0);
    leave_alone(&mut ledger, "model:m", Some(MINUTE), 2);
    wait(DAY + MINUTE);
    leave_alone(&mut ledger, "model:other", Some(MINUTE), 0);
    let scopes = |ledger: &mut LedgerConnection| {
        let cooldowns = ledger.snapshot().unwrap().cooldowns;
        cooldowns.into_iter().map(|cooldown| cooldown.scope).collect::<Vec<_>>()
    };
    assert_eq!(scopes(&mut ledger), ["key:old", "model:m", "model:other"], "not before a whole day is over");
    wait(SECOND);
    leave_alone(&mut ledger, "model:m", Some(MINUTE), 3);
    assert_eq!(scopes(&mut ledger), ["model:m", "model:other"]);
}

#[test]
fn after_a_cooldown_one_attempt_alone_finds_out() {
    let budget = requests("a", 10);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    cool(&mut ledger, "model:other", Some(MINUTE));
    cool(&mut ledger, "model:m", Some(MINUTE));
    cool(&mut ledger, "model:m", Some(SECOND));
    let attempt = || one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &attempt()), refused(MINUTE));
    wait(MINUTE);
    let probe = attempt();
    assert_eq!(ask(&mut ledger, &probe), Decision::Granted { account: 0, is_probe: true });
    assert_eq!(ask(&mut ledger, &attempt()), refused(SECOND));
    // Its client left: the next one is the probe. It fails, and so does nobody after it.
    let left = Settlement { probe: Some(ProbeEnd::Left), ..ended(&probe) };
    ledger.settle(&[left], now()).unwrap();
    let second = attempt();
    assert_eq!(ask(&mut ledger, &second), Decision::Granted { account: 0, is_probe: true });
    cool(&mut ledger, "model:m", Some(MINUTE));
    assert_eq!(ask(&mut ledger, &attempt()), refused(MINUTE));
    wait(MINUTE);
    // The third one's replica dies: after a while a fourth takes its place, and passes.
    assert_eq!(ask(&mut ledger, &attempt()), Decision::Granted { account: 0, is_probe: true });
    wait(SECOND + CAP);
    let fourth = attempt();
    assert_eq!(ask(&mut ledger, &fourth), Decision::Granted { account: 0, is_probe: true });
    let passed = Settlement { probe: Some(ProbeEnd::Passed), ..ended(&fourth) };
    ledger.settle(&[passed], now()).unwrap();
    assert_eq!(ask(&mut ledger, &attempt()), GRANTED);
}

#[test]
fn an_account_that_is_off_stays_so_until_it_is_reopened() {
    let budget = requests("a", 10);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    cool(&mut ledger, "", None);
    wait(1_000 * DAY);
    assert!(
        matches!(ask(&mut ledger, &one_of(&[&budget])), Decision::Refused { after } if after > 1_000 * DAY)
    );
    let cooling = ledger.snapshot().unwrap().cooldowns;
    assert_eq!((cooling[0].account.as_str(), cooling[0].reason.as_str()), ("a", "rate_limited"));
    ledger.reopen(&provider(), &part("")).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn a_released_probe_leaves_its_place() {
    let budget = requests("a", 10);
    let (_database, mut ledger, mut wait) = stopped(&[&budget]);
    cool(&mut ledger, "", Some(SECOND));
    wait(SECOND);
    let probe = one_of(&[&budget]);
    assert_eq!(ask(&mut ledger, &probe), Decision::Granted { account: 0, is_probe: true });
    ledger.release(&[probe.id]).unwrap();
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), Decision::Granted { account: 0, is_probe: true });
}

#[test]
fn after_a_restore_every_limit_is_held_for_one_window() {
    let budgets = [requests("a", 10), daily(10)];
    let both = budget("b", Unit::Requests, vec![sliding(10, HOUR)]);
    let (_database, mut ledger, _) = stopped(&[&budgets[0], &budgets[1], &both]);
    assert_eq!(ledger.block(None).unwrap(), 3);
    let blocked: Vec<Duration> =
        ledger.snapshot().unwrap().limits.iter().map(|limit| limit.blocked_for).collect();
    assert_eq!(blocked, [MINUTE, 1_005 * SECOND, HOUR]);
    assert_eq!(ask(&mut ledger, &one_of(&[&both])), refused(HOUR));
}

#[test]
fn each_call_has_a_higher_number() {
    let budget = requests("a", 10);
    let (_database, mut ledger, _) = stopped(&[&budget]);
    let [first, second] = [0, 1].map(|_| ledger.reserve(&provider(), &[one_of(&[&budget])]).unwrap().serial);
    assert!(second > first);
}

#[test]
fn a_lease_leaves_room_for_exact_calls() {
    let budget = requests("a", 100);
    let (_database, mut ledger, _) = stopped(&[&budget]);
    let lease = || {
        let mut lease = one_of(&[&budget]);
        (lease.accounts[0].lines[0].amount, lease.accounts[0].lines[0].leave) = (40, 20);
        lease
    };
    assert_eq!(ask(&mut ledger, &lease()), GRANTED);
    assert_eq!(ask(&mut ledger, &lease()), GRANTED);
    assert!(matches!(ask(&mut ledger, &lease()), Decision::Refused { .. }));
    assert_eq!(ask(&mut ledger, &one_of(&[&budget])), GRANTED);
}

#[test]
fn a_refusal_names_the_limits_in_the_way() {
    let [first, second] = ["a", "b"].map(|name| requests(name, 1));
    let (_database, mut ledger, _) = stopped(&[&first, &second]);
    for budget in [&first, &second] {
        let claim = one_of(&[budget]);
        assert_eq!(ask(&mut ledger, &claim), GRANTED);
        ledger.settle(&[ended(&claim)], now()).unwrap();
    }
    let attempt = claim(vec![account(vec![line(&first, 1)]), account(vec![line(&second, 1)])]);
    let reserved = ledger.reserve(&provider(), &[attempt]).unwrap();
    let mut named: Vec<_> = reserved
        .obstacles
        .iter()
        .map(|obstacle| (obstacle.budget.account.as_str(), obstacle.amount, obstacle.after))
        .collect();
    named.sort_unstable();
    assert_eq!(named, [("a", 1, MINUTE), ("b", 1, MINUTE)]);
}
