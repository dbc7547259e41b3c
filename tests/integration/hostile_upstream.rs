//! Upstreams that do everything wrong: each fault in each place has the documented outcome, takes bounded memory and
//! leaves nothing behind.
//!
//! Before the first event (or the end of a whole answer) the next provider is asked, and a provider that is alone is
//! 503. After it the client is told in-band, and `[DONE]` never follows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// A limit on whole answers that endless ones reach soon.
const DISPATCH: &str = "[dispatch]\nresponse_body_limit = \"64KiB\"\n";

/// What is silent, or too slow, is given up after this long; everything else does not come near it.
const SHORT: &str = "first_token_timeout = \"300ms\"\nstall_timeout = \"300ms\"\ntotal_timeout = \"600ms\"";

/// More than the longest event that is taken and all sockets on the way can hold; far less than what is offered.
const TAKEN_MAX_BYTES: usize = 24 * 1024 * 1024;

const NO_PAUSE: Duration = Duration::ZERO;
const DRIP: Duration = Duration::from_millis(10);

const JSON_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// What the providers with a fault are followed by.
struct Pair {
    bad: FakeUpstream,
    good: FakeUpstream,
    app: TestApp,
}

impl Pair {
    /// `bad` is asked first; both are of one family.
    async fn start(fault: &Reply) -> Self {
        let (bad, good) = (FakeUpstream::start_with([], fault.clone()), FakeUpstream::start([]));
        let config = DISPATCH.to_owned() + &provider("bad", &bad, SHORT) + &provider("good", &good, "");
        let app = TestApp::with_config(&config).await;
        Self { bad, good, app }
    }

    async fn ask(&self, model: &str, streamed: bool) -> Answer {
        self.app.completion(json!({"model": model, "stream": streamed})).await
    }

    /// Checks that nothing is left of what was asked, and that little more was taken than was `delivered`, in bytes.
    async fn finish(self, name: &str, delivered: usize) {
        let taken = self.bad.taken_bytes();
        assert!(taken < delivered + TAKEN_MAX_BYTES, "{name}: {taken} bytes taken, {delivered} delivered");
        let Self { bad, good, app } = self;
        app.finish().await;
        bad.wait_for_open_connections(0).await;
        good.wait_for_open_connections(0).await;
    }
}

fn with_length(head: &[u8], length: impl std::fmt::Display, body: &[u8]) -> Vec<u8> {
    [head, format!("content-length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// Sends exactly this and then nothing more, on a connection that stays open.
fn and_hang(bytes: &[u8]) -> Reply {
    Reply::script([Step::raw(bytes)])
}

/// A whole answer, correct but for what is done to it.
fn completion() -> Vec<u8> {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]})
        .to_string()
        .into_bytes()
}

fn delta() -> Vec<u8> {
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n".to_vec()
}

/// Faults that both kinds of requests meet before anything of an answer is there.
fn faults_of_the_connection() -> Vec<(&'static str, Reply)> {
    let headers = Step::Forever(b"x-a: b\r\n".to_vec(), NO_PAUSE);
    let head_line = Step::Forever(vec![b'x'; 4_096], NO_PAUSE);
    let status = || Step::raw(b"HTTP/1.1 200 OK\r\n");
    let redirect = |code: u16| {
        let name = ["301", "302", "307", "308"][usize::from(code % 4)];
        let text =
            format!("HTTP/1.1 {code} Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
        (name, Reply::raw(text.as_bytes()))
    };
    let mut faults = vec![
        ("closed at once", Reply::close_at_once()),
        ("reset at once", Reply::script([Step::Reset])),
        ("closed in the status line", Reply::raw(b"HTTP/1.1 2")),
        ("closed in the headers", Reply::raw(b"HTTP/1.1 200 OK\r\ncontent-ty")),
        ("reset in the headers", Reply::script([status(), Step::Reset])),
        ("silent in the headers", and_hang(b"HTTP/1.1 200 OK\r\ncontent-ty")),
        ("headers without end", Reply::script([status(), headers])),
        ("a header without end", Reply::script([status(), Step::raw(b"x-a: "), head_line])),
        ("a head that drips", Reply::script([status(), Step::Forever(b"x".to_vec(), DRIP)])),
        ("not HTTP", Reply::raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
        ("another protocol", Reply::raw(b"220 mail ready\r\n\r\n")),
        ("a status that is none", Reply::raw(b"HTTP/1.1 999999 Odd\r\n\r\n")),
        ("nothing but 100", and_hang(b"HTTP/1.1 100 Continue\r\n\r\n")),
        ("101", and_hang(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")),
        ("204", Reply::raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
        ("an empty body", Reply::raw(&with_length(JSON_HEAD, 0, b""))),
        ("a length that is none", Reply::raw(&with_length(JSON_HEAD, "many", &completion()))),
        ("a negative length", Reply::raw(&with_length(JSON_HEAD, -1, &completion()))),
        ("chunks that are none", Reply::raw(&[CHUNKED, b"zz\r\nhello\r\n"].concat())),
        ("a chunk beyond all", and_hang(&[CHUNKED, b"fffffffffffffffff\r\n"].concat())),
        ("an error that drips", {
            let head = b"HTTP/1.1 500 Broken\r\ntransfer-encoding: chunked\r\n\r\n";
            Reply::script([Step::raw(head), Step::chunk_forever("x", DRIP)])
        }),
        ("an error without end", {
            let head = b"HTTP/1.1 500 Broken\r\ntransfer-encoding: chunked\r\n\r\n";
            Reply::script([Step::raw(head), Step::chunk_forever(&"x".repeat(4_096), NO_PAUSE)])
        }),
    ];
    faults.extend([301, 302, 307, 308].map(redirect));
    faults
}

/// Faults of an answer's body, the whole or the first event of it.
fn faults_of_the_body(streamed: bool) -> Vec<(&'static str, Reply)> {
    let good = if streamed { delta() } else { completion() };
    let half = &good[..good.len() / 2];
    let invalid = {
        let position = good.windows(2).position(|pair| pair == b"Hi").unwrap();
        let mut invalid = good.clone();
        invalid[position] = 0xff;
        invalid
    };
    let encoded = [JSON_HEAD, b"content-encoding: gzip\r\n"].concat();
    let large = "x".repeat(64 * 1024);
    vec![
        ("nothing after the head", and_hang(CHUNKED)),
        ("closed after the head", Reply::raw(CHUNKED)),
        ("closed in the body", Reply::raw(&with_length(JSON_HEAD, good.len(), half))),
        (
            "reset in the body",
            Reply::script([Step::Raw(with_length(JSON_HEAD, good.len(), half)), Step::Reset]),
        ),
        ("silent in the body", and_hang(&with_length(JSON_HEAD, good.len(), half))),
        ("closed in a chunk", Reply::raw(&[CHUNKED, b"ff\r\n", half].concat())),
        ("half a JSON", Reply::raw(&with_length(JSON_HEAD, half.len(), half))),
        ("a length that is too small", Reply::raw(&with_length(JSON_HEAD, half.len(), &good))),
        ("invalid UTF-8", Reply::raw(&with_length(JSON_HEAD, invalid.len(), &invalid))),
        ("gzip that nobody asked for", Reply::raw(&with_length(&encoded, good.len(), &good))),
        ("a page", {
            let page = b"<!doctype html>\n\n<title>busy</title>\n\n";
            Reply::raw(&with_length(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n", page.len(), page))
        }),
        (
            "the other kind of answer",
            match streamed {
                true => Reply::completion("whole"),
                false => Reply::stream([Step::delta("Hi"), Step::chunk("data: [DONE]\n\n"), Step::End]),
            },
        ),
        ("a line without end", Reply::stream([Step::chunk_forever(&large, NO_PAUSE)])),
        ("a body that is longer than all", {
            let head = with_length(JSON_HEAD, 1_u64 << 30, b"");
            Reply::script([Step::Raw(head), Step::Forever(large.clone().into_bytes(), NO_PAUSE)])
        }),
        (
            "a body that drips",
            Reply::stream([Step::chunk_forever(if streamed { ": x\n\n" } else { " " }, DRIP)]),
        ),
        ("comments without end", Reply::stream([Step::chunk_forever(": x\n\n", NO_PAUSE)])),
        (
            "an error inside",
            match streamed {
                true => Reply::stream([Step::event(&json!({"error": {"message": "no"}})), Step::End]),
                false => Reply::json(200, &json!({"error": {"code": 503, "message": "overloaded"}})),
            },
        ),
        ("interim answers without end", Reply::script([Step::Forever(EARLY_HINTS.to_vec(), NO_PAUSE)])),
        (
            "an interim answer before the answer",
            Reply::raw(&[EARLY_HINTS, &with_length(JSON_HEAD, good.len(), &good)].concat()),
        ),
        ("a body without a length", Reply::raw(&[JSON_HEAD, b"connection: close\r\n\r\n", &good].concat())),
    ]
}

/// Every fault is tried before any is complained of: together they show what they have in common.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn ensure(is_met: bool, what: &str, answer: &Answer) -> Result<(), String> {
    let text: String = answer.text().chars().take(300).collect();
    if is_met { Ok(()) } else { Err(format!("{what}: {} {text}", answer.status)) }
}

async fn fails_over(pair: &Pair, streamed: bool) -> Result<(), String> {
    let answer = pair.ask("family-m", streamed).await;
    ensure(answer.status == 200, "is served", &answer)?;
    ensure(answer.header("x-routed-via") == Some("good/m-good"), "is served by the next one", &answer)?;
    ensure(answer.text().contains("[DONE]") == streamed, "is complete", &answer)?;
    ensure(pair.bad.request_count() > 0, "is tried", &answer)?;

    let alone = pair.ask("bad/m-bad", streamed).await;
    ensure(alone.status == 503, "is 503 alone", &alone)?;
    ensure(alone.json()["error"]["code"] == "service_unavailable", "has OpenAI's code", &alone)?;
    ensure(alone.header("retry-after").is_some(), "says when to come back", &alone)
}

async fn assert_failover(streamed: bool, faults: Vec<(&'static str, Reply)>) {
    let mut problems = Vec::new();
    for (name, fault) in faults {
        let pair = Pair::start(&fault).await;
        let outcome = fails_over(&pair, streamed).await;
        problems.extend(outcome.err().map(|problem| format!("{name}: {problem}")));
        pair.finish(name, 0).await;
    }
    assert_none(&problems);
}

#[actix_web::test]
async fn a_connection_that_fails_a_stream_leads_to_the_next_provider() {
    assert_failover(true, faults_of_the_connection()).await;
}

#[actix_web::test]
async fn a_connection_that_fails_a_whole_answer_leads_to_the_next_provider() {
    assert_failover(false, faults_of_the_connection()).await;
}

#[actix_web::test]
async fn a_first_event_that_is_none_leads_to_the_next_provider() {
    assert_failover(true, faults_of_the_body(true)).await;
}

#[actix_web::test]
async fn a_whole_answer_that_is_none_leads_to_the_next_provider() {
    let too_large = with_length(JSON_HEAD, completion().len() + 9, &completion());
    let mut faults = faults_of_the_body(false);
    faults.push(("a length that is too large", Reply::raw(&too_large)));
    assert_failover(false, faults).await;
}

/// What follows a first event, or the first half of one that follows it.
fn faults_after_the_first_event() -> Vec<(&'static str, Vec<Step>)> {
    let event = String::from_utf8(delta()).unwrap();
    let large = "x".repeat(64 * 1024);
    vec![
        ("closed", vec![Step::Cut]),
        ("reset", vec![Step::Reset]),
        ("ended without a reason", vec![Step::End]),
        ("silent", vec![]),
        ("closed in an event", vec![Step::chunk(&event[..20]), Step::Cut]),
        ("ended in an event", vec![Step::chunk(&event[..20]), Step::End]),
        ("silent in an event", vec![Step::chunk(&event[..20])]),
        ("closed in a chunk", vec![Step::raw(b"ff\r\ndata: {\"choi"), Step::Cut]),
        ("a chunk that is none", vec![Step::raw(b"zz\r\nhello\r\n")]),
        ("half a JSON", vec![Step::chunk("data: {\"choices\":[{\n\n"), Step::End]),
        ("invalid UTF-8", vec![Step::Chunk(invalid_event()), Step::End]),
        ("a page", vec![Step::chunk("<!doctype html>\n\n<title>busy</title>\n\n"), Step::End]),
        ("an error", vec![Step::event(&json!({"error": {"message": "no"}})), Step::End]),
        (
            "bytes of something else",
            vec![Step::Chunk(vec![0x1f, 0x8b, 0x08, 0x00, 0xff, 0x0a, 0x0a]), Step::Cut],
        ),
        ("a line without end", vec![Step::chunk_forever(&large, NO_PAUSE)]),
        ("a line that drips", vec![Step::chunk_forever("x", DRIP)]),
        ("comments that drip", vec![Step::chunk_forever(": x\n\n", DRIP)]),
        ("comments without end", vec![Step::chunk_forever(": x\n\n", NO_PAUSE)]),
        ("many comments without end", vec![Step::chunk_forever(&": x\n\n".repeat(2_000), NO_PAUSE)]),
        ("events without end", vec![Step::chunk_forever(&event.repeat(64), NO_PAUSE)]),
        ("events that drip for ever", vec![Step::chunk_forever(&event, DRIP)]),
    ]
}

fn invalid_event() -> Vec<u8> {
    let mut event = delta();
    let position = event.windows(2).position(|pair| pair == b"Hi").unwrap();
    event[position] = 0xff;
    event
}

/// The size of both answers, in bytes.
async fn is_told(pair: &Pair) -> Result<usize, String> {
    let openai = pair.ask("bad/m-bad", true).await;
    let original = pair.app.chat(json!({})).await;
    for answer in [&openai, &original] {
        ensure(answer.header("x-routed-via") == Some("bad/m-bad"), "is begun", answer)?;
        ensure(answer.streamed_text().starts_with("first"), "has the first event", answer)?;
        ensure(!answer.text().contains("[DONE]"), "does not look complete", answer)?;
        ensure(std::str::from_utf8(&answer.body).is_ok(), "is text", answer)?;
    }
    let last =
        |answer: &Answer| serde_json::from_str::<Value>(answer.events().last().unwrap()).unwrap_or_default();
    ensure(last(&openai)["error"]["code"] == "service_unavailable", "ends with OpenAI's error", &openai)?;
    ensure(last(&original)["code"] == 503, "ends with the original API's error", &original)?;
    ensure(pair.good.request_count() == 0, "is not begun again", &openai)?;
    let stats = pair.app.stats_when(|stats| stats["requests_today"] == 2).await;
    ensure(stats["success_rate"] == 0.0, "is recorded as cut", &openai)?;
    Ok(openai.body.len() + original.body.len())
}

#[actix_web::test]
async fn after_the_first_event_the_client_is_told_and_never_sees_done() {
    let mut problems = Vec::new();
    for (name, steps) in faults_after_the_first_event() {
        let fault = Reply::stream([Step::delta("first")].into_iter().chain(steps));
        let pair = Pair::start(&fault).await;
        let delivered = is_told(&pair).await.unwrap_or_else(|problem| {
            problems.push(format!("{name}: {problem}"));
            0
        });
        pair.finish(name, delivered).await;
    }
    assert_none(&problems);
}

#[actix_web::test]
async fn what_comes_late_is_not_the_answer_to_the_next_request() {
    let secret = json!({"choices": [{"message": {"role": "assistant", "content": "secret"}}]}).to_string();
    let late = with_length(JSON_HEAD, secret.len(), secret.as_bytes());
    let unframed = [JSON_HEAD, b"\r\n"].concat();
    for head in [EARLY_HINTS, b"HTTP/1.1 100 Continue\r\n\r\n", &unframed] {
        let script =
            Reply::script([Step::raw(head), Step::WaitForSignal, Step::Raw(late.clone()), Step::Cut]);
        let upstream = FakeUpstream::start([script]);
        let app = TestApp::with_upstream(&upstream).await;
        let first = app.completion(json!({"model": "auto"})).await;
        assert_eq!(first.status, 503, "{}", first.text());
        // Were the connection used again, the second request would never be seen, and be answered by what is late.
        let (second, _) = tokio::join!(app.completion(json!({"model": "auto"})), async {
            let _seen = tokio::time::timeout(Duration::from_millis(300), upstream.wait_for_requests(2)).await;
            upstream.signal();
        });
        assert_eq!(second.status, 200, "{}", second.text());
        assert!(!second.text().contains("secret"), "{}", second.text());
        app.finish().await;
    }
}

#[actix_web::test]
async fn a_content_type_that_lies_is_not_believed() {
    let whole = completion();
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n";
    let events =
        [delta(), b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".to_vec()].concat();
    let (whole, events) = (with_length(page, whole.len(), &whole), with_length(page, events.len(), &events));
    let upstream = FakeUpstream::start([Reply::raw(&whole), Reply::raw(&events)]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.completion(json!({"model": "auto"})).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hi");
    let streamed = app.completion(json!({"model": "auto", "stream": true})).await;
    assert_eq!(streamed.streamed_text(), "Hi");
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    app.finish().await;
}

#[actix_web::test]
async fn an_event_brings_only_what_was_checked() {
    let named = Step::chunk("event: x\nid: 7\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    let smuggled = Step::chunk("data: {\"choices\":[{\"delta\":{}}]}\ndata: [DONE]\n\n");
    let upstream = FakeUpstream::start([Reply::stream([named, smuggled, Step::Cut])]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({})).await;
    assert!(answer.text().starts_with("data: {\"choices\""), "{}", answer.text());
    assert_eq!(answer.streamed_text(), "a");
    assert!(!answer.text().contains("[DONE]"), "{}", answer.text());
    app.finish().await;
}

#[actix_web::test]
async fn nothing_follows_done() {
    let done = Step::chunk("data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"more\"}}]}\n\n");
    let upstream = FakeUpstream::start([Reply::stream([Step::delta("a"), done, Step::End])]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({})).await;
    assert_eq!(answer.streamed_text(), "a");
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    app.finish().await;
}
