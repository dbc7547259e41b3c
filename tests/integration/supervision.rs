//! A panic anywhere in the work on a request costs that request and nothing else.
//!
//! Nothing in the program is there to panic on demand, so a clock does: everything that decides asks it for the time.

use std::backtrace::Backtrace;
use std::sync::Arc;

use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::json;

use crate::support::app::{Answer, TestApp, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

/// The machine's clock, until it is told to panic once in the code of a certain file.
#[derive(Debug)]
struct TrippingClock {
    clock: SystemClock,
    /// The path of that file, as backtraces have it.
    trips_in: Mutex<Option<&'static str>>,
}

impl TrippingClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::start(), trips_in: Mutex::new(None) })
    }

    fn trip_in(&self, file: &'static str) {
        *self.trips_in.lock() = Some(file);
    }

    fn has_tripped(&self) -> bool {
        self.trips_in.lock().is_none()
    }
}

impl Clock for TrippingClock {
    fn now(&self) -> Moment {
        let is_here = {
            let mut trips_in = self.trips_in.lock();
            let here = |file: &mut &str| Backtrace::force_capture().to_string().contains(*file);
            trips_in.take_if(here).is_some()
        };
        assert!(!is_here, "on purpose");
        self.clock.now()
    }
}

/// Where a panic hits a request before there is an answer.
const BEFORE_AN_ANSWER: [&str; 4] =
    ["src/api/chat.rs", "src/dispatcher/actor.rs", "src/provider/actor.rs", "src/provider/attempt.rs"];

fn is_500(answer: &Answer) -> bool {
    answer.status == 500 && answer.json()["error"]["code"] == "internal_error"
}

#[actix_web::test]
async fn a_panic_before_the_answer_is_500_and_costs_one_request() {
    let upstream = FakeUpstream::start([]);
    let clock = TrippingClock::new();
    let app = TestApp::with_clock(clock.clone(), &provider("up", &upstream, "")).await;
    let mut panics = 0;
    for streamed in [false, true] {
        for place in BEFORE_AN_ANSWER {
            let ask = async || app.completion(json!({"model": "auto", "stream": streamed})).await;
            clock.trip_in(place);
            let answer = ask().await;
            assert!(clock.has_tripped(), "{place}");
            assert!(is_500(&answer), "{place}: {}", answer.text());
            panics += 1;
            assert_eq!(app.panics().await, panics, "{place}");
            assert_eq!(ask().await.status, 200, "{place}");
        }
    }
    app.finish().await;
}

#[actix_web::test]
async fn a_panic_while_the_upstream_answers_settles_its_attempt() {
    for streamed in [false, true] {
        let upstream = FakeUpstream::start([Reply::text("never seen").after_signal()]);
        let clock = TrippingClock::new();
        let app = TestApp::with_clock(clock.clone(), &provider("up", &upstream, "")).await;
        let ask = async || app.completion(json!({"model": "auto", "stream": streamed})).await;
        let (answer, ()) = tokio::join!(ask(), async {
            upstream.wait_for_requests(1).await;
            clock.trip_in("src/provider/attempt.rs");
            upstream.signal();
        });
        assert!(is_500(&answer), "{}", answer.text());
        assert_eq!(app.panics().await, 1);
        upstream.wait_until_client_gone(0).await;
        let next = ask().await;
        assert_eq!(next.status, 200, "{}", next.text());
        let stats = app.stats_when(|stats| stats["requests_today"] == 2).await;
        assert_eq!(stats["success_rate"], 0.5, "it is our failure");
        app.finish().await;
    }
}

#[actix_web::test]
async fn a_panic_in_a_stream_is_told_in_band() {
    let upstream =
        FakeUpstream::start([Reply::stream([Step::delta("a"), Step::WaitForSignal, Step::delta("b")])]);
    let clock = TrippingClock::new();
    let app = TestApp::with_clock(clock.clone(), &provider("up", &upstream, "")).await;
    let mut stream = app.stream("/v1/chat/completions", json!({"model": "auto", "stream": true})).await;
    assert!(stream.next().await.unwrap().contains("\"a\""));
    clock.trip_in("src/provider/stream.rs");
    upstream.signal();
    let rest = stream.collect::<Vec<String>>().await.concat();
    assert!(rest.contains("internal_error") && !rest.contains("[DONE]"), "{rest}");
    assert_eq!(app.panics().await, 1);
    upstream.wait_until_client_gone(0).await;
    let stats = app.stats_when(|stats| stats["requests_today"] == 1).await;
    assert_eq!(stats["success_rate"], 0.0, "it is recorded as cut");
    assert_eq!(app.completion(json!({"model": "auto"})).await.status, 200);
    app.finish().await;
}

#[actix_web::test]
async fn a_panic_behind_a_heartbeat_is_told_in_band() {
    let upstream = FakeUpstream::start([Reply::text("never seen").after_signal()]);
    let clock = TrippingClock::new();
    let config = "[dispatch]\nheartbeat = \"50ms\"\n".to_owned() + &provider("up", &upstream, "");
    let app = TestApp::with_clock(clock.clone(), &config).await;
    let mut stream = app.stream("/v1/chat/completions", json!({"model": "auto", "stream": true})).await;
    assert_eq!(stream.next().await.unwrap(), ": keep-alive\n\n");
    clock.trip_in("src/provider/attempt.rs");
    upstream.signal();
    let rest = stream.collect::<Vec<String>>().await.concat();
    assert!(rest.contains("internal_error") && !rest.contains("[DONE]"), "{rest}");
    assert_eq!(app.panics().await, 1);
    app.finish().await;
}
