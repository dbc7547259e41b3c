//! Callers of every kind, each doing one thing after the other until it is told that it is over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use awc::Client;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::app::{KEY, chat_body};
use crate::support::random::Random;
use crate::support::raw_client::RawClient;

/// How long an answer may take; far more than the gateway's own limits leave it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the callers did and were told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests with a good key are numbered from 0.
    pub(super) sent: u64,
    /// Those that got the head of an answer.
    pub(super) answered: Vec<u64>,
    /// Answers by kind of caller and status.
    pub(super) statuses: BTreeMap<(&'static str, u16), u64>,
    /// Streams that were read to a clean end: with `[DONE]`, or with an error in-band.
    pub(super) ended: (u64, u64),
    pub(super) problems: Vec<String>,
}

pub(super) struct Callers {
    address: SocketAddr,
    client: Client,
    pub(super) tally: RefCell<Tally>,
}

/// What a polite caller asks.
struct Asked {
    path: &'static str,
    body: Value,
}

impl Callers {
    pub(super) fn new(address: SocketAddr) -> Self {
        let client = Client::builder().timeout(PATIENCE).finish();
        Self { address, client, tally: RefCell::default() }
    }

    /// One thing that a caller may do.
    pub(super) async fn act(&self, random: &mut Random) {
        match random.below(40) {
            0..=13 => self.ask_whole(random).await,
            14..=25 => self.ask_stream(random).await,
            26..=32 => self.leave(random).await,
            33..=34 => self.read_slowly(random).await,
            35 => self.expect("a bad key", "wrong-key", chat_body(json!({})), 401).await,
            36 => self.expect("no JSON", KEY, b"{\"messages\": [".to_vec(), 400).await,
            37 => self.expect("a wrong field", KEY, chat_body(json!({"temperature": 9})), 400).await,
            38 => self.drip().await,
            _ => self.say_nonsense(random).await,
        }
        tokio::time::sleep(Duration::from_millis(random.below(60) as u64)).await;
    }

    fn number(&self) -> u64 {
        let mut tally = self.tally.borrow_mut();
        tally.sent += 1;
        tally.sent - 1
    }

    fn note(&self, kind: &'static str, status: u16, number: Option<u64>) {
        let mut tally = self.tally.borrow_mut();
        *tally.statuses.entry((kind, status)).or_default() += 1;
        tally.answered.extend(number);
    }

    fn problem(&self, problem: String) {
        self.tally.borrow_mut().problems.push(problem);
    }

    async fn ask_whole(&self, random: &mut Random) {
        let asked = asked(false, random);
        let number = self.number();
        let Some(mut answer) = self.send(asked, number).await else { return };
        self.note("whole", answer.status().as_u16(), Some(number));
        self.check(&answer.status().as_u16(), &[200, 429, 503], "whole");
        if let Err(error) = answer.body().limit(16 << 20).await {
            self.problem(format!("request {number}: its answer broke off: {error}"));
        }
    }

    async fn ask_stream(&self, random: &mut Random) {
        let number = self.number();
        let Some(mut answer) = self.send(asked(true, random), number).await else { return };
        let status = answer.status().as_u16();
        self.note("stream", status, Some(number));
        self.check(&status, &[200, 429, 503], "stream");
        let mut tail = Vec::new();
        let (mut is_done, mut is_error) = (false, false);
        while let Some(piece) = answer.next().await {
            match piece {
                Ok(piece) => tail.extend_from_slice(&piece),
                Err(error) => {
                    return self.problem(format!("request {number}: its stream broke off: {error}"));
                }
            }
            let text = String::from_utf8_lossy(&tail);
            is_done |= text.contains("data: [DONE]");
            is_error |= text.contains("\"error\"");
            // Marks are short, and may be cut anywhere.
            tail.drain(..tail.len().saturating_sub(64));
        }
        let ended = &mut self.tally.borrow_mut().ended;
        match (is_done, is_error) {
            (true, false) => ended.0 += 1,
            (false, true) => ended.1 += 1,
            _ => self.problem_later(number, (is_done, is_error)),
        }
    }

    fn problem_later(&self, number: u64, (is_done, is_error): (bool, bool)) {
        self.problem(format!("request {number}: [DONE]: {is_done}, an error: {is_error}"));
    }

    async fn send(
        &self,
        asked: Asked,
        number: u64,
    ) -> Option<
        awc::ClientResponse<impl StreamExt<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin>,
    > {
        let request = self.client.post(format!("http://{}{}", self.address, asked.path)).bearer_auth(KEY);
        let request = request.insert_header(("x-request-id", id(number)));
        match request.send_body(chat_body(asked.body)).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.problem(format!("request {number} was not answered: {error}"));
                None
            }
        }
    }

    fn check(&self, status: &u16, fit: &[u16], kind: &str) {
        if !fit.contains(status) {
            self.problem(format!("{kind} was answered with {status}"));
        }
    }

    async fn expect(&self, kind: &'static str, key: &str, body: Vec<u8>, expected: u16) {
        let number = (key == KEY).then(|| self.number());
        let request = self.client.post(format!("http://{}/api/chat", self.address)).bearer_auth(key);
        let request = request.insert_header(("x-request-id", number.map_or("nobody".to_owned(), id)));
        match request.send_body(body).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                self.note(kind, status, number);
                // Shed at the door, it is not looked at.
                self.check(&status, &[expected, 503], kind);
            }
            Err(error) => self.problem(format!("{kind} was not answered: {error}")),
        }
    }

    /// Sends a part of a request or all of it, perhaps takes some of the answer, and leaves in one way or another.
    async fn leave(&self, random: &mut Random) {
        let number = self.number();
        let asked = asked(random.below(4) > 0, random);
        let whole = self.chat(&asked, number);
        let sent = if random.below(4) == 0 { random.below(whole.len()) } else { whole.len() };
        let mut client = RawClient::connect(self.address).await;
        client.send(&whole[..sent]).await;
        client.read_for(Duration::from_micros(random.below(300_000) as u64)).await;
        if random.below(2) == 0 {
            client.reset();
        }
    }

    /// Takes a little now and then, and leaves after a while.
    async fn read_slowly(&self, random: &mut Random) {
        let number = self.number();
        let asked =
            Asked { path: "/v1/chat/completions", body: json!({"model": "large/m-large", "stream": true}) };
        let mut client = RawClient::with_small_buffer(self.address).await;
        client.send(&self.chat(&asked, number)).await;
        for _ in 0..random.below(8) {
            client.read_nothing_for(Duration::from_millis(random.below(900) as u64)).await;
            client.read_for(Duration::from_millis(5)).await;
        }
    }

    /// Never comes to the end of its head.
    async fn drip(&self) {
        let mut client = RawClient::connect(self.address).await;
        client.drip(b"POST /api/chat HTTP/1.1\r\nhost: x\r\nx-drip: ", Duration::from_millis(100)).await;
        client.read_to_end().await;
    }

    async fn say_nonsense(&self, random: &mut Random) {
        let bytes: Vec<u8> = (0..random.below(2_000)).map(|_| random.below(256) as u8).collect();
        let mut client = RawClient::connect(self.address).await;
        client.try_send(&bytes).await;
        client.try_send(b"\r\n\r\n").await;
        client.read_to_end().await;
    }

    fn chat(&self, asked: &Asked, number: u64) -> Vec<u8> {
        let body = chat_body(asked.body.clone());
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-request-id: {}\r\ncontent-length: {}\r\n\r\n",
            asked.path,
            id(number),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }
}

/// The id of the event of request `number`.
pub(super) fn id(number: u64) -> String {
    format!("soak-{number:08}")
}

/// A chat in one of the surfaces and routes, and of a conversation of its own.
fn asked(streamed: bool, random: &mut Random) -> Asked {
    let content = format!("Question {}", random.below(1 << 20));
    let messages = json!([{"role": "user", "content": content}]);
    let body = json!({"stream": streamed, "messages": messages});
    if random.below(3) == 0 {
        return Asked { path: "/api/chat.php", body };
    }
    let models = [
        "auto",
        "auto:fast",
        "family-m",
        "strict/m-strict",
        "slow/m-slow",
        "large/m-large",
        "broken/m-broken",
    ];
    let mut body = body;
    body["model"] = models[random.below(models.len())].into();
    Asked { path: "/v1/chat/completions", body }
}
