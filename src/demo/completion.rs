//! OpenAI's shapes of an answer: one completion, or the chunks of a stream.

use bytes::Bytes;
use serde::Serialize;

use super::speech::{Speech, prompt_tokens};
use super::tool_call::ToolCall;
use crate::domain::usage::Usage;

/// What the model answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Words(Speech),
    Call(ToolCall),
}

impl Answer {
    pub(super) fn output_tokens(&self) -> u64 {
        match self {
            Self::Words(speech) => speech.tokens().count() as u64,
            Self::Call(call) => prompt_tokens(call.name.len() + call.arguments.len()),
        }
    }

    fn finish_reason(&self) -> &'static str {
        match self {
            Self::Words(speech) if speech.is_cut_short => "length",
            Self::Words(_) => "stop",
            Self::Call(_) => "tool_calls",
        }
    }
}

/// What all parts of one answer share.
#[derive(Clone, Debug)]
pub(super) struct Letterhead {
    /// The answer's number at its provider.
    pub(super) serial: u64,
    /// Seconds since the Unix epoch.
    pub(super) created: i64,
    pub(super) model: String,
}

impl Letterhead {
    /// The whole answer as one JSON object.
    pub(super) fn completion(&self, answer: &Answer, usage: Usage) -> Bytes {
        let message = match answer {
            Answer::Words(speech) => Part { content: Some(&speech.text), ..Part::of_assistant() },
            Answer::Call(call) => {
                Part { tool_calls: Some([self.tool_part(call, None)]), ..Part::of_assistant() }
            }
        };
        let choice = Choice { message: Some(message), ..Choice::finished(answer) };
        json_text(&self.envelope("chat.completion", Some(choice), Some(usage)))
    }

    /// The event that opens a stream: the role and nothing yet.
    pub(super) fn role_event(&self) -> Bytes {
        self.delta_event(Part { content: Some(""), ..Part::of_assistant() })
    }

    pub(super) fn token_event(&self, token: &str) -> Bytes {
        self.delta_event(Part { content: Some(token), ..Part::default() })
    }

    /// A whole tool call in one event, as most providers send it.
    pub(super) fn tool_event(&self, call: &ToolCall) -> Bytes {
        self.delta_event(Part { tool_calls: Some([self.tool_part(call, Some(0))]), ..Part::default() })
    }

    pub(super) fn finish_event(&self, answer: &Answer) -> Bytes {
        let choice = Choice { delta: Some(Part::default()), ..Choice::finished(answer) };
        event(&self.envelope("chat.completion.chunk", Some(choice), None))
    }

    /// The event without a choice that `stream_options.include_usage` asks for.
    pub(super) fn usage_event(&self, usage: Usage) -> Bytes {
        event(&self.envelope("chat.completion.chunk", None, Some(usage)))
    }

    fn delta_event(&self, delta: Part<'_>) -> Bytes {
        let choice = Choice { delta: Some(delta), ..Choice::default() };
        event(&self.envelope("chat.completion.chunk", Some(choice), None))
    }

    fn envelope<'a>(
        &'a self,
        object: &'static str,
        choice: Option<Choice<'a>>,
        usage: Option<Usage>,
    ) -> Envelope<'a> {
        Envelope {
            id: format!("chatcmpl-simulated-{}", self.serial),
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: "simulated",
            choices: choice.into_iter().collect(),
            usage: usage.map(WireUsage::from),
        }
    }

    /// Ids have nine letters and digits, because Mistral takes no others.
    fn tool_part<'a>(&self, call: &'a ToolCall, index: Option<u32>) -> ToolPart<'a> {
        ToolPart {
            index,
            id: format!("sim{:06}", self.serial % 1_000_000),
            kind: "function",
            function: FunctionPart { name: &call.name, arguments: &call.arguments },
        }
    }
}

/// The event that ends every complete stream.
pub(super) const DONE_EVENT: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

fn event(envelope: &Envelope<'_>) -> Bytes {
    [b"data: ".as_slice(), &json_text(envelope), b"\n\n"].concat().into()
}

/// Serialising these shapes cannot fail: they hold only strings and numbers.
fn json_text(envelope: &Envelope<'_>) -> Bytes {
    serde_json::to_vec(envelope).unwrap_or_default().into()
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
}

#[derive(Default, Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Part<'a>>,
    finish_reason: Option<&'static str>,
}

impl Choice<'_> {
    fn finished(answer: &Answer) -> Self {
        Self { finish_reason: Some(answer.finish_reason()), ..Self::default() }
    }
}

/// A message, or what is new of it.
#[derive(Default, Serialize)]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolPart<'a>; 1]>,
}

impl Part<'_> {
    fn of_assistant() -> Self {
        Self { role: Some("assistant"), ..Self::default() }
    }
}

#[derive(Serialize)]
struct ToolPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionPart<'a>,
}

#[derive(Serialize)]
struct FunctionPart<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.total_tokens(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn letterhead() -> Letterhead {
        Letterhead { serial: 7, created: 1_790_000_000, model: "model-a".to_owned() }
    }

    fn words(text: &str, is_cut_short: bool) -> Answer {
        Answer::Words(Speech { text: text.to_owned(), is_cut_short })
    }

    fn data(event: &Bytes) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        serde_json::from_str(text.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap()).unwrap()
    }

    #[test]
    fn a_completion_has_openai_s_shape() {
        let usage = Usage { input_tokens: 4, output_tokens: 2 };
        let body: Value =
            serde_json::from_slice(&letterhead().completion(&words("Hi \"you\"", false), usage)).unwrap();
        assert_eq!(
            body,
            json!({
                "id": "chatcmpl-simulated-7",
                "object": "chat.completion",
                "created": 1_790_000_000,
                "model": "model-a",
                "system_fingerprint": "simulated",
                "choices": [{
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hi \"you\""},
                    "finish_reason": "stop",
                }],
                "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
            })
        );
    }

    #[test]
    fn a_stream_opens_with_the_role_and_ends_with_the_reason() {
        let letterhead = letterhead();
        assert_eq!(
            data(&letterhead.role_event())["choices"][0],
            json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null})
        );
        assert_eq!(data(&letterhead.token_event("a\n"))["choices"][0]["delta"], json!({"content": "a\n"}));
        assert_eq!(
            data(&letterhead.finish_event(&words("a", true)))["choices"][0],
            json!({"index": 0, "delta": {}, "finish_reason": "length"})
        );
        let usage = data(&letterhead.usage_event(Usage { input_tokens: 1, output_tokens: 2 }));
        assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(3)));
    }

    #[test]
    fn a_tool_call_is_whole_with_an_index_only_in_streams() {
        let call = ToolCall { name: "clock".to_owned(), arguments: "{\"zone\":\"UTC\"}".to_owned() };
        let streamed = data(&letterhead().tool_event(&call))["choices"][0]["delta"]["tool_calls"][0].clone();
        assert_eq!(
            streamed,
            json!({
                "index": 0,
                "id": "sim000007",
                "type": "function",
                "function": {"name": "clock", "arguments": "{\"zone\":\"UTC\"}"},
            })
        );
        let whole = letterhead().completion(&Answer::Call(call), Usage::default());
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(whole["choices"][0]["message"]["tool_calls"][0].get("index"), None);
    }
}
