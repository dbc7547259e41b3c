//! The ledger's thread.

use std::sync::Arc;
use std::time::Duration;

use super::asker::Asker;
use super::local::Shared;
use super::queue::Work;
use super::sweep::Sweep;
use crate::db::{Store, StoreError};
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::error_chain::ErrorChain;
use crate::domain::panics::Panics;

/// How often an operator's blocks are looked for, and what is over is swept. The contract allows a second until a
/// command is noticed; chosen: half of it.
const CHORES_EVERY: Duration = Duration::from_millis(500);

/// Holds looked at in one step of the sweep. Chosen: some 2 ms, for as long as which new holds wait.
const SWEPT_PER_STEP: i64 = 500;

/// How often the last changes are tried when the gateway stops.
const LAST_TRIES: u32 = 5;

/// Writes what waits, and keeps the store tidy.
pub(super) struct Writer {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    clock: SharedClock,
    sweep: Sweep,
    last_block: i64,
    next_chores: Moment,
    /// How many writes have failed, one after the other.
    failures: u32,
}

/// What the thread does next.
enum Next {
    Write(Work<Asker>),
    Chores,
    End,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        store: Arc<dyn Store>,
        clock: SharedClock,
        sweep: Sweep,
        last_block: i64,
    ) -> Self {
        let next_chores = clock.now() + CHORES_EVERY;
        Self { shared, store, clock, sweep, last_block, next_chores, failures: 0 }
    }

    /// Runs until the ledger is closed and everything is written. A panic costs the work in hand: those who wait for it
    /// are told, and an end that is forgotten makes its attempt an aborted one at the next start.
    pub(super) fn run(mut self, panics: &Panics) {
        let mut is_running = true;
        while is_running {
            is_running = panics.survive("the ledger", || self.step()).unwrap_or(true);
        }
        let mut inbox = self.shared.queue.lock();
        inbox.is_closed = true;
        let unwritten = std::mem::take(&mut inbox.queue);
        drop(inbox);
        if !unwritten.is_empty() {
            log::error!("the ledger could not be written at the end: what was used last counts as aborted");
        }
    }

    /// Does one thing; false when there is nothing left to do.
    fn step(&mut self) -> bool {
        match self.next() {
            Next::Write(work) => self.write(work),
            Next::Chores => self.chores(),
            Next::End => return false,
        }
        true
    }

    /// Waits for something to do.
    fn next(&self) -> Next {
        let mut inbox = self.shared.queue.lock();
        loop {
            let now = self.clock.now();
            if inbox.is_closing && (inbox.queue.is_empty() || self.failures >= LAST_TRIES) {
                return Next::End;
            }
            let is_closing = inbox.is_closing;
            if let Some(work) = inbox.queue.take(now, is_closing) {
                return Next::Write(work);
            }
            if self.next_chores <= now {
                return Next::Chores;
            }
            let until = inbox.queue.due().map_or(self.next_chores, |due| due.min(self.next_chores));
            inbox.is_waiting = true;
            self.shared.has_work.wait_for(&mut inbox, until.saturating_since(now));
            inbox.is_waiting = false;
        }
    }

    fn write(&mut self, work: Work<Asker>) {
        let (batch, askers, cooldowns) = work.into_parts();
        let written = self.store.write_holds(&batch);
        match written {
            // One message each: those who wait live on several threads.
            Ok(()) => {
                askers.into_iter().for_each(Asker::written);
                self.note_success();
            }
            Err(error) => {
                self.note_failure(&error);
                drop(askers);
                self.shared.queue.lock().queue.failed(self.clock.now(), batch, cooldowns);
            }
        }
    }

    fn note_success(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            log::info!("the ledger can be written again");
        }
    }

    fn note_failure(&mut self, error: &StoreError) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            log::error!("the ledger cannot be written, limited providers wait: {}", ErrorChain(error));
        }
    }

    fn chores(&mut self) {
        let now = self.clock.now();
        self.next_chores = now + CHORES_EVERY;
        match self.look_for_blocks(now).and_then(|()| self.sweep(now)) {
            // More of the same lies behind; new holds go before.
            Ok(swept) if swept > SWEPT_PER_STEP as usize / 2 => self.next_chores = now,
            Ok(_) => {}
            Err(error) => log::warn!("the ledger's store does not answer: {}", ErrorChain(&error)),
        }
    }

    fn look_for_blocks(&mut self, now: Moment) -> Result<(), StoreError> {
        let blocks = self.store.blocks_after(self.last_block)?;
        if let Some(last) = blocks.last() {
            self.last_block = last.id;
            self.shared.block(&blocks);
            let latest = now.saturating_since(last.since);
            log::warn!(age_ms = latest.as_millis() as u64; "limits are blocked for one window by `ledger block`");
        }
        Ok(())
    }

    /// One step through the holds, and at the end of a round the cooldowns; how many holds were deleted.
    fn sweep(&mut self, now: Moment) -> Result<usize, StoreError> {
        let rows = self.store.holds_after(self.sweep.cursor, SWEPT_PER_STEP)?;
        match rows.last() {
            Some(last) => self.sweep.cursor = last.id,
            None => {
                self.sweep.cursor = 0;
                self.store.delete_cooldowns(now)?;
            }
        }
        let over = self.sweep.over(now, &rows);
        if over.is_empty() { Ok(0) } else { self.store.delete_holds(&over) }
    }
}
