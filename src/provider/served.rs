//! Who served a request.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::ids::ProviderId;
use crate::domain::provider::ModelSpec;

/// Who served a request, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub by: Arc<ServedName>,
    /// Attempts that failed before this one.
    pub fallback_attempts: u32,
    /// Time spent waiting for capacity.
    pub queue_wait: Duration,
}

/// What one model of one provider is called: made once, told with every answer.
#[derive(Debug, PartialEq, Eq)]
pub struct ServedName {
    pub provider: ProviderId,
    pub model: Arc<str>,
    pub display_name: Box<str>,
    /// `provider/model` in visible ASCII: a model's id comes from the configuration and may be any text.
    pub route: Box<str>,
}

impl ServedName {
    pub(super) fn new(provider: &ProviderId, model: &ModelSpec) -> Self {
        let printable = |character: char| if character.is_ascii_graphic() { character } else { '?' };
        Self {
            provider: provider.clone(),
            model: model.id.as_str().into(),
            display_name: model.display_name.as_str().into(),
            route: format!("{provider}/{}", model.id).chars().map(printable).collect(),
        }
    }
}
