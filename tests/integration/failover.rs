//! What happens when an upstream fails: before the first event the next one is asked, after it the client is told.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::app::{TestApp, provider, provider_at, until};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// Two providers of one family; `bad` is asked first.
async fn app_with(bad: &FakeUpstream, good: &FakeUpstream, extra: &str) -> TestApp {
    TestApp::with_config(&(provider("bad", bad, extra) + &provider("good", good, ""))).await
}

fn request(streamed: bool) -> Value {
    json!({"model": "family-m", "stream": streamed})
}

#[actix_web::test]
async fn a_failure_before_the_first_event_is_not_seen() {
    let html = Reply::raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 17\r\n\r\n<html>busy</html>",
    );
    let error_in_200 = Reply::json(200, &json!({"error": {"code": 503, "message": "overloaded"}}));
    let error_event = Reply::stream([Step::event(&json!({"error": {"message": "no"}})), Step::End]);
    let empty_stream =
        Reply::stream([Step::chunk(": hello\n\n"), Step::chunk("data: [DONE]\n\n"), Step::End]);
    let cases = [
        ("500", Reply::error(500, "broken")),
        ("503", Reply::error(503, "overloaded")),
        ("429", Reply::rate_limited(30)),
        ("401", Reply::error(401, "bad key")),
        ("402", Reply::error(402, "pay")),
        ("404", Reply::error(404, "no such model")),
        ("413", Reply::error(413, "too large")),
        (
            "302",
            Reply::raw(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
        ),
        ("closed", Reply::close_at_once()),
        ("not HTTP", Reply::raw(b"220 mail ready\r\n\r\n")),
        ("html", html),
        ("an error in a 200", error_in_200),
        ("an error event", error_event),
        ("an empty stream", empty_stream),
    ];
    for (name, reply) in cases {
        for streamed in [false, true] {
            let (bad, good) = (FakeUpstream::start_with([], reply.clone()), FakeUpstream::start([]));
            let app = app_with(&bad, &good, "").await;
            let answer = app.completion(request(streamed)).await;
            assert_eq!(answer.status, 200, "{name}, streamed {streamed}: {}", answer.text());
            assert_eq!(answer.header("x-routed-via"), Some("good/m-good"), "{name}");
            assert_ne!(answer.header("x-fallback-attempts"), Some("0"), "{name}");
            assert!(bad.request_count() >= 1, "{name}");
            app.finish().await;
        }
    }
}

#[actix_web::test]
async fn a_provider_that_is_not_there_is_passed_over() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = FakeUpstream::start([]);
    let config = provider_at("bad", &format!("http://{closed}/v1"), "") + &provider("good", &good, "");
    let app = TestApp::with_config(&config).await;
    let answer = app.completion(request(true)).await;
    assert_eq!(answer.header("x-routed-via"), Some("good/m-good"));
    app.finish().await;
}

#[actix_web::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    let (bad, good) = (FakeUpstream::start_with([], Reply::never_answer()), FakeUpstream::start([]));
    let app = app_with(
        &bad,
        &good,
        "first_token_timeout = \"200ms\"\nstall_timeout = \"200ms\"\ntotal_timeout = \"200ms\"",
    )
    .await;
    for streamed in [false, true] {
        let answer = app.completion(request(streamed)).await;
        assert_eq!(answer.header("x-routed-via"), Some("good/m-good"), "{}", answer.text());
    }
    bad.wait_until_client_gone(0).await;
    bad.wait_until_client_gone(1).await;
    app.finish().await;
}

#[actix_web::test]
async fn a_request_that_the_provider_finds_wrong_is_not_sent_elsewhere() {
    let (bad, good) =
        (FakeUpstream::start_with([], Reply::error(400, "n is too large")), FakeUpstream::start([]));
    let app = app_with(&bad, &good, "").await;
    let answer = app.completion(request(false)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("n is too large"), "{}", answer.text());
    assert_eq!(good.request_count(), 0);
    app.finish().await;
}

#[actix_web::test]
async fn when_all_fail_it_is_503_and_says_when_to_come_back() {
    let (bad, worse) = (
        FakeUpstream::start_with([], Reply::error(500, "secret words")),
        FakeUpstream::start_with([], Reply::error(503, "x")),
    );
    let app = app_with(&bad, &worse, "").await;
    let answer = app.chat(json!({"stream": false})).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["retry_after"].as_u64() > Some(0));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(!answer.text().contains("secret words"), "an upstream's words may name an account");
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 0.0);
    app.finish().await;
}

#[actix_web::test]
async fn attempts_are_bounded() {
    let bad = FakeUpstream::start_with([], Reply::error(500, "x"));
    let many: String = (0..10).map(|index| provider(&format!("p{index}"), &bad, "")).collect();
    let app = TestApp::with_config(&many).await;
    assert_eq!(app.chat(json!({"stream": false})).await.status, 503);
    assert_eq!(bad.request_count(), 6);
    app.finish().await;
}

fn reason(index: u64, reason: &str) -> Step {
    Step::event(&json!({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}))
}

#[actix_web::test]
async fn a_cut_after_the_first_event_is_told_and_never_looks_complete() {
    let first = Step::delta("Hel");
    let endings = [
        ("cut", vec![first.clone(), Step::Cut]),
        ("reset", vec![first.clone(), Step::Reset]),
        ("an end without a reason", vec![first.clone(), Step::End]),
        ("an end with an empty reason", vec![first.clone(), reason(0, ""), Step::End]),
        (
            "an end before every choice ended",
            vec![first.clone(), reason(1, ""), reason(0, "stop"), Step::End],
        ),
        ("an error event", vec![first.clone(), Step::event(&json!({"error": {"message": "x"}})), Step::End]),
        ("nonsense", vec![first, Step::chunk("data: {half\n\n"), Step::End]),
    ];
    for (name, steps) in endings {
        let upstream = FakeUpstream::start_with([], Reply::stream(steps));
        let app = TestApp::with_upstream(&upstream).await;
        let original = app.chat(json!({})).await;
        assert_eq!(original.streamed_text(), "Hel", "{name}: {}", original.text());
        let events = original.events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!(last["code"], 503, "{name}: {last}");
        assert!(!original.text().contains("[DONE]"), "{name}");
        let openai = app.completion(json!({"model": "auto", "stream": true})).await;
        let events = openai.events();
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert!(last["error"]["message"].is_string(), "{name}: {last}");
        let stats = app.stats_when(|stats| stats["requests_today"] == 2).await;
        assert_eq!(stats["success_rate"], 0.0, "{name}");
        app.finish().await;
    }
}

#[actix_web::test]
async fn an_end_with_a_reason_is_complete_without_done() {
    let steps = [Step::delta("Hi"), reason(1, "length"), reason(0, "stop"), Step::End];
    let upstream = FakeUpstream::start_with([], Reply::stream(steps));
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({})).await;
    assert_eq!(answer.streamed_text(), "Hi");
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 1.0);
    app.finish().await;
}

#[actix_web::test]
async fn a_429_leaves_the_provider_alone_for_as_long_as_it_says() {
    let (bad, good) = (FakeUpstream::start_with([], Reply::rate_limited(60)), FakeUpstream::start([]));
    let app = app_with(&bad, &good, "").await;
    for _ in 0..3 {
        assert_eq!(app.completion(request(false)).await.status, 200);
    }
    assert_eq!(bad.request_count(), 1);
    let pinned = app.completion(json!({"model": "bad/m-bad"})).await;
    assert_eq!(pinned.status, 429, "{}", pinned.text());
    let wait: u64 = pinned.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    app.finish().await;
}

#[actix_web::test]
async fn a_stale_connection_is_no_failure() {
    let upstream =
        FakeUpstream::start([Reply::completion("one"), Reply::close_at_once(), Reply::completion("two")]);
    let app = TestApp::with_upstream(&upstream).await;
    assert_eq!(app.completion(json!({"model": "auto"})).await.status, 200);
    let second = app.completion(json!({"model": "auto"})).await;
    assert_eq!(second.status, 200, "{}", second.text());
    app.finish().await;
}

/// A provider with two accounts.
fn two_accounts(upstream: &FakeUpstream) -> String {
    provider("up", upstream, "").replace("auth = \"none\"", "keys_env = \"TEST_KEYS\"")
}

#[actix_web::test]
async fn the_next_account_of_the_same_provider_is_asked() {
    for refusal in [Reply::error(401, "bad key"), Reply::error(402, "pay"), Reply::rate_limited(30)] {
        let upstream = FakeUpstream::start([refusal]);
        let app = TestApp::with_config(&two_accounts(&upstream)).await;
        let answer = app.completion(json!({"model": "up/m-up"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let keys: Vec<_> = upstream
            .requests()
            .iter()
            .map(|request| request.header("authorization").unwrap().to_owned())
            .collect();
        assert_eq!(keys, ["Bearer first-secret", "Bearer second-secret"]);
        app.finish().await;
    }
}

#[actix_web::test]
async fn when_every_account_is_refused_it_is_503_and_not_429() {
    let upstream = FakeUpstream::start_with([], Reply::error(401, "bad key"));
    let app = TestApp::with_config(&two_accounts(&upstream)).await;
    for _ in 0..2 {
        let answer = app.completion(json!({"model": "auto"})).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    assert_eq!(upstream.request_count(), 2, "an account that is off is left alone");
    app.finish().await;
}

#[actix_web::test]
async fn an_operators_key_that_an_upstream_repeats_reaches_nobody() {
    let upstream = FakeUpstream::start_with([], Reply::error(400, "key first-secret may not do this"));
    let app = TestApp::with_config(&two_accounts(&upstream)).await;
    let answer = app.completion(json!({"model": "auto"})).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("key [secret] may not do this"), "{}", answer.text());
    app.finish().await;
}

#[actix_web::test]
async fn a_wait_does_not_ask_again_who_has_failed() {
    let (bad, good) = (FakeUpstream::start_with([], Reply::error(500, "x")), FakeUpstream::start([]));
    let limited = provider("good", &good, &crate::support::app::limit("requests", 1, "3s"));
    let app = TestApp::with_config(&(provider("bad", &bad, "") + &limited)).await;
    assert_eq!(app.completion(request(false)).await.status, 200);
    let waited = app.completion(request(false)).await;
    assert_eq!(waited.status, 200, "{}", waited.text());
    assert_eq!(bad.request_count(), 2, "once for each request");
    app.finish().await;
}

#[actix_web::test]
async fn a_429_that_says_zero_is_not_believed() {
    let upstream = FakeUpstream::start_with([], Reply::rate_limited(0));
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.completion(json!({"model": "auto"})).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("30")));
    assert_eq!(upstream.request_count(), 1);
    app.finish().await;
}

#[actix_web::test]
async fn a_provider_that_fails_is_left_alone_until_one_probe_has_succeeded() {
    let broken = vec![Reply::error(500, "broken"); 5];
    let upstream = FakeUpstream::start(broken.into_iter().chain([Reply::text("well again").after_signal()]));
    let app = TestApp::with_upstream(&upstream).await;
    let ask = async || app.completion(json!({"model": "auto"})).await;
    for _ in 0..10 {
        assert_eq!(ask().await.status, 503);
    }
    assert_eq!(upstream.request_count(), 5, "it is left alone");
    let probing = async {
        until("a probe", async || {
            let answer = ask().await;
            (answer.status == 200).then_some(answer)
        })
        .await
    };
    let others = async {
        upstream.wait_for_requests(6).await;
        for _ in 0..10 {
            assert_eq!(ask().await.status, 503, "only one probes");
        }
        assert_eq!(upstream.request_count(), 6);
        upstream.signal();
    };
    let (probe, ()) = tokio::join!(probing, others);
    assert!(probe.text().contains("well again"));
    assert_eq!(ask().await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_probe_whose_client_leaves_makes_way_for_the_next() {
    let broken = vec![Reply::error(500, "broken"); 5];
    let upstream = FakeUpstream::start(broken.into_iter().chain([Reply::never_answer()]));
    let app = TestApp::with_upstream(&upstream).await;
    let ask = async || app.completion(json!({"model": "auto"})).await;
    for _ in 0..5 {
        assert_eq!(ask().await.status, 503);
    }
    {
        let probing = async { while ask().await.status == 503 {} };
        tokio::select! {
            () = probing => panic!("the probe is not answered"),
            () = upstream.wait_for_requests(6) => {}
        }
    }
    upstream.wait_until_client_gone(5).await;
    let answer = until("the next probe", async || {
        let answer = ask().await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_probe_is_within_the_limits() {
    let upstream = FakeUpstream::start_with([], Reply::error(500, "broken"));
    let limit = crate::support::app::limit("requests", 5, "60s");
    let app = TestApp::with_config(&provider("up", &upstream, &limit)).await;
    for _ in 0..5 {
        assert_eq!(app.completion(json!({"model": "auto"})).await.status, 503);
    }
    // While the provider is left alone that is why; once a probe might set out it is the limit.
    until("the limit's word", async || {
        (app.completion(json!({"model": "auto"})).await.status == 429).then_some(())
    })
    .await;
    assert_eq!(upstream.request_count(), 5);
    app.finish().await;
}
