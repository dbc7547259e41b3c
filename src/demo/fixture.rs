//! A provider for the tests of this room.

use std::time::Duration;

use crate::domain::ids::ProviderId;
use crate::domain::limit::{Limit, RequestsCharged, TokensCharged};
use crate::domain::provider::{
    Auth, Capabilities, Dialect, ModelSpec, ProviderSpec, Quirks, StreamUsage, Timeouts,
};

/// A provider with one model, `model-a`, off and without an account, as it is shipped.
pub(super) fn spec(id: &str, documented_limits: Vec<Limit>) -> ProviderSpec {
    ProviderSpec {
        id: ProviderId::new(id),
        display_name: id.to_uppercase(),
        base_url: "https://provider.example/v1".to_owned(),
        dialect: Dialect::OpenAi,
        auth: Auth::Bearer,
        enabled: false,
        disabled_reason: Some("retired".to_owned()),
        keys_env: Vec::new(),
        requests_charged: RequestsCharged::Arrival,
        tokens_charged: TokensCharged::Reserve,
        trains_on_data: true,
        limits: Vec::new(),
        documented_limits,
        models: vec![model()],
        accounts: Vec::new(),
        signals: crate::domain::signals::Signals::default(),
        quirks: Quirks {
            drop_fields: Vec::new(),
            rename_fields: Vec::new(),
            allow_fields: Vec::new(),
            stream_usage: StreamUsage::Asked,
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            total: Duration::from_secs(600),
        },
    }
}

fn model() -> ModelSpec {
    ModelSpec {
        id: "model-a".to_owned(),
        display_name: "Model A".to_owned(),
        family: None,
        size_label: "Small".to_owned(),
        intelligence_rank: 1,
        speed_rank: 1,
        context_window: Some(131_072),
        max_output_tokens: Some(4096),
        capabilities: Capabilities::default(),
        pool: None,
        price: None,
        limits: Vec::new(),
        enabled: false,
        disabled_reason: Some("retired".to_owned()),
        number: None,
    }
}
