//! The body of a streamed answer: token by token, at the provider's tempo.

use std::collections::VecDeque;
use std::io;

use actix_web::rt::task::yield_now;
use actix_web::rt::time::{Interval, interval};
use bytes::Bytes;
use futures_util::{Stream, stream};

use super::call::Call;
use super::completion::{Answer, DONE_EVENT, Letterhead};
use super::persona::Tempo;
use super::request::ChatCall;
use super::tool_call::ToolCall;

/// Streams `answer` and closes `call` at its end, or when the caller leaves. With `is_cut` the connection ends half
/// way: by an error, which is how the server is told to leave the body without its last chunk.
pub(super) fn events(
    call: Call,
    chat: &ChatCall,
    letterhead: Letterhead,
    answer: Answer,
    tempo: Tempo,
    is_cut: bool,
) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let script = script(&answer, chat.tells_usage, is_cut);
    let beat = (!tempo.between_tokens.is_zero()).then(|| interval(tempo.between_tokens));
    let recital = Recital { call, letterhead, answer, script, beat };
    stream::unfold(recital, |mut recital| async move {
        let line = recital.script.pop_front()?;
        let bytes = recital.speak(line).await;
        Some((bytes, recital))
    })
}

/// The error that stands for a connection that breaks.
///
/// It comes one turn later, because the server drops what it has not yet written when a body fails.
pub(super) async fn broken() -> io::Error {
    yield_now().await;
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulated provider broke the answer off")
}

/// One thing to send.
enum Line {
    Role,
    Token(String),
    Tool(ToolCall),
    Finish,
    Usage,
    Done,
    Break,
}

fn script(answer: &Answer, tells_usage: bool, is_cut: bool) -> VecDeque<Line> {
    let mut lines = VecDeque::from([Line::Role]);
    match answer {
        Answer::Words(speech) => lines.extend(speech.tokens().map(|token| Line::Token(token.to_owned()))),
        Answer::Call(call) => lines.push_back(Line::Tool(call.clone())),
    }
    if is_cut {
        lines.truncate(lines.len().div_ceil(2));
        lines.push_back(Line::Break);
        return lines;
    }
    lines.push_back(Line::Finish);
    lines.extend(tells_usage.then_some(Line::Usage));
    lines.push_back(Line::Done);
    lines
}

struct Recital {
    call: Call,
    letterhead: Letterhead,
    answer: Answer,
    script: VecDeque<Line>,
    /// Keeps the average rate: a beat that comes late is made up for.
    beat: Option<Interval>,
}

impl Recital {
    async fn speak(&mut self, line: Line) -> io::Result<Bytes> {
        Ok(match line {
            Line::Role => self.letterhead.role_event(),
            Line::Token(token) => {
                if let Some(beat) = &mut self.beat {
                    beat.tick().await;
                }
                self.call.produced(1);
                self.letterhead.token_event(&token)
            }
            Line::Tool(call) => {
                self.call.produced(self.answer.output_tokens());
                self.letterhead.tool_event(&call)
            }
            Line::Finish => self.letterhead.finish_event(&self.answer),
            Line::Usage => self.letterhead.usage_event(self.call.usage()),
            Line::Done => DONE_EVENT,
            Line::Break => return Err(broken().await),
        })
    }
}
