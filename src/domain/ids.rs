//! Types for identities, so that no two of them can be mistaken for each other.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;
use uuid::fmt::Simple;

/// A provider's name as the configuration spells it, for example `groq`; also the `platform` of the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant's row in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TenantId(pub i64);

/// A key's row in the store. It is not secret: it names a key in lists, logs and revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct KeyId(pub i64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The integer by which the original API names a model; given once by the store and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ModelNumber(pub i64);

impl fmt::Display for ModelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one completion event; its insertion is idempotent by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

impl EventId {
    /// Mints an id that sorts by time, so that an index on it grows at one end.
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that [`EventId::as_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// The longest `x-request-id` of a client that is kept. Chosen: four times a UUID's text.
const REQUEST_ID_MAX_BYTES: usize = 128;

/// What `x-request-id` carries: the client's own when it is sane, else one of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(Arc<str>);

impl RequestId {
    pub fn mint() -> Self {
        const PREFIX: &str = "req_";
        let mut text = [0; PREFIX.len() + Simple::LENGTH];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        Uuid::now_v7().simple().encode_lower(digits);
        Self(std::str::from_utf8(&text).unwrap_or(PREFIX).into())
    }

    /// Keeps `incoming` when it is 1 to 128 visible ASCII characters; mints one otherwise.
    pub fn from_incoming(incoming: Option<&str>) -> Self {
        match incoming {
            Some(id) if is_sane(id) => Self(id.into()),
            _ => Self::mint(),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_sane(id: &str) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_MAX_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insane_request_id_is_replaced() {
        for bad in ["", "a b", "a\nb", "ü", &"x".repeat(129)] {
            assert!(RequestId::from_incoming(Some(bad)).as_str().starts_with("req_"), "{bad:?}");
        }
        assert_eq!(RequestId::from_incoming(Some("trace-42")).as_str(), "trace-42");
    }

    #[test]
    fn minted_request_ids_differ_and_are_sane() {
        let [first, second] = [RequestId::mint(), RequestId::mint()];
        assert_ne!(first, second);
        assert_eq!(first.as_str().len(), "req_".len() + 32);
        assert!(is_sane(first.as_str()) && first.as_str().starts_with("req_0"), "{first}");
    }
}
