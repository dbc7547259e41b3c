//! How a conversation began: what stays the same in each of its requests.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::strict_json;
use crate::domain::chat::{ChatRequest, MemberValue, Opening};

/// The opening of a chat whose messages have been checked; `None` where no user has spoken.
///
/// Reads no further than the first message of the user: how long a conversation has become costs nothing.
pub(super) fn opening(chat: &ChatRequest) -> Option<Opening> {
    let member = chat.member("messages")?;
    let MemberValue::Received(messages) = &member.value else { return None };
    let text = std::str::from_utf8(chat.value_text(member)).ok()?;
    let mut reader = Reader { text, end: None };
    // It stops by an error as soon as it has found what it looks for.
    let _stopped = serde_json::Deserializer::from_str(text).deserialize_seq(&mut reader);
    let end = reader.end?;
    // What follows a user's message is an answer, or what led to one.
    let is_continued = text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(','));
    Some(Opening { span: messages.start..messages.start.saturating_add(end), is_continued })
}

struct Reader<'t> {
    text: &'t str,
    /// Where the first message of the user ends.
    end: Option<usize>,
}

#[derive(Deserialize)]
struct Spoken<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        while let Some(message) = messages.next_element::<&RawValue>()? {
            let spoken: Spoken<'_> = serde_json::from_str(message.get()).map_err(A::Error::custom)?;
            if spoken.role == "user" {
                self.end = Some(strict_json::span(self.text, message.get()).end);
                return Err(A::Error::custom("found"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::api::chat_fields::read;

    fn opening_of(messages: &str) -> Option<(String, bool)> {
        let body = Bytes::from(format!(r#"{{"model":"auto","messages":{messages}}}"#));
        let chat = read(&body, false).unwrap();
        let text = String::from_utf8(chat.opening_bytes()?.to_vec()).unwrap();
        Some((text, chat.opening.unwrap().is_continued))
    }

    #[test]
    fn an_opening_ends_with_the_first_message_of_the_user() {
        let first = r#"[{"role":"system","content":"be kind"}, {"content":"hi","role":"user"}"#;
        let new = opening_of(&format!("{first}]")).unwrap();
        assert_eq!(new, (first.to_owned(), false));
        let more = r#"{"role":"assistant","content":"hello"},{"role":"user","content":"and?"}"#;
        let continued = opening_of(&format!("{first} , {more}]")).unwrap();
        assert_eq!(continued, (first.to_owned(), true));
    }

    #[test]
    fn who_has_not_spoken_has_no_opening() {
        assert_eq!(opening_of(r#"[{"role":"system","content":"be kind"}]"#), None);
    }
}
