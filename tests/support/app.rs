//! The gateway inside a test, on a free port and a store of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use awc::{Client, ClientResponse, Connector};
use freellmapi::app::{self, OpenStore, Running};
use freellmapi::config::{Settings, Sources, load};
use freellmapi::db::{NewKey, Totals, open};
use freellmapi::dispatcher::{ObserveDispatcher, RefusalSnapshot};
use freellmapi::domain::clock::{Moment, SharedClock, SystemClock};
use freellmapi::domain::provider::ProviderSpec;
use freellmapi::domain::tenant::TenantChange;
use freellmapi::provider::ObserveProvider;
use freellmapi::quota::BookSnapshot;
use freellmapi::stats::ObserveStats;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::TestDatabase;
use super::fake_upstream::FakeUpstream;

/// The key that every test shows.
pub(crate) const KEY: &str = "freellmapi-a-key-for-tests-only";
pub(crate) const ADMIN_KEY: &str = "an-admin-key-for-tests-only";

/// How long a condition may take to come true before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway. End it with [`TestApp::finish`], which checks that nothing is left over.
pub(crate) struct TestApp {
    running: Option<Running>,
    folder: TempDir,
    client: Client,
    settings: Settings,
    clock: SharedClock,
    /// Where its store is, unless that is a file in its folder.
    database: Option<TestDatabase>,
}

/// One answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl TestApp {
    /// Starts with one provider `up` whose model is `m`.
    pub(crate) async fn with_upstream(upstream: &FakeUpstream) -> Self {
        Self::with_config(&provider("up", upstream, "")).await
    }

    /// Starts with these providers and no others.
    pub(crate) async fn with_providers(providers: Vec<ProviderSpec>) -> Self {
        Self::start("", |settings| settings.providers = providers).await
    }

    /// Starts with a clock that is not the machine's.
    pub(crate) async fn with_clock(clock: SharedClock, config: &str) -> Self {
        Self::start_at(clock, "", config, |_| ()).await
    }

    /// The same on a Postgres database of its own, as one of several replicas would be.
    pub(crate) async fn on_postgres(config: &str) -> Self {
        let clock = Arc::new(SystemClock::start());
        Self::start_on(Some(TestDatabase::postgres()), clock, "", config, |_| ()).await
    }

    /// Starts with this configuration, appended to what every test needs.
    pub(crate) async fn with_config(config: &str) -> Self {
        Self::start(config, |_| ()).await
    }

    /// The same with more keys of the section `server`.
    pub(crate) async fn with_server_config(server: &str, config: &str) -> Self {
        Self::start_with(server, config, |_| ()).await
    }

    async fn start(config: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_with("", config, change).await
    }

    async fn start_with(server: &str, config: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_at(Arc::new(SystemClock::start()), server, config, change).await
    }

    async fn start_at(
        clock: SharedClock,
        server: &str,
        config: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::start_on(None, clock, server, config, change).await
    }

    async fn start_on(
        database: Option<TestDatabase>,
        clock: SharedClock,
        server: &str,
        config: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.toml");
        let store = url_of_store(database.as_ref(), &folder);
        let common = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{server}[store]\nurl = \"{store}\"\n[stats]\nflush = \"20ms\"\nspool = \"{}\"\n",
            folder.path().join("spool").display(),
        );
        std::fs::write(&file, common + config).unwrap();
        let mut environment = HashMap::from([
            // Two accounts for a provider that names this variable.
            ("TEST_KEYS".to_owned(), "first-secret,second-secret".to_owned()),
            ("FREELLMAPI_API_KEY".to_owned(), KEY.to_owned()),
            ("FREELLMAPI_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()),
        ]);
        if database.is_some() {
            environment.insert("FREELLMAPI_MASTER_KEY".to_owned(), "5a".repeat(32));
        }
        let mut settings = load(&Sources { file: Some(file), environment }).unwrap();
        change(&mut settings);
        let running = app::start(settings.clone(), Arc::clone(&clock), false).await.unwrap();
        // By itself it would keep all but 100 requests from being sent.
        let connector = Connector::new().limit(0);
        let client = Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish();
        Self { running: Some(running), folder, client, settings, clock, database }
    }

    fn store_url(&self) -> String {
        url_of_store(self.database.as_ref(), &self.folder)
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running().address)
    }

    pub(crate) async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let mut request = self.client.get(self.url(path));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        read(request.send().await.unwrap()).await
    }

    /// Posts a body with the tests' key.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: impl Into<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.post_as(KEY, path, body, headers).await
    }

    /// Posts a body with any key.
    pub(crate) async fn post_as(
        &self,
        key: &str,
        path: &str,
        body: impl Into<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.post(self.url(path)).bearer_auth(key);
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        read(request.send_body(body.into()).await.unwrap()).await
    }

    /// A chat over the original API.
    pub(crate) async fn chat(&self, extra: Value) -> Answer {
        self.post("/api/chat.php", chat_body(extra)).await
    }

    /// A chat over OpenAI's API.
    pub(crate) async fn completion(&self, extra: Value) -> Answer {
        self.post("/v1/chat/completions", chat_body(extra)).await
    }

    /// A streamed chat whose events are taken one by one; dropping it is leaving.
    pub(crate) async fn stream(
        &self,
        path: &str,
        extra: Value,
    ) -> impl StreamExt<Item = String> + Unpin + use<> {
        self.stream_as(KEY, path, extra).await
    }

    /// The same with any key.
    pub(crate) async fn stream_as(
        &self,
        key: &str,
        path: &str,
        extra: Value,
    ) -> impl StreamExt<Item = String> + Unpin + use<> {
        let request = self.client.post(self.url(path)).bearer_auth(key);
        let response = request.send_body(chat_body(extra)).await.unwrap();
        assert_eq!(response.status(), 200);
        Box::pin(response.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap()))
    }

    /// The tenant's statistics, once `is_met` holds for them.
    pub(crate) async fn stats_when(&self, is_met: impl Fn(&Value) -> bool) -> Value {
        until("the statistics", async || {
            let stats = self.get("/api/stats.php", Some(KEY)).await.json();
            is_met(&stats).then_some(stats)
        })
        .await
    }

    /// The store of the running gateway, as a command opens it.
    pub(crate) fn open_store(&self) -> OpenStore {
        OpenStore::open(&self.settings).unwrap()
    }

    /// Adds a tenant that is granted this, and answers its key once the gateway knows it, and so the grants.
    pub(crate) async fn tenant(&self, name: &str, change: TenantChange) -> String {
        let OpenStore { store, pepper } = self.open_store();
        let tenant = store.add_tenant_with(name, &change, self.clock.now()).unwrap();
        let key = format!("freellmapi-key-of-{name}");
        store.add_key(&NewKey::without_end(tenant.id, "", pepper.digest(&key), self.clock.now())).unwrap();
        until("a new key admits", async || {
            (self.get("/v1/models", Some(&key)).await.status == 200).then_some(())
        })
        .await;
        key
    }

    /// Drains and starts again on the same store.
    pub(crate) async fn restart(mut self) -> Self {
        self.idle().await;
        self.running.take().unwrap().drain().await;
        let running = app::start(self.settings.clone(), Arc::clone(&self.clock), false).await.unwrap();
        self.running = Some(running);
        self
    }

    /// How many connections of clients the gateway has, those included that their clients have closed.
    pub(crate) fn client_connections(&self) -> usize {
        const ESTABLISHED: &str = "01";
        const CLOSE_WAIT: &str = "08";
        let here = format!(":{:04X}", self.address().port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let is_open = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _, state) = (words.next().unwrap(), words.next(), words.next().unwrap());
            local.ends_with(&here) && [ESTABLISHED, CLOSE_WAIT].contains(&state)
        };
        table.lines().skip(1).filter(is_open).count()
    }

    /// Waits until exactly so many connections of clients are left.
    pub(crate) async fn wait_for_client_connections(&self, count: usize) {
        until("connections", async || (self.client_connections() == count).then_some(())).await;
    }

    /// The last requests that nobody answered.
    pub(crate) async fn refusals(&self) -> Vec<RefusalSnapshot> {
        let dispatcher = self.running().dispatchers.lock().first().unwrap().clone();
        dispatcher.send(ObserveDispatcher).await.expect("a dispatcher is dead").refusals
    }

    /// What each provider holds now.
    pub(crate) async fn books(&self) -> Vec<BookSnapshot> {
        let providers = self.running().providers.lock().clone();
        let mut books = Vec::new();
        for provider in providers {
            books.push(provider.send(ObserveProvider).await.expect("a provider actor is dead").book);
        }
        books
    }

    /// How many panics the gateway has survived.
    pub(crate) async fn panics(&self) -> u64 {
        let dispatcher = self.running().dispatchers.lock().first().unwrap().clone();
        dispatcher.send(ObserveDispatcher).await.expect("a dispatcher is dead").panics
    }

    /// Waits until so many requests wait for capacity.
    pub(crate) async fn wait_for_waiting(&self, count: usize) {
        let dispatcher = self.running().dispatchers.lock().first().unwrap().clone();
        until("waiting", async || {
            let snapshot = dispatcher.send(ObserveDispatcher).await.expect("a dispatcher is dead");
            (snapshot.waiting == count).then_some(())
        })
        .await;
    }

    /// How many requests are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.running().permits.in_flight()
    }

    /// Waits until so many requests are in flight.
    pub(crate) async fn wait_for_in_flight(&self, count: usize) {
        until("in flight", async || (self.in_flight() == count).then_some(())).await;
    }

    /// Waits until no request is in flight.
    pub(crate) async fn idle(&self) {
        until("no permit is held", async || (self.in_flight() == 0).then_some(())).await;
    }

    /// Drains with whatever is in flight, and answers what the store has by then.
    pub(crate) async fn drain(mut self) -> Totals {
        self.running.take().unwrap().drain().await;
        let store = open(&self.store_url()).unwrap();
        store.totals(None, Moment::default(), Moment::NEVER).unwrap()
    }

    /// Checks that nothing is left: no permit, no hold, no event, no dead actor. Then drains.
    pub(crate) async fn finish(mut self) {
        self.idle().await;
        let running = self.running.take().unwrap();
        let providers = running.providers.lock().clone();
        for provider in providers {
            until("no hold is open", async || {
                let snapshot = provider.send(ObserveProvider).await.expect("a provider actor is dead");
                (snapshot.book.open_holds == 0).then_some(())
            })
            .await;
        }
        let dispatchers = running.dispatchers.lock().clone();
        for dispatcher in dispatchers {
            until("nobody waits", async || {
                let snapshot = dispatcher.send(ObserveDispatcher).await.expect("a dispatcher is dead");
                (snapshot.waiting == 0).then_some(())
            })
            .await;
        }
        let stats = running.stats.clone();
        until("every event is written", async || {
            let snapshot = stats.send(ObserveStats).await.expect("the stats actor is dead");
            assert_eq!(snapshot.lost, 0);
            (snapshot.waiting + snapshot.being_written == 0 && snapshot.spooled == 0).then_some(())
        })
        .await;
        running.drain().await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            panic!("end a TestApp with finish()");
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The data of each event.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text()
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }

    /// The text that the deltas add up to.
    pub(crate) fn streamed_text(&self) -> String {
        let delta = |event: &String| {
            let value: Value = serde_json::from_str(event).ok()?;
            Some(value["choices"][0]["delta"]["content"].as_str()?.to_owned())
        };
        self.events().iter().filter_map(delta).collect()
    }
}

fn url_of_store(database: Option<&TestDatabase>, folder: &TempDir) -> String {
    let file = || format!("sqlite:{}", folder.path().join("test.db").display());
    database.map_or_else(file, TestDatabase::url)
}

async fn read(
    mut response: ClientResponse<
        impl StreamExt<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin,
    >,
) -> Answer {
    let body = response.body().limit(64 * 1024 * 1024).await.unwrap().to_vec();
    Answer { status: response.status(), headers: response.headers().clone(), body }
}

/// A provider with the id `id` and one model `m` of the family `family-m`, in front of a fake upstream.
pub(crate) fn provider(id: &str, upstream: &FakeUpstream, extra: &str) -> String {
    provider_at(id, &upstream.base_url(), extra)
}

pub(crate) fn provider_at(id: &str, base_url: &str, extra: &str) -> String {
    format!(
        "\n[[provider]]\nid = \"{id}\"\nbase_url = \"{base_url}\"\nauth = \"none\"\n{extra}\n\
         [[provider.model]]\nid = \"m-{id}\"\nfamily = \"family-m\"\n"
    )
}

/// A limit of the provider above it.
pub(crate) fn limit(unit: &str, max: u64, window: &str) -> String {
    let window = if window.is_empty() { String::new() } else { format!("window = \"{window}\"\n") };
    format!("[[provider.limit]]\nscope = \"account\"\nunit = \"{unit}\"\nmax = {max}\n{window}")
}

/// A request that says hello, with more members.
pub(crate) fn chat_body(extra: Value) -> Vec<u8> {
    let mut body = json!({"messages": [{"role": "user", "content": "Hello!"}]});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

/// Asks until there is an answer; the condition itself is what is waited for.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
