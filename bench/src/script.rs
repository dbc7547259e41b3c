//! What is said: the requests of the load client and the answers of the mock.

use crate::stamp::DIGITS;

/// Where chats are posted.
pub const PATH: &str = "/v1/chat/completions";

/// A request that wants so many events, one every so many milliseconds; none stands for a JSON answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub events: usize,
    /// Zero is as fast as they can be written.
    pub pace_ms: u64,
}

/// Members of a request that only the mock understands. They pass through everything that is measured, so that
/// one mock serves all measurements.
const EVENTS_MEMBER: &[u8] = b"\"mock_events\":";
const PACE_MEMBER: &[u8] = b"\"mock_pace_ms\":";

impl Wish {
    /// Finds the wish in the body of a request. Members are searched for, not parsed: the mock must be cheap.
    pub fn of(body: &[u8]) -> Self {
        let number = |member: &[u8]| {
            let start = memchr::memmem::find(body, member)? + member.len();
            let digits = body.get(start..)?.split(|byte| !byte.is_ascii_digit()).next()?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        Self {
            events: number(EVENTS_MEMBER).and_then(|events| usize::try_from(events).ok()).unwrap_or(0),
            pace_ms: number(PACE_MEMBER).unwrap_or(0),
        }
    }

    /// The whole request, of about the size of a short conversation; without a key where that is empty.
    pub fn request(self, host: &str, key: &str) -> Vec<u8> {
        let Self { events, pace_ms } = self;
        let is_streamed = events > 0;
        let body = format!(
            r#"{{"model":"bench","stream":{is_streamed},"temperature":0.7,"max_tokens":512,"mock_events":{events},"mock_pace_ms":{pace_ms},"messages":[{{"role":"system","content":"{SYSTEM}"}},{{"role":"user","content":"{USER}"}}]}}"#
        );
        let bytes = body.len();
        let key = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: {host}\r\n{key}\
             content-type: application/json\r\naccept: */*\r\nuser-agent: freellmapi-bench\r\n\
             content-length: {bytes}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

const SYSTEM: &str = "You are a helpful assistant. Answer in plain words, say when you do not know, and keep it \
                      to a few sentences unless you are asked for more.";
const USER: &str = "We have a service that posts small JSON documents to another one and waits for the answers. \
                    Lately the slowest one percent of them takes four times as long as the median, while the \
                    processors are mostly idle. What would you look at first, and how would you tell a queue from \
                    a slow disk?";

/// The answer that is not streamed: about 900 bytes with its usage.
pub fn json_answer() -> Vec<u8> {
    let body = format!(
        r#"{{"id":"chatcmpl-5f0c1d2e3a4b","object":"chat.completion","created":1764000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{ANSWER}"}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":113,"completion_tokens":118,"total_tokens":231}}}}"#
    );
    let bytes = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n{body}")
        .into_bytes()
}

const ANSWER: &str = "Look at how long a request waits before anybody works on it. Idle processors and a long tail \
                      together mean that something is waited for: a pool of connections that is too small, a lock, \
                      a timer, or a disk that answers late. Take the time at the arrival, at the start of the work \
                      and at its end. If the first gap grows with the load and the second does not, it is a queue. \
                      If the second one grows by itself, follow it down: the system's own counters of the disk show \
                      its waits. Whichever it is, change one thing, measure again under the same load, and keep \
                      the change only if the tail has moved.";

/// The head of a streamed answer. It asks nginx not to buffer it.
pub const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
      x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";

/// The last words of a streamed answer: why it ends, its usage, `[DONE]`, and the end of the body.
pub fn stream_end() -> Vec<u8> {
    let finish = r#"{"id":"chatcmpl-5f0c1d2e3a4b","object":"chat.completion.chunk","created":1764000000,"model":"bench","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}"#;
    let usage = r#"{"id":"chatcmpl-5f0c1d2e3a4b","object":"chat.completion.chunk","created":1764000000,"model":"bench","choices":[],"usage":{"prompt_tokens":113,"completion_tokens":118,"total_tokens":231}}"#;
    let text: String =
        [finish, usage, "[DONE]"].iter().map(|data| chunk(&format!("data: {data}\n\n"))).collect();
    format!("{text}0\r\n\r\n").into_bytes()
}

/// One event of about 270 bytes in a chunk of its own.
#[derive(Clone, Debug)]
pub struct EventTemplate {
    /// Its digits are to be overwritten by [`crate::stamp::write`].
    pub text: Vec<u8>,
    /// Where the digits of its stamp begin.
    pub stamp_at: usize,
}

impl EventTemplate {
    /// The event, as the chunks of public providers look.
    pub fn new() -> Self {
        let digits = "0".repeat(DIGITS);
        let data = format!(
            r#"{{"id":"chatcmpl-5f0c1d2e3a4b","object":"chat.completion.chunk","created":1764000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{{"index":0,"delta":{{"role":"assistant","content":"@{digits} word"}},"logprobs":null,"finish_reason":null}}]}}"#
        );
        let text = chunk(&format!("data: {data}\n\n")).into_bytes();
        let stamp_at = memchr::memchr(crate::stamp::MARK, &text).map_or(0, |mark| mark + 1);
        Self { text, stamp_at }
    }
}

impl Default for EventTemplate {
    fn default() -> Self {
        Self::new()
    }
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_survives_its_request() {
        for wish in [Wish::default(), Wish { events: 250, pace_ms: 20 }] {
            assert_eq!(Wish::of(&wish.request("127.0.0.1:1", "key")), wish);
        }
    }

    #[test]
    fn sizes_are_what_the_documentation_says() {
        let answer = json_answer();
        let body = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
        serde_json::from_slice::<serde_json::Value>(&answer[body..]).unwrap();
        assert!((850..950).contains(&(answer.len() - body)), "{}", answer.len() - body);
        let event = EventTemplate::new().text.len();
        assert!((260..290).contains(&event), "{event}");
    }
}
