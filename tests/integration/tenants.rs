//! Tenants: what each may do, and what none can do to another.

use std::sync::Arc;
use std::time::Duration;

use freellmapi::domain::clock::{Clock, FakeClock, Moment, SystemClock};
use freellmapi::domain::tenant::TenantChange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use crate::support::app::{Answer, KEY, TestApp, chat_body, provider, until};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::raw_client::RawClient;
use crate::support::reply::{Reply, Step};

/// 2026-11-23T12:00:00Z.
const NOON: Moment = Moment::from_unix_micros(1_795_435_200_000_000);

/// Of a client that does not wait.
const HURRIED: (&str, &str) = ("x-max-wait-ms", "0");

fn none() -> TenantChange {
    TenantChange::default()
}

async fn chat(app: &TestApp, key: &str) -> Answer {
    let body = chat_body(json!({"stream": false, "model": "auto"}));
    app.post_as(key, "/v1/chat/completions", body, &[HURRIED]).await
}

fn reply_using(tokens: u64) -> Reply {
    let usage = json!({"prompt_tokens": tokens - 1, "completion_tokens": 1});
    Reply::json(
        200,
        &json!({"choices": [{"message": {"role": "assistant", "content": "x"}}], "usage": usage}),
    )
}

#[actix_web::test]
async fn the_own_limit_of_a_tenant_is_429_with_an_honest_instant() {
    let upstream = FakeUpstream::start([]);
    let clock = Arc::new(FakeClock::at(NOON));
    let app = TestApp::with_clock(clock.clone(), &provider("up", &upstream, "")).await;
    let key = app.tenant("a", TenantChange { rpm: Some(Some(2)), ..none() }).await;
    for left in ["1", "0"] {
        let served = chat(&app, &key).await;
        assert_eq!(served.status, 200, "{}", served.text());
        assert_eq!(served.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(served.header("x-ratelimit-remaining-requests"), Some(left));
        assert_eq!(served.header("x-ratelimit-limit-tokens"), None);
    }
    let refused = chat(&app, &key).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert!(refused.text().contains("tenant"), "{}", refused.text());
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((60..=61).contains(&retry_after), "{retry_after}");

    let other = chat(&app, KEY).await;
    assert_eq!((other.status.as_u16(), other.header("x-ratelimit-limit-requests")), (200, None));
    assert_eq!(upstream.request_count(), 3);

    clock.advance(Duration::from_secs(retry_after) - Duration::from_millis(1_100));
    assert_eq!(chat(&app, &key).await.status, 429);
    clock.advance(Duration::from_millis(1_100));
    assert_eq!(chat(&app, &key).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_restart_forgets_nothing_of_what_a_tenant_used() {
    let upstream = FakeUpstream::start_with([], reply_using(400));
    let app = TestApp::with_clock(Arc::new(FakeClock::at(NOON)), &provider("up", &upstream, "")).await;
    let requests = app.tenant("a", TenantChange { rpm: Some(Some(3)), rpd: Some(Some(2)), ..none() }).await;
    let tokens =
        app.tenant("b", TenantChange { tpm: Some(Some(2_000)), tpmonth: Some(Some(2_000)), ..none() }).await;
    for key in [&requests, &tokens, &tokens] {
        assert_eq!(chat(&app, key).await.status, 200);
    }
    let app = app.restart().await;
    let second = chat(&app, &requests).await;
    assert_eq!((second.status.as_u16(), second.header("x-ratelimit-remaining-requests")), (200, Some("0")));
    let third = chat(&app, &requests).await;
    assert_eq!(third.status, 429);
    assert_eq!(third.header("retry-after"), Some("43200"), "until midnight UTC");
    assert_eq!(third.header("x-should-retry"), Some("false"));
    let tokens_left = chat(&app, &tokens).await;
    assert_eq!(tokens_left.header("x-ratelimit-remaining-tokens"), Some("800"), "{}", tokens_left.text());
    app.finish().await;
}

#[actix_web::test]
async fn a_parallel_slot_is_held_to_the_last_byte_and_waited_for() {
    let steps = [Step::delta("a"), Step::WaitForSignal, Step::delta("b"), Step::raw(b""), Step::Cut];
    let upstream = FakeUpstream::start([Reply::stream(steps)]);
    let app = TestApp::with_upstream(&upstream).await;
    let key = app.tenant("a", TenantChange { parallel: Some(Some(1)), ..none() }).await;
    let mut long =
        app.stream_as(&key, "/v1/chat/completions", json!({"model": "auto", "stream": true})).await;
    long.next().await.unwrap();
    let refused = chat(&app, &key).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("1")));
    assert_eq!(chat(&app, KEY).await.status, 200, "another tenant has slots of its own");

    let body = chat_body(json!({"stream": false, "model": "auto"}));
    let (waited, ()) = tokio::join!(app.post_as(&key, "/v1/chat/completions", body, &[]), async {
        upstream.signal();
        while long.next().await.is_some() {}
        drop(long);
    });
    assert_eq!(waited.status, 200, "{}", waited.text());
    assert_eq!(chat(&app, &key).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn failover_takes_one_request_and_a_refusal_upstream_none() {
    let broken = FakeUpstream::start_with([], Reply::error(500, "broken"));
    let sound = FakeUpstream::start([]);
    let config = provider("broken", &broken, "") + &provider("sound", &sound, "");
    let app = TestApp::with_config(&config).await;
    let key = app.tenant("a", TenantChange { rpm: Some(Some(5)), ..none() }).await;
    let served = chat(&app, &key).await;
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.header("x-ratelimit-remaining-requests"), Some("4"));
    app.finish().await;

    let busy = provider("up", &sound, &crate::support::app::limit("requests", 1, "60s"));
    let app = TestApp::with_config(&busy).await;
    let key = app.tenant("a", TenantChange { rpm: Some(Some(5)), ..none() }).await;
    assert_eq!(chat(&app, KEY).await.status, 200);
    let refused = chat(&app, &key).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-ratelimit-remaining-requests")), (429, Some("5")));
    app.finish().await;
}

#[actix_web::test]
async fn the_tokens_of_a_tenant_are_those_that_were_used() {
    let upstream = FakeUpstream::start_with([], reply_using(300));
    let app = TestApp::with_upstream(&upstream).await;
    let key = app.tenant("a", TenantChange { tpd: Some(Some(1_000)), ..none() }).await;
    let sized = async |max_tokens: u64| {
        let body = chat_body(json!({"stream": false, "model": "auto", "max_tokens": max_tokens}));
        app.post_as(&key, "/v1/chat/completions", body, &[HURRIED]).await
    };
    let large = sized(1_000).await;
    assert_eq!(
        (large.status.as_u16(), &large.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    assert_eq!(upstream.request_count(), 0);
    for left in ["700", "400"] {
        assert_eq!(sized(200).await.status, 200);
        let next = sized(1_000).await;
        assert_eq!(next.header("x-ratelimit-remaining-tokens"), Some(left));
    }
    assert_eq!(sized(500).await.status, 429);
    assert_eq!(sized(100).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn what_a_tenant_may_not_use_does_not_exist_for_it() {
    let (one, two) = (FakeUpstream::start([]), FakeUpstream::start([]));
    let config = provider("one", &one, "trains_on_data = false") + &provider("two", &two, "");
    let app = TestApp::with_config(&config).await;
    let named = app
        .tenant("named", TenantChange { models: Some(Some(vec!["two/m-two".to_owned()])), ..none() })
        .await;
    let private = app.tenant("private", TenantChange { no_training: Some(true), ..none() }).await;
    let ids = async |key: &str| {
        let list = app.get("/v1/models", Some(key)).await.json();
        let ids = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .skip(3)
            .map(|model| model["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&named).await, ["family-m", "m-two", "two/m-two"]);
    assert_eq!(ids(&private).await, ["family-m", "m-one", "one/m-one"]);
    assert_eq!(ids(KEY).await.len(), 5);
    let rows = app.get("/api/models", Some(&private)).await.json();
    let number = |platform: &str| rows.as_array().unwrap().iter().find(|row| row["platform"] == platform);
    assert!(number("one").is_some() && number("two").is_none());

    for (key, upstream, mine, other) in [(&named, &two, "m-two", "m-one"), (&private, &one, "m-one", "m-two")]
    {
        for model in ["auto", "family-m", mine] {
            let body = chat_body(json!({"stream": false, "model": model}));
            let answer = app.post_as(key, "/v1/chat/completions", body, &[]).await;
            assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        }
        assert_eq!(upstream.request_count(), 3);
        let body = chat_body(json!({"stream": false, "model": other}));
        let unknown = app.post_as(key, "/v1/chat/completions", body, &[]).await;
        assert_eq!(
            (unknown.status.as_u16(), &unknown.json()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
        assert_eq!(app.get(&format!("/v1/models/{other}"), Some(key)).await.status, 404);
    }
    let all = app.get("/api/models", None).await.json();
    let hidden = all.as_array().unwrap().iter().find(|row| row["platform"] == "two").unwrap()["id"].clone();
    let pinned = app.post_as(&private, "/api/chat", chat_body(json!({"model_id": hidden})), &[]).await;
    assert_eq!(pinned.status, 400, "{}", pinned.text());
    app.finish().await;
}

#[actix_web::test]
async fn a_tenant_for_whom_no_model_is_left_is_told_so() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let key =
        app.tenant("a", TenantChange { models: Some(Some(vec!["nothing".to_owned()])), ..none() }).await;
    let refused = chat(&app, &key).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("tenant"), "{}", refused.text());
    assert_eq!(upstream.request_count(), 0);
    app.finish().await;
}

#[actix_web::test]
async fn a_running_server_honours_changes_and_removal() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let key = app.tenant("a", none()).await;
    assert_eq!(chat(&app, &key).await.header("x-ratelimit-limit-requests"), None);
    let store = app.open_store().store;
    store.change_tenant("a", &TenantChange { rpd: Some(Some(1)), ..none() }).unwrap();
    // What it has used before its limit was set counts, so that nothing is left.
    until("the limit is honoured", async || (chat(&app, &key).await.status == 429).then_some(())).await;
    store.change_tenant("a", &TenantChange { rpd: Some(None), ..none() }).unwrap();
    until("the limit is lifted", async || (chat(&app, &key).await.status == 200).then_some(())).await;
    assert_eq!(store.remove_tenant("a").unwrap(), Some(1));
    until("its keys are gone", async || (chat(&app, &key).await.status == 401).then_some(())).await;
    assert_eq!(chat(&app, KEY).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_flood_without_a_key_slows_nobody() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_server_config("max_in_flight = 2\n", &provider("up", &upstream, "")).await;
    let head = "POST /api/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\ncontent-length: 10000000\r\n\r\n";
    let mut flood = Vec::new();
    for _ in 0..150 {
        let mut stranger = RawClient::connect(app.address()).await;
        stranger.send(head.as_bytes()).await;
        flood.push(stranger);
    }
    for _ in 0..5 {
        assert_eq!(chat(&app, KEY).await.status, 200);
    }
    for mut stranger in flood {
        let answer = stranger.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let small = app.post_as("wrong", "/api/chat", chat_body(json!({})), &[]).await;
    assert_eq!(small.status, 401);
    app.finish().await;
}

#[actix_web::test]
async fn a_flood_of_wrong_keys_is_answered_at_a_pace_and_a_right_one_is_served_meanwhile() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let clock = SystemClock::start();
    let begun = clock.now();
    // Over every way in, each stranger as soon as it has its answer.
    let stranger = async |number: usize| {
        for _ in 0..6 {
            let answer = match number % 4 {
                0 => app.get("/v1/models", Some("wrong")).await,
                1 => app.get("/v1/models", None).await,
                2 => app.get("/nowhere", None).await,
                _ => chat(&app, "wrong").await,
            };
            assert_eq!(answer.status, if number % 4 == 2 { 404 } else { 401 });
        }
    };
    let flood: FuturesUnordered<_> = (0..64).map(stranger).collect();
    tokio::join!(flood.collect::<Vec<()>>(), async {
        for _ in 0..20 {
            assert_eq!(chat(&app, KEY).await.status, 200);
        }
    });
    // A hundred and one of 384 at once, then 200 a second.
    let taken = clock.now().saturating_since(begun);
    assert!(taken >= Duration::from_millis((384 - 101) * 5), "{taken:?}");
    app.finish().await;
}

#[actix_web::test]
async fn no_tenant_takes_more_than_its_share_from_one_that_asks() {
    let waiting = || Reply::stream([Step::delta("a"), Step::WaitForSignal, Step::Cut]);
    let upstream = FakeUpstream::start([(); 5].map(|()| waiting()));
    let app = TestApp::with_server_config("max_in_flight = 4\n", &provider("up", &upstream, "")).await;
    let greedy = app.tenant("greedy", none()).await;
    let begin = async |key: &str| {
        let mut stream = app.stream_as(key, "/api/chat", json!({})).await;
        stream.next().await.unwrap();
        stream
    };
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(begin(&greedy).await);
    }
    let full = chat(&app, KEY).await;
    assert_eq!((full.status.as_u16(), full.header("retry-after")), (503, Some("1")));
    drop(streams.pop());
    app.wait_for_in_flight(3).await;
    let newcomer = begin(KEY).await;
    drop(streams.pop());
    app.wait_for_in_flight(3).await;
    // Two of four, besides one that holds one: its share.
    let over = chat(&app, &greedy).await;
    assert_eq!(over.status, 503);
    assert!(over.text().contains("share"), "{}", over.text());
    assert_eq!(chat(&app, KEY).await.status, 200);
    drop((streams, newcomer));
    app.finish().await;
}
