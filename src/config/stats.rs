//! `[stats]`: how usage is recorded and kept.

use std::time::Duration;

use super::duration::positive;
use super::reader::Section;
use super::scalar::count;

/// How completion events are written and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSettings {
    /// The longest that an event waits before it is written; above zero.
    pub flush: Duration,
    /// Days that single events are kept; at least 1.
    pub retention_days: u32,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<StatsSettings> {
    let flush = section.required("flush", positive);
    let retention_days = section.required("retention_days", count);
    Some(StatsSettings { flush: flush?, retention_days: retention_days? })
}
