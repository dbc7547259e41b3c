//! Providers that go wrong in every way, at random and the same in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::app::{limit, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::random::Random;
use crate::support::reply::{Reply, Step};

/// A provider's reply by a throw of the dice.
type Fault = fn(&mut Random) -> Reply;

/// The faulty ones, with their limits.
pub(super) const FAULTY: [(&str, Fault); 4] =
    [("broken", broken), ("slow", slow), ("large", large), ("strict", strict)];

/// All providers of a soak.
pub(super) struct Providers {
    pub(super) upstreams: Vec<FakeUpstream>,
    pub(super) config: String,
    /// Answers well, and at the end not before it is told to.
    pub(super) sound: Arc<Sound>,
}

#[derive(Default)]
pub(super) struct Sound {
    pub(super) is_held: AtomicBool,
    pub(super) held: AtomicUsize,
}

impl Providers {
    pub(super) fn start(seed: u64) -> Self {
        let (mut upstreams, mut config) = (Vec::new(), String::new());
        for (number, (name, fault)) in FAULTY.into_iter().enumerate() {
            let mut random = Random(seed + number as u64);
            let upstream = FakeUpstream::making(move || fault(&mut random));
            config += &(provider(name, &upstream, "") + &limits(name));
            upstreams.push(upstream);
        }
        let sound = Arc::new(Sound::default());
        let rule = Arc::clone(&sound);
        let upstream = FakeUpstream::making(move || rule.reply());
        config += &provider("sound", &upstream, "");
        upstreams.push(upstream);
        Self { upstreams, config, sound }
    }
}

impl Sound {
    fn reply(&self) -> Reply {
        if !self.is_held.load(Ordering::Acquire) {
            return Reply::text("An answer as it should be.");
        }
        self.held.fetch_add(1, Ordering::AcqRel);
        Reply::text("An answer that had to wait.").after_signal()
    }
}

/// One provider is short of everything, one of parallel calls: the ledger is at work.
fn limits(name: &str) -> String {
    match name {
        "strict" => limit("requests", 60, "10s") + &limit("tokens", 200_000, "60s"),
        "slow" => limit("parallel", 8, ""),
        _ => String::new(),
    }
}

fn pause(random: &mut Random, up_to_ms: usize) -> Step {
    Step::Pause(Duration::from_millis(random.below(up_to_ms) as u64))
}

fn text_stream(pauses_ms: usize, random: &mut Random) -> Reply {
    let mut steps = Vec::new();
    for word in ["a", "few", "words", "that", "come", "late"] {
        steps.extend([pause(random, pauses_ms), Step::delta(word)]);
    }
    steps.push(Step::event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})));
    steps.extend([Step::chunk("data: [DONE]\n\n"), Step::End]);
    Reply::stream(steps)
}

fn broken(random: &mut Random) -> Reply {
    match random.below(20) {
        0 => Reply::error(500, "broken"),
        1 => Reply::error(503, "overloaded"),
        2 => Reply::close_at_once(),
        3 => Reply::raw(b"HTTP/1.1 200 OK\r\ncontent-le"),
        4 => Reply::raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\": [{\"mess"),
        5 => Reply::stream([pause(random, 20), Step::delta("a"), pause(random, 20), Step::Cut]),
        6 => Reply::stream([Step::delta("a"), pause(random, 20), Step::Reset]),
        7 => Reply::stream([Step::delta("a"), Step::chunk("data: {\"choices\": [{\"del"), Step::End]),
        8 => Reply::json(200, &json!({"no": "completion"})),
        9 => Reply::raw(b"\0\0\0\0"),
        _ => Reply::text("An answer of the provider that breaks."),
    }
}

fn slow(random: &mut Random) -> Reply {
    match random.below(20) {
        0 => Reply::never_answer(),
        1 => Reply::stream([Step::delta("a"), pause(random, 20), Step::delta("b")]),
        2 => Reply::stream([Step::chunk_forever(": still here\n\n", Duration::from_millis(100))]),
        3..=10 => text_stream(100, random),
        _ => Reply::text("An answer of the provider that is slow."),
    }
}

fn large(random: &mut Random) -> Reply {
    match random.below(20) {
        0 => Reply::completion(&"x".repeat(3 << 20)),
        1 => Reply::stream([Step::delta(&"x".repeat(2 << 20)), Step::End]),
        2 => Reply::stream([Step::chunk_forever(&event(16 << 10), Duration::from_millis(20))]),
        3..=6 => Reply::completion(&"x".repeat(random.below(600 << 10))),
        7..=12 => {
            let steps = (0..20).map(|_| Step::chunk(&event(8 << 10)));
            let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            Reply::stream(steps.chain([Step::event(&last), Step::chunk("data: [DONE]\n\n"), Step::End]))
        }
        _ => Reply::text("An answer of the provider that is large."),
    }
}

fn strict(random: &mut Random) -> Reply {
    match random.below(60) {
        0 => Reply::rate_limited(1),
        1 => Reply::error(429, "slow down"),
        _ => Reply::text("An answer of the provider that counts."),
    }
}

fn event(length: usize) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(length)}}]}))
}
