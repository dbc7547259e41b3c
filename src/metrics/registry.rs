//! The one registry of a process.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use thiserror::Error;

use super::provider::{ProviderFamilies, ProviderMetrics};
use super::requests::Requests;
use super::sheet::Sheet;
use crate::domain::provider::ProviderSpec;
use crate::telemetry::Family;

/// A bug of ours: a name that is taken or not fit, or a series without its labels.
#[derive(Debug, Error)]
#[error("the metrics are inconsistent")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything that is counted in one process.
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    providers: ProviderFamilies,
}

impl Metrics {
    /// # Errors
    /// [`MetricsError`].
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let requests = Arc::new(Requests::new(&registry)?);
        let providers = ProviderFamilies::new(&registry)?;
        Ok(Self { registry, requests, providers })
    }

    /// What the requests of all workers count in.
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// What the attempts at that provider count in.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn provider(&self, spec: &ProviderSpec) -> Result<ProviderMetrics, MetricsError> {
        Ok(self.providers.of(spec)?)
    }

    /// Everything in Prometheus's text format 0.0.4, together with what `sheet` has. Takes time that grows with the
    /// number of series: not for an arbiter's thread.
    ///
    /// # Errors
    /// [`MetricsError`].
    pub fn text(&self, sheet: Sheet) -> Result<String, MetricsError> {
        let mut families = self.registry.gather();
        families.extend(sheet.into_families());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(TextEncoder::new().encode_to_string(&families)?)
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn counters(registry: &Registry, family: &Family) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(family.name, family.help), family.labels)?)
}

pub(super) fn histograms(
    registry: &Registry,
    family: &Family,
    buckets: &[f64],
) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(options, family.labels)?)
}

pub(super) fn histogram(
    registry: &Registry,
    family: &Family,
    buckets: &[f64],
) -> prometheus::Result<Histogram> {
    histograms(registry, family, buckets)?.get_metric_with_label_values::<&str>(&[])
}
