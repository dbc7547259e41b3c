//! The good path: chats over both surfaces, whole and streamed.

use serde_json::json;

use crate::support::app::{ADMIN_KEY, KEY, TestApp, chat_body, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::Reply;

#[actix_web::test]
async fn the_original_api_answers_whole() {
    let upstream = FakeUpstream::start([Reply::completion("Hi there")]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({"stream": false, "seed": 7})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hi there");
    assert_eq!(body["_routed_via"], json!({"platform": "up", "model": "m-up", "display_name": "m-up"}));
    assert_eq!(answer.header("x-routed-via"), Some("up/m-up"));
    assert_eq!(answer.header("x-fallback-attempts"), Some("0"));
    assert_eq!(answer.header("x-queue-wait-ms"), Some("0"));
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    let sent = upstream.requests()[0].json();
    let expected = json!({"model": "m-up", "stream": false, "messages": [{"role": "user", "content": "Hello!"}],
        "seed": 7, "temperature": 0.7, "max_tokens": 1024});
    assert_eq!(sent, expected);
    assert_eq!(upstream.requests()[0].path, "/v1/chat/completions");
    assert_eq!(upstream.requests()[0].header("authorization"), None);
    app.finish().await;
}

#[actix_web::test]
async fn the_original_api_streams_by_default() {
    let upstream = FakeUpstream::start([Reply::sse_text(["Hel", "lo"])]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.chat(json!({})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("x-routed-via"), Some("up/m-up"));
    assert_eq!(answer.streamed_text(), "Hello");
    assert_eq!(answer.events().last().map(String::as_str), Some("[DONE]"));
    let sent = upstream.requests()[0].json();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    app.finish().await;
}

#[actix_web::test]
async fn usage_in_a_stream_is_shown_only_to_who_asks() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let silent = app.completion(json!({"model": "auto", "stream": true})).await;
    assert!(!silent.text().contains("prompt_tokens"), "{}", silent.text());
    let asked = app
        .completion(json!({"model": "auto", "stream": true, "stream_options": {"include_usage": true}}))
        .await;
    assert!(asked.text().contains("prompt_tokens"), "{}", asked.text());
    let stats = app.stats_when(|stats| stats["requests_today"] == 2).await;
    assert!(stats["tokens_used"].as_u64() > Some(0), "{stats}");
    app.finish().await;
}

#[actix_web::test]
async fn openai_answers_are_passed_on_untouched() {
    let upstream = FakeUpstream::start([Reply::completion("Hi")]);
    let app = TestApp::with_upstream(&upstream).await;
    let answer = app.completion(json!({"model": "up/m-up"})).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["choices"][0]["message"]["content"], "Hi");
    assert_eq!(body.get("_routed_via"), None);
    let sent = upstream.requests()[0].json();
    assert_eq!(sent.get("temperature"), None, "nothing is invented on this surface: {sent}");
    app.finish().await;
}

#[actix_web::test]
async fn every_kind_of_name_finds_its_model() {
    let (one, two) = (FakeUpstream::start([]), FakeUpstream::start([]));
    let app = TestApp::with_config(&(provider("one", &one, "") + &provider("two", &two, ""))).await;
    for (name, via) in [("m-two", "two/m-two"), ("two/m-two", "two/m-two"), ("one/m-one", "one/m-one")] {
        let answer = app.completion(json!({"model": name})).await;
        assert_eq!(answer.header("x-routed-via"), Some(via), "{name}: {}", answer.text());
    }
    for name in ["auto", "auto:fast", "auto:smart", "family-m"] {
        assert_eq!(app.completion(json!({"model": name})).await.status, 200, "{name}");
    }
    let unknown = app.completion(json!({"model": "gpt-9"})).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    app.finish().await;
}

#[actix_web::test]
async fn a_number_pins_its_model() {
    let (one, two) = (FakeUpstream::start([]), FakeUpstream::start([]));
    let app = TestApp::with_config(&(provider("one", &one, "") + &provider("two", &two, ""))).await;
    let models = app.get("/api/models.php", None).await.json();
    let number = |platform: &str| {
        models.as_array().unwrap().iter().find(|row| row["platform"] == platform).unwrap()["id"]
            .as_i64()
            .unwrap()
    };
    for platform in ["one", "two"] {
        let answer = app.chat(json!({"model_id": number(platform), "stream": false})).await;
        assert_eq!(answer.json()["_routed_via"]["platform"], platform);
    }
    let unknown = app.chat(json!({"model_id": 999_999})).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(unknown.json()["code"], 400);
    assert!(unknown.text().contains("999999"), "{}", unknown.text());
    app.finish().await;
}

#[actix_web::test]
async fn models_are_listed_on_both_surfaces() {
    let upstream = FakeUpstream::start([]);
    let limits = crate::support::app::limit("requests", 30, "60s")
        + &crate::support::app::limit("tokens", 9_000, "day@UTC");
    let app = TestApp::with_config(&provider("up", &upstream, &limits)).await;
    let rows = app.get("/api/models", None).await.json();
    let ranks: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["intelligence_rank"].as_u64()).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    let row = rows.as_array().unwrap().iter().find(|row| row["platform"] == "up").unwrap();
    assert_eq!(row["model_id"], "m-up");
    assert_eq!((&row["rpm_limit"], &row["tpd_limit"]), (&json!(30), &json!(9_000)));
    assert_eq!((&row["rpd_limit"], &row["tpm_limit"]), (&json!(null), &json!(null)));
    assert_eq!(row["enabled"], true);

    assert_eq!(app.get("/v1/models", None).await.status, 401);
    let list = app.get("/v1/models", Some(KEY)).await.json();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["auto", "auto:fast", "auto:smart", "family-m", "m-up", "up/m-up"]);
    let one = app.get("/v1/models/up/m-up", Some(KEY)).await.json();
    assert_eq!((&one["id"], &one["owned_by"]), (&json!("up/m-up"), &json!("up")));
    let unknown = app.get("/v1/models/nobody/nothing", Some(KEY)).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    app.finish().await;
}

#[actix_web::test]
async fn statistics_are_the_tenants_own() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    assert_eq!(app.get("/api/stats.php", None).await.status, 401);
    app.chat(json!({"stream": false})).await;
    app.chat(json!({})).await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 2).await;
    assert_eq!((&stats["success_rate"], &stats["active_providers"]), (&json!(1.0), &json!(1)));
    let all = app.get("/api/stats.php", Some(ADMIN_KEY)).await.json();
    assert_eq!(all["requests_today"], 2);
    app.finish().await;
}

#[actix_web::test]
async fn a_sane_request_id_is_kept() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let kept = app.post_with("/api/chat", chat_body(json!({})), &[("x-request-id", "trace-1")]).await;
    assert_eq!(kept.header("x-request-id"), Some("trace-1"));
    let replaced = app.post_with("/api/chat", chat_body(json!({})), &[("x-request-id", "two words")]).await;
    assert!(replaced.header("x-request-id").unwrap().starts_with("req_"));
    let elsewhere = app.get("/nowhere", None).await;
    assert!(elsewhere.header("x-request-id").is_some());
    app.finish().await;
}

#[actix_web::test]
async fn a_client_can_choose_no_upstream_credential_or_route() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_upstream(&upstream).await;
    let steering = json!({"model": "auto", "models": ["x"], "route": "fallback", "provider": {"order": ["x"]},
        "service_tier": "priority", "plugins": [{"id": "web"}], "base_url": "http://127.0.0.1:1/"});
    app.completion(steering).await;
    let request = &upstream.requests()[0];
    let names: Vec<_> = request.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        ["base_url", "messages", "model", "stream"],
        "an unknown field passes, a steering one does not"
    );
    assert_eq!(request.header("authorization"), None, "the client's key stays here");
    app.finish().await;
}

#[actix_web::test]
async fn pages_of_allowed_origins_may_call_from_a_browser() {
    let upstream = FakeUpstream::start([]);
    let open = "[access]\ncors_origins = [\"https://app.example.org\"]\n";
    let app = TestApp::with_config(&(open.to_owned() + &provider("up", &upstream, ""))).await;
    let preflight = |origin: &'static str| {
        let request =
            awc::Client::default().request(actix_web::http::Method::OPTIONS, app.url("/api/chat.php"));
        let request = request
            .insert_header(("origin", origin))
            .insert_header(("access-control-request-method", "POST"));
        request.insert_header(("access-control-request-headers", "authorization,content-type")).send()
    };
    let allowed = preflight("https://app.example.org").await.unwrap();
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers().get("access-control-allow-origin").unwrap(), "https://app.example.org");
    let strange = preflight("https://evil.example.org").await.unwrap();
    assert!(strange.headers().get("access-control-allow-origin").is_none());
    let body = chat_body(json!({"stream": false}));
    let answer = app.post_with("/api/chat.php", body, &[("origin", "https://app.example.org")]).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("x-routed-via"));
    app.finish().await;
}
