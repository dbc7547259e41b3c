//! Clients that do everything wrong, over plain TCP: each is answered or cut off in time, and leaves nothing behind.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use crate::support::app::{KEY, TestApp, chat_body, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::random::Random;
use crate::support::raw_client::{RawClient, chat, chat_head};
use crate::support::reply::{Reply, Step};

/// Time limits short enough to be met in a test.
const IMPATIENT: &str = "client_head_timeout = \"300ms\"\nclient_body_timeout = \"300ms\"\n";

const DRIP: Duration = Duration::from_millis(20);

async fn impatient_app(upstream: &FakeUpstream) -> TestApp {
    TestApp::with_server_config(IMPATIENT, &provider("up", upstream, "")).await
}

/// Ends with no connection of a client left.
async fn finish(app: TestApp) {
    app.wait_for_client_connections(0).await;
    app.finish().await;
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// A stream that goes on for ever, as fast as it is taken.
fn endless() -> Reply {
    let event =
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(4_096)}}]}));
    Reply::stream([Step::chunk_forever(&event, Duration::ZERO)])
}

#[actix_web::test]
async fn a_head_that_drips_is_408() {
    let upstream = FakeUpstream::start([]);
    let app = impatient_app(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    client.drip(&chat_head(0), DRIP).await;
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), "408", "{answer}");
    finish(app).await;
}

#[actix_web::test]
async fn who_says_nothing_is_cut_off() {
    let upstream = FakeUpstream::start([]);
    let app = impatient_app(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    client.read_to_end().await;
    finish(app).await;
}

#[actix_web::test]
async fn a_body_that_drips_is_408_and_holds_its_permit_no_longer() {
    let upstream = FakeUpstream::start([]);
    let app = impatient_app(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    client.send(&chat_head(1_000)).await;
    app.wait_for_in_flight(1).await;
    client.drip(&[b' '; 1_000], DRIP).await;
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(answer.contains("\"code\":408"), "{answer}");
    app.idle().await;
    drop(client);
    app.wait_for_client_connections(0).await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 1.0, "it is the client's fault");
    assert_eq!(upstream.request_count(), 0);
    app.finish().await;
}

#[actix_web::test]
async fn a_stranger_who_drips_gets_no_permit_and_little_time() {
    let upstream = FakeUpstream::start([]);
    let app = impatient_app(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    let head = String::from_utf8(chat_head(10_000)).unwrap().replace(KEY, "wrong");
    client.send(head.as_bytes()).await;
    client.drip(&[b' '; 10_000], DRIP).await;
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), "401", "{answer}");
    drop(client);
    finish(app).await;
}

#[actix_web::test]
async fn what_is_no_request_is_refused_and_closed() {
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let chat = String::from_utf8(chat(&chat_body(json!({})))).unwrap();
    let smuggling = |header: &str| chat.replace("host: x\r\n", &format!("host: x\r\n{header}\r\n"));
    let cases = [
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(), "400"),
        ("zeros", "\0\0\0\0\r\n\r\n".to_owned(), "400"),
        ("words", "EHLO example.org\r\n\r\n".to_owned(), "400"),
        ("many headers", format!("GET /livez HTTP/1.1\r\nhost: x\r\n{many}\r\n"), "431"),
        ("a long header", format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-a: {}", "y".repeat(200_000)), "431"),
        ("a long path", format!("GET /{}", "y".repeat(200_000)), "431"),
        ("no host", "GET /livez HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("two hosts", "GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
        ("two lengths", smuggling("content-length: 5"), "400"),
        ("a length and chunks", smuggling("transfer-encoding: chunked"), "400"),
        ("an encoding that is none", smuggling("transfer-encoding: x"), "400"),
        ("a length that is none", chat.replace("content-length: ", "content-length: +"), "400"),
        (
            "chunks that are none",
            {
                let head = chat.split("content-length").next().unwrap();
                format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n")
            },
            "400",
        ),
    ];
    let upstream = FakeUpstream::start([]);
    let app = impatient_app(&upstream).await;
    let mut problems = Vec::new();
    for (name, bytes, expected) in cases {
        let mut client = RawClient::connect(app.address()).await;
        client.try_send(bytes.as_bytes()).await;
        let answer = client.read_to_end().await;
        if status(&answer) != expected {
            problems.push(format!("{name}: {answer}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(upstream.request_count(), 0, "nothing of it reached a provider");
    finish(app).await;
}

#[actix_web::test]
async fn who_takes_no_byte_is_cut_off() {
    let upstream = FakeUpstream::start([endless()]);
    let config = "[dispatch]\nclient_stall_timeout = \"500ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut client = RawClient::with_small_buffer(app.address()).await;
    client.send(&chat(&chat_body(json!({})))).await;
    app.wait_for_in_flight(1).await;
    upstream.wait_until_client_gone(0).await;
    app.idle().await;
    app.wait_for_client_connections(0).await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 1.0, "it is the client's fault");
    drop(client);
    app.finish().await;
}

#[actix_web::test]
async fn a_whole_answer_that_nobody_takes_holds_its_permit_until_it_is_given_up() {
    let upstream = FakeUpstream::start([Reply::completion(&"x".repeat(12 * 1024 * 1024))]);
    let config = "[dispatch]\nclient_stall_timeout = \"500ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut client = RawClient::with_small_buffer(app.address()).await;
    client.send(&chat(&chat_body(json!({"stream": false})))).await;
    client.read_until("200 OK").await;
    app.wait_for_in_flight(1).await;
    app.idle().await;
    app.wait_for_client_connections(0).await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 1.0, "it is the client's fault");
    drop(client);
    app.finish().await;
}

#[actix_web::test]
async fn a_large_whole_answer_comes_whole() {
    let text = "x".repeat(3 * 1024 * 1024);
    let upstream = FakeUpstream::start_with([], Reply::completion(&text));
    let app = TestApp::with_upstream(&upstream).await;
    for _ in 0..3 {
        let answer = app.chat(json!({"stream": false})).await;
        assert_eq!(answer.json()["choices"][0]["message"]["content"], text);
    }
    app.idle().await;
    app.finish().await;
}

#[actix_web::test]
async fn who_takes_a_little_now_and_then_is_served() {
    let event = format!("data: {}\n\n", json!({"choices": [{"delta": {"content": "x".repeat(4_096)}}]}));
    let mut steps = vec![Step::chunk(&event); 2_000];
    steps.extend([Step::event(&json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})), Step::End]);
    let upstream = FakeUpstream::start([Reply::stream(steps)]);
    let config = "[dispatch]\nclient_stall_timeout = \"500ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut client = RawClient::connect(app.address()).await;
    client.send(&chat(&chat_body(json!({})))).await;
    for _ in 0..4 {
        client.read_nothing_for(Duration::from_millis(250)).await;
        client.read_bytes(1024 * 1024).await;
    }
    client.read_until("data: [DONE]").await;
    drop(client);
    finish(app).await;
}

#[actix_web::test]
async fn leaving_in_every_phase_leaves_nothing() {
    let upstream = FakeUpstream::start_with([], endless());
    let app = TestApp::with_upstream(&upstream).await;
    let whole = chat(&chat_body(json!({})));
    let head = whole.len() - chat_body(json!({})).len();
    for sent in [0, 1, 20, head - 2, head, head + 5, whole.len() - 1, whole.len()] {
        for resets in [false, true] {
            let mut client = RawClient::connect(app.address()).await;
            client.send(&whole[..sent]).await;
            if sent == whole.len() {
                client.read_until("data: ").await;
            }
            if resets {
                client.reset();
            }
        }
    }
    app.wait_for_client_connections(0).await;
    app.idle().await;
    for number in 0..upstream.request_count() {
        upstream.wait_until_client_gone(number).await;
    }
    finish(app).await;
}

#[actix_web::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = FakeUpstream::start((0..40).map(|number| Reply::completion(&format!("answer {number};"))));
    let app = TestApp::with_upstream(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    client.send(&chat(&chat_body(json!({"stream": false}))).repeat(40)).await;
    let answers = client.read_until("answer 39;").await;
    let positions: Vec<_> =
        (0..40).map(|number| answers.find(&format!("answer {number};")).unwrap()).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    drop(client);
    finish(app).await;
}

#[actix_web::test]
async fn who_pipelines_without_reading_has_one_request_in_flight() {
    let upstream = FakeUpstream::start_with([], endless());
    let app = TestApp::with_upstream(&upstream).await;
    let mut client = RawClient::with_small_buffer(app.address()).await;
    client.send(&chat(&chat_body(json!({}))).repeat(100)).await;
    upstream.wait_for_requests(1).await;
    app.wait_for_in_flight(1).await;
    assert_eq!(upstream.request_count(), 1);
    drop(client);
    finish(app).await;
}

#[actix_web::test]
async fn who_closes_half_has_left() {
    let upstream = FakeUpstream::start_with([], Reply::never_answer());
    let app = TestApp::with_upstream(&upstream).await;
    let mut client = RawClient::connect(app.address()).await;
    client.send(&chat(&chat_body(json!({})))).await;
    upstream.wait_for_requests(1).await;
    client.send_no_more().await;
    upstream.wait_until_client_gone(0).await;
    client.read_to_end().await;
    finish(app).await;
}

#[actix_web::test]
async fn a_thousand_idle_connections_disturb_nobody() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(RawClient::connect(app.address()).await);
    }
    app.wait_for_client_connections(1_000).await;
    let answer = app.chat(json!({"stream": false})).await;
    assert_eq!(answer.status, 200);
    app.idle().await;
    drop(idle);
    // The one that was answered stays for its client's next request.
    app.wait_for_client_connections(1).await;
    app.finish().await;
}

/// Sends a part of a chat or all of it, perhaps waits for the answer to begin, takes some of it, and leaves in one way
/// or another.
async fn abort(app: &TestApp, random: &mut Random) {
    let streamed = random.below(4) > 0;
    let whole = chat(&chat_body(json!({"stream": streamed})));
    let sent = if random.below(5) == 0 { random.below(whole.len()) } else { whole.len() };
    let mut client = RawClient::connect(app.address()).await;
    client.send(&whole[..sent]).await;
    // The heartbeat begins what the provider does not.
    if streamed && sent == whole.len() && random.below(4) > 0 {
        client.read_until("HTTP/1.1 ").await;
    }
    client.read_for(Duration::from_micros(random.below(10_000) as u64)).await;
    if random.below(2) == 0 {
        client.reset();
    }
}

fn pause(random: &mut Random) -> Step {
    Step::Pause(Duration::from_micros(random.below(8_000) as u64))
}

/// More answers than failures, lest the provider be left alone.
fn reply(number: usize, random: &mut Random) -> Reply {
    match number % 20 {
        0..=3 => Reply::never_answer(),
        6..=9 => endless(),
        4 => Reply::error(500, "broken"),
        5 => Reply::stream([pause(random), Step::delta("a"), pause(random), Step::Cut]),
        10..=13 => Reply::stream([pause(random), Step::delta("a"), pause(random), Step::delta("b")]),
        _ => Reply::text("whole"),
    }
}

#[actix_web::test]
async fn a_thousand_aborts_leave_no_permit_no_hold_no_socket() {
    let mut random = Random(20_261_123);
    let replies: Vec<_> = (0..1_000).map(|number| reply(number, &mut random)).collect();
    let upstream = FakeUpstream::start(replies);
    let config = "[dispatch]\nheartbeat = \"50ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    for _ in 0..40 {
        let mut randoms: Vec<_> = (0..25).map(|_| Random(random.below(usize::MAX) as u64)).collect();
        let aborts: FuturesUnordered<_> = randoms.iter_mut().map(|random| abort(&app, random)).collect();
        aborts.collect::<Vec<()>>().await;
    }
    app.idle().await;
    assert!(upstream.request_count() > 300, "many reach the provider: {}", upstream.request_count());
    finish(app).await;
    upstream.wait_for_open_connections(0).await;
}
