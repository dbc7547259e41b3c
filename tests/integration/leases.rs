//! Fast limits on Postgres: replicas spend leases instead of asking for every request, and are never over all the same.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::sleep;
use freellmapi::domain::clock::{Clock, Moment, SystemClock};
use futures_util::future::{Either, select};
use parking_lot::Mutex;

use crate::replicas::{Answer, Fleet, all, never_over};
use crate::support::app::{limit, until};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::Reply;

const CLIENTS: usize = 36;

/// Leases that are held, of whatever replica.
const LEASES: &str = "SELECT attempt_id::text AS value FROM ledger_holds WHERE free_at_us > ledger_now() AND ledger_is_lease(attempt_id)";

#[actix_web::test]
async fn three_replicas_use_a_fast_limit_up_and_ask_seldom() {
    const MAX: usize = 1_280;
    const WINDOW: Duration = Duration::from_secs(15);
    let fleet = Fleet::start(3, &limit("requests", MAX as u64, "15s")).await;
    let answered = Cell::new(0);
    // Until each was refused although it had waited for what others leased in vain; on a machine that is too busy to use
    // the limit up, nobody ever is.
    let client = async |number: usize| {
        while answered.replace(answered.get() + 1) < 3 * MAX {
            let Answer { status, text, .. } = fleet.chat(number % 3, 2_000).await;
            assert!([200, 429].contains(&status), "{status}: {text}");
            if status == 429 {
                return true;
            }
        }
        false
    };
    let refused = all((0..CLIENTS).map(client)).await;
    if refused.contains(&true) {
        let arrivals = fleet.arrivals();
        let counters: Vec<_> = (0..3).map(|replica| fleet.status(replica).counters).collect();
        let (served, now) = (arrivals.len(), *arrivals.last().unwrap());
        let used = arrivals.iter().filter(|at| now.saturating_since(**at) < WINDOW).count();
        assert!(used * 100 >= MAX * 99, "only {used} of {MAX} were used when there was a refusal");
        let calls: u64 = counters.iter().map(|counters| counters.calls).sum();
        let leased: u64 = counters.iter().map(|counters| counters.lease_spends).sum();
        println!("{served} served, {leased} of them from leases, by {calls} calls");
        assert!(leased * 3 > served as u64, "only {leased} of {served} were paid from leases");
        assert!(calls * 2 < served as u64, "{calls} calls for {served} requests");
    }
    // What comes back is given out again, no sooner than it may.
    until("it serves again", async || (fleet.chat(0, 5_000).await.status == 200).then_some(())).await;
    let again = all((0..CLIENTS).map(|number| fleet.chat(number % 3, 5_000))).await;
    assert!(again.iter().any(|answer| answer.status == 200));
    never_over(&fleet.arrivals(), MAX, WINDOW);
    fleet.finish().await;
}

/// The time, until it is told to stand still.
#[derive(Debug)]
struct Held {
    clock: SystemClock,
    at: Mutex<Option<Moment>>,
}

impl Clock for Held {
    fn now(&self) -> Moment {
        self.at.lock().unwrap_or_else(|| self.clock.now())
    }

    fn wall(&self) -> Moment {
        self.clock.wall()
    }
}

#[actix_web::test]
async fn what_is_leased_is_spent_while_the_ledger_is_away_and_nothing_else() {
    let mut fleet = Fleet::start(0, &limit("requests", 10_000, "60s")).await;
    let clock = Arc::new(Held { clock: SystemClock::start(), at: Mutex::default() });
    fleet.replicas.push(fleet.replica_by(Arc::clone(&clock) as _).await);
    // No lease ends while the clock stands.
    assert_eq!(fleet.chat(0, 5_000).await.status, 200);
    *clock.at.lock() = Some(clock.clock.now());
    for _ in 0..40 {
        assert_eq!(fleet.chat(0, 5_000).await.status, 200);
    }
    let counters = fleet.status(0).counters;
    assert!(counters.lease_spends > 0, "{counters:?}");
    fleet.database.take_away();
    let mut served = 0;
    let refused = loop {
        // A claim that nobody answers is given up by the clock, which goes on for it.
        let go_on = async {
            sleep(Duration::from_millis(500)).await;
            *clock.at.lock() = None;
        };
        let mut asked = Box::pin(fleet.chat(0, 0));
        let answer = match select(&mut asked, Box::pin(go_on)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => asked.await,
        };
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served <= 100, "more than any lease has");
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(served > 0, "nothing was spent");
    assert_eq!(fleet.upstream.request_count(), 41 + served);
    *clock.at.lock() = None;
    assert_eq!(fleet.chat(0, 300).await.status, 503);
    fleet.database.bring_back();
    until("recovery", async || (fleet.chat(0, 1_000).await.status == 200).then_some(())).await;
    fleet.finish().await;
}

#[actix_web::test]
async fn what_is_leased_from_a_database_is_not_spent_after_an_older_copy_took_its_place() {
    let mut fleet = Fleet::start(0, &limit("requests", 10_000, "60s")).await;
    let clock = Arc::new(Held { clock: SystemClock::start(), at: Mutex::default() });
    fleet.replicas.push(fleet.replica_by(Arc::clone(&clock) as _).await);
    assert_eq!(fleet.chat(0, 5_000).await.status, 200);
    *clock.at.lock() = Some(clock.clock.now());
    // All within a moment, so that the leases are large, and none of them ends.
    all((0..120).map(|_| fleet.chat(0, 5_000))).await;
    for _ in 0..30 {
        assert_eq!(fleet.chat(0, 5_000).await.status, 200);
    }
    fleet.database.execute("SELECT setval('ledger_serial', 1)");
    until("it is noticed", async || {
        fleet.chat(0, 0).await;
        (fleet.status(0).counters.restores_seen > 0).then_some(())
    })
    .await;
    let sent = fleet.upstream.request_count();
    for _ in 0..20 {
        assert_ne!(fleet.chat(0, 0).await.status, 200, "nobody knows what was used since");
    }
    assert_eq!(fleet.upstream.request_count(), sent);
    *clock.at.lock() = None;
    fleet.finish().await;
}

#[actix_web::test]
async fn a_cooldown_ends_a_lease_at_once() {
    let script = (0..60).map(|_| Reply::text("Well.")).chain([Reply::rate_limited(30)]);
    let upstream = FakeUpstream::start(script);
    let fleet = Fleet::start_with(1, upstream, &limit("requests", 10_000, "60s"), "").await;
    let answers = all((0..60).map(|_| fleet.chat(0, 5_000))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(fleet.chat(0, 0).await.status, 429);
    for _ in 0..20 {
        assert_eq!(fleet.chat(0, 0).await.status, 429);
    }
    assert_eq!(fleet.upstream.request_count(), 61, "a lease was spent on an account that cools");
    until("the lease is given back", async || fleet.database.texts("", LEASES).is_empty().then_some(()))
        .await;
    fleet.finish().await;
}

#[actix_web::test]
async fn the_leases_of_a_killed_replica_end_by_their_caps() {
    const MAX: usize = 700;
    const WINDOW: Duration = Duration::from_secs(4);
    let times = "connect_timeout = \"200ms\"\nfirst_token_timeout = \"1s\"\nstall_timeout = \"1s\"\ntotal_timeout = \"2s\"\n";
    let fleet = Fleet::start(2, &format!("{times}{}", limit("requests", MAX as u64, "4s"))).await;
    let process = fleet.process().await;
    let address = process.address.clone();
    let victim = async {
        loop {
            let answers = all((0..20).map(|_| fleet.chat_with(&address, "up/m-up", 1_000))).await;
            if answers.iter().any(Option::is_none) {
                return;
            }
        }
    };
    let kill = async {
        // Nobody else asks yet. It is stopped, so that what it has leased stays as it is.
        until("it has a lease", async || {
            process.signal("-STOP");
            let has_lease = !fleet.database.texts("", LEASES).is_empty();
            if !has_lease {
                process.signal("-CONT");
                sleep(Duration::from_millis(20)).await;
            }
            has_lease.then_some(())
        })
        .await;
        process.kill().await;
    };
    tokio::join!(victim, kill);
    assert!(!fleet.database.texts("", LEASES).is_empty());
    // Half a second to spend it in, three connects to send in, two seconds to answer, five to count, and the window.
    let beyond =
        "SELECT attempt_id::text AS value FROM ledger_holds WHERE free_at_us > ledger_now() + 12101000";
    assert_eq!(fleet.database.texts("", beyond), [""; 0]);
    let answers = all((0..200).map(|number| fleet.chat(number % 2, 5_000))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    never_over(&fleet.arrivals(), MAX, WINDOW);
    until("what it held is free", async || {
        sleep(Duration::from_millis(200)).await;
        let held = "SELECT attempt_id::text AS value FROM ledger_holds WHERE free_at_us > ledger_now()";
        fleet.database.texts("", held).is_empty().then_some(())
    })
    .await;
    for replica in fleet.replicas {
        replica.drain().await;
    }
}
