//! `GET /metrics`: who may read it, what it says, and that clients cannot make it grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use freellmapi::telemetry::FAMILIES;
use futures_util::StreamExt;
use serde_json::json;

use crate::support::app::{ADMIN_KEY, Answer, KEY, TestApp, chat_body, limit, provider, until};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// Name and labels, as exposed.
type Series = (String, BTreeMap<String, String>);

/// What was read, checked against the format.
struct Exposition {
    kinds: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    samples: BTreeMap<Series, f64>,
}

impl Exposition {
    /// Reads the text format 0.0.4 strictly: a family is HELP, TYPE, then its samples, once.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let mut read = Self { kinds: BTreeMap::new(), helps: BTreeMap::new(), samples: BTreeMap::new() };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").expect(line).split_once(' ').unwrap();
            let typed = lines.next().unwrap();
            let kind = typed.strip_prefix(&format!("# TYPE {name} ")).expect(typed);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{typed}");
            assert!(read.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            read.helps.insert(name.to_owned(), help.to_owned());
            let mut count = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = sample(line);
                let suffix = series.0.strip_prefix(name).expect(line);
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line} is not of {name}");
                assert!(value >= 0.0, "{line}");
                assert!(read.samples.insert(series, value).is_none(), "{line} comes twice");
                count += 1;
            }
            assert!(count > 0, "{name} has no series");
            if kind == "histogram" {
                read.check_histogram(name);
            }
        }
        read
    }

    /// Buckets grow, and the last one is all.
    fn check_histogram(&self, name: &str) {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for ((sample, labels), value) in &self.samples {
            if *sample == format!("{name}_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap();
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                series.entry(labels).or_default().push((bound, *value));
            }
        }
        assert!(!series.is_empty());
        for (labels, mut buckets) in series {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}{labels:?}: {buckets:?}");
            let last = buckets.last().unwrap();
            assert_eq!(last.0, f64::INFINITY);
            assert_eq!(self.samples[&(format!("{name}_count"), labels.clone())], last.1);
            assert!(self.samples.contains_key(&(format!("{name}_sum"), labels)));
        }
    }

    /// The value of a series; `name` without the prefix that all have.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(format!("freellmapi_{name}"), labels)).copied()
    }

    fn series(&self) -> BTreeSet<&Series> {
        self.samples.keys().collect()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|character| character.is_ascii_lowercase() || "_0123456789".contains(character))
}

fn sample(line: &str) -> (Series, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
        None => (series, ""),
    };
    assert!(is_name(name) && name.starts_with("freellmapi_"), "{line}");
    let mut read = BTreeMap::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").expect(line);
        let end = end_of_value(quoted).expect(line);
        assert!(is_name(label), "{line}");
        assert!(read.insert(label.to_owned(), quoted[..end].to_owned()).is_none(), "{line}");
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    ((name.to_owned(), read), value.parse().expect(line))
}

/// The position of the quote that ends a label's value.
fn end_of_value(quoted: &str) -> Option<usize> {
    let mut is_escaped = false;
    quoted.char_indices().find_map(|(position, character)| match character {
        _ if is_escaped => {
            assert!("\\\"n".contains(character), "{quoted}");
            is_escaped = false;
            None
        }
        '\\' => {
            is_escaped = true;
            None
        }
        '"' => Some(position),
        _ => None,
    })
}

async fn read(app: &TestApp) -> Exposition {
    let answer = app.get("/metrics", Some(ADMIN_KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Exposition::parse(&answer.text())
}

/// The metrics once a series has that value: a request is counted as it ends, just after its client has the answer.
async fn read_when(app: &TestApp, name: &str, labels: &[(&str, &str)], value: f64) -> Exposition {
    until(&format!("{name} {labels:?} = {value}"), async || {
        let read = read(app).await;
        (read.value(name, labels) == Some(value)).then_some(read)
    })
    .await
}

async fn hurried(app: &TestApp, model: &str) -> Answer {
    let body = chat_body(json!({"model": model}));
    app.post_with("/v1/chat/completions", body, &[("x-max-wait-ms", "0")]).await
}

#[actix_web::test]
async fn only_the_operator_reads_the_metrics() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    for key in [None, Some(KEY), Some("nonsense"), Some("")] {
        let refused = app.get("/metrics", key).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (401, &json!(401)), "{key:?}");
        assert!(!refused.text().contains("freellmapi_"), "{key:?}");
    }
    let answer = app.get("/metrics", Some(ADMIN_KEY)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let posted = app.post_as(ADMIN_KEY, "/metrics", "", &[]).await;
    assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, Some("GET, HEAD")));
    app.finish().await;
}

#[actix_web::test]
async fn everybody_reads_them_where_the_operator_says_so() {
    let upstream = FakeUpstream::start([]);
    let config = format!("[access]\npublic_metrics = true\n{}", provider("up", &upstream, ""));
    let app = TestApp::with_config(&config).await;
    for key in [None, Some(KEY), Some("nonsense")] {
        let answer = app.get("/metrics", key).await;
        assert_eq!(answer.status, 200, "{key:?}");
        let version =
            Exposition::parse(&answer.text()).value("build_info", &[("version", env!("CARGO_PKG_VERSION"))]);
        assert_eq!(version, Some(1.0));
    }
    app.finish().await;
}

#[actix_web::test]
async fn what_happens_is_counted() {
    let bad = FakeUpstream::start([Reply::error(500, "broken"), Reply::rate_limited(30)]);
    let good = FakeUpstream::start([]);
    let config = provider("bad", &bad, "") + &provider("good", &good, &limit("requests", 1, "60s"));
    let app = TestApp::with_config(&config).await;

    let failed_over = app.completion(json!({"model": "family-m"})).await;
    assert_eq!(failed_over.header("x-routed-via"), Some("good/m-good"));
    let limited = hurried(&app, "bad/m-bad").await;
    assert_eq!(limited.status, 429, "{}", limited.text());
    let full = hurried(&app, "good/m-good").await;
    assert_eq!(full.status, 429, "{}", full.text());
    assert_eq!(app.post_as("nobody's", "/api/chat", chat_body(json!({})), &[]).await.status, 401);
    assert_eq!(app.post("/api/chat", "{}").await.status, 400);

    let read =
        read_when(&app, "requests_total", &[("surface", "original"), ("outcome", "rejected")], 1.0).await;
    let of = |name, provider, label, value| read.value(name, &[("provider", provider), (label, value)]);
    let requests = |surface, outcome| {
        read.value("requests_total", &[("surface", surface), ("outcome", outcome)]).unwrap()
    };
    assert_eq!((requests("openai", "served"), requests("openai", "no_capacity")), (1.0, 2.0));
    assert_eq!(requests("original", "served"), 0.0);
    assert_eq!(read.value("unauthorized_total", &[("surface", "original")]), Some(1.0));
    assert_eq!(read.value("request_duration_seconds_count", &[("surface", "openai")]), Some(3.0));

    assert_eq!(of("attempts_total", "bad", "outcome", "upstream"), Some(1.0));
    assert_eq!(of("attempts_total", "bad", "outcome", "rate_limited"), Some(1.0));
    assert_eq!(of("attempts_total", "bad", "outcome", "served"), Some(0.0));
    assert_eq!(of("attempts_total", "good", "outcome", "served"), Some(1.0));
    assert_eq!(of("answers_total", "good", "model", "m-good"), Some(1.0));
    assert_eq!(read.value("limit_breach_total", &[("provider", "bad")]), Some(1.0));
    assert_eq!(read.value("limit_breach_total", &[("provider", "good")]), Some(0.0));
    assert!(of("provider_cooling", "bad", "reason", "rate_limited").unwrap() >= 1.0);
    assert_eq!(of("provider_cooling", "bad", "reason", "unauthorized"), Some(0.0));

    assert_eq!(of("limit_decisions_total", "good", "decision", "granted"), Some(1.0));
    assert!(of("limit_decisions_total", "good", "decision", "refused").unwrap() >= 1.0);
    let remaining = [("provider", "good"), ("scope", "account"), ("unit", "requests"), ("window", "60s")];
    assert_eq!(read.value("limit_remaining_ratio", &remaining), Some(0.0));

    // One call came to its end, and two requests were refused after a call or without one.
    assert_eq!(read.value("overhead_seconds_count", &[("stage", "request")]), Some(2.0));
    assert_eq!(read.value("overhead_seconds_count", &[("stage", "answer")]), Some(1.0));
    assert_eq!(read.value("queue_wait_seconds_count", &[]), Some(3.0));
    app.finish().await;
}

#[actix_web::test]
async fn streams_count_their_first_token_their_tokens_and_who_leaves() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}});
    let whole = Reply::stream([
        Step::delta("Hello"),
        Step::event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
        Step::event(&usage),
        Step::chunk("data: [DONE]\n\n"),
        Step::End,
    ]);
    let upstream = FakeUpstream::start([whole, Reply::stream([Step::delta("Hello")])]);
    let app = TestApp::with_upstream(&upstream).await;

    assert_eq!(app.chat(json!({})).await.status, 200);
    let first = read_when(&app, "tokens_total", &[("provider", "up"), ("direction", "output")], 4.0).await;
    assert_eq!(first.value("tokens_total", &[("provider", "up"), ("direction", "input")]), Some(9.0));

    let mut left = app.stream("/api/chat", json!({})).await;
    left.next().await.unwrap();
    let open = read(&app).await;
    assert_eq!(open.value("requests_in_flight", &[]), Some(1.0));
    assert_eq!(open.value("holds_open", &[("provider", "up")]), Some(1.0));
    drop(left);
    let labels = [("surface", "original"), ("outcome", "client_left")];
    let read = read_when(&app, "requests_total", &labels, 1.0).await;
    assert_eq!(read.value("attempts_total", &[("provider", "up"), ("outcome", "abandoned")]), Some(1.0));
    assert_eq!(read.value("attempts_total", &[("provider", "up"), ("outcome", "served")]), Some(1.0));
    assert_eq!(read.value("time_to_first_token_seconds_count", &[("surface", "original")]), Some(2.0));
    let first_tokens = read.value("attempt_time_to_first_token_seconds_count", &[("provider", "up")]);
    assert_eq!(first_tokens, Some(2.0));
    assert_eq!(read.value("overhead_seconds_count", &[("stage", "answer")]), Some(1.0));
    app.idle().await;
    app.finish().await;
}

#[actix_web::test]
async fn who_waits_is_seen_and_its_wait_is_told() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "400ms"))).await;
    assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    let (waited, ()) = tokio::join!(app.chat(json!({"stream": false})), async {
        read_when(&app, "queue_depth", &[], 1.0).await;
    });
    assert_eq!(waited.status, 200);
    let read = read_when(&app, "queue_wait_seconds_count", &[], 2.0).await;
    assert_eq!(read.value("queue_wait_seconds_bucket", &[("le", "0")]), Some(1.0));
    assert!(read.value("queue_wait_seconds_sum", &[]).unwrap() > 0.0);
    assert_eq!(read.value("queue_depth", &[]), Some(0.0));
    app.finish().await;
}

#[actix_web::test]
async fn a_provider_that_fails_shows_it() {
    let down = FakeUpstream::start_with([], Reply::close_at_once());
    let locked = FakeUpstream::start_with([], Reply::error(401, "no such key"));
    let app = TestApp::with_config(&(provider("down", &down, "") + &provider("locked", &locked, ""))).await;
    let state = [("provider", "down"), ("state", "open")];
    assert_eq!(read(&app).await.value("provider_breaker_state", &state), Some(0.0));
    for _ in 0..3 {
        assert_eq!(hurried(&app, "down/m-down").await.status, 503);
    }
    assert_eq!(hurried(&app, "locked/m-locked").await.status, 503);
    let read = read_when(&app, "accounts_refused_total", &[("provider", "locked")], 1.0).await;
    assert_eq!(read.value("provider_breaker_state", &state), Some(1.0));
    let closed = [("provider", "down"), ("state", "closed")];
    assert_eq!(read.value("provider_breaker_state", &closed), Some(0.0));
    assert_eq!(read.value("attempts_total", &[("provider", "down"), ("outcome", "served")]), Some(0.0));
    assert!(read.value("attempts_total", &[("provider", "down"), ("outcome", "closed")]).unwrap() >= 3.0);
    app.finish().await;
}

#[actix_web::test]
async fn no_client_can_make_a_series() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    // What the first answer of each kind makes is there before.
    assert_eq!(app.completion(json!({"model": "up/m-up"})).await.status, 200);
    assert_eq!(app.completion(json!({"model": "nobody"})).await.status, 404);
    let outcome = [("surface", "openai"), ("outcome", "rejected")];
    let before = read_when(&app, "requests_total", &outcome, 1.0).await;

    let hostile = ["hostile\"} 1\nfreellmapi_forged 1", "hostile/\u{1b}[31m", "up/hostile", "hostile\\"];
    for name in hostile.iter().map(|name| (*name).to_owned()).chain((0..20).map(|n| format!("hostile-{n}"))) {
        let answer = app.completion(json!({"model": name})).await;
        assert_eq!(answer.status, 404, "{name:?}: {}", answer.text());
    }
    for path in ["/v1/models/hostile", "/hostile", "/metrics/hostile", "/v1/hostile?hostile=hostile"] {
        assert_eq!(app.get(path, Some(KEY)).await.status, 404, "{path}");
        assert_eq!(
            app.post_as("hostile", path, "hostile", &[("x-request-id", "hostile")]).await.status.as_u16()
                / 100,
            4
        );
    }
    let after = read_when(&app, "requests_total", &outcome, 25.0).await;
    assert_eq!(after.series(), before.series());
    assert!(!app.get("/metrics", Some(ADMIN_KEY)).await.text().contains("hostile"));
    app.finish().await;
}

#[actix_web::test]
async fn the_document_lists_what_is_exposed() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `freellmapi_"));
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let upstream = FakeUpstream::start([Reply::error(500, "broken")]);
    let config = provider("up", &upstream, &limit("requests", 9, "60s"));
    let embedded = TestApp::with_config(&config).await;
    let exposed = read(&embedded).await;
    let is_shared = |name: &str| name.starts_with("freellmapi_ledger_");
    let of_any_store: BTreeSet<&str> =
        FAMILIES.iter().map(|family| family.name).filter(|name| !is_shared(name)).collect();
    assert_eq!(exposed.kinds.keys().map(String::as_str).collect::<BTreeSet<_>>(), of_any_store);
    embedded.finish().await;
    let app = TestApp::on_postgres(&config).await;
    let read = read(&app).await;
    let listed: Vec<Vec<String>> = FAMILIES
        .iter()
        .map(|family| {
            let kind =
                read.kinds.get(family.name).unwrap_or_else(|| panic!("{} is not exposed", family.name));
            let labels = if family.labels.is_empty() { "–".to_owned() } else { family.labels.join(", ") };
            [family.name, kind, &labels, family.help].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(rows, listed);
    assert_eq!(read.kinds.len(), FAMILIES.len(), "{:?}", read.kinds.keys());
    for family in FAMILIES {
        assert_eq!(read.helps[family.name], family.help);
        let is_of = |name: &str| {
            name.strip_prefix(family.name)
                .is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        };
        let mut expected: BTreeSet<&str> = family.labels.iter().copied().collect();
        for ((name, labels), _) in read.samples.iter().filter(|((name, _), _)| is_of(name)) {
            expected.remove("le");
            if name.ends_with("_bucket") {
                expected.insert("le");
            }
            assert_eq!(labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{name}");
        }
    }
    app.finish().await;
}

#[actix_web::test]
async fn the_shared_ledger_is_counted() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::on_postgres(&provider("up", &upstream, &limit("requests", 9, "60s"))).await;
    for _ in 0..3 {
        assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    }
    let read = read_when(&app, "ledger_claims_total", &[("answer", "granted")], 3.0).await;
    assert!(read.value("ledger_calls_total", &[]).unwrap() >= 3.0);
    for quiet in ["ledger_news_lost_total", "ledger_news_late_total", "ledger_restores_total"] {
        assert_eq!(read.value(quiet, &[]), Some(0.0), "{quiet}");
    }
    assert_eq!(read.value("ledger_claims_total", &[("answer", "refused")]), Some(0.0));
    read_when(&app, "ledger_claims_waiting", &[], 0.0).await;
    read_when(&app, "ledger_unwritten", &[], 0.0).await;
    app.finish().await;
}
