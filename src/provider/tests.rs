//! What replies of the shipped providers mean, from the bytes to who is left alone and for how long.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::adapter::{ErrorAnswer, Said, StreamError, adapter};
use super::failed_attempt::FailedAttempt;
use super::probe::{Probe, Probes};
use super::shared::ProviderShared;
use super::sse::{self, Event, Splitter};
use crate::config::shipped_providers;
use crate::domain::clock::{FakeClock, Moment};
use crate::domain::consequence::Costs;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::limit::{Scope, Unit};
use crate::domain::panics::Panics;
use crate::domain::provider::{AccountSpec, ProviderSpec};
use crate::domain::signals::{ErrorRule, Period, RefusedLimit};
use crate::ledger::Reserved;
use crate::quota::{AccountIndex, Answer, Demand, ModelIndex, Refusal, Spent};

/// 2026-11-23T02:13:14Z.
const NOW: Moment = Moment::from_unix_micros(1_795_399_994_000_000);
const ACCOUNT: AccountIndex = AccountIndex(0);
const MODEL: ModelIndex = ModelIndex(0);

/// Each reply, and what comes of it: the kind of failure, who is left alone, and for how many seconds.
const ROWS: [(&str, &str); 86] = [
    ("cerebras/200-page", "protocol, provider"),
    ("cerebras/200-stream-error", "upstream, provider"),
    ("cerebras/400-no-reasoning", "unsupported"),
    ("cerebras/400-too-long", "too_large"),
    ("cerebras/401", "unauthorized, account 600"),
    ("cerebras/402-trial-over", "payment_required, account 600"),
    ("cerebras/403-firewall", "misdirected, provider"),
    ("cerebras/404-model", "model_gone, model 3600"),
    ("cerebras/429-busy", "overloaded, model 5"),
    // No instant: a day begins at ten minutes.
    ("cerebras/429-day", "rate_limited, model 600"),
    ("cerebras/429-minute", "rate_limited, model 56"),
    ("cerebras/500", "upstream, provider"),
    ("cerebras/success", "fine"),
    ("cerebras/success-day-used-up", "fine, model 33011"),
    // Retired: every call is answered so.
    ("github/410-retired", "model_gone, model 3600"),
    ("github/429-day", "rate_limited, model 52220"),
    ("github/429-minute", "rate_limited, model 42"),
    ("groq/200-page", "protocol, provider"),
    ("groq/200-stream-error", "rate_limited, model 2"),
    ("groq/400-broken-tool-call", "no_answer"),
    ("groq/400-model-decommissioned", "model_gone, model 3600"),
    ("groq/400-wrong-request", "invalid_request"),
    ("groq/401", "unauthorized, account 600"),
    ("groq/403-firewall", "misdirected, provider"),
    ("groq/404-model", "model_gone, model 3600"),
    // Its delay is of no help: the request never fits.
    ("groq/413-larger-than-the-minute", "too_large"),
    ("groq/429-day", "rate_limited, model 6837"),
    ("groq/429-day-without-a-delay", "rate_limited, model 600"),
    ("groq/429-minute", "rate_limited, model 8"),
    ("groq/498-flex-full", "overloaded, model 5"),
    ("groq/502-page", "upstream, provider"),
    ("groq/503", "upstream, provider"),
    ("groq/success", "fine"),
    // One of 1,000 a day is back after 86.4 s, although all are only after 24 h.
    ("groq/success-day-used-up", "fine, model 86"),
    ("groq/success-minute-overdrawn", "fine, model 7"),
    ("llamacpp/200-stream-error", "upstream, provider"),
    ("llamacpp/400-too-long", "too_large"),
    ("llamacpp/503-loading", "overloaded, model 5"),
    ("lmstudio/200-error", "upstream, provider"),
    ("lmstudio/400-json-mode", "unsupported"),
    ("mistral/200-page", "protocol, provider"),
    ("mistral/200-stream-error", "overloaded, model 5"),
    ("mistral/400-model", "model_gone, model 3600"),
    ("mistral/400-too-long", "too_large"),
    ("mistral/401", "unauthorized, account 600"),
    ("mistral/402", "payment_required, account 600"),
    ("mistral/403-labs", "model_gone, model 3600"),
    ("mistral/422-unknown-field", "invalid_request"),
    ("mistral/429-busy", "overloaded, model 5"),
    ("mistral/429-minute", "rate_limited, model 30"),
    ("mistral/503", "upstream, provider"),
    ("mistral/success", "fine"),
    ("ollama/404-model", "model_gone, model 3600"),
    ("ollama/503-busy", "overloaded, model 5"),
    ("openrouter/200-error", "rate_limited, pool 46"),
    ("openrouter/200-page", "protocol, provider"),
    // No instant, but the day's calendar.
    ("openrouter/200-stream-day", "rate_limited, pool 78406"),
    ("openrouter/200-stream-error", "overloaded, model 5"),
    ("openrouter/401", "unauthorized, account 600"),
    ("openrouter/402-no-credit", "payment_required, account 600"),
    ("openrouter/402-shorter-would-do", "too_large"),
    ("openrouter/403-harness", "model_gone, model 3600"),
    ("openrouter/403-moderation", "content_policy"),
    ("openrouter/404-model", "model_gone, model 3600"),
    ("openrouter/404-no-tools", "unsupported"),
    ("openrouter/429-day", "rate_limited, pool 78406"),
    ("openrouter/429-day-without-an-instant", "rate_limited, pool 78406"),
    ("openrouter/429-minute", "rate_limited, pool 46"),
    ("openrouter/429-upstream", "overloaded, model 5"),
    ("openrouter/502", "overloaded, model 5"),
    ("openrouter/success", "fine"),
    ("sambanova/200-stream-error", "upstream, provider"),
    ("sambanova/400-wrong-request", "invalid_request"),
    ("sambanova/401", "unauthorized, account 600"),
    ("sambanova/402-no-card", "payment_required, account 600"),
    ("sambanova/404-model", "model_gone, model 3600"),
    ("sambanova/404-page", "misdirected, provider"),
    ("sambanova/410-model-removed", "model_gone, model 3600"),
    ("sambanova/422-no-tier", "model_gone, model 3600"),
    ("sambanova/429-day", "rate_limited, account 78406"),
    ("sambanova/429-minute", "rate_limited, account 46"),
    ("sambanova/503", "upstream, provider"),
    ("sambanova/success", "fine"),
    ("sambanova/success-minute-used-up", "fine, account 46"),
    ("vllm/400-too-long", "too_large"),
    ("vllm/404-model", "model_gone, model 3600"),
];

#[test]
fn every_reply_means_what_it_should() {
    let mut wrong = Vec::new();
    for (name, expected) in ROWS {
        let found = outcome(name);
        if found != expected {
            wrong.push(format!("{name}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reply_has_its_row() {
    let rows: BTreeSet<String> = ROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut files = BTreeSet::new();
    for provider in fs::read_dir(folder()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir())
    {
        for file in fs::read_dir(provider.path()).unwrap() {
            let path = file.unwrap().path().with_extension("");
            files.insert(path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned());
        }
    }
    assert_eq!(rows, files);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai")
}

/// One recorded reply.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn reply(name: &str) -> Reply {
    let text = fs::read_to_string(folder().join(format!("{name}.http"))).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    Reply { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

/// A shipped provider with an account and at least one model.
fn spec(id: &str) -> ProviderSpec {
    static SHIPPED: LazyLock<Vec<ProviderSpec>> = LazyLock::new(|| shipped_providers().unwrap());
    let mut spec = SHIPPED.iter().find(|spec| spec.id.as_str() == id).unwrap().clone();
    if spec.models.is_empty() {
        spec.models.push(SHIPPED[0].models[0].clone());
    }
    spec.accounts = vec![AccountSpec { name: "a".to_owned(), keys: Vec::new() }];
    spec
}

fn shared(spec: ProviderSpec) -> (Arc<ProviderShared>, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(NOW));
    let panics = Panics::default();
    (Arc::new(ProviderShared::new(Arc::new(spec), clock.clone(), panics)), clock)
}

/// What an attempt makes of a reply, without its connection.
fn understood(shared: &ProviderShared, reply: &Reply) -> Result<(), UpstreamFailure> {
    let adapter = adapter(shared.spec().dialect);
    if !(200..300).contains(&reply.status) {
        let body = reply.body.as_bytes();
        let failure = adapter.classify(&ErrorAnswer { status: reply.status, body });
        let hints = adapter.limit_hints(shared.limit_headers(), &reply.headers, Some(body), NOW);
        return Err(hints.complete(failure));
    }
    if reply.headers.get("content-type").unwrap() != "text/event-stream" {
        return adapter
            .check_whole(reply.body.as_bytes())
            .map(|whole| assert_eq!(whole.said, Said::Something));
    }
    let mut splitter = Splitter::default();
    splitter.push(Bytes::from(reply.body.clone())).unwrap();
    while let Some(event) = splitter.next_event().unwrap() {
        let Event::Data(data) = sse::read(&event) else { continue };
        match adapter.read_chunk(&data) {
            Ok(_) => {}
            Err(StreamError::Reported(failure)) => return Err(failure),
            Err(other) => panic!("{other:?}"),
        }
    }
    Ok(())
}

fn outcome(name: &str) -> String {
    let (shared, _) = shared(spec(name.split('/').next().unwrap()));
    let reply = reply(name);
    let adapter = adapter(shared.spec().dialect);
    let hints = adapter.limit_hints(shared.limit_headers(), &reply.headers, None, NOW);
    shared.heed(ACCOUNT, MODEL, &hints);
    let kind = match understood(&shared, &reply) {
        Ok(()) => "fine".to_owned(),
        Err(failure) => {
            let failure = shared.understood(failure);
            fail(&shared, &failure);
            let is_providers = failure.kind.consequence().costs == Costs::Provider;
            format!("{}{}", failure.kind.as_str(), if is_providers { ", provider" } else { "" })
        }
    };
    kind + &left_alone(&shared)
}

fn fail(shared: &ProviderShared, failure: &UpstreamFailure) {
    let attempt =
        FailedAttempt { account: ACCOUNT, model: MODEL, has_succeeded: false, probes: Probes::default() };
    shared.failed(&attempt, failure);
}

/// Who is left alone, and for how many seconds.
fn left_alone(shared: &ProviderShared) -> String {
    let cooldowns = shared.snapshot().book.cooldowns;
    let Some(first) = cooldowns.first() else { return String::new() };
    let who = match (&first.model, cooldowns.len()) {
        (None, _) => "account",
        (Some(_), 1) => "model",
        (Some(_), _) => "pool",
    };
    format!(", {who} {}", first.until.saturating_since(NOW).as_secs())
}

fn reserve(shared: &Arc<ProviderShared>) -> (Answer, Option<Probe>) {
    let (reserved, probe) = shared.admit(|now, book| Reserved::Now(book.reserve(now, &demand())));
    let Reserved::Now(answer) = reserved else { panic!("{reserved:?}") };
    (answer, probe)
}

fn demand() -> Demand {
    Demand {
        model: MODEL,
        input_tokens: 1,
        output_tokens: 1,
        send_within: Duration::from_secs(1),
        is_streamed: true,
    }
}

fn refusal() -> UpstreamFailure {
    UpstreamFailure { status: Some(429), ..UpstreamFailure::new(FailureKind::RateLimited, "") }
}

#[test]
fn a_busy_model_is_busy_for_every_account() {
    let mut two = spec("cerebras");
    two.accounts.push(AccountSpec { name: "b".to_owned(), keys: Vec::new() });
    let (shared, _) = shared(two);
    fail(&shared, &UpstreamFailure::new(FailureKind::Overloaded, ""));
    let (answer, _) = reserve(&shared);
    let after = Refusal::NotUntil(NOW + Duration::from_secs(5));
    assert!(matches!(&answer, Answer::Refused(refusal) if *refusal == after), "{answer:?}");
}

/// A refusal of several limits at once, in the shape of Gemini's (public reports of 2026-02 to 2026-10).
const GEMINI_DAY: &str = r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":
    "You exceeded your current quota. Please retry in 34.074824224s.","details":[
    {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
        {"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"5"},
        {"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"20"}]},
    {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}]"#;

#[test]
fn a_day_is_not_taken_for_a_minute_though_it_says_seconds() {
    let rule = |words: &str, seconds: u64, ignores_delay: bool| ErrorRule {
        status: Some(429),
        code: None,
        words: Some(words.to_owned()),
        means: FailureKind::RateLimited,
        limit: RefusedLimit {
            scope: Some(Scope::Model),
            unit: Some(Unit::Requests),
            period: Some(Period::Length(Duration::from_secs(seconds))),
        },
        ignores_delay,
    };
    let mut gemini = spec("groq");
    gemini.signals.errors = vec![rule("PerDay", 86_400, true), rule("PerMinute", 60, false)];
    let minute = GEMINI_DAY.replace("GenerateRequestsPerDayPer", "GenerateRequestsPerMinutePer");
    for (body, expected) in [(GEMINI_DAY, ", model 600"), (minute.as_str(), ", model 34")] {
        let (shared, _) = shared(gemini.clone());
        let reply = Reply { status: 429, headers: HeaderMap::new(), body: body.to_owned() };
        let failure = shared.understood(understood(&shared, &reply).unwrap_err());
        fail(&shared, &failure);
        assert_eq!(left_alone(&shared), expected);
    }
}

proptest! {
    /// Whatever a refusal says, and wherever: nobody is left alone for longer than its limit can last.
    #[test]
    fn no_word_is_believed_beyond_the_limit(
        delay in prop_oneof!["-?[0-9]{1,20}(\\.[0-9]{1,3})?(ms|s|m|h)?", "\\PC{0,20}"],
        is_day in any::<bool>(),
    ) {
        let words = if is_day { "(TPD)" } else { "(TPM)" };
        let error = json!({"error": {"message": format!("used up {words}. Please try again in {delay}")}});
        let (shared, _) = shared(spec("groq"));
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&delay) {
            headers.insert(HeaderName::from_static("retry-after"), value);
        }
        let reply = Reply { status: 429, headers, body: error.to_string() };
        let failure = shared.understood(understood(&shared, &reply).unwrap_err());
        fail(&shared, &failure);
        let until = shared.snapshot().book.cooldowns[0].until;
        let longest = Duration::from_secs(if is_day { 86_400 } else { 60 });
        prop_assert!(until > NOW && until <= NOW + longest, "{:?}", until);
    }
}

#[test]
fn a_refusal_while_the_books_saw_room_is_a_breach() {
    let (shared, _) = shared(spec("groq"));
    assert_eq!((shared.limit_breaches(), shared.accounts_refused()), (0, 0));
    fail(&shared, &refusal());
    fail(&shared, &UpstreamFailure::new(FailureKind::Overloaded, ""));
    fail(&shared, &UpstreamFailure::new(FailureKind::Unauthorized, ""));
    assert_eq!((shared.limit_breaches(), shared.accounts_refused()), (1, 1));
    let snapshot = shared.snapshot();
    assert_eq!((snapshot.limit_breaches, snapshot.accounts_refused), (1, 1));
}

#[test]
fn one_probe_reopens_a_limit_that_gave_no_instant() {
    let (shared, clock) = shared(spec("groq"));
    fail(&shared, &refusal());
    let is_refused = |answer: &Answer| matches!(answer, Answer::Refused(_));
    assert!(is_refused(&reserve(&shared).0));
    clock.advance(Duration::from_secs(30));

    let (answer, probe) = reserve(&shared);
    let Answer::Granted(hold) = answer else { panic!("{answer:?}") };
    assert!(is_refused(&reserve(&shared).0), "only the probe is let through");
    drop(probe);
    shared.settle(shared.clock().now(), hold, Spent::NotSent);

    let (answer, probe) = reserve(&shared);
    let Answer::Granted(hold) = answer else { panic!("it makes way for the next one: {answer:?}") };
    let probe = probe.unwrap();
    shared.succeeded(shared.clock().now(), ACCOUNT, MODEL, probe.probes());
    drop(probe);
    shared.settle(shared.clock().now(), hold, Spent::NotSent);
    for _ in 0..3 {
        let (answer, probe) = reserve(&shared);
        let Answer::Granted(hold) = answer else { panic!("it is open again: {answer:?}") };
        assert!(probe.is_none());
        shared.settle(shared.clock().now(), hold, Spent::NotSent);
    }
}

#[test]
fn a_refused_probe_closes_the_limit_for_longer() {
    let (shared, clock) = shared(spec("groq"));
    fail(&shared, &refusal());
    clock.advance(Duration::from_secs(30));
    let (answer, probe) = reserve(&shared);
    let Answer::Granted(hold) = answer else { panic!("{answer:?}") };
    let probes = probe.as_ref().unwrap().probes();
    let attempt = FailedAttempt { account: ACCOUNT, model: MODEL, has_succeeded: false, probes };
    shared.failed(&attempt, &refusal());
    drop(probe);
    shared.settle(shared.clock().now(), hold, Spent::NotSent);
    let until = shared.snapshot().book.cooldowns[0].until;
    assert_eq!(until.saturating_since(NOW), Duration::from_secs(30 + 120));
}
