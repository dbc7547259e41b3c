//! Streams: the first byte out when the first event is in, silence bridged, leaving noticed.

use futures_util::StreamExt;
use serde_json::json;

use crate::support::app::{TestApp, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

fn finish() -> [Step; 3] {
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    [Step::event(&finish), Step::chunk("data: [DONE]\n\n"), Step::End]
}

#[actix_web::test]
async fn the_first_event_goes_out_before_the_second_is_in() {
    let steps = [Step::delta("first"), Step::WaitForSignal, Step::delta("second")];
    let upstream = FakeUpstream::start([Reply::stream(steps.into_iter().chain(finish()))]);
    let app = TestApp::with_upstream(&upstream).await;
    let mut stream = app.stream("/api/chat.php", json!({})).await;
    assert!(stream.next().await.unwrap().contains("first"));
    upstream.signal();
    let rest: Vec<String> = stream.collect().await;
    assert!(rest.concat().contains("second"));
    assert!(rest.concat().ends_with("data: [DONE]\n\n"));
    app.finish().await;
}

#[actix_web::test]
async fn events_are_written_whole_however_they_come_in() {
    let steps = [
        Step::chunk("data: {\"choices\":[{\"delta\":{\"cont"),
        Step::WaitForSignal,
        Step::chunk("ent\":\"Hi\"}}]}\r\n\r\n: a comment\n\n"),
    ];
    let upstream = FakeUpstream::start([Reply::stream(steps.into_iter().chain(finish()))]);
    let app = TestApp::with_upstream(&upstream).await;
    let request = app.stream("/api/chat.php", json!({}));
    let (stream, ()) = tokio::join!(request, async {
        upstream.wait_for_requests(1).await;
        upstream.signal();
    });
    let pieces: Vec<String> = stream.collect().await;
    for piece in &pieces {
        assert!(piece.ends_with("\n\n") || piece.ends_with("\r\n\r\n"), "{piece:?}");
        assert!(!piece.contains("a comment"));
    }
    assert!(pieces[0].contains("Hi"));
    app.finish().await;
}

#[actix_web::test]
async fn an_unusual_form_of_the_events_is_understood() {
    let body = "\u{feff}data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\r\r\
        data: {\"choices\":[{\"delta\":{},\rdata: \"finish_reason\":\"stop\"}]}\r\rdata: [DONE]\r\r";
    let upstream = FakeUpstream::start([Reply::stream([Step::chunk(body), Step::End])]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({})).await;
    assert_eq!(answer.streamed_text(), "Hi");
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert!(!answer.text().contains('\r') && !answer.text().contains('\u{feff}'), "{:?}", answer.text());
    app.finish().await;
}

#[actix_web::test]
async fn a_silent_wait_is_bridged_and_then_answered() {
    let reply = Reply::text("late").after_signal();
    let upstream = FakeUpstream::start([reply]);
    let config = "[dispatch]\nheartbeat = \"50ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut stream = app.stream("/v1/chat/completions", json!({"model": "auto", "stream": true})).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap(), ": keep-alive\n\n");
    }
    upstream.signal();
    let rest = stream.collect::<Vec<String>>().await.concat();
    assert!(rest.contains(": x-routed-via: up/m-up"), "{rest}");
    assert!(rest.contains("late") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    app.finish().await;
}

#[actix_web::test]
async fn after_a_heartbeat_a_refusal_comes_in_band() {
    let upstream = FakeUpstream::start_with([], Reply::error(500, "x").after_signal());
    let config = "[dispatch]\nheartbeat = \"50ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut stream = app.stream("/v1/chat/completions", json!({"model": "auto", "stream": true})).await;
    assert_eq!(stream.next().await.unwrap(), ": keep-alive\n\n");
    upstream.signal();
    let rest = stream.collect::<Vec<String>>().await.concat();
    assert!(rest.contains("\"code\":\"service_unavailable\""), "{rest}");
    assert!(!rest.contains("[DONE]"), "{rest}");
    app.finish().await;
}

#[actix_web::test]
async fn a_silence_in_the_middle_is_bridged_too() {
    let steps = [Step::delta("a"), Step::WaitForSignal, Step::delta("b")];
    let upstream = FakeUpstream::start([Reply::stream(steps.into_iter().chain(finish()))]);
    let config = "[dispatch]\nheartbeat = \"50ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_config(&config).await;
    let mut stream = app.stream("/api/chat", json!({})).await;
    assert!(stream.next().await.unwrap().contains("\"a\""));
    assert_eq!(stream.next().await.unwrap(), ": keep-alive\n\n");
    upstream.signal();
    assert!(stream.collect::<Vec<String>>().await.concat().contains("\"b\""));
    app.finish().await;
}

#[actix_web::test]
async fn an_upstream_that_falls_silent_is_cut_off_and_the_client_told() {
    let upstream = FakeUpstream::start([Reply::stream([Step::delta("a")])]);
    let app = TestApp::with_config(&provider("up", &upstream, "stall_timeout = \"100ms\"")).await;
    let answer = app.chat(json!({})).await;
    assert_eq!(answer.streamed_text(), "a");
    assert!(answer.text().contains("did not answer in time"), "{}", answer.text());
    assert!(!answer.text().contains("[DONE]"));
    upstream.wait_until_client_gone(0).await;
    app.finish().await;
}

#[actix_web::test]
async fn a_client_that_leaves_ends_the_upstream_call() {
    let silent_after_first = Reply::stream([Step::delta("a")]);
    let upstream = FakeUpstream::start([silent_after_first]);
    let app = TestApp::with_upstream(&upstream).await;
    let mut stream = app.stream("/api/chat.php", json!({})).await;
    stream.next().await.unwrap();
    drop(stream);
    upstream.wait_until_client_gone(0).await;
    app.idle().await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 1.0, "a client that leaves is nobody's failure");
    app.finish().await;
}

#[actix_web::test]
async fn a_client_that_leaves_before_the_head_ends_the_upstream_call() {
    for streamed in [false, true] {
        let upstream = FakeUpstream::start([Reply::never_answer()]);
        let app = TestApp::with_upstream(&upstream).await;
        {
            let request = app.chat(json!({"stream": streamed}));
            tokio::select! {
                _ = request => panic!("there is no answer"),
                () = upstream.wait_for_requests(1) => {}
            }
        }
        upstream.wait_until_client_gone(0).await;
        app.idle().await;
        app.finish().await;
    }
}

#[actix_web::test]
async fn connections_to_the_upstream_are_used_again() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    for _ in 0..5 {
        app.chat(json!({})).await;
        app.chat(json!({"stream": false})).await;
    }
    let connections = upstream.requests().iter().map(|request| request.connection).max();
    assert!(connections <= Some(2), "{connections:?}");
    app.finish().await;
}
