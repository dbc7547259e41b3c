//! The messages of a chat: whether they are what they should be, and how many tokens they may be.
//!
//! Each message is read once: that it can be understood in one way only, what it says, and what it may cost.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::chat_fields::wrong;
use super::opening::OpeningReader;
use super::strict_json::{self, Checked, Key, Keys};
use crate::domain::input_tokens::InputTokens;
use crate::error::GatewayError;
use crate::quota::estimate::{MESSAGE_OVERHEAD_TOKENS, text_tokens};

/// Who may speak, in OpenAI's terms (its API reference, 2026-11).
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// In how many arrays and objects of the body a value of a message stands: body, messages, message.
const MEMBER_DEPTH: usize = 3;

/// What the input of a chat holds, added up.
#[derive(Default)]
pub(super) struct Input {
    pub(super) tokens: InputTokens,
    pub(super) has_images: bool,
    pub(super) opening: OpeningReader,
}

/// Why the messages cannot be taken.
pub(super) enum Unreadable {
    /// Two readers could understand them differently: [`strict_json::complaint`] says why.
    NotStrict,
    /// A message is not what it should be.
    Wrong(GatewayError),
}

/// Reads the JSON text of all messages.
///
/// # Errors
/// [`Unreadable`]; whether all of them are strict is known only where nothing is wrong.
pub(super) fn read(text: &str) -> Result<Input, Unreadable> {
    if !text.starts_with('[') {
        return Err(Unreadable::Wrong(wrong("messages", "an array of {role, content} objects", text)));
    }
    let mut messages = Messages::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(&mut messages).map_err(|_| Unreadable::NotStrict)?;
    match messages {
        Messages { first_wrong: Some(position), .. } => Err(Unreadable::Wrong(complaint(text, position))),
        Messages { count: 0, .. } => {
            let empty = GatewayError::bad_field("messages", "messages must hold at least one message");
            Err(Unreadable::Wrong(empty))
        }
        Messages { input, .. } => Ok(input),
    }
}

/// What was found in all messages so far.
#[derive(Default)]
struct Messages {
    input: Input,
    count: usize,
    /// The position of the first message that is not what it should be.
    first_wrong: Option<usize>,
}

impl<'de> Visitor<'de> for &mut Messages {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        while let Some(found) = messages.next_element_seed(MessageSeed(&mut self.input))? {
            self.input.opening.message_ended(found.speaker == Some(Speaker::User));
            if !found.is_fine() {
                self.first_wrong.get_or_insert(self.count);
            }
            self.count += 1;
        }
        Ok(())
    }
}

/// What a message turned out to be; what is no object has none of it.
#[derive(Debug, Default)]
struct Found {
    speaker: Option<Speaker>,
    content: Content,
    has_calls: bool,
}

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    User,
    Other,
}

/// What stands where the content should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Content {
    /// Nothing, or null.
    #[default]
    Absent,
    Fine,
    Wrong,
}

impl Found {
    fn is_fine(&self) -> bool {
        let has_content = match self.content {
            Content::Fine => true,
            Content::Absent => self.has_calls,
            Content::Wrong => false,
        };
        self.speaker.is_some() && has_content
    }
}

impl Input {
    pub(super) fn add_text(&mut self, text: &str) {
        self.tokens += text_tokens(text);
        self.opening.text(text);
    }

    /// A value that may be read as it stands.
    fn add_strict<E: Error>(&mut self, raw: &RawValue, depth: usize) -> Result<(), E> {
        if !(Checked { depth }).is_strict(raw.get()) {
            return Err(E::custom("not strict"));
        }
        if raw.get() != "null" {
            self.add_text(raw.get());
        }
        Ok(())
    }

    /// `None` for what is no part.
    fn add_part(&mut self, raw: &str) -> Option<()> {
        let members = strict_json::members(raw)?;
        match string(find(&members, "type")?)?.as_ref() {
            "text" => {
                if let Some(text) = find(&members, "text").filter(|text| *text != "null") {
                    self.add_text(&string(text)?);
                }
                self.add_all_but(&members, &["type", "text"]);
            }
            "image_url" => {
                self.has_images = true;
                self.tokens.images += 1;
                self.add_all_but(&members, &["type", "image_url"]);
            }
            // A file, a sound, a thing of tomorrow: it may be read as it stands.
            _ => self.add_text(raw),
        }
        Some(())
    }

    fn add_all_but(&mut self, members: &[(Cow<'_, str>, &str)], known: &[&str]) {
        for (_, value) in members.iter().filter(|(name, value)| !known.contains(&&**name) && *value != "null")
        {
            self.add_text(value);
        }
    }
}

/// Reads one message.
struct MessageSeed<'i>(&'i mut Input);

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A message is an object; anything else is found wanting, so that it does not matter whether it is strict.
impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Self(input) = self;
        input.tokens += MESSAGE_OVERHEAD_TOKENS;
        let mut found = Found::default();
        let mut keys = Keys::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "role" => found.speaker = map.next_value_seed(Role)?,
                "content" => found.content = map.next_value_seed(ContentSeed(input))?,
                other => {
                    let is_call = matches!(other, "tool_calls" | "function_call");
                    let value: &RawValue = map.next_value()?;
                    found.has_calls |= is_call && value.get() != "null";
                    input.add_strict(value, MEMBER_DEPTH)?;
                }
            }
            if !keys.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Found, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::default())
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::default())
    }
}

/// Reads a role; `None` for what is none.
struct Role;

impl<'de> DeserializeSeed<'de> for Role {
    type Value = Option<Speaker>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !(Checked { depth: MEMBER_DEPTH }).is_strict(raw.get()) {
            return Err(D::Error::custom("not strict"));
        }
        let speaker = |role: Cow<'_, str>| match role.as_ref() {
            "user" => Some(Speaker::User),
            role => ROLES.contains(&role).then_some(Speaker::Other),
        };
        Ok(string(raw.get()).and_then(speaker))
    }
}

/// Reads a content: a text, or an array of parts.
struct ContentSeed<'i>(&'i mut Input);

impl<'de> DeserializeSeed<'de> for ContentSeed<'_> {
    type Value = Content;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentSeed<'_> {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Absent)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        self.0.add_text(text);
        Ok(Content::Fine)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::Fine;
        while let Some(part) = parts.next_element::<&RawValue>()? {
            if !(Checked { depth: MEMBER_DEPTH + 1 }).is_strict(part.get()) {
                return Err(A::Error::custom("not strict"));
            }
            if self.0.add_part(part.get()).is_none() {
                content = Content::Wrong;
            }
        }
        Ok(content)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        // Whether it is strict is of no account: it is refused either way.
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::Wrong)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::Wrong)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::Wrong)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::Wrong)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::Wrong)
    }
}

/// Says what is wrong with the message at `position`, which was found wanting.
fn complaint(text: &str, position: usize) -> GatewayError {
    let at = Place(position);
    let messages: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let raw = messages.get(position).map_or("nothing", |message| message.get());
    let Some(members) = strict_json::members(raw) else {
        return wrong(&at.to_string(), "an object with a role and a content", raw);
    };
    let given = |wanted: &str| find(&members, wanted).filter(|value| *value != "null");
    let role = given("role");
    if !role.and_then(string).is_some_and(|role| ROLES.contains(&role.as_ref())) {
        let (field, expected) = (format!("{at}.role"), format!("one of {}", ROLES.join(", ")));
        return match role {
            Some(raw) => wrong(&field, &expected, raw),
            None => GatewayError::bad_field(&*field, format!("{field} is required: {expected}")),
        };
    }
    let field = format!("{at}.content");
    match given("content") {
        Some(content) => wrong(&field, "a string or an array of parts with a `type`", content),
        None => {
            GatewayError::bad_field(&*field, format!("{field} is required: a string or an array of parts"))
        }
    }
}

fn find<'a>(members: &[(Cow<'_, str>, &'a str)], wanted: &str) -> Option<&'a str> {
    members.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
}

/// The text of a JSON string, borrowed where it holds no escapes; `None` for any other value.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    /// The field borrows; a bare `Cow` would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)
}

/// Where a message stands, put into words only for an error.
#[derive(Clone, Copy)]
struct Place(usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages[{}]", self.0)
    }
}
