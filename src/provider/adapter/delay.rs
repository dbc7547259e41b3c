//! When to come back, in every form that upstreams have been seen to write it in.
//!
//! Forms and where they were seen (public reports and documentation up to 2026-10): whole seconds in `Retry-After`
//! (Groq, Cerebras, GitHub, OpenRouter); Go durations such as `2m59.56s` (Groq); seconds with a fraction (Cerebras);
//! Unix seconds (SambaNova) and milliseconds (OpenRouter); protobuf durations such as `34.4s` (Gemini); HTTP dates and
//! RFC 3339; and prose: `Please try again in 1m2.3s`, `Please retry in 37.29s.`, `Please wait 52220 seconds`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::domain::clock::Moment;
use crate::domain::failure::RetryHint;

/// A number from here on is no delay but Unix seconds: as a delay it would be 31 years.
const EPOCH_SECONDS_MIN: f64 = 1e9;

/// And from here on Unix milliseconds: as seconds it would be the year 5138.
const EPOCH_MILLIS_MIN: f64 = 1e11;

/// The units of a Go duration in nanoseconds, longer names first.
const GO_UNITS: [(&str, f64); 8] =
    [("ms", 1e6), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ns", 1.0), ("h", 3.6e12), ("m", 6e10), ("s", 1e9)];

/// What a delay in prose stands behind.
const PROSE: [&str; 3] = ["try again in ", "retry in ", "Please wait "];

/// Reads a value that is nothing but a delay or an instant. What lies in the past is a delay of zero.
pub(super) fn stated(text: &str) -> Option<RetryHint> {
    let text = text.trim();
    if let Some(number) = decimal(text) {
        return Some(of_number(number));
    }
    go_duration(text).map(RetryHint::After).or_else(|| date(text).map(RetryHint::At))
}

/// Reads a delay that a sentence states, right behind words that announce one. A number elsewhere means nothing.
pub(super) fn in_prose(message: &str) -> Option<RetryHint> {
    PROSE.iter().find_map(|announced| {
        let (_, rest) = message.split_once(announced)?;
        let token = rest.split_ascii_whitespace().next()?.trim_end_matches(['.', ',', ')']);
        let in_seconds = || {
            let unit = rest.split_ascii_whitespace().nth(1)?.trim_end_matches(['.', ',', ')']);
            let seconds = decimal(token).filter(|_| matches!(unit, "s" | "second" | "seconds"))?;
            Some(of_seconds(seconds))
        };
        go_duration(token).or_else(in_seconds).map(RetryHint::After)
    })
}

/// A whole number or one with a fraction, with or without a sign; no exponent, no infinity.
fn decimal(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = unsigned.starts_with(|first: char| first.is_ascii_digit())
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_number)
}

fn of_number(number: f64) -> RetryHint {
    if number >= EPOCH_MILLIS_MIN {
        RetryHint::At(unix_epoch() + of_seconds(number / 1_000.0))
    } else if number >= EPOCH_SECONDS_MIN {
        RetryHint::At(unix_epoch() + of_seconds(number))
    } else {
        RetryHint::After(of_seconds(number))
    }
}

fn unix_epoch() -> Moment {
    Moment::from_unix_micros(0)
}

/// Negative is now; too long for a duration is as long as one can be.
fn of_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// `1h2m3.4s`; a protobuf duration, `34.4s`, is one too.
fn go_duration(text: &str) -> Option<Duration> {
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut nanos = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (name, each) = GO_UNITS.iter().find(|(name, _)| unit.starts_with(name))?;
        nanos += decimal(number)? * each;
        rest = unit.strip_prefix(name)?;
    }
    Some(if is_negative { Duration::ZERO } else { of_seconds(nanos / 1e9) })
}

/// RFC 3339 or an HTTP date.
fn date(text: &str) -> Option<Moment> {
    let timestamp: Timestamp = match text.parse() {
        Ok(timestamp) => timestamp,
        Err(_) => DateTimeParser::new().parse_timestamp(text).ok()?,
    };
    Some(Moment::from_unix_micros(timestamp.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(seconds: f64) -> Option<RetryHint> {
        Some(RetryHint::After(Duration::from_secs_f64(seconds)))
    }

    fn at(unix_seconds: i64) -> Option<RetryHint> {
        Some(RetryHint::At(Moment::from_unix_micros(unix_seconds * 1_000_000)))
    }

    #[test]
    fn every_form_that_was_seen_is_read() {
        let rows = [
            ("4", after(4.0)),
            (" 0 ", after(0.0)),
            ("33011.382867", after(33_011.382_867)),
            ("-3", after(0.0)),
            ("-1.5s", after(0.0)),
            ("2m59.56s", after(179.56)),
            ("7.66s", after(7.66)),
            ("370ms", after(0.37)),
            ("1h53m56.832s", after(6836.832)),
            ("65205s", after(65_205.0)),
            ("1795399994", at(1_795_399_994)),
            ("1795399994000", at(1_795_399_994)),
            ("2026-11-23T02:13:14Z", at(1_795_399_994)),
            ("2026-11-23T03:13:14+01:00", at(1_795_399_994)),
            ("Mon, 23 Nov 2026 02:13:14 GMT", at(1_795_399_994)),
        ];
        for (text, expected) in rows {
            assert_eq!(stated(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_delay_is_none() {
        for text in
            ["", "soon", "1e3", "inf", "NaN", "-", "3 apples", "5d", "1h2", "0x10", "٣", ".", "1.2.3", "s"]
        {
            assert_eq!(stated(text), None, "{text:?}");
        }
    }

    #[test]
    fn prose_is_read_only_behind_its_announcement() {
        let rows = [
            ("Limit 6000, Used 5994. Please try again in 7.66s. Need more? Upgrade", after(7.66)),
            ("on tokens per day (TPD): Limit 200000, Used 199990. Please try again in 1h2m3s", after(3723.0)),
            ("Please retry in 37.295530399s.", after(37.295_530_399)),
            ("Please wait 52220 seconds before retrying.", after(52_220.0)),
            ("Please wait 60 minutes", None),
            ("Limit 30, Requested 31", None),
            ("your prompt said 30s", None),
            ("try again in a while", None),
            ("try again in ", None),
        ];
        for (message, expected) in rows {
            assert_eq!(in_prose(message), expected, "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,40}") {
            let _ = (stated(&text), in_prose(&format!("try again in {text}")));
        }

        #[test]
        fn a_go_duration_is_the_sum_of_its_parts(h in 0u64..100, m in 0u64..60, ms in 0u64..60_000) {
            let text = format!("{h}h{m}m{}.{:03}s", ms / 1_000, ms % 1_000);
            let expected = Duration::from_millis(h * 3_600_000 + m * 60_000 + ms);
            let Some(RetryHint::After(read)) = stated(&text) else { panic!("{text}") };
            prop_assert!(read.abs_diff(expected) < Duration::from_micros(10), "{text} {read:?}");
        }
    }
}
