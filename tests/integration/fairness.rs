//! Tenants in one line: what each gets of what comes free, and what its own limits do to its turn.
//!
//! What is counted is how many were served before whom, by what the upstream received; never how long that took.

use awc::http::StatusCode;
use freellmapi::domain::tenant::TenantChange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use crate::support::app::{ADMIN_KEY, Answer, KEY, TestApp, chat_body, limit, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// A chat that is not streamed, of a user so called.
async fn chat(app: &TestApp, key: &str, model: &str, user: &str) -> Answer {
    let body = json!({"model": model, "stream": false, "max_tokens": 10, "user": user});
    app.post_as(key, "/v1/chat/completions", chat_body(body), &[]).await
}

/// The users of the requests so far, in the order of their arrival.
fn users(upstream: &FakeUpstream) -> Vec<String> {
    let user = |body: serde_json::Value| body["user"].as_str().unwrap().to_owned();
    upstream.requests().iter().map(|request| user(request.json())).collect()
}

fn count(users: &[String], wanted: &str) -> usize {
    users.iter().filter(|user| *user == wanted).count()
}

/// The answers of three who ask for the one place of `slow`: who has it, one of the limited `tenant`, and another one
/// behind that. `meanwhile` begins when the last two wait, in this order.
async fn wait_in_line(
    app: &TestApp,
    slow: &FakeUpstream,
    tenant: &str,
    meanwhile: impl Future<Output = ()>,
) -> [Answer; 3] {
    let (blocker, limited, behind, ()) = tokio::join!(
        chat(app, KEY, "m-slow", "blocker"),
        async {
            slow.wait_for_requests(1).await;
            chat(app, tenant, "m-slow", "limited").await
        },
        async {
            slow.wait_for_requests(1).await;
            app.wait_for_waiting(1).await;
            chat(app, KEY, "m-slow", "behind").await
        },
        async {
            app.wait_for_waiting(2).await;
            meanwhile.await;
        },
    );
    [blocker, limited, behind]
}

async fn wait_for_the_queue_to_be_empty(app: &TestApp) {
    app.wait_for_waiting(0).await;
    let metrics = app.get("/metrics", Some(ADMIN_KEY)).await.text();
    assert!(metrics.contains("\nfreellmapi_queue_depth 0\n"), "{metrics}");
}

#[actix_web::test]
async fn weights_of_three_to_one_are_served_three_to_one() {
    const AT_ONCE: usize = 20;
    let held: Vec<Reply> = (0..AT_ONCE).map(|_| Reply::text("x").after_signal()).collect();
    let upstream = FakeUpstream::start(held);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("parallel", AT_ONCE as u64, ""))).await;
    let heavy = app.tenant("heavy", TenantChange { weight: Some(3), ..TenantChange::default() }).await;
    let light = app.tenant("light", TenantChange { weight: Some(1), ..TenantChange::default() }).await;
    let blockers: FuturesUnordered<_> = (0..AT_ONCE).map(|_| chat(&app, KEY, "m-up", "blocker")).collect();
    let (heavies, lights) = (240, 120);
    let blocked = blockers.collect::<Vec<Answer>>();
    let waiting = async {
        upstream.wait_for_requests(AT_ONCE).await;
        let asking: FuturesUnordered<_> = (0..heavies)
            .map(|_| chat(&app, &heavy, "m-up", "heavy"))
            .chain((0..lights).map(|_| chat(&app, &light, "m-up", "light")))
            .collect();
        let (answers, ()) = tokio::join!(asking.collect::<Vec<Answer>>(), async {
            // All of them wait before the first place comes free.
            app.wait_for_waiting(heavies + lights).await;
            (0..AT_ONCE).for_each(|_| upstream.signal());
        });
        answers
    };
    let (blocked, answers) = tokio::join!(blocked, waiting);
    assert!(blocked.iter().chain(&answers).all(|answer| answer.status == 200));

    // As long as both have somebody waiting: 280 of the 320 that it takes until the first has none.
    let users = users(&upstream);
    let both_wait = &users[AT_ONCE..AT_ONCE + 280];
    let (heavy, light) = (count(both_wait, "heavy"), count(both_wait, "light"));
    let ratio = heavy as f64 / light as f64;
    assert!((2.85..=3.15).contains(&ratio), "{heavy} to {light}");
    wait_for_the_queue_to_be_empty(&app).await;
    app.finish().await;
}

#[actix_web::test]
async fn who_asks_now_and_then_waits_for_one_turn_however_many_another_has_waiting() {
    const AT_ONCE: usize = 4;
    const HOGS: usize = 100;
    let held: Vec<Reply> = (0..AT_ONCE).map(|_| Reply::text("x").after_signal()).collect();
    let upstream = FakeUpstream::start(held);
    let app = TestApp::with_config(&provider("up", &upstream, &limit("parallel", AT_ONCE as u64, ""))).await;
    let small = app.tenant("small", TenantChange::default()).await;
    let hog: FuturesUnordered<_> = (0..AT_ONCE + HOGS).map(|_| chat(&app, KEY, "m-up", "hog")).collect();
    let turns = async {
        app.wait_for_waiting(HOGS).await;
        let mut answers = Vec::new();
        for turn in 0..10 {
            let (before, name) = (upstream.request_count(), format!("small-{turn}"));
            let (answer, ()) = tokio::join!(chat(&app, &small, "m-up", &name), async {
                if turn == 0 {
                    app.wait_for_waiting(HOGS + 1).await;
                    (0..AT_ONCE).for_each(|_| upstream.signal());
                }
            });
            let place = users(&upstream).iter().position(|user| *user == name).unwrap();
            // Half of what comes free is its share: it is among the next few, and those who were on their way.
            assert!(place < before + 2 * AT_ONCE, "turn {turn}: behind {} others", place - before);
            answers.push(answer);
        }
        answers
    };
    let (hog, turns) = tokio::join!(hog.collect::<Vec<Answer>>(), turns);
    assert!(hog.iter().chain(&turns).all(|answer| answer.status == 200));
    wait_for_the_queue_to_be_empty(&app).await;
    app.finish().await;
}

#[actix_web::test]
async fn who_has_used_up_its_own_limit_by_the_time_of_its_turn_is_told_its_instant_and_others_pass() {
    let slow = FakeUpstream::start([Reply::text("x").after_signal()]);
    let fast = FakeUpstream::start([]);
    let config = provider("slow", &slow, &limit("parallel", 1, "")) + &provider("fast", &fast, "");
    let app = TestApp::with_config(&config).await;
    let limited = TenantChange { rpm: Some(Some(1)), ..TenantChange::default() };
    let tenant = app.tenant("limited", limited).await;
    let [blocker, first, behind] = wait_in_line(&app, &slow, &tenant, async {
        // What waits holds nothing of its tenant's limit, so that this is the one of its minute.
        assert_eq!(chat(&app, &tenant, "m-fast", "other").await.status, 200);
        slow.signal();
    })
    .await;
    assert_eq!((blocker.status, behind.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(first.status, 429, "{}", first.text());
    assert_eq!(first.json()["error"]["code"], "rate_limit_exceeded");
    assert!(first.text().contains("tenant"), "{}", first.text());
    let told: u64 = first.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&told), "a minute after the other one: {told}");
    assert_eq!(users(&slow), ["blocker", "behind"]);
    wait_for_the_queue_to_be_empty(&app).await;
    app.finish().await;
}

#[actix_web::test]
async fn who_is_at_its_own_limit_at_its_turn_lets_others_pass_and_comes_back() {
    let slow = FakeUpstream::start([Reply::text("x").after_signal()]);
    let fast = FakeUpstream::start([Reply::stream([Step::delta("a"), Step::WaitForSignal, Step::Cut])]);
    let config = provider("slow", &slow, &limit("parallel", 1, "")) + &provider("fast", &fast, "");
    let app = TestApp::with_config(&config).await;
    let limited = TenantChange { parallel: Some(Some(1)), ..TenantChange::default() };
    let tenant = app.tenant("limited", limited).await;
    let answers = wait_in_line(&app, &slow, &tenant, async {
        let long = json!({"model": "m-fast", "stream": true});
        let mut long = app.stream_as(&tenant, "/v1/chat/completions", long).await;
        long.next().await.unwrap();
        slow.signal();
        // Its turn comes first; its only slot is taken, so it is another's.
        slow.wait_for_requests(2).await;
        fast.signal();
        while long.next().await.is_some() {}
    })
    .await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{}", answers[1].text());
    assert_eq!(users(&slow), ["blocker", "behind", "limited"]);
    wait_for_the_queue_to_be_empty(&app).await;
    app.finish().await;
}
