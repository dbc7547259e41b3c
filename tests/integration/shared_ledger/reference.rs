//! The ledger's decisions again, made by adding up everything that ever happened.

use std::collections::BTreeMap;
use std::time::Duration;

use freellmapi::db::shared_ledger::{AttemptId, Budget, Claim, ClaimLine, Decision, Settlement, Span};
use freellmapi::domain::limit::Unit;

/// An open attempt is worth looking at again after this.
const LOOK_AGAIN_US: i64 = 1_000_000;

/// One attempt's part in one budget.
struct Hold {
    id: AttemptId,
    account: String,
    unit: Unit,
    amount: u64,
    returnable: u64,
    free_at: i64,
    is_open: bool,
}

/// Everything that was ever held, by the ledger's clock in microseconds.
#[derive(Default)]
pub(super) struct Reference {
    holds: Vec<Hold>,
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

/// Budgets of the reference have one limit each.
fn window(budget: &Budget) -> i64 {
    match &budget.definitions[0].span {
        Span::Sliding(length) => micros(*length),
        Span::InFlight => 0,
        Span::Calendar { .. } => panic!("not a limit of the reference"),
    }
}

impl Reference {
    fn live<'a>(&'a self, budget: &'a Budget, now: i64) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| {
            hold.account == budget.account && hold.unit == budget.unit && hold.free_at > now
        })
    }

    pub(super) fn held(&self, budget: &Budget, now: i64) -> u64 {
        self.live(budget, now).map(|hold| hold.amount).sum()
    }

    pub(super) fn has_open(&self, budget: &Budget, now: i64) -> bool {
        self.live(budget, now).any(|hold| hold.is_open)
    }

    /// Decides as the ledger must; with the lines that stood in the way, each with the number of its account. A
    /// refusal's instant is the caller's to compare, by [`Self::not_until`]: the ledger tells it as of the end of the
    /// batch.
    pub(super) fn reserve(&mut self, now: i64, claim: &Claim) -> (Decision, Vec<(usize, ClaimLine)>) {
        let mut is_possible = false;
        let mut obstacles = Vec::new();
        for (number, candidate) in claim.accounts.iter().enumerate() {
            let max = |line: &ClaimLine| line.budget.definitions[0].max;
            if candidate.lines.iter().any(|line| line.amount > max(line)) {
                continue;
            }
            is_possible = true;
            let fits = |line: &ClaimLine| self.held(&line.budget, now) + line.amount <= max(line);
            let blocked = candidate.lines.iter().filter(|line| !fits(line));
            obstacles.extend(blocked.map(|line| (number, line.clone())));
            if candidate.lines.iter().all(fits) {
                let last = now + micros(claim.send_within);
                self.holds.extend(candidate.lines.iter().map(|line| Hold {
                    id: claim.id,
                    account: candidate.account.clone(),
                    unit: line.budget.unit,
                    amount: line.amount,
                    returnable: line.returnable,
                    free_at: last + micros(line.crash_cap) + window(&line.budget),
                    is_open: true,
                }));
                return (Decision::Granted { account: number, is_probe: false }, Vec::new());
            }
        }
        let refused = Decision::Refused { after: Duration::ZERO };
        (if is_possible { refused } else { Decision::TooLarge }, obstacles)
    }

    /// When asking again makes sense, given what stood in the way.
    pub(super) fn not_until(&self, now: i64, obstacles: &[(usize, ClaimLine)]) -> i64 {
        let mut accounts: BTreeMap<usize, i64> = BTreeMap::new();
        for (number, line) in obstacles {
            let until = accounts.entry(*number).or_default();
            *until = (*until).max(self.line_until(now, line));
        }
        accounts.into_values().min().unwrap()
    }

    fn line_until(&self, now: i64, line: &ClaimLine) -> i64 {
        let (held, max) = (self.held(&line.budget, now), line.budget.definitions[0].max);
        let excess = held + line.amount - max;
        let scheduled = self.freeing(&line.budget, now, excess);
        if !self.has_open(&line.budget, now) {
            return scheduled;
        }
        let returnable: u64 = self.live(&line.budget, now).map(|hold| hold.returnable).sum();
        let returned = self.freeing(&line.budget, now, excess.saturating_sub(returnable));
        scheduled.min(returned.min(now + window(&line.budget)).max(now + LOOK_AGAIN_US))
    }

    /// When that much has expired.
    fn freeing(&self, budget: &Budget, now: i64, amount: u64) -> i64 {
        if amount == 0 {
            return now;
        }
        let mut ends: Vec<(i64, u64)> =
            self.live(budget, now).map(|hold| (hold.free_at, hold.amount)).collect();
        ends.sort_unstable();
        let mut freed = 0;
        ends.into_iter()
            .find_map(|(end, amount_freed)| {
                freed += amount_freed;
                (freed >= amount).then_some(end)
            })
            .unwrap()
    }

    /// `sent_at` is the clock that the settlement's instants are on.
    pub(super) fn settle(&mut self, now: i64, settlement: &Settlement, budgets: &[&Budget], sent_at: i64) {
        if settlement.is_given_back {
            self.holds.retain(|hold| hold.id != settlement.id || !hold.is_open);
            return;
        }
        for line in &settlement.lines {
            for hold in &mut self.holds {
                if hold.id != settlement.id || hold.unit != line.unit || !hold.is_open {
                    continue;
                }
                let budget = budgets
                    .iter()
                    .find(|budget| budget.account == hold.account && budget.unit == hold.unit)
                    .unwrap();
                if let Some(last) = line.last_count {
                    hold.free_at = now + last.unix_micros() - sent_at + window(budget);
                }
                (hold.amount, hold.returnable, hold.is_open) = (line.amount, line.returnable, !line.is_final);
                if line.is_final {
                    hold.free_at = slot(budget, hold.free_at);
                    hold.returnable = 0;
                }
            }
        }
    }

    pub(super) fn release(&mut self, id: AttemptId) {
        self.holds.retain(|hold| hold.id != id || !hold.is_open);
    }
}

/// Ends of large limits are rounded up to a 1024th of their window.
fn slot(budget: &Budget, free_at: i64) -> i64 {
    if budget.definitions[0].max <= 1024 {
        return free_at;
    }
    let slot = (window(budget) / 1024).max(1000);
    (free_at + slot - 1) / slot * slot
}
