//! No answered request is missing in the statistics: the store away, the process told to end or killed, the disk
//! full. Real processes where the end of one is the point.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use awc::Client;
use freellmapi::app::{self, Running};
use freellmapi::config::{Sources, load};
use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use freellmapi::stats::{ObserveStats, StatsSnapshot};
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;

use crate::support::app::{KEY, chat_body, provider};
use crate::support::database::TestDatabase;
use crate::support::fake_upstream::FakeUpstream;

/// What `kill -9` may cost, and as much again for a test machine that is busy with other tests.
const LAST_SECOND: Duration = Duration::from_secs(2);

/// How long an answer or a condition may take before a test fails, and how often a condition is looked at.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// What a gateway needs: a database that can be taken away, an upstream without limits, a folder.
struct Setting {
    database: TestDatabase,
    upstream: FakeUpstream,
    folder: TempDir,
    client: Client,
    clock: SystemClock,
}

impl Setting {
    /// `stats` are more keys of the section.
    fn new(stats: &str) -> Self {
        let upstream = FakeUpstream::start([]);
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[stats]\n{stats}{}",
            provider("up", &upstream, "")
        );
        fs::write(folder.path().join("test.toml"), config).unwrap();
        let client = Client::builder().timeout(PATIENCE).finish();
        Self { database: TestDatabase::postgres(), upstream, folder, client, clock: SystemClock::start() }
    }

    fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("DATABASE_URL", self.database.url()),
            ("FREELLMAPI_MASTER_KEY", "5a".repeat(32)),
            ("FREELLMAPI_API_KEY", KEY.to_owned()),
        ]
    }

    /// Starts the program and waits until it listens.
    async fn serve(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear().envs(self.environment());
        command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(command).await
    }

    /// Starts the gateway inside the test, where it can be observed.
    async fn start(&self) -> Running {
        let environment = self.environment().map(|(name, value)| (name.to_owned(), value));
        let file = Some(self.folder.path().join("test.toml"));
        let sources = Sources { file, environment: HashMap::from(environment) };
        let settings = load(&sources).unwrap();
        app::start(settings, Arc::new(SystemClock::start()), false).await.unwrap()
    }

    /// A chat that is answered; its event carries `id`.
    async fn chat(&self, address: &str, id: &str) {
        let request = self.client.post(format!("http://{address}/api/chat.php")).bearer_auth(KEY);
        let request = request.insert_header(("x-request-id", id));
        let mut answer = request.send_body(chat_body(json!({"stream": false}))).await.unwrap();
        assert_eq!(answer.status(), 200, "{id}");
        answer.body().await.unwrap();
    }

    /// So many chats, one after the other; the ids of their events.
    async fn chats(&self, address: &str, name: &str, count: usize) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for number in 0..count {
            let id = format!("{name}-{number:04}");
            self.chat(address, &id).await;
            ids.insert(id);
        }
        ids
    }

    /// The events in the store; a set, which their ids must be.
    fn stored(&self) -> BTreeSet<String> {
        let query = "SELECT request_id AS value FROM completion_events";
        let rows = self.database.texts(query, query);
        let set: BTreeSet<String> = rows.iter().cloned().collect();
        assert_eq!(set.len(), rows.len(), "an event is there twice");
        set
    }

    async fn all_stored(&self, expected: &BTreeSet<String>) {
        until("every event is in the store", async || self.stored().is_superset(expected).then_some(()))
            .await;
        assert_eq!(self.stored(), *expected);
    }

    /// The lines of all segments of the spool.
    fn spooled(&self) -> usize {
        lines_below(&self.folder.path().join("data/spool"))
    }

    async fn all_spooled(&self, count: usize) {
        until("every event is in the spool", async || (self.spooled() == count).then_some(())).await;
    }

    /// Until what `kill -9` may cost lies after everything that was done before.
    async fn a_second_passes(&self) {
        let end = self.clock.now() + LAST_SECOND;
        until("a second passes", async || (self.clock.now() > end).then_some(())).await;
    }

    async fn ask(&self, address: &str, path: &str) -> u16 {
        let request = self.client.get(format!("http://{address}{path}")).bearer_auth(KEY);
        request.send().await.unwrap().status().as_u16()
    }
}

fn lines_below(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| match path.extension() {
            _ if path.is_dir() => lines_below(&path),
            // A segment that has just been replayed is gone.
            Some(extension) if extension == "events" => {
                fs::read_to_string(&path).map_or(0, |content| content.lines().count())
            }
            _ => 0,
        })
        .sum()
}

/// The program under test; killed when a test fails.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

impl Process {
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        // Ends with the process, whose pipe it reads.
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                kept.lock().push_str(&line);
                line.clear();
            }
        });
        let mut process = Self { child, address: String::new(), log };
        process.address = until("it listens", async || {
            let ended = process.child.try_wait().unwrap();
            let log = process.log.lock();
            assert_eq!(ended, None, "it has ended: {log}");
            let (_, address) = log.split_once("listening on http://")?;
            Some(address.split_once('\n')?.0.to_owned())
        })
        .await;
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn logged(&self, text: &str) -> bool {
        self.log.lock().contains(text)
    }

    pub(crate) async fn has_logged(&self, text: &str) {
        until(text, async || self.logged(text).then_some(())).await;
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        until("it ends", async || self.child.try_wait().unwrap()).await
    }

    pub(crate) async fn kill(mut self) {
        self.signal("-KILL");
        self.ended().await;
    }

    /// SIGTERM; it must end cleanly. Answers the log.
    pub(crate) async fn terminate(mut self) -> String {
        self.signal("-TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log.lock());
        self.log.lock().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer. What is asked here is a database or another process, so that asking without a
/// pause would take the processor from those who are to answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn observe(running: &Running) -> StatsSnapshot {
    running.stats.send(ObserveStats).await.unwrap()
}

#[actix_web::test]
async fn an_outage_of_the_store_costs_no_event_and_no_chat() {
    let setting = Setting::new("");
    let process = setting.serve().await;
    let mut expected = setting.chats(&process.address, "before", 20).await;
    setting.database.take_away();
    expected.append(&mut setting.chats(&process.address, "during", 200).await);
    process.has_logged("statistics could not be written to the store").await;
    assert_eq!(setting.ask(&process.address, "/readyz").await, 200);
    setting.database.bring_back();
    expected.append(&mut setting.chats(&process.address, "after", 20).await);
    setting.all_stored(&expected).await;
    process.has_logged("the store takes statistics again").await;
    setting.all_spooled(0).await;
    process.terminate().await;
    assert_eq!(setting.stored(), expected);
    assert_eq!(setting.upstream.request_count(), expected.len());
}

#[actix_web::test]
async fn sigterm_during_an_outage_costs_no_event() {
    let setting = Setting::new("");
    let process = setting.serve().await;
    let mut expected = setting.chats(&process.address, "before", 5).await;
    setting.database.take_away();
    expected.append(&mut setting.chats(&process.address, "during", 50).await);
    let log = process.terminate().await;
    assert!(log.contains("wait in the spool for the next start"), "{log}");
    setting.database.bring_back();
    assert!(setting.stored().len() < expected.len());
    let successor = setting.serve().await;
    expected.append(&mut setting.chats(&successor.address, "after", 5).await);
    setting.all_stored(&expected).await;
    successor.terminate().await;
    assert_eq!((setting.stored(), setting.spooled()), (expected, 0));
}

#[actix_web::test]
async fn kill_9_costs_nothing_that_is_older_than_a_second() {
    let setting = Setting::new("");
    let process = setting.serve().await;
    let mut expected = setting.chats(&process.address, "before", 50).await;
    setting.a_second_passes().await;
    process.kill().await;
    assert_eq!(setting.stored(), expected);

    let process = setting.serve().await;
    setting.database.take_away();
    expected.append(&mut setting.chats(&process.address, "during", 50).await);
    setting.a_second_passes().await;
    process.kill().await;
    setting.database.bring_back();
    let successor = setting.serve().await;
    setting.all_stored(&expected).await;
    successor.terminate().await;
    assert_eq!(setting.stored(), expected);
}

#[actix_web::test]
async fn kill_9_in_the_midst_of_an_outage_costs_at_most_the_last_second() {
    let setting = Setting::new("");
    let process = setting.serve().await;
    setting.chat(&process.address, "first").await;
    setting.database.take_away();
    let mut ended: HashMap<String, Moment> = HashMap::new();
    let begin = setting.clock.now();
    while setting.clock.now() < begin + LAST_SECOND + LAST_SECOND {
        let id = format!("during-{:05}", ended.len());
        setting.chat(&process.address, &id).await;
        ended.insert(id, setting.clock.now());
    }
    process.signal("-KILL");
    let killed = setting.clock.now();
    process.kill().await;
    setting.database.bring_back();
    let successor = setting.serve().await;
    let old: BTreeSet<String> =
        ended.iter().filter(|(_, end)| **end + LAST_SECOND < killed).map(|(id, _)| id.clone()).collect();
    assert!(!old.is_empty());
    until("the old events are in the store", async || setting.stored().is_superset(&old).then_some(())).await;
    setting.all_spooled(0).await;
    successor.terminate().await;
    let mut known: BTreeSet<String> = ended.into_keys().collect();
    known.insert("first".to_owned());
    assert!(setting.stored().is_subset(&known));
}

#[actix_web::test]
async fn processes_that_share_a_spool_keep_apart_and_the_living_serve_the_dead() {
    let setting = Setting::new("");
    let (one, two) = (setting.serve().await, setting.serve().await);
    let mut expected = setting.chats(&one.address, "one-before", 3).await;
    expected.append(&mut setting.chats(&two.address, "two-before", 3).await);
    setting.all_stored(&expected).await;
    setting.database.take_away();
    expected.append(&mut setting.chats(&one.address, "one", 10).await);
    expected.append(&mut setting.chats(&two.address, "two", 10).await);
    setting.all_spooled(20).await;
    two.kill().await;
    one.kill().await;
    setting.database.bring_back();
    let successor = setting.serve().await;
    setting.all_stored(&expected).await;
    setting.all_spooled(0).await;
    successor.terminate().await;
}

#[actix_web::test]
async fn a_full_spool_counts_what_it_gives_up() {
    let setting = Setting::new("flush = \"20ms\"\nspool_max = \"64KiB\"\nspool = \"SPOOL\"\n");
    let spool = setting.folder.path().join("spool");
    let file = setting.folder.path().join("test.toml");
    let config = fs::read_to_string(&file).unwrap().replace("SPOOL", &spool.display().to_string());
    fs::write(&file, config).unwrap();
    let running = setting.start().await;
    let address = running.address.to_string();
    setting.database.take_away();
    let expected = setting.chats(&address, "during", 400).await;
    let settled = until("every event is in the spool or lost", async || {
        let stats = observe(&running).await;
        let is_settled = stats.waiting + stats.being_written == 0;
        (is_settled && stats.spooled + stats.lost == expected.len() as u64).then_some(stats)
    })
    .await;
    assert!(settled.lost > 0 && settled.spool_bytes <= 64 << 10, "{settled:?}");
    setting.database.bring_back();
    let written = expected.len() - settled.lost as usize;
    until("the rest is in the store", async || (setting.stored().len() == written).then_some(())).await;
    let newest: BTreeSet<String> = expected.into_iter().skip(settled.lost as usize).collect();
    assert_eq!(setting.stored(), newest);
    running.drain().await;
}

#[actix_web::test]
async fn a_spool_that_cannot_be_used_is_told_at_once_and_bridged_in_memory() {
    let setting = Setting::new("spool = \"test.toml/spool\"\n");
    let process = setting.serve().await;
    process.has_logged("the statistics' spool cannot be used").await;
    let mut expected = setting.chats(&process.address, "before", 5).await;
    setting.database.take_away();
    expected.append(&mut setting.chats(&process.address, "during", 50).await);
    process.has_logged("statistics could not be written to the store").await;
    setting.database.bring_back();
    setting.all_stored(&expected).await;

    setting.database.take_away();
    setting.chats(&process.address, "lost", 10).await;
    let log = process.terminate().await;
    assert!(log.contains("events_lost=10"), "{log}");
    setting.database.bring_back();
    assert_eq!(setting.stored(), expected);
}
