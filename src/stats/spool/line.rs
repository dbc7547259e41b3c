//! How an event stands in a segment; pure.
//!
//! One line each: 16 hex digits of checksum, a space, the event as JSON, a newline. JSON writes a newline inside a
//! text as `\n`, so that the next newline is always the next record: damage stays where it is. (Records that say
//! their length in front lose everything behind a damaged length.)

use std::sync::Arc;

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::domain::clock::Moment;
use crate::domain::ids::{EventId, KeyId, ProviderId, RequestId, TenantId};
use crate::domain::usage::{Outcome, ServedBy, Usage, UsageRecord};

/// Hex digits of the checksum: the first 8 bytes of SHA-256. It finds accidents, not forgery; a CRC would do, and
/// SHA-256 is what we have (half a microsecond an event, only while the store is away).
const CHECKSUM_DIGITS: usize = 16;

/// The members of [`UsageRecord`] under names that never change: a newer release reads what an older one left.
#[derive(Serialize, Deserialize)]
struct Line {
    event_id: String,
    request_id: String,
    tenant: i64,
    key: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    outcome: String,
    streamed: bool,
    attempts: u32,
    input_tokens: u64,
    output_tokens: u64,
    usage_reported: bool,
    started_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<i64>,
    ended_us: i64,
}

/// What a segment holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    /// In the order of their writing.
    pub(super) records: Vec<UsageRecord>,
    /// Lines that say something else than what was written, or that only another release understands.
    pub(super) damaged: u64,
}

/// The line of `record`, its newline included.
pub(super) fn encode(record: &UsageRecord) -> Vec<u8> {
    let json = serde_json::to_string(&Line::from(record)).unwrap_or_default();
    format!("{} {json}\n", checksum(json.as_bytes())).into_bytes()
}

/// All whole lines of a segment; what stands behind the last newline is a record that was never finished.
pub(super) fn decode(segment: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let (whole, _torn) = segment.split_at(whole_bytes(segment));
    for line in whole.split_inclusive(|byte| *byte == b'\n') {
        match decode_line(line) {
            Some(record) => decoded.records.push(record),
            None => decoded.damaged += 1,
        }
    }
    decoded
}

/// How many bytes of a segment are whole lines.
pub(super) fn whole_bytes(segment: &[u8]) -> usize {
    memchr::memrchr(b'\n', segment).map_or(0, |newline| newline + 1)
}

/// How many lines a segment has.
pub(super) fn lines(segment: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', segment).count() as u64
}

fn decode_line(line: &[u8]) -> Option<UsageRecord> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    if sum != checksum(json).as_bytes() {
        return None;
    }
    serde_json::from_slice::<Line>(json).ok()?.into_record()
}

fn checksum(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().take(CHECKSUM_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

impl From<&UsageRecord> for Line {
    fn from(record: &UsageRecord) -> Self {
        let served_by = record.served_by.as_ref();
        Self {
            event_id: format!("{:032x}", u128::from_be_bytes(*record.event_id.as_bytes())),
            request_id: record.request_id.as_str().to_owned(),
            tenant: record.tenant.0,
            key: record.key.0,
            provider: served_by.map(|served_by| served_by.provider.as_str().to_owned()),
            model: served_by.map(|served_by| served_by.model.as_ref().to_owned()),
            outcome: record.outcome.as_str().to_owned(),
            streamed: record.streamed,
            attempts: record.attempts,
            input_tokens: record.usage.input_tokens,
            output_tokens: record.usage.output_tokens,
            usage_reported: record.usage_reported,
            started_us: record.started_at.unix_micros(),
            first_byte_us: record.first_byte_at.map(Moment::unix_micros),
            ended_us: record.ended_at.unix_micros(),
        }
    }
}

impl Line {
    /// `None` when a newer release wrote an outcome that this one does not know.
    fn into_record(self) -> Option<UsageRecord> {
        let served_by = self.provider.zip(self.model);
        Some(UsageRecord {
            event_id: EventId::from_bytes(u128::from_str_radix(&self.event_id, 16).ok()?.to_be_bytes()),
            request_id: RequestId::from_incoming(Some(&self.request_id)),
            tenant: TenantId(self.tenant),
            key: KeyId(self.key),
            served_by: served_by.map(|(provider, model)| ServedBy {
                provider: ProviderId::new(&provider),
                model: Arc::from(model),
            }),
            outcome: Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == self.outcome)?,
            streamed: self.streamed,
            attempts: self.attempts,
            usage: Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens },
            usage_reported: self.usage_reported,
            started_at: Moment::from_unix_micros(self.started_us),
            first_byte_at: self.first_byte_us.map(Moment::from_unix_micros),
            ended_at: Moment::from_unix_micros(self.ended_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn record()(
            event_id in any::<[u8; 16]>(),
            request_id in "[!-~]{1,128}",
            caller in any::<(i64, i64)>(),
            served_by in proptest::option::of(("[a-z0-9-]{1,20}", "\\PC{0,40}")),
            outcome in 0..Outcome::ALL.len(),
            flags in any::<(bool, bool)>(),
            attempts in any::<u32>(),
            tokens in any::<(u64, u64)>(),
            moments in any::<(i64, Option<i64>, i64)>(),
        ) -> UsageRecord {
            UsageRecord {
                event_id: EventId::from_bytes(event_id),
                request_id: RequestId::from_incoming(Some(&request_id)),
                tenant: TenantId(caller.0),
                key: KeyId(caller.1),
                served_by: served_by.map(|(provider, model)| ServedBy {
                    provider: ProviderId::new(&provider),
                    model: model.into(),
                }),
                outcome: Outcome::ALL[outcome],
                streamed: flags.0,
                attempts,
                usage: Usage { input_tokens: tokens.0, output_tokens: tokens.1 },
                usage_reported: flags.1,
                started_at: Moment::from_unix_micros(moments.0),
                first_byte_at: moments.1.map(Moment::from_unix_micros),
                ended_at: Moment::from_unix_micros(moments.2),
            }
        }
    }

    fn segment(records: &[UsageRecord]) -> Vec<u8> {
        records.iter().flat_map(encode).collect()
    }

    /// Every release must read what this one writes: never change this text, add another.
    #[test]
    fn the_format_is_this() {
        let record = UsageRecord {
            event_id: EventId::from_bytes(1_u128.to_be_bytes()),
            request_id: RequestId::from_incoming(Some("r-1")),
            tenant: TenantId(1),
            key: KeyId(2),
            served_by: Some(ServedBy { provider: ProviderId::new("groq"), model: "a \"b\"\n".into() }),
            outcome: Outcome::Served,
            streamed: true,
            attempts: 1,
            usage: Usage { input_tokens: 9, output_tokens: 3 },
            usage_reported: true,
            started_at: Moment::from_unix_micros(10),
            first_byte_at: Some(Moment::from_unix_micros(11)),
            ended_at: Moment::from_unix_micros(12),
        };
        let expected = concat!(
            "20ac77b58035e5c5 ",
            r#"{"event_id":"00000000000000000000000000000001","request_id":"r-1","tenant":1,"key":2,"#,
            r#""provider":"groq","model":"a \"b\"\n","outcome":"served","streamed":true,"attempts":1,"#,
            r#""input_tokens":9,"output_tokens":3,"usage_reported":true,"started_us":10,"#,
            r#""first_byte_us":11,"ended_us":12}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(encode(&record)).unwrap(), expected);
        assert_eq!(decode(expected.as_bytes()).records, [record]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in proptest::collection::vec(record(), 0..20)) {
            let bytes = segment(&records);
            prop_assert_eq!(lines(&bytes), records.len() as u64);
            prop_assert_eq!(whole_bytes(&bytes), bytes.len());
            prop_assert_eq!(decode(&bytes), Decoded { records, damaged: 0 });
        }

        #[test]
        fn any_cut_loses_only_the_record_that_it_cuts(
            records in proptest::collection::vec(record(), 1..10),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = segment(&records);
            let cut = &bytes[..cut.index(bytes.len() + 1)];
            let whole = lines(cut) as usize;
            let decoded = decode(cut);
            prop_assert_eq!(decoded.damaged, 0);
            prop_assert_eq!(&decoded.records[..], &records[..whole]);
            prop_assert_eq!(decode(&cut[..whole_bytes(cut)]), decoded);
        }

        #[test]
        fn a_damaged_byte_loses_only_its_record_or_two_and_invents_none(
            records in proptest::collection::vec(record(), 1..10),
            place in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut bytes = segment(&records);
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            let decoded = decode(&bytes);
            // Two where the newline between them is gone.
            prop_assert!(decoded.records.len() + 2 >= records.len());
            prop_assert!(decoded.records.len() < records.len());
            prop_assert!(decoded.records.iter().all(|record| records.contains(record)));
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in any::<Vec<u8>>()) {
            prop_assert!(decode(&bytes).records.is_empty());
        }
    }
}
