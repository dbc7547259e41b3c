//! Several replicas on one Postgres: no upstream ever sees more than its limits, whichever of them is asked, and what
//! goes wrong with one of them, or with the database, costs no more than it must.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::sleep;
use awc::Client;
use freellmapi::app::{self, Running};
use freellmapi::config::{Sources, load};
use freellmapi::domain::clock::{Clock, Moment, SharedClock, SystemClock};
use freellmapi::ledger::shared::SharedLedgerStatus;
use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::json;
use tempfile::TempDir;

mod commands;
mod cooldowns;

use crate::durability::Process;
use crate::support::app::{ADMIN_KEY, KEY, chat_body, limit, provider, until};
use crate::support::database::TestDatabase;
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::Reply;

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a request waits at most, in milliseconds, where nothing comes back that soon: long enough for a ledger on a busy
/// machine, which has but a moment for who does not wait.
const LEDGERS_TIME: u32 = 10_000;

/// Some gateways on one database, in front of one upstream.
pub(crate) struct Fleet {
    pub(crate) database: TestDatabase,
    pub(crate) upstream: FakeUpstream,
    pub(crate) folder: TempDir,
    pub(crate) replicas: Vec<Running>,
    client: Client,
}

/// No test asks for more at a time.
const AT_A_TIME: usize = 64;

/// What all of them come to, made side by side.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    iter(futures).buffered(AT_A_TIME).collect().await
}

/// What a chat was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    retry_after: Option<u64>,
    pub(crate) text: String,
}

impl Fleet {
    /// So many replicas, with one provider `up` that has more lines of configuration.
    pub(crate) async fn start(replicas: usize, extra: &str) -> Self {
        Self::start_with(replicas, FakeUpstream::start([]), extra, "").await
    }

    /// `more` is more configuration behind the provider.
    pub(crate) async fn start_with(replicas: usize, upstream: FakeUpstream, extra: &str, more: &str) -> Self {
        let providers = format!("{}{more}", provider("up", &upstream, extra));
        Self::start_configured(replicas, upstream, &providers).await
    }

    async fn start_configured(replicas: usize, upstream: FakeUpstream, providers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[stats]\nspool = \"{}\"\n{providers}",
            folder.path().join("spool").display(),
        );
        fs::write(folder.path().join("test.toml"), config).unwrap();
        let client = Client::builder().timeout(PATIENCE).finish();
        let database = TestDatabase::postgres();
        let mut fleet = Self { database, upstream, folder, replicas: Vec::new(), client };
        for _ in 0..replicas {
            let replica = fleet.replica().await;
            fleet.replicas.push(replica);
        }
        fleet
    }

    pub(crate) fn environment(&self) -> HashMap<String, String> {
        HashMap::from([
            ("DATABASE_URL".to_owned(), self.database.url()),
            ("FREELLMAPI_MASTER_KEY".to_owned(), "5a".repeat(32)),
            ("FREELLMAPI_API_KEY".to_owned(), KEY.to_owned()),
            ("FREELLMAPI_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()),
            ("UP_KEY".to_owned(), "the-old-key".to_owned()),
        ])
    }

    /// A replica that is a process of its own, and can be killed.
    pub(crate) async fn process(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear().envs(self.environment());
        command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(command).await
    }

    async fn replica(&self) -> Running {
        self.replica_in(self.environment(), Arc::new(SystemClock::start())).await
    }

    /// One more replica, by that clock; the caller's to end.
    pub(crate) async fn replica_by(&self, clock: SharedClock) -> Running {
        self.replica_in(self.environment(), clock).await
    }

    async fn replica_in(&self, environment: HashMap<String, String>, clock: SharedClock) -> Running {
        let file = Some(self.folder.path().join("test.toml"));
        let settings = load(&Sources { file, environment }).unwrap();
        app::start(settings, clock, false).await.unwrap()
    }

    /// A chat with the replica of that number, which waits so long for capacity.
    pub(crate) async fn chat(&self, replica: usize, max_wait_ms: u32) -> Answer {
        self.chat_with(&self.replicas[replica].address.to_string(), "up/m-up", max_wait_ms).await.unwrap()
    }

    /// The same with a model, at any address; `None` when the server ends before it answers.
    pub(crate) async fn chat_with(&self, address: &str, model: &str, max_wait_ms: u32) -> Option<Answer> {
        let url = format!("http://{address}/v1/chat/completions");
        let request = self.client.post(url).bearer_auth(KEY);
        let request = request.insert_header(("x-max-wait-ms", max_wait_ms.to_string()));
        let mut answer = request.send_body(chat_body(json!({"model": model, "stream": false}))).await.ok()?;
        let body = answer.body().await.ok()?;
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        Some(Answer {
            status: answer.status().as_u16(),
            retry_after: retry_after.and_then(|seconds| seconds.parse().ok()),
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// So many clients, spread over the replicas, who ask again as soon as they are answered, for that long.
    async fn burst(&self, clients: usize, length: Duration) -> Vec<u16> {
        let clock = SystemClock::start();
        let end = clock.now() + length;
        let client = async |number: usize| {
            let mut statuses = Vec::new();
            while clock.now() < end {
                let Answer { status, text, .. } = self.chat(number % self.replicas.len(), 5_000).await;
                assert!([200, 429, 503].contains(&status), "{status}: {text}");
                statuses.push(status);
            }
            statuses
        };
        all((0..clients).map(client)).await.concat()
    }

    /// When requests arrived at the upstream, by its own clock.
    pub(crate) fn arrivals(&self) -> Vec<Moment> {
        let mut arrivals: Vec<Moment> =
            self.upstream.requests().iter().map(|request| request.received_at).collect();
        arrivals.sort();
        arrivals
    }

    pub(crate) fn status(&self, replica: usize) -> SharedLedgerStatus {
        self.replicas[replica].shared_ledger.as_ref().unwrap().snapshot()
    }

    /// Ends all replicas; nothing may be left of what they were told to hold but what a window keeps.
    pub(crate) async fn finish(self) {
        let Self { replicas, database, .. } = self;
        all(replicas.into_iter().map(Running::drain)).await;
        let open = database.texts("", "SELECT attempt_id::text AS value FROM ledger_holds");
        assert!(open.is_empty(), "attempts are open that nobody makes any more: {open:?}");
    }
}

/// Fails where more than `max` arrivals lie within any span of `window`.
pub(crate) fn never_over(arrivals: &[Moment], max: usize, window: Duration) {
    for (first, last) in arrivals.iter().zip(arrivals.iter().skip(max)) {
        let apart = last.saturating_since(*first);
        assert!(apart >= window, "{} requests within {apart:?}", max + 1);
    }
}

#[actix_web::test]
async fn three_replicas_never_exceed_a_limit_together_and_use_what_there_is() {
    const MAX: usize = 10;
    let fleet = Fleet::start(3, &limit("requests", MAX as u64, "1s")).await;
    fleet.burst(50, Duration::from_secs(6)).await;
    let arrivals = fleet.arrivals();
    never_over(&arrivals, MAX, Duration::from_secs(1));
    let taken = arrivals.last().unwrap().saturating_since(arrivals[0]);
    let possible = MAX * (1 + taken.as_millis() as usize / 1_000);
    // A machine that is busy with other tests is slow to ask; what is measured on an idle one is far above.
    assert!(arrivals.len() * 2 >= possible, "{} of {possible} used in {taken:?}", arrivals.len());
    fleet.finish().await;
}

#[actix_web::test]
async fn calls_in_parallel_are_counted_over_all_replicas() {
    let upstream = FakeUpstream::start_with([], Reply::text("In time.").after_signal());
    let parallel = limit("parallel", 2, "");
    let minute = limit("tokens", 1_000_000, "60s");
    let fleet = Fleet::start_with(3, upstream, &format!("{parallel}{minute}"), "").await;
    let watch = async {
        for answered in 0..6 {
            let open = (6 - answered).min(2);
            fleet.upstream.wait_for_requests(answered + open).await;
            sleep(Duration::from_millis(150)).await;
            assert_eq!(fleet.upstream.request_count(), answered + open, "more than two at once");
            fleet.upstream.signal();
        }
    };
    let asked = all((0..6).map(|number| fleet.chat(number % 3, 20_000)));
    let (answers, ()) = tokio::join!(asked, watch);
    assert!(answers.iter().all(|answer| answer.status == 200));
    fleet.finish().await;
}

#[actix_web::test]
async fn a_route_without_limits_touches_no_ledger() {
    let fleet = Fleet::start(1, "").await;
    for _ in 0..5 {
        assert_eq!(fleet.chat(0, 0).await.status, 200);
    }
    assert_eq!(fleet.status(0), SharedLedgerStatus::default());
    fleet.finish().await;
}

#[actix_web::test]
async fn refusals_cost_no_query_each() {
    let fleet = Fleet::start(2, &limit("requests", 1, "60s")).await;
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 200);
    for number in 0..100 {
        let answer = fleet.chat(number % 2, LEDGERS_TIME).await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert!(answer.retry_after.is_some_and(|seconds| (50..=61).contains(&seconds)));
    }
    assert_eq!(fleet.upstream.request_count(), 1);
    let calls = (0..2).map(|replica| fleet.status(replica).counters.calls).sum::<u64>();
    // The introduction, the claim and its news; and what the other replica asked once.
    assert!(calls <= 10, "{calls} calls for 100 refusals");
    fleet.finish().await;
}

#[actix_web::test]
async fn while_the_ledger_is_away_limited_providers_are_unavailable_and_others_serve() {
    let free = FakeUpstream::start([]);
    let up = FakeUpstream::start([]);
    let fleet = Fleet::start_with(2, up, &limit("requests", 100, "60s"), &provider("free", &free, "")).await;
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 200);
    fleet.database.take_away();
    let address = fleet.replicas[0].address.to_string();
    let refused = fleet.chat(0, 300).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(
        refused.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)),
        "{:?}",
        refused.retry_after
    );
    assert_eq!(fleet.chat_with(&address, "free/m-free", 0).await.unwrap().status, 200);
    assert_eq!(fleet.upstream.request_count(), 1, "something was sent that nobody wrote down");
    fleet.database.bring_back();
    until("recovery", async || (fleet.chat(0, 1_000).await.status == 200).then_some(())).await;
    fleet.finish().await;
}

#[actix_web::test]
async fn connections_that_are_cut_in_a_burst_let_nothing_through() {
    const MAX: usize = 20;
    let fleet = Fleet::start(3, &limit("requests", MAX as u64, "1s")).await;
    let cut = async {
        for _ in 0..6 {
            sleep(Duration::from_millis(400)).await;
            fleet.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'freellmapi-ledger' AND datname = current_database()",
            );
        }
    };
    let (statuses, ()) = tokio::join!(fleet.burst(24, Duration::from_secs(3)), cut);
    never_over(&fleet.arrivals(), MAX, Duration::from_secs(1));
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(served > MAX, "only {served} were served");
    until("it serves again", async || (fleet.chat(0, 1_000).await.status == 200).then_some(())).await;
    fleet.finish().await;
}

#[actix_web::test]
async fn an_upstreams_refusal_is_known_to_all_replicas_and_one_probe_ends_it() {
    let script = [Reply::rate_limited(2), Reply::text("Well again.").after_signal()];
    let fleet = Fleet::start_with(3, FakeUpstream::start(script), &limit("requests", 100, "60s"), "").await;
    assert_eq!(fleet.chat(0, 1_000).await.status, 429);
    until("the cooldown is written", async || {
        let rows = fleet.database.texts("", "SELECT reason AS value FROM ledger_cooldowns");
        (!rows.is_empty()).then_some(())
    })
    .await;
    for replica in 0..3 {
        for _ in 0..5 {
            assert_eq!(fleet.chat(replica, 0).await.status, 429);
        }
        assert!(fleet.status(replica).counters.claims_asked <= 2, "each refusal costs a query");
    }
    assert_eq!(fleet.upstream.request_count(), 1);
    let probe = async {
        fleet.upstream.wait_for_requests(2).await;
        sleep(Duration::from_millis(700)).await;
        assert_eq!(fleet.upstream.request_count(), 2, "more than one probe");
        fleet.upstream.signal();
    };
    let asked = all((0..9).map(|number| fleet.chat(number % 3, 15_000)));
    let (answers, ()) = tokio::join!(asked, probe);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let rows = fleet.database.texts("", "SELECT reason AS value FROM ledger_cooldowns");
    assert!(rows.is_empty(), "{rows:?}");
    fleet.finish().await;
}

#[actix_web::test]
async fn a_replica_that_is_drained_takes_nothing_along() {
    const MAX: usize = 10;
    let mut fleet = Fleet::start(3, &limit("requests", MAX as u64, "1s")).await;
    let leaving = fleet.replicas.pop().unwrap();
    let address = leaving.address.to_string();
    let leave = async {
        let asked = all((0..10).map(|_| fleet.chat_with(&address, "up/m-up", 1_000)));
        let drained = async {
            sleep(Duration::from_millis(300)).await;
            leaving.drain().await;
        };
        tokio::join!(asked, drained);
    };
    let (statuses, ()) = tokio::join!(fleet.burst(20, Duration::from_secs(3)), leave);
    never_over(&fleet.arrivals(), MAX, Duration::from_secs(1));
    assert!(statuses.iter().filter(|status| **status == 200).count() > MAX);
    fleet.finish().await;
}

#[actix_web::test]
async fn a_killed_replica_leaves_nothing_behind_but_what_its_caps_end() {
    const MAX: usize = 10;
    let times = "connect_timeout = \"200ms\"\nfirst_token_timeout = \"1s\"\nstall_timeout = \"1s\"\ntotal_timeout = \"2s\"\n";
    let fleet = Fleet::start(2, &format!("{times}{}", limit("requests", MAX as u64, "1s"))).await;
    let process = fleet.process().await;
    let address = process.address.clone();
    let victim = all((0..20).map(|_| fleet.chat_with(&address, "up/m-up", 5_000)));
    let kill = async {
        sleep(Duration::from_millis(1_200)).await;
        process.kill().await;
    };
    tokio::join!(fleet.burst(20, Duration::from_secs(3)), victim, kill);
    never_over(&fleet.arrivals(), MAX, Duration::from_secs(1));
    // Three connects to send in, two seconds to answer, five to count, and the window.
    let beyond =
        "SELECT attempt_id::text AS value FROM ledger_holds WHERE free_at_us > ledger_now() + 8700000";
    assert_eq!(fleet.database.texts("", beyond), [""; 0]);
    until("what it held is free", async || {
        sleep(Duration::from_millis(200)).await;
        let held = "SELECT attempt_id::text AS value FROM ledger_holds WHERE free_at_us > ledger_now()";
        fleet.database.texts("", held).is_empty().then_some(())
    })
    .await;
    never_over(&fleet.arrivals(), MAX, Duration::from_secs(1));
    for replica in fleet.replicas {
        replica.drain().await;
    }
}
