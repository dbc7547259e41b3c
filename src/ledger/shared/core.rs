//! Decides what is asked when; pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::counters::SharedLedgerCounters;
use super::desk::{CLAIMS_WAITING, Desk, InFlight, Waiting};
use super::job::{Cooling, Failure, Job, Report};
use super::memory::{Known, KnownCooling};
use super::verdict::Verdict;
use crate::db::shared_ledger::{AttemptId, Claim, Decision, Reserved, Settlement};
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;

/// How long a claim waits for its answer. Chosen: five statements' time-outs; the asker waits on, as for capacity.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for a call that introduces limits or blocks them all: it may read a month of events.
const LONG_PATIENCE: Duration = Duration::from_secs(25);
/// When to ask a ledger again that is away or has too much to do, where no failure of its own names an instant.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often expired rows are deleted. Chosen: a sum reads expired rows too, so they should stay few.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A claim whose limits are still unknown after so many introductions is told "away": somebody else undoes them.
const INTRODUCTIONS_MAX: u32 = 3;

/// Answers that are due, each with its asker.
pub(super) type Answers<A> = Vec<(A, Verdict)>;

/// All desks of a process. `A` is what an answer is given to.
#[derive(Debug)]
pub(super) struct Core<A> {
    desks: BTreeMap<ProviderId, Desk<A>>,
    /// Of the database as a whole.
    backoff: Backoff,
    pub(super) counters: SharedLedgerCounters,
    calls: u64,
    next_sweep: Moment,
    /// Nothing waits for more of its kind any longer.
    is_draining: bool,
}

impl<A> Core<A> {
    pub(super) fn new() -> Self {
        Self {
            desks: BTreeMap::new(),
            backoff: Backoff::default(),
            counters: SharedLedgerCounters::default(),
            calls: 0,
            next_sweep: Moment::from_unix_micros(i64::MIN),
            is_draining: false,
        }
    }

    /// The process ends: what has become known is written at once.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        self.desks.values_mut().for_each(|desk| desk.news.urge());
    }

    /// Takes a claim in, or answers it at once: from memory, or because the ledger is away or too many wait.
    pub(super) fn reserve(&mut self, now: Moment, claim: Claim, answer: A) -> Option<(A, Verdict)> {
        let closed = self.backoff.closed_until(now);
        let desk = self.desks.entry(claim.provider.clone()).or_default();
        let verdict = match desk.memory.answer(now, &claim) {
            Some(Known::TooLarge) => Some(Verdict::TooLarge),
            Some(Known::NotUntil(until)) => {
                self.counters.refused_from_memory += 1;
                Some(Verdict::NotUntil(until))
            }
            None => {
                let is_full = desk.waiting.len() >= CLAIMS_WAITING;
                let full = is_full.then(|| now + ASK_AGAIN);
                let again = closed.max(desk.backoff.closed_until(now)).or(full);
                self.counters.away += u64::from(again.is_some());
                again.map(Verdict::Away)
            }
        };
        match verdict {
            Some(verdict) => Some((answer, verdict)),
            None => {
                desk.waiting.push_back(Waiting { claim, answer, since: now, introductions: 0 });
                None
            }
        }
    }

    /// Takes news of an attempt in. They wait a little for more of them, unless they may be what somebody waits for.
    pub(super) fn settle(&mut self, now: Moment, settlement: Settlement) {
        let desk = self.desks.entry(settlement.provider.clone()).or_default();
        let is_awaited = settlement.is_given_back || settlement.probe.is_some() || desk.memory.has_refused();
        let is_urgent = is_awaited || self.is_draining;
        if settlement.probe.is_some() {
            desk.memory.forget_probes();
        }
        if settlement.is_given_back {
            desk.memory.forget_refusals();
        } else {
            desk.memory.forget(&settlement.lines);
        }
        self.counters.news_lost += desk.news.add(now, settlement, is_urgent);
    }

    /// Leaves a target alone at once here, and soon everywhere; or no longer.
    pub(super) fn cool(&mut self, now: Moment, provider: ProviderId, cooling: Cooling) {
        let desk = self.desks.entry(provider).or_default();
        match &cooling {
            Cooling::Cool { part, duration, why } => {
                desk.memory.cool_down((now, self.calls), part, *duration, *why);
            }
            Cooling::Reopen { part } => desk.memory.reopen(part),
        }
        desk.cooling.push(cooling);
    }

    /// What is left alone of those providers of which that has changed since the last time.
    pub(super) fn take_changed_cooling(&mut self) -> Vec<(ProviderId, Arc<[KnownCooling]>)> {
        let changed = |(provider, desk): (&ProviderId, &mut Desk<A>)| {
            desk.memory.take_changed_cooling().map(|cooling| (provider.clone(), cooling))
        };
        self.desks.iter_mut().filter_map(changed).collect()
    }

    /// Forgets what was refused: the limits have changed.
    pub(super) fn forget_refusals(&mut self) {
        self.desks.values_mut().for_each(|desk| desk.memory.forget_refusals());
    }

    /// The next call, when there is something to do that may be done now. While the database fails, one call at a
    /// time finds out whether it still does.
    pub(super) fn next_job(&mut self, now: Moment) -> Option<Job> {
        let is_probed = self.backoff.is_failing() && self.desks.values().any(|desk| desk.in_flight.is_some());
        if is_probed || self.backoff.closed_until(now).is_some() {
            return None;
        }
        let provider = self.most_urgent(now)?;
        let desk = self.desks.get_mut(&provider)?;
        let (mut work, waiting) = desk.take_work(now);
        if now >= self.next_sweep {
            work.sweep = true;
            self.next_sweep = now + SWEEP_EVERY;
        }
        self.calls += 1;
        self.counters.calls += 1;
        self.counters.claims_asked += u64::try_from(waiting.len()).unwrap_or(u64::MAX);
        let is_long = !work.introduce.is_empty() || work.block;
        let deadline = now + if is_long { LONG_PATIENCE } else { PATIENCE };
        let sent = copy_without_claims(&work);
        desk.in_flight = Some(InFlight { number: self.calls, started: now, deadline, waiting, sent });
        Some(Job { number: self.calls, provider, work })
    }

    /// Whose oldest claim has waited longest; those with news only come after.
    fn most_urgent(&self, now: Moment) -> Option<ProviderId> {
        let is_ready = |desk: &Desk<A>| {
            desk.in_flight.is_none() && desk.backoff.closed_until(now).is_none() && desk.has_work(now)
        };
        let urgency = |desk: &Desk<A>| desk.waiting.front().map_or(Moment::NEVER, |waiting| waiting.since);
        let ready = self.desks.iter().filter(|(_, desk)| is_ready(desk));
        ready.min_by_key(|(_, desk)| urgency(desk)).map(|(provider, _)| provider.clone())
    }

    /// Takes the report of a call in. One that comes after its deadline is not heard: its claims were released.
    pub(super) fn finish(&mut self, now: Moment, report: Report) -> Answers<A> {
        let is_it = |desk: &&mut Desk<A>| {
            desk.in_flight.as_ref().is_some_and(|in_flight| in_flight.number == report.number)
        };
        let Some(desk) = self.desks.values_mut().find(is_it) else { return Vec::new() };
        let Some(mut in_flight) = desk.in_flight.take() else { return Vec::new() };
        self.counters.swept += report.swept;
        self.counters.settled += report.settled.map_or(0, |settled| settled.settled);
        self.counters.settled_missing += report.settled.map_or(0, |settled| settled.missing);
        desk.news.call_took(now.saturating_since(in_flight.started));
        let done = (report.is_prepared, report.settled.is_some());
        self.counters.news_lost += desk.put_back(now, std::mem::take(&mut in_flight.sent), done);
        match report.failure {
            None => {
                desk.backoff.succeeded();
                self.backoff.succeeded();
            }
            Some(failure) => {
                self.counters.calls_failed += 1;
                match failure {
                    Failure::Unreachable => self.backoff.failed(now),
                    Failure::Refused => desk.backoff.failed(now),
                }
            }
        }
        let Some(reserved) = report.reserved else {
            return self.give_up(now, in_flight.waiting, report.was_asked);
        };
        Self::tell(desk, &mut self.counters, now, in_flight, &reserved)
    }

    /// Answers claims with what the database decided.
    fn tell(
        desk: &mut Desk<A>,
        counters: &mut SharedLedgerCounters,
        now: Moment,
        call: InFlight<A>,
        reserved: &Reserved,
    ) -> Answers<A> {
        let InFlight { number, started, waiting, .. } = call;
        let is_restored = reserved.serial <= desk.serial;
        desk.serial = reserved.serial;
        if is_restored {
            // An older copy does not know what was used since: what it grants may be more than there is.
            counters.restores_seen += 1;
            desk.must_block = true;
            desk.release(waiting.iter().map(|waiting| waiting.claim.id));
            counters.away += u64::try_from(waiting.len()).unwrap_or(u64::MAX);
            let away = |waiting: Waiting<A>| (waiting.answer, Verdict::Away(now + ASK_AGAIN));
            return waiting.into_iter().map(away).collect();
        }
        desk.memory.remember(now, &reserved.obstacles);
        let accounts = waiting.iter().flat_map(|waiting| &waiting.claim.accounts);
        desk.memory.learn(now, number, accounts, &reserved.cooled);
        let mut answers = Vec::new();
        for (waiting, decision) in waiting.into_iter().zip(&reserved.decisions).rev() {
            let verdict = match decision {
                Decision::Granted { account, is_probe } => {
                    counters.granted += 1;
                    let send_by = started + waiting.claim.send_within;
                    Verdict::Granted { account: *account, send_by, is_probe: *is_probe }
                }
                Decision::Refused { after } => {
                    counters.refused += 1;
                    Verdict::NotUntil(now + *after)
                }
                Decision::TooLarge => Verdict::TooLarge,
                Decision::Unknown if waiting.introductions < INTRODUCTIONS_MAX => {
                    desk.introduce(waiting);
                    continue;
                }
                Decision::Unknown | Decision::Void => {
                    counters.away += 1;
                    Verdict::Away(now + ASK_AGAIN)
                }
            };
            answers.push((waiting.answer, verdict));
        }
        // In reverse, so that claims whose limits are introduced keep their order.
        answers.reverse();
        answers
    }

    /// Tells claims that the ledger is away, and takes them back if they may have reached it.
    fn give_up(&mut self, now: Moment, waiting: Vec<Waiting<A>>, was_asked: bool) -> Answers<A> {
        let mut answers = Vec::new();
        for waiting in waiting {
            self.counters.away += 1;
            let again = self.ask_again(now, &waiting.claim.provider);
            if was_asked {
                self.counters.unknown_outcomes += 1;
                self.release(&waiting.claim.provider, waiting.claim.id);
            }
            answers.push((waiting.answer, Verdict::Away(again)));
        }
        answers
    }

    /// When the next call for a provider may be made: sooner would be in vain, and later would lose what there is.
    fn ask_again(&self, now: Moment, provider: &ProviderId) -> Moment {
        let of_desk = self.desks.get(provider).and_then(|desk| desk.backoff.closed_until(now));
        self.backoff.closed_until(now).max(of_desk).unwrap_or(now + ASK_AGAIN)
    }

    fn release(&mut self, provider: &ProviderId, attempt: AttemptId) {
        if let Some(desk) = self.desks.get_mut(provider) {
            desk.release([attempt]);
        }
    }

    /// Gives up calls that are past their deadline, and claims that have waited too long to be asked.
    pub(super) fn expire(&mut self, now: Moment) -> Answers<A> {
        let mut answers = Vec::new();
        let providers: Vec<ProviderId> = self.desks.keys().cloned().collect();
        for provider in providers {
            let Some(desk) = self.desks.get_mut(&provider) else { continue };
            if let Some(late) = desk.in_flight.take_if(|in_flight| in_flight.deadline <= now) {
                self.counters.calls_failed += 1;
                self.counters.news_lost += desk.put_back(now, late.sent, (false, false));
                self.backoff.failed(now);
                answers.extend(self.give_up(now, late.waiting, true));
            }
            let Some(desk) = self.desks.get_mut(&provider) else { continue };
            let is_old = |waiting: &Waiting<A>| waiting.since + PATIENCE <= now;
            let count = desk.waiting.iter().take_while(|waiting| is_old(waiting)).count();
            let old: Vec<Waiting<A>> = desk.waiting.drain(..count).collect();
            answers.extend(self.give_up(now, old, false));
        }
        answers
    }

    /// When [`Self::expire`] or [`Self::next_job`] has something to do next, if nothing else happens.
    pub(super) fn next_wake(&self, now: Moment) -> Option<Moment> {
        let of_desk = |desk: &Desk<A>| {
            let call = desk.in_flight.as_ref().map(|in_flight| in_flight.deadline);
            let claim = desk.waiting.front().map(|waiting| waiting.since + PATIENCE);
            let closed = self.backoff.closed_until(now).max(desk.backoff.closed_until(now));
            let again = if desk.has_work(now) { closed } else { None };
            // What is due already waits for a connection, whose report wakes as well.
            let news = desk.news.due_at().filter(|due_at| *due_at > now);
            call.into_iter().chain(claim).chain(again).chain(news).min()
        };
        self.desks.values().filter_map(of_desk).min()
    }

    /// Whether the last call failed.
    pub(super) fn is_away(&self) -> bool {
        self.backoff.is_failing()
    }

    pub(super) fn claims_waiting(&self) -> usize {
        self.desks.values().map(|desk| desk.waiting.len()).sum()
    }

    /// Attempts of which something is yet to be written.
    pub(super) fn unwritten(&self) -> usize {
        let in_flight = |desk: &Desk<A>| desk.in_flight.as_ref().map_or(0, |call| call.sent.settle.len());
        self.desks.values().map(|desk| desk.news.len() + desk.releases.len() + in_flight(desk)).sum()
    }
}

fn copy_without_claims(work: &super::job::Work) -> super::job::Work {
    super::job::Work {
        release: work.release.clone(),
        block: work.block,
        cooling: work.cooling.clone(),
        introduce: work.introduce.clone(),
        settle: work.settle.clone(),
        ..super::job::Work::default()
    }
}
