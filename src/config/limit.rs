//! Limits: `[[limit]]` lists and the shorthands `rpm`, `rpd`, `tpm` and `tpd`.

use std::time::Duration;

use toml::Value;

use crate::domain::calendar::{Calendar, Period, Zone};
use crate::domain::limit::{Limit, Scope, Unit, Window};

use super::reader::{Parsed, Section};
use super::scalar::{choice, count};
use super::{duration, price};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The shorthands of a model: key, unit, window.
const SHORTHANDS: [(&str, Unit, Window); 4] = [
    ("rpm", Unit::Requests, Window::Sliding(MINUTE)),
    ("rpd", Unit::Requests, Window::Sliding(DAY)),
    ("tpm", Unit::Tokens, Window::Sliding(MINUTE)),
    ("tpd", Unit::Tokens, Window::Sliding(DAY)),
];

const UNITS: [(&str, Unit); 6] = [
    ("requests", Unit::Requests),
    ("tokens", Unit::Tokens),
    ("input_tokens", Unit::InputTokens),
    ("output_tokens", Unit::OutputTokens),
    ("credits", Unit::Credits),
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
    let unit = section.required("unit", choice(&UNITS));
    let max = section.or("max", None, |value| maximum(unit, value).map(Some));
    let window = section.or("window", None, |value| window(value).map(Some));
    let (unit, max, window) = (unit?, max?, window?);
    let window = fitting(section, unit, max, window)?;
    let max = match (window, max) {
        (Window::Spacing(_), _) => 1,
        (_, Some(max)) => max,
        (_, None) => {
            section.problem("max", "must be given");
            return None;
        }
    };
    Some(Limit { scope: scope?, unit, max, window })
}

/// A maximum in the unit, credits in millionths.
fn maximum(unit: Option<Unit>, value: &Value) -> Parsed<u64> {
    match unit {
        Some(Unit::Credits) => price::some_credits(value),
        _ => count(value),
    }
}

/// The window that goes with the unit and the maximum, or a problem.
fn fitting(
    section: &mut Section<'_>,
    unit: Unit,
    max: Option<u64>,
    window: Option<Window>,
) -> Option<Window> {
    let (key, wrong) = match (unit, window) {
        (Unit::Parallel, None) => return Some(Window::InFlight),
        (Unit::Parallel, Some(_)) => {
            ("window", "unit \"parallel\" counts what is in flight: leave window out")
        }
        (_, None) => ("window", "must be given, for example \"60s\", \"day@UTC\" or \"spacing:1s\""),
        (Unit::Requests, Some(Window::Spacing(_))) if max.is_some_and(|max| max > 1) => {
            ("max", "a spacing lets one request through at a time: leave max out or set it to 1")
        }
        (unit, Some(Window::Spacing(_))) if unit != Unit::Requests => {
            ("unit", "a spacing is between requests: expected \"requests\"")
        }
        (_, Some(window)) => return Some(window),
    };
    section.problem(key, wrong);
    None
}

pub(super) fn scope(value: &Value) -> Parsed<Scope> {
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

/// What the key `window` says.
fn window(value: &Value) -> Parsed<Window> {
    let text = value.as_str().unwrap_or_default();
    let calendar = text.split_once('@').and_then(|(period, zone)| Some((self::period(period)?, zone)));
    if let Some((period, zone)) = calendar {
        let zone = Zone::named(zone).ok_or(EXPECTED_ZONE)?;
        return Ok(Window::Calendar(Calendar { period, zone }));
    }
    let (length, window): (_, fn(Duration) -> Window) = match text.strip_prefix("spacing:") {
        Some(apart) => (apart, Window::Spacing),
        None => (text, Window::Sliding),
    };
    let length = duration::parse(length).filter(|length| !length.is_zero());
    length.map(window).ok_or_else(|| EXPECTED_WINDOW.into())
}

fn period(text: &str) -> Option<Period> {
    match text {
        "day" => Some(Period::Day),
        "month" => Some(Period::Month),
        _ => None,
    }
}

const EXPECTED_WINDOW: &str = "expected a duration above zero such as \"60s\", or \"day@ZONE\" or \"month@ZONE\" \
                               such as \"day@UTC\", or \"spacing:1s\"";

const EXPECTED_ZONE: &str = "no time zone has that name: expected one of the IANA database, such as \"UTC\" or \
                             \"America/Los_Angeles\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn window_of(text: &str) -> Parsed<Window> {
        window(&Value::String(text.to_owned()))
    }

    fn calendar(period: Period, zone: &str) -> Parsed<Window> {
        Ok(Window::Calendar(Calendar { period, zone: Zone::named(zone).unwrap() }))
    }

    #[test]
    fn windows_are_sliding_calendar_or_spacings() {
        assert_eq!(window_of("60s"), Ok(Window::Sliding(MINUTE)));
        assert_eq!(window_of("day@UTC"), calendar(Period::Day, "UTC"));
        assert_eq!(window_of("day@America/Los_Angeles"), calendar(Period::Day, "America/Los_Angeles"));
        assert_eq!(window_of("month@Asia/Tokyo"), calendar(Period::Month, "Asia/Tokyo"));
        assert_eq!(window_of("spacing:1s"), Ok(Window::Spacing(Duration::from_secs(1))));
        for wrong in [
            "",
            "0s",
            "60",
            "day@",
            "day",
            "day@U C",
            "day@Mars",
            "spacing:0s",
            "spacing:",
            "week@UTC",
            "month@",
            "@UTC",
        ] {
            assert!(window_of(wrong).is_err(), "{wrong}");
        }
        assert!(window(&Value::Integer(60)).is_err());
    }

    #[test]
    fn a_pool_has_a_name() {
        let scope_of = |text: &str| scope(&Value::String(text.to_owned()));
        assert_eq!(scope_of("pool:free"), Ok(Scope::Pool("free".to_owned())));
        assert!(scope_of("pool:").is_err());
        assert!(scope_of("provider").is_err());
    }
}
