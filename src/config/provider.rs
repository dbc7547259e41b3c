//! One provider, from its table to a valid specification.

use crate::domain::ids::ProviderId;
use crate::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged};
use crate::domain::provider::{Auth, Dialect, ModelSpec, ProviderSpec, Timeouts};

use super::base_url::base_url;
use super::environment::Environment;
use super::model::{self, Model};
use super::reader::Section;
use super::scalar::{boolean, choice, provider_id, text};
use super::{account, limit, provider_checks, quirks, signals, timeouts};

const DIALECTS: [(&str, Dialect); 1] = [("openai", Dialect::OpenAi)];
const AUTHS: [(&str, Auth); 2] = [("bearer", Auth::Bearer), ("none", Auth::None)];
const TOKENS_CHARGED: [(&str, TokensCharged); 2] =
    [("reserve", TokensCharged::Reserve), ("usage", TokensCharged::Usage)];
const REQUESTS_CHARGED: [(&str, RequestsCharged); 1] = [("arrival", RequestsCharged::Arrival)];

/// What a provider is read against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) environment: Environment<'a>,
    /// What holds where the provider states no timeouts; `None` when that is wrong already.
    pub(super) timeouts: Option<Timeouts>,
}

/// Reads one provider; `None` when anything about it is wrong.
pub(super) fn read(section: &mut Section<'_>, around: Surroundings<'_>) -> Option<ProviderSpec> {
    let id = section.required("id", provider_id);
    let display_name = section.optional("display_name", text);
    let base_url = read_base_url(section);
    let dialect = section.or("dialect", Dialect::OpenAi, choice(&DIALECTS));
    let auth = section.or("auth", Auth::Bearer, choice(&AUTHS));
    let enabled = section.or("enabled", true, boolean);
    let disabled_reason = section.optional("disabled_reason", text);
    let requests_charged =
        section.or("requests_charged", RequestsCharged::Unknown, choice(&REQUESTS_CHARGED));
    let tokens_charged = section.or("tokens_charged", TokensCharged::Unknown, choice(&TOKENS_CHARGED));
    // What is not known to be harmless is not offered to tenants who forbid training.
    let trains_on_data = section.or("trains_on_data", true, boolean);
    let accounts = account::read(section, auth, around.environment);
    let quirks = quirks::read(section);
    let signals = signals::read(section);
    let timeouts = timeouts::read_over(section, around.timeouts);
    let documented_limits = limit::read_list(section, "documented_limit", &Scope::Account);
    provider_checks::check_documented(section, documented_limits.as_deref());
    let limits = limit::read_list(section, "limit", &Scope::Account);
    let models = section.tables("model", "id", model::read);
    provider_checks::check_pools(section, limits.as_deref(), models.as_deref());
    let (id, enabled, accounts, (limits, models)) = (id?, enabled?, accounts?, apportion(limits?, models?));
    provider_checks::check_prices(section, &limits, &models);
    Some(ProviderSpec {
        display_name: display_name.unwrap_or_else(|| id.clone()),
        id: ProviderId::new(&id),
        base_url: base_url?,
        dialect: dialect?,
        auth: auth?,
        enabled,
        disabled_reason: disabled_reason.filter(|_| !enabled),
        keys_env: accounts.keys_env,
        requests_charged: requests_charged?,
        tokens_charged: tokens_charged?,
        trains_on_data: trains_on_data?,
        limits,
        documented_limits: documented_limits?,
        models,
        accounts: accounts.accounts,
        quirks: quirks?,
        signals: signals?,
        timeouts: timeouts?,
    })
}

/// Reads `base_url` and `allow_insecure`.
fn read_base_url(section: &mut Section<'_>) -> Option<String> {
    let url = section.required("base_url", base_url);
    let allow_insecure = section.or("allow_insecure", false, boolean);
    let (url, allow_insecure) = (url?, allow_insecure?);
    if url.insecure && !allow_insecure {
        section.problem(
            "base_url",
            format!(
                "{:?}: plain http is for loopback and private addresses: use https, or set \
                 allow_insecure = true if the way there is safe",
                url.text
            ),
        );
        return None;
    }
    Some(url.text)
}

/// Splits off the limits of scope model and gives each model those that it does not state itself.
fn apportion(limits: Vec<Limit>, models: Vec<Model>) -> (Vec<Limit>, Vec<ModelSpec>) {
    let (defaults, shared): (Vec<_>, Vec<_>) =
        limits.into_iter().partition(|limit| limit.scope == Scope::Model);
    (shared, models.into_iter().map(|model| model.under(&defaults)).collect())
}
