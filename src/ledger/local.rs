//! The ledger of a process that serves alone from its store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::Recipient;
use parking_lot::{Condvar, Mutex};

use super::asker::Asker;
use super::identity::Names;
use super::kept::Kept;
use super::left_alone::LeftAlone;
use super::messages::LedgerAnswered;
use super::provider_ledger::{ProviderLedger, Reserved};
use super::queue::Queue;
use super::restored::{self, Restored};
use super::rows;
use super::sweep::Sweep;
use super::writer::Writer;
use crate::db::{BlockRow, CoverageRow, Store, StoreError};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::panics::Panics;
use crate::domain::provider::ProviderSpec;
use crate::quota::{Answer, Book, BookLimit, Demand, Finish, Hold, Pools, Refusal, Spent, Ticket};

/// What a local ledger is opened with.
pub struct Plan<'a> {
    pub providers: Vec<(&'a ProviderSpec, Names)>,
    /// How long the statistics keep an event.
    pub retention: Duration,
    /// Where a panic of its thread is counted.
    pub panics: Panics,
}

/// The one owner of what is kept: a thread of its own, which ends with [`LocalLedger::close`] or when this is dropped.
#[derive(Debug)]
pub struct LocalLedger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Between the providers, which fill the queue, and the thread, which empties it.
#[derive(Debug)]
pub(super) struct Shared {
    /// One short lock; nothing waits under it.
    pub(super) queue: Mutex<Inbox>,
    pub(super) has_work: Condvar,
    clock: SharedClock,
    pub(super) providers: HashMap<String, Arc<LocalProvider>>,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) queue: Queue<Asker>,
    next_id: i64,
    pub(super) is_closing: bool,
    /// The thread has ended.
    pub(super) is_closed: bool,
    /// The thread waits, and must be woken for what it does not expect.
    pub(super) is_waiting: bool,
}

/// One provider's part of it.
pub(super) struct LocalProvider {
    names: Names,
    pools: Pools,
    /// Until the book has been filled.
    restored: Mutex<Option<Restored>>,
    /// Blocks that the book does not know yet.
    blocks: Mutex<Vec<Moment>>,
    has_blocks: AtomicBool,
}

/// A provider's access.
#[derive(Debug)]
struct Access {
    shared: Arc<Shared>,
    provider: Arc<LocalProvider>,
}

impl LocalLedger {
    /// Reads what is kept, ends the attempts of the process before, and starts the thread. The caller holds the store's
    /// exclusive lock, which is the proof that that process is dead. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: Arc<dyn Store>, clock: SharedClock, plan: Plan<'_>) -> Result<Self, StoreError> {
        let now = clock.now();
        let limits: Vec<Vec<BookLimit>> =
            plan.providers.iter().map(|(spec, _)| Book::new(spec).limits()).collect();
        let with_limits: Vec<_> =
            plan.providers.iter().zip(&limits).map(|((_, names), limits)| (names, limits.clone())).collect();
        store.abort_open_holds(now)?;
        let kept = Kept::read(&*store, now, plan.retention, &with_limits)?;
        let coverage = renew_coverage(&*store, &kept, &with_limits)?;
        drop(with_limits);
        let providers = plan.providers.into_iter().zip(limits).map(|((spec, names), limits)| {
            let restored = Restored::new(&kept, &names, &limits, spec.tokens_charged);
            (spec.id.as_str().to_owned(), Arc::new(LocalProvider::new(spec, names, restored)))
        });
        let shared = Arc::new(Shared {
            providers: providers.collect(),
            // Growing with time, so that no id is given twice even where the last rows were swept.
            queue: Mutex::new(Inbox {
                next_id: now.unix_micros().max(kept.last_id() + 1),
                ..Inbox::default()
            }),
            has_work: Condvar::new(),
            clock: Arc::clone(&clock),
        });
        let last_block = kept.blocks.last().map_or(0, |block| block.id);
        let writer = Writer::new(Arc::clone(&shared), store, clock, Sweep::new(&coverage), last_block);
        let panics = plan.panics;
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(&panics));
        let thread = thread.map_err(|error| StoreError::Query(Box::new(error)))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The ledger of one provider; `None` for one that it was not opened with.
    pub fn provider(&self, id: &str) -> Option<Arc<dyn ProviderLedger>> {
        let provider = Arc::clone(self.shared.providers.get(id)?);
        Some(Arc::new(Access { shared: Arc::clone(&self.shared), provider }))
    }

    /// Writes everything that is still to be written, and ends. Blocks, for as long as one write may take.
    pub fn close(mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the ledger's thread has panicked: what was used last may be forgotten");
        }
    }
}

impl Drop for LocalLedger {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Written before anything is sent, so that no attempt is known to be kept that is not.
fn renew_coverage(
    store: &dyn Store,
    kept: &Kept,
    providers: &[(&Names, Vec<BookLimit>)],
) -> Result<Vec<CoverageRow>, StoreError> {
    let renewed = providers.iter().flat_map(|(names, limits)| kept.coverage.renewed(kept.now, names, limits));
    let mut rows: Vec<CoverageRow> = renewed.collect();
    store.put_hold_coverages(&rows)?;
    let is_renewed = |old: &&CoverageRow| rows.iter().any(|row| row.target == old.target);
    let rest: Vec<_> = kept.coverage_rows.iter().filter(|row| !is_renewed(row)).cloned().collect();
    rows.extend(rest);
    Ok(rows)
}

impl Shared {
    fn close(&self) {
        self.queue.lock().is_closing = true;
        self.has_work.notify_one();
    }

    /// Changes the queue, and wakes the thread if it does not know that there is something to do by then.
    fn change<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        let mut inbox = self.queue.lock();
        let knew = inbox.queue.due();
        let answer = change(&mut inbox);
        let is_news = inbox.queue.has_new_holds() || knew != inbox.queue.due();
        let wakes = is_news && std::mem::replace(&mut inbox.is_waiting, false);
        drop(inbox);
        if wakes {
            self.has_work.notify_one();
        }
        answer
    }

    /// Tells those whom they concern.
    pub(super) fn block(&self, blocks: &[BlockRow]) {
        for block in blocks {
            let is_meant = |id: &str| block.provider.as_deref().is_none_or(|provider| provider == id);
            for (_, provider) in self.providers.iter().filter(|(id, _)| is_meant(id)) {
                provider.blocks.lock().push(block.since);
                provider.has_blocks.store(true, Ordering::Release);
            }
        }
    }
}

impl LocalProvider {
    fn new(spec: &ProviderSpec, names: Names, restored: Restored) -> Self {
        let (pools, restored) = (Pools::new(spec), Mutex::new(Some(restored)));
        Self { names, pools, restored, blocks: Mutex::default(), has_blocks: AtomicBool::new(false) }
    }

    fn apply_blocks(&self, now: Moment, book: &mut Book) {
        if self.has_blocks.swap(false, Ordering::Acquire) {
            let blocks = std::mem::take(&mut *self.blocks.lock());
            let accounts = self.names.account_count();
            blocks.into_iter().for_each(|since| restored::block(now, book, accounts, since));
        }
    }
}

impl fmt::Debug for LocalProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalProvider").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Access {
    fn write(
        &self,
        now: Moment,
        book: &mut Book,
        mut hold: Hold,
        asker: &Recipient<LedgerAnswered>,
    ) -> Reserved {
        let Some(mut row) = rows::row(0, &self.provider.names, &hold.record()) else {
            // What has no name cannot be kept, so it is not sent.
            book.settle(now, hold, Spent::NotSent);
            return Reserved::Now(Answer::Refused(Refusal::NotUntil(Moment::NEVER)));
        };
        let (recipient, clock) = (asker.clone(), Arc::clone(&self.shared.clock));
        let ticket = self.shared.change(|inbox| {
            row.id = inbox.next_id;
            inbox.next_id += 1;
            let ticket = Ticket(row.id.unsigned_abs());
            let asker = Asker::new(ticket, clock, recipient);
            // Else nobody would ever write it; dropping the asker answers it.
            if !inbox.is_closed {
                inbox.queue.insert(row, asker);
            }
            ticket
        });
        hold.keep_as(ticket);
        Reserved::Writing(ticket, hold)
    }
}

impl ProviderLedger for Access {
    fn restore(&self, now: Moment, book: &mut Book) {
        if let Some(restored) = self.provider.restored.lock().take() {
            restored.apply(now, book);
        }
    }

    fn reserve(
        &self,
        now: Moment,
        book: &mut Book,
        demand: &Demand,
        asker: &Recipient<LedgerAnswered>,
    ) -> Reserved {
        self.provider.apply_blocks(now, book);
        let answer = book.reserve(now, demand);
        match answer {
            Answer::Granted(hold) if book.is_limited(demand.model) => self.write(now, book, hold, asker),
            decided => Reserved::Now(decided),
        }
    }

    fn first_byte(&self, now: Moment, hold: &Hold) {
        if let Some(id) = id(hold) {
            self.shared.change(|inbox| inbox.queue.first_byte(now, id));
        }
    }

    fn settle(&self, now: Moment, hold: &Hold, spent: Spent) {
        if let Some(id) = id(hold) {
            let finish = Finish::of(spent, now).map(rows::finish_row);
            self.shared.change(|inbox| inbox.queue.finish(now, id, finish));
        }
    }

    fn cool_down(&self, now: Moment, left_alone: &LeftAlone) {
        let LeftAlone { account, scope, until, reason, .. } = *left_alone;
        let members = self.provider.pools.members(scope);
        for target in members.filter_map(|model| self.provider.names.target(account, model)) {
            let target = Arc::clone(target);
            self.shared.change(|inbox| inbox.queue.cool_down(now, target, until, reason.as_str()));
        }
    }
}

fn id(hold: &Hold) -> Option<i64> {
    hold.ticket().and_then(|Ticket(id)| i64::try_from(id).ok())
}
