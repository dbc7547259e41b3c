//! What a book promises, case by case; `properties.rs` tries the same at random.

use std::time::Duration;

use crate::domain::calendar::{Calendar, Period, Zone};
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::ids::ProviderId;
use crate::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged, Unit, Window};
use crate::domain::price::Price;
use crate::domain::provider::{
    AccountSpec, Auth, Capabilities, Dialect, ModelSpec, ProviderSpec, Quirks, StreamUsage, Timeouts,
};
use crate::domain::usage::Usage;

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// A minute as budgets keep it.
pub(super) const LONG_MINUTE: Duration = Duration::from_micros(60_006_000);

pub(super) fn start() -> Moment {
    Moment::from_unix_micros(1_790_000_000_000_000)
}

pub(super) fn per_minute(scope: Scope, unit: Unit, max: u64) -> Limit {
    Limit { scope, unit, max, window: Window::Sliding(MINUTE) }
}

pub(super) fn parallel(max: u64) -> Limit {
    Limit { scope: Scope::Account, unit: Unit::Parallel, max, window: Window::InFlight }
}

/// A provider with `accounts` accounts and two models; the first one is in the pool `shared`.
pub(super) fn provider(accounts: usize, limits: Vec<Limit>) -> ProviderSpec {
    ProviderSpec {
        id: ProviderId::new("test"),
        display_name: "Test".to_owned(),
        base_url: "http://127.0.0.1:1/v1".to_owned(),
        dialect: Dialect::OpenAi,
        auth: Auth::Bearer,
        enabled: true,
        disabled_reason: None,
        keys_env: Vec::new(),
        requests_charged: RequestsCharged::Unknown,
        tokens_charged: TokensCharged::Usage,
        trains_on_data: true,
        limits,
        documented_limits: Vec::new(),
        models: vec![model("pooled", Some("shared")), model("alone", None)],
        accounts: (0..accounts)
            .map(|index| AccountSpec { name: format!("env-{index}"), keys: Vec::new() })
            .collect(),
        signals: crate::domain::signals::Signals::default(),
        quirks: Quirks {
            drop_fields: Vec::new(),
            rename_fields: Vec::new(),
            allow_fields: Vec::new(),
            stream_usage: StreamUsage::Asked,
        },
        timeouts: Timeouts { connect: SECOND, first_token: MINUTE, stall: MINUTE, total: MINUTE },
    }
}

fn model(id: &str, pool: Option<&str>) -> ModelSpec {
    ModelSpec {
        id: id.to_owned(),
        display_name: id.to_owned(),
        family: None,
        size_label: "Small".to_owned(),
        intelligence_rank: 1,
        speed_rank: 1,
        context_window: None,
        max_output_tokens: None,
        capabilities: Capabilities::default(),
        pool: pool.map(str::to_owned),
        price: None,
        limits: Vec::new(),
        enabled: true,
        disabled_reason: None,
        number: None,
    }
}

pub(super) const POOLED: ModelIndex = ModelIndex(0);
pub(super) const ALONE: ModelIndex = ModelIndex(1);

pub(super) fn demand(model: ModelIndex, input_tokens: u64, output_tokens: u64) -> Demand {
    Demand { model, input_tokens, output_tokens, send_within: SECOND, is_streamed: true }
}

pub(super) fn small() -> Demand {
    demand(POOLED, 10, 10)
}

pub(super) fn exact(input_tokens: u64, output_tokens: u64) -> Charge {
    Charge::Exact(Usage { input_tokens, output_tokens })
}

#[track_caller]
pub(super) fn granted(answer: Answer) -> Hold {
    match answer {
        Answer::Granted(hold) => hold,
        other => panic!("not granted: {other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn held(book: &Book, now: Moment) -> Vec<u64> {
    book.snapshot(now).budgets.iter().map(|budget| budget.held).collect()
}

#[test]
fn a_provider_without_limits_grants_always_and_touches_no_budget() {
    let mut book = Book::new(&provider(2, Vec::new()));
    let holds: Vec<Hold> = (0..1000).map(|_| granted(book.reserve(start(), &small()))).collect();
    assert!(holds.iter().all(|hold| hold.account() == AccountIndex(0) && hold.model() == POOLED));
    assert_eq!(book.open_holds(), 1000);
    holds.into_iter().for_each(|hold| book.settle(start(), hold, Spent::NotSent));
    assert_eq!(book.snapshot(start()), BookSnapshot::default());
}

#[test]
fn a_provider_without_accounts_never_grants() {
    let mut book = Book::new(&provider(0, Vec::new()));
    assert_eq!(refused(book.reserve(start(), &small())), Refusal::NotUntil(Moment::NEVER));
}

#[test]
fn a_model_that_the_provider_has_not_is_never_granted() {
    let mut book = Book::new(&provider(1, Vec::new()));
    let unknown = demand(ModelIndex(7), 1, 1);
    assert_eq!(refused(book.reserve(start(), &unknown)), Refusal::NotUntil(Moment::NEVER));
}

#[test]
fn a_grant_tells_until_when_to_send() {
    let mut book = Book::new(&provider(1, Vec::new()));
    let hold = granted(book.reserve(start(), &small()));
    assert_eq!(hold.send_by(), start() + SECOND);
    book.settle(start(), hold, Spent::NotSent);
}

#[test]
fn what_exceeds_a_whole_limit_is_too_large_whatever_else_is_held() {
    let mut book = Book::new(&provider(2, vec![per_minute(Scope::Account, Unit::Tokens, 100)]));
    assert_eq!(refused(book.reserve(start(), &demand(POOLED, 60, 41))), Refusal::TooLarge);
    let hold = granted(book.reserve(start(), &demand(POOLED, 60, 40)));
    assert_eq!(refused(book.reserve(start(), &demand(POOLED, 60, 41))), Refusal::TooLarge);
    book.settle(start(), hold, Spent::NotSent);
}

#[test]
fn the_account_with_the_most_room_pays_and_the_first_of_equals() {
    let mut book = Book::new(&provider(3, vec![per_minute(Scope::Account, Unit::Requests, 2)]));
    let accounts: Vec<usize> = (0..6)
        .map(|_| {
            let hold = granted(book.reserve(start(), &small()));
            let account = hold.account().0;
            book.settle(start(), hold, Spent::Ended(exact(1, 1)));
            account
        })
        .collect();
    assert_eq!(accounts, [0, 1, 2, 0, 1, 2]);
    let not_until = Refusal::NotUntil(start() + LONG_MINUTE);
    assert_eq!(refused(book.reserve(start(), &small())), not_until);
}

#[test]
fn a_cooling_account_or_model_is_left_alone_until_its_instant() {
    let mut book = Book::new(&provider(2, Vec::new()));
    let (soon, later) = (start() + SECOND, start() + MINUTE);
    book.cool_down(AccountIndex(0), None, later, CooldownReason::RateLimited);
    book.cool_down(AccountIndex(1), Some(POOLED), soon, CooldownReason::RateLimited);
    assert_eq!(refused(book.reserve(start(), &small())), Refusal::NotUntil(soon));
    let other_model = granted(book.reserve(start(), &demand(ALONE, 1, 1)));
    assert_eq!(other_model.account(), AccountIndex(1));
    let after = granted(book.reserve(soon, &small()));
    assert_eq!(after.account(), AccountIndex(1));
    let cooldowns = book.snapshot(start()).cooldowns;
    assert_eq!(cooldowns.len(), 1, "the book's clock stands at the latest instant: {cooldowns:?}");
    assert_eq!((cooldowns[0].account.as_str(), cooldowns[0].until), ("env-0", later));
    book.settle(soon, other_model, Spent::NotSent);
    book.settle(soon, after, Spent::NotSent);
}

#[test]
fn a_pool_binds_its_members_and_a_model_limit_its_model() {
    let mut spec = provider(1, vec![per_minute(Scope::Pool("shared".to_owned()), Unit::Requests, 1)]);
    spec.models[1].limits = vec![per_minute(Scope::Model, Unit::InputTokens, 100)];
    let mut book = Book::new(&spec);
    assert!(!book.has_token_limits(POOLED));
    assert!(book.has_token_limits(ALONE));
    let pooled = granted(book.reserve(start(), &small()));
    let alone = granted(book.reserve(start(), &demand(ALONE, 70, 10)));
    assert_eq!(held(&book, start()), [1, 70]);
    refused(book.reserve(start(), &small()));
    let scopes: Vec<String> = book.snapshot(start()).budgets.into_iter().map(|budget| budget.scope).collect();
    assert_eq!(scopes, ["pool:shared", "model:alone"]);
    book.settle(start(), pooled, Spent::NotSent);
    book.settle(start(), alone, Spent::NotSent);
}

#[test]
fn a_model_limit_of_the_provider_is_each_models_own() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Model, Unit::Requests, 1)]));
    let holds = [POOLED, ALONE].map(|model| granted(book.reserve(start(), &demand(model, 1, 1))));
    assert_eq!(held(&book, start()), [1, 1]);
    holds.into_iter().for_each(|hold| book.settle(start(), hold, Spent::NotSent));
}

#[test]
fn a_refusal_by_one_budget_leaves_the_others_untouched() {
    let limits = vec![
        per_minute(Scope::Account, Unit::Requests, 10),
        per_minute(Scope::Account, Unit::OutputTokens, 50),
        parallel(10),
    ];
    let mut book = Book::new(&provider(1, limits));
    let hold = granted(book.reserve(start(), &demand(POOLED, 1, 40)));
    let before = book.snapshot(start());
    refused(book.reserve(start(), &demand(POOLED, 1, 11)));
    assert_eq!(book.snapshot(start()), before);
    book.settle(start(), hold, Spent::NotSent);
    assert_eq!(held(&book, start()), [0, 0, 0]);
}

#[test]
fn requests_in_flight_cannot_be_back_before_a_window_from_now() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Requests, 1)]));
    let mut hold = granted(book.reserve(start(), &small()));
    let later = start() + 9 * SECOND;
    assert_eq!(refused(book.reserve(later, &small())), Refusal::NotUntil(later + LONG_MINUTE));
    book.first_byte(later, &mut hold);
    let even_later = start() + 10 * SECOND;
    assert_eq!(refused(book.reserve(even_later, &small())), Refusal::NotUntil(later + LONG_MINUTE));
    book.settle(even_later, hold, Spent::Aborted(exact(1, 1)));
    assert_eq!(refused(book.reserve(even_later, &small())), Refusal::NotUntil(later + LONG_MINUTE));
}

#[test]
fn what_open_attempts_may_give_back_is_worth_asking_for_every_second() {
    let limits = [per_minute(Scope::Account, Unit::Tokens, 20), parallel(1)];
    for limit in limits {
        let mut book = Book::new(&provider(1, vec![limit]));
        let hold = granted(book.reserve(start(), &small()));
        assert_eq!(refused(book.reserve(start(), &small())), Refusal::NotUntil(start() + SECOND));
        book.settle(start(), hold, Spent::NotSent);
        let again = granted(book.reserve(start(), &small()));
        book.settle(start(), again, Spent::NotSent);
    }
}

#[test]
fn an_output_cap_that_stays_charged_is_not_expected_back_within_the_window() {
    let mut spec = provider(1, vec![per_minute(Scope::Account, Unit::Tokens, 20)]);
    spec.tokens_charged = TokensCharged::Reserve;
    let mut book = Book::new(&spec);
    let hold = granted(book.reserve(start(), &demand(POOLED, 5, 15)));
    let mut not_until = |wanted| refused(book.reserve(start(), &demand(POOLED, wanted, 0)));
    assert_eq!(not_until(5), Refusal::NotUntil(start() + SECOND));
    assert_eq!(not_until(6), Refusal::NotUntil(start() + LONG_MINUTE));
    book.settle(start(), hold, Spent::NotSent);
}

#[test]
fn a_scheduled_release_sooner_than_the_next_look_keeps_its_instant() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Tokens, 40)]));
    let paid = granted(book.reserve(start(), &small()));
    book.settle(start(), paid, Spent::Ended(exact(10, 10)));
    let open = granted(book.reserve(start(), &small()));
    let almost = start() + LONG_MINUTE - Duration::from_millis(300);
    assert_eq!(refused(book.reserve(almost, &small())), Refusal::NotUntil(start() + LONG_MINUTE));
    book.settle(almost, open, Spent::NotSent);
}

#[test]
fn use_above_the_estimate_is_debt_that_blocks_until_it_is_paid() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Tokens, 100)]));
    let hold = granted(book.reserve(start(), &small()));
    book.settle(start() + SECOND, hold, Spent::Ended(exact(300, 300)));
    assert_eq!(held(&book, start() + SECOND), [600]);
    let paid = start() + SECOND + LONG_MINUTE;
    let nothing = demand(POOLED, 0, 0);
    assert_eq!(refused(book.reserve(start() + SECOND, &nothing)), Refusal::NotUntil(paid));
    let hold = granted(book.reserve(paid, &nothing));
    book.settle(paid, hold, Spent::NotSent);
}

#[test]
fn only_the_first_byte_that_came_first_counts() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Requests, 1)]));
    let mut hold = granted(book.reserve(start(), &small()));
    book.first_byte(start() + SECOND, &mut hold);
    book.first_byte(start() + 9 * SECOND, &mut hold);
    let release = start() + SECOND + LONG_MINUTE;
    book.settle(start() + 10 * SECOND, hold, Spent::Ended(exact(1, 1)));
    assert_eq!(refused(book.reserve(start() + 10 * SECOND, &small())), Refusal::NotUntil(release));
}

#[test]
fn a_settlement_after_the_release_takes_nothing_back_twice() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Requests, 2)]));
    let mut slow = granted(book.reserve(start(), &small()));
    book.first_byte(start(), &mut slow);
    let late = start() + LONG_MINUTE + SECOND;
    let fresh = granted(book.reserve(late, &small()));
    book.settle(late, slow, Spent::Ended(exact(1, 1)));
    assert_eq!(held(&book, late), [1]);
    book.settle(late, fresh, Spent::NotSent);
    assert_eq!(held(&book, late), [0]);
}

#[test]
fn what_is_left_adds_up_over_the_accounts_and_a_debt_leaves_nothing() {
    let limits =
        vec![per_minute(Scope::Account, Unit::Requests, 4), per_minute(Scope::Account, Unit::Tokens, 100)];
    let spec = provider(2, limits);
    let mut book = Book::new(&spec);
    let left = |book: &Book, now| book.left(now).iter().map(|left| (left.left, left.max)).collect::<Vec<_>>();
    assert_eq!(left(&book, start()), [(8, 8), (200, 200)]);
    let hold = granted(book.reserve(start(), &demand(ALONE, 10, 20)));
    assert_eq!(left(&book, start()), [(7, 8), (170, 200)]);
    book.settle(start(), hold, Spent::Ended(exact(300, 0)));
    assert_eq!(left(&book, start()), [(7, 8), (100, 200)]);
    assert_eq!(left(&book, start() + LONG_MINUTE), [(8, 8), (200, 200)]);
    assert_eq!(book.left(start()).len(), Terms::new(&spec).all().count());

    book.cool_down(AccountIndex(0), None, start() + 2 * MINUTE, CooldownReason::RateLimited);
    book.cool_down(AccountIndex(1), Some(ALONE), start() + 3 * MINUTE, CooldownReason::ModelGone);
    let alone = (AccountIndex(1), Some(ALONE), CooldownReason::ModelGone);
    let whole = (AccountIndex(0), None, CooldownReason::RateLimited);
    assert_eq!(book.cooling(start() + LONG_MINUTE), [whole, alone]);
    assert_eq!(book.cooling(start() + 2 * MINUTE), [alone]);
    assert_eq!(book.cooling(start() + 3 * MINUTE), []);
    let off: Vec<bool> = book.off_until(ALONE).map(|(_, until)| until > start()).collect();
    assert_eq!(off, [false, true]);
}

#[test]
fn a_snapshot_reads_well_as_json() {
    let limits = vec![per_minute(Scope::Account, Unit::Requests, 30), parallel(2)];
    let mut book = Book::new(&provider(1, limits));
    let hold = granted(book.reserve(start(), &small()));
    book.cool_down(AccountIndex(0), Some(ALONE), Moment::NEVER, CooldownReason::RateLimited);
    let json = serde_json::to_string(&book.snapshot(start())).unwrap();
    let budget = r#"{"account":"env-0","scope":"account","unit":"requests","window":"60s","window_ms":60000,"max":30,"held":1,"free_at":null}"#;
    assert!(json.contains(budget), "{json}");
    assert!(
        json.contains(r#""unit":"parallel","window":"in flight","window_ms":null,"max":2,"held":1"#),
        "{json}"
    );
    assert!(json.contains(r#""open_holds":1"#) && json.contains(r#""model":"alone""#), "{json}");
    book.settle(start(), hold, Spent::NotSent);
}

#[test]
fn a_saturated_large_limit_is_used_to_more_than_99_per_cent() {
    const MAX: u64 = 100_000;
    const MINUTES: u64 = 20;
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Tokens, MAX)]));
    let (mut now, mut used) = (start(), 0);
    while now < start() + MINUTE * u32::try_from(MINUTES).unwrap() {
        match book.reserve(now, &demand(POOLED, 700, 300)) {
            Answer::Granted(hold) => {
                book.settle(now, hold, Spent::Ended(exact(700, 300)));
                used += 1000;
                now = now + Duration::from_millis(37);
            }
            Answer::Refused(Refusal::NotUntil(instant)) => now = instant,
            other => panic!("{other:?}"),
        }
    }
    assert!(used * 100 >= MAX * MINUTES * 99, "{used}");
}

#[test]
fn a_restored_book_holds_what_the_one_before_it_held() {
    let limits = vec![per_minute(Scope::Account, Unit::Requests, 3), parallel(3)];
    let spec = provider(1, limits);
    let demand = Demand {
        model: ModelIndex(0),
        input_tokens: 10,
        output_tokens: 10,
        send_within: SECOND,
        is_streamed: true,
    };
    let mut before = Book::new(&spec);
    let (Answer::Granted(ended), Answer::Granted(open)) =
        (before.reserve(start(), &demand), before.reserve(start(), &demand))
    else {
        panic!("there is room for both");
    };
    let finish = Finish::Ended(start() + SECOND, Charge::AtLeast(Usage::default()));
    let ended_record = HoldRecord { finish: Some(finish), ..ended.record() };
    let mut after = Book::new(&spec);
    let restart = start() + 10 * SECOND;
    after.restore(restart, &ended_record);
    after.restore(restart, &open.record());
    let held = |book: &Book, at: Moment| -> Vec<u64> {
        book.snapshot(at).budgets.iter().map(|budget| budget.held).collect()
    };
    assert_eq!(held(&after, restart), [2, 1]);
    assert_eq!(
        held(&after, start() + SECOND + LONG_MINUTE),
        [1, 0],
        "the one that had ended comes back first"
    );
    assert_eq!(
        held(&after, restart + 5 * SECOND + LONG_MINUTE),
        [0, 0],
        "the other one was an abort of the restart"
    );
    before.settle(restart, ended, Spent::NotSent);
    before.settle(restart, open, Spent::NotSent);
}

fn at(text: &str) -> Moment {
    Moment::from_unix_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn per_calendar(period: Period, zone: &str, unit: Unit, max: u64) -> Limit {
    let calendar = Calendar { period, zone: Zone::named(zone).unwrap() };
    Limit { scope: Scope::Account, unit, max, window: Window::Calendar(calendar) }
}

#[test]
fn an_attempt_that_straddles_the_reset_is_in_both_days() {
    let mut book = Book::new(&provider(1, vec![per_calendar(Period::Day, "UTC", Unit::Requests, 1)]));
    let mut hold = granted(book.reserve(at("2026-11-22T23:59:50Z"), &small()));
    // In flight over midnight: whichever day counts it, the other may not be used up by somebody else.
    let after = at("2026-11-23T00:00:10Z");
    assert_eq!(refused(book.reserve(after, &small())), Refusal::NotUntil(at("2026-11-24T00:00:05Z")));
    book.first_byte(after, &mut hold);
    book.settle(after, hold, Spent::Ended(exact(1, 1)));
    assert_eq!(refused(book.reserve(after, &small())), Refusal::NotUntil(at("2026-11-24T00:00:05Z")));
}

#[test]
fn five_seconds_around_the_reset_belong_to_both_days() {
    for (first_byte, free) in [
        ("2026-11-22T23:59:54.999999Z", "2026-11-23T00:00:05Z"),
        ("2026-11-22T23:59:55Z", "2026-11-24T00:00:05Z"),
    ] {
        let mut book = Book::new(&provider(1, vec![per_calendar(Period::Day, "UTC", Unit::Requests, 1)]));
        let mut hold = granted(book.reserve(at("2026-11-22T23:59:50Z"), &small()));
        book.first_byte(at(first_byte), &mut hold);
        book.settle(at(first_byte), hold, Spent::Ended(exact(1, 1)));
        let still = at("2026-11-23T00:00:04.999999Z");
        assert_eq!(refused(book.reserve(still, &small())), Refusal::NotUntil(at(free)));
        let next = granted(book.reserve(at(free), &small()));
        book.settle(at(free), next, Spent::NotSent);
    }
}

#[test]
fn credits_are_counted_by_the_models_price() {
    let mut spec = provider(1, vec![per_calendar(Period::Month, "UTC", Unit::Credits, 100_000)]);
    spec.models[0].price = Some(Price { per_request: 0, per_1k_input: 4_000, per_1k_output: 20_000 });
    spec.models[1].price = Some(Price { per_request: 30_000, ..Price::default() });
    let mut book = Book::new(&spec);
    assert!(book.has_token_limits(POOLED));
    let now = at("2028-02-29T12:00:00Z");
    assert_eq!(refused(book.reserve(now, &demand(POOLED, 25_000, 1))), Refusal::TooLarge);
    let hold = granted(book.reserve(now, &demand(POOLED, 10_000, 3_000)));
    assert_eq!(held(&book, now), [100_000]);
    let flat = demand(ALONE, 9, 9);
    assert_eq!(
        refused(book.reserve(now, &flat)),
        Refusal::NotUntil(now + SECOND),
        "unused tokens may come back"
    );
    book.settle(now, hold, Spent::Ended(exact(10_000, 1_501)));
    assert_eq!(held(&book, now), [70_020]);
    assert_eq!(refused(book.reserve(now, &flat)), Refusal::NotUntil(at("2028-03-01T00:00:05Z")));
    let budget = &book.snapshot(now).budgets[0];
    assert_eq!((budget.unit, budget.window.as_str(), budget.window_ms), ("micro_credits", "month@UTC", None));
}

#[test]
fn a_block_holds_the_chosen_limits_of_one_account_for_one_window() {
    let limits = vec![
        per_minute(Scope::Account, Unit::Requests, 3),
        per_calendar(Period::Day, "Asia/Tokyo", Unit::Tokens, 100),
        parallel(2),
    ];
    let mut book = Book::new(&provider(2, limits));
    let now = at("2026-11-23T10:00:00Z");
    book.block(now, AccountIndex(0), now, |term| term.unit() != Unit::Tokens);
    let late = 5 * SECOND;
    assert_eq!(held(&book, now), [3, 0, 2, 0, 0, 0]);
    assert_eq!(held(&book, now + late), [3, 0, 0, 0, 0, 0]);
    assert_eq!(held(&book, now + late + LONG_MINUTE), [0; 6]);
    let hold = granted(book.reserve(now, &small()));
    assert_eq!(hold.account(), AccountIndex(1));
    book.settle(now, hold, Spent::NotSent);
    book.block(now, AccountIndex(1), now, |_| true);
    assert_eq!(refused(book.reserve(now, &small())), Refusal::NotUntil(now + late + LONG_MINUTE));
    let midnight = at("2026-11-23T15:00:05Z");
    book.block(now, AccountIndex(0), now, |_| true);
    assert_eq!(refused(book.reserve(now, &small())), Refusal::NotUntil(midnight));
    let hold = granted(book.reserve(midnight, &small()));
    book.settle(midnight, hold, Spent::NotSent);
}

#[test]
fn a_block_of_long_ago_holds_nothing_any_more() {
    let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Requests, 3)]));
    book.block(start() + 2 * MINUTE, AccountIndex(0), start(), |_| true);
    assert_eq!(held(&book, start() + 2 * MINUTE), [0]);
}

#[test]
fn a_smaller_maximum_after_a_restart_is_debt() {
    let spec = |max| provider(1, vec![per_calendar(Period::Day, "UTC", Unit::Requests, max)]);
    let mut before = Book::new(&spec(5));
    let now = at("2026-11-22T20:00:00Z");
    let records: Vec<HoldRecord> = (0..5)
        .map(|_| {
            let hold = granted(before.reserve(now, &small()));
            let record = HoldRecord { finish: Finish::of(Spent::Ended(exact(1, 1)), now), ..hold.record() };
            before.settle(now, hold, Spent::Ended(exact(1, 1)));
            record
        })
        .collect();
    for (max, refusal) in [(2, true), (5, true), (6, false)] {
        let mut after = Book::new(&spec(max));
        records.iter().for_each(|record| after.restore(now, record));
        assert_eq!(held(&after, now), [5]);
        match after.reserve(now, &small()) {
            Answer::Granted(hold) => {
                assert!(!refusal, "{max}");
                after.settle(now, hold, Spent::NotSent);
            }
            answer => {
                assert!(refusal, "{max}");
                assert_eq!(refused(answer), Refusal::NotUntil(at("2026-11-23T00:00:05Z")));
            }
        }
    }
}

#[test]
fn a_ledger_is_asked_first_where_most_is_left_and_not_at_all_where_nothing_is() {
    let mut book = Book::new(&provider(3, vec![per_minute(Scope::Account, Unit::Requests, 2)]));
    let now = start();
    let accounts = |numbers: &[usize]| Ok(numbers.iter().copied().map(AccountIndex).collect());
    assert_eq!(book.rank(now, &small()), accounts(&[0, 1, 2]));
    // What the ledger grants is written down, also beyond what this book sees room for.
    let mut holds: Vec<Hold> = [0, 0, 0, 2]
        .map(|account| book.grant(now, AccountIndex(account), &small(), now + SECOND))
        .into_iter()
        .collect();
    assert_eq!(book.rank(now, &small()), accounts(&[1, 2]));
    book.cool_down(AccountIndex(1), None, now + SECOND, CooldownReason::RateLimited);
    assert_eq!(book.rank(now, &small()), accounts(&[2]));
    book.cool_down(AccountIndex(2), None, now + 9 * SECOND, CooldownReason::RateLimited);
    assert_eq!(book.rank(now, &small()), Err(Refusal::NotUntil(now + SECOND)));
    for hold in &mut holds {
        book.first_byte(now, hold);
    }
    holds.into_iter().for_each(|hold| book.settle(now, hold, Spent::Ended(exact(1, 1))));
    assert_eq!(book.open_holds(), 0);
    assert_eq!(book.rank(now + LONG_MINUTE, &small()), accounts(&[0, 1, 2]));
}
