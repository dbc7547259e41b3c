//! Where a provider differs from OpenAI's request format, as named switches.

use toml::Value;

use crate::domain::provider::{Quirks, StreamUsage};

use super::reader::{Parsed, Section};
use super::scalar::{choice, texts};

const STREAM_USAGES: [(&str, StreamUsage); 3] =
    [("asked", StreamUsage::Asked), ("unasked", StreamUsage::Unasked), ("absent", StreamUsage::Absent)];

pub(super) fn read(section: &mut Section<'_>) -> Option<Quirks> {
    let drop_fields = section.or("drop_fields", Vec::new(), texts);
    let rename_fields = section.or("rename_fields", Vec::new(), renames);
    let allow_fields = section.or("allow_fields", Vec::new(), texts);
    let stream_usage = section.or("stream_usage", StreamUsage::Asked, choice(&STREAM_USAGES));
    Some(Quirks {
        drop_fields: drop_fields?,
        rename_fields: rename_fields?,
        allow_fields: allow_fields?,
        stream_usage: stream_usage?,
    })
}

fn renames(value: &Value) -> Parsed<Vec<(String, String)>> {
    let pairs = value.as_table().and_then(|table| {
        table.iter().map(|(from, to)| Some((from.clone(), to.as_str()?.to_owned()))).collect()
    });
    pairs.ok_or_else(|| "expected a table of names, for example { seed = \"random_seed\" }".into())
}
