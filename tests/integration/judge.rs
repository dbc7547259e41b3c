//! Limits through a real gateway, judged by an upstream that counts in every known way at once.
//!
//! Windows are shrunk by configuration, and clients go by the clock: when a window is over is the very thing that is
//! tested. What is held, whatever the machine does meanwhile: no limit of requests, spacing or parallel calls is ever
//! passed, tokens not by more than the estimate's error, and the upstream never has to refuse.
//!
//! What is used of a limit depends on how fast the machine answers in a window of a second, so the suite only asserts
//! [`Scenario::floor`]; `scripts/judge` runs the same scenarios in windows ten times as long, by itself, and asserts
//! [`Scenario::share`], the promise. Clients ask without waiting in the gateway (`x-max-wait-ms: 0`) and come
//! back at `retry-after-ms`, at the latest after [`Pace::look_again`]: that measures what the budgets admit, not how
//! a queue hands it on.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use awc::Client;
use freellmapi::domain::clock::{Clock, Moment, SharedClock, SystemClock};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::support::app::{KEY, TestApp, chat_body, limit, provider_at};
use crate::support::judge::call::Call;
use crate::support::judge::upstream::{Manners, StrictUpstream, share};
use crate::support::judge::verdict::{JudgedLimit, Unit, Worst, breaches, charging, utilisation};

/// How long the clients of a run may take to come to their end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The switch of the long run, which `scripts/judge` sets.
const LONG: &str = "FREELLMAPI_JUDGE_LONG";

/// How fast time goes in a run.
#[derive(Clone, Copy)]
struct Pace {
    /// What windows and runs are multiplied by.
    factor: u32,
    is_long: bool,
    /// How often a client that was refused asks again, if it was not told to come back sooner.
    look_again: Duration,
}

impl Pace {
    fn of_this_run() -> Self {
        if is_long() {
            return Self { factor: 10, is_long: true, look_again: Duration::from_millis(400) };
        }
        Self { factor: 1, is_long: false, look_again: Duration::from_millis(250) }
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch for who runs the tests")]
pub(crate) fn is_long() -> bool {
    std::env::var(LONG).is_ok()
}

/// One gateway, one upstream, some clients.
struct Scenario {
    name: &'static str,
    /// The provider's keys and limits, as configured.
    config: String,
    judged: Vec<JudgedLimit>,
    clients: u64,
    run: Duration,
    /// A request has up to so many words, and allows up to so many tokens.
    words_max: u64,
    cap_max: u64,
    output_max: u64,
    /// Of the limit named, what is used at least: in a long run, and in a short one.
    binding: usize,
    /// Which of the gateway's own budgets that is.
    budget: usize,
    share: f64,
    floor: f64,
    /// Who leaves before the first byte, of a hundred.
    early_leavers: u64,
}

impl Scenario {
    fn new(name: &'static str, run: Duration, limits: Vec<(JudgedLimit, String)>) -> Self {
        let (judged, config): (Vec<_>, Vec<_>) = limits.into_iter().unzip();
        Self {
            name,
            config: config.concat(),
            judged,
            clients: 20,
            run,
            words_max: 20,
            cap_max: 200,
            output_max: 60,
            binding: 0,
            budget: 0,
            share: 0.99,
            floor: 0.6,
            early_leavers: 0,
        }
    }

    fn using(self, share: f64, floor: f64) -> Self {
        Self { share, floor, ..self }
    }

    fn charged(self, tokens: &str) -> Self {
        Self { config: format!("tokens_charged = \"{tokens}\"\n{}", self.config), ..self }
    }

    /// A body, and whether it is streamed and left after its first event.
    fn request(&self, number: u64) -> (Value, bool) {
        let draw = |salt: u64| share(number * 5 + salt);
        let words = 1 + (draw(0) * self.words_max as f64) as usize;
        let cap = 1 + (draw(1) * self.cap_max as f64) as u64;
        let is_streamed = draw(2) < 0.5;
        let leaves = is_streamed && draw(3) < 0.1;
        let content = "word ".repeat(words);
        let body = json!({"model": "family-m", "stream": is_streamed, "max_tokens": cap,
            "messages": [{"role": "user", "content": content}]});
        (body, leaves)
    }

    /// More than this a call never takes, as the gateway estimates it.
    fn largest_request(&self) -> u64 {
        2 * (self.words_max + 16) + self.cap_max
    }
}

/// What came of a scenario.
struct Outcome {
    calls: Vec<Call>,
    until: Moment,
    /// How often the budget that binds was seen as full as it can be, and how often it was looked at.
    full: (u32, u32),
}

async fn play(scenario: &Scenario, pace: Pace) -> Outcome {
    let manners = Manners {
        first_byte_within: Duration::from_millis(10),
        answer_within: Duration::from_millis(40),
        output_max: scenario.output_max,
    };
    let upstream = StrictUpstream::start(manners, &scenario.judged);
    let app = TestApp::with_config(&provider_at("up", &upstream.base_url(), &scenario.config)).await;
    let clock = SystemClock::start();
    let until = clock.now() + scenario.run;
    let clients: FuturesUnordered<_> =
        (0..scenario.clients).map(|number| client(&app, scenario, pace, (number, until))).collect();
    let (full, ()) = tokio::join!(watch(&app, scenario, until), async {
        timeout(scenario.run + PATIENCE, clients.collect::<()>()).await.expect("the clients end");
    });
    app.finish().await;
    Outcome { calls: upstream.calls(), until, full }
}

/// Asks until the run is over.
async fn client(app: &TestApp, scenario: &Scenario, pace: Pace, (number, until): (u64, Moment)) {
    let clock = SystemClock::start();
    let http = Client::builder().timeout(PATIENCE).finish();
    let url = app.url("/v1/chat/completions");
    let mut turn = number * 1_000_000;
    while clock.now() < until {
        turn += 1;
        let (body, leaves) = scenario.request(turn);
        let request = http.post(&url).bearer_auth(KEY).insert_header(("x-max-wait-ms", "0"));
        let asking = request.send_body(body.to_string());
        let is_early_leaver = (share(turn) * 100.0) < scenario.early_leavers as f64;
        let wait = if is_early_leaver { Duration::from_millis(3) } else { PATIENCE };
        let Ok(answer) = timeout(wait, asking).await else { continue };
        let mut answer = answer.expect("an answer");
        if leaves && answer.status() == 200 {
            answer.next().await.expect("an event").expect("bytes");
            continue;
        }
        let text = answer.body().await.expect("a whole answer");
        match answer.status().as_u16() {
            200 => {}
            429 => {
                let told = answer.headers().get("retry-after-ms").expect("an instant to come back at");
                let told: u64 = told.to_str().unwrap().parse().unwrap();
                sleep(Duration::from_millis(told).min(pace.look_again)).await;
            }
            status => panic!("{}: {status}: {}", scenario.name, String::from_utf8_lossy(&text)),
        }
    }
}

/// Looks every now and then at how much the budget that binds holds: less than the largest request is what may be free.
async fn watch(app: &TestApp, scenario: &Scenario, until: Moment) -> (u32, u32) {
    let clock = SystemClock::start();
    let (mut full, mut looks) = (0, 0);
    while clock.now() < until {
        sleep(Duration::from_millis(100)).await;
        // A provider's actor starts with its first request.
        let Some(mut book) = app.books().await.pop() else { continue };
        let budget = book.budgets.swap_remove(scenario.budget);
        looks += 1;
        full += u32::from(budget.held + scenario.largest_request() >= budget.max);
    }
    (full, looks)
}

/// What a verdict says that is wrong.
fn complaints(scenario: &Scenario, pace: Pace, outcome: &Outcome) -> Vec<String> {
    let Outcome { calls, until, full } = outcome;
    let name = scenario.name;
    let mut found = Vec::new();
    let refused = calls.iter().filter(|call| call.is_refused).count();
    if refused > 0 {
        found.push(format!("{name}: the upstream had to refuse {refused} of {}", calls.len()));
    }
    for limit in &scenario.judged {
        for Worst { way, excess } in breaches(calls, limit) {
            found.push(format!("{name}: {limit:?} passed by {excess}: {way}"));
        }
    }
    let binding = scenario.judged[scenario.binding];
    if binding.unit == Unit::Parallel {
        eprintln!("{name}: {} calls, {:?} each", calls.len(), charging(calls, binding.unit));
        return found;
    }
    let used = utilisation(calls, &binding, *until);
    eprintln!(
        "{name}: {} calls, {:.1} % of {} per {:?} used (counted {:?} after arrival), full at {} of {} looks",
        calls.len(),
        used * 100.0,
        binding.max,
        binding.window,
        charging(calls, binding.unit),
        full.0,
        full.1,
    );
    let least = if pace.is_long { scenario.share } else { scenario.floor };
    let least_full = if pace.is_long { 0.95 } else { scenario.floor };
    if f64::from(full.0) < least_full * f64::from(full.1) {
        found.push(format!("{name}: full at only {} of {} looks", full.0, full.1));
    }
    if used < least {
        found.push(format!("{name}: only {:.1} % used", used * 100.0));
    }
    found
}

/// So many milliseconds in a short run.
fn ms(pace: Pace, ms: u64) -> Duration {
    Duration::from_millis(ms) * pace.factor
}

fn written(window: Duration) -> String {
    format!("{}ms", window.as_millis())
}

fn requests(max: u64, window: Duration) -> (JudgedLimit, String) {
    (JudgedLimit::requests(max, window), limit("requests", max, &written(window)))
}

fn spacing(interval: Duration) -> (JudgedLimit, String) {
    let window = format!("spacing:{}", written(interval));
    let config =
        format!("[[provider.limit]]\nscope = \"account\"\nunit = \"requests\"\nwindow = \"{window}\"\n");
    (JudgedLimit::spacing(interval), config)
}

fn parallel(max: u64) -> (JudgedLimit, String) {
    (JudgedLimit::parallel(max), limit("parallel", max, ""))
}

fn tokens(unit: Unit, max: u64, window: Duration) -> (JudgedLimit, String) {
    (JudgedLimit::of(unit, max, window), limit("tokens", max, &written(window)))
}

fn scenarios(pace: Pace) -> Vec<Scenario> {
    let ms = |time| ms(pace, time);
    let run = ms(12_000);
    let (minute, day) = (ms(1_000), ms(5_000));
    let both = |max, window| {
        // Which of the two an upstream does is not known: both are judged, one is configured.
        let (by_use, config) = tokens(Unit::TokensByUse, max, window);
        [(by_use, config), (tokens(Unit::TokensOnArrival, max, window).0, String::new())]
    };
    let [use_6000, arrival_6000] = both(6_000, minute);
    let [use_500k, arrival_500k] = both(500_000, minute);
    vec![
        Scenario::new("2 RPM", run, vec![requests(2, ms(450))]).using(0.96, 0.6),
        Scenario::new("1 a second", run, vec![spacing(ms(300))]).using(0.97, 0.5),
        Scenario {
            binding: 1,
            budget: 1,
            ..Scenario::new(
                "10 RPM and 50 RPD",
                ms(10_800),
                vec![requests(10, minute), requests(50, ms(5_600))],
            )
        },
        Scenario::new(
            "30 RPM and 6,000 TPM",
            run,
            vec![requests(30, minute), use_6000.clone(), arrival_6000.clone()],
        )
        .using(0.99, 0.6),
        Scenario {
            cap_max: 1_000,
            output_max: 1_000,
            binding: 1,
            budget: 1,
            ..Scenario::new(
                "6,000 TPM that bind, charged on arrival",
                run,
                vec![requests(30, minute), (arrival_6000.0, use_6000.1.clone())],
            )
            .charged("reserve")
            .using(0.85, 0.5)
        },
        Scenario {
            cap_max: 1_000,
            output_max: 1_000,
            binding: 1,
            budget: 1,
            ..Scenario::new("6,000 TPM that bind, charged by use", run, vec![requests(60, minute), use_6000])
                .charged("usage")
                .using(0.85, 0.4)
        },
        Scenario {
            cap_max: 20_000,
            output_max: 16_000,
            binding: 1,
            budget: 1,
            ..Scenario::new(
                "20 RPM and 200,000 TPD",
                run,
                vec![requests(20, minute), tokens(Unit::TokensOnArrival, 200_000, day)],
            )
            .charged("reserve")
            .using(0.85, 0.5)
        },
        Scenario {
            clients: 50,
            cap_max: 30_000,
            output_max: 30_000,
            binding: 1,
            ..Scenario::new("500,000 TPM", run, vec![use_500k, arrival_500k]).using(0.85, 0.5)
        },
        Scenario::new("1 at once", run, vec![parallel(1)]).using(0.0, 0.0),
        Scenario::new("4 at once", run, vec![parallel(4)]).using(0.0, 0.0),
        Scenario {
            early_leavers: 10,
            ..Scenario::new("leavers", run, vec![requests(40, minute), parallel(20)]).using(0.0, 0.0)
        },
    ]
}

#[actix_web::test]
async fn no_way_of_counting_sees_more_than_a_limit() {
    let pace = Pace::of_this_run();
    let scenarios = scenarios(pace);
    let playing: FuturesUnordered<_> = scenarios
        .iter()
        .map(|scenario| async move { complaints(scenario, pace, &play(scenario, pace).await) })
        .collect();
    let complaints: Vec<String> = playing.collect::<Vec<_>>().await.concat();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The judge itself: a gateway that believes in one more than the upstream gives is caught.
#[actix_web::test]
async fn a_gateway_that_is_told_too_much_is_caught() {
    let pace = Pace { factor: 1, is_long: false, look_again: Duration::from_millis(50) };
    let window = Duration::from_millis(500);
    let lie = limit("requests", 3, &written(window));
    let requests = (JudgedLimit::requests(2, window), lie);
    let told = Scenario::new("told too much", Duration::from_secs(2), vec![requests]);
    let complaints = complaints(&told, pace, &play(&told, pace).await);
    assert!(complaints.iter().any(|complaint| complaint.contains("had to refuse")), "{complaints:?}");
}

/// A machine whose clock is set to another time of day.
#[derive(Debug)]
struct SetClock {
    machine: SystemClock,
    started: Moment,
    set_to: Moment,
}

impl SetClock {
    fn to(set_to: Moment) -> Self {
        let machine = SystemClock::start();
        Self { started: machine.now(), machine, set_to }
    }
}

impl Clock for SetClock {
    fn now(&self) -> Moment {
        self.set_to + self.machine.now().saturating_since(self.started)
    }
}

/// Once before midnight and once after it the whole of a day is there, and upstream's clock may be 5 s off either way.
#[actix_web::test]
async fn a_midnight_gives_back_a_day_and_no_more() {
    const MAX: u64 = 20;
    let midnight = Moment::from_unix_micros(1_790_000_000_000_000).start_of_utc_day();
    let clock: SharedClock = Arc::new(SetClock::to(midnight - Duration::from_secs(7)));
    let judged = JudgedLimit::day(MAX, midnight);
    let instant = Manners { first_byte_within: Duration::ZERO, answer_within: Duration::ZERO, output_max: 5 };
    let upstream = StrictUpstream::start_at(Arc::clone(&clock), instant, &[judged]);
    let config = provider_at("up", &upstream.base_url(), &limit("requests", MAX, "day@UTC"));
    let app = TestApp::with_clock(Arc::clone(&clock), &config).await;
    let ask = async || {
        let body = chat_body(json!({"model": "family-m"}));
        app.post_with("/v1/chat/completions", body, &[("x-max-wait-ms", "0")]).await.status.as_u16()
    };
    while clock.now() < midnight + Duration::from_secs(6) {
        while ask().await == 200 {}
        sleep(Duration::from_millis(100)).await;
    }
    app.finish().await;
    let calls = upstream.calls();
    assert_eq!(breaches(&calls, &judged), []);
    let early = calls.iter().filter(|call| call.arrival < midnight - Duration::from_secs(5)).count() as u64;
    // What was not asked for before the guard began is counted in both days.
    assert_eq!(calls.len() as u64, MAX + early, "{calls:?}");
    assert!(early > 0, "the machine took two seconds for one call");
}

/// Everything settled, nobody else there: the instant is right within a second, and who waits for it is served.
#[actix_web::test]
async fn who_comes_back_when_told_is_served() {
    let window = Duration::from_millis(2_500);
    let judged = JudgedLimit::requests(1, window);
    let manners = Manners {
        first_byte_within: Duration::from_millis(10),
        answer_within: Duration::from_millis(10),
        output_max: 5,
    };
    let upstream = StrictUpstream::start(manners, &[judged]);
    let config = provider_at("up", &upstream.base_url(), &limit("requests", 1, &written(window)));
    let app = TestApp::with_config(&config).await;
    let ask = async || {
        let body = chat_body(json!({"model": "family-m"}));
        app.post_with("/v1/chat/completions", body, &[("x-max-wait-ms", "0")]).await
    };
    for round in 0..3 {
        assert_eq!(ask().await.status, 200, "round {round}");
        let refused = ask().await;
        let asked_until = SystemClock::start().now();
        assert_eq!(refused.status, 429);
        let number = |name: &str| refused.header(name).unwrap().parse::<u64>().unwrap();
        let (seconds, exactly) = (number("retry-after"), Duration::from_millis(number("retry-after-ms")));
        assert_eq!(seconds, (number("retry-after-ms")).div_ceil(1_000));
        let counted = upstream.calls()[round].first_byte.unwrap();
        let told = asked_until + exactly;
        assert!(told >= counted + window, "told {told:?}, counted {counted:?}");
        assert!(told <= counted + window + Duration::from_secs(1), "told {told:?}, counted {counted:?}");
        sleep(exactly).await;
    }
    app.finish().await;
    assert_eq!(breaches(&upstream.calls(), &judged), []);
}
