//! The gateway's own ledger, asked as a provider actor asks it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};
use freellmapi::config::shipped_providers;
use freellmapi::db;
use freellmapi::domain::clock::{Moment, SharedClock};
use freellmapi::domain::ids::ProviderId;
use freellmapi::domain::limit::{self, RequestsCharged, Scope, Unit, Window};
use freellmapi::domain::panics::Panics;
use freellmapi::domain::provider::{AccountSpec, ProviderSpec};
use freellmapi::domain::usage::Usage;
use freellmapi::ledger::shared::{SharedLedgerCounters, SharedProviders};
use freellmapi::ledger::{LedgerAnswer, LedgerAnswered, Names, Plan, ProviderLedger, Reserved};
use freellmapi::quota::{Answer, Book, Charge, Demand, Hold, ModelIndex, Spent, Ticket};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::oneshot;

use crate::limiter::Contender;
use crate::{Limit, Outcome};

/// As the gateway keeps them by default.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// As a provider with the default time-outs has it.
const SEND_WITHIN: Duration = Duration::from_secs(15);

/// Claims that are under way at once while a limit is filled. Chosen: one call's worth.
const FILLING: usize = 32;

/// Those who wait for the ledger's answer.
type Waiting = Rc<RefCell<HashMap<Ticket, oneshot::Sender<LedgerAnswer>>>>;

/// One provider with one account, one model and one limit.
pub(super) struct LedgerLimiter {
    clock: SharedClock,
    /// Mirrors what this process holds; without a ledger it is all there is.
    book: RefCell<Book>,
    shared: Option<Shared>,
    demand: Demand,
    waiting: Waiting,
}

struct Shared {
    owner: SharedProviders,
    ledger: Arc<dyn ProviderLedger>,
    asker: Recipient<LedgerAnswered>,
}

/// Passes the ledger's answers on.
struct Asker(Waiting);

impl Actor for Asker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // One answer for each asker, of whom there are as many as are asked for.
        context.set_mailbox_capacity(1_024);
    }
}

impl Handler<LedgerAnswered> for Asker {
    type Result = ();

    fn handle(&mut self, answered: LedgerAnswered, _: &mut Self::Context) {
        if let Some(asker) = self.0.borrow_mut().remove(&answered.ticket) {
            // Who has left gives back by drop what was granted.
            let _left = asker.send(answered.answer);
        }
    }
}

impl LedgerLimiter {
    /// Must be called on actix's runtime.
    pub(super) fn open(limit: &Limit, clock: &SharedClock) -> Outcome<Self> {
        let spec = provider(limit)?;
        let waiting = Waiting::default();
        let shared = match limit.contender {
            Contender::Ledger => Some(Shared::start(&spec, &limit.to, clock, &waiting)?),
            Contender::Memory | Contender::Redis | Contender::RowLock => None,
        };
        let demand = Demand {
            model: ModelIndex(0),
            input_tokens: 100,
            output_tokens: 1_024,
            send_within: SEND_WITHIN,
            is_streamed: true,
        };
        let mut book = Book::new(&spec);
        if let Some(shared) = &shared {
            shared.ledger.restore(clock.now(), &mut book);
        }
        Ok(Self { clock: Arc::clone(clock), book: RefCell::new(book), shared, demand, waiting })
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(super) async fn admit(&self) -> Result<Hold, String> {
        let (ticket, answer) = match self.ask() {
            Reserved::Now(Answer::Granted(hold)) => return Ok(hold),
            Reserved::Asked(ticket) => (ticket, self.wait_for(ticket)),
            other @ (Reserved::Now(_) | Reserved::Writing(..)) => return Err(format!("{other:?}")),
        };
        match answer.await {
            Ok(LedgerAnswer::Granted(grant)) => {
                Ok(grant.accept(self.clock.now(), &mut self.book.borrow_mut()))
            }
            Ok(other) => Err(format!("{other:?}")),
            Err(_) => Err(format!("{ticket:?} was never answered")),
        }
    }

    fn ask(&self) -> Reserved {
        let mut book = self.book.borrow_mut();
        let now = book.follow(self.clock.now(), self.clock.wall());
        match &self.shared {
            Some(shared) => shared.ledger.reserve(now, &mut book, &self.demand, &shared.asker),
            None => Reserved::Now(book.reserve(now, &self.demand)),
        }
    }

    /// An answer comes through a mailbox of this thread, so never before this.
    fn wait_for(&self, ticket: Ticket) -> oneshot::Receiver<LedgerAnswer> {
        let (tell, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(ticket, tell);
        answer
    }

    /// The call was answered at `now`, all at once: its request holds for one window from then on.
    pub(super) fn end(&self, mut hold: Hold, now: Moment) {
        let spent = Spent::Ended(Charge::Exact(Usage::default()));
        if let Some(shared) = &self.shared {
            shared.ledger.first_byte(now, &hold);
            shared.ledger.answered(&hold);
            shared.ledger.settle(now, &hold, spent);
        }
        let mut book = self.book.borrow_mut();
        book.first_byte(now, &mut hold);
        book.settle(now, hold, spent);
    }

    pub(super) async fn fill(&self, window: Duration, units: u32) -> Result<(), String> {
        let step = window / units.max(1).saturating_add(1);
        let asked = futures_util::stream::iter(0..units).map(|_| self.admit());
        let held: Vec<Hold> = asked.buffered(FILLING).try_collect().await?;
        let now = self.now();
        for (age, hold) in (1..).zip(held) {
            self.end(hold, now - step.saturating_mul(age).min(window));
        }
        Ok(())
    }

    /// Of the shared one.
    pub(super) fn counters(&self) -> Option<SharedLedgerCounters> {
        self.shared.as_ref().map(|shared| shared.owner.ledger().snapshot().counters)
    }

    pub(super) fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.owner.close();
        }
    }
}

impl Shared {
    fn start(spec: &ProviderSpec, url: &str, clock: &SharedClock, waiting: &Waiting) -> Outcome<Self> {
        let store = db::open(url)?;
        let names = Names::new(spec, |_| [0; 32]);
        let plan = Plan { providers: vec![(spec, names)], retention: RETENTION, panics: Panics::default() };
        let owner = SharedProviders::start(url, &*store, clock, plan)?;
        let ledger = owner.provider(spec.id.as_str()).ok_or("the provider has no ledger")?;
        let asker = Asker(Rc::clone(waiting)).start().recipient();
        Ok(Self { owner, ledger, asker })
    }
}

fn provider(limit: &Limit) -> Outcome<ProviderSpec> {
    let shipped = shipped_providers()?.into_iter().find(|spec| !spec.models.is_empty());
    let mut spec = shipped.ok_or("no provider is shipped")?;
    spec.models.truncate(1);
    spec.models.iter_mut().for_each(|model| model.limits.clear());
    let window = Window::Sliding(limit.window());
    Ok(ProviderSpec {
        id: ProviderId::new(&limit.name),
        requests_charged: RequestsCharged::Unknown,
        limits: vec![limit::Limit { scope: Scope::Account, unit: Unit::Requests, max: limit.max, window }],
        accounts: vec![AccountSpec { name: "bench".to_owned(), keys: Vec::new() }],
        ..spec
    })
}
