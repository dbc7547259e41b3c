//! What a model counts for one image whose size is not known.

use crate::domain::input_tokens::DEAREST_IMAGE_TOKENS;

/// The constant for models whose rule is not known, or goes by the size.
/// Chosen: a model that reads patches of 28 × 28 pixels, as Qwen's do (its model card's discussion 47, read
/// 2026-11-23), takes 1,600 tokens for 1.25 megapixels; pictures that are billed in tiles stay below it.
pub const IMAGE_TOKENS: u64 = DEAREST_IMAGE_TOKENS;

/// Families whose images cost the same, or have a most, and what that is. An earlier row wins.
const BY_FAMILY: [(&str, u64); 4] = [
    // 256 tokens at 896 × 896 pixels: ai.google.dev/gemma/docs/capabilities/vision, read 2026-11-23.
    ("gemma-3", 256),
    // The largest of its budgets, as nobody says which one a server has set: the same page.
    ("gemma-4", 1_120),
    // Its rule is not the one of the next row: github.com/openai/openai-python, issue 2851, read 2026-11-23.
    ("gpt-4o-mini", IMAGE_TOKENS),
    // 85, and 170 for each tile of 512 pixels, of which the most that is read, 768 × 2,048 pixels, has eight:
    // image-token-meter 1.0.0 on npm, read 2026-11-23.
    ("gpt-4o", 1_445),
];

/// Of the model's family, or of its id where it has none.
pub fn image_tokens(name: &str) -> u64 {
    let name = name.to_ascii_lowercase();
    let known = BY_FAMILY.iter().find(|(family, _)| name.contains(family));
    known.map_or(IMAGE_TOKENS, |(_, tokens)| *tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_decides_and_the_constant_is_the_dearest() {
        assert_eq!(image_tokens("Gemma-3-27b"), 256);
        assert_eq!(image_tokens("openai/gpt-4o"), 1_445);
        assert_eq!(image_tokens("gpt-4o-mini"), IMAGE_TOKENS);
        assert_eq!(image_tokens("qwen2.5-vl-72b"), IMAGE_TOKENS);
        assert!(BY_FAMILY.iter().all(|(_, tokens)| *tokens <= IMAGE_TOKENS));
    }
}
