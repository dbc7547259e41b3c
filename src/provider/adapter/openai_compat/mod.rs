//! OpenAI's chat completions, with each provider's deviations as data.

mod answer;
mod dialect;
mod failure;
mod request;

pub(super) use dialect::OpenAiCompat;
