//! What the tests of this room start from.

use std::time::Duration;

use super::identity::Names;
use crate::config::shipped_providers;
use crate::domain::ids::ProviderId;
use crate::domain::limit::{Limit, Scope, Unit, Window};
use crate::domain::provider::{AccountSpec, ProviderSpec};
use crate::domain::secret::Secret;

/// A provider `p` with the model `m`, two accounts and these limits.
pub(super) fn spec(limits: &[Limit]) -> ProviderSpec {
    let mut spec = shipped_providers().unwrap().remove(0);
    let mut model = spec.models.remove(0);
    model.id = "m".to_owned();
    model.limits = Vec::new();
    let account =
        |name: &str| AccountSpec { name: name.to_owned(), keys: vec![Secret::new(name.to_owned())] };
    ProviderSpec {
        id: ProviderId::new("p"),
        limits: limits.to_vec(),
        models: vec![model],
        accounts: vec![account("a"), account("b")],
        ..spec
    }
}

/// So many requests in a window of so many seconds.
pub(super) fn limit(max: u64, window_s: u64) -> Limit {
    let window = Window::Sliding(Duration::from_secs(window_s));
    Limit { scope: Scope::Account, unit: Unit::Requests, max, window }
}

pub(super) fn names(spec: &ProviderSpec) -> Names {
    Names::new(spec, |_| [0; 32])
}
