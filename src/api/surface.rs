//! The two dialects in which clients speak to us.

use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem::Finder;

/// A delta without text, as llama.cpp begins its streams. In a text the quotes would be escaped, so that this
/// is found only where it is a member.
static NULL_CONTENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""content":null"#));
const EMPTY_CONTENT: &[u8] = br#""content":"""#;

/// Which shape answers and errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// The original API, `/api/….php`.
    Original,
    /// OpenAI's, `/v1/…`.
    OpenAi,
}

impl Surface {
    /// An event as this surface shows it. The original API's `content` is always a text: its documented client
    /// prints whatever it finds there.
    pub(super) fn event(self, event: Bytes) -> Bytes {
        match self {
            Self::OpenAi => event,
            Self::Original => with_text(event),
        }
    }
}

fn with_text(event: Bytes) -> Bytes {
    let Some(position) = NULL_CONTENT.find(&event) else { return event };
    let rest = position + NULL_CONTENT.needle().len();
    let mut shown = BytesMut::with_capacity(event.len());
    shown.put_slice(event.get(..position).unwrap_or_default());
    shown.put_slice(EMPTY_CONTENT);
    shown.put_slice(event.get(rest..).unwrap_or_default());
    shown.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_api_has_no_null_content() {
        let event =
            Bytes::from_static(br#"data: {"choices":[{"delta":{"role":"assistant","content":null}}]}"#);
        let shown = Surface::Original.event(event.clone());
        assert_eq!(&shown[..], br#"data: {"choices":[{"delta":{"role":"assistant","content":""}}]}"#);
        assert_eq!(Surface::OpenAi.event(event.clone()), event);
    }

    #[test]
    fn a_text_that_speaks_of_null_content_stays() {
        let event = Bytes::from_static(br#"data: {"choices":[{"delta":{"content":"\"content\":null"}}]}"#);
        assert_eq!(Surface::Original.event(event.clone()), event);
    }
}
