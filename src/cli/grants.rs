//! From what the command line says of a tenant's grants to a change of them.

use super::arguments::Grants;
use super::failure::Failure;
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::domain::tenant::{TenantChange, TenantPolicy, WEIGHT_MAX, names_it};

/// What lifts a limit.
const NONE: &str = "none";

/// The largest limit. Chosen: what every store, and every reader of JSON, still takes for a whole number.
const LIMIT_MAX: u64 = 1 << 53;

/// The most names that a tenant's list may have. Chosen: far more than there are models, and the list is looked
/// through for every candidate.
const NAMES_MAX: usize = 256;

/// The change that `grants` ask for.
///
/// # Errors
/// All that is wrong with them, one line each.
pub(super) fn change(grants: &Grants) -> Result<TenantChange, Failure> {
    let mut problems = Vec::new();
    let mut limit = |option: &str, text: &Option<String>| {
        let text = text.as_deref()?;
        read_limit(text)
            .map_err(|wanted| problems.push(format!("{option} must be {wanted}, not `{text}`")))
            .ok()
    };
    let mut change = TenantChange {
        rpm: limit("--rpm", &grants.rpm),
        rpd: limit("--rpd", &grants.rpd),
        tpm: limit("--tpm", &grants.tpm),
        tpd: limit("--tpd", &grants.tpd),
        tpmonth: limit("--tpmonth", &grants.tpmonth),
        parallel: limit("--parallel", &grants.parallel),
        no_training: grants.no_training,
        ..TenantChange::default()
    };
    if let Some(text) = &grants.weight {
        change.weight = text.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
        if change.weight.is_none() {
            problems.push(format!("--weight must be a whole number from 1 to {WEIGHT_MAX}, not `{text}`"));
        }
    }
    if let Some(text) = &grants.models {
        change.models = read_names(text);
        if change.models.is_none() {
            problems.push(format!(
                "--models must be 1 to {NAMES_MAX} names with commas between them, for example \
                 llama-3.3-70b,groq/openai/gpt-oss-120b, or {NONE}"
            ));
        }
    }
    if problems.is_empty() { Ok(change) } else { Err(Failure::usage(problems.join("\n"))) }
}

fn read_limit(text: &str) -> Result<Option<u64>, String> {
    if text == NONE {
        return Ok(None);
    }
    let valid = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    valid.map(Some).ok_or_else(|| format!("a whole number from 1 to {LIMIT_MAX}, or {NONE}"))
}

fn read_names(text: &str) -> Option<Option<Vec<String>>> {
    if text == NONE {
        return Some(None);
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_sane = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
    (names.len() <= NAMES_MAX && names.iter().all(is_sane)).then_some(Some(names))
}

/// What is probably not meant, for a person: names that no model has, and grants that leave nothing to use.
pub(super) fn warnings(policy: &TenantPolicy, providers: &[ProviderSpec]) -> Vec<String> {
    let models =
        || providers.iter().flat_map(|provider| provider.models.iter().map(move |model| (provider, model)));
    let is_known = |name: &&String| models().any(|(provider, model)| names_it(name, provider, model));
    let unknown = policy.models.iter().flatten().filter(|name| !is_known(name));
    let mut warnings: Vec<String> = unknown
        .map(|name| format!("no configured model is called `{name}`; `freellmapi model list` shows them"))
        .collect();
    let may_use = |(provider, model): (&ProviderSpec, &ModelSpec)| {
        provider.is_usable() && model.enabled && policy.permits(provider, model)
    };
    if policy.restricts_models() && !models().any(may_use) {
        warnings.push("no model that can be used now is left for this tenant".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants() -> Grants {
        Grants {
            rpm: None,
            rpd: None,
            tpm: None,
            tpd: None,
            tpmonth: None,
            parallel: None,
            weight: None,
            models: None,
            no_training: None,
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn only_what_is_given_changes() {
        assert!(change(&grants()).unwrap().is_empty());
        let given = Grants { rpm: text("30"), tpd: text("none"), models: text("a, b/c"), ..grants() };
        let expected = TenantChange {
            rpm: Some(Some(30)),
            tpd: Some(None),
            models: Some(Some(vec!["a".to_owned(), "b/c".to_owned()])),
            ..TenantChange::default()
        };
        assert_eq!(change(&given).unwrap(), expected);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wrong = Grants {
            rpm: text("0"),
            tpm: text("-1"),
            parallel: text("many"),
            tpmonth: text("99999999999999999999"),
            weight: text("0"),
            models: text("a,,b"),
            ..grants()
        };
        let failure = change(&wrong).unwrap_err();
        for option in ["--rpm", "--tpm", "--parallel", "--tpmonth", "--weight", "--models"] {
            assert!(failure.message.lines().any(|line| line.starts_with(option)), "{}", failure.message);
        }
        assert_eq!(failure.message.lines().count(), 6);
    }
}
