//! What it costs to offer room to those who wait, by itself: no clock, lock, actor or socket.
//!
//! An example of the gateway's package, built from the library itself. Without an argument it prints a table of all
//! scenarios, each played by a process of its own. With the name of one it plays that, and with a number for so many
//! rounds: under `valgrind --tool=callgrind --toggle-collect='*offer_and_answer*'` the instructions that were counted,
//! divided by the offers that it prints, are those of one offer.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use freellmapi::dispatcher::{Arrival, Door, FairQueue, Gauges, Groups, Notice, Size, Wake};
use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use freellmapi::domain::ids::TenantId;
use freellmapi::domain::input_tokens::InputTokens;
use freellmapi::provider::{Declined, Said};
use freellmapi::quota::ModelIndex;
use freellmapi::routing::Target;

const WAITING: usize = 10_000;

/// Rounds of which the median counts, and the events in each: so few that most rounds are not interrupted.
const ROUNDS: usize = 400;
const EVENTS: usize = 5;

/// What a model without room says of the instant of its next release.
const RELEASE_IN: Duration = Duration::from_secs(1);

/// Beyond everything that happens here.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Who waits for what.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    providers: usize,
    models_each: usize,
    tenants: usize,
    sizes: Sizes,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Sizes {
    /// All alike.
    One,
    /// Between 10 and 100,000 tokens, at random.
    Mixed,
}

#[derive(Clone, Copy)]
enum Wanted {
    /// Every model of every provider.
    All,
    /// One model, at random.
    Pinned,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "one-size",
        providers: 8,
        models_each: 1,
        tenants: 100,
        sizes: Sizes::One,
        wanted: Wanted::All,
    },
    Scenario {
        name: "one-model",
        providers: 8,
        models_each: 1,
        tenants: 100,
        sizes: Sizes::Mixed,
        wanted: Wanted::All,
    },
    Scenario {
        name: "many-models",
        providers: 15,
        models_each: 10,
        tenants: 100,
        sizes: Sizes::Mixed,
        wanted: Wanted::All,
    },
    Scenario {
        name: "one-provider",
        providers: 1,
        models_each: 150,
        tenants: 100,
        sizes: Sizes::Mixed,
        wanted: Wanted::All,
    },
    Scenario {
        name: "many-tenants",
        providers: 8,
        models_each: 4,
        tenants: 1_000,
        sizes: Sizes::Mixed,
        wanted: Wanted::All,
    },
    Scenario {
        name: "pinned",
        providers: 15,
        models_each: 10,
        tenants: 100,
        sizes: Sizes::Mixed,
        wanted: Wanted::Pinned,
    },
];

/// What is known of a request beside the queue.
struct Request {
    number: u64,
    size: Size,
}

/// The queue, and beside it what the books are to it: room for so many tokens at each model.
struct Trial {
    scenario: Scenario,
    queue: FairQueue<usize>,
    gauges: Arc<Gauges>,
    room: Vec<Vec<u64>>,
    requests: Vec<Request>,
    wakes: Vec<Wake<usize>>,
    random: u64,
    now: Moment,
    offers: u32,
    /// The places in `requests` of those who were served.
    served: Vec<usize>,
}

impl Trial {
    fn new(scenario: Scenario) -> Self {
        // No model shares a limit with another.
        let own = (0..scenario.models_each).map(|model| Groups { tokens: model, requests: model });
        let layout = vec![own.collect(); scenario.providers];
        let gauges = Arc::new(Gauges::new(scenario.providers));
        Self {
            scenario,
            queue: FairQueue::new(&layout, 2 * WAITING, Arc::clone(&gauges)),
            gauges,
            room: vec![vec![0; scenario.models_each]; scenario.providers],
            requests: Vec::new(),
            wakes: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            now: Moment::from_unix_micros(1_000_000_000),
            offers: 0,
            served: Vec::new(),
        }
    }

    /// A number below `bound`; xorshift, so that every run draws the same.
    fn draw(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    fn arrival(&mut self) -> Arrival {
        let tokens = match self.scenario.sizes {
            Sizes::One => 2_000,
            Sizes::Mixed => self.draw(100_000).max(10) as u64,
        };
        Arrival {
            number: None,
            tenant: TenantId(self.draw(self.scenario.tenants) as i64),
            weight: 1,
            size: Size { input: InputTokens::certain(tokens), output_tokens: Some(0), choices: 1 },
            deadline: self.now + FAR,
            declined: self.targets().map(|target| Declined { target, said: None }).collect(),
        }
    }

    fn targets(&mut self) -> impl Iterator<Item = Target> + use<> {
        let Scenario { providers, models_each, wanted, .. } = self.scenario;
        let (from, count) = match wanted {
            Wanted::All => (0, providers * models_each),
            Wanted::Pinned => (self.draw(providers * models_each), 1),
        };
        (from..from + count).map(move |position| Target {
            provider: position / models_each,
            model: ModelIndex(position % models_each),
        })
    }

    /// Another request comes, finds no room, and waits at that place of `requests`.
    fn arrive(&mut self, place: usize) {
        let mut arrival = self.arrival();
        let size = arrival.size;
        for declined in &mut arrival.declined {
            let until = self.now + RELEASE_IN;
            declined.said = match self.queue.at_door(self.now, declined.target, &size) {
                Door::Free { round } | Door::Shut { round, .. } => Some(Said::Full { until, round }),
                Door::Behind => None,
            };
        }
        let Ok(number) = self.queue.park(self.now, arrival, place, &mut self.wakes) else { return };
        let request = Request { number, size };
        match self.requests.get_mut(place) {
            Some(served) => *served = request,
            None => self.requests.push(request),
        }
    }

    /// Room for somebody who waits comes free at some model.
    fn free(&mut self) -> usize {
        let (provider, model) = (self.draw(self.scenario.providers), self.draw(self.scenario.models_each));
        let somebody = self.draw(self.requests.len());
        let tokens = self.requests.get(somebody).map_or(0, |request| request.size.input.large);
        let room = self.room.get_mut(provider).and_then(|models| models.get_mut(model));
        room.into_iter().for_each(|room| *room += tokens);
        self.now = self.now + Duration::from_millis(10);
        provider
    }

    /// What is measured: the event, and every offer that follows from it with its answer.
    #[inline(never)]
    fn offer_and_answer(&mut self, provider: usize) {
        self.follow(provider);
    }

    fn follow(&mut self, provider: usize) {
        self.gauges.advance(provider);
        self.queue.freed(self.now, provider, &mut self.wakes);
        self.answer_all();
    }

    fn answer_all(&mut self) {
        while let Some(Wake { waker, notice }) = self.wakes.pop() {
            if let Notice::Offer { targets, round } = notice {
                self.offers += 1;
                self.answer(waker, &targets, round);
            }
        }
    }

    fn answer(&mut self, place: usize, targets: &[Target], round: u64) {
        let Some(&Request { number, size }) = self.requests.get(place) else { return };
        let mut declined = Vec::with_capacity(targets.len());
        for &target in targets {
            let room = self.room.get_mut(target.provider).and_then(|models| models.get_mut(target.model.0));
            if let Some(room) = room.filter(|room| **room >= size.input.large) {
                *room -= size.input.large;
                self.served.push(place);
                return self.queue.granted(self.now, number, target.model, &mut self.wakes);
            }
            let said = Some(Said::Full { until: self.now + RELEASE_IN, round });
            declined.push(Declined { target, said });
        }
        // Nobody's time is up, so everybody waits on.
        let _back = self.queue.back(self.now, (number, &declined), place, &mut self.wakes);
    }

    /// Others come for those who were served, and are offered what is left. Answers how many came, and how long it took
    /// them to sit down.
    fn refill(&mut self, clock: &dyn Clock) -> (u32, Duration) {
        let (mut arrivals, mut arriving) = (0, Duration::ZERO);
        while let Some(place) = self.served.pop() {
            let start = clock.now();
            self.arrive(place);
            arriving += clock.now().saturating_since(start);
            arrivals += 1;
            self.answer_all();
        }
        (arrivals, arriving)
    }
}

/// Plays one scenario; the row of the table that tells what it has cost.
fn play(scenario: Scenario, rounds: usize) -> String {
    let (clock, before) = (SystemClock::start(), resident_bytes());
    let mut trial = Trial::new(scenario);
    (0..WAITING).for_each(|place| trial.arrive(place));
    let bytes_each = (resident_bytes() - before) / WAITING as f64;
    // The first round of each provider ends what all of them have been told as they came.
    (0..scenario.providers).for_each(|provider| trial.follow(provider));
    trial.refill(&clock);
    let (mut offer_us, mut arrival_us, mut offers) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let (mut offering, mut arriving) = (Duration::ZERO, Duration::ZERO);
        let (mut offered, mut arrived) = (0, 0);
        for _ in 0..EVENTS {
            let provider = trial.free();
            trial.offers = 0;
            let start = clock.now();
            trial.offer_and_answer(provider);
            offering += clock.now().saturating_since(start);
            offered += trial.offers;
            let (came, took) = trial.refill(&clock);
            arrived += came;
            arriving += took;
        }
        offers += offered;
        offer_us.push(offering.as_secs_f64() * 1e6 / f64::from(offered.max(1)));
        arrival_us.push(arriving.as_secs_f64() * 1e6 / f64::from(arrived.max(1)));
    }
    let (offer_us, arrival_us) = (median(offer_us), median(arrival_us));
    format!("{:<16}{offer_us:>12.2}{offers:>12}{arrival_us:>12.2}{bytes_each:>12.0}", scenario.name)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What of this process is in memory.
fn resident_bytes() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
    pages.map_or(f64::NAN, |pages| pages * 4_096.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let only = arguments.next();
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    if let Some(name) = only {
        let scenario = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
        say(&play(scenario.ok_or("no such scenario")?, rounds));
        return Ok(());
    }
    say(&format!(
        "{:<16}{:>12}{:>12}{:>12}{:>12}",
        "10,000 waiting", "µs/offer", "offers", "µs to wait", "bytes each"
    ));
    for scenario in SCENARIOS {
        // Of its own, so that nobody measures memory that another one has left.
        let row = Command::new(env::current_exe()?).arg(scenario.name).output()?;
        say(String::from_utf8_lossy(&row.stdout).trim_end());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
