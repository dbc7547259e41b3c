//! Limits: `[[limit]]` lists and the shorthands `rpm`, `rpd`, `tpm` and `tpd`.

use std::time::Duration;

use toml::Value;

use crate::domain::limit::{Limit, Scope, Unit, Window};

use super::duration;
use super::reader::{Parsed, Section};
use super::scalar::{choice, count};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The shorthands of a model: key, unit, window.
const SHORTHANDS: [(&str, Unit, Window); 4] = [
    ("rpm", Unit::Requests, Window::Sliding(MINUTE)),
    ("rpd", Unit::Requests, Window::Sliding(DAY)),
    ("tpm", Unit::Tokens, Window::Sliding(MINUTE)),
    ("tpd", Unit::Tokens, Window::Sliding(DAY)),
];

const UNITS: [(&str, Unit); 5] = [
    ("requests", Unit::Requests),
    ("tokens", Unit::Tokens),
    ("input_tokens", Unit::InputTokens),
    ("output_tokens", Unit::OutputTokens),
    ("parallel", Unit::Parallel),
];

/// What a model's shorthands say.
#[derive(Debug, Default)]
pub(super) struct Shorthands {
    pub(super) limits: Vec<Limit>,
    /// Said to be `"none"`: the provider's limit of this unit and window does not hold for the model.
    pub(super) waived: Vec<(Unit, Window)>,
}

/// Reads a list of limits; `scope` is what a limit has that names none. `None` when any of them is wrong.
pub(super) fn read_list(section: &mut Section<'_>, key: &'static str, scope: &Scope) -> Option<Vec<Limit>> {
    let limits = section.tables(key, "", |section| read(section, scope))?;
    check_distinct(section, key, &limits);
    Some(limits)
}

/// Two limits over the same would share one count under two maxima: one of them is a slip.
pub(super) fn check_distinct(section: &mut Section<'_>, key: &str, limits: &[Limit]) {
    let same = |a: &Limit, b: &Limit| a.scope == b.scope && a.unit == b.unit && a.window == b.window;
    for (index, limit) in limits.iter().enumerate() {
        if limits.iter().take(index).any(|earlier| same(earlier, limit)) {
            let unit = limit.unit.as_str();
            section.problem(key, format!("two limits on {unit} have the same scope and window: keep one"));
        }
    }
}

/// Reads `rpm`, `rpd`, `tpm` and `tpd`.
pub(super) fn read_shorthands(section: &mut Section<'_>) -> Option<Shorthands> {
    let mut shorthands = Some(Shorthands::default());
    for (key, unit, window) in SHORTHANDS {
        let read = section.or(key, None, |value| shorthand(value).map(Some));
        shorthands = shorthands.zip(read).map(|(mut all, one)| {
            match one {
                None => {}
                Some(None) => all.waived.push((unit, window)),
                Some(Some(max)) => all.limits.push(Limit { scope: Scope::Model, unit, max, window }),
            }
            all
        });
    }
    shorthands
}

/// A maximum, or `None` for `"none"`.
fn shorthand(value: &Value) -> Parsed<Option<u64>> {
    match value.as_str() {
        Some("none") => Ok(None),
        _ => count(value)
            .map(Some)
            .map_err(|_| "expected a whole number of at least 1, or \"none\" for no limit".into()),
    }
}

fn read(section: &mut Section<'_>, default_scope: &Scope) -> Option<Limit> {
    let scope = section.or("scope", default_scope.clone(), scope);
    let unit = section.required("unit", unit);
    let max = section.or("max", None, |value| count(value).map(Some));
    let span = section.or("window", None, |value| span(value).map(Some));
    let (unit, max, span) = (unit?, max?, span?);
    let window = window(section, unit, max, span)?;
    let max = match (span, max) {
        (Some(Span::Spacing(_)), _) => 1,
        (_, Some(max)) => max,
        (_, None) => {
            section.problem("max", "must be given");
            return None;
        }
    };
    Some(Limit { scope: scope?, unit, max, window })
}

/// What the key `window` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Sliding(Duration),
    /// At least so far apart.
    Spacing(Duration),
}

/// The window that goes with the unit and the maximum, or a problem.
fn window(section: &mut Section<'_>, unit: Unit, max: Option<u64>, span: Option<Span>) -> Option<Window> {
    let (key, wrong) = match (unit, span) {
        (Unit::Parallel, None) => return Some(Window::InFlight),
        (Unit::Parallel, Some(_)) => {
            ("window", "unit \"parallel\" counts what is in flight: leave window out")
        }
        (_, None) => ("window", "must be given, for example \"60s\", \"day@UTC\" or \"spacing:1s\""),
        (_, Some(Span::Sliding(length))) => return Some(Window::Sliding(length)),
        (Unit::Requests, Some(Span::Spacing(apart))) if max.is_none_or(|max| max == 1) => {
            return Some(Window::Sliding(apart));
        }
        (Unit::Requests, Some(Span::Spacing(_))) => {
            ("max", "a spacing lets one request through at a time: leave max out or set it to 1")
        }
        (_, Some(Span::Spacing(_))) => ("unit", "a spacing is between requests: expected \"requests\""),
    };
    section.problem(key, wrong);
    None
}

fn scope(value: &Value) -> Parsed<Scope> {
    let scope = match value.as_str() {
        Some("account") => Some(Scope::Account),
        Some("model") => Some(Scope::Model),
        Some(other) => other
            .strip_prefix("pool:")
            .filter(|name| !name.is_empty())
            .map(|name| Scope::Pool(name.to_owned())),
        None => None,
    };
    scope.ok_or_else(|| "expected \"account\" or \"model\" or \"pool:NAME\"".into())
}

fn unit(value: &Value) -> Parsed<Unit> {
    match value.as_str() {
        Some("credits") => {
            Err("limits on credits are not supported yet: state them in requests or tokens".into())
        }
        _ => choice(&UNITS)(value),
    }
}

fn span(value: &Value) -> Parsed<Span> {
    let text = value.as_str().unwrap_or_default();
    if let Some(zone) = text.strip_prefix("day@") {
        // A sliding day never lets more through than any calendar day would.
        return if is_zone(zone) { Ok(Span::Sliding(DAY)) } else { Err(EXPECTED_WINDOW.into()) };
    }
    if text.starts_with("month@") {
        return Err("calendar months are not supported yet: use a sliding window, for example \"31d\"".into());
    }
    let (length, span): (_, fn(Duration) -> Span) = match text.strip_prefix("spacing:") {
        Some(apart) => (apart, Span::Spacing),
        None => (text, Span::Sliding),
    };
    duration::parse(length).filter(|length| !length.is_zero()).map(span).ok_or_else(|| EXPECTED_WINDOW.into())
}

const EXPECTED_WINDOW: &str =
    "expected a duration above zero such as \"60s\", or \"day@ZONE\" such as \"day@UTC\", or \"spacing:1s\"";

/// Whether a text has the form of a time zone's name: `UTC`, `America/Los_Angeles`.
fn is_zone(zone: &str) -> bool {
    zone.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span_of(text: &str) -> Parsed<Span> {
        span(&Value::String(text.to_owned()))
    }

    #[test]
    fn windows_are_sliding_calendar_days_or_spacings() {
        assert_eq!(span_of("60s"), Ok(Span::Sliding(MINUTE)));
        assert_eq!(span_of("day@UTC"), Ok(Span::Sliding(DAY)));
        assert_eq!(span_of("day@America/Los_Angeles"), Ok(Span::Sliding(DAY)));
        assert_eq!(span_of("spacing:1s"), Ok(Span::Spacing(Duration::from_secs(1))));
        for wrong in
            ["", "0s", "60", "day@", "day", "day@U C", "spacing:0s", "spacing:", "week@UTC", "month@UTC"]
        {
            assert!(span_of(wrong).is_err(), "{wrong}");
        }
        assert!(span(&Value::Integer(60)).is_err());
    }

    #[test]
    fn a_pool_has_a_name() {
        let scope_of = |text: &str| scope(&Value::String(text.to_owned()));
        assert_eq!(scope_of("pool:free"), Ok(Scope::Pool("free".to_owned())));
        assert!(scope_of("pool:").is_err());
        assert!(scope_of("provider").is_err());
    }
}
