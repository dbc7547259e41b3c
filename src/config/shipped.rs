//! What is built into the binary: the documented default and the data of the shipped providers.
//!
//! Limits and quirks in the data name their sources and dates. Ranks and size labels are this project's own
//! judgement: by the Artificial Analysis index as read in October 2026 where it knows the model, else by
//! generation and size; speed by latencies seen in August to October 2026. One open model has one
//! `intelligence_rank` at all providers, which a test holds.

/// A file of the repository, embedded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shipped {
    /// Within the repository.
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

macro_rules! shipped {
    ($path:literal) => {
        Shipped { path: $path, text: include_str!(concat!("../../", $path)) }
    };
}

/// The documented default: the one source of every default setting.
pub(super) const DEFAULT: Shipped = shipped!("config/freellmapi.toml");

/// The shipped providers, in the order in which they are listed.
pub(super) const PROVIDERS: [Shipped; 10] = [
    shipped!("config/providers/groq.toml"),
    shipped!("config/providers/cerebras.toml"),
    shipped!("config/providers/sambanova.toml"),
    shipped!("config/providers/openrouter.toml"),
    shipped!("config/providers/mistral.toml"),
    shipped!("config/providers/github.toml"),
    shipped!("config/providers/ollama.toml"),
    shipped!("config/providers/llamacpp.toml"),
    shipped!("config/providers/lmstudio.toml"),
    shipped!("config/providers/vllm.toml"),
];

impl Shipped {
    /// How problems call the file.
    pub(super) fn origin(self) -> String {
        format!("built-in {}", self.path)
    }

    /// The file's name without folder and ending; for a provider, its id.
    pub(super) fn stem(self) -> &'static str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".toml").unwrap_or(name)
    }
}
