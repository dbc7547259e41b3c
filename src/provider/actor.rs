//! One provider on one worker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, MessageResult, SpawnHandle};

use super::adapter::adapter;
use super::attempt::Attempt;
use super::decision;
use super::guard::AttemptGuard;
use super::job::Job;
use super::learned::Asked;
use super::messages::{ObserveProvider, Returned, Try, Verdict};
use super::pending::Pending;
use super::probe::Probe;
use super::shared::ProviderShared;
use super::transport::{TlsConfig, Transport};
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, Phase, UpstreamFailure};
use crate::domain::limit::TokensCharged;
use crate::ledger::{LedgerAnswer, LedgerAnswered, Reserved};
use crate::quota::{Answer, Demand, Hold, ModelIndex, Refusal, Ticket};

/// Only requests with an admission permit send messages here, one at a time each; the bound is theirs. The
/// number matters to `try_send` alone, which nobody uses here.
const MAILBOX_CAPACITY: usize = 1_024;

/// Decides whether its provider has capacity for an attempt and starts it; owns this worker's connections to
/// the provider. The buckets and the health are shared with the same provider's actors on other workers.
pub struct ProviderActor {
    shared: Arc<ProviderShared>,
    transport: Rc<Transport>,
    response_body_limit: usize,
    /// Attempts whose limits live in a ledger that has not answered yet; bounded by the admission permits.
    pending: Pending<Reserving>,
    /// Rings when the first of them has waited long enough.
    timer: Option<(Moment, SpawnHandle)>,
}

/// An attempt whose reservation is asked for.
struct Reserving {
    attempt: Try,
    asked: Asked,
    /// Goes with what is not granted yet.
    probe: Option<Probe>,
    /// What is granted already and only has to be written down.
    guard: Option<AttemptGuard>,
}

impl ProviderActor {
    /// Must be called on the worker's own thread: connections live there.
    pub fn new(shared: Arc<ProviderShared>, tls: &TlsConfig, response_body_limit: usize) -> Self {
        let path = adapter(shared.spec().dialect).path();
        let transport = Rc::new(Transport::new(tls, shared.spec(), path));
        Self { shared, transport, response_body_limit, pending: Pending::default(), timer: None }
    }

    fn demand(&self, job: &Job, index: ModelIndex) -> (Demand, Option<u64>) {
        let added = self.added_output_cap(job, index);
        let send_within = self.shared.spec().timeouts.connect.saturating_mul(SEND_WITHIN_CONNECTS);
        let choice_cap = job.request.choice_cap.or(added).unwrap_or(0);
        let output_tokens = job.request.output_tokens(choice_cap);
        let input_tokens = self.shared.input_edge(index, job.request.input_tokens);
        (
            Demand {
                model: index,
                input_tokens,
                output_tokens,
                send_within,
                is_streamed: job.request.streamed,
            },
            added,
        )
    }

    /// Where an upstream charges by the cap, or may, what was reserved is what is asked for.
    fn added_output_cap(&self, job: &Job, index: ModelIndex) -> Option<u64> {
        if job.request.choice_cap.is_some() || !self.shared.has_token_limits(index) {
            return None;
        }
        match self.shared.spec().tokens_charged {
            TokensCharged::Usage => None,
            TokensCharged::Reserve | TokensCharged::Unknown => self.shared.output_cap(index),
        }
    }

    fn reserve(&mut self, attempt: Try, context: &Context<Self>) {
        if self.shared.model(attempt.model).is_none() {
            return self.give_back(attempt, Refusal::TooLarge);
        }
        if attempt.job.patience(&self.shared.spec().timeouts, self.shared.clock().now()).0.is_zero() {
            return Self::overdue(attempt);
        }
        let (demand, added_cap) = self.demand(&attempt.job, attempt.model);
        let request = &attempt.job.request;
        let asked = Asked {
            input: request.input_tokens,
            input_reserved: demand.input_tokens,
            has_client_cap: request.choice_cap.is_some(),
            added_cap,
            choices: request.choices,
        };
        // Not kept: an actor that holds its own address never ends.
        let (reserved, probe) = self.shared.reserve(&demand, || context.address().recipient());
        let mut reserving = Reserving { attempt, asked, probe, guard: None };
        match reserved {
            Reserved::Now(answer) => self.follow(answer, reserving),
            Reserved::Writing(ticket, hold) => {
                reserving.guard = Some(self.guard(hold, &mut reserving));
                self.hold_back(ticket, reserving);
            }
            Reserved::Asked(ticket) => self.hold_back(ticket, reserving),
        }
    }

    /// The time for the whole request is over before this attempt has begun: no fault of the provider's.
    fn overdue(Try { job, back, .. }: Try) {
        let failure = UpstreamFailure::new(
            FailureKind::Timeout(Phase::Total),
            "the time for the whole request is over",
        );
        back.do_send(Returned { job, verdict: Verdict::Failed(failure) });
    }

    fn follow(&mut self, answer: Answer, reserving: Reserving) {
        match answer {
            Answer::Granted(hold) => {
                let mut reserving = reserving;
                let guard = self.guard(hold, &mut reserving);
                self.begin(reserving, guard);
            }
            Answer::Refused(refusal) => self.give_back(reserving.attempt, refusal),
            Answer::Pending(ticket) => self.hold_back(ticket, reserving),
        }
    }

    fn give_back(&self, Try { job, model, back }: Try, refusal: Refusal) {
        let verdict = match (refusal, self.shared.off_until(model)) {
            (Refusal::NotUntil(_), Some(instant)) => Verdict::Off(instant),
            (refusal, _) => Verdict::Refused(refusal),
        };
        back.do_send(Returned { job, verdict });
    }

    /// Goes on with what the ledger has answered.
    fn resume(&mut self, answer: LedgerAnswer, mut reserving: Reserving) {
        match (answer, reserving.guard.take()) {
            (LedgerAnswer::Written, Some(guard)) => self.begin(reserving, guard),
            (LedgerAnswer::Granted(grant), _) => {
                let hold = self.shared.accept(grant, &mut reserving.probe);
                self.decided(Answer::Granted(hold), reserving);
            }
            (LedgerAnswer::Refused(refusal), _) => self.decided(Answer::Refused(refusal), reserving),
            (LedgerAnswer::Away(until), _) => give_up(reserving, until),
            // A ledger that has written what nobody granted.
            (LedgerAnswer::Written, None) => give_up(reserving, Moment::NEVER),
        }
    }

    fn decided(&mut self, answer: Answer, reserving: Reserving) {
        decision::count(self.shared.metrics(), decision::of(&answer));
        self.follow(answer, reserving);
    }

    /// Keeps an attempt until its ledger answers, for as long as its request may wait.
    fn hold_back(&mut self, ticket: Ticket, mut reserving: Reserving) {
        let until = reserving.attempt.job.ledger_until(self.shared.clock().now());
        self.pending.insert(ticket, until, reserving);
    }

    /// Hands back whose ledger has not answered in time.
    fn give_up_overdue(&mut self) {
        let now = self.shared.clock().now();
        while let Some(reserving) = self.pending.pop_overdue(now) {
            give_up(reserving, now + LEDGER_AGAIN);
        }
    }

    /// Wakes the actor when the next ledger's time is over: one timer for all, since nearly every ledger answers long
    /// before.
    fn watch(&mut self, context: &mut Context<Self>) {
        let Some(next) = self.pending.next_deadline() else { return };
        match self.timer {
            Some((at, _)) if at <= next => return,
            Some((_, later)) => _ = context.cancel_future(later),
            None => {}
        }
        let pause = next.saturating_since(self.shared.clock().now());
        let timer = context.run_later(pause, |actor, context| {
            actor.timer = None;
            let panics = actor.shared.panics().clone();
            let _survived = panics.survive("a provider actor", || actor.give_up_overdue());
            actor.watch(context);
        });
        self.timer = Some((next, timer));
    }

    /// The room is the attempt's own: whoever waits next may be asked.
    fn guard(&self, hold: Hold, reserving: &mut Reserving) -> AttemptGuard {
        if let Some(seat) = reserving.attempt.job.route.seat.take() {
            seat.granted(hold.model());
        }
        AttemptGuard::new(Arc::clone(&self.shared), (hold, reserving.probe.take()), reserving.asked)
    }

    fn begin(&self, reserving: Reserving, guard: AttemptGuard) {
        let Reserving { attempt: Try { job, back, .. }, asked, .. } = reserving;
        let attempt = Attempt {
            job,
            guard,
            transport: Rc::clone(&self.transport),
            back,
            added_output_cap: asked.added_cap,
            response_body_limit: self.response_body_limit,
        };
        let panics = self.shared.panics();
        // What it leaves behind when it panics is settled and recorded as it is dropped; its client gets 500.
        // On the heap before it is spawned: the runtime moves a task several times, and this one is large.
        actix::spawn(Box::pin(panics.survive_all("an attempt", attempt.run())));
    }
}

/// Hands back what could not be written down, and gives back what it held.
fn give_up(reserving: Reserving, until: Moment) {
    let Reserving { attempt: Try { job, back, .. }, .. } = reserving;
    back.do_send(Returned { job, verdict: Verdict::LedgerAway(until) });
}

/// When to ask again whose ledger has not answered in time. Chosen: as a ledger that is away says itself.
const LEDGER_AGAIN: Duration = Duration::from_secs(1);

/// TCP and TLS each have the connect timeout; a third part is for the machine.
const SEND_WITHIN_CONNECTS: u32 = 3;

impl Actor for ProviderActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Handler<Try> for ProviderActor {
    type Result = ();

    fn handle(&mut self, attempt: Try, context: &mut Self::Context) {
        let panics = self.shared.panics().clone();
        let _survived = panics.survive("a provider actor", || self.reserve(attempt, context));
        self.watch(context);
    }
}

impl Handler<LedgerAnswered> for ProviderActor {
    type Result = ();

    fn handle(&mut self, LedgerAnswered { ticket, answer }: LedgerAnswered, context: &mut Self::Context) {
        let panics = self.shared.panics().clone();
        let _survived = panics.survive("a provider actor", || match self.pending.take(ticket) {
            Some(reserving) => self.resume(answer, reserving),
            // Told long ago that the ledger is away: a grant that is dropped is given back.
            None => drop(answer),
        });
        self.watch(context);
    }
}

impl Handler<ObserveProvider> for ProviderActor {
    type Result = MessageResult<ObserveProvider>;

    fn handle(&mut self, _: ObserveProvider, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.shared.snapshot())
    }
}

#[cfg(test)]
mod tests {
    use actix::Recipient;
    use bytestring::ByteString;
    use parking_lot::Mutex;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::config::shipped_providers;
    use crate::domain::chat::ChatRequest;
    use crate::domain::clock::{Clock, FakeClock};
    use crate::domain::ids::{KeyId, RequestId, TenantId};
    use crate::domain::panics::Panics;
    use crate::domain::provider::AccountSpec;
    use crate::domain::usage::Surface;
    use crate::ledger::{LeftAlone, ProviderLedger};
    use crate::metrics::Metrics;
    use crate::provider::{Route, Seat, SeatKeeper, tls_config};
    use crate::quota::{Book, Spent};
    use crate::stats::{Completion, LostEvents, OpenRequests, Recorder, Records};

    const TICKET: Ticket = Ticket(7);
    const MODEL: ModelIndex = ModelIndex(0);

    /// A ledger that answers nobody, and remembers what it was told.
    #[derive(Debug)]
    struct Silent {
        /// Whether the book has granted what it is to write.
        writes: bool,
        settled: Mutex<Vec<Spent>>,
    }

    impl ProviderLedger for Silent {
        fn restore(&self, _: Moment, _: &mut Book) {}

        fn reserve(
            &self,
            now: Moment,
            book: &mut Book,
            demand: &Demand,
            _: &Recipient<LedgerAnswered>,
        ) -> Reserved {
            if !self.writes {
                return Reserved::Asked(TICKET);
            }
            let Answer::Granted(hold) = book.reserve(now, demand) else { panic!("the book is empty") };
            Reserved::Writing(TICKET, hold)
        }

        fn first_byte(&self, _: Moment, _: &Hold) {}

        fn settle(&self, _: Moment, _: &Hold, spent: Spent) {
            self.settled.lock().push(spent);
        }

        fn cool_down(&self, _: Moment, _: &LeftAlone) {}
    }

    /// Takes what comes back, in the dispatcher's place.
    struct Dispatcher(mpsc::Sender<Returned>);

    impl Actor for Dispatcher {
        type Context = Context<Self>;
    }

    impl Handler<Returned> for Dispatcher {
        type Result = ();

        fn handle(&mut self, returned: Returned, _: &mut Self::Context) {
            self.0.try_send(returned).unwrap();
        }
    }

    impl Handler<Records> for Dispatcher {
        type Result = ();

        fn handle(&mut self, _: Records, _: &mut Self::Context) {}
    }

    /// What a seat was told.
    #[derive(Default)]
    struct Seats(Mutex<Vec<&'static str>>);

    impl SeatKeeper for Seats {
        fn granted(&self, _: u64, _: ModelIndex) {
            self.0.lock().push("granted");
        }

        fn left(&self, _: u64) {
            self.0.lock().push("left");
        }
    }

    struct Scene {
        ledger: Arc<Silent>,
        shared: Arc<ProviderShared>,
        clock: Arc<FakeClock>,
        actor: actix::Addr<ProviderActor>,
        seats: Arc<Seats>,
        returned: mpsc::Receiver<Returned>,
        _client: oneshot::Receiver<crate::provider::Answer>,
    }

    /// A request that was offered room, and whose wait is over now, is asked for.
    fn scene(writes: bool) -> Scene {
        let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_000_000_000)));
        let mut spec = shipped_providers().unwrap().remove(0);
        spec.accounts = vec![AccountSpec { name: "a".to_owned(), keys: Vec::new() }];
        let ledger = Arc::new(Silent { writes, settled: Mutex::default() });
        let shared = ProviderShared::new(Arc::new(spec), clock.clone(), Panics::default());
        let shared = Arc::new(shared.with_ledger(Arc::clone(&ledger) as _));
        let actor = ProviderActor::new(Arc::clone(&shared), &tls_config().unwrap(), 1).start();
        let (sender, returned) = mpsc::channel(1);
        let back = Dispatcher(sender).start();
        let records = back.clone();
        let recorder = Recorder::new(
            Arc::new(move |batch| records.try_send(batch)),
            OpenRequests::default(),
            LostEvents::default(),
            Arc::clone(Metrics::new().unwrap().requests()),
        );
        let caller = (TenantId(1), KeyId(1));
        let completion = Completion::open(
            recorder,
            clock.clone(),
            RequestId::mint(),
            caller,
            (Surface::OpenAi, clock.now()),
        );
        let (reply, client) = oneshot::channel();
        let seats = Arc::new(Seats::default());
        let route = Route {
            opened_at: clock.now(),
            wait_until: clock.now(),
            is_offered: true,
            seat: Some(Seat::new(1, Arc::clone(&seats) as _)),
            ..Route::default()
        };
        let request = Arc::new(ChatRequest::new(ByteString::new()));
        let job = Box::new(Job { request, completion, reply, route });
        actor.do_send(Try { job, model: MODEL, back: back.recipient() });
        Scene { ledger, shared, clock, actor, seats, returned, _client: client }
    }

    #[actix_web::test]
    async fn whose_ledger_does_not_answer_comes_back_at_its_deadline() {
        let mut scene = scene(false);
        scene.actor.send(ObserveProvider).await.unwrap();
        assert!(scene.returned.try_recv().is_err(), "the ledger has a moment");
        scene.clock.advance(Duration::from_millis(50));
        let returned = scene.returned.recv().await.unwrap();
        assert!(matches!(returned.verdict, Verdict::LedgerAway(_)), "{:?}", returned.verdict);
        assert!(returned.job.route.seat.is_some(), "it keeps its place");

        // The ledger answers after all; what it grants is given back by being dropped.
        let answer = LedgerAnswer::Refused(Refusal::TooLarge);
        scene.actor.send(LedgerAnswered { ticket: TICKET, answer }).await.unwrap();
        assert!(scene.returned.try_recv().is_err(), "it is answered once");
        assert_eq!(scene.shared.snapshot().book.open_holds, 0);
    }

    #[actix_web::test]
    async fn what_is_being_written_is_its_own_until_the_deadline() {
        let mut scene = scene(true);
        scene.actor.send(ObserveProvider).await.unwrap();
        assert_eq!(*scene.seats.0.lock(), ["granted"], "the next may be asked while it is written");
        assert_eq!(scene.shared.snapshot().book.open_holds, 1);
        scene.clock.advance(Duration::from_millis(50));
        let returned = scene.returned.recv().await.unwrap();
        assert!(matches!(returned.verdict, Verdict::LedgerAway(_)), "{:?}", returned.verdict);
        assert_eq!(scene.shared.snapshot().book.open_holds, 0);
        assert_eq!(*scene.ledger.settled.lock(), [Spent::NotSent]);
        scene.actor.send(LedgerAnswered { ticket: TICKET, answer: LedgerAnswer::Written }).await.unwrap();
        assert_eq!(scene.ledger.settled.lock().len(), 1, "it is given back once");
    }
}
