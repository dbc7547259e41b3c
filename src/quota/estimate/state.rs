//! Where in a text a byte stands, as far as its cost depends on it.

use super::class::Class;
use super::piece::Piece;

/// What came before. The numbers in words are positions, so that a position is a state of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u8);

/// The letters of a word whose positions are told apart.
const WORD_LETTERS: u8 = 12;

impl State {
    pub(super) const COUNT: usize = 64;

    /// Nothing yet, or something that nothing joins.
    pub(super) const START: Self = Self(0);
    const BLANK: Self = Self(1);
    const BLANKS: Self = Self(2);
    const NEWLINE: Self = Self(3);
    const CONTROL: Self = Self(4);
    const MARK: Self = Self(5);
    const MARKS: Self = Self(6);
    /// Capitals in a row: one, more.
    const CAPITAL: Self = Self(7);
    const CAPITALS: Self = Self(8);
    /// The position in a group of three digits.
    const DIGIT_1: Self = Self(9);
    const DIGIT_2: Self = Self(10);
    const DIGIT_3: Self = Self(11);
    /// Digits right behind letters; letters behind those make it a run of encoded bytes.
    const NAME_DIGIT: Self = Self(12);
    /// Inside a run of letters and digits without order, as base64 and ids are.
    const ENCODED: Self = Self(13);
    const ENCODED_DIGIT: Self = Self(14);
    const ENCODED_UPPER: Self = Self(15);
    const ENCODED_JOINT: Self = Self(16);
    const GREEK: Self = Self(17);
    const CYRILLIC: Self = Self(18);
    const HEBREW: Self = Self(19);
    const ARABIC: Self = Self(20);
    const HAN: Self = Self(21);
    const KANA: Self = Self(22);
    const HANGUL: Self = Self(23);
    const EMOJI: Self = Self(24);
    const OTHER_LETTER: Self = Self(25);
    /// The first byte of a character has been seen, the second decides.
    const E0: Self = Self(26);
    const E1: Self = Self(27);
    const E2: Self = Self(28);
    const E3: Self = Self(29);
    const EF: Self = Self(30);
    const F0: Self = Self(31);
    const E2_IN_EMOJI: Self = Self(32);
    const F0_IN_EMOJI: Self = Self(33);
    const E3_IN_KANA: Self = Self(34);
    /// The first letter of a word; the following positions follow.
    const WORD: Self = Self(40);

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn at(index: u8) -> Self {
        Self(index)
    }

    const fn word_position(self) -> Option<u8> {
        if self.0 >= Self::WORD.0 && self.0 < Self::WORD.0 + WORD_LETTERS {
            Some(self.0 - Self::WORD.0 + 1)
        } else {
            None
        }
    }

    const fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    const fn is_mark(self) -> bool {
        self.is(Self::MARK) || self.is(Self::MARKS)
    }

    const fn is_encoded(self) -> bool {
        self.0 >= Self::ENCODED.0 && self.0 <= Self::ENCODED_JOINT.0
    }

    const fn is_capital(self) -> bool {
        self.is(Self::CAPITAL) || self.is(Self::CAPITALS)
    }

    /// What a byte of `class` after this state is, and the state after it.
    pub(super) const fn step(self, class: Class) -> (Self, Piece) {
        match class {
            Class::Lower => self.lower(),
            Class::Upper => self.upper(),
            Class::Digit => self.digit(),
            Class::Blank => self.blank(),
            Class::Newline => self.newline(),
            Class::Control => (Self::CONTROL, Piece::Control),
            Class::Joint if self.is_encoded() => (Self::ENCODED_JOINT, Piece::EncodedMark),
            Class::Joint | Class::Mark => self.mark(),
            Class::Latin => match self.word_position() {
                Some(_) => (self, Piece::Accent),
                None => (Self::WORD, Piece::AccentFirst),
            },
            Class::Greek => self.alphabet(Self::GREEK, Piece::GreekFirst, Piece::Greek),
            Class::Cyrillic => self.alphabet(Self::CYRILLIC, Piece::CyrillicFirst, Piece::Cyrillic),
            Class::Hebrew => self.alphabet(Self::HEBREW, Piece::HebrewFirst, Piece::Hebrew),
            Class::Arabic => self.alphabet(Self::ARABIC, Piece::ArabicFirst, Piece::Arabic),
            Class::Han => self.alphabet(Self::HAN, Piece::HanFirst, Piece::Han),
            Class::Hangul => self.alphabet(Self::HANGUL, Piece::HangulFirst, Piece::Hangul),
            Class::Rare => (Self::OTHER_LETTER, Piece::Rare),
            Class::LeadE0 => (Self::E0, Piece::None),
            Class::LeadE1 => (Self::E1, Piece::None),
            Class::LeadE2 if self.is(Self::EMOJI) => (Self::E2_IN_EMOJI, Piece::None),
            Class::LeadE2 => (Self::E2, Piece::None),
            Class::LeadE3 if self.is(Self::KANA) => (Self::E3_IN_KANA, Piece::None),
            Class::LeadE3 => (Self::E3, Piece::None),
            Class::LeadEf => (Self::EF, Piece::None),
            Class::LeadF0 if self.is(Self::EMOJI) => (Self::F0_IN_EMOJI, Piece::None),
            Class::LeadF0 => (Self::F0, Piece::None),
            tail => self.tail(tail),
        }
    }

    const fn lower(self) -> (Self, Piece) {
        if let Some(position) = self.word_position() {
            let next = if position < WORD_LETTERS { Self(self.0 + 1) } else { self };
            return (next, letter(position + 1));
        }
        if self.is_encoded() || self.is(Self::NAME_DIGIT) {
            let piece = if self.is(Self::ENCODED) { Piece::EncodedLower } else { Piece::EncodedTurn };
            return (Self::ENCODED, piece);
        }
        if self.is(Self::CAPITAL) {
            return (Self(Self::WORD.0 + 1), Piece::LetterTo4);
        }
        if self.is(Self::CAPITALS) {
            return (Self(Self::WORD.0 + 1), Piece::LowerAfterCapitals);
        }
        (Self::WORD, self.word_start())
    }

    const fn upper(self) -> (Self, Piece) {
        if self.is_encoded() || self.is(Self::NAME_DIGIT) {
            let piece = if self.is(Self::ENCODED_UPPER) { Piece::EncodedUpper } else { Piece::EncodedTurn };
            return (Self::ENCODED_UPPER, piece);
        }
        if self.is_capital() {
            return (Self::CAPITALS, Piece::Capital);
        }
        if self.word_position().is_some() {
            return (Self::CAPITAL, Piece::Hump);
        }
        (Self::CAPITAL, self.word_start())
    }

    const fn word_start(self) -> Piece {
        if self.is(Self::MARK) {
            Piece::WordAfterMark
        } else if self.is(Self::BLANK) {
            Piece::WordAfterBlank
        } else {
            Piece::Word
        }
    }

    const fn digit(self) -> (Self, Piece) {
        if self.is_encoded() {
            let piece =
                if self.is(Self::ENCODED_DIGIT) { Piece::EncodedDigit } else { Piece::EncodedDigitFirst };
            return (Self::ENCODED_DIGIT, piece);
        }
        if self.word_position().is_some() || self.is_capital() {
            return (Self::NAME_DIGIT, Piece::DigitAfterLetter);
        }
        match self {
            Self::DIGIT_1 => (Self::DIGIT_2, Piece::DigitMore),
            Self::DIGIT_2 => (Self::DIGIT_3, Piece::DigitMore),
            Self::BLANK => (Self::DIGIT_1, Piece::DigitAfterBlank),
            Self::NAME_DIGIT => (Self::NAME_DIGIT, Piece::DigitMore),
            _ => (Self::DIGIT_1, Piece::Digit),
        }
    }

    const fn blank(self) -> (Self, Piece) {
        match self {
            Self::BLANK => (Self::BLANKS, Piece::BlankSecond),
            Self::BLANKS => (Self::BLANKS, Piece::BlankMore),
            Self::NEWLINE => (Self::BLANK, Piece::BlankAfterNewline),
            _ => (Self::BLANK, Piece::Blank),
        }
    }

    const fn newline(self) -> (Self, Piece) {
        let piece = if self.is(Self::NEWLINE) {
            Piece::NewlineMore
        } else if self.is_mark() {
            Piece::NewlineAfterMark
        } else {
            Piece::Newline
        };
        (Self::NEWLINE, piece)
    }

    const fn mark(self) -> (Self, Piece) {
        if self.is_mark() {
            (Self::MARKS, Piece::MarkMore)
        } else if self.is(Self::BLANK) {
            (Self::MARK, Piece::MarkAfterBlank)
        } else {
            (Self::MARK, Piece::Mark)
        }
    }

    const fn alphabet(self, inside: Self, first: Piece, further: Piece) -> (Self, Piece) {
        (inside, if self.is(inside) { further } else { first })
    }

    const fn tail(self, class: Class) -> (Self, Piece) {
        match (self, class) {
            (Self::E0, Class::TailB9) => (Self::OTHER_LETTER, Piece::Thai),
            (Self::E0, _) => (Self::OTHER_LETTER, Piece::Indic),
            (Self::E1, Class::TailBb) => (Self::WORD, Piece::Vietnamese),
            (Self::E1, _) => (Self::OTHER_LETTER, Piece::Rare),
            (Self::E2, Class::Tail80) => (Self::MARK, Piece::Typography),
            (Self::E2_IN_EMOJI, Class::Tail80) => (Self::EMOJI, Piece::EmojiJoiner),
            (Self::E2, _) => (Self::EMOJI, Piece::Symbol),
            (Self::E2_IN_EMOJI, _) => (Self::EMOJI, Piece::Symbol),
            (Self::E3 | Self::E3_IN_KANA, Class::Tail80) => (Self::MARK, Piece::CjkMark),
            (Self::E3, Class::Tail81 | Class::Tail83) => (Self::KANA, Piece::KanaFirst),
            (Self::E3_IN_KANA, Class::Tail81 | Class::Tail83) => (Self::KANA, Piece::Kana),
            (Self::E3 | Self::E3_IN_KANA, _) => (Self::HAN, Piece::Rare),
            (Self::EF, Class::TailBf) => (Self::MARK, Piece::CjkMark),
            (Self::EF, Class::TailB9) => (Self::EMOJI, Piece::EmojiVariant),
            (Self::EF, _) => (Self::OTHER_LETTER, Piece::Rare),
            (Self::F0, _) => (Self::EMOJI, Piece::Emoji),
            (Self::F0_IN_EMOJI, _) => (Self::EMOJI, Piece::EmojiMore),
            _ => (self, Piece::None),
        }
    }
}

/// The letter at `position` of a word, from the second on.
const fn letter(position: u8) -> Piece {
    match position {
        0..=4 => Piece::LetterTo4,
        5..=7 => Piece::LetterTo7,
        8..=11 => Piece::LetterTo11,
        _ => Piece::LetterFrom12,
    }
}
