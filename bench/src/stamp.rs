//! The instant that the mock writes into an event, and the load client reads out of it.
//!
//! Both are processes of one machine, so the wall clock is the same for both; should it be stepped during a run,
//! that run shows it as absurd latencies.

use std::time::{SystemTime, UNIX_EPOCH};

/// Stands before a stamp. No other part of what the mock writes has this byte.
pub const MARK: u8 = b'@';

/// Digits of a stamp: nanoseconds since 1970 have nineteen from 2001 to 2286.
pub const DIGITS: usize = 19;

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes `stamp_ns` over the digits of `place`, which has room for [`DIGITS`] of them.
pub fn write(place: &mut [u8], stamp_ns: u64) {
    let mut rest = stamp_ns;
    for digit in place.iter_mut().rev() {
        // A remainder of ten fits a byte.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

/// The stamp of an event, in nanoseconds since 1970; `None` when it has none.
pub fn read(event: &[u8]) -> Option<u64> {
    let start = memchr::memchr(MARK, event)? + 1;
    let digits = event.get(start..start + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut event = *b"data: {\"content\":\"@0000000000000000000 word\"}\n\n";
        let stamp = now_ns();
        write(&mut event[19..19 + DIGITS], stamp);
        assert_eq!(read(&event), Some(stamp));
        assert_eq!(read(b"data: [DONE]\n\n"), None);
        assert_eq!(read(b"@12"), None);
    }
}
