//! Everything that a store keeps for the ledger.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::coverage::{Coverage, Gap};
use super::identity::Names;
use super::statistics::{Statistics, span_of};
use crate::db::{BlockRow, CooldownRow, CoverageRow, HoldRow, ServedSpan, Store, StoreError};
use crate::domain::clock::Moment;
use crate::quota::{AccountIndex, BookLimit, ModelIndex};

/// Rows read in one query. Chosen: a millisecond or two.
const ROWS_PER_PAGE: i64 = 2_000;

/// What the store keeps, as it was at one instant.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) now: Moment,
    pub(super) holds: Vec<HoldRow>,
    pub(super) cooldowns: Vec<CooldownRow>,
    pub(super) blocks: Vec<BlockRow>,
    pub(super) coverage: Coverage,
    pub(super) coverage_rows: Vec<CoverageRow>,
    pub(super) statistics: Statistics,
}

impl Kept {
    /// Reads it, and from the statistics what no ledger has seen, for `providers`, each with its limits. `retention` is
    /// how long the statistics keep an event. Changes nothing. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read(
        store: &dyn Store,
        now: Moment,
        retention: Duration,
        providers: &[(&Names, Vec<BookLimit>)],
    ) -> Result<Self, StoreError> {
        let coverage_rows = store.hold_coverages()?;
        let coverage = Coverage::new(&coverage_rows, store.is_fresh()?);
        let gaps = providers.iter().flat_map(|(names, limits)| gaps(now, &coverage, names, limits)).collect();
        Ok(Self {
            now,
            holds: all_holds(store)?,
            cooldowns: store.cooldowns()?,
            blocks: store.blocks_after(0)?,
            statistics: Statistics {
                reach_back_to: reach_back_to(store, now, retention)?,
                spans: spans(store, gaps)?,
            },
            coverage,
            coverage_rows,
        })
    }

    /// The cooldowns of one provider that are not over: of what, until when, and why.
    pub fn cooldowns_of(&self, names: &Names) -> Vec<(AccountIndex, Option<ModelIndex>, Moment, &str)> {
        let known = self.cooldowns.iter().filter(|row| row.until > self.now).filter_map(|row| {
            let (account, model) = names.find(&row.target)?;
            Some((account, model, row.until, row.reason.as_str()))
        });
        known.collect()
    }

    pub(super) fn last_id(&self) -> i64 {
        self.holds.last().map_or(0, |row| row.id)
    }
}

/// What the ledger does not know of the limits' pasts.
fn gaps(now: Moment, coverage: &Coverage, names: &Names, limits: &[BookLimit]) -> HashSet<Gap> {
    let accounts = (0..names.account_count()).map(AccountIndex);
    accounts
        .flat_map(|account| limits.iter().filter_map(move |limit| coverage.gap(now, names, account, limit)))
        .collect()
}

/// Events older than the retention are deleted; where the store is younger than that, none was.
pub(super) fn reach_back_to(
    store: &dyn Store,
    now: Moment,
    retention: Duration,
) -> Result<Moment, StoreError> {
    let kept_from = now - retention;
    let made_at = store.tenants(now)?.into_iter().map(|tenant| tenant.created_at).min();
    Ok(if made_at.is_some_and(|made_at| made_at > kept_from) { Moment::default() } else { kept_from })
}

fn spans(store: &dyn Store, gaps: HashSet<Gap>) -> Result<HashMap<Gap, Vec<ServedSpan>>, StoreError> {
    let added_up = |gap: Gap| {
        let spans = store.served_within(gap.from, gap.unknown_until, span_of(gap.window))?;
        Ok((gap, spans))
    };
    gaps.into_iter().map(added_up).collect()
}

fn all_holds(store: &dyn Store) -> Result<Vec<HoldRow>, StoreError> {
    let mut holds: Vec<HoldRow> = Vec::new();
    loop {
        let page = store.holds_after(holds.last().map_or(0, |row| row.id), ROWS_PER_PAGE)?;
        if page.is_empty() {
            return Ok(holds);
        }
        holds.extend(page);
    }
}
