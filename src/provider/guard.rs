//! The right to one attempt, and the duty to settle it.

use std::sync::Arc;
use std::time::Duration;

use super::adapter::LimitHints;
use super::failed_attempt::FailedAttempt;
use super::learned::Asked;
use super::probe::Probe;
use super::shared::ProviderShared;
use crate::domain::clock::Moment;
use crate::domain::consequence::Costs;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::usage::Usage;
use crate::quota::{AccountIndex, Charge, Hold, ModelIndex, Spent};
use crate::routing::Went;

/// Holds the units of one attempt and settles them when it is dropped, on every path: finished, failed, cut,
/// abandoned, panicked.
pub(super) struct AttemptGuard {
    shared: Arc<ProviderShared>,
    hold: Option<Hold>,
    account: AccountIndex,
    model: ModelIndex,
    progress: Progress,
    reported: Option<Usage>,
    /// Our own count, for when the upstream reports nothing.
    counted: Usage,
    asked: Asked,
    /// Whether the answer has come to its end.
    is_whole: bool,
    /// Whether the answer has begun as it should.
    has_succeeded: bool,
    timing: Timing,
    /// Until the provider has answered or failed.
    probe: Option<Probe>,
}

/// When what happened, from the attempt's own start.
#[derive(Clone, Copy, Default)]
struct Timing {
    sent_at: Moment,
    /// The first event of a stream.
    first_token_at: Option<Moment>,
    /// Whether it was told that it failed.
    has_failed: bool,
    /// Whether the metrics have its outcome.
    is_counted: bool,
}

/// How far the attempt has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    NotSent,
    Sent,
    Ended,
}

impl AttemptGuard {
    pub(super) fn new(
        shared: Arc<ProviderShared>,
        (hold, probe): (Hold, Option<Probe>),
        asked: Asked,
    ) -> Self {
        let (account, model) = (hold.account(), hold.model());
        let counted = Usage { input_tokens: asked.input_reserved, output_tokens: 0 };
        Self {
            shared,
            hold: Some(hold),
            account,
            model,
            progress: Progress::NotSent,
            reported: None,
            counted,
            asked,
            is_whole: false,
            has_succeeded: false,
            timing: Timing::default(),
            probe,
        }
    }

    /// Whether the attempt can still be on its way by the instant until which it was granted: what it needs before its
    /// first byte is a connection, which may take `connecting`.
    pub(super) fn is_in_time(&self, now: Moment, connecting: Duration) -> bool {
        self.hold.as_ref().is_some_and(|hold| now + connecting <= hold.send_by())
    }

    pub(super) fn shared(&self) -> &Arc<ProviderShared> {
        &self.shared
    }

    pub(super) fn account(&self) -> AccountIndex {
        self.account
    }

    pub(super) fn model(&self) -> ModelIndex {
        self.model
    }

    /// From here on the upstream may count it.
    /// Answers when that is.
    pub(super) fn sending(&mut self) -> Moment {
        self.progress = Progress::Sent;
        self.timing.sent_at = self.shared.clock().now();
        self.timing.sent_at
    }

    /// The first byte of the response is there: the upstream has counted it.
    pub(super) fn first_byte(&mut self) {
        if let Some(hold) = &mut self.hold {
            self.shared.first_byte(hold);
        }
    }

    /// The answer has come to its end.
    pub(super) fn ended(&mut self) {
        self.is_whole = true;
        self.progress = Progress::Ended;
    }

    /// The answer has begun as it should; a streamed one by its first event, another one by its last byte.
    pub(super) fn succeeded(&mut self, is_streamed: bool) {
        let now = self.shared.clock().now();
        self.timing.first_token_at = is_streamed.then_some(now);
        if let (Some(metrics), Some(instant)) = (self.shared.metrics(), self.timing.first_token_at) {
            metrics.first_token(instant.saturating_since(self.timing.sent_at));
        }
        let probes = self.probe.as_ref().map(Probe::probes).unwrap_or_default();
        self.shared.succeeded(now, self.account, self.model, probes);
        self.hold.iter().for_each(|hold| self.shared.answered(hold));
        self.has_succeeded = true;
        self.probe = None;
    }

    /// What the answer's head says of the limits.
    pub(super) fn heed(&self, hints: &LimitHints) {
        self.shared.heed(self.account, self.model, hints);
    }

    /// The attempt has failed: says what that means at this provider, and leaves alone whom it concerns.
    pub(super) fn failed(&mut self, failure: UpstreamFailure) -> UpstreamFailure {
        let failure = self.shared.understood(failure);
        match failure.kind {
            FailureKind::Connect => self.progress = Progress::NotSent,
            // We hang up on these: the upstream may go on for a moment.
            FailureKind::Timeout(_) | FailureKind::Protocol => {}
            // What has answered, or closed, is over upstream too.
            _ => self.progress = Progress::Ended,
        }
        let attempt = FailedAttempt {
            account: self.account,
            model: self.model,
            has_succeeded: self.has_succeeded,
            probes: self.probe.as_ref().map(Probe::probes).unwrap_or_default(),
        };
        self.shared.failed(&attempt, &failure);
        if let Some(metrics) = self.shared.metrics() {
            metrics.failed(failure.kind);
            self.timing.is_counted = true;
        }
        if blames_the_target(failure.kind) {
            self.timing.has_failed = true;
            self.shared.went(self.shared.clock().now(), self.model, Went::Failed);
        }
        self.probe = None;
        failure
    }

    /// The upstream's word on what was used; the last one holds.
    pub(super) fn report(&mut self, usage: Usage) {
        self.reported = Some(usage);
    }

    /// More of the answer has come, of about so many tokens.
    pub(super) fn count_output(&mut self, tokens: u64) {
        self.counted.output_tokens = self.counted.output_tokens.saturating_add(tokens);
    }

    /// How it went, unless that is told already. An answer that its client left in the middle says nothing: it is not
    /// known how it would have gone on.
    fn went(&self, now: Moment) -> Option<Went> {
        let has_begun = self.has_succeeded;
        match self.progress {
            _ if self.timing.has_failed => None,
            Progress::Sent if !has_begun => {
                Some(Went::Left { waited: now.saturating_since(self.timing.sent_at) })
            }
            Progress::Ended if has_begun => Some(self.answered(now)),
            Progress::NotSent | Progress::Sent | Progress::Ended => None,
        }
    }

    fn answered(&self, now: Moment) -> Went {
        let (Usage { output_tokens, .. }, _) = self.usage();
        let Timing { sent_at, first_token_at, .. } = self.timing;
        match first_token_at {
            Some(instant) => Went::Streamed {
                first_token: instant.saturating_since(sent_at),
                writing: now.saturating_since(instant),
                output_tokens,
            },
            None => Went::Whole { took: now.saturating_since(sent_at), output_tokens },
        }
    }

    /// Counts an attempt that was sent. What a failed one used is counted where it is known: an estimate of what was
    /// refused would be no use at all.
    fn count(&self) {
        let Some(metrics) = self.shared.metrics() else { return };
        match self.progress {
            _ if self.timing.is_counted => {}
            Progress::NotSent => return,
            Progress::Sent => metrics.abandoned(),
            Progress::Ended => metrics.served(self.model.0),
        }
        if self.has_succeeded || self.reported.is_some() {
            metrics.used(self.usage().0);
        }
    }

    /// What was used as far as is known, and whether the upstream said so.
    pub(super) fn usage(&self) -> (Usage, bool) {
        self.reported.map_or((self.counted, false), |usage| (usage, true))
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        self.count();
        let now = self.shared.clock().now();
        if let Some(went) = self.went(now) {
            self.shared.went(now, self.model, went);
        }
        let charge = self.reported.map_or(Charge::AtLeast(self.counted), Charge::Exact);
        let spent = match self.progress {
            Progress::NotSent => Spent::NotSent,
            Progress::Sent => Spent::Aborted(charge),
            Progress::Ended => Spent::Ended(charge),
        };
        self.shared.learn(self.model, &self.asked, self.usage(), self.is_whole);
        self.shared.settle(now, hold, spent);
    }
}

/// Whether a failure shows what the target is worth; a limit, a key or a wrong request does not.
fn blames_the_target(kind: FailureKind) -> bool {
    match kind.consequence().costs {
        Costs::Provider | Costs::Model | Costs::Moment => true,
        Costs::Nobody => kind == FailureKind::NoAnswer,
        Costs::Limit | Costs::Account => false,
    }
}
