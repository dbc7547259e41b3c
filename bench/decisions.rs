//! What the gateway's decisions cost by themselves, in this process and without any socket.
//!
//! An example of the gateway's package and not a program of the bench's: it is built from the library itself.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use freellmapi::config::shipped_providers;
use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use freellmapi::domain::limit::{Limit, Scope, Unit, Window};
use freellmapi::domain::provider::{AccountSpec, ProviderSpec};
use freellmapi::domain::usage::Usage;
use freellmapi::quota::estimate::text_tokens;
use freellmapi::quota::{Answer, Book, Charge, Demand, ModelIndex, Spent};

const ACCOUNTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Rounds of which the median counts.
const ROUNDS: usize = 21;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    say("refusals, 5 accounts", "ns each");
    for (name, max) in [("1 request", 1), ("1,024 requests", 1_024), ("100,000 requests", 100_000)] {
        say(name, &format!("{:.0}", refusal_ns(&*clock, max)?));
    }
    say("\nestimates", "µs each");
    for kilobytes in [1, 8, 66] {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(kilobytes * 1_024 / 45 + 1);
        let cost = median_ns(&*clock, 200, || {
            black_box(text_tokens(black_box(&text)));
        });
        say(&format!("{kilobytes} kB of English"), &format!("{:.1}", cost / 1_000.0));
    }
    Ok(())
}

/// What it costs to refuse from a full book whose units come back at many instants.
fn refusal_ns(clock: &dyn Clock, max: u64) -> Result<f64, Box<dyn std::error::Error>> {
    let mut spec = shipped_providers()?.into_iter().next().ok_or("no provider is shipped")?;
    let account = |number| AccountSpec { name: format!("account-{number}"), keys: Vec::new() };
    spec.accounts = (0..ACCOUNTS).map(account).collect();
    spec.models.iter_mut().for_each(|model| model.limits.clear());
    let limit = Limit { scope: Scope::Account, unit: Unit::Requests, max, window: Window::Sliding(WINDOW) };
    let mut book = Book::new(&ProviderSpec { limits: vec![limit], ..spec });
    let demand = Demand {
        model: ModelIndex(0),
        input_tokens: 1,
        output_tokens: 1,
        send_within: Duration::ZERO,
        is_streamed: true,
    };
    let now = fill(&mut book, clock.now(), &demand, max);
    Ok(median_ns(clock, 10_000, || drop(black_box(book.reserve(black_box(now), &demand)))))
}

/// Takes everything at even distances over one window; returns its last instant.
fn fill(book: &mut Book, start: Moment, demand: &Demand, max: u64) -> Moment {
    let all = max * ACCOUNTS as u64;
    let step = WINDOW / 2 / u32::try_from(all).unwrap_or(u32::MAX);
    let mut now = start;
    while let Answer::Granted(mut hold) = book.reserve(now, demand) {
        book.first_byte(now, &mut hold);
        book.settle(now, hold, Spent::Ended(Charge::Exact(Usage::default())));
        now = now + step;
    }
    now
}

/// The median over the rounds of what one of `times` calls costs.
fn median_ns(clock: &dyn Clock, times: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = clock.now();
            (0..times).for_each(|_| call());
            clock.now().saturating_since(start).as_nanos() as f64 / f64::from(times)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn say(name: &str, figure: &str) {
    println!("{name:<24}{figure:>10}");
}
