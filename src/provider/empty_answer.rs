//! Answers that say nothing: which of them are meant so; pure.

use std::borrow::Cow;

use serde::Deserialize;

use super::adapter::Ending;
use crate::domain::chat::ChatRequest;
use crate::domain::failure::{FailureKind, UpstreamFailure};

/// A client that allows no more than this must expect that a reasoning model gets nowhere. Chosen: Cloudflare's own
/// default, with which reasoning models are known to say nothing visible
/// (<https://developers.cloudflare.com/workers-ai/platform/errors>, read 2026-08).
const SMALL_CAP_TOKENS: u64 = 256;

/// After these roles a model may have nothing to add: it was called, told the result, and is done; or the client has
/// begun the answer itself, and it is complete.
const DONE_AFTER: [&str; 3] = ["tool", "function", "assistant"];

/// Whether an empty answer that ended so is the answer to that request, and not a failure.
pub(super) fn is_meant(request: &ChatRequest, ending: Ending) -> bool {
    let has_small_cap = request.choice_cap.is_some_and(|cap| cap <= SMALL_CAP_TOKENS);
    match ending {
        // The client is told so.
        Ending::Filtered => true,
        Ending::Length => has_small_cap,
        // The first thing that it wrote may have been where the client wants it to stop.
        Ending::Other => has_small_cap || is_given(request, "stop") || is_done_after_last(request),
    }
}

/// The failure that any other empty answer is.
pub(super) fn failure() -> UpstreamFailure {
    UpstreamFailure::new(FailureKind::NoAnswer, "the answer says nothing")
}

fn is_given(request: &ChatRequest, name: &str) -> bool {
    request.member(name).is_some_and(|member| !matches!(&*member.value, "null" | "[]"))
}

/// Reads the messages once more: an empty answer is rare.
fn is_done_after_last(request: &ChatRequest) -> bool {
    let Some(messages) = request.member("messages") else { return false };
    let roles: Vec<RoleView<'_>> = serde_json::from_str(&messages.value).unwrap_or_default();
    roles.last().is_some_and(|message| DONE_AFTER.contains(&message.role.as_ref()))
}

#[derive(Deserialize)]
struct RoleView<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::domain::chat::Member;

    fn request(choice_cap: Option<u64>, members: &[(&str, &str)]) -> ChatRequest {
        let mut request = ChatRequest::new(ByteString::new());
        request.choice_cap = choice_cap;
        let member = |(name, value): &(&str, &str)| Member { name: (*name).into(), value: (*value).into() };
        request.members = members.iter().map(member).collect();
        request
    }

    #[test]
    fn what_is_meant_and_what_is_not() {
        let user = r#"[{"role":"user","content":"x"}]"#;
        let result = r#"[{"role":"user","content":"x"},{"role":"tool","content":"y"}]"#;
        let begun = r#"[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]"#;
        type Members<'a> = &'a [(&'a str, &'a str)];
        let rows: [(Option<u64>, Members<'_>, Ending, bool); 12] = [
            (None, &[("messages", user)], Ending::Other, false),
            (None, &[("messages", user)], Ending::Length, false),
            (None, &[("messages", user)], Ending::Filtered, true),
            (Some(1), &[("messages", user)], Ending::Length, true),
            (Some(1), &[("messages", user)], Ending::Other, true),
            (Some(1024), &[("messages", user)], Ending::Length, false),
            (None, &[("messages", result)], Ending::Other, true),
            (None, &[("messages", result)], Ending::Length, false),
            (None, &[("messages", begun)], Ending::Other, true),
            (None, &[("messages", user), ("stop", "\"x\"")], Ending::Other, true),
            (None, &[("messages", user), ("stop", "null")], Ending::Other, false),
            (None, &[], Ending::Other, false),
        ];
        for (cap, members, ending, expected) in rows {
            assert_eq!(is_meant(&request(cap, members), ending), expected, "{cap:?} {members:?} {ending:?}");
        }
    }
}
