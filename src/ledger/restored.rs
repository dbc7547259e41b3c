//! What one provider's book is filled with at the start; pure.

use super::identity::Names;
use super::kept::Kept;
use super::rows;
use super::statistics::Used;
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::limit::TokensCharged;
use crate::quota::{AccountIndex, Book, BookLimit, HoldRecord, LATE_COUNT, LimitIndex, ModelIndex};

/// What attempts before this process hold of one provider's limits.
#[derive(Debug, Default)]
pub struct Restored {
    holds: Vec<HoldRecord>,
    fills: Vec<Fill>,
    cooldowns: Vec<(AccountIndex, Option<ModelIndex>, Moment)>,
    accounts: usize,
    /// Since when all limits are held for one window.
    blocks: Vec<Moment>,
}

/// Units that no hold stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fill {
    account: AccountIndex,
    limit: LimitIndex,
    amount: u64,
    last_count: Moment,
}

impl Restored {
    /// What of `kept` concerns the provider of that name and its limits. What is kept of targets that are not
    /// configured any more is left out.
    pub fn new(kept: &Kept, names: &Names, limits: &[BookLimit], charged: TokensCharged) -> Self {
        let concerns =
            |provider: &Option<String>| provider.as_deref().is_none_or(|id| id == names.provider());
        let blocks = kept.blocks.iter().filter(|block| concerns(&block.provider)).map(|block| block.since);
        let mut restored = Self {
            holds: kept.holds.iter().filter_map(|row| rows::record(names, row)).collect(),
            fills: Vec::new(),
            cooldowns: cooldowns(kept, names),
            accounts: names.account_count(),
            blocks: blocks.collect(),
        };
        for limit in limits {
            for account in (0..names.account_count()).map(AccountIndex) {
                restored.fill_gap(kept, names, account, limit, charged);
            }
        }
        restored
    }

    /// Puts it into a book that is empty but for this.
    pub fn apply(&self, now: Moment, book: &mut Book) {
        self.holds.iter().for_each(|record| book.restore(now, record));
        for Fill { account, limit, amount, last_count } in &self.fills {
            book.fill(now, *account, *limit, *amount, *last_count);
        }
        for (account, model, until) in &self.cooldowns {
            book.cool_down(*account, *model, *until, CooldownReason::RateLimited);
        }
        self.blocks.iter().for_each(|since| block(now, book, self.accounts, *since));
    }

    /// Fills a limit of an account from the statistics where the ledger does not know its whole last window; where they
    /// do not know it either, the limit is full until that window is over.
    fn fill_gap(
        &mut self,
        kept: &Kept,
        names: &Names,
        account: AccountIndex,
        limit: &BookLimit,
        charged: TokensCharged,
    ) {
        let Some(gap) = kept.coverage.gap(kept.now, names, account, limit) else { return };
        let fill = |amount, ended: Moment| Fill {
            account,
            limit: limit.index,
            amount,
            last_count: ended + LATE_COUNT,
        };
        let provider = (names.provider(), names.model_names());
        match kept.statistics.used(provider, limit, charged, &gap) {
            Used::Unknown => self.fills.push(fill(limit.max, gap.known_from)),
            Used::AtMost(used) => {
                self.fills.extend(used.into_iter().map(|(ended, amount)| fill(amount, ended.min(kept.now))));
            }
        }
    }
}

/// Only upstream's word on limits outlives the process: what failed for another reason may have been mended meanwhile,
/// and a restart is how an operator says so.
fn cooldowns(kept: &Kept, names: &Names) -> Vec<(AccountIndex, Option<ModelIndex>, Moment)> {
    let on_limits = kept.cooldowns.iter().filter(|row| row.reason == CooldownReason::RateLimited.as_str());
    let found = on_limits.filter_map(|row| {
        let (account, model) = names.find(&row.target)?;
        Some((account, model, row.until))
    });
    found.collect()
}

/// Makes every limit of a book full for one window from `since`.
pub(super) fn block(now: Moment, book: &mut Book, accounts: usize, since: Moment) {
    (0..accounts).for_each(|account| book.block(now, AccountIndex(account), since, |_| true));
}
