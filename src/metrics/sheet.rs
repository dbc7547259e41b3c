//! What is read when somebody asks.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::Family;

/// The state of the rooms at one instant, as families of metrics.
#[derive(Default)]
pub struct Sheet {
    families: Vec<MetricFamily>,
}

impl Sheet {
    /// Adds what goes up and down: each series by the values of its labels, in the family's order.
    pub fn gauges<'a, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        let metrics = series.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_gauge(gauge);
            metric.set_label(pairs(family, &labels));
            metric
        });
        self.add(family, MetricType::GAUGE, metrics.collect());
    }

    /// The same for what only grows.
    pub fn counters<'a, const N: usize>(
        &mut self,
        family: &Family,
        series: impl IntoIterator<Item = ([&'a str; N], u64)>,
    ) {
        let metrics = series.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            // Exact up to 2^53.
            counter.set_value(value as f64);
            let mut metric = Metric::from_label(pairs(family, &labels));
            metric.set_counter(counter);
            metric
        });
        self.add(family, MetricType::COUNTER, metrics.collect());
    }

    pub(super) fn into_families(self) -> Vec<MetricFamily> {
        self.families
    }

    fn add(&mut self, family: &Family, kind: MetricType, metrics: Vec<Metric>) {
        // The format has no family without a series.
        if metrics.is_empty() {
            return;
        }
        let mut added = MetricFamily::default();
        added.set_name(family.name.to_owned());
        added.set_help(family.help.to_owned());
        added.set_field_type(kind);
        added.set_metric(metrics);
        self.families.push(added);
    }
}

fn pairs(family: &Family, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}
