//! What a request used and how it ended.

use std::sync::Arc;

use serde::Serialize;

use super::clock::Moment;
use super::ids::{EventId, KeyId, ProviderId, RequestId, TenantId};

/// Tokens as an upstream reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    pub fn total_tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

/// By which of our APIs a request came. The text is a metric label: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The original API, `/api/….php`.
    Original,
    /// OpenAI's, `/v1/…`.
    OpenAi,
}

impl Surface {
    /// In the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Original, Self::OpenAi];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::OpenAi => "openai",
        }
    }
}

/// How a request ended, as the client saw it. The text is stored and is a metric label: it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered in full.
    Served,
    /// The answer was cut after its first byte.
    Cut,
    /// The client left before the end.
    ClientLeft,
    /// Refused as wrong (4xx other than 429).
    Rejected,
    /// Capacity comes back later (429).
    NoCapacity,
    /// No provider could answer (503).
    Unavailable,
    /// Our own fault (500).
    Internal,
}

impl Outcome {
    /// In the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Served,
        Self::Cut,
        Self::ClientLeft,
        Self::Rejected,
        Self::NoCapacity,
        Self::Unavailable,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Cut => "cut",
            Self::ClientLeft => "client_left",
            Self::Rejected => "rejected",
            Self::NoCapacity => "no_capacity",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether it counts in the success rate: 4xx and client aborts do not.
    pub fn counts_in_success_rate(self) -> bool {
        match self {
            Self::Served | Self::Cut | Self::Unavailable | Self::Internal => true,
            Self::ClientLeft | Self::Rejected | Self::NoCapacity => false,
        }
    }
}

/// One request that has ended: a completion event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRecord {
    pub event_id: EventId,
    pub request_id: RequestId,
    pub tenant: TenantId,
    pub key: KeyId,
    /// Who served it; `None` when nobody did.
    pub served_by: Option<ServedBy>,
    pub outcome: Outcome,
    pub streamed: bool,
    /// Upstream calls made for it.
    pub attempts: u32,
    pub usage: Usage,
    /// Whether `usage` is the upstream's word or our count.
    pub usage_reported: bool,
    /// Request in.
    pub started_at: Moment,
    /// First byte of the answer out; `None` when there was none.
    pub first_byte_at: Option<Moment>,
    /// Last byte of the answer out.
    pub ended_at: Moment,
}

#[cfg(test)]
impl UsageRecord {
    /// For tests: a request that was served by nobody in particular, in no time, at `moment`.
    pub fn ended_at(moment: Moment) -> Self {
        Self {
            event_id: EventId::mint(),
            request_id: RequestId::mint(),
            tenant: TenantId(1),
            key: KeyId(1),
            served_by: None,
            outcome: Outcome::Served,
            streamed: false,
            attempts: 1,
            usage: Usage::default(),
            usage_reported: true,
            started_at: moment,
            first_byte_at: None,
            ended_at: moment,
        }
    }
}

/// The provider and model that served a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBy {
    pub provider: ProviderId,
    pub model: Arc<str>,
}
