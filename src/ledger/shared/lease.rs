//! An amount of a fast limit held in advance, spent without asking.
//!
//! A lease is claimed like an attempt, with larger amounts, with `leave` set so that the end of a budget is left to exact
//! calls, and with `send_within` = its length + the longest delay of sending. So the ledger holds it until its last
//! possible attempt was sent, counted and is a window old, also when this process dies.

use crate::db::shared_ledger::{AttemptId, Claim, SettledLine, Settlement};
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::domain::limit::Unit;

/// What a lease has of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseLine {
    pub scope: String,
    pub unit: Unit,
    pub amount: u64,
    /// Includes what open attempts have taken; corrected when they end.
    pub spent: u64,
}

/// A granted lease of one account. Whoever holds it settles it by [`Lease::close`]; until then it holds everything.
#[derive(Debug)]
#[must_use = "a lease that is not closed holds its units until its crash cap"]
pub struct Lease {
    id: AttemptId,
    provider: ProviderId,
    account: usize,
    /// Nothing is spent, and nothing that was spent is sent, from here on.
    send_by: Moment,
    lines: Vec<LeaseLine>,
    open: usize,
    last_count: Moment,
}

impl Lease {
    /// The lease that `claim` was granted on its `account` until `send_by`.
    pub fn granted(claim: &Claim, account: usize, send_by: Moment) -> Option<Self> {
        let lines = claim.accounts.get(account)?.lines.iter().map(|line| LeaseLine {
            scope: line.budget.scope.clone(),
            unit: line.budget.unit,
            amount: line.amount,
            spent: 0,
        });
        Some(Self {
            id: claim.id,
            provider: claim.provider.clone(),
            account,
            send_by,
            lines: lines.collect(),
            open: 0,
            last_count: Moment::from_unix_micros(i64::MIN),
        })
    }

    /// A position in the claim's accounts.
    pub fn account(&self) -> usize {
        self.account
    }

    /// Takes an attempt's amounts, in the order of the claim's lines: all or none. The instant by which it is sent
    /// or given back; `None` when there is not enough left or the lease is over.
    pub fn spend(&mut self, now: Moment, amounts: &[u64]) -> Option<Moment> {
        let fits = |(line, amount): (&LeaseLine, &u64)| line.amount.saturating_sub(line.spent) >= *amount;
        let is_same_shape = amounts.len() == self.lines.len();
        if now >= self.send_by || !is_same_shape || !self.lines.iter().zip(amounts).all(fits) {
            return None;
        }
        for (line, amount) in self.lines.iter_mut().zip(amounts) {
            line.spent = line.spent.saturating_add(*amount);
        }
        self.open += 1;
        Some(self.send_by)
    }

    /// Corrects what an attempt took by what it holds, `last_count` being the last instant at which upstream can
    /// have counted it; `None` when it was not sent. Use above the estimate is debt, told when the lease is closed.
    pub fn settle(&mut self, taken: &[u64], held: &[u64], last_count: Option<Moment>) {
        self.open = self.open.saturating_sub(1);
        let corrections = self.lines.iter_mut().zip(taken).zip(held);
        for ((line, taken), held) in corrections {
            line.spent = line.spent.saturating_sub(*taken);
            if last_count.is_some() {
                line.spent = line.spent.saturating_add(*held);
            }
        }
        self.last_count = self.last_count.max(last_count.unwrap_or(self.last_count));
    }

    /// Whether nothing can be spent any more and every attempt has ended: time to close it.
    pub fn is_over(&self, now: Moment) -> bool {
        now >= self.send_by && self.open == 0
    }

    /// Gives back what was not spent; the rest is held as if all of it had been counted last. With attempts still
    /// open their part ends by the crash cap instead.
    pub fn close(self) -> Settlement {
        let is_final = self.open == 0;
        let is_given_back = is_final && self.lines.iter().all(|line| line.spent == 0);
        let of_line = |line: LeaseLine| SettledLine {
            scope: line.scope,
            unit: line.unit,
            amount: line.spent,
            last_count: is_final.then_some(self.last_count),
            is_final,
            returnable: 0,
        };
        let lines = if is_given_back { Vec::new() } else { self.lines.into_iter().map(of_line).collect() };
        Settlement { id: self.id, provider: self.provider, is_given_back, probe: None, lines }
    }
}
