//! What `/metrics` reads when somebody asks: the snapshots of the rooms.
//!
//! The statistics' actor is asked with a message; everything else is read on the blocking pool, under the rooms' own
//! short locks, because the text of a large configuration takes longer than a worker may be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::timeout;

use crate::access::Gate;
use crate::api::Permits;
use crate::dispatcher::WaitRoom;
use crate::domain::clock::{Moment, SharedClock};
use crate::domain::cooldown::CooldownReason;
use crate::domain::ids::ProviderId;
use crate::domain::panics::Panics;
use crate::domain::provider::ProviderSpec;
use crate::ledger::shared::{SharedLedger, SharedLedgerStatus};
use crate::metrics::{Metrics, MetricsError, Sheet};
use crate::provider::{Glance, ProviderShared};
use crate::quota::{Left, Term, Terms};
use crate::stats::{ObserveStats, StatsHandle, StatsSnapshot};
use crate::telemetry;

/// How long the statistics' actor may take to answer. Without an answer its families are left out.
const STATS_PATIENCE: Duration = Duration::from_secs(1);

const BREAKER_STATES: [&str; 3] = ["closed", "open", "half_open"];

/// Whom to ask.
pub(super) struct Sources {
    pub(super) metrics: Arc<Metrics>,
    /// Those that can be asked for answers.
    pub(super) providers: Vec<Observed>,
    pub(super) permits: Permits,
    pub(super) permits_max: usize,
    pub(super) wait_room: WaitRoom,
    pub(super) panics: Panics,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: SharedClock,
    pub(super) stats: StatsHandle,
    /// On Postgres.
    pub(super) shared_ledger: Option<Arc<SharedLedger>>,
    pub(super) started_at: Moment,
}

/// A provider that is looked at.
pub(super) struct Observed {
    id: ProviderId,
    /// In the order in which a glance tells them.
    limits: Vec<LimitName>,
    shared: Arc<ProviderShared>,
}

/// What names a limit of a provider.
struct LimitName {
    scope: String,
    unit: &'static str,
    window: String,
}

impl Observed {
    pub(super) fn new(spec: &ProviderSpec, shared: Arc<ProviderShared>) -> Self {
        let limit = |term: Term<'_>| LimitName {
            scope: term.scope().to_owned(),
            unit: term.unit().amounts(),
            window: term.window().to_string(),
        };
        Self { id: spec.id.clone(), limits: Terms::new(spec).all().map(limit).collect(), shared }
    }
}

impl LimitName {
    fn labels<'a>(&'a self, provider: &'a ProviderId) -> [&'a str; 4] {
        [provider.as_str(), &self.scope, self.unit, &self.window]
    }
}

impl Sources {
    /// Everything, as text. Cancel-safe.
    pub(super) async fn read(self: Arc<Self>) -> Result<String, MetricsError> {
        let stats = timeout(STATS_PATIENCE, self.stats.send(ObserveStats)).await.ok().and_then(Result::ok);
        let read = actix_web::rt::task::spawn_blocking(move || self.text(stats.as_ref()));
        // It does not panic, and the pool outlives the workers.
        read.await.unwrap_or_else(|_| Ok(String::new()))
    }

    fn text(&self, stats: Option<&StatsSnapshot>) -> Result<String, MetricsError> {
        let mut sheet = Sheet::default();
        self.process(&mut sheet);
        self.queue(&mut sheet);
        if let Some(stats) = stats {
            statistics(&mut sheet, stats);
        }
        let glances = self.providers.iter().map(|provider| (provider, provider.shared.glance()));
        let glances: Vec<_> = glances.collect();
        providers(&mut sheet, &glances);
        remaining(&mut sheet, &glances);
        if let Some(ledger) = &self.shared_ledger {
            shared_ledger(&mut sheet, &ledger.snapshot());
        }
        self.metrics.text(sheet)
    }

    fn process(&self, sheet: &mut Sheet) {
        sheet.gauges(&telemetry::BUILD_INFO, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        let started_at = self.started_at.saturating_since(Moment::default());
        sheet.gauges(&telemetry::START_TIME, [([], started_at.as_secs_f64())]);
        sheet.gauges(&telemetry::IN_FLIGHT, [([], self.permits.in_flight() as f64)]);
        sheet.gauges(&telemetry::IN_FLIGHT_MAX, [([], self.permits_max as f64)]);
        let keys_age = self.gate.staleness(self.clock.now());
        sheet.gauges(&telemetry::KEYS_AGE, [([], keys_age.as_secs_f64())]);
        sheet.counters(&telemetry::PANICS, [([], self.panics.count())]);
    }

    /// Those who wait for capacity, whoever keeps them.
    fn queue(&self, sheet: &mut Sheet) {
        sheet.gauges(&telemetry::QUEUE_DEPTH, [([], self.wait_room.waiting() as f64)]);
    }
}

fn statistics(sheet: &mut Sheet, stats: &StatsSnapshot) {
    sheet.counters(&telemetry::EVENTS_WRITTEN, [([], stats.written)]);
    sheet.counters(&telemetry::EVENTS_LOST, [([], stats.lost)]);
    sheet.gauges(&telemetry::EVENTS_WAITING, [([], (stats.waiting + stats.being_written) as f64)]);
    sheet.gauges(&telemetry::SPOOL_EVENTS, [([], stats.spooled as f64)]);
    sheet.gauges(&telemetry::SPOOL_BYTES, [([], stats.spool_bytes as f64)]);
}

fn shared_ledger(sheet: &mut Sheet, status: &SharedLedgerStatus) {
    let counters = &status.counters;
    sheet.gauges(&telemetry::LEDGER_AWAY, [([], f64::from(u8::from(status.is_away)))]);
    sheet.counters(&telemetry::LEDGER_CALLS, [([], counters.calls)]);
    sheet.counters(&telemetry::LEDGER_CALLS_FAILED, [([], counters.calls_failed)]);
    let claims = [
        (["granted"], counters.granted),
        (["refused"], counters.refused),
        (["refused_from_memory"], counters.refused_from_memory),
        (["away"], counters.away),
    ];
    sheet.counters(&telemetry::LEDGER_CLAIMS, claims);
    sheet.gauges(&telemetry::LEDGER_CLAIMS_WAITING, [([], status.claims_waiting as f64)]);
    sheet.counters(&telemetry::LEDGER_UNKNOWN_OUTCOMES, [([], counters.unknown_outcomes)]);
    sheet.gauges(&telemetry::LEDGER_UNWRITTEN, [([], status.unwritten as f64)]);
    sheet.counters(&telemetry::LEDGER_NEWS_LOST, [([], counters.news_lost)]);
    sheet.counters(&telemetry::LEDGER_NEWS_LATE, [([], counters.settled_missing)]);
    sheet.counters(&telemetry::LEDGER_RESTORES, [([], counters.restores_seen)]);
    sheet.counters(&telemetry::LEDGER_LEASED, [([], counters.lease_spends)]);
}

fn providers(sheet: &mut Sheet, providers: &[(&Observed, Glance)]) {
    let counts = |count: fn(&ProviderShared) -> u64| {
        providers.iter().map(move |(provider, _)| ([provider.id.as_str()], count(&provider.shared)))
    };
    sheet.counters(&telemetry::LIMIT_BREACHES, counts(ProviderShared::limit_breaches));
    sheet.counters(&telemetry::ACCOUNTS_REFUSED, counts(ProviderShared::accounts_refused));
    let sizes = |size: fn(&Glance) -> usize| {
        providers.iter().map(move |(provider, glance)| ([provider.id.as_str()], size(glance) as f64))
    };
    sheet.gauges(&telemetry::HOLDS_OPEN, sizes(|glance| glance.open_holds));
    let cooling = providers.iter().flat_map(|(provider, glance)| {
        let reasons = CooldownReason::ALL.into_iter().zip(glance.cooling);
        reasons.map(|(reason, count)| ([provider.id.as_str(), reason.as_str()], count as f64))
    });
    sheet.gauges(&telemetry::COOLING, cooling);
    let breakers = providers.iter().flat_map(|(provider, glance)| {
        BREAKER_STATES
            .map(|state| ([provider.id.as_str(), state], f64::from(u8::from(glance.breaker == state))))
    });
    sheet.gauges(&telemetry::BREAKER_STATE, breakers);
}

fn remaining(sheet: &mut Sheet, providers: &[(&Observed, Glance)]) {
    let mut sums: BTreeMap<[&str; 4], Left> = BTreeMap::new();
    for (provider, glance) in providers {
        for (limit, left) in provider.limits.iter().zip(&glance.left) {
            // Two limits that only their maximum tells apart are one series.
            let sum = sums.entry(limit.labels(&provider.id)).or_default();
            sum.left = sum.left.saturating_add(left.left);
            sum.max = sum.max.saturating_add(left.max);
        }
    }
    let ratios = sums.into_iter().map(|(labels, sum)| (labels, sum.left as f64 / sum.max.max(1) as f64));
    sheet.gauges(&telemetry::LIMIT_REMAINING, ratios);
}
