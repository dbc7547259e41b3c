//! What a request takes of its tenant's own limits; pure but for the book's lock.
//!
//! Taken before the first candidate is asked, and carried over failover: one request and one parallel slot until
//! the completion ends, the tokens that the answer used. Given back when it comes to nothing, or waits before any
//! provider was called.

use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::usage::{Outcome, UsageRecord};
use crate::provider::Job;
use crate::quota::{Refusal, TenantBooks, TenantDemand};

/// The output expected for each choice where the client set no cap. The original API's own default (its
/// documentation, read 2026-11-22).
const EXPECTED_OUTPUT: u64 = 1_024;

/// Takes the units of a job that has none yet.
///
/// # Errors
/// The tenant's own limits refuse them.
pub(super) fn take(job: &mut Job, books: &TenantBooks, now: Moment) -> Result<(), Refusal> {
    let limits = &job.request.policy.limits;
    if limits.is_unlimited() || job.completion.has_witness() {
        return Ok(());
    }
    let guard = books.reserve(job.completion.tenant(), limits, demand(&job.request), now)?;
    job.completion.witness(Box::new(move |record| {
        // Dropped, it is given back.
        if let Some(tokens) = charge(record, guard.tokens()) {
            guard.settle(record.ended_at, tokens);
        }
    }));
    Ok(())
}

/// Gives the units back while nobody has been called: others of the tenant may have room where this one waits.
pub(super) fn put_back(job: &mut Job) {
    if job.completion.attempts() == 0 {
        job.completion.dismiss_witness();
    }
}

fn demand(request: &ChatRequest) -> TenantDemand {
    let (stated, expected) = match request.choice_cap {
        Some(cap) => (cap, 0),
        None => (0, EXPECTED_OUTPUT),
    };
    TenantDemand {
        stated_tokens: request.input_tokens.upper_edge().saturating_add(request.output_tokens(stated)),
        expected_tokens: request.output_tokens(expected),
    }
}

/// The tokens that a request is charged; `None` when it is not charged at all. Where an answer may have been written
/// of which we know nothing, what was reserved stays charged.
fn charge(record: &UsageRecord, reserved: u64) -> Option<u64> {
    if record.attempts == 0 {
        return None;
    }
    let known = record.usage.total_tokens();
    Some(match record.outcome {
        Outcome::ClientLeft | Outcome::Cut | Outcome::Internal if known == 0 => reserved,
        _ => known,
    })
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::domain::input_tokens::InputTokens;
    use crate::domain::usage::Usage;

    fn record(attempts: u32, outcome: Outcome, tokens: u64) -> UsageRecord {
        UsageRecord {
            outcome,
            attempts,
            usage: Usage { input_tokens: tokens, output_tokens: 0 },
            ..UsageRecord::ended_at(Moment::default())
        }
    }

    #[test]
    fn nothing_is_charged_before_a_provider_was_called() {
        assert_eq!(charge(&record(0, Outcome::NoCapacity, 0), 10), None);
        assert_eq!(charge(&record(0, Outcome::ClientLeft, 0), 10), None);
    }

    #[test]
    fn what_was_used_is_charged_and_what_is_unknown_as_reserved() {
        assert_eq!(charge(&record(1, Outcome::Served, 7), 10), Some(7));
        assert_eq!(charge(&record(1, Outcome::ClientLeft, 7), 10), Some(7));
        assert_eq!(charge(&record(1, Outcome::ClientLeft, 0), 10), Some(10));
        assert_eq!(charge(&record(2, Outcome::Unavailable, 0), 10), Some(0));
    }

    #[test]
    fn every_choice_counts_and_a_missing_cap_is_expected_not_stated() {
        let mut request = ChatRequest::new(ByteString::new());
        (request.input_tokens, request.choices) = (InputTokens::certain(100), 3);
        assert_eq!(
            demand(&request),
            TenantDemand { stated_tokens: 115, expected_tokens: 3 * EXPECTED_OUTPUT }
        );
        request.choice_cap = Some(100);
        assert_eq!(demand(&request), TenantDemand { stated_tokens: 415, expected_tokens: 0 });
    }
}
