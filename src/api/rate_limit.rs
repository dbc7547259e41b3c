//! What is left of a tenant's own limits, told in the headers that OpenAI's clients read.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::edge::Edge;
use super::surface::Surface;
use crate::access::Caller;
use crate::quota::Gauge;

/// The names of one kind of unit. Source: <https://platform.openai.com/docs/guides/rate-limits>, read 2026-11-22.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

const REQUESTS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};

const TOKENS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

/// Adds what is left to an answer to `caller`; of each kind the limit that has least left. The pool's remainder is
/// nobody's business.
pub(super) fn tell(edge: &Edge, caller: &Caller, surface: Surface, headers: &mut HeaderMap) {
    let limits = &caller.policy.limits;
    if limits.is_unlimited() || surface != Surface::OpenAi {
        return;
    }
    let remaining = edge.books.remaining(caller.tenant, limits, edge.clock.now());
    for (names, gauge) in [(REQUESTS, remaining.requests), (TOKENS, remaining.tokens)] {
        if let Some(gauge) = gauge {
            insert(headers, names, gauge);
        }
    }
}

fn insert(headers: &mut HeaderMap, names: Names, gauge: Gauge) {
    headers.insert(names.limit, HeaderValue::from(gauge.limit));
    headers.insert(names.remaining, HeaderValue::from(gauge.remaining));
    if let Ok(reset) = HeaderValue::from_str(&duration(gauge.reset)) {
        headers.insert(names.reset, reset);
    }
}

/// As OpenAI writes it, for example `6m0s` or `250ms`; rounded up, for who waits it finds what was promised.
fn duration(duration: Duration) -> String {
    let millis = duration.as_micros().div_ceil(1_000);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (hours, minutes) => format!("{hours}h{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_written_as_clients_read_it() {
        for (micros, text) in [
            (0, "0ms"),
            (1, "1ms"),
            (999_000, "999ms"),
            (999_001, "1s"),
            (59_000_001, "1m0s"),
            (360_000_000, "6m0s"),
            (86_399_000_000, "23h59m59s"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }
}
