//! How many tokens an input may be, without its tokenizer: an upper edge, not the expected value.
//!
//! What the estimate takes too much is given back when upstream reports the real count; what it takes too little is
//! debt. The costs below aim at the less thrifty of the vocabularies in use (100,000 to 130,000 entries, trained
//! mostly on English), so a larger vocabulary finds fewer tokens, and a text of random letters may be more.

/// Tokens that a chat template puts around one message, whatever its text.
/// Chosen: start, role, separator and end make four or five in `ChatML` and Llama 3; the rest covers the start of
/// the text and of the answer, which even a single message pays.
pub const MESSAGE_OVERHEAD_TOKENS: u64 = 8;

/// Tokens of one image whose size is not known.
/// Chosen: patches of 14 pixels over 560 × 560 make 1,600; pictures that are billed in tiles stay below it up to
/// about a megapixel.
pub const IMAGE_TOKENS: u64 = 1_600;

/// Costs are counted in twelfths of a token, which halves, thirds and quarters divide.
const TOKEN: u64 = 12;

/// Letters of a word that one token covers. Chosen: nearly every English word that short is one entry.
const COMMON_WORD_LETTERS: u32 = 4;

/// From here on letters cost half a token: longer runs are compounds, identifiers and encoded bytes, of which
/// vocabularies hold only scraps of two or three letters.
const LONG_WORD_LETTERS: u32 = 16;

/// The upper edge of the tokens of `text_bytes`, without any template around it.
///
/// One pass, no allocation, a few branches per byte. A lone blank costs nothing: it is part of what follows.
pub fn input_tokens(text_bytes: &str) -> u64 {
    let mut run = Run { class: Class::Space, byte: 0, length: 0 };
    let twelfths = text_bytes.bytes().fold(0_u64, |sum, byte| sum.saturating_add(run.step(byte)));
    twelfths.div_ceil(TOKEN)
}

/// What a byte is to a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    /// The blank, which is part of the word after it.
    Space,
    /// Line ends, tabs and other control bytes.
    Break,
    Mark,
    /// The first byte of a character outside ASCII.
    Lead,
    /// A further byte of one.
    Tail,
}

/// Bytes of one kind in a row.
struct Run {
    class: Class,
    byte: u8,
    length: u32,
}

impl Run {
    /// Goes on to the next byte and returns its cost in twelfths of a token.
    fn step(&mut self, byte: u8) -> u64 {
        let class = class_of(byte);
        let before = std::mem::replace(self, Self { class, byte, length: 1 });
        match class {
            Class::Lower => self.lower_cost(&before),
            Class::Upper => self.upper_cost(&before),
            // Many vocabularies have no entry longer than one digit, by design.
            Class::Digit => TOKEN,
            Class::Space => self.repeated_cost(&before, 0, TOKEN / 12),
            Class::Break => self.repeated_cost(&before, TOKEN, TOKEN / 2),
            Class::Mark => self.repeated_cost(&before, TOKEN, TOKEN / 4),
            Class::Lead => lead_cost(byte),
            Class::Tail => tail_cost(before, byte),
        }
    }

    /// A small letter goes on with the word, capitalised or not.
    fn lower_cost(&mut self, before: &Self) -> u64 {
        if !matches!(before.class, Class::Lower | Class::Upper) {
            return TOKEN;
        }
        self.length = before.length.saturating_add(1);
        if self.length <= COMMON_WORD_LETTERS {
            0
        } else if self.length <= LONG_WORD_LETTERS {
            TOKEN / 3
        } else {
            TOKEN / 2
        }
    }

    /// A capital starts a word, also inside one; words all in capitals are rarely entries.
    fn upper_cost(&mut self, before: &Self) -> u64 {
        if before.class != Class::Upper {
            return TOKEN;
        }
        self.length = before.length.saturating_add(1);
        TOKEN / 2
    }

    /// The same byte again merges into one token, up to a length: rules, indentation, empty lines.
    fn repeated_cost(&mut self, before: &Self, first: u64, further: u64) -> u64 {
        if before.byte != self.byte {
            return first;
        }
        self.length = before.length.saturating_add(1);
        // A second blank is a token of its own, as the last one still belongs to the word.
        if self.class == Class::Space && self.length == 2 { TOKEN } else { further }
    }
}

fn class_of(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' => Class::Lower,
        b'A'..=b'Z' => Class::Upper,
        b'0'..=b'9' => Class::Digit,
        b' ' => Class::Space,
        0..=0x1f | 0x7f => Class::Break,
        b'!'..=b'~' => Class::Mark,
        0x80..=0xbf => Class::Tail,
        0xc0..=0xff => Class::Lead,
    }
}

/// The cost of a character outside ASCII, as far as its first byte tells; [`tail_cost`] adds the rest.
fn lead_cost(lead: u8) -> u64 {
    match lead {
        // Cyrillic: two letters a token where it is well covered, Ukrainian and capitals less.
        0xd0..=0xd3 => TOKEN * 7 / 12,
        // Latin with marks, phonetic signs, Greek; Hebrew and Arabic: about a letter a token.
        0xc0..=0xcf | 0xd6..=0xdb => TOKEN,
        // Armenian; Syriac, Thaana, N'Ko: a token for each byte.
        0xd4..=0xd5 | 0xdc..=0xdf => 2 * TOKEN,
        // Scripts of India and Thailand; punctuation and signs; see the second byte.
        0xe0 | 0xe2 => TOKEN,
        // Georgian, Ethiopic, Khmer, Mongolian; Vietnamese vowels with two marks.
        0xe1 => 2 * TOKEN,
        // Kana and CJK punctuation; full-width forms.
        0xe3 | 0xef => TOKEN,
        // Han: common characters are an entry, the others two or three.
        0xe4..=0xe9 => TOKEN * 5 / 4,
        // Hangul syllables; entries for half of those in use.
        0xea..=0xed => TOKEN * 3 / 2,
        // Private use.
        0xee => 2 * TOKEN,
        // Emoji, mathematical letters, rare Han: two or three tokens for four bytes.
        _ => 3 * TOKEN,
    }
}

/// What the second byte of a character adds to [`lead_cost`], where the first one tells too little.
fn tail_cost(before: Run, tail: u8) -> u64 {
    match (before.byte, tail) {
        // Thai letters are entries; Devanagari, Tamil, Lao … take two tokens a letter.
        (0xe0, 0xb8..=0xb9) => 0,
        (0xe0, _) => TOKEN,
        // Dashes and quotes are entries; arrows, boxes and mathematical signs take two tokens.
        (0xe2, 0x80) => 0,
        (0xe2, _) => TOKEN,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts are set by hand, from the letters that a token of a 100,000-entry vocabulary covers on average:
    /// about four in English, three in German, two and a half in Russian, one in Chinese and Korean.
    #[test]
    fn the_estimate_lies_above_usual_counts_but_not_far() {
        let cases = [
            ("Hello, world!", 4),
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("Please summarise the following article in three sentences.", 10),
            ("Die Geschwindigkeitsbegrenzung gilt auch auf dieser Landstraße.", 16),
            ("Съешь же ещё этих мягких французских булок", 20),
            ("こんにちは世界", 4),
            ("请把下面的文章翻译成英文", 12),
            ("안녕하세요 세계", 8),
            ("3.14159", 4),
            ("{\"role\":\"user\",\"content\":\"hi\"}", 10),
            ("🙂🙂🙂", 6),
        ];
        for (text, usual) in cases {
            let estimate = input_tokens(text);
            assert!(estimate >= usual, "{text:?}: {estimate} is below {usual}");
            assert!(estimate <= usual * 2 + 4, "{text:?}: {estimate} is far above {usual}");
        }
    }

    #[test]
    fn nothing_costs_nothing_and_anything_at_least_one() {
        assert_eq!(input_tokens(""), 0);
        for text in ["a", "A", "7", "\n", ".", "é", "ж", "ก", "字", "글", "🙂"] {
            assert!(input_tokens(text) >= 1, "{text:?}");
        }
    }

    #[test]
    fn prose_costs_about_what_its_words_do() {
        let text = "and then the cat sat down on the mat with a big red hat ".repeat(100);
        assert_eq!(input_tokens(&text), 1_400);
    }

    #[test]
    fn indentation_and_rules_merge() {
        assert!(input_tokens(&" ".repeat(120)) <= 12);
        assert!(input_tokens(&"-".repeat(80)) <= 21);
    }

    #[test]
    fn scripts_are_told_apart_by_the_second_byte_where_needed() {
        assert_eq!(input_tokens("กก"), 2);
        assert_eq!(input_tokens("कक"), 4);
        assert_eq!(input_tokens("——"), 2);
        assert_eq!(input_tokens("→→"), 4);
    }

    #[test]
    fn encoded_bytes_cost_at_least_half_a_token_each() {
        let encoded = "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4";
        assert!(input_tokens(encoded) * 2 >= encoded.len() as u64);
    }
}
