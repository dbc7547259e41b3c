//! Who asks the replicas, by a balancer.

use std::cell::Cell;
use std::time::Duration;

use actix_web::rt::time::sleep;
use awc::Client;
use freellmapi::domain::clock::{Clock, Moment};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::support::app::KEY;
use crate::support::judge::upstream::share;

/// How long an answer may take before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many there are, and how they ask.
#[derive(Clone, Copy)]
pub(super) struct Crowd {
    pub(super) clients: usize,
    pub(super) model: &'static str,
    /// How many milliseconds those who wait do so.
    pub(super) max_wait_ms: u64,
    /// How often a client that was refused asks again, if it was not told to come back sooner.
    pub(super) look_again: Duration,
}

/// What the clients were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) served: Cell<u64>,
    pub(super) refused: Cell<u64>,
    /// Those who waited for room were told that there is none to be had.
    pub(super) unavailable: Cell<u64>,
    /// So were those who did not wait.
    pub(super) turned_away: Cell<u64>,
    /// Streams that had begun with a heartbeat when they were refused, which they said.
    pub(super) refused_late: Cell<u64>,
    /// No answer, or one without its end.
    pub(super) broken: Cell<u64>,
}

fn more(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// One of the crowd: every other one waits in the gateway, the others come back when they were told, or sooner.
struct Asker<'a> {
    crowd: Crowd,
    number: usize,
    http: Client,
    fleet: &'a Fleet,
    told: &'a Told,
}

impl Crowd {
    /// All of them ask until then.
    pub(super) async fn ask(self, fleet: &Fleet, until: Moment) -> Told {
        let told = Told::default();
        let asking: FuturesUnordered<_> = (0..self.clients)
            .map(|number| {
                let http = Client::builder().timeout(PATIENCE).finish();
                Asker { crowd: self, number, http, fleet, told: &told }.ask(until)
            })
            .collect();
        asking.collect::<()>().await;
        told
    }
}

impl Asker<'_> {
    async fn ask(self, until: Moment) {
        let mut turn = self.number as u64 * 1_000_000;
        while self.fleet.clock.now() < until {
            turn += 1;
            self.chat(turn).await;
        }
    }

    async fn chat(&self, turn: u64) {
        let Self { crowd, told, .. } = self;
        let waits = self.number.is_multiple_of(2);
        let (body, is_streamed) = request(turn, crowd.model);
        let url = format!("http://{}/v1/chat/completions", self.fleet.address(self.number));
        let request = self.http.post(url).bearer_auth(KEY);
        let max_wait_ms = if waits { crowd.max_wait_ms } else { 0 };
        let request = request.insert_header(("x-max-wait-ms", max_wait_ms.to_string()));
        let Ok(mut answer) = request.send_body(body.to_string()).await else {
            more(&told.broken);
            return sleep(crowd.look_again).await;
        };
        let Ok(text) = answer.body().await else { return more(&told.broken) };
        match answer.status().as_u16() {
            200 if is_streamed && is_refusal(&text) => more(&told.refused_late),
            200 if is_streamed && !text.ends_with(b"data: [DONE]\n\n") => more(&told.broken),
            200 => more(&told.served),
            status @ (429 | 503) => {
                more(match status {
                    429 => &told.refused,
                    _ if waits => &told.unavailable,
                    _ => &told.turned_away,
                });
                let after = answer.headers().get("retry-after-ms").expect("an instant to come back at");
                let after: u64 = after.to_str().unwrap().parse().unwrap();
                sleep(Duration::from_millis(after).min(crowd.look_again)).await;
            }
            status => panic!("{status}: {}", String::from_utf8_lossy(&text)),
        }
    }
}

/// Whether nothing but heartbeats came before an error.
fn is_refusal(stream: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stream);
    let mut events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
    events.next().is_some_and(|event| event.starts_with("data: {\"error\"")) && events.next().is_none()
}

/// A body, and whether it is streamed.
fn request(number: u64, model: &str) -> (Value, bool) {
    let draw = |salt: u64| share(number * 5 + salt);
    let words = 1 + (draw(0) * 20.0) as usize;
    let cap = 1 + (draw(1) * 200.0) as u64;
    let is_streamed = draw(2) < 0.5;
    let body = json!({"model": model, "stream": is_streamed, "max_tokens": cap,
        "messages": [{"role": "user", "content": "word ".repeat(words)}]});
    (body, is_streamed)
}
