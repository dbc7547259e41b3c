//! The candidates for one request, best first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::allowed::{Allowed, Filter};
use super::catalog::{Catalog, Target};
use super::orders::{Order, Orders, Place};
use super::why_not::{WhyNot, WhyNots};
use crate::domain::chat::{ChatRequest, ModelSelector, Strategy};
use crate::domain::provider::Capabilities;

/// The candidates that have not been asked yet, best first. Who is asked is looked for only when somebody has to be
/// asked: most requests need one candidate of a hundred.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Asked before all others.
    first: VecDeque<Target>,
    rest: Option<Rest>,
    /// Not asked at all, or not once more in the order.
    left_out: Vec<Target>,
}

/// What is left of an order.
#[derive(Clone, Debug)]
struct Rest {
    question: Question,
    input_tokens: u64,
    /// So many places have been looked at.
    looked_at: usize,
}

impl Plan {
    /// The next candidate to ask.
    pub fn pop(&mut self) -> Option<Target> {
        if let Some(target) = self.first.pop_front() {
            return Some(target);
        }
        let rest = self.rest.as_mut()?;
        loop {
            let target = rest.next()?;
            if !self.left_out.contains(&target) {
                return Some(target);
            }
        }
    }

    /// Asks `target` once more, before all others.
    pub fn again(&mut self, target: Target) {
        self.first.push_front(target);
    }

    /// Leaves out `targets`: they have failed this request already.
    pub fn without(mut self, targets: &[Target]) -> Self {
        if !targets.is_empty() {
            self.first.retain(|candidate| !targets.contains(candidate));
            self.left_out.extend_from_slice(targets);
        }
        self
    }

    /// All that are left, best first. A walk over the whole order.
    pub fn candidates(&self) -> impl Iterator<Item = Target> + '_ {
        let mut rest = self.clone();
        std::iter::from_fn(move || rest.pop())
    }

    /// Puts `target` before all others, whose order stays.
    fn prefer(&mut self, target: Target) {
        self.first.push_front(target);
        self.left_out.push(target);
    }
}

impl Rest {
    fn next(&mut self) -> Option<Target> {
        loop {
            let place = self.question.place(self.looked_at)?;
            self.looked_at += 1;
            if self.question.against(place, self.input_tokens).is_none() {
                return Some(place.target);
            }
        }
    }
}

/// Why there is no candidate at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlan {
    /// No enabled model that the tenant may use is called so.
    UnknownModel,
    /// Nothing is enabled.
    NothingEnabled,
    /// Nothing that is enabled may be used by the tenant.
    NothingAllowed,
    /// No enabled model can do what the request needs.
    NoCapability,
    /// The request is larger than every window; `largest` is the largest, in tokens.
    TooLong { largest: u64 },
}

/// What speaks for an order besides what is measured.
#[derive(Clone, Copy, Debug)]
pub struct Leaning {
    /// The strategy of a request that names none.
    pub strategy: Strategy,
    /// What the conversation had so far: asked first, if it is a candidate at all.
    pub keeps: Option<Target>,
    /// Whether this request may go to a target that nobody has asked for long. The caller bounds how many may.
    pub explores: bool,
}

/// Lists who may answer `request`: filtered by what the tenant may use, by capability and by window, in the order of
/// the strategy.
///
/// A request that names one model is not filtered by capability: the client knows what it asks for, and the
/// upstream has the last word.
///
/// # Errors
/// [`NoPlan`] says which filter left nothing.
pub fn plan(
    request: &ChatRequest,
    allowed: &Allowed<'_>,
    catalog: &Catalog,
    orders: &Orders,
    leaning: &Leaning,
) -> Result<Plan, NoPlan> {
    let question = Question::new(request, allowed, catalog, orders, leaning.strategy);
    // What is refused for good must be too long by the lower edge of the estimate too.
    let edges = [request.input_tokens.upper_edge(), request.input_tokens.lower_edge()];
    let Some(input_tokens) = edges.into_iter().find(|edge| question.has_candidate(*edge)) else {
        return Err(question.no_plan(request));
    };
    let preferred = question.preferred(catalog, input_tokens, leaning);
    let rest = Rest { question, input_tokens, looked_at: 0 };
    let mut plan = Plan { rest: Some(rest), ..Plan::default() };
    preferred.into_iter().for_each(|target| plan.prefer(target));
    Ok(plan)
}

/// Why each enabled model that `request` may mean is no candidate for it; those that are candidates are left out.
pub fn why_not(
    request: &ChatRequest,
    allowed: &Allowed<'_>,
    catalog: &Catalog,
    orders: &Orders,
    strategy: Strategy,
) -> WhyNots {
    let question = Question::new(request, allowed, catalog, orders, strategy);
    let mut reasons = WhyNots::default();
    for place in question.places() {
        if let Some(reason) = question.against(place, request.input_tokens.lower_edge()) {
            reasons.note(place.target, reason);
        }
    }
    reasons
}

/// One request, as far as the choice goes.
#[derive(Clone, Debug)]
struct Question {
    order: Arc<Order>,
    filter: Filter,
    needs: Capabilities,
    /// Each of several choices is written in a window of its own.
    output: u64,
    /// Where those that the request names stand in the order, best first; `None` = all of them.
    named: Option<Vec<usize>>,
}

impl Question {
    fn new(
        request: &ChatRequest,
        allowed: &Allowed<'_>,
        catalog: &Catalog,
        orders: &Orders,
        default: Strategy,
    ) -> Self {
        let order = orders.of(match request.selector {
            ModelSelector::Auto(strategy) => strategy.unwrap_or(default),
            ModelSelector::Number(_) | ModelSelector::Named(_) => default,
        });
        let named = catalog.selected(&request.selector).map(|targets| ranks(order, catalog, targets));
        let names_one = named.as_ref().is_some_and(|named| named.len() == 1);
        Self {
            order: Arc::clone(order),
            filter: Filter::new(allowed, catalog),
            needs: if names_one { Capabilities::default() } else { request.needs },
            output: request.choice_cap.unwrap_or(0),
            named,
        }
    }

    /// The place at `index` among those that the request may mean.
    fn place(&self, index: usize) -> Option<&Place> {
        let rank = match &self.named {
            None => index,
            Some(ranks) => *ranks.get(index)?,
        };
        self.order.places.get(rank)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        (0..).map_while(|index| self.place(index))
    }

    /// Whether there is one whom nothing speaks against when the input is so long.
    fn has_candidate(&self, input_tokens: u64) -> bool {
        self.places().any(|place| self.against(place, input_tokens).is_none())
    }

    fn against(&self, place: &Place, input_tokens: u64) -> Option<WhyNot> {
        let forbidden = self.filter.against(place.position, place.trains_on_data);
        if forbidden.is_some() {
            forbidden
        } else if !place.capabilities.cover(self.needs) {
            Some(WhyNot::NoCapability)
        } else if place.window < input_tokens.saturating_add(self.output) {
            Some(WhyNot::WindowTooSmall { window: place.window })
        } else {
            None
        }
    }

    /// The filter that left nothing: the last one that anybody came to.
    fn no_plan(&self, request: &ChatRequest) -> NoPlan {
        let (mut is_allowed, mut largest) = (false, None);
        for place in self.places() {
            match self.against(place, request.input_tokens.lower_edge()) {
                Some(WhyNot::NotAllowed | WhyNot::DataPolicy) => {}
                Some(WhyNot::WindowTooSmall { window }) => {
                    is_allowed = true;
                    largest = largest.max(Some(window));
                }
                _ => is_allowed = true,
            }
        }
        match (largest, is_allowed, &self.named) {
            (Some(largest), _, _) => NoPlan::TooLong { largest },
            (None, true, _) => NoPlan::NoCapability,
            (None, false, Some(_)) => NoPlan::UnknownModel,
            (None, false, None) if !self.order.places.is_empty() => NoPlan::NothingAllowed,
            (None, false, None) => NoPlan::NothingEnabled,
        }
    }

    /// Who goes first, whatever the order: what the conversation had, or else what is to be explored.
    fn preferred(&self, catalog: &Catalog, input_tokens: u64, leaning: &Leaning) -> Option<Target> {
        let fits = |place: &&Place| self.against(place, input_tokens).is_none();
        if let Some(kept) = leaning.keeps {
            let rank = self.order.rank(catalog.position(kept))?;
            let is_meant = self.named.as_ref().is_none_or(|named| named.contains(&rank));
            let place = self.order.places.get(rank).filter(|_| is_meant);
            return place.filter(fits).map(|place| place.target);
        }
        let names_one = self.named.as_ref().is_some_and(|named| named.len() == 1);
        if !leaning.explores || names_one {
            return None;
        }
        self.places().filter(|place| place.is_worth_exploring).find(fits).map(|place| place.target)
    }
}

fn ranks(order: &Order, catalog: &Catalog, targets: &[Target]) -> Vec<usize> {
    let rank = |target: &Target| order.rank(catalog.position(*target));
    let mut ranks: Vec<usize> = targets.iter().filter_map(rank).collect();
    ranks.sort_unstable();
    ranks
}
