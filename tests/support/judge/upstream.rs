//! The strict upstream itself: a server on a loopback port, on a thread and a runtime of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use freellmapi::domain::clock::{Moment, SharedClock, SystemClock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::super::recorded_request::{RecordedRequest, fill};
use super::super::reply::framed;
use super::call::Call;
use super::counter::{Counter, Windows};
use super::verdict::{JudgedLimit, Unit};

/// What an answer's length is where the request names no cap. Chosen: more than any scripted answer is long.
const UNCAPPED: u64 = 1 << 20;

/// How the upstream behaves; everything else is drawn from the number of the call, so that a run can be repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// The first byte takes up to so long.
    pub(crate) first_byte_within: Duration,
    /// The rest of an answer takes up to so long.
    pub(crate) answer_within: Duration,
    /// At most so many tokens are said, and no more than the request allows.
    pub(crate) output_max: u64,
}

/// The running upstream; dropping it ends it.
pub(crate) struct StrictUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    clock: SharedClock,
    manners: Manners,
    books: Mutex<Books>,
}

/// The log and the counters that refuse.
struct Books {
    calls: Vec<Call>,
    limits: Vec<(JudgedLimit, Vec<Counter>)>,
}

impl StrictUpstream {
    /// Refuses with 429 whatever any way of counting of any of `limits` has no room for.
    pub(crate) fn start(manners: Manners, limits: &[JudgedLimit]) -> Self {
        Self::start_at(Arc::new(SystemClock::start()), manners, limits)
    }

    /// The same with a clock that is not the machine's.
    pub(crate) fn start_at(clock: SharedClock, manners: Manners, limits: &[JudgedLimit]) -> Self {
        let books = Mutex::new(Books::new(limits));
        let shared = Arc::new(Shared { clock, manners, books });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("the port's address");
        let (shutdown, told) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = told => {}
                }
            });
        });
        Self { address, shared, shutdown: Some(shutdown), thread: Some(thread) }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every call so far, in the order of arrival.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.books.lock().calls.clone()
    }
}

impl Drop for StrictUpstream {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own was printed; a second one in a drop would abort the test run.
            let _ = thread.join();
        }
    }
}

impl Books {
    fn new(limits: &[JudgedLimit]) -> Self {
        let counters = |limit: &JudgedLimit| {
            let ways = if limit.unit == Unit::Parallel { Vec::new() } else { limit.ways() };
            ways.into_iter().map(|way: Windows| Counter::new(way, limit.max, limit.window)).collect()
        };
        let limits = limits.iter().map(|limit| (*limit, counters(limit))).collect();
        Self { calls: Vec::new(), limits }
    }

    /// Writes a call down and counts what counts on arrival; its number, and whether there was room.
    fn arrive(&mut self, mut call: Call) -> (usize, bool) {
        let at = call.arrival;
        let open = self.calls.iter().filter(|call| !call.is_refused && call.end.is_none()).count() as u64;
        let has_room = self.limits.iter_mut().all(|(limit, counters)| match limit.unit {
            Unit::Requests => counters.iter_mut().all(|counter| counter.has_room(at, 1)),
            Unit::TokensOnArrival => {
                counters.iter_mut().all(|counter| counter.has_room(at, call.reserved_tokens()))
            }
            // What a call will use is not known yet: it is let in while the window is not full.
            Unit::TokensByUse => counters.iter_mut().all(|counter| counter.has_room(at, 1)),
            Unit::Parallel => open < limit.max,
        });
        call.is_refused = !has_room;
        if has_room {
            self.count(Unit::Requests, at, 1);
            self.count(Unit::TokensOnArrival, at, call.reserved_tokens());
        }
        self.calls.push(call);
        (self.calls.len() - 1, has_room)
    }

    fn end(&mut self, number: usize, at: Moment) {
        let call = &mut self.calls[number];
        call.end = Some(at);
        let (is_refused, used) = (call.is_refused, call.used_tokens());
        if !is_refused {
            self.count(Unit::TokensByUse, at, used);
        }
    }

    fn count(&mut self, unit: Unit, at: Moment, amount: u64) {
        for (_, counters) in self.limits.iter_mut().filter(|(limit, _)| limit.unit == unit) {
            for counter in counters {
                counter.count(at, amount);
            }
        }
    }
}

impl Shared {
    /// Changes the books at an instant that is taken under their lock, so that instants follow each other.
    fn change<T>(&self, change: impl FnOnce(&mut Books, Moment) -> T) -> T {
        let mut books = self.books.lock();
        let now = self.clock.now();
        change(&mut books, now)
    }
}

/// Writes the end down, however the call ends.
struct Ending<'a> {
    shared: &'a Shared,
    number: usize,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.change(|books, now| books.end(self.number, now));
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener for the runtime");
    let mut connection = 0;
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("a TCP option");
        tokio::spawn(serve(stream, Arc::clone(&shared), connection));
        connection += 1;
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>, connection: usize) {
    let mut inbox = Vec::new();
    while let Some(request) = RecordedRequest::read(&mut stream, &mut inbox, connection).await {
        let (mut reader, mut writer) = stream.split();
        let answered = tokio::select! {
            answered = answer(&request, &mut writer, &shared) => answered.is_ok(),
            () = async { while fill(&mut reader, &mut inbox).await.is_some() {} } => false,
        };
        if !answered {
            return;
        }
    }
}

async fn answer(
    request: &RecordedRequest,
    writer: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
) -> io::Result<()> {
    let body = request.json();
    let cap = ["max_completion_tokens", "max_tokens"].iter().find_map(|name| body[*name].as_u64());
    let client = body["user"].as_str().and_then(|user| user.parse().ok());
    let (number, has_room) = shared.change(|books, now| {
        let call = Call::arrived(now, input_tokens(&body), cap.unwrap_or(UNCAPPED));
        books.arrive(Call { client, ..call })
    });
    let ending = Ending { shared, number };
    if !has_room {
        writer.write_all(&whole("429 Too Many Requests", &refusal())).await?;
        return Ok(());
    }
    let draw = Draw::new(number, &shared.manners, cap.unwrap_or(UNCAPPED));
    sleep(draw.first_byte).await;
    if body["stream"] == true {
        stream(&ending, &draw, writer).await?;
        ending.used(draw.output_tokens);
        drop(ending);
        return writer.write_all(b"0\r\n\r\n").await;
    }
    sleep(draw.rest).await;
    ending.first_byte();
    ending.used(draw.output_tokens);
    let input = shared.books.lock().calls[number].input_tokens;
    let reply = json!({"id": "judged", "object": "chat.completion", "created": 1, "model": "m", "choices": [{
        "index": 0, "message": {"role": "assistant", "content": "judged"}, "finish_reason": "stop"}],
        "usage": usage(input, draw.output_tokens)});
    let bytes = whole("200 OK", &reply);
    drop(ending);
    writer.write_all(&bytes).await
}

impl Ending<'_> {
    fn first_byte(&self) {
        self.shared.change(|books, now| books.calls[self.number].first_byte = Some(now));
    }

    fn used(&self, output_tokens: u64) {
        self.shared.books.lock().calls[self.number].output_tokens = output_tokens;
    }
}

/// Head, four deltas with a quarter of the tokens each, usage, and the word that it is done. The last chunk of the
/// framing is left to the caller.
async fn stream(ending: &Ending<'_>, draw: &Draw, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    ending.first_byte();
    writer.write_all(head.as_bytes()).await?;
    for quarter in 1..=4 {
        let choices = json!([{"index": 0, "delta": {"content": "judged "}, "finish_reason": null}]);
        writer.write_all(&event(&choices, &Value::Null)).await?;
        ending.used(draw.output_tokens * quarter / 4);
        sleep(draw.rest / 4).await;
    }
    let stop = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    writer.write_all(&event(&stop, &Value::Null)).await?;
    let input = ending.shared.books.lock().calls[ending.number].input_tokens;
    writer.write_all(&event(&json!([]), &usage(input, draw.output_tokens))).await?;
    writer.write_all(&framed(b"data: [DONE]\n\n")).await
}

fn event(choices: &Value, usage: &Value) -> Vec<u8> {
    let chunk = json!({"id": "judged", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": choices, "usage": usage});
    framed(format!("data: {chunk}\n\n").as_bytes())
}

fn whole(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn refusal() -> Value {
    json!({"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}})
}

fn usage(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

/// This upstream's vocabulary knows every word, and takes four tokens for the frame of a message.
fn input_tokens(body: &Value) -> u64 {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let words =
        |message: &Value| message["content"].as_str().map_or(0, |text| text.split_whitespace().count());
    messages.iter().map(|message| 4 + words(message) as u64).sum()
}

/// What is drawn for one call.
struct Draw {
    first_byte: Duration,
    rest: Duration,
    output_tokens: u64,
}

impl Draw {
    fn new(number: usize, manners: &Manners, cap: u64) -> Self {
        let part = |salt: u64| share(number as u64 * 3 + salt);
        let output = manners.output_max.min(cap) as f64 * part(2);
        Self {
            first_byte: manners.first_byte_within.mul_f64(part(0)),
            rest: manners.answer_within.mul_f64(part(1)),
            output_tokens: output as u64 + 1,
        }
    }
}

/// A share from 0 to 1 that looks random and is the same for the same number. Source: the finaliser of SplitMix64,
/// <https://prng.di.unimi.it/splitmix64.c>, read 2026-11-23.
pub(crate) fn share(number: u64) -> f64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
