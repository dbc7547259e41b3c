//! PostgreSQL away under load, for ten seconds in the suite and for thirty by `scripts/soak outage`; and replicas that
//! start together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use awc::Client;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tempfile::TempDir;

use crate::durability::Process;
use crate::support::app::{KEY, chat_body, provider};
use crate::support::database::TestDatabase;
use crate::support::fake_upstream::FakeUpstream;
use crate::support::proxy::{Proxy, Way};

/// Says for how many seconds; without it the outage is the suite's.
const SECONDS_VARIABLE: &str = "FREELLMAPI_OUTAGE_SECONDS";
const SUITE_SECONDS: u64 = 10;

/// How long the load goes on before and after.
const AROUND: Duration = Duration::from_secs(2);

/// How many callers ask, one chat after the other, with a pause that leaves the machine to others.
const CALLERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// How long an answer or a condition may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

async fn serve(folder: &TempDir, url: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
    command.current_dir(folder.path()).env_clear();
    command.env("DATABASE_URL", url).env("FREELLMAPI_API_KEY", KEY);
    command.env("FREELLMAPI_MASTER_KEY", "5a".repeat(32));
    command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start(command).await
}

fn folder(upstream: &FakeUpstream) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config =
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n".to_owned() + &provider("up", upstream, "");
    fs::write(folder.path().join("test.toml"), config).unwrap();
    folder
}

#[expect(clippy::disallowed_methods, reason = "how long it is away is the runner's to say")]
fn seconds() -> u64 {
    std::env::var(SECONDS_VARIABLE).map_or(SUITE_SECONDS, |seconds| seconds.parse().unwrap())
}

/// Who asks, and what was asked so far.
struct Callers {
    client: Client,
    address: String,
    asked: RefCell<BTreeSet<String>>,
    is_over: Cell<bool>,
}

impl Callers {
    fn new(address: &str) -> Self {
        let client = Client::builder().timeout(PATIENCE).finish();
        Self { client, address: address.to_owned(), asked: RefCell::default(), is_over: Cell::new(false) }
    }

    async fn chat(&self, id: &str, streamed: bool) {
        let request = self.client.post(format!("http://{}/api/chat.php", self.address)).bearer_auth(KEY);
        let request = request.insert_header(("x-request-id", id));
        let mut answer = request.send_body(chat_body(json!({"stream": streamed}))).await.unwrap();
        assert_eq!(answer.status(), 200, "{id}");
        let body = answer.body().await.unwrap();
        assert!(!streamed || body.ends_with(b"data: [DONE]\n\n"), "{id}: {body:?}");
        self.asked.borrow_mut().insert(id.to_owned());
    }

    /// Everybody asks until it is over.
    async fn ask(&self) {
        let callers: FuturesUnordered<_> = (0..CALLERS)
            .map(async |caller| {
                for number in 0_u64.. {
                    if self.is_over.get() {
                        return;
                    }
                    self.chat(&format!("caller-{caller}-{number:06}"), number % 2 == 0).await;
                    sleep(PAUSE).await;
                }
            })
            .collect();
        callers.collect::<Vec<()>>().await;
    }

    async fn ready(&self) -> u16 {
        let request = self.client.get(format!("http://{}/readyz", self.address));
        request.send().await.unwrap().status().as_u16()
    }
}

fn stored(database: &TestDatabase) -> BTreeSet<String> {
    let query = "SELECT request_id AS value FROM completion_events";
    let rows = database.texts(query, query);
    let set: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(set.len(), rows.len(), "an event is there twice");
    set
}

async fn all_stored(database: &TestDatabase, expected: &BTreeSet<String>) {
    let looking = async {
        while stored(database) != *expected {
            sleep(PAUSE).await;
        }
    };
    let missing = || expected.difference(&stored(database)).count();
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{} events are missing", missing()));
}

/// One half of the time nothing comes through, the other half connections are refused.
#[actix_web::test]
async fn postgres_away_under_load_costs_no_chat_and_no_event() {
    let upstream = FakeUpstream::start([]);
    let (folder, database) = (folder(&upstream), TestDatabase::postgres());
    let url = database.url();
    let server = url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap().0;
    let proxy = Proxy::start(server.to_owned());
    let process = serve(&folder, &url.replace(server, &proxy.address.to_string())).await;
    let callers = Callers::new(&process.address);
    let half = Duration::from_secs(seconds()) / 2;
    let outage = async {
        sleep(AROUND).await;
        let before = callers.asked.borrow().len();
        proxy.set(Way::Silent);
        sleep(half).await;
        proxy.set(Way::Closed);
        process.has_logged("statistics could not be written to the store").await;
        sleep(half).await;
        assert_eq!(callers.ready().await, 200);
        let (during, written) = (callers.asked.borrow().len() - before, stored(&database).len());
        println!("answered before {before} and while it was away {during}; written by then {written}");
        assert!(during > 0 && written < before + during);
        proxy.set(Way::Open);
        sleep(AROUND).await;
        callers.is_over.set(true);
    };
    tokio::join!(callers.ask(), outage);
    let asked = callers.asked.take();
    all_stored(&database, &asked).await;
    println!("requests {}, events {}", asked.len(), stored(&database).len());
    let log = process.terminate().await;
    assert!(log.contains("the store takes statistics again"), "{log}");
    assert!(!log.contains("events_lost") && !log.contains("this is a bug"), "{log}");
    assert_eq!(stored(&database), asked);
}

#[actix_web::test]
async fn three_replicas_that_start_on_an_empty_database_migrate_it_once() {
    let upstream = FakeUpstream::start([]);
    let (folder, database) = (folder(&upstream), TestDatabase::empty_postgres());
    let url = database.url();
    let (one, two, three) = tokio::join!(serve(&folder, &url), serve(&folder, &url), serve(&folder, &url));
    for (number, process) in [one, two, three].into_iter().enumerate() {
        Callers::new(&process.address).chat(&format!("of-replica-{number}"), false).await;
        let log = process.terminate().await;
        assert!(!log.contains("ERROR"), "{log}");
    }
    let applied = "SELECT version::text AS value FROM __diesel_schema_migrations";
    let expected = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres")).unwrap().count();
    assert_eq!(database.texts(applied, applied).len(), expected);
    let tenants = "SELECT name AS value FROM tenants";
    assert_eq!(database.texts(tenants, tenants), ["default"]);
    assert_eq!(stored(&database).len(), 3);
}
