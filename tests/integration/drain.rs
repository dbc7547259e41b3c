//! The end: what is in flight finishes or is told, and no event is lost.

use std::io::{Read, Write};
use std::net::TcpStream;

use futures_util::StreamExt;
use serde_json::json;

use crate::support::app::{KEY, TestApp, chat_body, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

#[actix_web::test]
async fn streams_that_outlast_the_drain_are_told_and_recorded() {
    let upstream = FakeUpstream::start_with([], Reply::stream([Step::delta("a")]));
    let config = "drain_timeout = \"1s\"\n";
    let app = TestApp::with_server_config(config, &provider("up", &upstream, "")).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = app.stream("/api/chat.php", json!({})).await;
        assert!(stream.next().await.unwrap().contains("\"a\""));
        streams.push(stream);
    }
    let (totals, rests) = tokio::join!(app.drain(), async {
        let mut rests = Vec::new();
        for stream in streams {
            rests.push(stream.collect::<Vec<String>>().await.concat());
        }
        rests
    });
    for rest in rests {
        assert!(rest.contains("being stopped") && !rest.contains("[DONE]"), "{rest}");
    }
    assert_eq!((totals.requests, totals.counted, totals.served), (20, 20, 0), "all are recorded, as cut");
}

#[actix_web::test]
async fn an_answer_that_outlasts_the_drain_is_503() {
    let upstream = FakeUpstream::start_with([], Reply::never_answer());
    let config = "drain_timeout = \"1s\"\n";
    let app = TestApp::with_server_config(config, &provider("up", &upstream, "")).await;
    let url = app.url("/api/chat.php");
    let request = awc::Client::builder()
        .timeout(std::time::Duration::from_secs(20))
        .finish()
        .post(url)
        .bearer_auth(KEY);
    let answer = actix_web::rt::spawn(request.send_body(chat_body(json!({"stream": false}))));
    upstream.wait_for_requests(1).await;
    let totals = app.drain().await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 503);
    assert_eq!(totals.requests, 1);
}

#[actix_web::test]
async fn an_old_client_gets_a_stream_without_chunks() {
    let upstream = FakeUpstream::start([Reply::sse_text(["Hi"])]);
    let app = TestApp::with_upstream(&upstream).await;
    let address = app.address();
    let body = chat_body(json!({}));
    let head = format!(
        "POST /api/chat HTTP/1.0\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let asking = actix_web::rt::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&body).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = asking.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert!(body.starts_with("data: ") && body.ends_with("data: [DONE]\n\n"), "{body}");
    app.finish().await;
}
