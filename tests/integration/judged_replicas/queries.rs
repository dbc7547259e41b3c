//! What the database is asked, by its own statistics: that depends on limits and replicas, not on who asks the gateway.

use std::time::Duration;

use freellmapi::domain::clock::{Clock, SystemClock};

use super::clients::{Crowd, Told};
use super::fleet::{Fleet, Home, REPLICAS};
use crate::support::app::{limit, provider_at};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::postgres::OwnPostgres;

const WINDOW: Duration = Duration::from_secs(2);
const PHASE: Duration = Duration::from_secs(3);
const MAX_WAIT_MS: u64 = 1_000;

/// Limits that a chat takes units from: requests and tokens.
const LIMITS: u64 = 2;

/// Transactions of one replica that have nothing to do with the ledger: those of its start, and those of a second, in
/// which statistics are written twice.
const AT_START: u64 = 100;
const PER_SECOND: u64 = 10;

/// What the database was asked since it was made. A session reports at its end at the latest, so that this is exact
/// when all gateways have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    reserves: u64,
    settles: u64,
    transactions: u64,
}

impl Asked {
    fn read(server: &OwnPostgres) -> Self {
        let number = |query: &str| server.texts(query)[0].parse().unwrap();
        let calls = |function: &str| {
            number(&format!(
                "SELECT coalesce(sum(calls), 0)::text AS value FROM pg_stat_user_functions \
                 WHERE funcname = '{function}'"
            ))
        };
        Self {
            reserves: calls("ledger_reserve"),
            settles: calls("ledger_settle"),
            transactions: number(
                "SELECT xact_commit::text AS value FROM pg_stat_database WHERE datname = current_database()",
            ),
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            reserves: self.reserves - earlier.reserves,
            settles: self.settles - earlier.settles,
            transactions: self.transactions - earlier.transactions,
        }
    }
}

/// What came of some clients who asked three replicas.
struct Phase {
    told: Told,
    asked: Asked,
    seconds: u64,
}

impl Phase {
    async fn of(server: OwnPostgres, more: &str, crowd: Crowd) -> (Self, OwnPostgres) {
        let before = Asked::read(&server);
        let fleet = Fleet::start_with(Home::Own(server), WINDOW, 0, more).await;
        let clock = SystemClock::start();
        let began = clock.now();
        let told = crowd.ask(&fleet, fleet.clock.now() + PHASE).await;
        let seconds = clock.now().saturating_since(began).as_secs() + 1;
        let (wrong, _, home) = fleet.finish(false).await;
        assert!(wrong.is_empty(), "{wrong:?}");
        let Home::Own(server) = home else { panic!("it was its own") };
        let asked = Asked::read(&server).since(before);
        eprintln!("{} clients of {}, {seconds} s: {told:?}, {asked:?}", crowd.clients, crowd.model);
        (Self { told, asked, seconds }, server)
    }
}

impl Phase {
    fn calls(&self) -> u64 {
        self.asked.reserves + self.asked.settles
    }

    /// Fails where the database was asked for more than so many answers, looked at by so many replicas, come to.
    fn is_bounded(&self) {
        let Self { told, asked, seconds } = self;
        let (served, replicas) = (told.served.get(), REPLICAS as u64);
        // What comes free may be asked for by all at once, and while anybody waits each limit once a second.
        let reserves = replicas * served + replicas * LIMITS * (seconds + 2);
        assert!(asked.reserves <= reserves, "{asked:?}");
        // The first byte and the end, of attempts that were granted and left as well.
        assert!(asked.settles <= 2 * served + replicas * LIMITS, "{asked:?}");
        let others = replicas * (AT_START + PER_SECOND * seconds);
        assert!(asked.transactions <= self.calls() + others, "{asked:?}");
        let requests = told.refused.get() + served;
        assert!(requests > 0 && told.broken.get() == 0, "{told:?}");
    }
}

#[actix_web::test]
async fn the_database_is_asked_by_limits_and_replicas_and_not_by_clients() {
    let once = FakeUpstream::start([]);
    let full = provider_at("once", &once.base_url(), &limit("requests", 1, "10m"));
    let server = OwnPostgres::start(60).await;
    let crowd = |clients, model| Crowd {
        clients,
        model,
        max_wait_ms: MAX_WAIT_MS,
        look_again: Duration::from_millis(100),
    };
    let (few, server) = Phase::of(server, &full, crowd(10, "up/m-up")).await;
    let (many, server) = Phase::of(server, &full, crowd(100, "up/m-up")).await;
    let (refused, _server) = Phase::of(server, &full, crowd(100, "once/m-once")).await;
    few.is_bounded();
    many.is_bounded();
    // Per answer that was served, for a busy machine serves fewer. Ten clients are too few for every replica to be asked
    // about whatever comes free, and for their news to be awaited.
    let (few_served, many_served) = (few.told.served.get(), many.told.served.get());
    assert!(many.calls() * few_served <= 3 * few.calls() * many_served, "more clients ask for more");
    // A limit that stays full is asked for when a replica meets it first, and hardly again.
    refused.is_bounded();
    assert_eq!((refused.told.served.get(), once.request_count()), (1, 1));
    assert!(refused.asked.reserves <= REPLICAS as u64 * (refused.seconds + 2), "{:?}", refused.asked);
}
