//! Whole configurations: shipped, overridden, wrong.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::domain::chat::Strategy;
use crate::domain::limit::{Limit, Scope, TokensCharged, Unit, Window};
use crate::domain::price::Price;
use crate::domain::provider::{Auth, ModelSpec, ProviderSpec, StreamUsage};

use super::{Problems, Settings, Sources, load, shipped, shipped_providers};

const MINUTE: Window = Window::Sliding(Duration::from_secs(60));
const DAY: Window = Window::Sliding(Duration::from_secs(86_400));

/// Loads `file` as the operator's, with these variables set.
fn load_with(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Problems> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("freellmapi.toml");
    fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let loaded = load(&Sources { file: Some(path.clone()), environment });
    loaded.map_err(|mut problems| {
        for problem in &mut problems.0 {
            problem.origin = problem.origin.replace(path.to_str().unwrap(), "test.toml");
        }
        problems
    })
}

fn right(file: &str, environment: &[(&str, &str)]) -> Settings {
    load_with(file, environment).unwrap_or_else(|problems| panic!("{problems}"))
}

fn wrong(file: &str, environment: &[(&str, &str)]) -> String {
    load_with(file, environment).expect_err("the configuration is wrong").to_string()
}

fn provider<'a>(settings: &'a Settings, id: &str) -> &'a ProviderSpec {
    settings.providers.iter().find(|provider| provider.id.as_str() == id).unwrap()
}

fn model<'a>(provider: &'a ProviderSpec, id: &str) -> &'a ModelSpec {
    provider.models.iter().find(|model| model.id == id).unwrap()
}

fn max(limits: &[Limit], unit: Unit, window: Window) -> Option<u64> {
    limits.iter().find(|limit| limit.unit == unit && limit.window == window).map(|limit| limit.max)
}

fn account_limit(unit: Unit, max: u64, window: Window) -> Limit {
    Limit { scope: Scope::Account, unit, max, window }
}

#[test]
fn the_documented_defaults_hold_without_any_source() {
    let settings = right("", &[]);
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:3001");
    assert!(settings.server.workers >= 1);
    assert_eq!(settings.server.request_body_limit, 8 << 20);
    assert_eq!(settings.server.max_in_flight, 10_000);
    assert_eq!(settings.server.shutdown_grace, Duration::ZERO);
    assert_eq!(settings.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.server.client_head_timeout, Duration::from_secs(10));
    assert_eq!(settings.server.client_body_timeout, Duration::from_secs(30));
    assert_eq!(settings.store.url, "sqlite:data/freellmapi.db");
    let dispatch = &settings.dispatch;
    assert_eq!(dispatch.strategy, Strategy::Balanced);
    assert_eq!(dispatch.max_wait, Duration::from_secs(20));
    assert_eq!((dispatch.max_waiting, dispatch.max_attempts), (10_000, 6));
    assert_eq!(dispatch.timeouts.connect, Duration::from_secs(10));
    assert_eq!(dispatch.timeouts.first_token, Duration::from_secs(60));
    assert_eq!(dispatch.timeouts.stall, Duration::from_secs(60));
    assert_eq!(dispatch.timeouts.total, Duration::from_secs(600));
    assert_eq!(dispatch.client_stall_timeout, Duration::from_secs(30));
    assert_eq!(dispatch.heartbeat, Duration::from_secs(10));
    assert_eq!(dispatch.response_body_limit, 16 << 20);
    let access = &settings.access;
    assert_eq!((access.public_models, access.public_stats, access.public_metrics), (true, false, false));
    assert!(access.cors_origins.is_empty());
    assert_eq!(settings.stats.flush, Duration::from_millis(500));
    assert_eq!(settings.stats.retention_days, 30);
    assert_eq!(settings.stats.spool, Path::new("data/spool"));
    assert_eq!(settings.stats.spool_max, 256 << 20);
    assert!(settings.api_key.is_none() && settings.admin_key.is_none() && settings.master_key.is_none());
}

#[test]
fn every_shipped_provider_loads_under_its_files_name() {
    let providers = shipped_providers().unwrap_or_else(|problems| panic!("{problems}"));
    let ids: Vec<&str> = providers.iter().map(|provider| provider.id.as_str()).collect();
    let stems: Vec<&str> = shipped::PROVIDERS.into_iter().map(shipped::Shipped::stem).collect();
    assert_eq!(ids, stems);
    for provider in &providers {
        assert_eq!(provider.enabled, provider.disabled_reason.is_none(), "{}", provider.id);
        for model in &provider.models {
            assert_eq!(model.enabled, model.disabled_reason.is_none(), "{} {}", provider.id, model.id);
        }
    }
}

#[test]
fn every_file_in_the_folder_of_providers_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/providers");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| format!("config/providers/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    files.sort();
    let mut shipped: Vec<&str> = shipped::PROVIDERS.iter().map(|file| file.path).collect();
    shipped.sort_unstable();
    assert_eq!(files, shipped);
}

#[test]
fn the_six_carry_the_documented_limits_exactly() {
    let (requests, tokens) = (Unit::Requests, Unit::Tokens);
    let documented = [
        ("groq", vec![account_limit(requests, 30, MINUTE), account_limit(tokens, 6_000, MINUTE)]),
        ("cerebras", vec![account_limit(requests, 30, MINUTE), account_limit(tokens, 60_000, MINUTE)]),
        ("sambanova", vec![account_limit(requests, 20, MINUTE), account_limit(tokens, 200_000, DAY)]),
        ("openrouter", vec![account_limit(requests, 20, MINUTE)]),
        ("mistral", vec![account_limit(requests, 2, MINUTE), account_limit(tokens, 500_000, MINUTE)]),
        ("github", vec![account_limit(requests, 10, MINUTE), account_limit(requests, 50, DAY)]),
    ];
    let settings = right("", &[]);
    for (id, limits) in documented {
        assert_eq!(provider(&settings, id).documented_limits, limits, "{id}");
        assert!(!provider(&settings, id).models.is_empty(), "{id}");
    }
}

#[test]
fn every_enabled_shipped_model_is_under_a_limit_on_requests() {
    for provider in shipped_providers().unwrap().iter().filter(|provider| provider.auth == Auth::Bearer) {
        for model in provider.models.iter().filter(|model| model.enabled) {
            let pool = model.pool.clone().map(Scope::Pool);
            let holds = |limit: &Limit| limit.scope == Scope::Account || Some(&limit.scope) == pool.as_ref();
            let mut all = model.limits.iter().chain(provider.limits.iter().filter(|limit| holds(limit)));
            assert!(all.any(|limit| limit.unit == Unit::Requests), "{} {}", provider.id, model.id);
        }
    }
}

#[test]
fn a_family_has_one_rank_and_one_label_at_all_providers() {
    let providers = shipped_providers().unwrap();
    let mut known = HashMap::new();
    for model in providers.iter().flat_map(|provider| &provider.models) {
        if let Some(family) = &model.family {
            let judged = (model.intelligence_rank, model.size_label.as_str());
            assert_eq!(*known.entry(family.as_str()).or_insert(judged), judged, "{family}");
        }
    }
}

#[test]
fn newer_facts_bind_and_documented_numbers_fill_what_they_leave_open() {
    let settings = right("", &[]);
    let groq = provider(&settings, "groq");
    assert_eq!(groq.tokens_charged, TokensCharged::Reserve);
    let gpt = model(groq, "openai/gpt-oss-120b");
    assert_eq!(max(&gpt.limits, Unit::Requests, MINUTE), Some(30));
    assert_eq!(max(&gpt.limits, Unit::Requests, DAY), Some(1_000));
    assert_eq!(max(&gpt.limits, Unit::Tokens, MINUTE), Some(8_000));
    assert_eq!(max(&gpt.limits, Unit::Tokens, DAY), Some(200_000));
    assert_eq!(gpt.limits.len(), 4);
    let allam = model(groq, "allam-2-7b");
    assert_eq!(max(&allam.limits, Unit::Requests, MINUTE), Some(30));
    let example = model(groq, "llama-3.3-70b-versatile");
    assert!(!example.enabled);
    assert_eq!(max(&example.limits, Unit::Tokens, MINUTE), Some(6_000));
    let mistral = provider(&settings, "mistral");
    assert_eq!(mistral.quirks.stream_usage, StreamUsage::Unasked);
    assert_eq!(max(&model(mistral, "voxtral-small-latest").limits, Unit::Requests, MINUTE), Some(2));
    assert_eq!(max(&model(mistral, "ministral-3b-latest").limits, Unit::Requests, MINUTE), Some(750));
}

#[test]
fn five_lines_add_a_provider() {
    let settings = right(
        r#"
        [[provider]]
        id = "mymodel"
        base_url = "http://127.0.0.1:8080/v1"
        auth = "none"
        model = [{ id = "smollm2-135m" }]
        "#,
        &[],
    );
    let mine = settings.providers.last().unwrap();
    assert!(mine.is_usable());
    assert_eq!((mine.id.as_str(), mine.display_name.as_str()), ("mymodel", "mymodel"));
    assert_eq!(mine.accounts.len(), 1);
    assert_eq!(mine.accounts[0].name, "default");
    assert!(mine.accounts[0].keys.is_empty());
    assert_eq!(mine.timeouts, settings.dispatch.timeouts);
    let only = &mine.models[0];
    assert_eq!((only.display_name.as_str(), only.size_label.as_str()), ("smollm2-135m", "Medium"));
    assert_eq!((only.intelligence_rank, only.speed_rank, only.enabled), (50, 50, true));
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
}

#[test]
fn the_examples_in_the_documented_default_are_right() {
    let lines = shipped::DEFAULT.text.lines().skip_while(|line| !line.starts_with("# [[provider]]"));
    let is_toml = |line: &str| line.starts_with('[') || line.split(' ').nth(1) == Some("=");
    let examples: Vec<&str> =
        lines.map(|line| line.trim_start_matches('#').trim_start()).filter(|line| is_toml(line)).collect();
    let settings = right(&examples.join("\n"), &[("EXAMPLE_KEY_A1", "a1"), ("EXAMPLE_KEY", "1,2")]);
    assert!(provider(&settings, "mymodel").is_usable());
    let example = provider(&settings, "example");
    assert_eq!(example.accounts.len(), 3);
    assert_eq!(example.timeouts, settings.dispatch.timeouts);
    assert_eq!(example.models[0].limits.len(), 2);
}

#[test]
fn a_shipped_provider_is_overridden_key_by_key() {
    let settings = right(
        r#"
        [[provider]]
        id = "groq"
        total_timeout = "2m"
        limit = []
        [[provider.model]]
        id = "openai/gpt-oss-120b"
        tpm = 250000
        rpd = "none"
        [[provider.model]]
        id = "new-model"
        [[provider.model.limit]]
        unit = "parallel"
        max = 2
        [[provider]]
        id = "cerebras"
        enabled = true
        [[provider]]
        id = "openrouter"
        limit = [{ unit = "requests", window = "spacing:2s" }]
        "#,
        &[],
    );
    let groq = provider(&settings, "groq");
    assert_eq!(groq.base_url, "https://api.groq.com/openai/v1");
    assert_eq!(groq.timeouts.total, Duration::from_secs(120));
    assert_eq!(groq.timeouts.stall, Duration::from_secs(60));
    let gpt = model(groq, "openai/gpt-oss-120b");
    assert_eq!(gpt.display_name, "GPT-OSS 120B");
    assert_eq!(max(&gpt.limits, Unit::Tokens, MINUTE), Some(250_000));
    assert_eq!(max(&gpt.limits, Unit::Requests, DAY), None);
    assert_eq!(max(&gpt.limits, Unit::Requests, MINUTE), Some(30));
    let new = model(groq, "new-model");
    let parallel = Limit { scope: Scope::Model, unit: Unit::Parallel, max: 2, window: Window::InFlight };
    assert_eq!(new.limits, [parallel]);
    let cerebras = provider(&settings, "cerebras");
    assert_eq!((cerebras.enabled, cerebras.disabled_reason.as_deref()), (true, None));
    let spacing = Window::Spacing(Duration::from_secs(2));
    assert_eq!(provider(&settings, "openrouter").limits, [account_limit(Unit::Requests, 1, spacing)]);
}

#[test]
fn a_provider_leaves_no_part_longer_than_its_total() {
    let settings = right("[[provider]]\nid = \"groq\"\ntotal_timeout = \"20s\"", &[]);
    let timeouts = provider(&settings, "groq").timeouts;
    assert_eq!((timeouts.first_token, timeouts.stall), (timeouts.total, timeouts.total));
    let shorter = right("[dispatch]\ntotal_timeout = \"1m\"", &[]);
    assert_eq!(provider(&shorter, "mistral").timeouts.total, Duration::from_secs(60));
}

#[test]
fn a_model_waives_a_limit_that_the_provider_sets_for_each_model() {
    let settings =
        right("[[provider]]\nid = \"groq\"\nmodel = [{ id = \"allam-2-7b\", rpm = \"none\" }]", &[]);
    let allam = model(provider(&settings, "groq"), "allam-2-7b");
    assert_eq!(max(&allam.limits, Unit::Requests, MINUTE), None);
    assert_eq!(max(&allam.limits, Unit::Tokens, MINUTE), Some(6_000));
}

#[test]
fn each_key_is_an_account_and_stated_accounts_share_a_budget() {
    let settings = right(
        r#"
        [[provider]]
        id = "groq"
        keys_env = ["GROQ_API_KEY", "GROQ_MORE"]
        [[provider.account]]
        name = "team-a"
        keys_env = "GROQ_A1, GROQ_A2"
        [[provider.account]]
        name = "unset"
        keys_env = ["GROQ_B"]
        "#,
        &[
            ("GROQ_API_KEY", "gsk_1, gsk_2,,gsk_1"),
            ("GROQ_MORE", "gsk_a1,gsk_3"),
            ("GROQ_A1", "gsk_a1"),
            ("GROQ_A2", "gsk_a2"),
        ],
    );
    let groq = provider(&settings, "groq");
    let accounts: Vec<(&str, Vec<&str>)> = groq
        .accounts
        .iter()
        .map(|account| {
            (account.name.as_str(), account.keys.iter().map(|key| key.expose().as_str()).collect())
        })
        .collect();
    assert_eq!(
        accounts,
        [
            ("team-a", vec!["gsk_a1", "gsk_a2"]),
            ("env-1", vec!["gsk_1"]),
            ("env-2", vec!["gsk_2"]),
            ("env-3", vec!["gsk_3"]),
        ]
    );
    assert_eq!(groq.keys_env, ["GROQ_API_KEY", "GROQ_MORE", "GROQ_A1", "GROQ_A2", "GROQ_B"]);
    assert!(groq.is_usable());
}

#[test]
fn one_key_in_two_stated_accounts_is_a_problem() {
    let shown = wrong(
        r#"
        [[provider]]
        id = "groq"
        account = [{ name = "a", keys_env = "GROQ_A" }, { name = "b", keys_env = "GROQ_B" }]
        "#,
        &[("GROQ_A", "gsk_same"), ("GROQ_B", "gsk_same")],
    );
    assert_eq!(shown, r#"test.toml: provider[groq].account: "b" and "a" have the same key in GROQ_B"#);
}

#[test]
fn the_environment_wins_and_blank_variables_count_as_unset() {
    let settings = right(
        "[server]\nlisten = \"127.0.0.1:1\"\n[store]\nurl = \"sqlite:x.db\"",
        &[
            ("FREELLMAPI_LISTEN", "localhost:0"),
            ("DATABASE_URL", "postgres://u:p@h/d"),
            ("FREELLMAPI_API_KEY", "freellmapi-0123456789abcdef"),
            ("FREELLMAPI_ADMIN_KEY", " "),
            ("FREELLMAPI_MASTER_KEY", &"0a".repeat(32)),
        ],
    );
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:0");
    assert_eq!(settings.store.url, "postgres://u:p@h/d");
    assert_eq!(settings.api_key.unwrap().expose(), "freellmapi-0123456789abcdef");
    assert!(settings.admin_key.is_none());
    assert_eq!(settings.master_key.unwrap().expose().len(), 64);
}

#[test]
fn the_variable_names_the_file_unless_the_argument_does() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("own.toml");
    fs::write(&path, "[stats]\nretention_days = 7").unwrap();
    let environment = HashMap::from([("FREELLMAPI_CONFIG".to_owned(), path.to_str().unwrap().to_owned())]);
    let settings = load(&Sources { file: None, environment: environment.clone() }).unwrap();
    assert_eq!(settings.stats.retention_days, 7);
    let missing = folder.path().join("missing.toml");
    let problems = load(&Sources { file: Some(missing.clone()), environment }).unwrap_err();
    let shown = problems.to_string();
    assert!(shown.starts_with(&format!("{}: cannot be read: ", missing.display())), "{shown}");
}

#[test]
fn ten_mistakes_are_ten_problems() {
    let shown = wrong(
        r#"
        typo = 1
        [server]
        lisen = "127.0.0.1:3001"
        max_in_flight = 0
        [store]
        url = "mysql://user:hunter2@host/db"
        [dispatch]
        heartbeat = "2m"
        [stats]
        flush = 500
        [[provider]]
        id = "Bad Id"
        base_url = "http://example.org/v1"
        [[provider]]
        id = "groq"
        [[provider.limit]]
        scope = "pool:free"
        unit = "requests"
        max = 10
        window = "month@Utopia"
        [[provider.model]]
        id = "openai/gpt-oss-120b"
        rpm = -1
        "#,
        &[],
    );
    let expected = r#"test.toml: server.max_in_flight = 0: expected a whole number of at least 1
test.toml: server.lisen: unknown key, did you mean "listen"?
test.toml: store.url: expected "sqlite:PATH", for example "sqlite:data/freellmapi.db", or "postgres://USER:PASSWORD@HOST/DATABASE" (the value is not shown, it may hold a password)
test.toml: dispatch.heartbeat: "2m" must be shorter than first_token_timeout ("1m")
test.toml: stats.flush = 500: expected a duration: a whole number and ms, s, m, h or d, for example "30s", up to "3650d"
test.toml: typo: unknown key; known here: access, dispatch, provider, server, stats, store
test.toml: provider[groq].limit[#1].window = "month@Utopia": no time zone has that name: expected one of the IANA database, such as "UTC" or "America/Los_Angeles"
test.toml: provider[groq].model[openai/gpt-oss-120b].rpm = -1: expected a whole number of at least 1, or "none" for no limit
test.toml: provider[#1].id = "Bad Id": expected 1 to 64 of a-z, 0-9 and -
test.toml: provider[#1].base_url: "http://example.org/v1": plain http is for loopback and private addresses: use https, or set allow_insecure = true if the way there is safe"#;
    assert_eq!(shown, expected);
    assert_eq!(shown.lines().count(), 10);
}

#[test]
fn what_does_not_fit_together_is_told() {
    let shown = wrong(
        r#"
        [dispatch]
        total_timeout = "50s"
        [[provider]]
        id = "mine"
        base_url = "https://x.org/v1"
        keys_env = "MINE_KEY"
        stall_timeout = "20m"
        [[provider.limit]]
        scope = "pool:fre"
        unit = "requests"
        max = 1
        window = "60s"
        [[provider.limit]]
        unit = "parallel"
        max = 1
        window = "60s"
        [[provider.limit]]
        unit = "tokens"
        window = "spacing:1s"
        [[provider.limit]]
        unit = "credits"
        max = 0.0000001
        window = "60s"
        [[provider.model]]
        id = "a"
        price = 1
        rpm = 5
        limit = [{ unit = "requests", max = 6, window = "1m" }]
        [[provider.model]]
        id = "a"
        [[provider]]
        id = "mine"
        "#,
        &[],
    );
    let expected = r#"test.toml: provider[mine].model[a]: this id is listed twice: merge the two
test.toml: provider[mine]: this id is listed twice: merge the two
test.toml: dispatch.first_token_timeout: "1m" must not be longer than total_timeout ("50s")
test.toml: dispatch.stall_timeout: "1m" must not be longer than total_timeout ("50s")
test.toml: provider[mine].stall_timeout: "20m" must not be longer than total_timeout ("50s")
test.toml: provider[mine].limit[#2].window: unit "parallel" counts what is in flight: leave window out
test.toml: provider[mine].limit[#3].unit: a spacing is between requests: expected "requests"
test.toml: provider[mine].limit[#4].max = 0.0000001: expected a number of credits with at most six decimals, for example 10 or 0.05, up to 1000000000
test.toml: provider[mine].model[a].limit: two limits on requests have the same scope and window: keep one
test.toml: provider[mine].model[a].price: expected a section [price], found a integer"#;
    assert_eq!(shown, expected);
}

#[test]
fn limits_on_credits_count_by_prices() {
    let file = |price: &str| {
        format!(
            r#"
            [[provider]]
            id = "mine"
            base_url = "http://127.0.0.1:1/v1"
            auth = "none"
            documented_limit = [{{ unit = "credits", max = 1, window = "1d" }}]
            [[provider.limit]]
            unit = "credits"
            max = 0.10
            window = "month@UTC"
            [[provider.model]]
            id = "a"
            {price}
            "#
        )
    };
    let priced = file("price = { per_request = 1, per_1k_output = \"0.00005\" }");
    let settings = right(&priced.replace("documented_limit", "#"), &[]);
    let mine = provider(&settings, "mine");
    assert_eq!(mine.limits[0].max, 100_000);
    let price = Price { per_request: 1_000_000, per_1k_input: 0, per_1k_output: 50 };
    assert_eq!(mine.models[0].price, Some(price));
    for unpriced in ["", "price = {}"] {
        assert_eq!(
            wrong(&file(unpriced), &[]),
            "test.toml: provider[mine].documented_limit: credits are not simulated: state them in [[limit]] only\n\
             test.toml: provider[mine].model[a].price: must be given under a limit on credits, for example \
             { per_1k_input = 4.119, per_1k_output = 26.668 }"
        );
    }
}

#[test]
fn a_models_day_replaces_the_providers_calendar_day() {
    let limits = |rpd: &str| {
        let file = format!(
            r#"
            [[provider]]
            id = "mine"
            base_url = "http://127.0.0.1:1/v1"
            auth = "none"
            limit = [{{ scope = "model", unit = "requests", max = 50, window = "day@Asia/Tokyo" }}]
            model = [{{ id = "a"{rpd} }}]
            "#
        );
        let settings = right(&file, &[]);
        let limits = &provider(&settings, "mine").models[0].limits;
        limits.iter().map(|limit| format!("{} {}", limit.max, limit.window)).collect::<Vec<_>>()
    };
    assert_eq!(limits(""), ["50 day@Asia/Tokyo"]);
    assert_eq!(limits(", rpd = 7"), ["7 86400s"]);
    assert_eq!(limits(", rpd = \"none\""), [""; 0]);
}

#[test]
fn pools_are_named_at_both_ends() {
    let file = |pool: &str| {
        format!(
            r#"
            [[provider]]
            id = "mine"
            base_url = "https://x.org/v1"
            limit = [{{ scope = "pool:free", unit = "requests", max = 1, window = "60s" }}]
            model = [{{ id = "a", pool = "{pool}" }}]
            "#
        )
    };
    assert!(load_with(&file("free"), &[]).is_ok());
    assert_eq!(
        wrong(&file("fre"), &[]),
        "test.toml: provider[mine].limit: no model is in the pool \"free\": set pool = \"free\" on some\n\
         test.toml: provider[mine].model[a].pool: no limit has scope \"pool:fre\""
    );
}

#[test]
fn wrong_shapes_are_told_without_their_values() {
    let shown = wrong("store = \"postgres://u:hunter2@h/d\"\nprovider = [\"gsk_hunter2\"]", &[]);
    assert_eq!(
        shown,
        "test.toml: provider[#1]: expected a table, found a string\n\
         test.toml: store: expected a section [store], found a string"
    );
}

#[test]
fn a_syntax_error_names_file_line_and_column() {
    let shown = wrong("[server]\nlisten = = 1\n", &[]);
    assert!(shown.starts_with("test.toml: line 2, column 10: not valid TOML: "), "{shown}");
}

#[test]
fn secrets_are_never_shown() {
    let canary = "hunter2";
    let shown = wrong(
        r#"
        [server]
        api_key = "hunter2"
        [[provider]]
        id = "groq"
        base_url = "https://u:hunter2@x.org"
        keys_env = "gsk_hunter2"
        api_key = "hunter2"
        account = "hunter2"
        "#,
        &[
            ("DATABASE_URL", "mysql://u:hunter2@h/d"),
            ("FREELLMAPI_API_KEY", "hunter2"),
            ("FREELLMAPI_ADMIN_KEY", "hunter2 é"),
            ("FREELLMAPI_MASTER_KEY", "hunter2"),
            ("MISTRAL_API_KEY", "hunter2 é"),
        ],
    );
    assert!(!shown.contains(canary), "{shown}");
    assert_eq!(shown.lines().count(), 10, "{shown}");
    assert!(shown.contains("environment: MISTRAL_API_KEY: key 1 has characters"), "{shown}");
    let settings = right("", &[("DATABASE_URL", "postgres://u:hunter2@h/d"), ("GROQ_API_KEY", canary)]);
    assert!(!format!("{settings:?}").contains(canary));
    let sources = Sources { file: None, environment: HashMap::from([("K".to_owned(), canary.to_owned())]) };
    assert!(!format!("{sources:?}").contains(canary));
}

#[test]
fn a_keyless_provider_has_no_keys() {
    let shown = wrong("[[provider]]\nid = \"groq\"\nauth = \"none\"", &[]);
    assert_eq!(
        shown,
        "test.toml: provider[groq].keys_env: auth = \"none\" sends no key: set auth = \"bearer\", or keys_env = []"
    );
    let settings = right("[[provider]]\nid = \"groq\"\nauth = \"none\"\nkeys_env = []", &[]);
    assert!(provider(&settings, "groq").is_usable());
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = right(
        r#"
        [[provider]]
        id = "mine"
        base_url = "http://example.org/v1"
        allow_insecure = true
        keys_env = "MINE_KEY"
        "#,
        &[("FREELLMAPI_ADMIN_KEY", "short")],
    )
    .warnings();
    let expected = [
        "provider mine has no key: set MINE_KEY, or run `freellmapi account add --provider mine`",
        "provider mine is enabled but has no enabled model: list one as [[provider.model]]",
        "provider mine is called over plain http: keys and prompts can be read on the way",
        "no provider can be called yet: set one of GROQ_API_KEY, OPENROUTER_API_KEY, MISTRAL_API_KEY, MINE_KEY, or \
         enable a local one",
        "FREELLMAPI_ADMIN_KEY is shorter than 24 characters: guessable",
    ];
    assert_eq!(warnings, expected);
    assert!(right("", &[("GROQ_API_KEY", "gsk_1")]).warnings().is_empty());
}
