//! What changes of a provider: everything under its one lock.

use super::breaker::Breaker;
use super::cooling;
use super::failed_attempt::FailedAttempt;
use super::learned::Learned;
use super::limit_blocks::{LimitBlocks, LimitProbe, serial_for};
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::failure::UpstreamFailure;
use crate::domain::signals::Period;
use crate::quota::{AccountIndex, Book, CooldownScope, Hold, PROBE_PATIENCE};

/// The books and the health of one provider.
pub(super) struct State {
    pub(super) book: Book,
    pub(super) breaker: Breaker,
    /// Refusals that state no delay.
    pub(super) blocks: LimitBlocks,
    /// By model.
    pub(super) learned: Vec<Learned>,
}

impl State {
    /// A limit was refused: until when it is blocked, by the instant that is known, else as it escalates; `None` where
    /// it is blocked already.
    pub(super) fn refused(
        &mut self,
        now: Moment,
        attempt: &FailedAttempt,
        target: CooldownScope,
        failure: &UpstreamFailure,
    ) -> Option<Moment> {
        let (serial, period) = (serial_for(attempt.probes.limit, target), failure.period());
        let escalation = self.blocks.escalation(attempt.account, target)?;
        let until = match cooling::limit_until(failure, now) {
            Some(until) => {
                escalation.refuse_until_stated(serial);
                Some(until)
            }
            None => {
                let is_long = period.is_some_and(Period::is_long);
                escalation.refuse(now, serial, is_long, cooling::cap(period, now))
            }
        };
        if until.is_some() && serial.is_some() {
            self.end_limit_probe(attempt.account, target);
        }
        until
    }

    /// While the attempt that was just granted finds out whether a limit has room, nobody else is let through.
    pub(super) fn start_limit_probe(&mut self, now: Moment, hold: &Hold) -> Option<LimitProbe> {
        let probe = self.blocks.start_probe(now, hold.account(), hold.model())?;
        for model in self.blocks.pools().members(probe.target) {
            self.book.probe(probe.account, model, Some(now + PROBE_PATIENCE));
        }
        Some(probe)
    }

    pub(super) fn end_limit_probe(&mut self, account: AccountIndex, target: CooldownScope) {
        for model in self.blocks.pools().members(target) {
            self.book.probe(account, model, None);
        }
    }

    /// Leaves what shares a cooldown alone.
    pub(super) fn cool_down(
        &mut self,
        account: AccountIndex,
        scope: CooldownScope,
        until: Moment,
        reason: CooldownReason,
    ) {
        for model in self.blocks.pools().members(scope) {
            self.book.cool_down(account, model, until, reason);
        }
    }
}
