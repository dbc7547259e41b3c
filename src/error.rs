//! The only error that a client can see. It says whose fault it is; `api::error` alone renders it.

use std::time::Duration;

use thiserror::Error;

use crate::domain::usage::Outcome;

/// Why a request is not answered, in words that a client may read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GatewayError {
    /// 400: the request is wrong; `field` names where.
    #[error("{message}")]
    BadRequest { field: Option<String>, message: String },
    /// 400: larger than every candidate's window or limit.
    #[error("{message}")]
    TooLong { message: String },
    /// 400 on the original API, 404 on OpenAI's: no such model for this caller.
    #[error(
        "the model {name} does not exist or is not enabled; the models are listed at /v1/models and /api/models.php"
    )]
    UnknownModel { name: String },
    /// 401.
    #[error("{message}")]
    Unauthorized { message: &'static str },
    /// 404: no such path.
    #[error("no such path: {path}; the API is at /api/chat.php and /v1/chat/completions")]
    UnknownPath { path: String },
    /// 405.
    #[error("this path answers {allow} only")]
    MethodNotAllowed { allow: &'static str },
    /// 413.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    /// 408: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// 429: capacity comes back after this time.
    #[error("rate limit exceeded: every provider that could answer is at its limit")]
    NoCapacity { retry_after: Duration },
    /// 429: the tenant's own limit has room again after this time.
    #[error("rate limit exceeded: a limit of this key's tenant is used up")]
    OwnLimit { retry_after: Duration },
    /// 429: it waited for capacity as long as it may.
    #[error(
        "rate limit exceeded: no provider that could answer had room in time; the request was number {queue_position} in the queue"
    )]
    WaitedInVain { retry_after: Duration, queue_position: usize },
    /// 503: nobody can answer.
    #[error("{message}")]
    Unavailable { message: String, retry_after: Duration },
    /// 500: our own fault.
    #[error("internal error")]
    Internal,
    /// The same as `error`, with what stood in the way of each candidate, in words that the tenant may read.
    #[error("{error}")]
    Explained { error: Box<Self>, details: Vec<String> },
}

/// When to come back where nothing better is known. Chosen: long enough for a breaker to close again.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

impl GatewayError {
    pub fn bad_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadRequest { field: Some(field.into()), message: message.into() }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), retry_after: DEFAULT_RETRY_AFTER }
    }

    /// The same with what stood in the way of each candidate; without, where there is nothing to tell.
    pub fn explained(self, details: Vec<String>) -> Self {
        if details.is_empty() { self } else { Self::Explained { error: Box::new(self), details } }
    }

    /// The error itself, without what explains it.
    pub fn plain(&self) -> &Self {
        match self {
            Self::Explained { error, .. } => error.plain(),
            plain => plain,
        }
    }

    /// What stood in the way of each candidate.
    pub fn details(&self) -> &[String] {
        match self {
            Self::Explained { details, .. } => details,
            _ => &[],
        }
    }

    pub fn status(&self) -> u16 {
        match self {
            Self::Explained { error, .. } => error.status(),
            Self::BadRequest { .. } | Self::TooLong { .. } => 400,
            Self::UnknownModel { .. } | Self::UnknownPath { .. } => 404,
            Self::Unauthorized { .. } => 401,
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyTimeout => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::NoCapacity { .. } | Self::WaitedInVain { .. } | Self::OwnLimit { .. } => 429,
            Self::Internal => 500,
            Self::Unavailable { .. } => 503,
        }
    }

    /// How the request ends in the statistics.
    pub fn outcome(&self) -> Outcome {
        match self.plain() {
            Self::NoCapacity { .. } | Self::WaitedInVain { .. } | Self::OwnLimit { .. } => {
                Outcome::NoCapacity
            }
            Self::Unavailable { .. } => Outcome::Unavailable,
            Self::Internal => Outcome::Internal,
            _ => Outcome::Rejected,
        }
    }

    /// When asking again makes sense, for 429 and 503.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.plain() {
            Self::NoCapacity { retry_after }
            | Self::WaitedInVain { retry_after, .. }
            | Self::OwnLimit { retry_after }
            | Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The place in the queue of a request that waited in vain, from 1.
    pub fn queue_position(&self) -> Option<usize> {
        match self.plain() {
            Self::WaitedInVain { queue_position, .. } => Some(*queue_position),
            _ => None,
        }
    }
}
