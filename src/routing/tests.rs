//! The choice, over a small catalogue.

use std::sync::Arc;

use bytes::Bytes;

use super::{Catalog, NoPlan, Target, plan};
use crate::config::shipped_providers;
use crate::domain::chat::{ChatRequest, ModelSelector, Strategy};
use crate::domain::ids::{ModelNumber, ProviderId};
use crate::domain::input_tokens::InputTokens;
use crate::domain::provider::{AccountSpec, Capabilities, ProviderSpec};

/// (id, intelligence rank, speed rank, window, tools)
type Row = (&'static str, u32, u32, Option<u64>, bool);

fn provider(id: &str, rows: &[Row]) -> ProviderSpec {
    let mut provider = shipped_providers().unwrap().remove(0);
    let template = provider.models[0].clone();
    provider.id = ProviderId::new(id);
    provider.enabled = true;
    provider.accounts = vec![AccountSpec { name: "a".to_owned(), keys: Vec::new() }];
    provider.models = rows
        .iter()
        .enumerate()
        .map(|(position, (id, intelligence_rank, speed_rank, context_window, tools))| {
            let mut model = template.clone();
            model.id = (*id).to_owned();
            model.family = Some("family".to_owned());
            (model.intelligence_rank, model.speed_rank) = (*intelligence_rank, *speed_rank);
            model.context_window = *context_window;
            model.capabilities = Capabilities { tools: *tools, ..Capabilities::default() };
            model.number = Some(ModelNumber(position as i64 + 1));
            model.enabled = true;
            model
        })
        .collect();
    provider
}

fn catalog(providers: impl IntoIterator<Item = ProviderSpec>) -> Catalog {
    Catalog::new(providers.into_iter().map(Arc::new).collect())
}

fn three() -> Catalog {
    catalog([
        provider("one", &[("wise", 1, 9, Some(1_000), false), ("quick", 90, 1, None, true)]),
        provider("two", &[("even", 20, 3, Some(8_000), true)]),
    ])
}

fn request(selector: ModelSelector) -> ChatRequest {
    let mut request = ChatRequest::new(Bytes::new());
    request.selector = selector;
    request
}

fn names(catalog: &Catalog, request: &ChatRequest) -> Result<Vec<String>, NoPlan> {
    let name = |target: Target| catalog.spec(target).unwrap().1.id.clone();
    plan(request, catalog, Strategy::Balanced).map(|plan| plan.candidates().map(name).collect())
}

#[test]
fn each_strategy_has_its_order() {
    let catalog = three();
    for (strategy, expected) in [
        (Some(Strategy::Smart), ["wise", "even", "quick"]),
        (Some(Strategy::Fast), ["quick", "even", "wise"]),
        (Some(Strategy::Balanced), ["even", "wise", "quick"]),
        (None, ["even", "wise", "quick"]),
    ] {
        assert_eq!(
            names(&catalog, &request(ModelSelector::Auto(strategy))).unwrap(),
            expected,
            "{strategy:?}"
        );
    }
}

#[test]
fn a_name_selects_and_an_unknown_one_is_said() {
    let catalog = three();
    let named = |name: &str| names(&catalog, &request(ModelSelector::Named(name.to_owned())));
    assert_eq!(named("wise").unwrap(), ["wise"]);
    assert_eq!(named("two/even").unwrap(), ["even"]);
    assert_eq!(named("family").unwrap().len(), 3);
    for unknown in ["two/wise", "two/", "/even", "", "three/even"] {
        assert_eq!(named(unknown), Err(NoPlan::UnknownModel), "{unknown}");
    }
}

#[test]
fn what_is_off_is_unknown() {
    let mut off = provider("one", &[("wise", 1, 1, None, false)]);
    off.enabled = false;
    let catalog = catalog([off]);
    let number = ModelSelector::Number(ModelNumber(1));
    assert_eq!(names(&catalog, &request(number)), Err(NoPlan::UnknownModel));
    assert_eq!(names(&catalog, &request(ModelSelector::Auto(None))), Err(NoPlan::NothingEnabled));
}

#[test]
fn a_capability_filters_a_choice_but_not_a_name() {
    let catalog = three();
    let mut with_tools = request(ModelSelector::Auto(None));
    with_tools.needs.tools = true;
    assert_eq!(names(&catalog, &with_tools).unwrap(), ["even", "quick"]);
    with_tools.selector = ModelSelector::Named("wise".to_owned());
    assert_eq!(names(&catalog, &with_tools).unwrap(), ["wise"]);
    let mut with_images = request(ModelSelector::Auto(None));
    with_images.needs.vision = true;
    assert_eq!(names(&catalog, &with_images), Err(NoPlan::NoCapability));
}

#[test]
fn a_window_filters_and_only_what_is_surely_too_long_is_refused() {
    let catalog = three();
    let mut long = request(ModelSelector::Auto(None));
    (long.input_tokens, long.choice_cap) = (InputTokens::certain(800), Some(500));
    assert_eq!(names(&catalog, &long).unwrap(), ["even", "quick"]);
    // The window holds it by one vocabulary, if only just, and not by the other.
    long.selector = ModelSelector::Named("wise".to_owned());
    (long.input_tokens, long.choice_cap) = (InputTokens { large: 1_000, small: 1_500, images: 0 }, Some(100));
    assert_eq!(names(&catalog, &long).unwrap(), ["wise"]);
    long.input_tokens.large = 1_100;
    assert_eq!(names(&catalog, &long), Err(NoPlan::TooLong { largest: 1_000 }));
}

#[test]
fn several_choices_do_not_share_a_window() {
    let mut three_choices = request(ModelSelector::Named("wise".to_owned()));
    three_choices.input_tokens = InputTokens::certain(80);
    (three_choices.choice_cap, three_choices.choices) = (Some(900), 3);
    assert_eq!(names(&three(), &three_choices).unwrap(), ["wise"]);
}
