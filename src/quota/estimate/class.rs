//! What a byte is to a tokenizer.

/// A byte's kind. The bytes after the first of a character are told apart only where a script needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    Lower,
    Upper,
    Digit,
    Blank,
    Newline,
    /// Tabs, carriage returns and other control bytes.
    Control,
    /// Marks that encoded bytes and identifiers contain: `+ - / = _`.
    Joint,
    /// The other ASCII marks.
    Mark,
    /// Further bytes of a character, in the ranges that tell scripts apart.
    Tail80,
    Tail81,
    Tail83,
    TailB7,
    TailB9,
    TailBb,
    TailBf,
    /// First bytes of two.
    Latin,
    Greek,
    Cyrillic,
    Hebrew,
    Arabic,
    Rare,
    /// First bytes of three whose script the second byte tells.
    LeadE0,
    LeadE1,
    LeadE2,
    LeadE3,
    LeadEf,
    /// First bytes of three that tell enough.
    Han,
    Hangul,
    /// The first byte of four.
    LeadF0,
}

impl Class {
    pub(super) const COUNT: usize = Self::LeadF0 as usize + 1;

    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Lower,
        Self::Upper,
        Self::Digit,
        Self::Blank,
        Self::Newline,
        Self::Control,
        Self::Joint,
        Self::Mark,
        Self::Tail80,
        Self::Tail81,
        Self::Tail83,
        Self::TailB7,
        Self::TailB9,
        Self::TailBb,
        Self::TailBf,
        Self::Latin,
        Self::Greek,
        Self::Cyrillic,
        Self::Hebrew,
        Self::Arabic,
        Self::Rare,
        Self::LeadE0,
        Self::LeadE1,
        Self::LeadE2,
        Self::LeadE3,
        Self::LeadEf,
        Self::Han,
        Self::Hangul,
        Self::LeadF0,
    ];

    pub(super) const fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' => Self::Lower,
            b'A'..=b'Z' => Self::Upper,
            b'0'..=b'9' => Self::Digit,
            b' ' => Self::Blank,
            b'\n' => Self::Newline,
            0..=0x1f | 0x7f => Self::Control,
            b'+' | b'-' | b'/' | b'=' | b'_' => Self::Joint,
            b'!'..=b'~' => Self::Mark,
            0x80 => Self::Tail80,
            0x81 => Self::Tail81,
            0x82..=0x83 => Self::Tail83,
            0x84..=0xb7 => Self::TailB7,
            0xb8..=0xb9 => Self::TailB9,
            0xba..=0xbb => Self::TailBb,
            0xbc..=0xbf => Self::TailBf,
            0xc0..=0xcb => Self::Latin,
            0xcc..=0xcd | 0xd4..=0xd5 | 0xdc..=0xdf | 0xee => Self::Rare,
            0xce..=0xcf => Self::Greek,
            0xd0..=0xd3 => Self::Cyrillic,
            0xd6..=0xd7 => Self::Hebrew,
            0xd8..=0xdb => Self::Arabic,
            0xe0 => Self::LeadE0,
            0xe1 => Self::LeadE1,
            0xe2 => Self::LeadE2,
            0xe3 => Self::LeadE3,
            0xe4..=0xe9 => Self::Han,
            0xea..=0xed => Self::Hangul,
            0xef => Self::LeadEf,
            0xf0..=0xff => Self::LeadF0,
        }
    }
}
