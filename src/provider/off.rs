//! What of a provider is left alone, as far as this process or, through a ledger that is shared, any other found out.

use std::sync::Arc;

use super::breaker::Passage;
use super::shared::ProviderShared;
use super::state::State;
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::ledger::LeftAlone;
use crate::quota::{AccountIndex, BookSnapshot, CooldownSnapshot, Hold, ModelIndex};

impl ProviderShared {
    /// Until when the provider, or every account of it for the model, is off, because of failures and not for want
    /// of capacity.
    pub(super) fn off_until(&self, model: ModelIndex) -> Option<Moment> {
        let (now, found) = (self.clock.now(), self.left_alone());
        let mut state = self.state.lock();
        let scopes = || state.blocks.pools().scopes(model);
        let of_others = |account| {
            let concerns = |found: &&LeftAlone| {
                found.reason.is_off()
                    && found.account == account
                    && scopes().any(|scope| scope == found.scope)
            };
            found.iter().filter(concerns).map(|found| found.until).max()
        };
        let accounts = state.book.off_until(model);
        let earliest =
            accounts.map(|(account, here)| of_others(account).map_or(here, |there| there.max(here))).min();
        let opens = match state.breaker.passage(now) {
            Passage::NotUntil(until) => Some(until),
            Passage::Free | Passage::AsProbe => None,
        };
        earliest.filter(|earliest| *earliest > now).max(opens)
    }

    /// What a ledger that others use too has said last.
    pub(super) fn left_alone(&self) -> Arc<[LeftAlone]> {
        self.ledger.as_ref().and_then(|ledger| ledger.left_alone()).unwrap_or_default()
    }

    /// A ledger that others use too has granted the attempt: what escalates goes on where they have come to, or starts
    /// over where it works for them.
    pub(super) fn follow_others(&self, state: &mut State, now: Moment, hold: &Hold) {
        let Some(found) = self.ledger.as_ref().and_then(|ledger| ledger.left_alone()) else { return };
        let (account, model) = (hold.account(), hold.model());
        let level = |scope| {
            let concerns = |found: &&LeftAlone| {
                (found.account, found.scope, found.reason) == (account, scope, CooldownReason::RateLimited)
            };
            found.iter().find(concerns).map(|found| found.level)
        };
        state.blocks.follow(now, account, model, level);
    }

    /// What is held, and what is left alone here or elsewhere.
    pub(super) fn book_snapshot(&self, now: Moment, state: &State) -> BookSnapshot {
        let mut snapshot = state.book.snapshot(now);
        for (account, model, found) in only_elsewhere(&self.left_alone(), now, state) {
            snapshot.cooldowns.push(CooldownSnapshot {
                account: self.account(account).map(|account| account.name.clone()).unwrap_or_default(),
                model: model.and_then(|model| self.model(model)).map(|model| model.id.clone()),
                until: found.until,
                reason: found.reason.as_str(),
            });
        }
        snapshot
    }

    /// How many accounts, and models on an account, are left alone for each reason, in the order of
    /// [`CooldownReason::ALL`].
    pub(super) fn cooling(&self, now: Moment, state: &State) -> [usize; CooldownReason::ALL.len()] {
        let found = self.left_alone();
        let elsewhere = only_elsewhere(&found, now, state).into_iter().map(|(_, _, found)| found.reason);
        let here = state.book.cooling(now).into_iter().map(|(_, _, reason)| reason);
        let all: Vec<CooldownReason> = here.chain(elsewhere).collect();
        CooldownReason::ALL.map(|reason| all.iter().filter(|cooling| **cooling == reason).count())
    }
}

/// What others found and the book does not know.
fn only_elsewhere<'a>(
    found: &'a [LeftAlone],
    now: Moment,
    state: &State,
) -> Vec<(AccountIndex, Option<ModelIndex>, &'a LeftAlone)> {
    let (here, pools) = (state.book.cooling(now), state.blocks.pools());
    let is_here = |account, model| here.iter().any(|(its, of, _)| (*its, *of) == (account, model));
    let lasting = found.iter().filter(|found| found.until > now);
    let members =
        lasting.flat_map(|found| pools.members(found.scope).map(move |model| (found.account, model, found)));
    members.filter(|(account, model, _)| !is_here(*account, *model)).collect()
}
