//! The candidates for one request, best first.

use std::collections::VecDeque;

use super::catalog::{Catalog, Target};
use crate::domain::chat::{ChatRequest, ModelSelector, Strategy};
use crate::domain::provider::ModelSpec;

/// The candidates that have not been asked yet, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    candidates: VecDeque<Target>,
}

impl Plan {
    /// The next candidate to ask.
    pub fn pop(&mut self) -> Option<Target> {
        self.candidates.pop_front()
    }

    /// Asks `target` once more, before all others.
    pub fn again(&mut self, target: Target) {
        self.candidates.push_front(target);
    }

    /// Leaves out `targets`: they have failed this request already.
    pub fn without(mut self, targets: &[Target]) -> Self {
        self.candidates.retain(|candidate| !targets.contains(candidate));
        self
    }

    pub fn candidates(&self) -> impl Iterator<Item = Target> + '_ {
        self.candidates.iter().copied()
    }
}

/// Why there is no candidate at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// No enabled model is called so.
    UnknownModel,
    /// Nothing is enabled.
    NothingEnabled,
    /// Nothing that is enabled may be used by the request's tenant.
    NothingPermitted,
    /// No enabled model can do what the request needs.
    NoCapability,
    /// The request is larger than every window; `largest` is the largest, in tokens.
    TooLong { largest: u64 },
}

/// Lists who may answer `request`: filtered by capability and window, in the order of the strategy.
///
/// A request that names one model is not filtered by capability: the client knows what it asks for, and the
/// upstream has the last word.
///
/// # Errors
/// [`NoPlan`] says which filter left nothing.
pub fn plan(request: &ChatRequest, catalog: &Catalog, default: Strategy) -> Result<Plan, NoPlan> {
    let selected = permitted(request, catalog, selected(request, catalog, default)?)?;
    let capable = capable(request, catalog, selected)?;
    Ok(Plan { candidates: fitting(request, catalog, &capable)?.into() })
}

fn selected(request: &ChatRequest, catalog: &Catalog, default: Strategy) -> Result<Vec<Target>, NoPlan> {
    let strategy = match request.selector {
        ModelSelector::Auto(strategy) => strategy.unwrap_or(default),
        ModelSelector::Number(_) | ModelSelector::Named(_) => default,
    };
    let ordered = catalog.ordered(strategy).iter().copied();
    match catalog.selected(&request.selector) {
        Some([]) => Err(NoPlan::UnknownModel),
        Some(chosen) => Ok(ordered.filter(|target| chosen.contains(target)).collect()),
        None if ordered.len() == 0 => Err(NoPlan::NothingEnabled),
        None => Ok(ordered.collect()),
    }
}

/// What the tenant may not use does not exist for it.
fn permitted(
    request: &ChatRequest,
    catalog: &Catalog,
    mut targets: Vec<Target>,
) -> Result<Vec<Target>, NoPlan> {
    if !request.policy.restricts_models() {
        return Ok(targets);
    }
    targets.retain(|target| {
        catalog.spec(*target).is_some_and(|(provider, model)| request.policy.permits(provider, model))
    });
    match (targets.is_empty(), &request.selector) {
        (false, _) => Ok(targets),
        (true, ModelSelector::Auto(_)) => Err(NoPlan::NothingPermitted),
        (true, _) => Err(NoPlan::UnknownModel),
    }
}

fn capable(
    request: &ChatRequest,
    catalog: &Catalog,
    mut targets: Vec<Target>,
) -> Result<Vec<Target>, NoPlan> {
    if targets.len() > 1 {
        targets.retain(|target| model(catalog, *target).is_some_and(|m| m.capabilities.cover(request.needs)));
    }
    if targets.is_empty() { Err(NoPlan::NoCapability) } else { Ok(targets) }
}

fn fitting(request: &ChatRequest, catalog: &Catalog, targets: &[Target]) -> Result<Vec<Target>, NoPlan> {
    // Each of several choices is written in a window of its own.
    let output = request.choice_cap.unwrap_or(0);
    let fits = |input: u64| -> Vec<Target> {
        let tokens = input.saturating_add(output);
        targets.iter().copied().filter(|target| window(catalog, *target) >= tokens).collect()
    };
    let surely = fits(request.input_tokens.upper_edge());
    if !surely.is_empty() {
        return Ok(surely);
    }
    // What is refused for good must be too long by the lower edge of the estimate too.
    let perhaps = fits(request.input_tokens.lower_edge());
    if !perhaps.is_empty() {
        return Ok(perhaps);
    }
    let largest = targets.iter().map(|target| window(catalog, *target)).max().unwrap_or(0);
    Err(NoPlan::TooLong { largest })
}

fn model(catalog: &Catalog, target: Target) -> Option<&ModelSpec> {
    catalog.spec(target).map(|(_, model)| model)
}

/// An unknown window refuses nothing.
fn window(catalog: &Catalog, target: Target) -> u64 {
    model(catalog, target).and_then(|model| model.context_window).unwrap_or(u64::MAX)
}
