//! What a simulated model says: text that names itself as simulated, the same for the same question.
//!
//! A token here is a word with the space behind it.

use super::random::{SplitMix64, fnv1a};

/// The longest part of the user's message that is repeated, in characters. Chosen: enough to recognise it.
const ECHO_MAX_CHARS: usize = 200;

/// The fewest filler sentences of an answer, and how many more there may be. Chosen: 80 to 160 tokens, a short reply.
const FILLER_MIN: u64 = 4;
const FILLER_SPREAD: u64 = 6;

const FILLER: [&str; 10] = [
    "No model was asked: this text was put together on your own machine. ",
    "It arrives word by word, at a tempo that was made up for this provider. ",
    "The limits of the provider are counted as its documentation states them. ",
    "When they are used up, the next request goes to another provider, or waits for the first one to have room. ",
    "Now and then a simulated provider fails on purpose, so that a failover can be watched. ",
    "The same question gets the same answer here, which makes a demonstration easy to repeat. ",
    "Nothing that you write leaves this computer while the simulation runs. ",
    "Give the gateway a real key, and the same request gets an answer that is worth reading. ",
    "Until then, count the words and not the meaning. ",
    "Every token of this reply is also counted in the statistics of the gateway. ",
];

/// The text of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Speech {
    pub(super) text: String,
    /// Whether the cap on the output ended it.
    pub(super) is_cut_short: bool,
}

impl Speech {
    /// Makes up the answer to `question` (the user's last message) in at most `cap` tokens.
    pub(super) fn compose(provider_name: &str, model: &str, question: &str, cap: u64) -> Self {
        let mut text = format!("This is a simulated answer by {provider_name} ({model}). ");
        text.push_str(&echo(question));
        filler(model, question).for_each(|sentence| text.push_str(sentence));
        text.truncate(text.trim_end().len());
        Self::within(text, cap)
    }

    fn within(mut text: String, cap: u64) -> Self {
        let cap = usize::try_from(cap).unwrap_or(usize::MAX);
        let allowed_bytes = tokens(&text).take(cap).map(str::len).sum();
        let is_cut_short = allowed_bytes < text.len();
        text.truncate(allowed_bytes);
        Self { text, is_cut_short }
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = &str> {
        tokens(&self.text)
    }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

fn echo(question: &str) -> String {
    let question = question.trim();
    if question.is_empty() {
        return "You wrote nothing. ".to_owned();
    }
    let shown: String = question.chars().take(ECHO_MAX_CHARS).collect();
    let ellipsis = if shown.len() < question.len() { "…" } else { "" };
    format!("You wrote: “{shown}{ellipsis}”. ")
}

fn filler(model: &str, question: &str) -> impl Iterator<Item = &'static str> {
    let mut random = SplitMix64::for_text(fnv1a(question), model);
    let count = usize::try_from(FILLER_MIN + random.below(FILLER_SPREAD)).unwrap_or(0);
    let first = usize::try_from(random.below(FILLER.len() as u64)).unwrap_or(0);
    FILLER.iter().cycle().skip(first).take(count).copied()
}

/// The tokens of a prompt's text: four bytes each, rounded up. Chosen: what is commonly taken for English, and less
/// than a careful estimate says, because a provider never counts more than an upper edge of it.
pub(super) fn prompt_tokens(text_bytes: usize) -> u64 {
    (text_bytes as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_CAP: u64 = u64::MAX;

    fn answer(question: &str, cap: u64) -> Speech {
        Speech::compose("Groq", "llama-3.3-70b-versatile", question, cap)
    }

    #[test]
    fn an_answer_names_itself_as_simulated_and_refers_to_the_question() {
        let answer = answer("Hello, how are you?", NO_CAP);
        assert!(answer.text.starts_with("This is a simulated answer by Groq (llama-3.3-70b-versatile). "));
        assert!(answer.text.contains("“Hello, how are you?”"));
        assert!(!answer.is_cut_short && !answer.text.ends_with(' '));
        assert!((40..200).contains(&answer.tokens().count()), "{}", answer.tokens().count());
    }

    #[test]
    fn the_same_question_gets_the_same_answer_and_another_one_another() {
        assert_eq!(answer("a", NO_CAP), answer("a", NO_CAP));
        assert_ne!(answer("a", NO_CAP).text, answer("b", NO_CAP).text);
    }

    #[test]
    fn the_cap_holds_and_is_told() {
        for cap in [1, 7, 30] {
            let answer = answer("Hello", cap);
            assert_eq!(answer.tokens().count() as u64, cap);
            assert!(answer.is_cut_short);
        }
        let whole = answer("Hello", NO_CAP);
        let exact = answer("Hello", whole.tokens().count() as u64);
        assert_eq!(exact, whole);
    }

    #[test]
    fn a_long_question_is_repeated_only_in_part() {
        let answer = answer(&"ü".repeat(5000), NO_CAP);
        assert_eq!(answer.text.matches('ü').count(), ECHO_MAX_CHARS);
    }

    #[test]
    fn no_question_is_no_trouble() {
        assert!(answer("  \n", NO_CAP).text.contains("You wrote nothing."));
    }
}
