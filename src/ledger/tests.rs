//! The ledger over a real store.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use parking_lot::Mutex;

use super::fixture::{limit, names, spec};
use super::*;
use crate::db::{Store, open, open_impatient};
use crate::domain::clock::{Clock, FakeClock, Moment, SharedClock, SystemClock};
use crate::domain::cooldown::CooldownReason;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Limit;
use crate::domain::panics::Panics;
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::{ServedBy, Usage, UsageRecord};
use crate::quota::{
    AccountIndex, Answer, Book, Charge, CooldownScope, Demand, Hold, ModelIndex, Refusal, Spent, Ticket,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A store in a folder of its own, and a clock that stands still.
struct Setting {
    folder: tempfile::TempDir,
    clock: Arc<FakeClock>,
    /// Of the statistics.
    retention: Duration,
}

/// Writes down what the ledger answers.
#[derive(Default)]
struct Probe(Arc<Mutex<Vec<(Ticket, bool)>>>);

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<LedgerAnswered> for Probe {
    type Result = ();

    fn handle(&mut self, LedgerAnswered { ticket, answer }: LedgerAnswered, _: &mut Self::Context) {
        self.0.lock().push((ticket, matches!(answer, LedgerAnswer::Written)));
    }
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::at(SystemClock::start().now()));
        let setting = Self { folder, clock, retention: Duration::from_secs(30 * 86_400) };
        setting.store().migrate().unwrap();
        setting
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("test.db").display())
    }

    fn store(&self) -> Arc<dyn Store> {
        open(&self.url()).unwrap()
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    /// One life of the process, with these limits.
    fn start(&self, limits: &[Limit]) -> Life {
        let spec = spec(limits);
        let store = open_impatient(&self.url(), Duration::from_millis(50)).unwrap();
        let clock: SharedClock = Arc::clone(&self.clock) as _;
        let plan = Plan {
            providers: vec![(&spec, names(&spec))],
            retention: self.retention,
            panics: Panics::default(),
        };
        let ledger = LocalLedger::open(store, clock, plan).unwrap();
        let provider = ledger.provider("p").unwrap();
        let mut book = Book::new(&spec);
        provider.restore(self.now(), &mut book);
        let answers = Arc::default();
        let asker = Probe(Arc::clone(&answers)).start();
        Life { now: Arc::clone(&self.clock), ledger, provider, book, answers, asker, spec }
    }
}

struct Life {
    now: Arc<FakeClock>,
    ledger: LocalLedger,
    provider: Arc<dyn ProviderLedger>,
    book: Book,
    answers: Arc<Mutex<Vec<(Ticket, bool)>>>,
    asker: actix::Addr<Probe>,
    spec: ProviderSpec,
}

impl Life {
    fn reserve(&mut self) -> Reserved {
        let demand = Demand {
            model: ModelIndex(0),
            input_tokens: 5,
            output_tokens: 5,
            send_within: Duration::from_secs(15),
            is_streamed: true,
        };
        let asker = self.asker.clone().recipient();
        self.provider.reserve(self.now.now(), &mut self.book, &demand, &asker)
    }

    /// A hold and whether it was written down.
    async fn written(&mut self) -> (Hold, bool) {
        let Reserved::Writing(ticket, hold) = self.reserve() else { panic!("no room") };
        loop {
            if let Some((_, is_written)) =
                self.answers.lock().iter().find(|(answered, _)| *answered == ticket)
            {
                return (hold, *is_written);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn settle(&mut self, hold: Hold, spent: Spent) {
        self.provider.settle(self.now.now(), &hold, spent);
        self.book.settle(self.now.now(), hold, spent);
    }

    /// So many attempts that end at once.
    async fn use_up(&mut self, count: usize) {
        for _ in 0..count {
            let (hold, is_written) = self.written().await;
            assert!(is_written);
            self.settle(hold, Spent::Ended(Charge::AtLeast(Usage::default())));
        }
    }

    /// How many attempts there is room for on both accounts.
    fn room(&mut self) -> u64 {
        let budgets = self.book.snapshot(self.now.now()).budgets;
        budgets.iter().map(|budget| budget.max.saturating_sub(budget.held)).sum()
    }

    fn refused_until(&mut self) -> Moment {
        let Reserved::Now(Answer::Refused(Refusal::NotUntil(until))) = self.reserve() else {
            panic!("granted")
        };
        until
    }

    async fn end(self) {
        actix_web::rt::task::spawn_blocking(move || self.ledger.close()).await.unwrap();
    }
}

#[actix_web::test]
async fn what_is_spent_stays_spent() {
    let setting = Setting::new();
    let mut life = setting.start(&[limit(2, 60)]);
    life.use_up(3).await;
    let (open, _) = life.written().await;
    // As by `kill -9`: the hold of the open one has no end.
    drop(open);
    life.end().await;

    setting.clock.advance(Duration::from_secs(30));
    let mut next = setting.start(&[limit(2, 60)]);
    assert_eq!(next.room(), 0);
    let rest = next.refused_until().saturating_since(setting.now());
    assert!(rest > Duration::from_secs(29) && rest < Duration::from_secs(31), "{rest:?}");
    setting.clock.advance(Duration::from_secs(31));
    // Three have come back. The open one may have been counted until this process began.
    let _granted = next.reserve();
    assert_eq!(next.room(), 2);
    next.end().await;
}

#[actix_web::test]
async fn what_was_never_sent_holds_nothing() {
    let setting = Setting::new();
    let mut life = setting.start(&[limit(1, 60)]);
    let (hold, _) = life.written().await;
    life.settle(hold, Spent::NotSent);
    life.end().await;
    assert_eq!(setting.store().holds_after(0, 10).unwrap(), []);
    let mut next = setting.start(&[limit(1, 60)]);
    assert_eq!(next.room(), 2);
    next.end().await;
}

#[actix_web::test]
async fn a_route_without_limits_touches_no_ledger() {
    let setting = Setting::new();
    let mut life = setting.start(&[]);
    let Reserved::Now(Answer::Granted(hold)) = life.reserve() else { panic!("it was not granted at once") };
    life.settle(hold, Spent::Ended(Charge::AtLeast(Usage::default())));
    life.end().await;
    assert_eq!(setting.store().holds_after(0, 10).unwrap(), []);
}

#[actix_web::test]
async fn what_cannot_be_written_is_said_and_later_changes_are_not_lost() {
    let setting = Setting::new();
    let mut life = setting.start(&[limit(9, 60)]);
    let (first, _) = life.written().await;
    let blocker = write_lock(&setting.url());
    let (second, is_written) = life.written().await;
    assert!(!is_written);
    life.settle(second, Spent::NotSent);
    life.settle(first, Spent::Ended(Charge::AtLeast(Usage::default())));
    drop(blocker);
    let (third, is_written) = life.written().await;
    assert!(is_written, "the lock is gone");
    life.settle(third, Spent::Ended(Charge::AtLeast(Usage::default())));
    life.end().await;
    let holds = setting.store().holds_after(0, 10).unwrap();
    assert_eq!(holds.len(), 2);
    assert!(holds.iter().all(|hold| hold.finish.is_some_and(|finish| !finish.is_aborted)));
}

/// Keeps the write lock of that database, as another program might, until it is dropped.
fn write_lock(url: &str) -> diesel::SqliteConnection {
    use diesel::Connection;
    use diesel::connection::SimpleConnection;

    let mut connection = diesel::SqliteConnection::establish(url.strip_prefix("sqlite:").unwrap()).unwrap();
    connection.batch_execute("BEGIN IMMEDIATE").unwrap();
    connection
}

#[actix_web::test]
async fn upstreams_word_on_limits_is_kept_and_other_failures_are_not() {
    let setting = Setting::new();
    let life = setting.start(&[limit(9, 60)]);
    let until = setting.now() + MINUTE;
    let left_alone = |account, scope, reason| {
        let account = AccountIndex(account);
        life.provider.cool_down(setting.now(), &LeftAlone { account, scope, until, reason, level: 0 });
    };
    left_alone(0, CooldownScope::Account, CooldownReason::RateLimited);
    left_alone(1, CooldownScope::Model(ModelIndex(0)), CooldownReason::ModelGone);
    life.end().await;
    assert_eq!(setting.store().cooldowns().unwrap().len(), 2);
    let next = setting.start(&[limit(9, 60)]);
    let cooldowns = next.book.snapshot(setting.now()).cooldowns;
    assert_eq!(cooldowns.iter().map(|cooldown| cooldown.account.as_str()).collect::<Vec<_>>(), ["a"]);
    next.end().await;
}

#[actix_web::test]
async fn a_block_holds_every_limit_for_one_window() {
    let setting = Setting::new();
    setting.store().add_block(Some("other"), setting.now()).unwrap();
    let mut life = setting.start(&[limit(2, 60)]);
    assert_eq!(life.room(), 4);
    setting.store().add_block(Some("p"), setting.now()).unwrap();
    // The thread looks twice a second, by this clock.
    loop {
        setting.clock.advance(Duration::from_millis(1));
        match life.reserve() {
            Reserved::Now(Answer::Refused(_)) => break,
            Reserved::Writing(_, hold) => life.settle(hold, Spent::NotSent),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rest = life.refused_until().saturating_since(setting.now());
    assert!(rest > Duration::from_secs(55) && rest < Duration::from_secs(66), "{rest:?}");
    life.end().await;
    let mut next = setting.start(&[limit(2, 60)]);
    assert_eq!(next.room(), 0);
    setting.clock.advance(Duration::from_secs(66));
    let _granted = next.reserve();
    assert_eq!(next.room(), 3);
    next.end().await;
}

/// Requests that ended ten seconds ago, answered by `m` of the provider.
fn served(setting: &Setting, provider: &str, count: usize) {
    let ended_at = setting.now() - Duration::from_secs(10);
    let event = || UsageRecord {
        served_by: Some(ServedBy { provider: ProviderId::new(provider), model: "m".into() }),
        ..UsageRecord::ended_at(ended_at)
    };
    setting.store().record(&(0..count).map(|_| event()).collect::<Vec<_>>()).unwrap();
}

#[actix_web::test]
async fn a_limit_that_is_new_to_the_ledger_is_filled_from_the_statistics_once() {
    let setting = Setting::new();
    served(&setting, "p", 3);
    served(&setting, "q", 1);
    let mut life = setting.start(&[limit(5, 60)]);
    assert_eq!(life.room(), 4, "on each account, for nobody knows whose they were");
    life.use_up(1).await;
    life.end().await;
    setting.clock.advance(Duration::from_secs(20));
    // That of the hold, told ten seconds after the first start.
    served(&setting, "p", 1);
    let mut next = setting.start(&[limit(5, 60)]);
    assert_eq!(next.room(), 3, "what a hold stands for counts once");
    next.end().await;
}

#[actix_web::test]
async fn a_limit_that_nobody_knows_the_past_of_is_full_for_one_window() {
    let mut setting = Setting::new();
    served(&setting, "q", 1);
    setting.retention = Duration::from_secs(30);
    let mut life = setting.start(&[limit(5, 60)]);
    let rest = life.refused_until().saturating_since(setting.now());
    assert!(rest >= MINUTE && rest < Duration::from_secs(66), "{rest:?}");
    life.end().await;
    setting.clock.advance(Duration::from_secs(66));
    let mut next = setting.start(&[limit(5, 60)]);
    assert_eq!(next.room(), 10);
    next.end().await;
}

#[actix_web::test]
async fn a_longer_window_holds_what_is_kept() {
    let setting = Setting::new();
    let mut life = setting.start(&[limit(2, 60)]);
    life.use_up(1).await;
    life.end().await;
    let mut longer = setting.start(&[limit(2, 3_600)]);
    assert_eq!(longer.room(), 3);
    setting.clock.advance(Duration::from_secs(120));
    assert_eq!(longer.room(), 3);
    longer.end().await;
    let mut smaller = setting.start(&[limit(1, 3_600)]);
    assert_eq!(smaller.room(), 1);
    smaller.end().await;
}

#[actix_web::test]
async fn what_is_over_is_swept_and_nothing_else() {
    let setting = Setting::new();
    let mut life = setting.start(&[limit(100, 60)]);
    life.use_up(5).await;
    setting.clock.advance(Duration::from_secs(50));
    life.use_up(2).await;
    setting.clock.advance(Duration::from_secs(20));
    // The thread waits by the real clock and looks at this one.
    while setting.store().holds_after(0, 10).unwrap().len() > 2 {
        setting.clock.advance(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(life.room(), 198);
    assert_eq!(life.spec.accounts.len(), 2);
    life.end().await;
    assert_eq!(setting.store().holds_after(0, 10).unwrap().len(), 2);
}
