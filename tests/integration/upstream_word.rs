//! What an upstream says of itself, and what says nothing: errors by a provider's own table, limits by its headers,
//! empty answers, and the time that all attempts have together.

use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// Two providers of one family; `bad` is asked first.
async fn app_with(bad: &FakeUpstream, good: &FakeUpstream, extra: &str) -> TestApp {
    TestApp::with_config(&(provider("bad", bad, extra) + &provider("good", good, ""))).await
}

fn request(extra: Value) -> Value {
    let mut request = json!({"model": "family-m"});
    request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    request
}

fn routed(answer: &Answer) -> Option<&str> {
    answer.header("x-routed-via")
}

/// A whole answer of one message.
fn message(message: Value, finish_reason: &str) -> Reply {
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason});
    Reply::json(200, &json!({"choices": [choice]}))
}

fn delta(delta: Value, finish_reason: Option<&str>) -> Step {
    Step::event(&json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}))
}

/// A stream that says nothing and ends for that reason.
fn silent_stream(finish_reason: &str) -> Reply {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}});
    Reply::stream([
        delta(json!({"role": "assistant", "content": ""}), None),
        delta(json!({}), Some(finish_reason)),
        Step::event(&usage),
        Step::chunk("data: [DONE]\n\n"),
        Step::End,
    ])
}

#[actix_web::test]
async fn an_empty_answer_is_no_answer() {
    let cases = [
        (false, message(json!({"role": "assistant", "content": ""}), "stop")),
        (false, message(json!({"content": null, "tool_calls": []}), "stop")),
        (false, message(json!({"content": "", "reasoning_content": "hm"}), "length")),
        (true, silent_stream("stop")),
        (true, silent_stream("length")),
        (
            true,
            Reply::stream([
                delta(json!({"role": "assistant"}), None),
                Step::chunk("data: [DONE]\n\n"),
                Step::End,
            ]),
        ),
    ];
    for (streamed, reply) in cases {
        let (bad, good) = (FakeUpstream::start_with([], reply.clone()), FakeUpstream::start([]));
        let app = app_with(&bad, &good, "").await;
        for _ in 0..2 {
            let answer = app.completion(request(json!({"stream": streamed}))).await;
            assert_eq!(routed(&answer), Some("good/m-good"), "{reply:?}: {}", answer.text());
        }
        assert_eq!(bad.request_count(), 2, "one client's request keeps nobody else away");
        app.finish().await;
    }
}

#[actix_web::test]
async fn an_empty_answer_that_is_meant_is_an_answer() {
    let after_tool = json!({"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]});
    let cases = [
        (json!({"max_tokens": 1}), "length"),
        (json!({"stop": ["x"]}), "stop"),
        (json!({}), "content_filter"),
        (after_tool, "stop"),
    ];
    for (extra, finish_reason) in cases {
        for streamed in [false, true] {
            let empty = message(json!({"role": "assistant", "content": ""}), finish_reason);
            let reply = if streamed { silent_stream(finish_reason) } else { empty };
            let upstream = FakeUpstream::start_with([], reply);
            let app = TestApp::with_upstream(&upstream).await;
            let mut asked = request(extra.clone());
            (asked["stream"], asked["model"]) = (json!(streamed), json!("auto"));
            let answer = app.completion(asked).await;
            assert_eq!(answer.status, 200, "{extra}: {}", answer.text());
            assert!(answer.text().contains(finish_reason), "{}", answer.text());
            assert!(!answer.text().contains("usage\":{\"prompt_tokens\":9"), "nobody asked for usage");
            app.finish().await;
        }
    }
}

#[actix_web::test]
async fn what_was_held_back_reaches_the_client_in_order() {
    let upstream = FakeUpstream::start_with([], Reply::sse_text(["Hel", "lo"]));
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.completion(json!({"model": "auto", "stream": true})).await;
    assert_eq!(answer.streamed_text(), "Hello");
    let events = answer.events();
    assert!(events[0].contains("\"role\":\"assistant\""), "{}", answer.text());
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    app.finish().await;
}

#[actix_web::test]
async fn all_attempts_together_have_the_total_timeout() {
    for streamed in [false, true] {
        let hanging = [FakeUpstream::start_with([], Reply::never_answer()), FakeUpstream::start([])];
        let [first, second] = &hanging;
        let total = "first_token_timeout = \"300ms\"\nstall_timeout = \"300ms\"\ntotal_timeout = \"300ms\"";
        let config = provider("first", first, total) + &provider("second", second, total);
        let app = TestApp::with_config(&config).await;
        let answer = app.completion(request(json!({"stream": streamed}))).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        let asked = first.request_count() + second.request_count();
        assert_eq!(asked, 1, "its time was over when the first one had failed");
        first.wait_until_client_gone(0).await;
        app.finish().await;
    }
}

#[actix_web::test]
async fn a_provider_has_an_error_table_of_its_own() {
    let rules = "error = [\n\
        { status = 403, words = \"flagged\", means = \"content_policy\" },\n\
        { status = 429, code = \"engine_busy\", means = \"overloaded\" },\n\
        ]\n";
    let busy = Reply::json(429, &json!({"error": {"message": "later", "code": "engine_busy"}}));
    for refusal in [Reply::error(403, "your input was flagged"), busy] {
        let (bad, good) = (FakeUpstream::start([refusal]), FakeUpstream::start([]));
        let app = app_with(&bad, &good, rules).await;
        let answer = app.completion(request(json!({"stream": false}))).await;
        assert_eq!(routed(&answer), Some("good/m-good"), "{}", answer.text());
        app.finish().await;
    }
    let alone = FakeUpstream::start_with([], Reply::error(403, "your input was flagged"));
    let app = TestApp::with_config(&provider("bad", &alone, rules)).await;
    for count in 1..3 {
        let answer = app.completion(json!({"model": "auto"})).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("flagged"), "the client is told what is wrong with its request");
        assert_eq!(alone.request_count(), count, "the account is not at fault");
    }
    app.finish().await;
}

#[actix_web::test]
async fn what_is_used_up_by_its_headers_is_left_alone() {
    let headers = "ratelimit_header = [{ remaining = \"x-left\", reset = \"x-reset\", unit = \"requests\", \
                   window = \"24h\" }]\n";
    let reply = Reply::completion("hi").header("x-left", "0").header("x-reset", "1h2m");
    let (bad, good) = (FakeUpstream::start_with([], reply), FakeUpstream::start([]));
    let app = app_with(&bad, &good, headers).await;
    let first = app.completion(request(json!({}))).await;
    assert_eq!(routed(&first), Some("bad/m-bad"));
    let second = app.completion(request(json!({}))).await;
    assert_eq!(routed(&second), Some("good/m-good"));
    let pinned = app.completion(json!({"model": "bad/m-bad"})).await;
    assert_eq!(pinned.status, 429, "{}", pinned.text());
    let wait: u64 = pinned.header("retry-after").unwrap().parse().unwrap();
    assert!((3_700..=3_720).contains(&wait), "{wait}");
    app.finish().await;
}
