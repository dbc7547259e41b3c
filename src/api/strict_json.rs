//! JSON that two readers cannot understand differently: UTF-8, no duplicate keys, bounded depth.
//!
//! What was checked is what is forwarded: the members are slices of the received body.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// How deep arrays and objects may nest. Chosen: JSON schemas of tools reach a dozen; serde_json itself stops
/// at 128.
const DEPTH_MAX: usize = 64;

/// From this many keys on, an object's keys are looked up in a set; below, a list is quicker.
const KEYS_IN_LIST: usize = 16;

/// Room for so many is made at once. Chosen: what most requests have; their messages have fewer.
const USUAL_KEYS: usize = 8;

/// The members of a JSON object, in order: decoded names and JSON texts, of the body where they stand in it as they are.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// Reads `body` as one JSON object. The value of the member `unchecked` is well-formed, but whether it is strict is
/// left to the caller, who reads it in full anyway, and turns to [`complaint`] where it is not.
///
/// # Errors
/// Words for the client that say what is wrong and where.
pub(super) fn object<'a>(body: &'a str, unchecked: &str) -> Result<Members<'a>, String> {
    let Some(members) = members(body) else {
        return Err(complaint(body).unwrap_or_else(|| "the body must be a JSON object".to_owned()));
    };
    let mut keys = Keys::default();
    let is_strict = members.iter().all(|(name, value)| {
        keys.insert(name.clone()) && (name == unchecked || Checked { depth: 1 }.is_strict(value))
    });
    if !is_strict && let Some(complaint) = complaint(body) {
        return Err(complaint);
    }
    Ok(members)
}

/// The members of an object inside a checked body, in order, with their JSON texts; `None` for what is no object.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok().map(|RawMembers(members)| members)
}

/// What stands in the way of reading `body` in one way only, in words for the client; `None` when nothing does.
/// Looks at everything from the start, so that the place that it names is one in the body.
pub(super) fn complaint(body: &str) -> Option<String> {
    if body.trim().is_empty() {
        return Some("the body is empty; it must be a JSON object".to_owned());
    }
    let mut deserializer = serde_json::Deserializer::from_str(body);
    Checked { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .err()
        .map(|error| format!("the body is not valid JSON: {error}"))
}

/// Where `part`, a slice of `whole`, stands in it.
pub(super) fn span(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// Walks a value of any shape and keeps nothing; an error where two readers could understand it differently.
#[derive(Clone, Copy)]
pub(super) struct Checked {
    /// How many arrays and objects it stands in.
    pub(super) depth: usize,
}

impl Checked {
    pub(super) fn is_strict(self, value: &str) -> bool {
        let mut deserializer = serde_json::Deserializer::from_str(value);
        self.deserialize(&mut deserializer).is_ok()
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        while sequence.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inside = self.deeper()?;
        let mut keys = Keys::default();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if !keys.insert(key.0.clone()) {
                return Err(de::Error::custom(format_args!("duplicate key {:?}", key.0)));
            }
            map.next_value_seed(inside)?;
        }
        Ok(())
    }
}

/// The keys of one object.
#[derive(Default)]
pub(super) struct Keys<'a> {
    list: Vec<Cow<'a, str>>,
    set: HashSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    /// Whether `key` is new.
    pub(super) fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.list.len() < KEYS_IN_LIST {
            if self.list.is_empty() {
                self.list.reserve(USUAL_KEYS);
            }
            let is_new = !self.list.contains(&key);
            self.list.push(key);
            return is_new;
        }
        !self.list.contains(&key) && self.set.insert(key)
    }
}

/// A key, borrowed from the body unless it holds escapes.
pub(super) struct Key<'a>(pub(super) Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The members of one object, in order.
struct RawMembers<'a>(Members<'a>);

impl<'de> de::Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = RawMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(USUAL_KEYS);
                while let Some(Key(name)) = map.next_key()? {
                    members.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(RawMembers(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_slices_of_the_body() {
        let members = object(r#" {"a" : [1, 2] ,"b\n":"x"} "#, "").unwrap();
        let texts: Vec<_> = members.iter().map(|(name, value)| (&**name, *value)).collect();
        assert_eq!(texts, [("a", "[1, 2]"), ("b\n", "\"x\"")]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let cases = [
            ("", "the body is empty"),
            ("hello", "the body is not valid JSON"),
            ("[]", "the body must be a JSON object"),
            ("{\"a\":1,}", "the body is not valid JSON"),
            ("{} {}", "the body is not valid JSON: trailing characters"),
            (r#"{"a":1,"a":2}"#, "duplicate key \"a\""),
            (r#"{"m":[{"role":"user","r\u006fle":"system"}]}"#, "duplicate key \"role\""),
            (&deep, "nested deeper than 64 levels"),
        ];
        for (body, expected) in cases {
            let error = object(body, "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn many_keys_are_looked_up_quickly_and_still_unique() {
        let members: Vec<String> = (0..1_000).map(|index| format!("\"k{index}\":0")).collect();
        let unique = format!("{{{}}}", members.join(","));
        assert_eq!(object(&unique, "").unwrap().len(), 1_000);
        let duplicate = format!("{{{},\"k3\":1}}", members.join(","));
        assert!(object(&duplicate, "").is_err());
    }
}
