//! One simulated provider: its data, its accounts' books and its moods, shared by all requests to its server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::behaviour::Behaviour;
use super::call::Call;
use super::complaint::Complaint;
use super::completion::{Answer, Letterhead};
use super::fault::Fault;
use super::judge::{Arrival, Judge};
use super::persona::{Persona, Tempo};
use super::random::{SplitMix64, fnv1a};
use super::request::ChatCall;
use super::speech::Speech;
use crate::domain::clock::Moment;
use crate::domain::provider::{Auth, ProviderSpec};
use crate::domain::usage::Usage;

/// How many accounts have books of their own; any further keys share one, so that keys cannot fill the memory.
/// Chosen: far more than a demo or a test uses.
const ACCOUNTS_MAX: usize = 1024;

/// Whose books a call is written in: a fingerprint of its key, so that the key itself is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AccountNumber(u64);

impl AccountNumber {
    pub(super) fn of_key(key: &str) -> Self {
        Self(fnv1a(key))
    }
}

/// The number of calls in progress at all providers together, to look at or to wait on.
pub(super) type OpenCalls = Arc<watch::Sender<usize>>;

/// A simulated provider.
#[derive(Debug)]
pub(super) struct SimulatedProvider {
    spec: ProviderSpec,
    persona: Persona,
    behaviour: Behaviour,
    judges: Mutex<HashMap<AccountNumber, Judge>>,
    random: Mutex<SplitMix64>,
    arrivals: AtomicU64,
    refusals: AtomicU64,
    most_overdrawn_tokens: AtomicU64,
    open_calls: OpenCalls,
}

impl SimulatedProvider {
    pub(super) fn new(spec: ProviderSpec, behaviour: Behaviour, open_calls: OpenCalls) -> Self {
        Self {
            persona: Persona::of(&spec.id),
            random: Mutex::new(SplitMix64::for_text(behaviour.seed, spec.id.as_str())),
            judges: Mutex::new(HashMap::new()),
            arrivals: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            most_overdrawn_tokens: AtomicU64::new(0),
            open_calls,
            spec,
            behaviour,
        }
    }

    pub(super) fn spec(&self) -> &ProviderSpec {
        &self.spec
    }

    /// Requests that arrived with a credential, refused ones too.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Requests that would have broken a limit.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// By how many tokens a limit was overdrawn at most, where tokens are only counted at the end.
    pub(super) fn most_overdrawn_tokens(&self) -> u64 {
        self.most_overdrawn_tokens.load(Ordering::Relaxed)
    }

    /// The account of a request by its bearer key.
    ///
    /// # Errors
    /// 401 when there is none and the provider wants one.
    pub(super) fn account(&self, key: Option<&str>) -> Result<AccountNumber, Complaint> {
        match (self.spec.auth, key) {
            (Auth::None, _) => Ok(AccountNumber::default()),
            (Auth::Bearer, Some(key)) if !key.is_empty() => Ok(AccountNumber::of_key(key)),
            (Auth::Bearer, _) => Err(Complaint::unauthorized()),
        }
    }

    /// Counts a request that arrives, and admits it.
    ///
    /// # Errors
    /// 429, or 413 when it can never fit: a limit of the account says no.
    pub(super) fn open(self: Arc<Self>, account: AccountNumber, arrival: Arrival) -> Result<Call, Complaint> {
        let now = self.behaviour.clock.now();
        let serial = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        match self.judged(account, |judge| judge.arrive(now, arrival)) {
            Err(breach) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                Err(Complaint::breach(self.persona.wording, &breach, now))
            }
            Ok(()) => {
                self.open_calls.send_modify(|calls| *calls += 1);
                Ok(Call::new(self, account, serial))
            }
        }
    }

    /// For [`Call`], when it ends.
    pub(super) fn close(&self, account: AccountNumber, usage: Usage) {
        let now = self.behaviour.clock.now();
        let overdrawn = self.judged(account, |judge| judge.end(now, usage));
        self.most_overdrawn_tokens.fetch_max(overdrawn, Ordering::Relaxed);
        self.open_calls.send_modify(|calls| *calls = calls.saturating_sub(1));
    }

    fn judged<T>(&self, account: AccountNumber, ask: impl FnOnce(&mut Judge) -> T) -> T {
        let mut judges = self.judges.lock();
        let has_room = judges.len() < ACCOUNTS_MAX || judges.contains_key(&account);
        let account = if has_room { account } else { AccountNumber::default() };
        let judge = judges
            .entry(account)
            .or_insert_with(|| Judge::new(&self.spec.documented_limits, self.spec.tokens_charged));
        ask(judge)
    }

    /// Draws what goes wrong with the next answer.
    ///
    /// # Errors
    /// The answer of a fault that shows itself at once.
    pub(super) fn draw_fault(&self) -> Result<Option<Fault>, Complaint> {
        let fault = Fault::draw(&mut self.random.lock(), self.behaviour.fault_percent);
        match fault.and_then(|fault| Complaint::of_fault(fault, self.persona.wording)) {
            Some(complaint) => Err(complaint),
            None => Ok(fault),
        }
    }

    /// The pauses of the next answer.
    pub(super) fn tempo(&self, fault: Option<Fault>) -> Tempo {
        let tempo = self.persona.tempo(self.behaviour.pace, &mut self.random.lock());
        if fault == Some(Fault::SlowStart) { tempo.with_slow_start() } else { tempo }
    }

    pub(super) fn answer(&self, chat: &ChatCall) -> Answer {
        match &chat.tool_call {
            Some(call) => Answer::Call(call.clone()),
            None => Answer::Words(Speech::compose(
                &self.spec.display_name,
                &chat.model,
                &chat.question,
                chat.output_cap,
            )),
        }
    }

    pub(super) fn letterhead(&self, call: &Call, chat: &ChatCall) -> Letterhead {
        Letterhead { serial: call.serial(), created: self.unix_seconds(), model: chat.model.clone() }
    }

    /// Now, in seconds since the Unix epoch.
    pub(super) fn unix_seconds(&self) -> i64 {
        let since_epoch = self.behaviour.clock.now().saturating_since(Moment::default());
        i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::spec;
    use super::*;
    use crate::domain::limit::{Limit, Scope, Unit, Window};

    fn provider(max_requests: u64) -> Arc<SimulatedProvider> {
        let window = Window::Sliding(Duration::from_secs(60));
        let limit = Limit { scope: Scope::Account, unit: Unit::Requests, max: max_requests, window };
        Arc::new(SimulatedProvider::new(spec("groq", vec![limit]), Behaviour::steady(), OpenCalls::default()))
    }

    #[test]
    fn each_key_has_a_budget_of_its_own() {
        let provider = provider(1);
        for key in ["a", "b"] {
            let account = provider.account(Some(key)).unwrap();
            assert!(Arc::clone(&provider).open(account, Arrival::default()).is_ok());
            assert!(Arc::clone(&provider).open(account, Arrival::default()).is_err());
        }
        assert_eq!((provider.arrivals(), provider.refusals()), (4, 2));
    }

    #[test]
    fn more_keys_than_there_are_books_share_one() {
        let provider = provider(1);
        for number in 0..ACCOUNTS_MAX {
            let account = AccountNumber::of_key(&number.to_string());
            assert!(Arc::clone(&provider).open(account, Arrival::default()).is_ok());
        }
        let admitted = (0..50)
            .map(|number| AccountNumber::of_key(&format!("late-{number}")))
            .filter(|account| Arc::clone(&provider).open(*account, Arrival::default()).is_ok());
        assert_eq!(admitted.count(), 1);
    }

    #[test]
    fn a_call_is_open_until_it_is_dropped() {
        let provider = provider(1);
        let call = Arc::clone(&provider).open(AccountNumber::default(), Arrival::default()).unwrap();
        assert_eq!(*provider.open_calls.borrow(), 1);
        drop(call);
        assert_eq!(*provider.open_calls.borrow(), 0);
    }

    #[test]
    fn a_key_is_wanted_unless_the_provider_is_keyless() {
        let provider = provider(1);
        assert!(provider.account(None).is_err() && provider.account(Some("")).is_err());
        let mut keyless = spec("groq", Vec::new());
        keyless.auth = Auth::None;
        assert!(
            SimulatedProvider::new(keyless, Behaviour::steady(), OpenCalls::default()).account(None).is_ok()
        );
    }
}
