//! What waits for one provider, and the one call that is in flight for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::backoff::Backoff;
use super::job::{Cooling, Work};
use super::memory::Memory;
use super::news::News;
use crate::db::shared_ledger::{AttemptId, Budget, Claim};
use crate::domain::clock::Moment;

/// Claims in one call. Chosen: decided in some 20 ms where each meets four limits of a thousand rows (measured), a
/// tenth of the statement's time.
const CLAIMS_PER_CALL: usize = 32;
/// News in one call. Chosen: as with claims; each touches its own rows only.
const NEWS_PER_CALL: usize = 128;
/// Of those, what is to be changed at limits. Chosen: four limits for each; were there no bound, what gathers of leases
/// during an outage would take longer than a statement may, each time anew.
const LINES_PER_CALL: usize = 512;
/// Claims that wait. Chosen: a second of the database's throughput; beyond it they would be told "away" anyway.
pub(super) const CLAIMS_WAITING: usize = 1_024;
/// Releases kept while the ledger is away. Chosen: more than can have been asked in flight; the oldest end by their
/// crash caps.
const RELEASES_MAX: usize = 10_000;

/// A claim that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting<A> {
    pub(super) claim: Claim,
    pub(super) answer: A,
    /// When it was asked.
    pub(super) since: Moment,
    /// How often its limits were introduced.
    pub(super) introductions: u32,
}

/// The call in flight.
#[derive(Debug)]
pub(super) struct InFlight<A> {
    pub(super) number: u64,
    pub(super) started: Moment,
    pub(super) deadline: Moment,
    pub(super) waiting: Vec<Waiting<A>>,
    /// What was sent, besides the claims, to be put back should it fail.
    pub(super) sent: Work,
}

#[derive(Debug)]
pub(super) struct Desk<A> {
    pub(super) waiting: VecDeque<Waiting<A>>,
    pub(super) news: News,
    pub(super) releases: BTreeSet<AttemptId>,
    pub(super) introductions: Vec<Arc<Budget>>,
    pub(super) cooling: Vec<Cooling>,
    pub(super) must_block: bool,
    pub(super) memory: Memory,
    pub(super) in_flight: Option<InFlight<A>>,
    pub(super) backoff: Backoff,
    /// The highest number of a call seen. Per provider, because only its calls are one after the other.
    pub(super) serial: i64,
}

impl<A> Default for Desk<A> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            news: News::default(),
            releases: BTreeSet::new(),
            introductions: Vec::new(),
            cooling: Vec::new(),
            must_block: false,
            memory: Memory::default(),
            in_flight: None,
            backoff: Backoff::default(),
            serial: i64::MIN,
        }
    }
}

impl<A> Desk<A> {
    /// Takes what the next call carries. While limits are introduced nothing else is asked, for that may take long.
    pub(super) fn take_work(&mut self, now: Moment) -> (Work, Vec<Waiting<A>>) {
        let mut work = Work {
            release: std::mem::take(&mut self.releases).into_iter().collect(),
            block: std::mem::take(&mut self.must_block),
            cooling: std::mem::take(&mut self.cooling),
            introduce: std::mem::take(&mut self.introductions),
            ..Work::default()
        };
        if !work.introduce.is_empty() || work.block {
            return (work, Vec::new());
        }
        if self.has_news(now) {
            work.settle = self.news.take(NEWS_PER_CALL, LINES_PER_CALL);
        }
        let count = self.waiting.len().min(CLAIMS_PER_CALL);
        let waiting: Vec<Waiting<A>> = self.waiting.drain(..count).collect();
        work.reserve = waiting.iter().map(|waiting| waiting.claim.clone()).collect();
        (work, waiting)
    }

    /// Puts back the parts of a call that were not carried out, for sure or perhaps; how many news were lost by it.
    /// All of them may be done twice.
    pub(super) fn put_back(
        &mut self,
        now: Moment,
        sent: Work,
        (is_prepared, is_settled): (bool, bool),
    ) -> u64 {
        if !is_prepared {
            self.release(sent.release);
            self.must_block |= sent.block;
            self.cooling.splice(0..0, sent.cooling);
            self.introductions.extend(sent.introduce);
        }
        if is_settled { 0 } else { self.news.put_back(now, sent.settle) }
    }

    /// Whether news are to be written now: they have waited long enough, or are enough.
    fn has_news(&self, now: Moment) -> bool {
        self.news.len() >= NEWS_PER_CALL || self.news.due_at().is_some_and(|due_at| due_at <= now)
    }

    pub(super) fn has_work(&self, now: Moment) -> bool {
        self.has_news(now)
            || !(self.waiting.is_empty()
                && self.releases.is_empty()
                && self.introductions.is_empty()
                && self.cooling.is_empty()
                && !self.must_block)
    }

    /// Takes attempts back with the next call.
    pub(super) fn release(&mut self, attempts: impl IntoIterator<Item = AttemptId>) {
        self.releases.extend(attempts);
        while self.releases.len() > RELEASES_MAX {
            self.releases.pop_first();
        }
    }

    /// Has the limits of a claim introduced, and asks it again after that.
    pub(super) fn introduce(&mut self, mut waiting: Waiting<A>) {
        for line in waiting.claim.accounts.iter().flat_map(|account| &account.lines) {
            if !self.introductions.contains(&line.budget) {
                self.introductions.push(Arc::clone(&line.budget));
            }
        }
        waiting.introductions += 1;
        self.waiting.push_front(waiting);
    }
}
