//! What is spent of a limit stays spent: through restarts, `kill -9`, locked and failing stores. Real processes, since
//! the end of one is the point.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use awc::Client;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use freellmapi::db::open;
use freellmapi::domain::clock::Moment;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::durability::Process;
use crate::support::app::{KEY, chat_body, limit, provider, until};
use crate::support::fake_upstream::FakeUpstream;

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a configuration and a store, and an upstream that counts.
struct Setting {
    upstream: FakeUpstream,
    folder: TempDir,
    client: Client,
}

/// What a chat was answered.
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn retry_after(&self) -> u64 {
        self.body["retry_after"].as_u64().unwrap()
    }
}

impl Setting {
    /// With one provider, `up`, that has more lines of configuration.
    fn new(extra: &str) -> Self {
        let upstream = FakeUpstream::start([]);
        let setting = Self {
            folder: tempfile::tempdir().unwrap(),
            client: Client::builder().timeout(PATIENCE).finish(),
            upstream,
        };
        setting.configure(&provider("up", &setting.upstream, extra));
        setting
    }

    fn configure(&self, providers: &str) {
        let config = format!("[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{providers}");
        fs::write(self.folder.path().join("test.toml"), config).unwrap();
    }

    /// The provider `up` with a Bearer key from the environment, one model and one request a minute.
    fn configure_accounts(&self, accounts: &str) {
        self.configure(&format!(
            "[[provider]]\nid = \"up\"\nbase_url = \"{}\"\n{accounts}\n{}[[provider.model]]\nid = \"m\"\n",
            self.upstream.base_url(),
            limit("requests", 1, "60s")
        ));
    }

    fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear().env("FREELLMAPI_API_KEY", KEY);
        command.envs(environment.iter().copied()).args(["--config", "test.toml"]).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    async fn serve(&self) -> Process {
        self.serve_with(&[]).await
    }

    async fn serve_with(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = self.command(&[], environment);
        command.stdout(Stdio::null());
        Process::start(command).await
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments, &[]).output().unwrap()
    }

    /// What `ledger show --json` prints.
    fn shown(&self) -> Value {
        let output = self.run(&["ledger", "show", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A chat that waits so long for capacity; `None` when the server ends before it answers.
    async fn try_chat(&self, process: &Process, max_wait_ms: u32) -> Option<Answer> {
        let request = self.client.post(format!("http://{}/api/chat.php", process.address)).bearer_auth(KEY);
        let request = request.insert_header(("x-max-wait-ms", max_wait_ms.to_string()));
        let mut answer = request.send_body(chat_body(json!({"stream": false}))).await.ok()?;
        let body = answer.body().await.ok()?;
        Some(Answer {
            status: answer.status().as_u16(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    async fn chat(&self, process: &Process) -> Answer {
        self.try_chat(process, 0).await.unwrap()
    }

    fn store_url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("data/freellmapi.db").display())
    }

    fn database(&self) -> SqliteConnection {
        let file = self.folder.path().join("data/freellmapi.db");
        SqliteConnection::establish(file.to_str().unwrap()).unwrap()
    }

    /// The keys that requests came with, in their order.
    fn keys(&self) -> Vec<String> {
        let requests = self.upstream.requests();
        let key = |request: &crate::support::recorded_request::RecordedRequest| {
            request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned()
        };
        requests.iter().map(key).collect()
    }
}

#[actix_web::test]
async fn a_restart_keeps_what_is_spent() {
    let setting = Setting::new(&limit("requests", 2, "60s"));
    let process = setting.serve().await;
    for _ in 0..2 {
        assert_eq!(setting.chat(&process).await.status, 200);
    }
    process.terminate().await;
    // Who is told to end writes the ends of all attempts.
    let holds = open(&setting.store_url()).unwrap().holds_after(0, 10).unwrap();
    assert_eq!(
        holds.iter().filter_map(|hold| hold.finish).map(|finish| finish.is_aborted).collect::<Vec<_>>(),
        [false, false]
    );
    let process = setting.serve().await;
    let refused = setting.chat(&process).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!((30..=61).contains(&refused.retry_after()), "{}", refused.body);
    assert_eq!(setting.upstream.request_count(), 2);

    process.kill().await;
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 429);
    assert_eq!(setting.upstream.request_count(), 2);
    process.terminate().await;
}

/// Rounds of kills in the suite; `scripts/judge` sets another number.
fn kills() -> u64 {
    const IN_THE_SUITE: u64 = 20;
    #[expect(clippy::disallowed_methods, reason = "a switch for who runs the tests")]
    let wanted = std::env::var("FREELLMAPI_KILLS");
    wanted.map_or(IN_THE_SUITE, |wanted| wanted.parse().expect("FREELLMAPI_KILLS is a number of rounds"))
}

/// The one test whose subject is the instant of death, which is why it goes by the clock: a scripted pause a round.
#[actix_web::test]
async fn whenever_it_is_killed_no_window_ever_sees_more_than_the_limit() {
    const MAX: usize = 100;
    const WINDOW: Duration = Duration::from_secs(1);
    const CLIENTS: usize = 8;

    let setting = Setting::new(&limit("requests", MAX as u64, "1s"));
    for round in 0..kills() {
        let process = setting.serve().await;
        let client = async || while setting.try_chat(&process, 1_000).await.is_some() {};
        let clients = (0..CLIENTS).map(|_| client()).collect::<futures_util::stream::FuturesUnordered<_>>();
        let life = Duration::from_millis(20 + (round * 7_919) % 480);
        let _killed_while_they_chat =
            timeout(life, futures_util::StreamExt::collect::<Vec<()>>(clients)).await;
        process.kill().await;
    }

    let arrivals: Vec<Moment> =
        setting.upstream.requests().iter().map(|request| request.received_at).collect();
    for (index, first) in arrivals.iter().enumerate() {
        let within = arrivals[index..].iter().take_while(|later| **later < *first + WINDOW).count();
        assert!(within <= MAX, "{within} within one second, from the {index}th of {}", arrivals.len());
    }
    assert!(arrivals.len() >= 2 * MAX, "{} requests prove little", arrivals.len());
    eprintln!("{} kills, {} requests", kills(), arrivals.len());
}

#[actix_web::test]
async fn nothing_is_sent_that_cannot_be_written_down() {
    let setting = Setting::new(&limit("requests", 3, "60s"));
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 200);

    // A full disk, as far as the statement can tell.
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON local_holds \
                  BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    setting.database().batch_execute(refuse).unwrap();
    let refused = setting.chat(&process).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!((1..=5).contains(&refused.retry_after()), "{}", refused.body);
    assert_eq!(setting.upstream.request_count(), 1);

    // One who waits is served once it can be written again, and the refused ones have cost nothing.
    let (waited, ()) = tokio::join!(setting.try_chat(&process, 20_000), async {
        until("it is tried", async || process.logged("the ledger cannot be written").then_some(())).await;
        setting.database().batch_execute("DROP TRIGGER refuse").unwrap();
    });
    assert_eq!(waited.unwrap().status, 200);
    assert_eq!(setting.chat(&process).await.status, 200);
    assert_eq!(setting.chat(&process).await.status, 429);
    process.terminate().await;
}

#[actix_web::test]
async fn a_stranger_who_locks_the_store_delays_and_costs_nothing() {
    let setting = Setting::new(&limit("requests", 2, "60s"));
    let process = setting.serve().await;
    let mut stranger = setting.database();
    stranger.batch_execute("BEGIN IMMEDIATE").unwrap();
    let refused = setting.chat(&process).await;
    assert_eq!(refused.status, 503, "{}", refused.body);

    // Two who leave while they wait for the lock.
    let leaving = async || timeout(Duration::from_millis(300), setting.try_chat(&process, 20_000)).await;
    let (first, second) = tokio::join!(leaving(), leaving());
    assert!(first.is_err() && second.is_err());
    stranger.batch_execute("ROLLBACK").unwrap();
    for _ in 0..2 {
        let is_served = async || (setting.chat(&process).await.status == 200).then_some(());
        until("what they held is back", is_served).await;
    }
    assert_eq!(setting.chat(&process).await.status, 429);
    assert_eq!(setting.upstream.request_count(), 2);
    process.terminate().await;
}

#[actix_web::test]
async fn an_account_is_known_whatever_its_place_or_its_key() {
    let setting = Setting::new("");
    setting.configure_accounts("keys_env = \"UP_KEYS\"");
    let process = setting.serve_with(&[("UP_KEYS", "key-one")]).await;
    assert_eq!(setting.chat(&process).await.status, 200);
    process.terminate().await;
    // A second key comes before it; like every key that is new to the ledger it is charged with what the statistics
    // know of the provider.
    let process = setting.serve_with(&[("UP_KEYS", "key-two,key-one")]).await;
    assert_eq!(setting.chat(&process).await.status, 429);
    let shown = setting.command(&["ledger", "show"], &[("UP_KEYS", "key-two,key-one")]).output().unwrap();
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("key-one"));
    process.terminate().await;
    assert_eq!(setting.keys(), ["key-one"]);

    let setting = Setting::new("");
    let named = "[[provider.account]]\nname = \"team-a\"\nkeys_env = [\"UP_A\"]\n\
                 [[provider.account]]\nname = \"team-b\"\nkeys_env = [\"UP_B\"]\n";
    setting.configure_accounts(named);
    let process = setting.serve_with(&[("UP_A", "old-a"), ("UP_B", "b")]).await;
    assert_eq!(setting.chat(&process).await.status, 200);
    process.terminate().await;
    let process = setting.serve_with(&[("UP_A", "new-a"), ("UP_B", "b")]).await;
    assert_eq!(setting.chat(&process).await.status, 200);
    assert_eq!(setting.chat(&process).await.status, 429);
    assert_eq!(setting.keys(), ["old-a", "b"]);
    process.terminate().await;
}

#[actix_web::test]
async fn a_key_that_moves_in_the_list_keeps_what_it_has_spent() {
    let setting = Setting::new("");
    setting.configure_accounts("keys_env = \"UP_KEYS\"");
    let process = setting.serve_with(&[("UP_KEYS", "key-one,key-two")]).await;
    assert_eq!(setting.chat(&process).await.status, 200);
    process.terminate().await;
    let process = setting.serve_with(&[("UP_KEYS", "key-two,key-one")]).await;
    assert_eq!(setting.chat(&process).await.status, 200);
    assert_eq!(setting.chat(&process).await.status, 429);
    assert_eq!(setting.keys(), ["key-one", "key-two"]);
    process.terminate().await;
}

#[actix_web::test]
async fn changed_limits_hold_what_was_spent_under_the_old_ones() {
    let setting = Setting::new("");
    let with = |limits: &str| setting.configure(&provider("up", &setting.upstream, limits));
    let process = setting.serve().await;
    for _ in 0..2 {
        assert_eq!(setting.chat(&process).await.status, 200);
    }
    process.terminate().await;

    // The first limit of a provider that had none: its past is in the statistics.
    with(&limit("requests", 3, "60s"));
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 200);
    assert_eq!(setting.chat(&process).await.status, 429);
    process.terminate().await;

    // A longer window knows no less; a larger maximum gives what it has more.
    with(&limit("requests", 4, "1h"));
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 200);
    assert_eq!(setting.chat(&process).await.status, 429);
    process.terminate().await;

    // What tokens went before nobody knows: the limit is full for one window.
    with(&(limit("requests", 100, "1h") + &limit("tokens", 1_000_000, "60s")));
    let process = setting.serve().await;
    let refused = setting.chat(&process).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!((30..=66).contains(&refused.retry_after()), "{}", refused.body);
    assert_eq!(setting.upstream.request_count(), 4);
    process.terminate().await;
}

#[actix_web::test]
async fn a_fresh_store_blocks_nothing_and_shows_what_is_held() {
    let setting = Setting::new(&limit("requests", 2, "60s"));
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 200);
    let shown = until("it is written", async || {
        let shown = setting.shown();
        (shown["limits"][0]["held"] == 1).then_some(shown)
    })
    .await;
    let expected = json!([{
        "provider": "up", "account": "default", "scope": "account", "unit": "requests", "window": "60s",
        "window_ms": 60_000, "held": 1, "leased": 0, "max": 2, "free_at": null,
    }]);
    assert_eq!((&shown["limits"], &shown["cooldowns"]), (&expected, &json!([])));
    assert_eq!(setting.chat(&process).await.status, 200);
    let full = setting.shown();
    assert!(full["limits"][0]["free_at"].as_str().is_some_and(|instant| instant.ends_with('Z')), "{full}");
    let table = String::from_utf8(setting.run(&["ledger", "show"]).stdout).unwrap();
    assert!(table.contains("requests") && table.contains("60 s"), "{table}");
    process.terminate().await;
}

#[actix_web::test]
async fn a_block_is_honoured_within_a_second_and_by_the_next_process() {
    let setting = Setting::new(&limit("requests", 1_000, "60s"));
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 200);
    let unknown = setting.run(&["ledger", "block", "--provider", "nobody"]);
    assert_eq!(unknown.status.code(), Some(64));
    let blocked = setting.run(&["ledger", "block", "--provider", "up"]);
    assert!(blocked.status.success(), "{}", String::from_utf8_lossy(&blocked.stderr));
    // The promise, and as much again for a test machine that is busy with other tests.
    sleep(Duration::from_secs(2)).await;
    let refused = setting.chat(&process).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!((50..=66).contains(&refused.retry_after()), "{}", refused.body);
    process.terminate().await;
    let process = setting.serve().await;
    assert_eq!(setting.chat(&process).await.status, 429);
    assert_eq!(setting.shown()["limits"][0]["held"], 1_001);
    process.terminate().await;
}
