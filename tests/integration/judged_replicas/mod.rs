//! The strict judge in front of three replicas on one Postgres, while each thing that can happen to one of them, to the
//! database or to the way between them happens.
//!
//! What is held, always: no way of counting sees more than a limit, the upstream never has to refuse, nothing is held
//! beyond its crash cap, the database knows of no deadlock. What is used of the limits is what one replica uses, but for
//! units in flight at a kill, and, while the ledger is away, for that time and one window. The suite plays it with
//! windows of two seconds and asserts a floor, for a busy machine costs use; `scripts/judge replicas` plays it ten times
//! as slowly and asserts the promise.

mod clients;
mod faults;
mod fleet;
mod queries;

use std::time::Duration;

use freellmapi::domain::clock::{Clock, Moment};
use futures_util::future::LocalBoxFuture;

use self::clients::Crowd;
use self::fleet::{Fleet, REQUESTS};
use crate::judge::is_long;
use crate::replicas::all;
use crate::support::judge::upstream::StrictUpstream;
use crate::support::judge::verdict::{JudgedLimit, Unit, Worst, breaches, charging};

/// What is used at least of what is possible: what one replica reaches in front of the same judge, and for a busy machine
/// and windows of two seconds.
const SHARE: f64 = 0.97;
const FLOOR: f64 = 0.3;

const CROWD: Crowd =
    Crowd { clients: 50, model: "up/m-up", max_wait_ms: 5_000, look_again: Duration::from_millis(400) };

/// How fast time goes in a run.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    factor: u32,
}

impl Pace {
    fn of_this_run() -> Self {
        Self { factor: if is_long() { 10 } else { 1 } }
    }

    fn is_long(self) -> bool {
        self.factor > 1
    }

    fn window(self) -> Duration {
        Duration::from_secs(2) * self.factor
    }

    fn run(self) -> Duration {
        Duration::from_secs(9) * self.factor
    }

    /// How long all is well before something happens.
    fn before(self) -> Duration {
        Duration::from_secs(2) * self.factor
    }

    /// How long it lasts, where that is the test's to say.
    fn fault(self) -> Duration {
        Duration::from_secs(2) * self.factor.min(5)
    }
}

/// What a fault costs of what is possible, and what it may do to clients.
#[derive(Debug, Default)]
struct Cost {
    /// When the ledger was away from all replicas.
    outages: Vec<(Moment, Moment)>,
    /// Requests in flight on a replica that could not say how they ended, from when on.
    stuck: Option<(Moment, u64)>,
    /// How much longer each unit's round takes.
    delay: Duration,
    is_killed: bool,
    /// Whether clients may lose their connections.
    may_break: bool,
    /// Whether refusals may be so late that streams have begun.
    may_be_late: bool,
}

/// Clients ask while something happens; what was wrong.
async fn play(
    name: &str,
    pace: Pace,
    fleet: Fleet,
    fault: impl for<'a> FnOnce(&'a Fleet, Pace) -> LocalBoxFuture<'a, Cost>,
) -> Vec<String> {
    let until = fleet.clock.now() + pace.run();
    let (told, cost) = tokio::join!(CROWD.ask(&fleet, until), fault(&fleet, pace));
    let judged = fleet.judged.clone();
    let (mut wrong, upstream, _) = fleet.finish(cost.is_killed).await;
    wrong.extend(complaints(&judged, &upstream));
    wrong.extend(use_complaint(name, pace, &judged[0], &upstream, &cost, until));
    eprintln!("{name}: {told:?}, {cost:?}");
    if told.broken.get() > 0 && !cost.may_break {
        wrong.push("answers without an end".to_owned());
    }
    if told.refused_late.get() > 0 && !cost.may_be_late {
        wrong.push("refusals later than a heartbeat".to_owned());
    }
    wrong.into_iter().map(|complaint| format!("{name}: {complaint}")).collect()
}

/// What the judge says of the limits.
fn complaints(judged: &[JudgedLimit], upstream: &StrictUpstream) -> Vec<String> {
    let calls = upstream.calls();
    let mut found = Vec::new();
    let refused = calls.iter().filter(|call| call.is_refused).count();
    if refused > 0 {
        found.push(format!("the upstream had to refuse {refused} of {}", calls.len()));
    }
    for limit in judged {
        for Worst { way, excess } in breaches(&calls, limit) {
            found.push(format!("{limit:?} passed by {excess}: {way}"));
        }
    }
    found
}

/// What is said when too little was used.
fn use_complaint(
    name: &str,
    pace: Pace,
    limit: &JudgedLimit,
    upstream: &StrictUpstream,
    cost: &Cost,
    until: Moment,
) -> Option<String> {
    let calls = upstream.calls();
    let first = calls.iter().map(|call| call.arrival).min()?;
    let used = calls.iter().filter(|call| call.arrival <= until).count() as u64;
    let round = limit.window + charging(&calls, Unit::Requests) + cost.delay;
    let possible = possible((first, until), round, limit.window, cost);
    let share = used as f64 / possible.max(1) as f64;
    eprintln!("{name}: {used} of {possible} requests used, {:.1} %", share * 100.0);
    let least = if pace.is_long() { SHARE } else { FLOOR };
    (share < least).then(|| format!("only {used} of {possible} used"))
}

/// How many requests there was room for: the maximum at once, and once more per whole round of the time in which the
/// ledger was there; it is missed for its absence and one window.
fn possible((first, until): (Moment, Moment), round: Duration, window: Duration, cost: &Cost) -> u64 {
    let missed: Duration =
        cost.outages.iter().map(|(away, back)| back.saturating_since(*away) + window).sum();
    let rounds = |time: Duration| u64::try_from(time.as_micros() / round.as_micros()).unwrap();
    let all = 1 + rounds(until.saturating_since(first).saturating_sub(missed));
    let stuck = cost.stuck.map_or(0, |(since, stuck)| stuck * (rounds(until.saturating_since(since)) + 1));
    (all * REQUESTS).saturating_sub(stuck)
}

/// Plays scenarios side by side, and fails with all that was wrong.
async fn all_hold(scenarios: Vec<LocalBoxFuture<'_, Vec<String>>>) {
    let wrong: Vec<String> = all(scenarios).await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
