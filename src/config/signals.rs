//! `[[error]]` and `[[ratelimit_header]]`: how a provider says what it does not like.

use std::time::Duration;

use toml::Value;

use crate::domain::failure::FailureKind;
use crate::domain::limit::Unit;
use crate::domain::signals::{ErrorRule, LimitHeader, Period, RefusedLimit, Signals};

use super::reader::{Parsed, Section};
use super::scalar::{boolean, choice, count, text};
use super::{duration, limit};

/// More are not looked at on every answer. Chosen: four look-ups cost less than a microsecond together.
const LIMIT_HEADERS_MAX: usize = 4;

/// What an error of a provider can mean: the kinds that an answer can be.
const MEANINGS: [(&str, FailureKind); 12] = [
    ("rate_limited", FailureKind::RateLimited),
    ("overloaded", FailureKind::Overloaded),
    ("unauthorized", FailureKind::Unauthorized),
    ("payment_required", FailureKind::PaymentRequired),
    ("model_gone", FailureKind::ModelGone),
    ("too_large", FailureKind::TooLarge),
    ("unsupported", FailureKind::Unsupported),
    ("content_policy", FailureKind::ContentPolicy),
    ("no_answer", FailureKind::NoAnswer),
    ("invalid_request", FailureKind::InvalidRequest),
    ("misdirected", FailureKind::Misdirected),
    ("upstream", FailureKind::Upstream),
];

pub(super) fn read(section: &mut Section<'_>) -> Option<Signals> {
    let errors = section.tables("error", "", read_error);
    let limit_headers = section.tables("ratelimit_header", "remaining", read_header);
    let (errors, limit_headers) = (errors?, limit_headers?);
    if limit_headers.len() > LIMIT_HEADERS_MAX {
        section.problem("ratelimit_header", "at most 4: every answer pays for the look-ups");
        return None;
    }
    Some(Signals { errors, limit_headers })
}

fn read_error(section: &mut Section<'_>) -> Option<ErrorRule> {
    let status = section.or("status", None, |value| status(value).map(Some));
    let code = section.or("code", None, |value| text(value).map(Some));
    let words = section.or("words", None, |value| words(value).map(Some));
    let means = section.required("means", choice(&MEANINGS));
    let scope = section.or("scope", None, |value| limit::scope(value).map(Some));
    let unit = section.or("unit", None, |value| unit(value).map(Some));
    let period = section.or("window", None, |value| period(value).map(Some));
    let ignores_delay = section.or("ignore_delay", false, boolean);
    let (status, code, words) = (status?, code?, words?);
    if status.is_none() && code.is_none() && words.is_none() {
        section.problem("status", "one of status, code and words must be given");
        return None;
    }
    let limit = RefusedLimit { scope: scope?, unit: unit?, period: period? };
    Some(ErrorRule { status, code, words, means: means?, limit, ignores_delay: ignores_delay? })
}

fn read_header(section: &mut Section<'_>) -> Option<LimitHeader> {
    let remaining = section.required("remaining", header_name);
    let reset = section.required("reset", header_name);
    let scope = section.or("scope", None, |value| limit::scope(value).map(Some));
    let unit = section.required("unit", unit);
    let period = section.required("window", period);
    let refills = section.or("refills", false, boolean);
    Some(LimitHeader {
        remaining: remaining?,
        reset: reset?,
        scope: scope?,
        unit: unit?,
        period: period?,
        refills: refills?,
    })
}

fn status(value: &Value) -> Parsed<u16> {
    let status = count(value).ok().filter(|status| (200..=599).contains(status));
    status.ok_or_else(|| "expected an HTTP status, 200 to 599".into())
}

/// Words of a message. Digits alone would match a number that stands there by chance.
fn words(value: &Value) -> Parsed<String> {
    text(value).and_then(|words| match words.chars().any(char::is_alphabetic) {
        true => Ok(words),
        false => Err("expected words, not a number: numbers stand in messages by chance; use code".into()),
    })
}

fn header_name(value: &Value) -> Parsed<String> {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = text(value).ok().filter(|name| name.bytes().all(is_fine));
    name.ok_or_else(|| "expected the name of a header in lower case".into())
}

fn unit(value: &Value) -> Parsed<Unit> {
    const UNITS: [(&str, Unit); 5] = [
        ("requests", Unit::Requests),
        ("tokens", Unit::Tokens),
        ("input_tokens", Unit::InputTokens),
        ("output_tokens", Unit::OutputTokens),
        ("parallel", Unit::Parallel),
    ];
    choice(&UNITS)(value)
}

/// A span, or a day or month of the UTC calendar. A day of another zone is a span of 24 h: it is over by then.
fn period(value: &Value) -> Parsed<Period> {
    let text = value.as_str().unwrap_or_default();
    match text {
        "day@UTC" => Ok(Period::UtcDay),
        "month@UTC" => Ok(Period::UtcMonth),
        _ if text.starts_with("day@") => Ok(Period::Length(Duration::from_secs(86_400))),
        _ => duration::positive(value)
            .map(Period::Length)
            .map_err(|_| "expected \"60s\", \"24h\", \"day@UTC\" or \"month@UTC\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn words_are_never_a_number() {
        assert!(words(&string("tokens per day")).is_ok());
        for number in ["402", "4 0 2", "-", ""] {
            assert!(words(&string(number)).is_err(), "{number}");
        }
    }

    #[test]
    fn a_period_is_a_span_or_of_the_calendar() {
        assert_eq!(period(&string("60s")), Ok(Period::Length(Duration::from_secs(60))));
        assert_eq!(period(&string("day@UTC")), Ok(Period::UtcDay));
        assert_eq!(period(&string("month@UTC")), Ok(Period::UtcMonth));
        let elsewhere = period(&string("day@America/Los_Angeles"));
        assert_eq!(elsewhere, Ok(Period::Length(Duration::from_secs(86_400))));
        for wrong in ["", "0s", "60", "week@UTC"] {
            assert!(period(&string(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_spelled_as_it_is_looked_up() {
        assert!(header_name(&string("x-ratelimit-remaining-requests")).is_ok());
        for wrong in ["X-RateLimit-Remaining", "a b", "", "a:b"] {
            assert!(header_name(&string(wrong)).is_err(), "{wrong}");
        }
    }
}
