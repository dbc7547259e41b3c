//! The time limits of one attempt, for all providers and as a provider's own.

use crate::domain::provider::Timeouts;

use super::duration::{positive, text};
use super::reader::Section;

/// Reads all four, in a section where each must be given.
pub(super) fn read(section: &mut Section<'_>) -> Option<Timeouts> {
    let connect = section.required("connect_timeout", positive);
    let first_token = section.required("first_token_timeout", positive);
    let stall = section.required("stall_timeout", positive);
    let total = section.required("total_timeout", positive);
    let timeouts = Timeouts { connect: connect?, first_token: first_token?, stall: stall?, total: total? };
    check(section, timeouts);
    Some(timeouts)
}

/// Reads a provider's own over those of all providers; `None` when the latter are wrong.
///
/// A part that the provider leaves open ends with its own total at the latest; one that it states must fit.
pub(super) fn read_over(section: &mut Section<'_>, all: Option<Timeouts>) -> Option<Timeouts> {
    let connect = section.optional("connect_timeout", positive);
    let first_token = section.optional("first_token_timeout", positive);
    let stall = section.optional("stall_timeout", positive);
    let total = section.optional("total_timeout", positive);
    let all = all?;
    let total = total.unwrap_or(all.total);
    let own = Timeouts {
        connect: connect.unwrap_or(all.connect.min(total)),
        first_token: first_token.unwrap_or(all.first_token.min(total)),
        stall: stall.unwrap_or(all.stall.min(total)),
        total,
    };
    check(section, own);
    Some(own)
}

/// A part that may take longer than the whole would never be what ends an attempt.
fn check(section: &mut Section<'_>, timeouts: Timeouts) {
    let parts = [
        ("connect_timeout", timeouts.connect),
        ("first_token_timeout", timeouts.first_token),
        ("stall_timeout", timeouts.stall),
    ];
    for (key, part) in parts {
        if part > timeouts.total {
            let (part, total) = (text(part), text(timeouts.total));
            section.problem(key, format!("{part:?} must not be longer than total_timeout ({total:?})"));
        }
    }
}
