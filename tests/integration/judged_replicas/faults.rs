//! The faults. Those that hit the same part are played side by side, each on replicas and a database of its own.

use std::time::Duration;

use actix_web::rt::time::sleep;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use freellmapi::domain::clock::{Clock, Moment};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::fleet::{Fleet, Home, REPLICAS};
use super::{Cost, Pace, all_hold, play};
use crate::support::database::TestDatabase;
use crate::support::postgres::OwnPostgres;
use crate::support::proxy::Way;

/// For how long one replica is stopped: longer than the wait of any call, shorter than what its attempts hold.
const STOPPED: Duration = Duration::from_secs(5);

/// What a database that is slow takes more for each answer.
const SLOW: Duration = Duration::from_millis(200);

/// Connections that the server of one's own admits; six of three replicas, the pools' and the tests' fit in.
const CONNECTIONS: u32 = 60;

/// After so long the living have told how their attempts ended.
const SETTLED: Duration = Duration::from_secs(1);

fn shared() -> Home {
    Home::Shared(TestDatabase::postgres())
}

/// Waits, then tells how many requests were in flight on a replica that `since` cannot say how they end.
async fn stuck(fleet: &Fleet, since: Moment) -> Option<(Moment, u64)> {
    sleep(SETTLED).await;
    Some((since, fleet.stuck_since(since)))
}

/// Waits for a burst while all is well; when it came.
async fn in_a_burst(fleet: &Fleet, pace: Pace) -> Moment {
    sleep(pace.before()).await;
    fleet.burst().await;
    fleet.clock.now()
}

fn nothing(_: &Fleet, _: Pace) -> LocalBoxFuture<'_, Cost> {
    async { Cost::default() }.boxed_local()
}

/// `kill -9` in the midst of a burst.
fn killed(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let since = in_a_burst(fleet, pace).await;
        // The balancer has yet to notice.
        fleet.signal(1, "-KILL");
        sleep(Duration::from_millis(100)).await;
        fleet.seat(1, None).unwrap().kill().await;
        Cost { stuck: stuck(fleet, since).await, is_killed: true, may_break: true, ..Cost::default() }
    }
    .boxed_local()
}

/// A process that is stopped and goes on, as when its machine was suspended.
fn stopped(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let since = in_a_burst(fleet, pace).await;
        fleet.signal(1, "-STOP");
        let stuck = stuck(fleet, since).await;
        sleep(STOPPED.saturating_sub(SETTLED)).await;
        fleet.signal(1, "-CONT");
        // The five seconds that some wait, and those in which the process could not say that they are over.
        Cost { stuck, may_be_late: true, ..Cost::default() }
    }
    .boxed_local()
}

/// One replica after the other is replaced under load.
fn deployed(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        sleep(pace.before()).await;
        for seat in 0..REPLICAS {
            let successor = fleet.process(seat).await;
            let predecessor = fleet.seat(seat, Some(successor)).unwrap();
            predecessor.terminate().await;
        }
        Cost::default()
    }
    .boxed_local()
}

#[actix_web::test]
async fn replicas_that_die_hang_or_are_replaced_let_nothing_through() {
    let pace = Pace::of_this_run();
    all_hold(vec![
        async move { play("no fault", pace, Fleet::start(shared(), pace.window()).await, nothing).await }
            .boxed_local(),
        async move { play("kill -9", pace, Fleet::start(shared(), pace.window()).await, killed).await }
            .boxed_local(),
        async move { play("SIGSTOP", pace, Fleet::start(shared(), pace.window()).await, stopped).await }
            .boxed_local(),
        async move { play("deploy", pace, Fleet::start(shared(), pace.window()).await, deployed).await }
            .boxed_local(),
    ])
    .await;
}

/// Ends the server, once kindly and once by a crash, and starts it again.
#[expect(clippy::await_holding_refcell_ref, reason = "nobody asks for the database while it is away")]
fn restarted(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let mut outages = Vec::new();
        for signal in ["-INT", "-QUIT"] {
            sleep(pace.before()).await;
            fleet.burst().await;
            let mut home = fleet.home.borrow_mut();
            let Home::Own(server) = &mut *home else { panic!("the shared server stays") };
            let away = fleet.clock.now();
            server.end(signal).await;
            server.resume().await;
            outages.push((away, fleet.clock.now()));
        }
        Cost { outages, ..Cost::default() }
    }
    .boxed_local()
}

/// The server is there, and does nothing.
fn hung(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let away = in_a_burst(fleet, pace).await;
        with_server(fleet, OwnPostgres::hang);
        sleep(pace.fault()).await;
        with_server(fleet, OwnPostgres::go_on);
        Cost { outages: vec![(away, fleet.clock.now())], ..Cost::default() }
    }
    .boxed_local()
}

fn with_server<T>(fleet: &Fleet, act: impl FnOnce(&OwnPostgres) -> T) -> T {
    let home = fleet.home.borrow();
    let Home::Own(server) = &*home else { panic!("the shared server stays") };
    act(server)
}

/// Strangers take every connection as soon as it comes free, and the gateways lose theirs.
fn full(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let away = in_a_burst(fleet, pace).await;
        let url = fleet.home.borrow().url();
        let mut strangers = Vec::new();
        while fleet.clock.now() < away + pace.fault() {
            while let Ok(connection) = PgConnection::establish(&url) {
                strangers.push(connection);
            }
            with_server(fleet, |server| {
                server.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE usename = 'gateway' AND application_name LIKE 'freellmapi%'",
                );
            });
            while let Ok(connection) = PgConnection::establish(&url) {
                strangers.push(connection);
            }
            sleep(Duration::from_millis(200)).await;
        }
        drop(strangers);
        Cost { outages: vec![(away, fleet.clock.now())], ..Cost::default() }
    }
    .boxed_local()
}

#[actix_web::test]
async fn a_server_that_restarts_hangs_or_is_full_lets_nothing_through() {
    let pace = Pace::of_this_run();
    let own = async || Home::Own(OwnPostgres::start(CONNECTIONS).await);
    all_hold(vec![
        async { play("restart", pace, Fleet::start(own().await, pace.window()).await, restarted).await }
            .boxed_local(),
        async { play("hung", pace, Fleet::start(own().await, pace.window()).await, hung).await }
            .boxed_local(),
        async { play("full", pace, Fleet::start(own().await, pace.window()).await, full).await }
            .boxed_local(),
    ])
    .await;
}

/// Every answer of the database is late, from the first to the last.
fn slow(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        sleep(pace.before()).await;
        fleet.ways.iter().for_each(|way| way.set(Way::Slow(SLOW)));
        // A unit comes back a settlement later, and is given out a reserve later.
        Cost { delay: SLOW * 3, ..Cost::default() }
    }
    .boxed_local()
}

/// A stranger holds the locks of all limits.
fn locked(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let away = in_a_burst(fleet, pace).await;
        let mut stranger = PgConnection::establish(&fleet.home.borrow().url()).unwrap();
        stranger.batch_execute("BEGIN; SELECT id FROM ledger_limits ORDER BY id FOR UPDATE").unwrap();
        sleep(pace.fault()).await;
        stranger.batch_execute("ROLLBACK").unwrap();
        Cost { outages: vec![(away, fleet.clock.now())], ..Cost::default() }
    }
    .boxed_local()
}

/// One replica does not reach the database; the others go on.
fn cut_off(fleet: &Fleet, pace: Pace) -> LocalBoxFuture<'_, Cost> {
    async move {
        let since = in_a_burst(fleet, pace).await;
        fleet.ways[1].set(Way::Silent);
        let stuck = stuck(fleet, since).await;
        sleep(pace.fault()).await;
        fleet.ways[1].set(Way::Closed);
        sleep(pace.fault() / 2).await;
        fleet.ways[1].set(Way::Open);
        Cost { stuck, ..Cost::default() }
    }
    .boxed_local()
}

#[actix_web::test]
async fn a_way_to_the_ledger_that_is_slow_locked_or_cut_lets_nothing_through() {
    let pace = Pace::of_this_run();
    all_hold(vec![
        async move { play("slow", pace, Fleet::start_by_proxy(shared(), pace.window()).await, slow).await }.boxed_local(),
        async move { play("locked", pace, Fleet::start(shared(), pace.window()).await, locked).await }
            .boxed_local(),
        async move { play("cut off", pace, Fleet::start_by_proxy(shared(), pace.window()).await, cut_off).await }
            .boxed_local(),
    ])
    .await;
}
