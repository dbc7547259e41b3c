//! What is valid but probably not what the operator wants.

use toml::Value;

use crate::domain::provider::ProviderSpec;

use super::base_url::base_url;
use super::environment::KEY_MIN_CHARS;
use super::settings::Settings;
use super::shipped;

impl Settings {
    /// One line each, without secrets; shown by `freellmapi check` and at start-up.
    ///
    /// Keys of the store are not known here: a provider whose keys are there is told to have none.
    pub fn warnings(&self) -> Vec<String> {
        let of_providers = self.providers.iter().filter(|provider| provider.enabled).flat_map(of_provider);
        of_providers.chain(self.nobody_can_serve()).chain(self.weak_admin_key()).collect()
    }

    fn nobody_can_serve(&self) -> Option<String> {
        let serves = |provider: &ProviderSpec| provider.is_usable() && has_model(provider);
        if self.providers.iter().any(serves) {
            return None;
        }
        let wanting = self.providers.iter().filter(|provider| provider.enabled);
        let variables: Vec<&str> =
            wanting.flat_map(|provider| &provider.keys_env).map(String::as_str).collect();
        Some(format!(
            "no provider can be called yet: set one of {}, or enable a local one",
            variables.join(", ")
        ))
    }

    fn weak_admin_key(&self) -> Option<String> {
        let admin_key = self.admin_key.as_ref()?;
        if Some(admin_key) == self.api_key.as_ref() {
            return Some("FREELLMAPI_ADMIN_KEY is the same as FREELLMAPI_API_KEY: use two".to_owned());
        }
        (admin_key.expose().len() < KEY_MIN_CHARS)
            .then(|| format!("FREELLMAPI_ADMIN_KEY is shorter than {KEY_MIN_CHARS} characters: guessable"))
    }
}

fn of_provider(provider: &ProviderSpec) -> Vec<String> {
    let id = provider.id.as_str();
    let is_shipped = shipped::PROVIDERS.iter().any(|file| file.stem() == id);
    let mut warnings = Vec::new();
    // A shipped provider without a key is one that the operator does not use.
    if !provider.is_usable() && !is_shipped {
        warnings.push(format!("provider {id} has no key: {}", how_to_add_a_key(provider)));
    }
    if !has_model(provider) {
        warnings.push(format!(
            "provider {id} is enabled but has no enabled model: list one as [[provider.model]]"
        ));
    }
    if base_url(&Value::String(provider.base_url.clone())).is_ok_and(|url| url.insecure) {
        warnings.push(format!(
            "provider {id} is called over plain http: keys and prompts can be read on the way"
        ));
    }
    warnings
}

fn has_model(provider: &ProviderSpec) -> bool {
    provider.models.iter().any(|model| model.enabled)
}

fn how_to_add_a_key(provider: &ProviderSpec) -> String {
    let command = format!("freellmapi account add --provider {}", provider.id);
    if provider.keys_env.is_empty() {
        format!("name its variable in keys_env, or run `{command}`")
    } else {
        format!("set {}, or run `{command}`", provider.keys_env.join(" or "))
    }
}
