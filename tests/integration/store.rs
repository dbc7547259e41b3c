//! The store keeps its promises, on both backends alike.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use freellmapi::access::{
    ApiKey, MasterKey, Pepper, PepperError, ProvisionError, Refused, ensure_tenant_and_key, load_keyring,
};
use freellmapi::db::{
    CooldownRow, CoverageRow, FinishRow, HoldBatch, HoldChange, HoldRow, HoldTarget, NewKey, Revocation,
    Store, StoreError, Totals, lock_exclusively, open,
};
use freellmapi::domain::clock::Moment;
use freellmapi::domain::ids::{EventId, KeyId, ProviderId, RequestId, TenantId};
use freellmapi::domain::secret::Secret;
use freellmapi::domain::tenant::{TenantChange, TenantLimits, TenantPolicy, TenantUse, Used, UsedUntil};
use freellmapi::domain::usage::{Outcome, ServedBy, Usage, UsageRecord};
use freellmapi::quota::TenantBooks;

use crate::support::database::TestDatabase;

const MIGRATIONS: usize = 9;

/// Runs each test once on SQLite and once on Postgres, on a database made by the first name.
macro_rules! on_both_backends {
    ($($make_sqlite:ident | $make_postgres:ident => [$($test:ident),* $(,)?];)*) => {
        mod sqlite {
            $($(
                #[test]
                fn $test() {
                    super::$test(&super::TestDatabase::$make_sqlite());
                }
            )*)*
        }

        mod postgres {
            $($(
                #[test]
                fn $test() {
                    super::$test(&super::TestDatabase::$make_postgres());
                }
            )*)*
        }
    };
}

on_both_backends! {
    empty_sqlite | empty_postgres => [
        migrations_apply_revert_and_apply_again,
        of_concurrent_migrations_one_applies_each_step,
    ];
    sqlite | postgres => [
        a_template_has_nothing_pending,
        a_tenant_has_its_name_alone,
        a_tenant_is_granted_what_was_changed_and_keeps_the_rest,
        a_removed_tenant_takes_its_keys_along,
        the_use_of_a_tenant_is_what_it_called_providers_for,
        a_key_lives_from_creation_to_revocation,
        a_digest_belongs_to_one_key,
        a_key_needs_a_tenant,
        model_numbers_are_stable_and_in_argument_order,
        replicas_number_models_alike,
        an_event_is_stored_as_it_is,
        an_event_counts_once_however_often_it_arrives,
        a_large_batch_is_stored_whole,
        a_hold_is_kept_from_its_beginning_to_its_end,
        a_batch_of_holds_is_written_whole_or_not_at_all,
        a_later_cooldown_stays,
        coverage_is_replaced_and_blocks_add_up,
        what_was_served_is_added_up_by_spans,
        a_failed_batch_leaves_nothing,
        totals_include_the_start_and_exclude_the_end,
        totals_tell_outcomes_and_tenants_apart,
        absurd_token_counts_do_not_break_the_sums,
        a_purge_spares_what_ended_at_the_instant_or_later,
        of_racing_seals_one_wins_for_all,
        replicas_share_one_pepper,
        a_wrong_master_key_is_told_as_such,
        finding_a_pepper_makes_none,
        of_replicas_that_start_together_one_shows_a_key,
        a_store_with_tenants_gets_no_key,
        a_configured_key_exists_however_often_it_is_ensured,
        a_configured_key_that_admits_nobody_is_an_error,
    ];
}

fn at(micros: i64) -> Moment {
    Moment::from_unix_micros(micros)
}

fn master_key(digit: &str) -> MasterKey {
    MasterKey::obtain(Some(&Secret::new(digit.repeat(64))), "sqlite:unused.db").unwrap()
}

fn pepper(store: &dyn Store) -> Pepper {
    Pepper::obtain(store, &master_key("a")).unwrap()
}

/// A request of one tenant that took from `started` to `ended` and used 30 tokens.
fn event(tenant: i64, outcome: Outcome, started: i64, ended: i64) -> UsageRecord {
    UsageRecord {
        event_id: EventId::mint(),
        request_id: RequestId::from_incoming(Some("request")),
        tenant: TenantId(tenant),
        key: KeyId(7),
        served_by: None,
        outcome,
        streamed: true,
        attempts: 1,
        usage: Usage { input_tokens: 10, output_tokens: 20 },
        usage_reported: true,
        started_at: at(started),
        first_byte_at: None,
        ended_at: at(ended),
    }
}

/// What `count` threads answer that run `work` on stores of their own, as replicas do.
fn as_replicas<T: Send>(
    database: &TestDatabase,
    count: usize,
    work: impl Fn(usize, &dyn Store) -> T + Sync,
) -> Vec<T> {
    let stores: Vec<Arc<dyn Store>> = (0..count).map(|_| database.open()).collect();
    let work = &work;
    std::thread::scope(|scope| {
        let replicas: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(number, store)| scope.spawn(move || work(number, store.as_ref())))
            .collect();
        replicas.into_iter().map(|replica| replica.join().unwrap()).collect()
    })
}

fn migrations_apply_revert_and_apply_again(database: &TestDatabase) {
    let store = database.open();
    let pending = store.pending_migrations().unwrap();
    assert_eq!(pending.len(), MIGRATIONS);
    assert_eq!(store.migrate().unwrap(), pending);
    let expected = [
        "api_keys",
        "completion_events",
        "local_blocks",
        "local_cooldowns",
        "local_coverage",
        "local_holds",
        "models",
        "seals",
        "tenants",
    ];
    let mut tables = database.tables();
    // What replicas share exists where there can be several: on Postgres.
    tables.retain(|table| !table.starts_with("ledger_"));
    assert_eq!(tables, expected);
    assert!(store.pending_migrations().unwrap().is_empty());
    assert!(store.migrate().unwrap().is_empty());

    database.revert_migrations();
    assert!(database.tables().is_empty());
    assert_eq!(store.migrate().unwrap(), pending);
    assert!(store.tenants(at(0)).unwrap().is_empty());
}

fn of_concurrent_migrations_one_applies_each_step(database: &TestDatabase) {
    let mut applied: Vec<String> =
        as_replicas(database, 4, |_, store| store.migrate().unwrap()).into_iter().flatten().collect();
    applied.sort();
    applied.dedup();
    assert_eq!(applied.len(), MIGRATIONS);
    assert!(database.open().pending_migrations().unwrap().is_empty());
}

fn a_template_has_nothing_pending(database: &TestDatabase) {
    let store = database.open();
    store.ping().unwrap();
    assert!(store.pending_migrations().unwrap().is_empty());
}

fn a_tenant_has_its_name_alone(database: &TestDatabase) {
    let store = database.open();
    let tenant = store.add_tenant("acme", at(5)).unwrap();
    assert_eq!((tenant.name.as_str(), tenant.created_at, tenant.active_keys), ("acme", at(5), 0));
    assert!(matches!(store.add_tenant("acme", at(6)), Err(StoreError::NameTaken(name)) if name == "acme"));
    assert!(matches!(store.add_tenant_with_key("acme", "", &[1; 32], at(6)), Err(StoreError::NameTaken(_))));
    let other = store.add_tenant("Acme", at(7)).unwrap();
    assert_eq!(store.tenants(at(9)).unwrap(), [tenant.clone(), other]);
    assert_eq!(store.tenant_named("acme", at(9)).unwrap(), Some(tenant));
    assert_eq!(store.tenant_named("nobody", at(9)).unwrap(), None);
    assert!(store.keys(None).unwrap().is_empty());
}

fn a_tenant_is_granted_what_was_changed_and_keeps_the_rest(database: &TestDatabase) {
    let store = database.open();
    let first = TenantChange {
        rpm: Some(Some(30)),
        tpmonth: Some(Some(u64::MAX)),
        weight: Some(3),
        models: Some(Some(vec!["a".to_owned(), "groq/b c\"".to_owned()])),
        no_training: Some(true),
        ..TenantChange::default()
    };
    let tenant = store.add_tenant_with("acme", &first, at(5)).unwrap();
    assert_eq!((tenant.policy.limits.rpm, tenant.policy.limits.rpd), (Some(30), None));
    assert_eq!((tenant.policy.limits.tpmonth, tenant.policy.weight), (Some(i64::MAX as u64), 3));
    assert_eq!(tenant.policy.models, Some(vec!["a".to_owned(), "groq/b c\"".to_owned()]));
    assert!(tenant.policy.no_training);
    assert!(matches!(store.add_tenant_with("acme", &first, at(6)), Err(StoreError::NameTaken(_))));

    let second =
        TenantChange { rpm: Some(None), rpd: Some(Some(7)), models: Some(None), ..TenantChange::default() };
    assert!(store.change_tenant("acme", &second).unwrap());
    let limits = TenantLimits { rpm: None, rpd: Some(7), ..tenant.policy.limits };
    let policy = TenantPolicy { limits, models: None, ..tenant.policy };
    assert!(store.change_tenant("acme", &TenantChange::default()).unwrap());
    assert_eq!(store.tenant_policies().unwrap(), [(tenant.id, policy)]);
    assert!(!store.change_tenant("nobody", &second).unwrap());
    assert!(!store.change_tenant("nobody", &TenantChange::default()).unwrap());
    assert_eq!(store.add_tenant("plain", at(6)).unwrap().policy, TenantPolicy::default());
}

fn a_removed_tenant_takes_its_keys_along(database: &TestDatabase) {
    let store = database.open();
    let (removed, _) = store.add_tenant_with_key("acme", "", &[1; 32], at(5)).unwrap();
    store.add_tenant_with_key("other", "", &[2; 32], at(5)).unwrap();
    assert_eq!(store.remove_tenant("acme").unwrap(), Some(1));
    assert_eq!(store.remove_tenant("acme").unwrap(), None);
    let left: Vec<String> = store.keys(None).unwrap().into_iter().map(|key| key.tenant_name).collect();
    assert_eq!(left, ["other"]);
    assert!(store.add_tenant("acme", at(6)).unwrap().id > removed.id);
}

fn the_use_of_a_tenant_is_what_it_called_providers_for(database: &TestDatabase) {
    let store = database.open();
    const SECOND: i64 = 1_000_000;
    // 2026-11-23T12:00:00Z.
    let now = 1_795_435_200 * SECOND;
    let day = now - 12 * 3_600 * SECOND;
    let month = day - 22 * 86_400 * SECOND;
    let ended = |at: i64| event(1, Outcome::Served, at - 10, at);
    let uncalled = UsageRecord { attempts: 0, ..ended(now - 1) };
    let ends = [
        month - 1,
        month,
        day - 1,
        day,
        now - 61 * SECOND,
        now - 60 * SECOND,
        now - 59 * SECOND + 1,
        now - 1,
    ];
    let mut events: Vec<UsageRecord> = ends.into_iter().map(ended).collect();
    events.extend([uncalled, event(2, Outcome::Served, now - 10, now - 1)]);
    store.record(&events).unwrap();

    let mut used = store.tenant_use(TenantId(1), at(now)).unwrap();
    assert_eq!(used.month, Used { requests: 7, tokens: 210 });
    assert_eq!(used.day, Used { requests: 5, tokens: 150 });
    used.minute.sort_by_key(|piece| piece.until);
    let one = Used { requests: 1, tokens: 30 };
    let pieces =
        [now - 59 * SECOND, now - 58 * SECOND, now].map(|until| UsedUntil { until: at(until), used: one });
    assert_eq!(used.minute, pieces);
    assert_eq!(store.tenant_use(TenantId(3), at(now)).unwrap(), TenantUse::default());
}

fn a_key_lives_from_creation_to_revocation(database: &TestDatabase) {
    let store = database.open();
    let (tenant, first) = store.add_tenant_with_key("acme", "laptop", &[1; 32], at(10)).unwrap();
    let other = store.add_tenant("other", at(10)).unwrap();
    let expiring =
        NewKey { expires_at: Some(at(100)), ..NewKey::without_end(tenant.id, "ci", [2; 32], at(20)) };
    let second = store.add_key(&expiring).unwrap();
    store.add_key(&NewKey::without_end(other.id, "", [3; 32], at(30))).unwrap();
    let active = |now| store.tenant_named("acme", now).unwrap().unwrap().active_keys;
    assert_eq!((active(at(99)), active(at(100))), (2, 1));

    assert_eq!(store.revoke_key(first, at(50)).unwrap(), Revocation::Revoked);
    assert_eq!(store.revoke_key(first, at(60)).unwrap(), Revocation::AlreadyRevoked);
    assert_eq!(store.revoke_key(KeyId(12_345), at(60)).unwrap(), Revocation::Unknown);
    assert_eq!(active(at(99)), 1);

    let keys = store.keys(Some(tenant.id)).unwrap();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!((keys[0].label.as_str(), keys[0].tenant_name.as_str()), ("laptop", "acme"));
    assert_eq!((keys[0].digest, keys[0].created_at), ([1; 32], at(10)));
    assert_eq!((keys[0].expires_at, keys[0].revoked_at), (None, Some(at(50))));
    assert_eq!((keys[1].expires_at, keys[1].revoked_at), (Some(at(100)), None));
    assert_eq!(store.keys(None).unwrap().len(), 3);

    let keyring = load_keyring(store.as_ref(), &TenantBooks::default(), at(60)).unwrap();
    assert_eq!(keyring.admit(&[1; 32], at(60)), Err(Refused::Revoked));
    assert_eq!(keyring.admit(&[2; 32], at(60)).map(|caller| caller.key), Ok(second));
}

fn a_digest_belongs_to_one_key(database: &TestDatabase) {
    let store = database.open();
    let tenant = store.add_tenant("acme", at(0)).unwrap();
    let key = NewKey::without_end(tenant.id, "", [1; 32], at(0));
    store.add_key(&key).unwrap();
    assert!(matches!(store.add_key(&key), Err(StoreError::DigestTaken)));
}

fn a_key_needs_a_tenant(database: &TestDatabase) {
    let orphan = NewKey::without_end(TenantId(99), "", [1; 32], at(0));
    assert!(matches!(database.open().add_key(&orphan), Err(StoreError::Query(_))));
}

fn models(names: &[&str]) -> Vec<(ProviderId, String)> {
    names.iter().map(|name| (ProviderId::new("groq"), (*name).to_owned())).collect()
}

fn model_numbers_are_stable_and_in_argument_order(database: &TestDatabase) {
    let store = database.open();
    let first = store.number_models(&models(&["a", "b", "a"])).unwrap();
    assert_eq!(first[0], first[2]);
    assert_ne!(first[0], first[1]);

    let store = database.open();
    let second = store.number_models(&models(&["c", "b", "a"])).unwrap();
    assert_eq!(second[1..], [first[1], first[0]]);
    assert!(second[0] > first[0].max(first[1]));
    let elsewhere = store.number_models(&[(ProviderId::new("nvidia"), "a".to_owned())]).unwrap();
    assert!(!second.contains(&elsewhere[0]));
    assert!(store.number_models(&[]).unwrap().is_empty());

    let many: Vec<_> =
        (0..2_500).map(|number| (ProviderId::new("openrouter"), format!("m{number}"))).collect();
    let numbers = store.number_models(&many).unwrap();
    assert_eq!(numbers.len(), many.len());
    assert_eq!(store.number_models(&many).unwrap(), numbers);
}

fn replicas_number_models_alike(database: &TestDatabase) {
    let names: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    let asked = models(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let answers = as_replicas(database, 4, |_, store| store.number_models(&asked).unwrap());
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

fn an_event_is_stored_as_it_is(database: &TestDatabase) {
    let served = UsageRecord {
        served_by: Some(ServedBy { provider: ProviderId::new("groq"), model: "llama".into() }),
        first_byte_at: Some(at(150)),
        attempts: 3,
        ..event(1, Outcome::Served, 100, 200)
    };
    let unserved =
        UsageRecord { streamed: false, usage_reported: false, ..event(2, Outcome::NoCapacity, 300, 400) };
    assert_eq!(database.open().record(&[served, unserved]).unwrap(), 2);

    let columns = "request_id || '|' || tenant_id || '|' || key_id || '|' || COALESCE(platform, '-') || '|' \
                   || COALESCE(model_id, '-') || '|' || outcome || '|' || streamed || '|' || attempts || '|' \
                   || input_tokens || '|' || output_tokens || '|' || usage_reported || '|' || started_us || '|' \
                   || COALESCE(CAST(first_byte_us AS TEXT), '-') || '|' || ended_us";
    let of_sqlite = format!("SELECT {columns} AS value FROM completion_events ORDER BY started_us");
    let of_postgres = of_sqlite
        .replace("|| streamed", "|| streamed::int")
        .replace("|| usage_reported", "|| usage_reported::int");
    assert_eq!(
        database.texts(&of_sqlite, &of_postgres),
        [
            "request|1|7|groq|llama|served|1|3|10|20|1|100|150|200",
            "request|2|7|-|-|no_capacity|0|1|10|20|0|300|-|400"
        ]
    );
}

fn an_event_counts_once_however_often_it_arrives(database: &TestDatabase) {
    let store = database.open();
    let first = event(1, Outcome::Served, 0, 10);
    let second = event(1, Outcome::Served, 0, 20);
    assert_eq!(store.record(&[first.clone(), first.clone()]).unwrap(), 1);
    assert_eq!(store.record(&[first.clone(), second]).unwrap(), 1);
    let altered = UsageRecord { usage: Usage { input_tokens: 999, output_tokens: 999 }, ..first };
    assert_eq!(store.record(&[altered]).unwrap(), 0);
    assert_eq!(store.record(&[]).unwrap(), 0);
    let totals = store.totals(None, at(0), at(100)).unwrap();
    assert_eq!((totals.requests, totals.tokens), (2, 60));
}

fn a_large_batch_is_stored_whole(database: &TestDatabase) {
    let store = database.open();
    let events: Vec<UsageRecord> = (0..2_500).map(|_| event(1, Outcome::Served, 0, 10)).collect();
    assert_eq!(store.record(&events).unwrap(), events.len());
    assert_eq!(store.record(&events).unwrap(), 0);
    assert_eq!(store.totals(None, at(0), at(100)).unwrap().requests, 2_500);
}

fn a_failed_batch_leaves_nothing(database: &TestDatabase) {
    // An index over what one row alone cannot compute fails that row on both backends, whatever conflicts do.
    let overflows = "abs(CASE ended_us WHEN 1500 THEN -9223372036854775807 - 1 ELSE 0 END)";
    database.execute(&format!("CREATE INDEX fails_late ON completion_events (({overflows}))"));
    let store = database.open();
    // Enough for several statements, of which the last fails.
    let events: Vec<UsageRecord> = (0..=1_500).map(|ended| event(1, Outcome::Served, 0, ended)).collect();
    assert!(matches!(store.record(&events), Err(StoreError::Query(_))));
    assert_eq!(store.totals(None, at(0), Moment::NEVER).unwrap(), Totals::default());
}

fn totals_include_the_start_and_exclude_the_end(database: &TestDatabase) {
    let store = database.open();
    let events = [99, 100, 150, 199, 200].map(|ended| event(1, Outcome::Served, 90, ended));
    store.record(&events).unwrap();
    let totals = store.totals(Some(TenantId(1)), at(100), at(200)).unwrap();
    assert_eq!((totals.requests, totals.latency_us_sum), (3, 10 + 60 + 109));
    assert_eq!(totals.average_latency(), Some(Duration::from_micros(59)));
    assert_eq!(store.totals(None, at(200), at(100)).unwrap(), Totals::default());
    assert_eq!(store.totals(None, at(0), Moment::NEVER).unwrap().requests, 5);
}

fn totals_tell_outcomes_and_tenants_apart(database: &TestDatabase) {
    let store = database.open();
    let mut events: Vec<UsageRecord> =
        Outcome::ALL.map(|outcome| event(1, outcome, 0, 1_000)).into_iter().collect();
    events.push(event(2, Outcome::Served, 0, 500));
    store.record(&events).unwrap();
    let first = store.totals(Some(TenantId(1)), at(0), at(10_000)).unwrap();
    assert_eq!(first, Totals { requests: 7, tokens: 210, counted: 4, served: 1, latency_us_sum: 1_000 });
    assert_eq!(first.success_rate(), Some(0.25));
    let all = store.totals(None, at(0), at(10_000)).unwrap();
    assert_eq!(all, Totals { requests: 8, tokens: 240, counted: 5, served: 2, latency_us_sum: 1_500 });
    let nobody = store.totals(Some(TenantId(3)), at(0), at(10_000)).unwrap();
    assert_eq!((nobody.success_rate(), nobody.average_latency()), (None, None));
}

fn absurd_token_counts_do_not_break_the_sums(database: &TestDatabase) {
    let store = database.open();
    let absurd = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX };
    let events = [(); 3].map(|()| UsageRecord { usage: absurd, ..event(1, Outcome::Served, 0, 10) });
    store.record(&events).unwrap();
    assert_eq!(store.totals(None, at(0), at(100)).unwrap().tokens, 6_000_000_000);
}

fn a_purge_spares_what_ended_at_the_instant_or_later(database: &TestDatabase) {
    let store = database.open();
    let mut events: Vec<UsageRecord> = (0..6_000).map(|_| event(1, Outcome::Served, 0, 10)).collect();
    events.push(event(1, Outcome::Served, 0, 99));
    events.push(event(1, Outcome::Served, 0, 100));
    store.record(&events).unwrap();
    assert_eq!(store.purge_events(at(100)).unwrap(), 6_001);
    assert_eq!(store.purge_events(at(100)).unwrap(), 0);
    assert_eq!(store.totals(None, at(0), Moment::NEVER).unwrap().requests, 1);
}

fn of_racing_seals_one_wins_for_all(database: &TestDatabase) {
    assert_eq!(database.open().seal("pepper").unwrap(), None);
    let answers = as_replicas(database, 8, |number, store| {
        let value = [u8::try_from(number).unwrap(); 40];
        store.put_seal_if_absent("pepper", &value).unwrap()
    });
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(database.open().seal("pepper").unwrap().as_ref(), answers.first());
    assert_eq!(database.open().seal("other").unwrap(), None);
}

fn replicas_share_one_pepper(database: &TestDatabase) {
    let digests = as_replicas(database, 4, |_, store| pepper(store).digest("key"));
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(pepper(database.open().as_ref()).digest("key"), digests[0]);
}

fn finding_a_pepper_makes_none(database: &TestDatabase) {
    let store = database.open();
    assert!(Pepper::find(store.as_ref(), &master_key("a")).unwrap().is_none());
    assert!(!Pepper::is_sealed(store.as_ref()).unwrap());

    let made = pepper(store.as_ref());
    let found = Pepper::find(store.as_ref(), &master_key("a")).unwrap().unwrap();
    assert_eq!(found.digest("key"), made.digest("key"));
    assert!(Pepper::is_sealed(store.as_ref()).unwrap());
    let error = Pepper::find(store.as_ref(), &master_key("b")).unwrap_err();
    assert!(matches!(error, PepperError::WrongMasterKey));
}

fn a_wrong_master_key_is_told_as_such(database: &TestDatabase) {
    let store = database.open();
    pepper(store.as_ref());
    let error = Pepper::obtain(store.as_ref(), &master_key("b")).unwrap_err();
    assert!(matches!(error, PepperError::WrongMasterKey));
    assert!(error.to_string().contains("FREELLMAPI_MASTER_KEY"), "{error}");
    store.put_seal_if_absent("pepper", b"").unwrap();
    assert!(Pepper::obtain(store.as_ref(), &master_key("a")).is_ok());
}

fn of_replicas_that_start_together_one_shows_a_key(database: &TestDatabase) {
    let shown: Vec<ApiKey> = as_replicas(database, 4, |_, store| {
        ensure_tenant_and_key(store, &pepper(store), None, at(5)).unwrap()
    })
    .into_iter()
    .flatten()
    .collect();
    let [key] = &shown[..] else { panic!("{} keys were shown", shown.len()) };

    let store = database.open();
    let keyring = load_keyring(store.as_ref(), &TenantBooks::default(), at(60)).unwrap();
    let caller = keyring.admit(&pepper(store.as_ref()).digest(key.expose()), at(6)).unwrap();
    assert_eq!(caller.tenant, store.tenant_named("default", at(6)).unwrap().unwrap().id);
    assert_eq!(keyring.len(), 1);
}

fn a_store_with_tenants_gets_no_key(database: &TestDatabase) {
    let store = database.open();
    store.add_tenant("acme", at(0)).unwrap();
    assert_eq!(ensure_tenant_and_key(store.as_ref(), &pepper(store.as_ref()), None, at(1)).unwrap(), None);
    assert_eq!(store.tenants(at(1)).unwrap().len(), 1);
}

fn a_configured_key_exists_however_often_it_is_ensured(database: &TestDatabase) {
    let key = Secret::new("an-operator's-own-key-0001".to_owned());
    let answers = as_replicas(database, 4, |_, store| {
        ensure_tenant_and_key(store, &pepper(store), Some(&key), at(5)).unwrap()
    });
    assert!(answers.iter().all(Option::is_none));
    let store = database.open();
    let keys = store.keys(None).unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!((keys[0].tenant_name.as_str(), keys[0].label.as_str()), ("default", "FREELLMAPI_API_KEY"));
    assert_eq!(keys[0].digest, pepper(store.as_ref()).digest(key.expose()));
}

fn a_configured_key_that_admits_nobody_is_an_error(database: &TestDatabase) {
    let store = database.open();
    let pepper = pepper(store.as_ref());
    let key = Secret::new("an-operator's-own-key-0001".to_owned());
    let ensure = || ensure_tenant_and_key(store.as_ref(), &pepper, Some(&key), at(5));
    ensure().unwrap();
    store.revoke_key(store.keys(None).unwrap()[0].id, at(6)).unwrap();
    assert!(matches!(ensure(), Err(ProvisionError::ConfiguredKeyRevoked)));

    let other = Secret::new("somebody-else's-own-key-0001".to_owned());
    store.add_tenant_with_key("acme", "", &pepper.digest(other.expose()), at(7)).unwrap();
    let error = ensure_tenant_and_key(store.as_ref(), &pepper, Some(&other), at(8)).unwrap_err();
    assert!(matches!(error, ProvisionError::ConfiguredKeyTaken(tenant) if tenant == "acme"));
}

#[test]
fn an_unreachable_postgres_is_told_without_the_password() {
    // A port that was free a moment ago, and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = open(&format!("postgres://anna:geheim@127.0.0.1:{port}/x?password=geheimer")).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && text.contains("anna:***@"), "{text}");
    assert_eq!(text.lines().count(), 1);
    assert!(!format!("{text} {error:?}").contains("geheim"));
}

#[test]
fn an_sqlite_path_that_is_a_folder_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&format!("sqlite:{}", folder.path().display())).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

#[test]
fn a_file_that_is_no_database_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear Sir or Madam, ".repeat(100)).unwrap();
    let error = open(&format!("sqlite:{}", path.display())).unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[test]
fn a_store_finds_its_postgres_again() {
    let database = TestDatabase::postgres();
    let store = database.open();
    store.ping().unwrap();
    database.take_away();
    let error = store.ping().unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    database.bring_back();
    store.ping().unwrap();
}

#[test]
fn one_process_serves_from_an_embedded_store() {
    let database = TestDatabase::empty_sqlite();
    let url = database.url();
    let held = lock_exclusively(&url).unwrap();
    assert!(held.is_some());
    let error = lock_exclusively(&url).unwrap_err();
    assert!(matches!(&error, StoreError::InUse(path) if path.ends_with("data/freellmapi.db.lock")));
    // Commands work beside a server.
    database.open().migrate().unwrap();
    drop(held);
    assert!(lock_exclusively(&url).unwrap().is_some());
}

#[test]
fn any_number_of_replicas_serves_from_postgres() {
    assert!(lock_exclusively("postgres://host/db").unwrap().is_none());
}

fn hold(id: i64) -> HoldRow {
    HoldRow {
        id,
        target: hold_target("m"),
        reserved: Usage { input_tokens: 11, output_tokens: u64::MAX },
        send_by: Moment::from_unix_micros(100),
        first_byte: None,
        finish: None,
    }
}

fn hold_target(model: &str) -> Arc<HoldTarget> {
    Arc::new(HoldTarget { provider: "p".into(), account: "name:a".into(), model: model.into() })
}

fn a_hold_is_kept_from_its_beginning_to_its_end(database: &TestDatabase) {
    let store = database.open();
    let at = Moment::from_unix_micros;
    let inserted: Vec<_> = (1..=4).map(hold).collect();
    store.write_holds(&HoldBatch { inserted, ..HoldBatch::default() }).unwrap();
    // What no signed column takes is the most that it takes.
    let reserved = Usage { input_tokens: 11, output_tokens: i64::MAX as u64 };
    assert_eq!(store.holds_after(0, 1).unwrap(), [HoldRow { reserved, ..hold(1) }]);

    let used = Usage { input_tokens: 3, output_tokens: 4 };
    let finish = FinishRow { at: at(300), is_aborted: false, is_exact: true, used };
    let changed = vec![
        HoldChange { id: 1, first_byte: Some(at(200)), finish: Some(finish) },
        HoldChange { id: 2, first_byte: Some(at(201)), finish: None },
    ];
    store.write_holds(&HoldBatch { changed, deleted: vec![3, 99], ..HoldBatch::default() }).unwrap();
    // The end comes later, without the first byte.
    let changed = vec![HoldChange { id: 2, first_byte: None, finish: Some(finish) }];
    store.write_holds(&HoldBatch { changed, ..HoldBatch::default() }).unwrap();
    assert_eq!(store.abort_open_holds(at(400)).unwrap(), 1);

    let aborted = FinishRow { at: at(400), is_aborted: true, is_exact: false, used: Usage::default() };
    let expected = [
        HoldRow { reserved, first_byte: Some(at(200)), finish: Some(finish), ..hold(1) },
        HoldRow { reserved, first_byte: Some(at(201)), finish: Some(finish), ..hold(2) },
        HoldRow { reserved, finish: Some(aborted), ..hold(4) },
    ];
    assert_eq!(store.holds_after(0, 10).unwrap(), expected);
    assert_eq!(store.holds_after(2, 10).unwrap(), expected[2..]);
    assert_eq!(store.delete_holds(&[1, 4, 5]).unwrap(), 2);
    assert_eq!(store.holds_after(0, 10).unwrap(), expected[1..2]);
}

fn a_batch_of_holds_is_written_whole_or_not_at_all(database: &TestDatabase) {
    let store = database.open();
    store.write_holds(&HoldBatch { inserted: vec![hold(2)], ..HoldBatch::default() }).unwrap();
    let batch = HoldBatch { inserted: vec![hold(1), hold(2)], deleted: vec![2], ..HoldBatch::default() };
    assert!(matches!(store.write_holds(&batch), Err(StoreError::Query(_))));
    let ids: Vec<i64> = store.holds_after(0, 10).unwrap().iter().map(|row| row.id).collect();
    assert_eq!(ids, [2]);
}

fn a_later_cooldown_stays(database: &TestDatabase) {
    let store = database.open();
    let cooldown = |model, until, reason: &str| CooldownRow {
        target: hold_target(model),
        until: Moment::from_unix_micros(until),
        reason: reason.to_owned(),
    };
    for batch in [
        vec![cooldown("", 10, "rate_limited"), cooldown("m", 50, "rate_limited")],
        vec![cooldown("", 30, "unauthorized"), cooldown("m", 40, "model_gone")],
    ] {
        store.write_holds(&HoldBatch { cooldowns: batch, ..HoldBatch::default() }).unwrap();
    }
    let mut cooldowns = store.cooldowns().unwrap();
    cooldowns.sort_by_key(|cooldown| cooldown.until);
    assert_eq!(cooldowns, [cooldown("", 30, "unauthorized"), cooldown("m", 50, "rate_limited")]);
    assert_eq!(store.delete_cooldowns(Moment::from_unix_micros(50)).unwrap(), 1);
    assert_eq!(store.cooldowns().unwrap(), [cooldown("m", 50, "rate_limited")]);
}

fn coverage_is_replaced_and_blocks_add_up(database: &TestDatabase) {
    let store = database.open();
    assert!(store.is_fresh().unwrap());
    let row = |since, kept| CoverageRow {
        target: HoldTarget::clone(&hold_target("m")),
        since: Moment::from_unix_micros(since),
        kept: Duration::from_secs(kept),
    };
    store.put_hold_coverages(&[row(1, 60)]).unwrap();
    store.put_hold_coverages(&[row(2, 3_600)]).unwrap();
    assert_eq!(store.hold_coverages().unwrap(), [row(2, 3_600)]);
    assert!(!store.is_fresh().unwrap());

    store.add_block(None, Moment::from_unix_micros(7)).unwrap();
    store.add_block(Some("p"), Moment::from_unix_micros(8)).unwrap();
    let blocks = store.blocks_after(0).unwrap();
    let told = |block: &freellmapi::db::BlockRow| (block.provider.clone(), block.since.unix_micros());
    assert_eq!(blocks.iter().map(told).collect::<Vec<_>>(), [(None, 7), (Some("p".to_owned()), 8)]);
    assert_eq!(store.blocks_after(blocks[0].id).unwrap(), blocks[1..]);
}

fn what_was_served_is_added_up_by_spans(database: &TestDatabase) {
    let store = database.open();
    let event = |ended_us, model: Option<&str>, attempts| UsageRecord {
        event_id: EventId::mint(),
        request_id: RequestId::mint(),
        tenant: TenantId(1),
        key: KeyId(1),
        served_by: model.map(|model| ServedBy { provider: ProviderId::new("p"), model: model.into() }),
        outcome: if model.is_some() { Outcome::Served } else { Outcome::Unavailable },
        streamed: false,
        attempts,
        usage: Usage { input_tokens: 2, output_tokens: 3 },
        usage_reported: true,
        started_at: Moment::from_unix_micros(0),
        first_byte_at: None,
        ended_at: Moment::from_unix_micros(ended_us),
    };
    let events = [
        event(999, Some("m"), 1),
        event(1_000, Some("m"), 1),
        event(1_999, Some("m"), 3),
        event(1_500, None, 2),
        event(1_500, None, 0),
        event(2_000, Some("m"), 1),
        event(2_001, Some("m"), 1),
    ];
    store.record(&events).unwrap();
    let at = Moment::from_unix_micros;
    let mut spans = store.served_within(at(1_000), at(2_000), Duration::from_millis(1)).unwrap();
    spans.sort_by_key(|span| (span.end, span.served_by.clone()));
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            (span.end, span.served_by.is_some(), span.requests, span.attempts, span.usage.total_tokens())
        })
        .collect();
    let expected = [(at(2_000), false, 1, 2, 5), (at(2_000), true, 2, 4, 10), (at(3_000), true, 1, 1, 5)];
    assert_eq!(told, expected);
}
