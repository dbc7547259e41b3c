//! What the attempts at one provider count in.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::registry::{counters, histograms};
use super::requests::FIRST_TOKEN_BUCKETS;
use crate::domain::failure::FailureKind;
use crate::domain::ids::ProviderId;
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::Usage;
use crate::telemetry::{ANSWERS, ATTEMPT_TIME_TO_FIRST_TOKEN, ATTEMPTS, LIMIT_DECISIONS, TOKENS};

/// What stands for a model that the configuration does not have.
const OTHER: &str = "other";

/// What our own books said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Granted,
    /// Not yet.
    Refused,
    /// Never.
    TooLarge,
    /// A ledger decides, and its answer is counted too.
    Pending,
}

impl Decision {
    const ALL: [Self; 4] = [Self::Granted, Self::Refused, Self::TooLarge, Self::Pending];

    fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Pending => "pending",
        }
    }
}

/// The families that every provider has a part of.
pub(super) struct ProviderFamilies {
    attempts: IntCounterVec,
    answers: IntCounterVec,
    first_tokens: HistogramVec,
    tokens: IntCounterVec,
    decisions: IntCounterVec,
}

/// One provider's part of them, shared by its actors on all workers. Every call is a few relaxed atomic additions, but
/// for [`ProviderMetrics::failed`], which looks its counter up.
pub struct ProviderMetrics {
    provider: ProviderId,
    attempts: IntCounterVec,
    served: IntCounter,
    abandoned: IntCounter,
    /// In the order of the provider's models.
    answers: Vec<IntCounter>,
    answers_of_others: IntCounter,
    first_tokens: Histogram,
    input_tokens: IntCounter,
    output_tokens: IntCounter,
    /// In the order of [`Decision::ALL`].
    decisions: Vec<IntCounter>,
}

impl ProviderFamilies {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            attempts: counters(registry, &ATTEMPTS)?,
            answers: counters(registry, &ANSWERS)?,
            first_tokens: histograms(registry, &ATTEMPT_TIME_TO_FIRST_TOKEN, &FIRST_TOKEN_BUCKETS)?,
            tokens: counters(registry, &TOKENS)?,
            decisions: counters(registry, &LIMIT_DECISIONS)?,
        })
    }

    pub(super) fn of(&self, spec: &ProviderSpec) -> prometheus::Result<ProviderMetrics> {
        let id = spec.id.as_str();
        let of = |family: &IntCounterVec, label: &str| family.get_metric_with_label_values(&[id, label]);
        let answers = spec.models.iter().map(|model| of(&self.answers, &model.id));
        let decisions = Decision::ALL.iter().map(|decision| of(&self.decisions, decision.as_str()));
        Ok(ProviderMetrics {
            provider: spec.id.clone(),
            attempts: self.attempts.clone(),
            served: of(&self.attempts, "served")?,
            abandoned: of(&self.attempts, "abandoned")?,
            answers: answers.collect::<prometheus::Result<_>>()?,
            answers_of_others: of(&self.answers, OTHER)?,
            first_tokens: self.first_tokens.get_metric_with_label_values(&[id])?,
            input_tokens: of(&self.tokens, "input")?,
            output_tokens: of(&self.tokens, "output")?,
            decisions: decisions.collect::<prometheus::Result<_>>()?,
        })
    }
}

impl ProviderMetrics {
    /// An attempt was answered in full by the model at `position`.
    pub fn served(&self, position: usize) {
        self.served.inc();
        self.answers.get(position).unwrap_or(&self.answers_of_others).inc();
    }

    /// An attempt was given up by us after it was sent.
    pub fn abandoned(&self) {
        self.abandoned.inc();
    }

    /// An attempt has failed.
    pub fn failed(&self, kind: FailureKind) {
        let labels = [self.provider.as_str(), kind.as_str()];
        // The labels are as many as the family has: it cannot refuse them.
        if let Ok(counter) = self.attempts.get_metric_with_label_values(&labels) {
            counter.inc();
        }
    }

    /// The first event of a streamed answer came this long after the call.
    pub fn first_token(&self, after: Duration) {
        self.first_tokens.observe(after.as_secs_f64());
    }

    /// An attempt used this much.
    pub fn used(&self, usage: Usage) {
        self.input_tokens.inc_by(usage.input_tokens);
        self.output_tokens.inc_by(usage.output_tokens);
    }

    /// Our own books were asked for room.
    pub fn decided(&self, decision: Decision) {
        if let Some(counter) = self.decisions.get(decision as usize) {
            counter.inc();
        }
    }
}
