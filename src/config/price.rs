//! Credits and prices in them: decimal numbers, read exactly into millionths.

use toml::Value;

use crate::domain::price::{MICROS_PER_CREDIT, Price};

use super::reader::{Parsed, Section};

/// More is a slip. Chosen: what one attempt may cost at most in the books, so that every limit can be reached.
const MOST_CREDITS: u64 = 1_000_000_000;

const EXPECTED: &str =
    "expected a number of credits with at most six decimals, for example 10 or 0.05, up to 1000000000";

/// Reads `price`; a table without any of its keys reads as none.
pub(super) fn read(section: &mut Section<'_>) -> Option<Option<Price>> {
    section.section("price", |section| {
        let per_request = section.or("per_request", None, |value| credits(value).map(Some))?;
        let per_1k_input = section.or("per_1k_input", None, |value| credits(value).map(Some))?;
        let per_1k_output = section.or("per_1k_output", None, |value| credits(value).map(Some))?;
        let stated = per_request.or(per_1k_input).or(per_1k_output).map(|_| Price {
            per_request: per_request.unwrap_or(0),
            per_1k_input: per_1k_input.unwrap_or(0),
            per_1k_output: per_1k_output.unwrap_or(0),
        });
        Some(stated)
    })?
}

/// An amount of credits above zero, in millionths.
pub(super) fn some_credits(value: &Value) -> Parsed<u64> {
    match credits(value)? {
        0 => Err("expected a number of credits above zero".into()),
        some => Ok(some),
    }
}

/// An amount of credits in millionths. A number of the file counts as its digits say, not as its nearest binary
/// fraction.
fn credits(value: &Value) -> Parsed<u64> {
    let text = match value {
        Value::Integer(whole) => whole.to_string(),
        Value::Float(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err(EXPECTED.into()),
    };
    micros(&text).ok_or_else(|| EXPECTED.into())
}

/// Digits, and up to six behind a point.
fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    let micros = whole.checked_mul(MICROS_PER_CREDIT)?.checked_add(fraction)?;
    (micros <= MOST_CREDITS * MICROS_PER_CREDIT).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_read_digit_by_digit() {
        let cases = [
            (Value::Integer(10_000), 10_000_000_000),
            (Value::Integer(0), 0),
            (Value::Float(4.119), 4_119_000),
            (Value::Float(0.1), 100_000),
            (Value::Float(0.000_001), 1),
            (Value::Float(3.0), 3_000_000),
            (Value::String("26.668".to_owned()), 26_668_000),
            (Value::Integer(1_000_000_000), 1_000_000_000_000_000),
        ];
        for (value, expected) in cases {
            assert_eq!(credits(&value), Ok(expected), "{value}");
        }
        let wrong = [
            Value::Integer(-1),
            Value::Integer(1_000_000_001),
            Value::Float(0.000_000_1),
            Value::Float(f64::NAN),
            Value::Float(f64::INFINITY),
            Value::String(String::new()),
            Value::String(".5".to_owned()),
            Value::String("1e3".to_owned()),
            Value::Boolean(true),
        ];
        for value in wrong {
            assert!(credits(&value).is_err(), "{value}");
        }
        assert!(some_credits(&Value::Integer(0)).is_err());
    }
}
