//! One chat as the client asked for it, checked and ready to be encoded for any provider.

use std::sync::Arc;

use bytestring::ByteString;

use super::ids::ModelNumber;
use super::input_tokens::InputTokens;
use super::provider::Capabilities;
use super::tenant::TenantPolicy;

/// A chat request. What was checked is what is forwarded: the members are slices of the received body.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    body: ByteString,
    /// The top-level members that go upstream, in the client's order.
    pub members: Vec<Member>,
    pub selector: ModelSelector,
    pub streamed: bool,
    /// Whether the client itself asked for usage in the stream.
    pub wants_stream_usage: bool,
    pub needs: Capabilities,
    /// Tokens of the whole input (tools and images too): a central estimate.
    pub input_tokens: InputTokens,
    /// The largest of all cap fields: what one choice may take of a context window, in tokens. `None` when the
    /// client set none.
    pub choice_cap: Option<u64>,
    /// How many answers are asked for: `n`, at least 1.
    pub choices: u64,
    /// What its tenant may do. The edge sets it, for every surface alike.
    pub policy: Arc<TenantPolicy>,
    /// How the conversation began; `None` where the surface does not say.
    pub opening: Option<Opening>,
}

/// What stays the same in every request of one conversation, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Of the texts of all messages up to the first one of the user, this included. Not keyed: whoever knows a text
    /// knows its digest, so it tells nothing apart but the conversations of one tenant.
    pub digest: u64,
    /// Whether it has been answered before.
    pub is_continued: bool,
}

impl ChatRequest {
    /// A request over `body` that asks for whatever is best; the reader of a surface fills in the rest.
    pub fn new(body: ByteString) -> Self {
        Self {
            body,
            members: Vec::new(),
            selector: ModelSelector::Auto(None),
            streamed: false,
            wants_stream_usage: false,
            needs: Capabilities::default(),
            input_tokens: InputTokens::default(),
            choice_cap: None,
            choices: 1,
            policy: TenantPolicy::unrestricted(),
            opening: None,
        }
    }

    /// The tokens of all choices together when each may be `choice_cap` long: what the limits count.
    pub fn output_tokens(&self, choice_cap: u64) -> u64 {
        choice_cap.saturating_mul(self.choices)
    }

    /// The body as it was received.
    pub fn body(&self) -> &ByteString {
        &self.body
    }

    /// The member of that name, if it is there.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// One top-level member of the request's JSON object: a part of the received body, which it keeps, or a default of the
/// surface that the client left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Decoded: without quotes and escapes.
    pub name: ByteString,
    /// JSON.
    pub value: ByteString,
}

/// Which models may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSelector {
    /// Any; in this order of preference, or the configured one.
    Auto(Option<Strategy>),
    /// The one that the original API numbers so.
    Number(ModelNumber),
    /// A family, an exact upstream id, or `provider/model`.
    Named(String),
}

/// By what candidates are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The most capable first.
    Smart,
    /// The fastest first.
    Fast,
    /// By both ranks together.
    Balanced,
}
