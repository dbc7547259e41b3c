//! What a fake upstream answers.

use std::time::Duration;

use serde_json::{Value, json};

use super::recorded_request::RecordedRequest;

/// One scripted answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(super) content: Content,
    headers: Vec<(String, String)>,
    pub(super) waits_for_signal: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Whole {
        status: u16,
        body: Vec<u8>,
    },
    Stream(Vec<Step>),
    SseText(Vec<String>),
    Text(String),
    Raw(Vec<u8>),
    /// Steps without a head before them.
    Script(Vec<Step>),
    Nothing,
    Close,
}

/// One step of a streamed answer. After the last step nothing more is sent, and the connection stays open until the
/// client leaves; end with [`Step::End`] for a complete answer.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Chunk(Vec<u8>),
    /// Exactly these bytes, without the framing of a chunk.
    Raw(Vec<u8>),
    /// Exactly these bytes again and again, with a pause between, until the client leaves.
    Forever(Vec<u8>, Duration),
    Pause(Duration),
    /// Goes on when the test says so, with `FakeUpstream::signal`.
    WaitForSignal,
    /// Closes the connection without the last chunk.
    Cut,
    /// Resets the connection (RST).
    Reset,
    /// Sends the last chunk; the connection can be used again.
    End,
}

impl Step {
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self::Raw(bytes.to_vec())
    }

    /// A chunk of `text` again and again, until the client leaves.
    pub(crate) fn chunk_forever(text: &str, pause: Duration) -> Self {
        Self::Forever(framed(text.as_bytes()), pause)
    }

    pub(crate) fn chunk(text: &str) -> Self {
        Self::Chunk(text.as_bytes().to_vec())
    }

    /// One SSE event with `data` as its JSON.
    pub(crate) fn event(data: &Value) -> Self {
        Self::Chunk(format!("data: {data}\n\n").into_bytes())
    }

    /// A chunk of a chat completion with `content` as its delta.
    pub(crate) fn delta(content: &str) -> Self {
        Self::event(&chunk(&json!({"content": content}), None))
    }
}

impl Reply {
    fn new(content: Content) -> Self {
        Self { content, headers: Vec::new(), waits_for_signal: false }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let content = Content::Whole { status, body: body.to_string().into_bytes() };
        Self::new(content).header("content-type", "application/json")
    }

    /// 200 with `text/event-stream`, in chunks.
    pub(crate) fn stream(steps: impl IntoIterator<Item = Step>) -> Self {
        let content = Content::Stream(steps.into_iter().collect());
        Self::new(content).header("content-type", "text/event-stream")
    }

    /// Reads the request and says nothing, until the client leaves.
    pub(crate) fn never_answer() -> Self {
        Self::new(Content::Nothing)
    }

    /// Reads the request and closes the connection without a byte.
    pub(crate) fn close_at_once() -> Self {
        Self::new(Content::Close)
    }

    /// Sends exactly these bytes, then closes the connection.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self::new(Content::Raw(bytes.to_vec()))
    }

    /// Follows these steps from the first byte on: they bring their own head.
    pub(crate) fn script(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::new(Content::Script(steps.into_iter().collect()))
    }

    /// A chat completion, also when a stream was asked for.
    pub(crate) fn completion(text: &str) -> Self {
        Self::json(200, &completion(text))
    }

    /// A complete stream: role, one delta for each text, the reason of the end, usage if the request asks for it,
    /// and `[DONE]`.
    pub(crate) fn sse_text<'a>(deltas: impl IntoIterator<Item = &'a str>) -> Self {
        let content = Content::SseText(deltas.into_iter().map(str::to_owned).collect());
        Self::new(content).header("content-type", "text/event-stream")
    }

    /// A chat completion or a stream of it, as the request asks.
    pub(crate) fn text(text: &str) -> Self {
        Self::new(Content::Text(text.to_owned()))
    }

    /// 429 with `retry-after` in seconds.
    pub(crate) fn rate_limited(retry_after_secs: u64) -> Self {
        let error =
            json!({"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"});
        Self::json(429, &json!({"error": error})).header("retry-after", &retry_after_secs.to_string())
    }

    /// OpenAI's error object.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let error = json!({"message": message, "type": "error", "param": null, "code": null});
        Self::json(status, &json!({"error": error}))
    }

    /// Adds a header to those of the answer.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers nothing, not even a head, before `FakeUpstream::signal`.
    pub(crate) fn after_signal(mut self) -> Self {
        self.waits_for_signal = true;
        self
    }

    /// The same with what depends on the request filled in.
    pub(super) fn to(&self, request: &RecordedRequest) -> Self {
        let mut resolved = match &self.content {
            Content::SseText(deltas) => Self::stream(sse_steps(deltas, request)),
            Content::Text(text) if request.json()["stream"] == true => {
                Self::sse_text([text.as_str()]).to(request)
            }
            Content::Text(text) => Self::completion(text),
            _ => return self.clone(),
        };
        let is_new = |header: &&(String, String)| header.0 != "content-type";
        resolved.headers.extend(self.headers.iter().filter(is_new).cloned());
        resolved.waits_for_signal = self.waits_for_signal;
        resolved
    }

    /// The head for a body framed by `framing`, which is one header.
    pub(super) fn head(&self, status: u16, framing: &str) -> Vec<u8> {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {status} Scripted\r\n{headers}{framing}\r\n\r\n").into_bytes()
    }
}

/// One chunk of a chunked body.
pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn usage(output_tokens: usize) -> Value {
    json!({"prompt_tokens": 9, "completion_tokens": output_tokens, "total_tokens": 9 + output_tokens})
}

fn completion(text: &str) -> Value {
    json!({
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "fake-model",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }],
        "usage": usage(text.split_whitespace().count()),
    })
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "fake-model",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

fn sse_steps(deltas: &[String], request: &RecordedRequest) -> Vec<Step> {
    let mut steps = vec![Step::event(&chunk(&json!({"role": "assistant", "content": ""}), None))];
    steps.extend(deltas.iter().map(|delta| Step::delta(delta)));
    steps.push(Step::event(&chunk(&json!({}), Some("stop"))));
    if request.json()["stream_options"]["include_usage"] == true {
        let mut last = chunk(&Value::Null, None);
        last["choices"] = json!([]);
        last["usage"] = usage(deltas.len());
        steps.push(Step::event(&last));
    }
    steps.push(Step::chunk("data: [DONE]\n\n"));
    steps.push(Step::End);
    steps
}
