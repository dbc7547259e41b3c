//! The fake upstream keeps to its script: other tests rest on it.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// A client that sees every byte.
struct Client(TcpStream);

impl Client {
    async fn connect(upstream: &FakeUpstream) -> Self {
        Self(TcpStream::connect(upstream.address()).await.unwrap())
    }

    async fn post(&mut self, body: &Value) {
        let body = body.to_string();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nX-Test: yes\r\nContent-Length: {}", body.len());
        self.write(&format!("{head}\r\n\r\n{body}")).await;
    }

    async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to and with the first `end`.
    async fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// A whole answer with a content length: its head and its body.
    async fn read_whole(&mut self) -> (String, Value) {
        let head = self.read_until("\r\n\r\n").await;
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        (head, serde_json::from_slice(&body).unwrap())
    }

    async fn read_to_close(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await?;
        Ok(String::from_utf8(bytes).unwrap())
    }
}

#[tokio::test]
async fn it_answers_by_its_script_over_one_connection_and_then_as_afterwards_says() {
    let script = [Reply::completion("one"), Reply::rate_limited(7), Reply::error(503, "overloaded")];
    let afterwards = Reply::json(200, &json!({"fine": true})).header("x-extra", "1");
    let upstream = FakeUpstream::start_with(script, afterwards);
    let mut client = Client::connect(&upstream).await;
    let mut answers = Vec::new();
    for number in 0..5 {
        client.post(&json!({"number": number})).await;
        answers.push(client.read_whole().await);
    }
    assert_eq!(answers[0].1["choices"][0]["message"]["content"], "one");
    assert!(answers[1].0.starts_with("HTTP/1.1 429 ") && answers[1].0.contains("retry-after: 7\r\n"));
    assert!(answers[2].0.starts_with("HTTP/1.1 503 "));
    assert_eq!(answers[2].1["error"]["message"], "overloaded");
    assert!(answers[3].0.contains("x-extra: 1\r\n"));
    assert_eq!((&answers[3].1, &answers[4].1), (&json!({"fine": true}), &json!({"fine": true})));
    assert_eq!((upstream.request_count(), upstream.open_connections()), (5, 1));
}

#[tokio::test]
async fn it_records_requests_as_they_came_whole_or_in_chunks() {
    let upstream = FakeUpstream::start([]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({"a": 1})).await;
    client.read_whole().await;
    let chunked = "3\r\n{\"b\r\n4\r\n\":2}\r\n0\r\n\r\n";
    client.write(&format!("PUT /x?y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")).await;
    client.read_whole().await;
    let requests = upstream.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!((requests[0].header("x-test"), requests[0].header("x-none")), (Some("yes"), None));
    assert_eq!(requests[0].body, br#"{"a":1}"#);
    assert_eq!((requests[1].method.as_str(), requests[1].path.as_str()), ("PUT", "/x?y"));
    assert_eq!(requests[1].json(), json!({"b": 2}));
    assert_eq!(upstream.base_url(), format!("http://{}/v1", upstream.address()));
}

#[tokio::test]
async fn it_answers_a_stream_or_a_whole_as_the_request_asks() {
    let upstream = FakeUpstream::start([]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({"stream": true})).await;
    let streamed = client.read_until("0\r\n\r\n").await;
    assert!(streamed.contains("content-type: text/event-stream\r\n"));
    assert!(streamed.contains("data: [DONE]\n\n") && !streamed.contains("usage"));
    client.post(&json!({"stream": false})).await;
    let (_, whole) = client.read_whole().await;
    assert_eq!(whole["choices"][0]["message"]["content"], "Hello from the fake upstream.");
}

#[tokio::test]
async fn a_text_in_events_tells_usage_only_when_it_is_asked_for() {
    let upstream = FakeUpstream::start_with([], Reply::sse_text(["Hel", "lo"]).header("x-kept", "1"));
    let mut client = Client::connect(&upstream).await;
    for (asked, usages) in [(true, 1), (false, 0)] {
        client.post(&json!({"stream_options": {"include_usage": asked}})).await;
        let events = client.read_until("0\r\n\r\n").await;
        assert!(events.contains("x-kept: 1\r\n"));
        assert!(events.contains(r#""content":"Hel""#) && events.contains(r#""content":"lo""#));
        assert_eq!(events.matches("prompt_tokens").count(), usages);
    }
}

#[tokio::test]
async fn steps_wait_for_time_and_for_the_test() {
    let steps = [
        Step::delta("one"),
        Step::Pause(Duration::from_millis(1)),
        Step::chunk("two"),
        Step::WaitForSignal,
        Step::chunk("three"),
        Step::End,
    ];
    let upstream = FakeUpstream::start([Reply::stream(steps)]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({})).await;
    client.read_until("two\r\n").await;
    upstream.signal();
    assert_eq!(client.read_until("0\r\n\r\n").await, "5\r\nthree\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_reply_can_be_held_back_whole() {
    let upstream = FakeUpstream::start([Reply::text("late").after_signal()]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({})).await;
    upstream.wait_for_requests(1).await;
    upstream.signal();
    assert_eq!(client.read_whole().await.1["choices"][0]["message"]["content"], "late");
}

#[tokio::test]
async fn connections_break_as_the_script_says() {
    let broken = [Step::chunk("half"), Step::Cut];
    let script = [Reply::stream(broken), Reply::close_at_once(), Reply::raw(b"HTTP/1.1 999 ?\r\n")];
    let upstream = FakeUpstream::start(script);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&upstream).await;
        client.post(&json!({})).await;
        answers.push(client.read_to_close().await.unwrap());
    }
    assert!(answers[0].ends_with("4\r\nhalf\r\n"));
    assert_eq!((answers[1].as_str(), answers[2].as_str()), ("", "HTTP/1.1 999 ?\r\n"));
    upstream.wait_for_open_connections(0).await;
}

#[tokio::test]
async fn a_reset_is_an_error_at_the_client() {
    let reset = Reply::stream([Step::chunk("half"), Step::WaitForSignal, Step::Reset]);
    let upstream = FakeUpstream::start([reset]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({})).await;
    client.read_until("half\r\n").await;
    upstream.signal();
    assert_eq!(client.read_to_close().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_in_silence_and_in_a_stalled_stream() {
    let stalled = Reply::stream([Step::chunk("half")]);
    let upstream = FakeUpstream::start([Reply::never_answer(), stalled]);
    let mut silent = Client::connect(&upstream).await;
    silent.post(&json!({})).await;
    upstream.wait_for_requests(1).await;
    let mut stalled = Client::connect(&upstream).await;
    stalled.post(&json!({})).await;
    stalled.read_until("half\r\n").await;
    assert_eq!(upstream.open_connections(), 2);
    drop(silent);
    upstream.wait_until_client_gone(0).await;
    drop(stalled);
    upstream.wait_until_client_gone(1).await;
    assert_eq!(upstream.open_connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_shorten_the_waits() {
    let upstream = FakeUpstream::start([Reply::never_answer()]);
    let mut client = Client::connect(&upstream).await;
    client.post(&json!({})).await;
    upstream.wait_for_requests(1).await;
    drop(client);
    upstream.wait_until_client_gone(0).await;
}
