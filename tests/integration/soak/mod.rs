//! Mixed load and faults for a minute in the suite, for an hour by `scripts/soak`: nothing grows, nothing is left.
//!
//! A real process, its embedded store, providers that go wrong in every way, callers that do. Now and then somebody
//! else writes to the store for a while, so that the ledger waits and the spool is used.

mod clients;
mod faults;
pub(crate) mod gauges;
mod slope;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use freellmapi::domain::clock::{Clock, SystemClock};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tempfile::TempDir;

use self::clients::{Callers, Tally, id};
use self::faults::{FAULTY, Providers};
use self::gauges::Gauges;
use self::slope::{Slope, medians, slope};
use crate::durability::Process;
use crate::support::app::{KEY, chat_body};
use crate::support::database::TestDatabase;
use crate::support::random::Random;
use crate::support::raw_client::RawClient;

/// Says for how many minutes; without it the soak is the suite's.
const MINUTES_VARIABLE: &str = "FREELLMAPI_SOAK_MINUTES";
const SUITE_MINUTES: u64 = 1;

const WORKERS: usize = 2;
/// The id of every request after the load.
const LAST: &str = "last";

const SEED: u64 = 20_261_123;
const CALLERS: usize = 40;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// How many requests the gateway lets in at once; at the end all of these places are still there.
const MAX_IN_FLIGHT: usize = 64;

/// How long what was left may take to go. Chosen: far more than the time limits of the configuration leave it.
const GONE_IN: Duration = Duration::from_secs(60);

/// What may grow in an hour, in KiB, where there is an hour or a good part of it to tell.
const GROWTH_PER_HOUR_KIB: f64 = 1_024.0;
const TELLING: Duration = Duration::from_secs(600);

/// What may be kept when nothing is open any more: caches and pools. Chosen: some four times what was measured
/// (2026-11-23). It tells a minute, in which a slope says nothing: requests that leave 4 KiB behind show.
const KEPT_MAX_KIB: u64 = 16 << 10;

/// What a gateway under this load never takes. Chosen: some four times what was measured (2026-11-23).
const RESIDENT_MAX_KIB: u64 = 200 << 10;

/// Files that a store opens when it is first busy: two pools of four connections with three files each, one of
/// which each had from the beginning.
const STORE_FILES: u64 = 2 * 3 * 3;

/// Threads on which the store, the spool and the keys are asked, each while it is busy and some seconds longer.
const STORE_THREADS: u64 = 4;

struct Soak {
    time: Duration,
    clock: SystemClock,
    folder: TempDir,
    database: TestDatabase,
    providers: Providers,
}

impl Soak {
    fn new() -> Self {
        let (folder, providers) = (tempfile::tempdir().unwrap(), Providers::start(SEED));
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = {WORKERS}\nmax_in_flight = {MAX_IN_FLIGHT}\n\
             client_head_timeout = \"2s\"\nclient_body_timeout = \"2s\"\n\
             [dispatch]\nconnect_timeout = \"2s\"\nmax_wait = \"2s\"\nfirst_token_timeout = \"2s\"\nstall_timeout = \"2s\"\n\
             total_timeout = \"6s\"\nclient_stall_timeout = \"1s\"\nheartbeat = \"500ms\"\n\
             response_body_limit = \"1MiB\"\n{}",
            providers.config
        );
        fs::write(folder.path().join("test.toml"), config).unwrap();
        let time = Duration::from_secs(60 * minutes());
        Self { time, clock: SystemClock::start(), folder, database: TestDatabase::empty_sqlite(), providers }
    }

    async fn serve(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear();
        command.env("DATABASE_URL", self.database.url()).env("FREELLMAPI_API_KEY", KEY);
        // A line for each request of an hour is too much to keep.
        // What is freed goes back at once: what is resident is what is in use, not what may be used again.
        command.env("MIMALLOC_PURGE_DELAY", "0");
        command.env("RUST_LOG", "freellmapi::stats::recorder=warn,freellmapi::api=warn");
        command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(command).await
    }

    fn gauges(&self, process: &Process) -> Gauges {
        Gauges::of(process.id(), &self.folder.path().join("data/spool"))
    }

    /// Samples, and holds the store now and then, until the time is over.
    async fn watch(&self, process: &Process, random: &mut Random) -> Vec<(Duration, Gauges)> {
        let begin = self.clock.now();
        let elapsed = || self.clock.now().saturating_since(begin);
        let (mut samples, mut held_at) = (Vec::new(), Duration::from_secs(10));
        while elapsed() < self.time {
            sleep(SAMPLE_EVERY).await;
            samples.push((elapsed(), self.gauges(process)));
            if elapsed() > held_at {
                let lock = self.database.hold_write_lock();
                sleep(Duration::from_millis(300 + random.below(1_700) as u64)).await;
                samples.push((elapsed(), self.gauges(process)));
                drop(lock);
                held_at = elapsed() + Duration::from_secs(5 + random.below(20) as u64);
            }
            tell_progress(&samples);
        }
        samples
    }

    async fn load(&self, process: &Process, callers: &Callers) -> Vec<(Duration, Gauges)> {
        let mut random = Random(SEED);
        let seeds: Vec<u64> = (0..CALLERS).map(|_| random.below(usize::MAX) as u64).collect();
        let working: FuturesUnordered<_> = seeds
            .into_iter()
            .map(async |seed| {
                let mut random = Random(seed);
                loop {
                    callers.act(&mut random).await;
                }
            })
            .collect();
        // Whoever is still at it then leaves at that instant.
        tokio::select! {
            _ = working.count() => unreachable!("callers never end by themselves"),
            samples = self.watch(process, &mut random) => samples,
        }
    }

    /// So many requests at once as the gateway lets in: each gets a place, and one more gets none.
    async fn all_places_are_there(&self, process: &Process) {
        let sound = &self.providers.sound;
        sound.is_held.store(true, Ordering::Release);
        let request = last_chat("sound");
        let address = process.address.parse().unwrap();
        let mut clients = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            let mut client = RawClient::connect(address).await;
            client.send(&request).await;
            clients.push(client);
        }
        until("every place is taken", async || {
            (sound.held.load(Ordering::Acquire) >= MAX_IN_FLIGHT).then_some(())
        })
        .await;
        let mut one_more = RawClient::connect(address).await;
        one_more.send(&request).await;
        assert!(one_more.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 503"));
        clients.iter().for_each(|_| self.providers.upstreams.last().unwrap().signal());
        sound.is_held.store(false, Ordering::Release);
        for client in &mut clients {
            assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        }
    }

    /// No call, no hold, no socket but for what the pools of connections keep: one for each provider and worker.
    async fn is_idle_again(&self, process: &Process, before: Gauges) -> Gauges {
        for upstream in &self.providers.upstreams {
            until("no provider is called", async || (upstream.under_way() == 0).then_some(())).await;
            // A pool looks after its idle connections when it is asked for one.
            upstream.hang_up();
        }
        until("every hold is settled", async || {
            let open = "SELECT CAST(count(*) AS TEXT) AS value FROM local_holds WHERE finish_us IS NULL";
            (self.database.texts(open, open) == ["0"]).then_some(())
        })
        .await;
        let kept = (WORKERS * self.providers.upstreams.len()) as u64;
        until("nothing is open", async || {
            self.ask_every_provider(process).await;
            let now = self.gauges(process);
            let is_idle = now.sockets <= before.sockets + kept
                && now.files <= before.files + STORE_FILES
                && now.threads <= before.threads + STORE_THREADS;
            is_idle.then_some(now)
        })
        .await
    }

    /// Over connections of their own, which the workers take in turn.
    async fn ask_every_provider(&self, process: &Process) {
        for name in FAULTY.map(|(name, _)| name).into_iter().chain(["sound"]) {
            for _ in 0..WORKERS {
                let mut client = RawClient::connect(process.address.parse().unwrap()).await;
                client.send(&last_chat(name)).await;
                client.read_until("\r\n\r\n").await;
            }
        }
    }

    fn events(&self) -> Vec<String> {
        let query = "SELECT request_id AS value FROM completion_events";
        self.database.texts(query, query)
    }
}

/// A chat of the time after the load.
fn last_chat(provider: &str) -> Vec<u8> {
    let body = chat_body(json!({"model": format!("{provider}/m-{provider}"), "stream": false}));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         x-request-id: {LAST}\r\nx-max-wait-ms: 0\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

#[expect(clippy::disallowed_methods, reason = "how long to soak is the runner's to say")]
fn minutes() -> u64 {
    std::env::var(MINUTES_VARIABLE).map_or(SUITE_MINUTES, |minutes| minutes.parse().unwrap())
}

/// A line a minute.
fn tell_progress(samples: &[(Duration, Gauges)]) {
    let [.., (before, _), (at, gauges)] = samples else { return };
    if before.as_secs() / 60 != at.as_secs() / 60 {
        println!("{:3} min {gauges:?}", at.as_secs() / 60);
    }
}

/// Asks until there is an answer, with a pause between: another process is to give it.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(GONE_IN, asking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The growth of the memory in KiB a second, without the first sixth, in which caches and pools fill.
fn growth(samples: &[(Duration, Gauges)], time: Duration) -> Slope {
    let settled = samples.iter().filter(|(at, _)| *at >= time / 6);
    let points: Vec<_> = settled.map(|(at, gauges)| (*at, gauges.resident_kib as f64)).collect();
    slope(&medians(&points, time / 60))
}

/// What is kept: `after` the load over `before` it. What grows: its samples over its time.
fn check_memory(samples: &[(Duration, Gauges)], time: Duration, before: Gauges, after: Gauges) {
    let growth = growth(samples, time);
    println!(
        "memory, KiB an hour: {:.0} ({:.0} to {:.0})",
        growth.estimate * 3_600.0,
        growth.low * 3_600.0,
        growth.high * 3_600.0
    );
    let spooled = samples.iter().map(|(_, gauges)| gauges.spool_bytes).max().unwrap();
    println!("bytes in the spool, at most: {spooled}");
    assert!(spooled > 0, "the spool was never used");
    let most = samples.iter().map(|(_, gauges)| gauges.resident_kib).max().unwrap();
    println!("KiB resident, at most: {most}");
    assert!(most < RESIDENT_MAX_KIB, "{most} KiB are resident");
    if time >= TELLING {
        assert!(growth.low * 3_600.0 <= GROWTH_PER_HOUR_KIB, "the memory grows: {growth:?} KiB a second");
    }
    let kept = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(kept <= KEPT_MAX_KIB, "{kept} KiB are kept");
}

/// Every answered request has its event, no event is there twice, and nobody else's is.
fn check_events(events: Vec<String>, tally: &Tally) {
    let (lasts, events): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event == LAST);
    assert!(lasts.len() > MAX_IN_FLIGHT, "{}", lasts.len());
    let mut rest: BTreeSet<String> = events.iter().cloned().collect();
    assert_eq!(rest.len(), events.len(), "an event is there twice");
    let missing: Vec<_> = tally.answered.iter().filter(|number| !rest.remove(&id(**number))).collect();
    assert!(missing.is_empty(), "answered and not in the statistics: {missing:?}");
    // Those that left before their answer: of some, the gateway never saw a whole head.
    let left = tally.sent - tally.answered.len() as u64;
    let known = |event: &String| event.strip_prefix("soak-").and_then(|number| number.parse().ok());
    assert!(rest.iter().all(|event| known(event).is_some_and(|number: u64| number < tally.sent)), "{rest:?}");
    println!(
        "requests: {}, answered {}, left {left}, of which recorded {}",
        tally.sent,
        tally.answered.len(),
        rest.len()
    );
}

#[actix_web::test]
async fn an_hour_or_a_minute_of_load_and_faults_leaves_nothing() {
    let soak = Soak::new();
    let process = soak.serve().await;
    // Every worker has served once: they start after the program listens.
    soak.ask_every_provider(&process).await;
    let before = soak.gauges(&process);
    let callers = Callers::new(process.address.parse().unwrap());
    let samples = soak.load(&process, &callers).await;
    let tally = callers.tally.take();
    println!("{:?}\nstreams that ended with [DONE] and with an error: {:?}", tally.statuses, tally.ended);
    drop(callers);
    assert!(
        tally.problems.is_empty(),
        "{} problems: {:#?}",
        tally.problems.len(),
        &tally.problems[..tally.problems.len().min(20)]
    );
    // The places of those that left at the end come back first.
    soak.is_idle_again(&process, before).await;
    soak.all_places_are_there(&process).await;
    let after = soak.is_idle_again(&process, before).await;
    println!("before {before:?}\n after {after:?}");
    let log = process.terminate().await;
    assert!(!log.contains("this is a bug"), "{log}");
    assert!(log.contains("drained"), "{log}");
    check_events(soak.events(), &tally);
    check_memory(&samples, soak.time, before, after);
}
