//! What a clumsy or hostile client sends, and the words that it gets.

use serde_json::json;

use crate::support::app::{KEY, TestApp, chat_body};
use crate::support::fake_upstream::FakeUpstream;

/// A body, and what its refusal must name.
fn wrong_bodies() -> Vec<(Vec<u8>, &'static str)> {
    let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let mut invalid_utf8 = chat_body(json!({"user": "x"}));
    let position = invalid_utf8.windows(3).position(|window| window == b"\"x\"").unwrap();
    invalid_utf8[position + 1] = 0xff;
    vec![
        (b"hello".to_vec(), "not valid JSON"),
        (b"".to_vec(), "empty"),
        (b"[]".to_vec(), "must be a JSON object"),
        (br#"{"messages":[],"messages":[]}"#.to_vec(), "duplicate key \"messages\""),
        (
            br#"{"messages":[{"role":"user","content":"a","content":"b"}]}"#.to_vec(),
            "duplicate key \"content\"",
        ),
        (deep.into_bytes(), "nested deeper than 64 levels"),
        (invalid_utf8, "not valid UTF-8"),
        (b"{}".to_vec(), "messages"),
        (br#"{"messages":[]}"#.to_vec(), "messages"),
        (br#"{"messages":{"role":"user"}}"#.to_vec(), "messages"),
        (br#"{"messages":[{"role":"robot","content":"x"}]}"#.to_vec(), "messages[0].role"),
        (br#"{"messages":[{"role":"user","content":7}]}"#.to_vec(), "messages[0].content"),
        (chat_body(json!({"temperature": 3})), "temperature"),
        (chat_body(json!({"max_tokens": 0})), "max_tokens"),
        (chat_body(json!({"stream": "no"})), "stream"),
        (chat_body(json!({"model_id": "7"})), "model_id"),
    ]
}

#[actix_web::test]
async fn every_wrong_body_is_refused_with_its_field() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    for (body, named) in wrong_bodies() {
        let answer = app.post("/api/chat.php", body.clone()).await;
        let shown = String::from_utf8_lossy(&body).chars().take(60).collect::<String>();
        assert_eq!(answer.status, 400, "{shown}");
        let error = answer.json();
        assert_eq!(error["code"], 400, "{shown}");
        assert!(error["error"].as_str().unwrap().contains(named), "{shown}: {error}");
    }
    assert_eq!(upstream.request_count(), 0, "nothing wrong reached a provider");
    let count = wrong_bodies().len();
    let stats = app.stats_when(|stats| stats["requests_today"] == count).await;
    assert_eq!(stats["success_rate"], 1.0, "what is wrong is in the statistics, and nobody's failure");
    app.finish().await;
}

#[actix_web::test]
async fn openai_clients_get_openais_errors() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let hot = app.completion(json!({"model": "auto", "temperature": 3})).await;
    assert_eq!(hot.status, 400);
    let error = &hot.json()["error"];
    assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &json!("temperature")));
    let no_model = app.completion(json!({})).await;
    assert_eq!(no_model.json()["error"]["param"], "model");
    app.finish().await;
}

#[actix_web::test]
async fn a_body_that_is_too_large_is_413_and_can_be_read() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let large = chat_body(json!({"user": "x".repeat(20 * 1024 * 1024)}));
    let answer = app.post("/api/chat.php", large).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("8388608 bytes"), "{}", answer.text());
    app.finish().await;
}

#[actix_web::test]
async fn a_key_that_is_not_valid_is_401_whatever_it_looks_like() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let client = awc::Client::default();
    let long = format!("Bearer {}", "k".repeat(5_000));
    let credentials: [Option<&[u8]>; 8] = [
        None,
        Some(b"Bearer wrong"),
        Some(b"Bearer "),
        Some(b"Basic dXNlcjpwYXNz"),
        Some(b"B"),
        Some(b"Bearer \xff\xfe"),
        Some(long.as_bytes()),
        Some(b"Bearer freellmapi-000000000000000000000000000000000000000000000000"),
    ];
    for credential in credentials {
        let mut request = client.post(app.url("/api/chat.php"));
        if let Some(credential) = credential {
            let value = actix_web::http::header::HeaderValue::from_bytes(credential).unwrap();
            request = request.insert_header(("authorization", value));
        }
        let mut answer = request.send_body(chat_body(json!({}))).await.unwrap();
        assert_eq!(answer.status(), 401, "{credential:?}");
        let error: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(error["code"], 401);
    }
    assert_eq!(upstream.request_count(), 0);
    app.finish().await;
}

#[actix_web::test]
async fn a_wrong_method_is_405_with_the_right_one() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let get = app.get("/api/chat.php", Some(KEY)).await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, Some("POST")));
    assert_eq!(get.json()["code"], 405);
    let post = app.post("/v1/models", "{}").await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(post.json()["error"]["code"], "method_not_supported");
    assert_eq!(app.get("/api/nothing", None).await.status, 404);
    app.finish().await;
}

#[actix_web::test]
async fn a_wrong_wait_is_refused() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.post_with("/api/chat", chat_body(json!({})), &[("x-max-wait-ms", "soon")]).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("x-max-wait-ms"));
    app.finish().await;
}

#[actix_web::test]
async fn what_a_client_sends_is_repeated_in_part_only() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let name = app.completion(json!({"model": "x".repeat(1_000_000)})).await;
    assert_eq!(name.status, 404);
    assert!(name.body.len() < 1_000, "{}", name.body.len());
    let key = "k".repeat(1_000_000);
    let duplicate = app.post("/api/chat", format!("{{\"{key}\":1,\"{key}\":2}}")).await;
    assert!(duplicate.status == 400 && duplicate.body.len() < 1_000, "{}", duplicate.body.len());
    app.finish().await;
}

#[actix_web::test]
async fn monitors_may_ask_with_head() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    for path in ["/livez", "/readyz", "/api/models.php"] {
        let answer = awc::Client::default().head(app.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    app.finish().await;
}
