//! Durations as a configuration spells them: `"500ms"`, `"30s"`, `"10m"`, `"24h"`, `"30d"`.

use std::time::Duration;

use toml::Value;

use super::reader::Parsed;

/// Ten years: longer is a slip, and arithmetic on it could overflow. Chosen.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

const EXPECTED: &str =
    "expected a duration: a whole number and ms, s, m, h or d, for example \"30s\", up to \"3650d\"";

/// Reads a duration; zero is allowed.
pub(super) fn duration(value: &Value) -> Parsed<Duration> {
    value.as_str().and_then(parse).ok_or_else(|| EXPECTED.into())
}

/// Reads a duration that is longer than zero.
pub(super) fn positive(value: &Value) -> Parsed<Duration> {
    match duration(value)? {
        Duration::ZERO => Err("expected a duration longer than zero".into()),
        longer => Ok(longer),
    }
}

/// One whole number with one unit; `None` for anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let amount: u64 = digits.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(amount.checked_mul(unit_ms)?);
    (duration <= LONGEST).then_some(duration)
}

/// A duration as [`parse`] reads it, in its largest whole unit.
pub(super) fn text(duration: Duration) -> String {
    let ms = duration.as_millis();
    [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms))
        .map_or_else(|| format!("{ms}ms"), |(unit_ms, unit)| format!("{}{unit}", ms / unit_ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_number_and_one_known_unit_are_read() {
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            " 30s",
            "30 s",
            "30S",
            "1h30m",
            "3651d",
            "99999999999999999999s",
            "٣s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse("0s"), Some(Duration::ZERO));
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("24h"), parse("1d"));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_and_so_is_zero_where_it_makes_no_sense() {
        assert!(duration(&Value::Integer(30)).is_err());
        assert!(positive(&Value::String("0s".to_owned())).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0_u64..315_360_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&text(duration)), Some(duration));
        }

        #[test]
        fn no_text_breaks_the_reader(any in "\\PC{0,20}") {
            let _ = parse(&any);
        }
    }
}
