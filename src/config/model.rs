//! `[[model]]`: one model of a provider.

use toml::Value;

use crate::domain::limit::{Limit, Scope, Unit, Window};
use crate::domain::provider::{Capabilities, ModelSpec};

use super::limit::{Shorthands, check_distinct, read_list, read_shorthands};
use super::price;
use super::reader::{Parsed, Refusal, Section};
use super::scalar::{boolean, choice, count, name, text, texts};

/// The rank of a model that nobody has ranked: behind what is known to be good, before what is known to be
/// weak. Chosen: the middle of the shipped ranks, which run to about 90.
const RANK_UNKNOWN: u32 = 50;

const SIZE_LABELS: [(&str, &str); 4] =
    [("Small", "Small"), ("Medium", "Medium"), ("Large", "Large"), ("Frontier", "Frontier")];

/// A model as its own table states it.
#[derive(Debug)]
pub(super) struct Model {
    spec: ModelSpec,
    waived: Vec<(Unit, Window)>,
}

impl Model {
    /// The model with those limits of the provider, per model, that it neither states itself nor waives.
    pub(super) fn under(mut self, defaults: &[Limit]) -> ModelSpec {
        for default in defaults {
            // A day is a day: where the provider's is by the calendar, `rpd` still speaks of the same limit.
            let same = |unit: Unit, window: Window| {
                unit == default.unit
                    && (window == default.window || (window.is_day() && default.window.is_day()))
            };
            let waives = self.waived.iter().any(|(unit, window)| same(*unit, *window));
            if !waives && !self.spec.limits.iter().any(|limit| same(limit.unit, limit.window)) {
                self.spec.limits.push(default.clone());
            }
        }
        self.spec
    }

    pub(super) fn pool(&self) -> Option<&str> {
        self.spec.pool.as_deref()
    }

    pub(super) fn id(&self) -> &str {
        &self.spec.id
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Model> {
    let id = section.required("id", name);
    let display_name = section.optional("display_name", text);
    let family = section.optional("family", name);
    let size_label = section.or("size_label", "Medium", choice(&SIZE_LABELS));
    let intelligence_rank = section.or("intelligence_rank", RANK_UNKNOWN, count);
    let speed_rank = section.or("speed_rank", RANK_UNKNOWN, count);
    let context_window = section.optional("context_window", count);
    let max_output_tokens = section.optional("max_output_tokens", count);
    let capabilities = section.or("capabilities", Capabilities::default(), capabilities);
    let pool = section.optional("pool", name);
    let enabled = section.or("enabled", true, boolean);
    let disabled_reason = section.optional("disabled_reason", text);
    let limits = limits(section);
    let price = price::read(section);
    let (id, enabled, limits) = (id?, enabled?, limits?);
    let spec = ModelSpec {
        display_name: display_name.unwrap_or_else(|| id.clone()),
        id,
        family,
        size_label: size_label?.to_owned(),
        intelligence_rank: intelligence_rank?,
        speed_rank: speed_rank?,
        context_window,
        max_output_tokens,
        capabilities: capabilities?,
        pool,
        price: price?,
        limits: limits.limits,
        enabled,
        disabled_reason: disabled_reason.filter(|_| !enabled),
        number: None,
    };
    Some(Model { spec, waived: limits.waived })
}

/// The shorthands and the list together.
fn limits(section: &mut Section<'_>) -> Option<Shorthands> {
    let shorthands = read_shorthands(section);
    let listed = read_list(section, "limit", &Scope::Model);
    let (mut all, listed) = (shorthands?, listed?);
    if listed.iter().any(|limit| limit.scope != Scope::Model) {
        section.problem("limit", "a model's limits have scope \"model\"; others belong to the provider");
    }
    all.limits.extend(listed);
    check_distinct(section, "limit", &all.limits);
    Some(all)
}

fn capabilities(value: &Value) -> Parsed<Capabilities> {
    let refusal =
        || Refusal::from("expected a list of \"tools\", \"vision\", \"json_schema\" and \"reasoning\"");
    let mut capabilities = Capabilities::default();
    for word in texts(value).map_err(|_| refusal())? {
        match word.as_str() {
            "tools" => capabilities.tools = true,
            "vision" => capabilities.vision = true,
            "json_schema" => capabilities.json_schema = true,
            "reasoning" => capabilities.reasoning = true,
            _ => return Err(refusal()),
        }
    }
    Ok(capabilities)
}
