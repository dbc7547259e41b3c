//! Limits, from the configuration to the upstream that counts.

use std::rc::Rc;
use std::time::Duration;

use freellmapi::config::shipped_providers;
use freellmapi::demo::{Behaviour, Simulation, simulated_specs};
use futures_util::StreamExt;
use serde_json::json;

use crate::support::app::{KEY, TestApp, chat_body, limit, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

#[actix_web::test]
async fn a_limit_of_requests_is_kept_and_its_end_is_told() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 2, "60s"))).await;
    for _ in 0..2 {
        assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    }
    let refused = app.chat(json!({"stream": false})).await;
    assert_eq!(refused.status, 429);
    let wait = refused.json()["retry_after"].as_u64().unwrap();
    assert!((50..=61).contains(&wait), "{wait}");
    assert_eq!(refused.header("retry-after"), Some(wait.to_string().as_str()));
    assert_eq!(upstream.request_count(), 2);
    app.finish().await;
}

#[actix_web::test]
async fn the_next_provider_is_asked_when_one_is_full() {
    let (small, large) = (FakeUpstream::start([]), FakeUpstream::start([]));
    let app = TestApp::with_config(
        &(provider("small", &small, &limit("requests", 1, "60s")) + &provider("large", &large, "")),
    )
    .await;
    for _ in 0..4 {
        assert_eq!(app.completion(json!({"model": "family-m"})).await.status, 200);
    }
    assert_eq!((small.request_count(), large.request_count()), (1, 3));
    app.finish().await;
}

#[actix_web::test]
async fn capacity_that_comes_back_within_the_wait_is_waited_for() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "300ms"))).await;
    app.chat(json!({"stream": false})).await;
    let waited = app.chat(json!({"stream": false})).await;
    assert_eq!(waited.status, 200, "{}", waited.text());
    assert!(waited.header("x-queue-wait-ms").unwrap().parse::<u64>().unwrap() >= 200);
    let hurried = app.post_with("/api/chat", chat_body(json!({})), &[("x-max-wait-ms", "10")]).await;
    assert_eq!(hurried.status, 429, "{}", hurried.text());
    assert_eq!(hurried.json()["retry_after"], 1);
    app.finish().await;
}

#[actix_web::test]
async fn who_leaves_while_waiting_is_forgotten() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "15s"))).await;
    app.chat(json!({"stream": false})).await;
    let left = tokio::time::timeout(Duration::from_millis(200), app.chat(json!({}))).await;
    assert!(left.is_err());
    app.idle().await;
    assert_eq!(upstream.request_count(), 1);
    app.finish().await;
}

#[actix_web::test]
async fn parallel_calls_are_bounded() {
    let reply = Reply::text("x").after_signal();
    let upstream = FakeUpstream::start([reply]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("parallel", 1, ""))).await;
    let (first, second) = tokio::join!(app.chat(json!({"stream": false})), async {
        upstream.wait_for_requests(1).await;
        let hurried = app.post_with("/api/chat", chat_body(json!({})), &[("x-max-wait-ms", "0")]).await;
        upstream.signal();
        hurried
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 429));
    assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_request_that_can_never_fit_is_400() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("tokens", 1_000, "60s"))).await;
    let answer = app.chat(json!({"max_tokens": 2_000})).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    let openai = app.completion(json!({"model": "auto", "max_tokens": 2_000})).await;
    assert_eq!(openai.json()["error"]["code"], "context_length_exceeded");
    assert_eq!(upstream.request_count(), 0);
    app.finish().await;
}

#[actix_web::test]
async fn where_tokens_are_limited_an_absent_cap_becomes_explicit() {
    let upstream = FakeUpstream::start([]);
    let limited = provider("up", &upstream, &limit("tokens", 100_000, "60s"));
    let app = TestApp::with_config(&limited).await;
    app.completion(json!({"model": "auto"})).await;
    assert_eq!(upstream.requests()[0].json()["max_tokens"], 2_048);
    app.finish().await;

    let charged_by_use = provider(
        "up",
        &upstream,
        &("tokens_charged = \"usage\"\n".to_owned() + &limit("tokens", 100_000, "60s")),
    );
    let app = TestApp::with_config(&charged_by_use).await;
    app.completion(json!({"model": "auto"})).await;
    assert_eq!(upstream.requests()[1].json().get("max_tokens"), None);
    app.finish().await;
}

#[actix_web::test]
async fn tokens_that_were_really_used_are_what_counts() {
    let usage = json!({"choices": [{"message": {"role": "assistant", "content": "x"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5}});
    let upstream = FakeUpstream::start_with([], Reply::json(200, &usage));
    let extra = "tokens_charged = \"usage\"\n".to_owned() + &limit("tokens", 1_200, "60s");
    let app = TestApp::with_config(&provider("up", &upstream, &extra)).await;
    for _ in 0..5 {
        // Each reserves more than 1,000 of 1,200 tokens, and uses 15.
        assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    }
    let stats = app.stats_when(|stats| stats["requests_today"] == 5).await;
    assert_eq!(stats["tokens_used"], 75);
    app.finish().await;
}

#[actix_web::test]
async fn an_answer_that_tells_no_usage_is_counted_by_its_text() {
    let text = "and then the cat sat down on the mat with a big red hat ".repeat(10);
    let silent = json!({"choices": [{"message": {"role": "assistant", "content": text}}]});
    let upstream = FakeUpstream::start_with([], Reply::json(200, &silent));
    let app = TestApp::with_upstream(&upstream).await;
    assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    let tokens = stats["tokens_used"].as_u64().unwrap();
    assert!((140..=170).contains(&tokens), "{tokens}: 140 of the answer, a few of the question");
    app.finish().await;
}

/// The simulated providers judge by the documented limits, with counting of their own.
#[actix_web::test]
async fn a_burst_over_six_simulated_providers_breaks_no_limit() {
    let shipped = shipped_providers().unwrap();
    let simulation = Simulation::start(&shipped, Behaviour::steady()).await.unwrap();
    let specs = simulated_specs(shipped, &simulation);
    let (served, refused) = burst(specs, 150).await;
    assert_eq!(served + refused, 150);
    assert_eq!(simulation.refusals(), 0, "a limit was broken");
    assert_eq!(simulation.arrivals(), served);
    // Groq 30 and Cerebras 30 a minute alone take 60, less what their token limits leave.
    assert!(served >= 60, "{served}");
    simulation.stop().await;
}

/// Sends `count` chats at once, none of which waits; answers how many were served and how many refused with 429.
async fn burst(specs: Vec<freellmapi::domain::provider::ProviderSpec>, count: usize) -> (u64, u64) {
    let app = Rc::new(TestApp::with_providers(specs).await);
    let answers = futures_util::stream::iter(0..count).map(|_| {
        let app = Rc::clone(&app);
        async move {
            let body = chat_body(json!({"stream": false, "max_tokens": 100}));
            app.post_with("/api/chat.php", body, &[("x-max-wait-ms", "0")]).await.status.as_u16()
        }
    });
    let statuses: Vec<u16> = answers.buffer_unordered(50).collect().await;
    Rc::into_inner(app).unwrap().finish().await;
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count() as u64;
    (count(200), count(429))
}

#[actix_web::test]
async fn a_long_stream_gives_its_request_back_before_its_end() {
    // The request is counted when its first byte comes back; the stream goes on for longer than the window.
    let steps = [Step::delta("a"), Step::WaitForSignal, Step::Cut];
    let upstream = FakeUpstream::start([Reply::stream(steps)]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "200ms"))).await;
    let mut long = app.stream("/api/chat", json!({})).await;
    long.next().await.unwrap();
    assert_eq!(app.chat(json!({"stream": false})).await.status, 200);
    upstream.signal();
    drop(long);
    assert_eq!(app.get("/api/stats", Some(KEY)).await.status, 200);
    app.finish().await;
}
