//! Sizes in bytes as a configuration spells them: `"64KiB"`, `"8MiB"`, `"1GiB"`, or a plain number of bytes.

use toml::Value;

use super::reader::Parsed;

const EXPECTED: &str = "expected a size: a whole number and KiB, MiB or GiB, for example \"8MiB\", or a number of bytes above zero";

/// Reads a size above zero, in bytes.
pub(super) fn size(value: &Value) -> Parsed<usize> {
    let bytes = match value {
        Value::Integer(bytes) => usize::try_from(*bytes).ok(),
        Value::String(text) => parse(text),
        _ => None,
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| EXPECTED.into())
}

fn parse(text: &str) -> Option<usize> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_typed_or_plain_bytes() {
        assert_eq!(size(&Value::Integer(1024)), Ok(1024));
        assert_eq!(size(&Value::String("64KiB".to_owned())), Ok(65_536));
        for wrong in ["8MB", "8 MiB", "MiB", "1.5MiB", "0MiB", "-1KiB", "8", "99999999999GiB"] {
            assert!(size(&Value::String(wrong.to_owned())).is_err(), "{wrong:?}");
        }
        assert!(size(&Value::Integer(0)).is_err());
        assert!(size(&Value::Integer(-1)).is_err());
    }

    proptest! {
        #[test]
        fn every_unit_is_1024_of_the_one_below(amount in 1_usize..1_000_000) {
            prop_assert_eq!(parse(&format!("{amount}MiB")), parse(&format!("{}KiB", amount * 1024)));
            prop_assert_eq!(parse(&format!("{amount}GiB")), parse(&format!("{}MiB", amount * 1024)));
        }

        #[test]
        fn no_text_breaks_the_reader(any in "\\PC{0,20}") {
            let _ = parse(&any);
        }
    }
}
