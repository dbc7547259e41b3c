//! The provider's own error table over what the dialect has understood; pure.

use crate::domain::failure::UpstreamFailure;
use crate::domain::signals::{ErrorRule, RefusedLimit};

/// The failure as the first rule that fits it says; as it is where none does.
pub(super) fn apply(rules: &[ErrorRule], failure: UpstreamFailure) -> UpstreamFailure {
    // What the transport or a clock has found says nothing in the provider's words.
    if failure.status.is_none() && failure.codes.is_empty() && failure.message.is_none() {
        return failure;
    }
    let Some(rule) = rules.iter().find(|rule| fits(rule, &failure)) else { return failure };
    // What the words leave open, the headers may have said.
    let is_told = rule.limit != RefusedLimit::default();
    let limit = if is_told { Some(Box::new(rule.limit.clone())) } else { failure.limit };
    UpstreamFailure {
        kind: rule.means,
        limit,
        retry: failure.retry.filter(|_| !rule.ignores_delay),
        ..failure
    }
}

fn fits(rule: &ErrorRule, failure: &UpstreamFailure) -> bool {
    // An error inside a 200 may have no status: then code and words decide.
    let is_named = rule.code.is_some() || rule.words.is_some();
    let has_status = |status: u16| failure.status.map_or(is_named, |stated| stated == status);
    rule.status.is_none_or(has_status)
        && rule.code.as_ref().is_none_or(|code| failure.codes.contains(code))
        && rule.words.as_ref().is_none_or(|words| {
            failure.message.as_ref().is_some_and(|message| message.contains(words))
                || failure.codes.iter().any(|code| code.contains(words))
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::failure::{FailureKind, RetryHint};

    fn rule(means: FailureKind) -> ErrorRule {
        let limit = RefusedLimit::default();
        ErrorRule { status: None, code: None, words: None, means, limit, ignores_delay: false }
    }

    fn failure() -> UpstreamFailure {
        UpstreamFailure {
            status: Some(429),
            codes: vec!["queue_exceeded".to_owned()],
            retry: Some(RetryHint::After(Duration::from_secs(1))),
            ..UpstreamFailure::new(FailureKind::RateLimited, "").with_message("high traffic, 402 waiting")
        }
    }

    #[test]
    fn everything_that_a_rule_states_must_be_there() {
        let busy = FailureKind::Overloaded;
        let code = |code: &str| Some(code.to_owned());
        let rows = [
            (ErrorRule { status: Some(429), code: code("queue_exceeded"), ..rule(busy) }, true),
            (ErrorRule { words: code("high traffic"), ..rule(busy) }, true),
            (ErrorRule { status: Some(503), code: code("queue_exceeded"), ..rule(busy) }, false),
            (ErrorRule { code: code("queue"), ..rule(busy) }, false),
            (ErrorRule { status: Some(402), ..rule(busy) }, false),
            (ErrorRule { words: code("low traffic"), ..rule(busy) }, false),
        ];
        for (rule, is_fit) in rows {
            let kind = apply(std::slice::from_ref(&rule), failure()).kind;
            assert_eq!(kind == busy, is_fit, "{rule:?}");
        }
    }

    #[test]
    fn an_error_without_a_status_is_told_by_its_code_or_words() {
        let inside = || UpstreamFailure { status: None, ..failure() };
        let named = ErrorRule {
            status: Some(429),
            code: Some("queue_exceeded".to_owned()),
            ..rule(FailureKind::Overloaded)
        };
        assert_eq!(apply(&[named], inside()).kind, FailureKind::Overloaded);
        let any = ErrorRule { status: Some(429), ..rule(FailureKind::Overloaded) };
        assert_eq!(apply(&[any], inside()).kind, FailureKind::RateLimited);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            ErrorRule { status: Some(503), ..rule(FailureKind::ModelGone) },
            ErrorRule { ignores_delay: true, ..rule(FailureKind::TooLarge) },
            rule(FailureKind::ContentPolicy),
        ];
        let understood = apply(&rules, failure());
        assert_eq!((understood.kind, understood.retry), (FailureKind::TooLarge, None));
    }

    #[test]
    fn a_timeout_is_nothing_that_the_provider_said() {
        let connect = UpstreamFailure::new(FailureKind::Connect, "refused");
        assert_eq!(apply(&[rule(FailureKind::ModelGone)], connect.clone()), connect);
    }
}
