//! A scripted provider: a real server on a loopback port that answers reply by reply and records what it was asked.
//!
//! It runs on a thread and a runtime of its own, so that a test may pause its clock or block its thread and the
//! upstream still moves. All waiting is for conditions, and bounded.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::recorded_request::{RecordedRequest, fill};
use super::reply::{Content, Reply, Step, framed};

/// The longest wait for a condition. Chosen: only a broken test ever waits so long.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The scripted server; dropping it closes everything.
pub(crate) struct FakeUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Handle,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    answers: Mutex<Answers>,
    signals: Semaphore,
    /// Requests that are being answered.
    under_way: AtomicUsize,
    hang_up: Notify,
    seen: watch::Sender<Seen>,
}

/// Where the replies come from.
enum Answers {
    /// These, then the last one for ever.
    Script(VecDeque<Reply>, Reply),
    /// Made one by one; such an upstream runs for long, and keeps no requests.
    Made(Box<dyn FnMut() -> Reply + Send>),
}

/// What happened so far.
#[derive(Default)]
struct Seen {
    requests: Vec<RecordedRequest>,
    connections: Vec<ConnectionState>,
    /// Of what is sent for ever, how much was taken.
    taken_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    Open,
    ClosedByClient,
    ClosedByUpstream,
}

impl FakeUpstream {
    /// Answers with the replies of `script` in their order of arrival, then with a plain text for ever.
    pub(crate) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, Reply::text("Hello from the fake upstream."))
    }

    /// Answers with the replies of `script`, then with `afterwards` for ever.
    pub(crate) fn start_with(script: impl IntoIterator<Item = Reply>, afterwards: Reply) -> Self {
        Self::answering(Answers::Script(script.into_iter().collect(), afterwards))
    }

    /// Answers each request with what `make` makes, and keeps none of them: for tests that last.
    pub(crate) fn making(make: impl FnMut() -> Reply + Send + 'static) -> Self {
        Self::answering(Answers::Made(Box::new(make)))
    }

    fn answering(answers: Answers) -> Self {
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers),
            signals: Semaphore::new(0),
            under_way: AtomicUsize::new(0),
            hang_up: Notify::new(),
            seen: watch::Sender::new(Seen::default()),
        });
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("the port's address");
        let (shutdown, told) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = told => {}
                }
            });
        });
        Self { address, shared, runtime: handle, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// What a provider's `base_url` is set to.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in their order of arrival.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.seen.borrow().requests.clone()
    }

    pub(crate) fn request_count(&self) -> usize {
        self.shared.seen.borrow().requests.len()
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.shared.seen.borrow().count(ConnectionState::Open)
    }

    /// How many requests have been read whose answer is not complete, and whose client is still there.
    pub(crate) fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Acquire)
    }

    /// Closes every connection, as a provider closes those that idle.
    pub(crate) fn hang_up(&self) {
        self.shared.hang_up.notify_waiters();
    }

    /// How many bytes of the steps that go on for ever have been taken, by the client or by the sockets between.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.shared.seen.borrow().taken_bytes
    }

    /// Lets one waiting step or reply go on: the one that has waited longest, or else the next that will wait.
    pub(crate) fn signal(&self) {
        self.shared.signals.add_permits(1);
    }

    /// Waits until so many requests have arrived in full.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        self.wait_for("requests", move |seen| seen.requests.len() >= count).await;
    }

    /// Waits until the client has closed the connection that request `number` (from 0) came over.
    pub(crate) async fn wait_until_client_gone(&self, number: usize) {
        self.wait_for("the client's leaving", move |seen| {
            let request = seen.requests.get(number);
            request.is_some_and(|request| {
                seen.connections.get(request.connection) == Some(&ConnectionState::ClosedByClient)
            })
        })
        .await;
    }

    /// Waits until exactly so many connections are open.
    pub(crate) async fn wait_for_open_connections(&self, count: usize) {
        self.wait_for("open connections", move |seen| seen.count(ConnectionState::Open) == count).await;
    }

    /// The wait runs on the upstream's runtime: a test's paused clock would jump over its bound.
    async fn wait_for(&self, what: &str, condition: impl FnMut(&Seen) -> bool + Send + 'static) {
        let mut seen = self.shared.seen.subscribe();
        let wait = async move {
            let met = async { seen.wait_for(condition).await.is_ok() };
            timeout(WAIT_MAX, met).await
        };
        let outcome = self.runtime.spawn(wait).await.expect("the upstream's runtime");
        assert_eq!(outcome, Ok(true), "waited {WAIT_MAX:?} for {what}");
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own was printed; a second one in a drop would abort the test run.
            let _ = thread.join();
        }
    }
}

impl Seen {
    fn count(&self, wanted: ConnectionState) -> usize {
        self.connections.iter().filter(|state| **state == wanted).count()
    }
}

impl Shared {
    fn opened(&self) -> usize {
        let mut number = 0;
        self.seen.send_modify(|seen| {
            number = seen.connections.len();
            seen.connections.push(ConnectionState::Open);
        });
        number
    }

    fn closed(&self, connection: usize, state: ConnectionState) {
        self.seen.send_modify(|seen| seen.connections[connection] = state);
    }

    /// Records a request and gives the reply that is its turn.
    fn next_reply(&self, request: &RecordedRequest) -> Reply {
        let reply = match &mut *self.answers.lock() {
            Answers::Made(make) => return make().to(request),
            Answers::Script(script, afterwards) => script.pop_front().unwrap_or_else(|| afterwards.clone()),
        };
        self.seen.send_modify(|seen| seen.requests.push(request.clone()));
        reply.to(request)
    }

    async fn signalled(&self) {
        self.signals.acquire().await.expect("signals are never closed").forget();
    }
}

/// Counts a request until it is dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener for the runtime");
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a TCP option");
        let connection = shared.opened();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let hung_up = shared.hang_up.notified();
            let state = tokio::select! {
                state = serve(stream, &shared, connection) => state,
                () = hung_up => ConnectionState::ClosedByUpstream,
            };
            shared.closed(connection, state);
        });
    }
}

/// How a reply leaves its connection.
enum After {
    Reuse,
    Close,
    Reset,
}

async fn serve(mut stream: TcpStream, shared: &Shared, connection: usize) -> ConnectionState {
    let mut inbox = Vec::new();
    loop {
        let Some(request) = RecordedRequest::read(&mut stream, &mut inbox, connection).await else {
            return ConnectionState::ClosedByClient;
        };
        let reply = shared.next_reply(&request);
        let (mut reader, mut writer) = stream.split();
        let _under_way = UnderWay::begin(&shared.under_way);
        let after = tokio::select! {
            after = perform(&reply, &mut writer, shared) => after,
            () = client_gone(&mut reader, &mut inbox) => return ConnectionState::ClosedByClient,
        };
        match after {
            Ok(After::Reuse) => {}
            Ok(After::Close) => return ConnectionState::ClosedByUpstream,
            Ok(After::Reset) => {
                stream.set_zero_linger().expect("a TCP option");
                return ConnectionState::ClosedByUpstream;
            }
            Err(_) => return ConnectionState::ClosedByClient,
        }
    }
}

/// Ends when the client closes its side, fully or by half. What it sends meanwhile is kept for its turn.
async fn client_gone(reader: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) {
    while fill(reader, inbox).await.is_some() {}
}

async fn perform(
    reply: &Reply,
    writer: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
) -> io::Result<After> {
    if reply.waits_for_signal {
        shared.signalled().await;
    }
    match &reply.content {
        Content::Whole { status, body } => {
            let mut bytes = reply.head(*status, &format!("content-length: {}", body.len()));
            bytes.extend_from_slice(body);
            writer.write_all(&bytes).await?;
            Ok(After::Reuse)
        }
        Content::Stream(steps) => {
            writer.write_all(&reply.head(200, "transfer-encoding: chunked")).await?;
            stream(steps, writer, shared).await
        }
        Content::Script(steps) => stream(steps, writer, shared).await,
        Content::Raw(bytes) => {
            writer.write_all(bytes).await?;
            Ok(After::Close)
        }
        Content::Close => Ok(After::Close),
        Content::Nothing => std::future::pending().await,
        Content::SseText(_) | Content::Text(_) => unreachable!("resolved for the request before"),
    }
}

async fn stream(
    steps: &[Step],
    writer: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
) -> io::Result<After> {
    for step in steps {
        match step {
            Step::Chunk(bytes) => writer.write_all(&framed(bytes)).await?,
            Step::Raw(bytes) => writer.write_all(bytes).await?,
            Step::Forever(bytes, pause) => loop {
                writer.write_all(bytes).await?;
                shared.seen.send_modify(|seen| seen.taken_bytes += bytes.len());
                if !pause.is_zero() {
                    sleep(*pause).await;
                }
            },
            Step::Pause(duration) => sleep(*duration).await,
            Step::WaitForSignal => shared.signalled().await,
            Step::Cut => return Ok(After::Close),
            Step::Reset => return Ok(After::Reset),
            Step::End => {
                writer.write_all(b"0\r\n\r\n").await?;
                return Ok(After::Reuse);
            }
        }
    }
    std::future::pending().await
}
