//! How a conversation began: what stays the same in each of its requests.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::{FixedState, FoldHasher};

use crate::domain::chat::Opening;

/// Of a text, only so many bytes at either end are read, and its length: a megabyte costs no more than a page.
const READ_BYTES: usize = 1_024;

/// Takes the texts of a chat's messages in as they are read, up to the end of the first message of the user: how long a
/// conversation has become costs nothing.
pub(super) struct OpeningReader {
    hasher: FoldHasher<'static>,
    found: Option<Opening>,
}

impl Default for OpeningReader {
    fn default() -> Self {
        Self { hasher: FixedState::default().build_hasher(), found: None }
    }
}

impl OpeningReader {
    /// A text of the message that is being read.
    pub(super) fn text(&mut self, text: &str) {
        if self.found.is_none() {
            let (beginning, rest) = text.as_bytes().split_at(text.len().min(READ_BYTES));
            self.hasher.write_usize(text.len());
            self.hasher.write(beginning);
            self.hasher.write(rest.get(rest.len().saturating_sub(READ_BYTES)..).unwrap_or_default());
        }
    }

    /// The message has ended; whether it was the user's.
    pub(super) fn message_ended(&mut self, is_users: bool) {
        self.hasher.write_u8(u8::from(is_users));
        match &mut self.found {
            // What follows a user's message is an answer, or what led to one.
            Some(opening) => opening.is_continued = true,
            None if is_users => {
                self.found = Some(Opening { digest: self.hasher.finish(), is_continued: false });
            }
            None => {}
        }
    }

    /// `None` where no user has spoken.
    pub(super) fn opening(&self) -> Option<Opening> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::chat_fields::read;

    fn opening_of(messages: &str) -> Option<Opening> {
        let body = Bytes::from(format!(r#"{{"model":"auto","messages":{messages}}}"#));
        read(body, false).unwrap().opening
    }

    #[test]
    fn an_opening_ends_with_the_first_message_of_the_user() {
        let first = r#"[{"role":"system","content":"be kind"}, {"content":"hi","role":"user"}"#;
        let new = opening_of(&format!("{first}]")).unwrap();
        assert!(!new.is_continued);
        let more = r#"{"role":"assistant","content":"hello"},{"role":"user","content":"and?"}"#;
        let continued = opening_of(&format!("{first} , {more}]")).unwrap();
        assert_eq!(continued, Opening { is_continued: true, ..new });
    }

    #[test]
    fn who_has_not_spoken_has_no_opening() {
        assert_eq!(opening_of(r#"[{"role":"system","content":"be kind"}]"#), None);
    }

    #[test]
    fn openings_are_told_apart_by_either_end_by_length_and_by_who_speaks() {
        let of = |text: &str| {
            let mut reader = OpeningReader::default();
            reader.text(text);
            reader.message_ended(true);
            reader.opening().unwrap().digest
        };
        let long = "a".repeat(10_000);
        let others = [format!("{}b", &long[1..]), format!("b{}", &long[1..]), long[1..].to_owned()];
        for other in others {
            assert_ne!(of(&long), of(&other));
        }
        assert_eq!(of(&long), of(&long.clone()));
        let system = r#"[{"role":"system","content":"x"},{"role":"user","content":"y"}]"#;
        let user = r#"[{"role":"user","content":"x"},{"role":"user","content":"y"}]"#;
        assert_ne!(opening_of(system).unwrap().digest, opening_of(user).unwrap().digest);
    }
}
