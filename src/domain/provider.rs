//! A provider as valid data: what `config/providers/<id>.toml` and the main file say, checked.

use std::time::Duration;

use super::ids::{ModelNumber, ProviderId};
use super::limit::{Limit, RequestsCharged, TokensCharged};
use super::price::Price;
use super::secret::Secret;
use super::signals::Signals;

/// The wire format that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
}

/// How a call to a provider is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// No header at all: some keyless providers refuse any.
    None,
}

/// How a provider reports usage at the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// When `stream_options.include_usage` asks for it.
    Asked,
    /// Always, and `stream_options` is refused.
    Unasked,
    /// Never, and `stream_options` is refused.
    Absent,
}

/// Where a provider differs from OpenAI's request format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Top-level fields that the provider refuses: dropped.
    pub drop_fields: Vec<String>,
    /// Top-level fields that the provider calls otherwise: (OpenAI's name, its name).
    pub rename_fields: Vec<(String, String)>,
    /// Fields that choose a model, route or price upstream and are dropped unless listed here.
    pub allow_fields: Vec<String>,
    pub stream_usage: StreamUsage,
}

/// The time limits of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of an attempt to a connection that can be written to.
    pub connect: Duration,
    /// Of a stream: from the start of the attempt to its first event.
    pub first_token: Duration,
    /// Of a stream: the longest silence after the first event.
    pub stall: Duration,
    /// From the request's arrival to the end of its answer: what is left of it bounds an attempt.
    pub total: Duration,
}

/// What a model can do beyond plain chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub tools: bool,
    pub vision: bool,
    pub json_schema: bool,
    pub reasoning: bool,
}

impl Capabilities {
    /// Whether everything that `needed` names is there.
    pub fn cover(self, needed: Self) -> bool {
        (self.tools || !needed.tools)
            && (self.vision || !needed.vision)
            && (self.json_schema || !needed.json_schema)
            && (self.reasoning || !needed.reasoning)
    }
}

/// One model of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The upstream's own id, sent as `model`.
    pub id: String,
    pub display_name: String,
    /// The same open model at several providers shares a family, for example `llama-3.3-70b`.
    pub family: Option<String>,
    /// Small, Medium, Large or Frontier: a band of ability.
    pub size_label: String,
    /// 1 = most capable.
    pub intelligence_rank: u32,
    /// 1 = fastest.
    pub speed_rank: u32,
    /// Input and output together, in tokens; `None` = unknown.
    pub context_window: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub capabilities: Capabilities,
    pub pool: Option<String>,
    /// What limits on credits count by; `None` = never stated.
    pub price: Option<Price>,
    /// Limits of scope model, in force.
    pub limits: Vec<Limit>,
    pub enabled: bool,
    /// Why the model is off although it is listed, for example `retired upstream on 2026-08-16`.
    pub disabled_reason: Option<String>,
    /// Given by the store; `None` until it has been asked.
    pub number: Option<ModelNumber>,
}

/// One account at a provider: a budget of its own, reached by one or more keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpec {
    /// For display, for example `env-1` or `team-a`.
    pub name: String,
    /// Empty where the provider needs none.
    pub keys: Vec<Secret<String>>,
}

/// One provider, ready to use.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderSpec {
    pub id: ProviderId,
    pub display_name: String,
    /// Without a trailing slash; `/chat/completions` is appended.
    pub base_url: String,
    pub dialect: Dialect,
    pub auth: Auth,
    pub enabled: bool,
    /// Why the provider is off although it is listed, for example `retired upstream on 2026-07-30`.
    pub disabled_reason: Option<String>,
    /// The environment variables that carry its keys, for messages.
    pub keys_env: Vec<String>,
    pub requests_charged: RequestsCharged,
    pub tokens_charged: TokensCharged,
    pub trains_on_data: bool,
    /// Limits of scope account and pool, in force.
    pub limits: Vec<Limit>,
    /// The limits that the original API documentation states; the ones that `demo` simulates.
    pub documented_limits: Vec<Limit>,
    pub models: Vec<ModelSpec>,
    pub accounts: Vec<AccountSpec>,
    pub quirks: Quirks,
    pub signals: Signals,
    pub timeouts: Timeouts,
}

impl ProviderSpec {
    /// Whether it may be called: switched on, with an account to call it by.
    pub fn is_usable(&self) -> bool {
        self.enabled && !self.accounts.is_empty()
    }
}
