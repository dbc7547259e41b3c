//! Waiting for capacity: who is served when, and who is told what.

use std::rc::Rc;
use std::time::Duration;

use awc::http::StatusCode;
use freellmapi::domain::tenant::TenantChange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, chat_body, limit, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::Reply;

/// Asks without a stream and waits as long as it takes, at most so long.
async fn ask(app: &TestApp, extra: Value, max_wait_ms: u64) -> Answer {
    let mut body = json!({"stream": false, "max_tokens": 10});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    let wait = max_wait_ms.to_string();
    app.post_with("/api/chat.php", chat_body(body), &[("x-max-wait-ms", &wait)]).await
}

fn queue_wait_ms(answer: &Answer) -> u64 {
    answer.header("x-queue-wait-ms").unwrap().parse().unwrap()
}

#[actix_web::test]
async fn a_burst_is_served_as_capacity_comes_back() {
    let upstreams: Vec<FakeUpstream> = (0..3).map(|_| FakeUpstream::start([])).collect();
    let config: String = upstreams
        .iter()
        .enumerate()
        .map(|(index, upstream)| provider(&format!("p{index}"), upstream, &limit("requests", 5, "1s")))
        .collect();
    let app = TestApp::with_config(&config).await;
    let asking: FuturesUnordered<_> = (0..60).map(|_| ask(&app, json!({}), 20_000)).collect();
    let answers: Vec<Answer> = asking.collect().await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 60, "each would have been served within its wait");
    // 15 at once, 45 in three windows: nobody waits for a fifth.
    let longest = answers.iter().map(queue_wait_ms).max().unwrap();
    assert!((2_500..=4_500).contains(&longest), "{longest}");
    for upstream in &upstreams {
        assert_eq!(upstream.request_count(), 20, "no candidate stands idle while somebody waits");
    }
    app.finish().await;
}

#[actix_web::test]
async fn those_who_wait_are_served_first_come_first_served() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "200ms"))).await;
    assert_eq!(ask(&app, json!({}), 0).await.status, 200);
    let asking = FuturesUnordered::new();
    for number in 0..5 {
        asking.push(ask(&app, json!({"user": format!("number-{number}")}), 20_000));
    }
    let answers: Vec<Answer> = asking.collect().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let order: Vec<Value> =
        upstream.requests().iter().skip(1).map(|request| request.json()["user"].clone()).collect();
    assert_eq!(order, ["number-0", "number-1", "number-2", "number-3", "number-4"]);
    app.finish().await;
}

#[actix_web::test]
async fn a_tenant_that_sends_much_delays_another_by_its_share_alone() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 25, "1s"))).await;
    let key = app.tenant("small", TenantChange::default()).await;
    let hog: FuturesUnordered<_> = (0..100).map(|_| ask(&app, json!({"user": "hog"}), 20_000)).collect();
    let (hog, small) = tokio::join!(hog.collect::<Vec<Answer>>(), async {
        // 25 are served at once.
        app.wait_for_waiting(75).await;
        let body = chat_body(json!({"stream": false, "max_tokens": 10, "user": "small"}));
        app.post_as(&key, "/api/chat.php", body, &[]).await
    });
    assert!(hog.iter().all(|answer| answer.status == 200));
    assert_eq!(small.status, 200, "{}", small.text());
    let requests = upstream.requests();
    let place = requests.iter().position(|request| request.json()["user"] == "small").unwrap();
    assert!((25..50).contains(&place), "it came behind 75 others, and is served as number {place}");
    app.finish().await;
}

#[actix_web::test]
async fn an_end_elsewhere_wakes_who_waits() {
    // Nothing but the end of the first call makes room: no release is scheduled.
    let upstream = FakeUpstream::start([Reply::text("x").after_signal()]);
    let app = Rc::new(TestApp::with_config(&provider("up", &upstream, &limit("parallel", 1, ""))).await);
    let (first, second) = tokio::join!(ask(&app, json!({}), 0), async {
        upstream.wait_for_requests(1).await;
        let waiting = ask(&app, json!({}), 20_000);
        let (answer, ()) = tokio::join!(waiting, async {
            app.wait_for_waiting(1).await;
            upstream.signal();
        });
        answer
    });
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK));
    Rc::into_inner(app).unwrap().finish().await;
}

#[actix_web::test]
async fn a_wait_ends_at_its_deadline_and_tells_the_place() {
    let upstream = FakeUpstream::start([Reply::text("x").after_signal()]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("parallel", 1, ""))).await;
    let (first, refused) = tokio::join!(ask(&app, json!({}), 0), async {
        upstream.wait_for_requests(1).await;
        // The call that is in flight is looked at once a second; it does not end in time.
        let (one, two) = tokio::join!(ask(&app, json!({}), 1_300), async {
            app.wait_for_waiting(1).await;
            ask(&app, json!({}), 1_600).await
        });
        upstream.signal();
        [one, two]
    });
    assert_eq!(first.status, 200);
    for answer in &refused {
        assert_eq!(answer.status, 429, "{}", answer.text());
        let value = answer.json();
        assert_eq!(value["queue_position"], 1, "{value}");
        assert!(value["retry_after"].as_u64().unwrap() >= 1, "{value}");
    }
    assert_eq!(upstream.request_count(), 1);
    app.finish().await;
}

#[actix_web::test]
async fn whoever_leaves_while_waiting_frees_the_place() {
    let upstream = FakeUpstream::start([]);
    let limited = provider("up", &upstream, &limit("requests", 1, "1s"));
    let app = TestApp::with_config(&format!("[dispatch]\nmax_waiting = 1\n{limited}")).await;
    assert_eq!(ask(&app, json!({}), 0).await.status, 200);
    {
        let leaving = ask(&app, json!({}), 20_000);
        tokio::select! {
            _ = leaving => panic!("nobody can answer yet"),
            () = app.wait_for_waiting(1) => {}
        }
    }
    app.wait_for_waiting(0).await;
    let next = ask(&app, json!({}), 20_000).await;
    assert_eq!(next.status, 200, "{}", next.text());
    assert_eq!(upstream.request_count(), 2);
    app.finish().await;
}

#[actix_web::test]
async fn a_full_queue_refuses_at_once() {
    let upstream = FakeUpstream::start([]);
    let limited = provider("up", &upstream, &limit("requests", 1, "1s"));
    let app = TestApp::with_config(&format!("[dispatch]\nmax_waiting = 1\n{limited}")).await;
    assert_eq!(ask(&app, json!({}), 0).await.status, 200);
    let (waited, refused) = tokio::join!(ask(&app, json!({}), 20_000), async {
        app.wait_for_waiting(1).await;
        ask(&app, json!({}), 20_000).await
    });
    assert_eq!((waited.status.as_u16(), refused.status.as_u16()), (200, 429));
    assert!(refused.json()["retry_after"].as_u64().unwrap() >= 1);
    app.finish().await;
}

#[actix_web::test]
async fn who_waits_while_the_gateway_drains_is_served() {
    let upstream = FakeUpstream::start([]);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("requests", 1, "1s"))).await;
    assert_eq!(ask(&app, json!({}), 0).await.status, 200);
    let request = awc::Client::builder().timeout(Duration::from_secs(20)).finish();
    let request = request.post(app.url("/api/chat.php")).bearer_auth(crate::support::app::KEY);
    let waiting = actix_web::rt::spawn(request.send_body(chat_body(json!({"stream": false}))));
    app.wait_for_waiting(1).await;
    let totals = app.drain().await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!((totals.requests, totals.served), (2, 2));
}

#[actix_web::test]
async fn a_failed_attempt_after_a_wait_goes_on_to_the_others() {
    let (limited, broken) =
        (FakeUpstream::start([]), FakeUpstream::start_with([], Reply::error(500, "broken")));
    let config = provider("limited", &limited, &limit("requests", 1, "1s"))
        + &provider("broken", &broken, &limit("requests", 1, "300ms"));
    let app = TestApp::with_config(&config).await;
    let first = app.completion(json!({"model": "limited/m-limited"})).await;
    assert_eq!(first.status, 200);
    let second = app.completion(json!({"model": "broken/m-broken"})).await;
    assert_eq!(second.status, 503);
    // Both are full; the broken one has room first, fails, and the other one is waited for.
    let third = app.completion(json!({"model": "family-m"})).await;
    assert_eq!(third.status, 200, "{}", third.text());
    assert_eq!((limited.request_count(), broken.request_count()), (2, 2));
    assert_eq!(third.header("x-fallback-attempts"), Some("1"));
    app.finish().await;
}
