//! A pool of limited providers under a burst of agents that all accept to wait.
//!
//! What the limits allow by when is worked out here from their definitions and from what the upstreams' own logs say
//! of how long calls took; nothing of it comes from the gateway's books. Waits are measured in windows of those
//! limits. What the machine did not give this test in time is counted by a clock of its own and allowed for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt::time::sleep;
use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use freellmapi::domain::tenant::TenantChange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use crate::support::app::{Answer, KEY, TestApp, chat_body, limit, provider_at, until};
use crate::support::judge::call::Call;
use crate::support::judge::upstream::{Manners, StrictUpstream};
use crate::support::judge::verdict::{JudgedLimit, Unit, breaches, charging};

const AGENTS: usize = 200;

/// The output cap of every request; its input is a few words. So the gateway's estimate and the upstream's count
/// differ by much less than a request.
const CAP: u64 = 1_000;

/// A parallel slot is held so long after its call. Source: `docs/QUOTAS.md`.
const SLOT_HELD: Duration = Duration::from_millis(100);

/// A provider whose upstream keeps its limits itself, and refuses what exceeds them.
struct Limited {
    upstream: StrictUpstream,
    judged: Vec<JudgedLimit>,
    config: String,
}

impl Limited {
    /// `limits` as they are judged; the same are configured.
    fn start(id: &str, limits: &[JudgedLimit]) -> Self {
        let manners = Manners {
            first_byte_within: Duration::from_millis(20),
            answer_within: Duration::from_millis(20),
            output_max: 20,
        };
        let upstream = StrictUpstream::start(manners, limits);
        let configured: String = limits.iter().map(configured).collect();
        let config = provider_at(id, &upstream.base_url(), &configured);
        Self { upstream, judged: limits.to_vec(), config }
    }

    /// How many calls all limits together allow from the first one on until `time` has gone by.
    fn allowed_within(&self, time: Duration) -> u64 {
        let calls = self.upstream.calls();
        let allowed = self.judged.iter().map(|limit| allowed_by(limit, &calls, time));
        allowed.min().expect("a limit")
    }
}

/// So many calls of this burst a limit allows from the first one on until `time` has gone by: all of its maximum at
/// once, and again whenever the window after the instant that counts is over.
fn allowed_by(limit: &JudgedLimit, calls: &[Call], time: Duration) -> u64 {
    let (at_once, again_after) = match limit.unit {
        Unit::Requests => (limit.max, limit.window + charging(calls, limit.unit)),
        Unit::Parallel => (limit.max, charging(calls, limit.unit) + SLOT_HELD),
        // Not known to be charged on arrival: held until a window after the end.
        Unit::TokensOnArrival | Unit::TokensByUse => {
            (limit.max / (CAP + 10), limit.window + charging(calls, Unit::TokensByUse))
        }
    };
    at_once * (1 + u64::try_from(time.as_micros() / again_after.as_micros()).unwrap())
}

fn configured(judged: &JudgedLimit) -> String {
    let window = format!("{}ms", judged.window.as_millis());
    match judged.unit {
        Unit::Requests if judged.max == 1 => format!(
            "[[provider.limit]]\nscope = \"account\"\nunit = \"requests\"\nwindow = \"spacing:{window}\"\n"
        ),
        Unit::Requests => limit("requests", judged.max, &window),
        Unit::TokensOnArrival | Unit::TokensByUse => limit("tokens", judged.max, &window),
        Unit::Parallel => limit("parallel", judged.max, ""),
    }
}

fn six() -> Vec<Limited> {
    let ms = Duration::from_millis;
    let requests = |max, window| JudgedLimit::requests(max, ms(window));
    [
        vec![requests(8, 1_000)],
        vec![requests(5, 1_000), requests(9, 2_000)],
        vec![JudgedLimit::spacing(ms(150))],
        vec![JudgedLimit::parallel(1)],
        vec![JudgedLimit::of(Unit::TokensOnArrival, 4 * CAP + 500, ms(1_000))],
        vec![requests(4, 500), JudgedLimit::parallel(2)],
    ]
    .iter()
    .enumerate()
    .map(|(index, limits)| Limited::start(&format!("p{index}"), limits))
    .collect()
}

/// The longest window of the pool: what waits are measured in.
fn longest_window(pool: &[Limited]) -> Duration {
    pool.iter().flat_map(|one| &one.judged).map(|limit| limit.window).max().unwrap()
}

/// When the limits allow that all are served, at the earliest, as time since the first call.
fn earliest_end(pool: &[Limited], requests: u64) -> Duration {
    let all_by = |time: &Duration| pool.iter().map(|one| one.allowed_within(*time)).sum::<u64>() >= requests;
    (0..).map(|step| Duration::from_millis(10) * step).find(all_by).unwrap()
}

/// Counts the time that the machine did not give to those who asked for it.
#[derive(Clone, Default)]
struct Delays(Rc<Cell<Duration>>);

impl Delays {
    const TICK: Duration = Duration::from_millis(5);
    /// A timer is as exact as this.
    const USUAL: Duration = Duration::from_millis(2);

    /// Never ends.
    async fn watch(&self) {
        let clock = SystemClock::start();
        loop {
            let asleep_at = clock.now();
            sleep(Self::TICK).await;
            let late = clock.now().saturating_since(asleep_at + Self::TICK + Self::USUAL);
            self.0.set(self.0.get() + late);
        }
    }
}

/// What became of one agent.
struct Served {
    agent: usize,
    tenant: usize,
    answer: Answer,
    sent_at: Moment,
    /// When the gateway had taken the request in.
    arrived_at: Moment,
    /// When its answer was there.
    ended_at: Moment,
}

impl Served {
    fn waited(&self) -> Duration {
        Duration::from_millis(self.answer.header("x-queue-wait-ms").unwrap().parse().unwrap())
    }

    /// When a provider had room for it, within a millisecond.
    fn granted_at(&self) -> Moment {
        self.arrived_at + self.waited()
    }
}

/// A request on its way, with the instant of its arrival as far as that is known.
async fn ask(
    app: &TestApp,
    (agent, tenant): (usize, usize),
    key: &str,
    max_wait: Option<Duration>,
    (arrived_at, answered): (Rc<Cell<Moment>>, Rc<Cell<usize>>),
) -> Served {
    let body = json!({"model": "family-m", "stream": agent.is_multiple_of(2), "max_tokens": CAP,
        "user": agent.to_string()});
    let wait = max_wait.map(|wait| wait.as_millis().to_string());
    let headers: Vec<(&str, &str)> = wait.iter().map(|wait| ("x-max-wait-ms", wait.as_str())).collect();
    let sent_at = SystemClock::start().now();
    let answer = app.post_as(key, "/v1/chat/completions", chat_body(body), &headers).await;
    answered.set(answered.get() + 1);
    let ended_at = SystemClock::start().now();
    Served { agent, tenant, answer, sent_at, arrived_at: arrived_at.get(), ended_at }
}

/// All agents ask as fast as the gateway takes them in, one after the other, so that their order is known. Nobody
/// waits for an answer to ask.
async fn burst(app: &TestApp, keys: &[String], waits: &[Option<Duration>]) -> Vec<Served> {
    let answered = Rc::new(Cell::new(0));
    let arrivals: Vec<Rc<Cell<Moment>>> = waits.iter().map(|_| Rc::default()).collect();
    let (begin, begun) = tokio::sync::mpsc::channel::<usize>(waits.len());
    let asking = async {
        let mut asking = FuturesUnordered::new();
        let mut begun = begun;
        let mut served = Vec::new();
        while served.len() < waits.len() {
            tokio::select! {
                Some(agent) = begun.recv() => {
                    let tenant = agent % keys.len();
                    let notes = (Rc::clone(&arrivals[agent]), Rc::clone(&answered));
                    asking.push(ask(app, (agent, tenant), &keys[tenant], waits[agent], notes));
                }
                Some(one) = asking.next() => served.push(one),
            }
        }
        served
    };
    let clock = SystemClock::start();
    let beginning = async {
        for (agent, arrived_at) in arrivals.iter().enumerate() {
            begin.send(agent).await.unwrap();
            until("the gateway has taken it in", async || {
                (answered.get() + app.in_flight() > agent).then_some(())
            })
            .await;
            arrived_at.set(clock.now());
        }
    };
    tokio::join!(asking, beginning).0
}

#[actix_web::test]
async fn two_hundred_agents_are_served_in_the_time_that_six_limited_providers_need_and_in_order() {
    let pool = six();
    let config: String = pool.iter().map(|one| one.config.as_str()).collect();
    let app = TestApp::with_config(&config).await;
    let mut keys = vec![KEY.to_owned()];
    for name in ["a", "b", "c"] {
        keys.push(app.tenant(name, TenantChange::default()).await);
    }
    let delays = Delays::default();
    let served = tokio::select! {
        served = burst(&app, &keys, &[None; AGENTS]) => served,
        () = delays.watch() => unreachable!("it never ends"),
    };

    for one in &served {
        assert_eq!(one.answer.status, 200, "agent {}: {}", one.agent, one.answer.text());
        let text = one.answer.text();
        assert!(one.agent % 2 == 1 || text.trim_end().ends_with("data: [DONE]"), "cut: {text}");
    }
    assert_limits_were_kept(&pool);
    assert_eq!(pool.iter().map(|one| one.upstream.calls().len()).sum::<usize>(), AGENTS, "nobody twice");

    let first = served.iter().map(|one| one.arrived_at).min().unwrap();
    let last = served.iter().map(|one| one.granted_at()).max().unwrap();
    let (taken, earliest) = (last.saturating_since(first), earliest_end(&pool, AGENTS as u64));
    let (slack, delayed) = (longest_window(&pool), delays.0.get());
    eprintln!(
        "{AGENTS} agents: {taken:?}; the limits allow {earliest:?}; the machine was late by {delayed:?}"
    );
    assert!(taken <= earliest + slack + delayed, "{taken:?}, and the limits allow {earliest:?} + {slack:?}");

    assert_in_order(&served, &pool, keys.len());
    app.finish().await;
}

fn assert_limits_were_kept(pool: &[Limited]) {
    for (number, one) in pool.iter().enumerate() {
        let calls = one.upstream.calls();
        assert!(calls.iter().all(|call| !call.is_refused), "p{number} had to refuse");
        for limit in &one.judged {
            assert_eq!(breaches(&calls, limit), [], "p{number}: {limit:?}");
        }
    }
}

/// Of requests of one tenant, all of the same size, nobody is served behind more than one later one for each
/// provider: each has one offer under way at a time.
fn assert_in_order(served: &[Served], pool: &[Limited], tenants: usize) {
    for tenant in 0..tenants {
        let mut mine: Vec<&Served> = served.iter().filter(|one| one.tenant == tenant).collect();
        mine.sort_by_key(|one| (one.granted_at(), one.agent));
        let granted: Vec<usize> = mine.iter().map(|one| one.agent).collect();
        for (place, agent) in granted.iter().enumerate() {
            let overtaken_by = granted[..place].iter().filter(|earlier| *earlier > agent).count();
            assert!(
                overtaken_by <= pool.len(),
                "agent {agent} comes after {overtaken_by} later: {granted:?}"
            );
        }
    }
}

/// Room comes eight at a time, every two seconds. So say the limits and the order of arrival: the first eight are
/// served at once, those who wait one second cannot be, and of those who wait three seconds the first eight.
#[actix_web::test]
async fn exactly_those_whose_deadline_cannot_be_met_are_refused_with_the_instant_of_room() {
    const WINDOW: Duration = Duration::from_secs(2);
    let pool: Vec<Limited> = [5, 3]
        .into_iter()
        .enumerate()
        .map(|(index, max)| Limited::start(&format!("p{index}"), &[JudgedLimit::requests(max, WINDOW)]))
        .collect();
    let config: String = pool.iter().map(|one| one.config.as_str()).collect();
    let app = TestApp::with_config(&config).await;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    // Those who can never be served come in between, and take nobody's place.
    let waits: Vec<Option<Duration>> = [
        [None; 8].as_slice(),
        &[seconds(1); 5],
        &[seconds(3); 8],
        &[seconds(1); 5],
        &[seconds(3); 4],
        &[None; 6],
    ]
    .concat();
    let (delays, keys) = (Delays::default(), [KEY.to_owned()]);
    let served = tokio::select! {
        served = burst(&app, &keys, &waits) => served,
        () = delays.watch() => unreachable!("it never ends"),
    };
    assert_limits_were_kept(&pool);

    // How late everything may be: by what separates the deadlines from the room, only where the machine was.
    let late = WINDOW / 4 + delays.0.get();
    let is_as_planned = delays.0.get() < WINDOW / 8;
    let rooms = rooms(&pool, WINDOW);
    for one in &served {
        let (agent, status) = (one.agent, one.answer.status.as_u16());
        let told = format!("agent {agent}: {}", one.answer.text());
        match waits[agent] {
            None => assert_eq!(status, 200, "{told}"),
            Some(wait) if wait < WINDOW => assert_eq!(status, 429, "{told}"),
            Some(_) if is_as_planned => assert_eq!(status, if agent < 21 { 200 } else { 429 }, "{told}"),
            Some(_) => assert!([200, 429].contains(&status), "{told}"),
        }
        if status == 429 {
            assert_could_not_be_met(one, waits[agent].unwrap(), &pool, (&rooms, late));
            assert_told_the_instant(one, &rooms, late);
        }
    }
    app.finish().await;
}

/// By the deadline all room that had come was used, by those who had come before.
fn assert_could_not_be_met(
    one: &Served,
    wait: Duration,
    pool: &[Limited],
    (rooms, late): (&[Moment], Duration),
) {
    let deadline = one.sent_at + wait;
    let calls = pool.iter().flat_map(|one| one.upstream.calls());
    let by_then: Vec<Call> = calls.filter(|call| call.arrival <= one.sent_at + wait + late).collect();
    let had_come = pool.iter().map(|one| one.judged[0].max as usize).sum::<usize>()
        + rooms.iter().filter(|room| **room + late <= deadline).count();
    assert!(by_then.len() >= had_come, "agent {}: room for {had_come}, {} used", one.agent, by_then.len());
    let later =
        by_then.iter().filter(|call| call.arrival + late <= deadline && call.client > Some(one.agent));
    assert_eq!(later.count(), 0, "agent {} was passed by later ones before its deadline", one.agent);
}

/// It is told when room comes next.
fn assert_told_the_instant(one: &Served, rooms: &[Moment], late: Duration) {
    let told = Duration::from_millis(one.answer.header("retry-after-ms").unwrap().parse().unwrap());
    let next = rooms.iter().find(|room| **room > one.ended_at).expect("there is room again");
    let about = format!("agent {}: told {told:?} at {:?}; room at {next:?}", one.agent, one.ended_at);
    assert!(one.ended_at + told + late >= *next, "too early: {about}");
    assert!(one.ended_at + told <= *next + late, "too late: {about}");
}

/// When a unit of the pool was free again, by its upstreams' logs.
fn rooms(pool: &[Limited], window: Duration) -> Vec<Moment> {
    let calls = pool.iter().flat_map(|one| one.upstream.calls());
    let mut rooms: Vec<Moment> = calls.map(|call| call.last_count() + window).collect();
    rooms.sort_unstable();
    rooms
}
