//! What the shared ledger holds of one provider, by the names of today's configuration; pure.

use super::budgets::span;
use super::scopes::Scopes;
use crate::db::shared_ledger::{AccountPart, SharedSnapshot};
use crate::domain::clock::Moment;
use crate::domain::limit::Window;
use crate::domain::provider::ProviderSpec;
use crate::ledger::identity::Names;
use crate::quota::{AccountIndex, BudgetSnapshot, ModelIndex, Pools, Term, Terms};

/// A limit of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownLimit {
    pub budget: BudgetSnapshot,
    /// Of what is held: what leases have that is not spent, or whose attempts go on.
    pub leased: u64,
}

/// A target that is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCooldown {
    pub account: String,
    /// `None` for all of the account.
    pub model: Option<String>,
    pub until: Moment,
    pub reason: String,
}

/// Every limit of every account. Of one that the ledger has not seen nothing is held.
pub fn shown_limits(
    now: Moment,
    spec: &ProviderSpec,
    names: &Names,
    snapshot: &SharedSnapshot,
) -> Vec<ShownLimit> {
    let terms = Terms::new(spec);
    let accounts = spec.accounts.iter().enumerate().filter_map(|(index, account)| {
        Some((account.name.as_str(), names.target(AccountIndex(index), None)?.account.as_str()))
    });
    let all = accounts.flat_map(|account| terms.all().map(move |term| (account, term)));
    all.map(|((name, identity), term)| shown(now, name, (spec.id.as_str(), identity), term, snapshot))
        .collect()
}

fn shown(
    now: Moment,
    name: &str,
    (provider, identity): (&str, &str),
    term: Term<'_>,
    snapshot: &SharedSnapshot,
) -> ShownLimit {
    let span = span(now, term).name();
    let limit = snapshot.limits.iter().find(|limit| {
        (limit.provider.as_str(), limit.account.as_str()) == (provider, identity)
            && (limit.scope.as_str(), limit.unit.as_str()) == (term.scope(), term.unit().as_str())
            && limit.span == span
    });
    let max = limit.and_then(|limit| limit.max).map_or(term.max(), |max| max.min(term.max()));
    let held = limit.map_or(0, |limit| limit.held);
    let is_blocked = limit.is_some_and(|limit| !limit.blocked_for.is_zero());
    let free_in = limit.filter(|_| is_blocked || held >= max).map(|limit| {
        let released = if held >= max { limit.next_release } else { std::time::Duration::ZERO };
        limit.blocked_for.max(released)
    });
    let budget = BudgetSnapshot {
        account: name.to_owned(),
        scope: term.scope().to_owned(),
        unit: term.unit().amounts(),
        window: term.window().to_string(),
        window_ms: match term.window() {
            Window::Sliding(length) | Window::Spacing(length) => u64::try_from(length.as_millis()).ok(),
            Window::Calendar(_) | Window::InFlight => None,
        },
        max,
        held: if is_blocked { max } else { held },
        free_at: free_in.map(|wait| now + wait),
    };
    ShownLimit { budget, leased: limit.map_or(0, |limit| limit.leased) }
}

/// What is left alone of the provider's accounts; of a pool each of its models.
pub fn shown_cooldowns(
    now: Moment,
    spec: &ProviderSpec,
    names: &Names,
    snapshot: &SharedSnapshot,
) -> Vec<ShownCooldown> {
    let (scopes, pools) = (Scopes::new(spec, names), Pools::new(spec));
    let its = snapshot.cooldowns.iter().filter(|row| row.provider == spec.id.as_str());
    let shown = its.filter(|row| !row.remaining.is_zero()).filter_map(|row| {
        let part = AccountPart { account: row.account.clone(), scope: row.scope.clone() };
        let (AccountIndex(account), scope) = scopes.find(&part)?;
        let account = spec.accounts.get(account)?.name.clone();
        let of_member = |member: Option<ModelIndex>| ShownCooldown {
            account: account.clone(),
            model: member.and_then(|model| spec.models.get(model.0)).map(|model| model.id.clone()),
            until: now + row.remaining,
            reason: row.reason.clone(),
        };
        Some(pools.members(scope).map(of_member).collect::<Vec<_>>())
    });
    shown.flatten().collect()
}
