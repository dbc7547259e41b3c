//! The pieces that a tokenizer's work is estimated by, and what each costs.

/// What a byte adds to the text, as far as the costs tell pieces apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A further byte of a character, or one whose first byte has said enough.
    None,
    /// The first letter of a word at the start of a line or after other signs.
    Word,
    WordAfterBlank,
    WordAfterMark,
    /// The second to fourth letter of a word.
    LetterTo4,
    LetterTo7,
    LetterTo11,
    LetterFrom12,
    LowerAfterCapitals,
    /// A capital inside a word.
    Hump,
    /// A capital after a capital.
    Capital,
    Digit,
    DigitAfterBlank,
    DigitAfterLetter,
    DigitMore,
    /// Runs of letters and digits without order: base64, ids, hashes.
    EncodedLower,
    EncodedUpper,
    /// The other kind of letter than before.
    EncodedTurn,
    EncodedDigitFirst,
    EncodedDigit,
    EncodedMark,
    /// A lone blank, which is part of the word after it in most vocabularies.
    Blank,
    /// Indentation.
    BlankSecond,
    BlankMore,
    BlankAfterNewline,
    Newline,
    NewlineAfterMark,
    NewlineMore,
    Control,
    Mark,
    MarkAfterBlank,
    MarkMore,
    /// Latin letters with marks.
    AccentFirst,
    Accent,
    Vietnamese,
    GreekFirst,
    Greek,
    CyrillicFirst,
    Cyrillic,
    HebrewFirst,
    Hebrew,
    ArabicFirst,
    Arabic,
    Thai,
    Indic,
    HanFirst,
    Han,
    KanaFirst,
    Kana,
    HangulFirst,
    Hangul,
    /// Full-width punctuation.
    CjkMark,
    /// Dashes and quotes outside ASCII.
    Typography,
    /// Arrows, boxes, mathematical and other signs.
    Symbol,
    Emoji,
    EmojiMore,
    EmojiJoiner,
    /// Selects the coloured form of the sign before it.
    EmojiVariant,
    /// Characters that no vocabulary covers well.
    Rare,
}

/// What a piece costs on average, in hundredths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) large: u32,
    pub(super) small: u32,
}

impl Piece {
    /// Fitted: the non-negative least squares of the relative errors over 900 texts in 24 languages and formats
    /// (documentation, translated messages, sources, generated JSON and base64), counted by `o200k` and by `SmolLM2`'s
    /// tokenizer, on 2026-11-23. Bounded where the texts say too little: runs of one sign are never free, a word after
    /// a blank is nearly a token, what no text holds costs what its bytes do.
    /// Neighbouring costs share a word's price by the fit's choice: only sums have a meaning.
    /// The texts that the tests measure the error on were not among them.
    pub(super) const fn cost(self) -> Cost {
        let (large, small) = match self {
            Self::None => (0, 0),
            Self::Word => (58, 193),
            Self::WordAfterBlank => (88, 20),
            Self::WordAfterMark => (8, 124),
            Self::LetterTo4 => (0, 0),
            Self::LetterTo7 => (9, 0),
            Self::LetterTo11 => (15, 46),
            Self::LetterFrom12 => (50, 50),
            Self::LowerAfterCapitals => (59, 22),
            Self::Hump => (97, 103),
            Self::Capital => (12, 78),
            Self::Digit => (73, 229),
            Self::DigitAfterBlank => (200, 36),
            Self::DigitAfterLetter => (96, 93),
            Self::DigitMore => (29, 24),
            Self::EncodedLower => (39, 30),
            Self::EncodedUpper => (50, 76),
            Self::EncodedTurn => (73, 77),
            Self::EncodedDigitFirst => (113, 153),
            Self::EncodedDigit => (20, 80),
            Self::EncodedMark => (98, 126),
            Self::Blank => (0, 70),
            Self::BlankSecond => (63, 0),
            Self::BlankMore => (1, 2),
            Self::BlankAfterNewline => (14, 0),
            Self::Newline => (129, 152),
            Self::NewlineAfterMark => (2, 147),
            Self::NewlineMore => (6, 25),
            Self::Control => (41, 57),
            Self::Mark => (124, 62),
            Self::MarkAfterBlank => (127, 32),
            Self::MarkMore => (9, 6),
            Self::AccentFirst => (0, 638),
            Self::Accent => (154, 250),
            Self::Vietnamese => (0, 124),
            Self::GreekFirst => (86, 68),
            Self::Greek => (30, 91),
            Self::CyrillicFirst => (135, 186),
            Self::Cyrillic => (8, 56),
            Self::HebrewFirst => (59, 122),
            Self::Hebrew => (41, 115),
            Self::ArabicFirst => (84, 236),
            Self::Arabic => (19, 64),
            Self::Thai => (38, 189),
            Self::Indic => (38, 122),
            Self::HanFirst => (101, 176),
            Self::Han => (60, 162),
            Self::KanaFirst => (92, 114),
            Self::Kana => (50, 190),
            Self::HangulFirst => (92, 223),
            Self::Hangul => (53, 275),
            Self::CjkMark => (130, 147),
            Self::Typography => (106, 159),
            Self::Symbol => (112, 204),
            Self::Emoji => (221, 218),
            Self::EmojiMore => (183, 297),
            Self::EmojiJoiner => (153, 200),
            Self::EmojiVariant => (76, 162),
            Self::Rare => (150, 260),
        };
        Cost { large, small }
    }
}
