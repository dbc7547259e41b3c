//! Limits that the ledger has not seen.

use serde_json::{Value, json};

use super::claim::{Budget, Definition, Fill, Span, units};
use crate::domain::ids::ProviderId;

/// All limits of these budgets, as `ledger_introduce` reads them.
pub(super) fn introduction<'a>(provider: &ProviderId, budgets: impl Iterator<Item = &'a Budget>) -> Value {
    let of_budget = |budget: &'a Budget| {
        budget.definitions.iter().map(move |definition| of_definition(budget, definition))
    };
    let limits: Vec<Value> = budgets.flat_map(of_budget).collect();
    json!({ "provider": provider.as_str(), "limits": limits })
}

fn of_definition(budget: &Budget, definition: &Definition) -> Value {
    let fill = match definition.fill {
        Fill::Statistics => "statistics",
        Fill::Block => "block",
        Fill::Empty => "empty",
    };
    json!({
        "account": budget.account,
        "scope": budget.scope,
        "unit": budget.unit.as_str(),
        "models": budget.models,
        "span": definition.span.name(),
        "length_us": definition.span.length_us(),
        "is_calendar": matches!(definition.span, Span::Calendar { .. }),
        "resets_us": definition.span.resets_us(),
        "max": units(definition.max),
        "fill": fill,
    })
}
