//! `freellmapi model list`.

use serde_json::json;

use super::arguments::ModelCommand;
use super::failure::Failure;
use super::output;
use crate::app::{OpenStore, numbered};
use crate::config::{self, Sources};
use crate::domain::provider::{ModelSpec, ProviderSpec};

pub(super) fn run(sources: &Sources, command: &ModelCommand) -> Result<(), Failure> {
    let ModelCommand::List { json } = command;
    let settings = config::load(sources)?;
    let store = OpenStore::open(&settings)?.store;
    let providers = numbered(&settings.providers, &*store)?;
    let mut models: Vec<_> = providers
        .iter()
        .flat_map(|provider| provider.models.iter().map(move |model| (&**provider, model)))
        .collect();
    models.sort_by_key(|(_, model)| (model.intelligence_rank, model.number));
    if *json {
        as_json(&models)
    } else {
        as_table(&models)
    }
    Ok(())
}

fn as_json(models: &[(&ProviderSpec, &ModelSpec)]) {
    let rows: Vec<_> = models
        .iter()
        .map(|(provider, model)| {
            json!({
                "id": model.number,
                "platform": provider.id,
                "model_id": model.id,
                "display_name": model.display_name,
                "family": model.family,
                "intelligence_rank": model.intelligence_rank,
                "speed_rank": model.speed_rank,
                "context_window": model.context_window,
                "enabled": is_enabled(provider, model),
                "reason": reason(provider, model),
            })
        })
        .collect();
    output::line(&serde_json::Value::from(rows).to_string());
}

fn as_table(models: &[(&ProviderSpec, &ModelSpec)]) {
    let row = |(provider, model): &(&ProviderSpec, &ModelSpec)| {
        let number = model.number.map_or_else(String::new, |number| number.to_string());
        let state = match reason(provider, model) {
            None => "on".to_owned(),
            Some(reason) => format!("off: {reason}"),
        };
        let ranks = [model.intelligence_rank, model.speed_rank].map(|rank| rank.to_string());
        let [intelligence, speed] = ranks;
        vec![number, provider.id.to_string(), model.id.clone(), intelligence, speed, state]
    };
    let rows: Vec<_> = models.iter().map(row).collect();
    output::table(&["ID", "PLATFORM", "MODEL", "INTELLIGENCE", "SPEED", "STATE"], &rows);
}

fn is_enabled(provider: &ProviderSpec, model: &ModelSpec) -> bool {
    model.enabled && provider.is_usable()
}

/// Why a model cannot be used.
fn reason(provider: &ProviderSpec, model: &ModelSpec) -> Option<String> {
    if is_enabled(provider, model) {
        return None;
    }
    let stated = model.disabled_reason.as_ref().or(provider.disabled_reason.as_ref());
    Some(match stated {
        Some(reason) => reason.clone(),
        None if !provider.keys_env.is_empty() && provider.accounts.is_empty() => {
            format!("set {}", provider.keys_env.join(" or "))
        }
        None => "not enabled".to_owned(),
    })
}
