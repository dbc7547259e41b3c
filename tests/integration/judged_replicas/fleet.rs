//! Three real processes on one Postgres, in front of the strict upstream, and a balancer that knows which of them there are.

use std::cell::RefCell;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use actix_web::rt::time::{sleep, timeout};
use freellmapi::domain::clock::{Moment, SystemClock};
use tempfile::TempDir;

use crate::durability::Process;
use crate::replicas::all;
use crate::support::app::{KEY, limit, provider_at};
use crate::support::database::{TestDatabase, texts_at};
use crate::support::judge::upstream::{Manners, StrictUpstream};
use crate::support::judge::verdict::{JudgedLimit, Unit};
use crate::support::postgres::OwnPostgres;
use crate::support::proxy::Proxy;

pub(super) const REPLICAS: usize = 3;

/// What the upstream admits per window. The requests bind: of tokens there are enough for almost any so many.
pub(super) const REQUESTS: u64 = 30;
pub(super) const TOKENS: u64 = 6_500;

/// The provider's time-outs. They only end what a fault has caught in flight; no answer takes half a second. A process
/// that is stopped for five goes on with what it had, also with a request that had waited for five before.
const CONNECT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(15);

/// So many calls at once are a burst, and how often to look for one.
const IN_FLIGHT: usize = 8;
const LOOK: Duration = Duration::from_millis(2);

/// Where the budgets live.
pub(super) enum Home {
    /// A database on the server that tests share.
    Shared(TestDatabase),
    Own(OwnPostgres),
}

impl Home {
    /// As the gateways open it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Shared(database) => database.url(),
            Self::Own(server) => server.url(),
        }
    }

    /// The column `value` of a query that no fault of a gateway's own way delays.
    pub(super) fn texts(&self, query: &str) -> Vec<String> {
        match self {
            Self::Shared(database) => texts_at(&database.url(), query),
            Self::Own(server) => server.texts(query),
        }
    }

    fn number(&self, query: &str) -> u64 {
        self.texts(query)[0].parse().unwrap()
    }
}

/// The replicas and what they need.
pub(super) struct Fleet {
    pub(super) home: RefCell<Home>,
    pub(super) upstream: StrictUpstream,
    pub(super) judged: Vec<JudgedLimit>,
    pub(super) window: Duration,
    /// Each replica's own way to Postgres, which only some faults use.
    pub(super) ways: Vec<Proxy>,
    folder: TempDir,
    /// By seat; a seat is empty while the balancer knows that nobody is there.
    seats: RefCell<Vec<Option<Process>>>,
    pub(super) clock: SystemClock,
}

impl Fleet {
    /// Three replicas, each with a way of its own to Postgres.
    pub(super) async fn start_by_proxy(home: Home, window: Duration) -> Self {
        Self::start_with(home, window, REPLICAS, "").await
    }

    /// Three replicas.
    pub(super) async fn start(home: Home, window: Duration) -> Self {
        Self::start_with(home, window, 0, "").await
    }

    /// Three replicas, so many of them with a way of their own; `more` is more configuration.
    pub(super) async fn start_with(home: Home, window: Duration, ways: usize, more: &str) -> Self {
        let judged = vec![
            JudgedLimit::requests(REQUESTS, window),
            JudgedLimit::of(Unit::TokensByUse, TOKENS, window),
            JudgedLimit::of(Unit::TokensOnArrival, TOKENS, window),
        ];
        let manners = Manners {
            first_byte_within: Duration::from_millis(150),
            answer_within: Duration::from_millis(150),
            output_max: 60,
        };
        let upstream = StrictUpstream::start(manners, &judged);
        let written = format!("{}ms", window.as_millis());
        let times = format!(
            "connect_timeout = \"{}s\"\nfirst_token_timeout = \"8s\"\nstall_timeout = \"8s\"\ntotal_timeout = \"{}s\"\n",
            CONNECT.as_secs(),
            TOTAL.as_secs()
        );
        let limits = limit("requests", REQUESTS, &written) + &limit("tokens", TOKENS, &written);
        let config = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\nshutdown_grace = \"500ms\"\n"
            .to_owned()
            + &provider_at("up", &upstream.base_url(), &(times + &limits))
            + more;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test.toml"), config).unwrap();
        let server = server_of(&home.url());
        let ways = (0..ways).map(|_| Proxy::start(server.clone())).collect();
        let (seats, clock) = (RefCell::default(), SystemClock::start());
        let fleet = Self { home: RefCell::new(home), upstream, judged, window, ways, folder, seats, clock };
        let started = all((0..REPLICAS).map(|seat| fleet.process(seat))).await;
        fleet.seats.replace(started.into_iter().map(Some).collect());
        fleet
    }

    /// Another process for that seat.
    pub(super) async fn process(&self, seat: usize) -> Process {
        let url = self.home.borrow().url();
        let url = match self.ways.get(seat) {
            Some(way) => url.replace(&server_of(&url), &way.address.to_string()),
            None => url,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear();
        command.env("DATABASE_URL", url).env("FREELLMAPI_API_KEY", KEY);
        command.env("FREELLMAPI_MASTER_KEY", "5a".repeat(32));
        command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
        Process::start(command).await
    }

    /// Where the balancer sends that client: always to the same seat while somebody is there.
    pub(super) fn address(&self, client: usize) -> String {
        let seats = self.seats.borrow();
        let from = client % seats.len();
        let mut around = seats.iter().cycle().skip(from).take(seats.len());
        around.find_map(Option::as_ref).expect("a replica").address.clone()
    }

    /// Puts somebody into a seat, or nobody; who was there before.
    pub(super) fn seat(&self, seat: usize, process: Option<Process>) -> Option<Process> {
        std::mem::replace(&mut self.seats.borrow_mut()[seat], process)
    }

    /// Signals whoever is in that seat.
    pub(super) fn signal(&self, seat: usize, signal: &str) {
        self.seats.borrow()[seat].as_ref().unwrap().signal(signal);
    }

    /// Waits for a moment in which many calls are in flight, but not for ever.
    pub(super) async fn burst(&self) {
        let open =
            || self.upstream.calls().iter().filter(|call| !call.is_refused && call.end.is_none()).count();
        let rising = async {
            while open() < IN_FLIGHT {
                sleep(LOOK).await;
            }
        };
        // A busy machine spreads them.
        let _ = timeout(self.window * 2, rising).await;
    }

    /// Requests held by attempts that were asked for before an instant, of which nobody has said how they ended.
    pub(super) fn stuck_since(&self, before: Moment) -> u64 {
        // Ids tell the millisecond in which they were minted.
        let least = format!("{:012x}", before.unix_micros() / 1_000);
        let (high, low) = least.split_at(8);
        self.home.borrow().number(&format!(
            "SELECT coalesce(sum(h.amount), 0)::bigint::text AS value \
             FROM ledger_holds h JOIN ledger_limits l ON l.id = h.limit_id \
             WHERE l.unit = 'requests' AND h.free_at_us > ledger_now() \
             AND h.attempt_id < '{high}-{low}-0000-0000-000000000000'::uuid"
        ))
    }

    /// Ends everybody; what was wrong in the end. `is_killed` says whether somebody has left holds behind.
    pub(super) async fn finish(self, is_killed: bool) -> (Vec<String>, StrictUpstream, Home) {
        let Self { home, upstream, seats, window, ways, .. } = self;
        let logs = all(seats.into_inner().into_iter().flatten().map(Process::terminate)).await;
        drop(ways);
        let mut wrong = Vec::new();
        for log in logs {
            let is_bad = |line: &&str| ["panic", "this is a bug"].iter().any(|bad| line.contains(bad));
            wrong.extend(log.lines().filter(is_bad).map(str::to_owned));
        }
        let home = home.into_inner();
        let open =
            home.number("SELECT count(*)::text AS value FROM ledger_holds WHERE free_at_us > ledger_now()");
        if open > 0 && !is_killed {
            wrong.push(format!("{open} holds are open that nobody will settle"));
        }
        // Three connects to send in, the whole request, five seconds to count, and the window.
        let cap = CONNECT * 3 + TOTAL + Duration::from_secs(5) + window.mul_f64(1.0001);
        let beyond = home.number(&format!(
            "SELECT count(*)::text AS value FROM ledger_holds WHERE free_at_us > ledger_now() + {}",
            cap.as_micros()
        ));
        if beyond > 0 {
            wrong.push(format!("{beyond} holds last beyond their crash caps"));
        }
        let deadlocks = home.number(
            "SELECT deadlocks::text AS value FROM pg_stat_database WHERE datname = current_database()",
        );
        let is_logged = matches!(&home, Home::Own(server) if server.log().contains("deadlock detected"));
        if deadlocks > 0 || is_logged {
            wrong.push(format!("{deadlocks} deadlocks"));
        }
        (wrong, upstream, home)
    }
}

/// Host and port of a Postgres URL.
fn server_of(url: &str) -> String {
    url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap().0.to_owned()
}
