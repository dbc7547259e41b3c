//! What the operator grants a tenant.

use std::sync::{Arc, LazyLock};

use serde::Serialize;

use super::clock::Moment;
use super::provider::{ModelSpec, ProviderSpec};

/// The heaviest that a tenant may weigh. Chosen: enough for any ratio that an operator means, and sums over
/// millions of tenants stay far inside 64 bits.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// What one tenant may do, as the operator set it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantPolicy {
    /// Its share among those who compete, in proportion to the weights of the others; 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    #[serde(flatten)]
    pub limits: TenantLimits,
    /// The models that it may use, each a family, an upstream id or `provider/model`; `None` = all.
    pub models: Option<Vec<String>>,
    /// Only providers that do not train on what they are sent.
    pub no_training: bool,
}

/// A tenant's own limits; `None` = unlimited. Zero is never a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantLimits {
    /// Requests in any 60 s.
    pub rpm: Option<u64>,
    /// Requests in a UTC day.
    pub rpd: Option<u64>,
    /// Tokens, input and output together, in any 60 s.
    pub tpm: Option<u64>,
    /// Tokens in a UTC day.
    pub tpd: Option<u64>,
    /// Tokens in a UTC month.
    pub tpmonth: Option<u64>,
    /// Requests under way at once.
    pub parallel: Option<u64>,
}

static UNRESTRICTED: LazyLock<Arc<TenantPolicy>> = LazyLock::new(Arc::default);

impl Default for TenantPolicy {
    fn default() -> Self {
        Self { weight: 1, limits: TenantLimits::default(), models: None, no_training: false }
    }
}

impl TenantPolicy {
    /// The policy that restricts nothing, without an allocation.
    pub fn unrestricted() -> Arc<Self> {
        Arc::clone(&UNRESTRICTED)
    }

    /// Whether the tenant may use this model of this provider. What it may not use does not exist for it.
    pub fn permits(&self, provider: &ProviderSpec, model: &ModelSpec) -> bool {
        let may_see = !self.no_training || !provider.trains_on_data;
        may_see
            && self
                .models
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| names_it(name, provider, model)))
    }

    /// Whether it restricts which models may be used.
    pub fn restricts_models(&self) -> bool {
        self.no_training || self.models.is_some()
    }
}

impl TenantLimits {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether `name`, as a client would write it, means this model: an upstream id, a family, or `provider/model`.
pub fn names_it(name: &str, provider: &ProviderSpec, model: &ModelSpec) -> bool {
    let of_provider = || name.strip_prefix(provider.id.as_str())?.strip_prefix('/');
    name == model.id || model.family.as_deref() == Some(name) || of_provider() == Some(model.id.as_str())
}

/// What is to become of a policy: `None` leaves a setting as it is, `Some(None)` lifts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    pub rpm: Option<Option<u64>>,
    pub rpd: Option<Option<u64>>,
    pub tpm: Option<Option<u64>>,
    pub tpd: Option<Option<u64>>,
    pub tpmonth: Option<Option<u64>>,
    pub parallel: Option<Option<u64>>,
    pub weight: Option<u32>,
    pub models: Option<Option<Vec<String>>>,
    pub no_training: Option<bool>,
}

impl TenantChange {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a tenant has used before now, as the statistics know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantUse {
    /// Of the last minute, in pieces of a second or less.
    pub minute: Vec<UsedUntil>,
    /// Since midnight UTC.
    pub day: Used,
    /// Since the first midnight UTC of the month.
    pub month: Used,
}

/// Requests for which a provider was called, and their tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub requests: u64,
    pub tokens: u64,
}

/// What ended until `until`, which is no earlier than the last of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedUntil {
    pub until: Moment,
    pub used: Used,
}
