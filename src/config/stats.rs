//! `[stats]`: how usage is recorded and kept.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::duration::positive;
use super::reader::{Parsed, Section};
use super::scalar::{count, text};
use super::size::size;

/// How completion events are written and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSettings {
    /// The longest that an event waits before it is written; above zero.
    pub flush: Duration,
    /// Days that single events are kept; at least 1.
    pub retention_days: u32,
    /// The folder that keeps events while the store is away.
    pub spool: PathBuf,
    /// Bytes that the spool may grow to; at least 64 KiB.
    pub spool_max: usize,
}

/// Below this a spool holds seconds, not an outage. Chosen: some 150 events.
const SPOOL_MAX_LEAST: usize = 64 << 10;

pub(super) fn read(section: &mut Section<'_>) -> Option<StatsSettings> {
    let flush = section.required("flush", positive);
    let retention_days = section.required("retention_days", count);
    let spool = section.required("spool", text);
    let spool_max = section.required("spool_max", spool_size);
    Some(StatsSettings {
        flush: flush?,
        retention_days: retention_days?,
        spool: spool?.into(),
        spool_max: spool_max?,
    })
}

fn spool_size(value: &Value) -> Parsed<usize> {
    match size(value)? {
        too_small if too_small < SPOOL_MAX_LEAST => Err("expected at least \"64KiB\"".into()),
        enough => Ok(enough),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_without_room_is_refused() {
        assert_eq!(spool_size(&Value::String("64KiB".to_owned())), Ok(SPOOL_MAX_LEAST));
        assert!(spool_size(&Value::Integer(65_535)).is_err());
        assert!(spool_size(&Value::String("lots".to_owned())).is_err());
    }
}
