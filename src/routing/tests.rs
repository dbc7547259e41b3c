//! The choice, over a small catalogue.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::{Allowed, Catalog, Leaning, NoPlan, Orders, Standing, Target, Went, WhyNot, plan, why_not};
use crate::config::shipped_providers;
use crate::domain::chat::{ChatRequest, ModelSelector, Strategy};
use crate::domain::clock::Moment;
use crate::domain::ids::{ModelNumber, ProviderId};
use crate::domain::input_tokens::InputTokens;
use crate::domain::provider::{AccountSpec, Capabilities, ProviderSpec};
use crate::quota::Remaining;

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
    let mut request = ChatRequest::new(ByteString::new());
    request.selector = selector;
    request
}

fn names(catalog: &Catalog, request: &ChatRequest) -> Result<Vec<String>, NoPlan> {
    let cold = Orders::new(catalog, NOW, |_| None);
    planned(catalog, &cold, request, &Allowed::default(), &LEANING)
}

const NOW: Moment = Moment::from_unix_micros(1_790_000_000_000_000);
const LEANING: Leaning = Leaning { strategy: Strategy::Balanced, keeps: None, explores: false };

fn planned(
    catalog: &Catalog,
    orders: &Orders,
    request: &ChatRequest,
    allowed: &Allowed<'_>,
    leaning: &Leaning,
) -> Result<Vec<String>, NoPlan> {
    let name = |target: Target| catalog.spec(target).unwrap().1.id.clone();
    let plan = plan(request, allowed, catalog, orders, leaning)?;
    Ok(plan.candidates().map(name).collect())
}

/// The orders when the models of these names have these standings.
fn orders(catalog: &Catalog, standings: &[(&str, Standing)]) -> Orders {
    Orders::new(catalog, NOW, |target| {
        let id = &catalog.spec(target).unwrap().1.id;
        standings.iter().find(|(name, _)| name == id).map(|(_, standing)| *standing)
    })
}

fn seen(went: Went, times: usize) -> Standing {
    let mut standing = Standing::default();
    (0..times).for_each(|_| standing.facts.note(NOW, 5, went));
    standing
}

fn streamed(first_token_ms: u64, tokens_per_second: u64) -> Went {
    let (first_token, writing) = (Duration::from_millis(first_token_ms), Duration::from_secs(1));
    Went::Streamed { first_token, writing, output_tokens: tokens_per_second }
}

/// One whose day is used up too soon.
fn ahead() -> Standing {
    let mut standing = Standing::default();
    let day = Duration::from_secs(86_400);
    for left in [1.0, 0.3] {
        standing.pace.note(NOW, Some(Remaining { left, length: day, resets_at: Some(NOW + day) }));
    }
    standing
}

fn auto(strategy: Strategy) -> ChatRequest {
    request(ModelSelector::Auto(Some(strategy)))
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

#[test]
fn what_is_measured_changes_the_order_of_speed_but_not_of_ability() {
    let catalog = three();
    let quick = seen(streamed(100, 1_500), 30);
    let slow = seen(streamed(20_000, 5), 30);
    let orders = orders(&catalog, &[("wise", quick), ("quick", slow)]);
    let order =
        |strategy| planned(&catalog, &orders, &auto(strategy), &Allowed::default(), &LEANING).unwrap();
    assert_eq!(order(Strategy::Fast), ["wise", "even", "quick"]);
    assert_eq!(order(Strategy::Balanced), ["wise", "even", "quick"]);
    assert_eq!(order(Strategy::Smart), ["wise", "even", "quick"]);
}

#[test]
fn a_lie_makes_nobody_infinitely_attractive() {
    let catalog = catalog([provider("one", &[("honest", 10, 1, None, false), ("liar", 60, 9, None, false)])]);
    let liar = seen(
        Went::Streamed { first_token: Duration::ZERO, writing: Duration::ZERO, output_tokens: u64::MAX },
        999,
    );
    let orders = orders(&catalog, &[("liar", liar)]);
    for strategy in [Strategy::Smart, Strategy::Balanced, Strategy::Fast] {
        let order = planned(&catalog, &orders, &auto(strategy), &Allowed::default(), &LEANING).unwrap();
        assert_eq!(order, ["honest", "liar"], "{strategy:?}");
    }
}

#[test]
fn who_fails_goes_to_the_back_and_one_failure_proves_nothing() {
    let catalog = three();
    let order = |failures, strategy| {
        let orders = orders(&catalog, &[("wise", seen(Went::Failed, failures))]);
        planned(&catalog, &orders, &auto(strategy), &Allowed::default(), &LEANING).unwrap()
    };
    assert_eq!(order(1, Strategy::Smart), ["wise", "even", "quick"]);
    assert_eq!(order(20, Strategy::Smart), ["even", "quick", "wise"]);
    assert_eq!(order(20, Strategy::Balanced), ["even", "quick", "wise"]);
}

#[test]
fn who_is_ahead_of_its_day_stands_behind_its_equals_only() {
    let rows = [("best", 1, 3, None, false), ("equal", 12, 3, None, false), ("small", 60, 3, None, false)];
    let catalog = catalog([provider("one", &rows)]);
    let orders = orders(&catalog, &[("best", ahead())]);
    for strategy in [Strategy::Smart, Strategy::Balanced] {
        let order = planned(&catalog, &orders, &auto(strategy), &Allowed::default(), &LEANING).unwrap();
        assert_eq!(order, ["equal", "best", "small"], "{strategy:?}");
    }
    let pinned = request(ModelSelector::Named("best".to_owned()));
    assert_eq!(planned(&catalog, &orders, &pinned, &Allowed::default(), &LEANING).unwrap(), ["best"]);
}

#[test]
fn a_conversation_keeps_its_model_where_it_is_a_candidate() {
    let catalog = three();
    let cold = Orders::new(&catalog, NOW, |_| None);
    let quick = catalog.by_name("quick")[0];
    let keeping = Leaning { keeps: Some(quick), ..LEANING };
    let plan =
        |request: &ChatRequest| planned(&catalog, &cold, request, &Allowed::default(), &keeping).unwrap();
    assert_eq!(plan(&auto(Strategy::Smart)), ["quick", "wise", "even"]);
    let named = request(ModelSelector::Named("wise".to_owned()));
    assert_eq!(plan(&named), ["wise"], "a pin is stronger");
    let mut with_images = auto(Strategy::Smart);
    with_images.needs.tools = true;
    let wise = Leaning { keeps: Some(catalog.by_name("wise")[0]), ..LEANING };
    let order = planned(&catalog, &cold, &with_images, &Allowed::default(), &wise).unwrap();
    assert_eq!(order, ["even", "quick"], "it cannot do what is needed now");
}

#[test]
fn curiosity_goes_to_whom_nobody_has_asked_and_who_could_be_best() {
    let rows =
        [("known", 10, 5, None, false), ("unseen", 15, 5, None, false), ("hopeless", 90, 5, None, false)];
    let catalog = catalog([provider("one", &rows)]);
    let known = seen(streamed(700, 150), 10);
    let exploring = Leaning { explores: true, ..LEANING };
    let order = |orders: &Orders, strategy, leaning| {
        planned(&catalog, orders, &auto(strategy), &Allowed::default(), leaning).unwrap()
    };
    let before = orders(&catalog, &[("known", known)]);
    assert_eq!(order(&before, Strategy::Balanced, &LEANING)[0], "known");
    assert_eq!(order(&before, Strategy::Balanced, &exploring), ["unseen", "known", "hopeless"]);
    assert_eq!(order(&before, Strategy::Smart, &exploring)[0], "known", "ability is not measured");
    let slow = seen(streamed(10_000, 20), 10);
    let both = orders(&catalog, &[("known", known), ("unseen", slow)]);
    assert_eq!(order(&both, Strategy::Balanced, &exploring)[0], "known", "the hopeless one is not worth it");
    assert_eq!(order(&both, Strategy::Fast, &exploring)[0], "hopeless", "it may be quick");
}

#[test]
fn what_a_tenant_may_not_use_is_as_unknown() {
    let mut catalog_of = [
        provider("one", &[("wise", 1, 9, None, false), ("quick", 90, 1, None, true)]),
        provider("two", &[("even", 20, 3, None, true)]),
    ];
    catalog_of[0].trains_on_data = true;
    catalog_of[1].trains_on_data = false;
    let catalog = catalog(catalog_of);
    let cold = Orders::new(&catalog, NOW, |_| None);
    let (one, none) = (["one/wise".to_owned()], ["nothing".to_owned()]);
    let listed = Allowed { models: Some(&one), no_training: false };
    let no_training = Allowed { models: None, no_training: true };
    let nothing = Allowed { models: Some(&none), no_training: false };
    let both = Allowed { models: Some(&one), no_training: true };
    let ask = |selector, allowed| planned(&catalog, &cold, &request(selector), &allowed, &LEANING);
    let named = |name: &str| ModelSelector::Named(name.to_owned());
    assert_eq!(ask(ModelSelector::Auto(None), listed).unwrap(), ["wise"]);
    assert_eq!(ask(ModelSelector::Auto(None), no_training).unwrap(), ["even"]);
    assert_eq!(ask(named("family"), listed).unwrap(), ["wise"]);
    assert_eq!(ask(named("quick"), listed), Err(NoPlan::UnknownModel));
    assert_eq!(ask(named("wise"), no_training), Err(NoPlan::UnknownModel));
    assert_eq!(ask(ModelSelector::Number(ModelNumber(2)), listed), Err(NoPlan::UnknownModel));
    for allowed in [nothing, both] {
        assert_eq!(ask(ModelSelector::Auto(None), allowed), Err(NoPlan::NothingAllowed));
    }
    assert!(listed.admits(&catalog, catalog.by_name("wise")[0]));
    assert!(!listed.admits(&catalog, catalog.by_name("quick")[0]));
}

#[test]
fn a_name_of_the_upstream_wins_over_one_with_a_provider_in_front() {
    let catalog = catalog([
        provider("one", &[("two/even", 1, 1, None, false)]),
        provider("two", &[("even", 2, 2, None, false)]),
    ]);
    let named = |name: &str| names(&catalog, &request(ModelSelector::Named(name.to_owned()))).unwrap();
    assert_eq!(named("two/even"), ["two/even"]);
    assert_eq!(named("one/two/even"), ["two/even"]);
    assert_eq!(named("even"), ["even"]);
}

#[test]
fn each_one_left_out_has_its_reason() {
    let catalog = three();
    let cold = Orders::new(&catalog, NOW, |_| None);
    let mut long = request(ModelSelector::Auto(None));
    (long.input_tokens, long.needs.tools) = (InputTokens::certain(40_000), true);
    let only = ["wise".to_owned(), "even".to_owned()];
    let allowed = Allowed { models: Some(&only), no_training: false };
    assert_eq!(planned(&catalog, &cold, &long, &allowed, &LEANING), Err(NoPlan::TooLong { largest: 8_000 }));
    let reasons = why_not(&long, &allowed, &catalog, &cold, Strategy::Balanced);
    let reason = |name: &str| {
        let target = catalog.by_name(name)[0];
        reasons.iter().find(|(known, _)| *known == target).map(|(_, reason)| reason)
    };
    assert_eq!(reason("wise"), Some(WhyNot::NoCapability));
    assert_eq!(reason("even"), Some(WhyNot::WindowTooSmall { window: 8_000 }));
    assert_eq!(reason("quick"), Some(WhyNot::NotAllowed));
    let private = Allowed { models: None, no_training: true };
    let mut trains = provider("one", &[("wise", 1, 9, None, false)]);
    trains.trains_on_data = true;
    let training = self::catalog([trains]);
    let cold_too = Orders::new(&training, NOW, |_| None);
    let by_policy =
        why_not(&request(ModelSelector::Auto(None)), &private, &training, &cold_too, Strategy::Fast);
    assert_eq!(by_policy.iter().map(|(_, reason)| reason).collect::<Vec<_>>(), [WhyNot::DataPolicy]);
    assert!(
        why_not(&request(ModelSelector::Auto(None)), &Allowed::default(), &catalog, &cold, Strategy::Fast)
            .is_empty()
    );
}
