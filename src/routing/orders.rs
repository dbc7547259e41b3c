//! The order in which targets are asked, by strategy: made anew from what is measured about once a second, read by
//! every request.
//!
//! All three strategies add up points, the fewer the better, on the scale of the ranks of ability. `docs/ROUTING.md`
//! gives the formula and its reasons.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::{Catalog, Target};
use super::facts::Facts;
use super::pace::Pace;
use crate::domain::chat::Strategy;
use crate::domain::clock::Moment;
use crate::domain::provider::{Capabilities, ModelSpec};

/// Ranks of ability run to about 100 and ranks of speed to 10 (the shipped catalogue of 2026-11-22), so a rank of speed
/// weighs ten times as much.
const POINTS_PER_SPEED_RANK: f64 = 10.0;

/// Below this part of attempts answered a target is charged for its failures. Chosen: one or two failures in a row
/// prove nothing and change no order.
const FINE_SUCCESS_RATIO: f64 = 0.8;

/// An attempt that fails costs another one: so much for each that is expected beyond the first.
const POINTS_PER_EXTRA_ATTEMPT: f64 = 40.0;

/// Whoever uses its day up too soon stands behind everybody who is as good within this. Chosen: two neighbours in size
/// (a band of the catalogue is about this wide) are equals, a small model and a large one are not.
const POINTS_WHEN_AHEAD: f64 = 15.0;

/// A target that was not asked for so long may be explored. Chosen: twice the time after which half of what was
/// measured is forgotten.
const UNSEEN: Duration = Duration::from_secs(600);

/// What is known of one target besides its specification.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    pub facts: Facts,
    pub pace: Pace,
}

/// The orders of all strategies at one instant; plans share them for as long as they need them.
#[derive(Debug, Default)]
pub struct Orders {
    smart: Arc<Order>,
    fast: Arc<Order>,
    balanced: Arc<Order>,
}

/// All enabled targets, best first.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) places: Vec<Place>,
    /// Where in `places` each model of the catalogue stands.
    ranks: Vec<usize>,
}

/// A target and all that a request has to know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) target: Target,
    /// Its position in the catalogue.
    pub(super) position: usize,
    /// An unknown one refuses nothing.
    pub(super) window: u64,
    pub(super) capabilities: Capabilities,
    pub(super) trains_on_data: bool,
    /// Nobody has asked it for long, and it would be the first if it were as quick as any.
    pub(super) is_worth_exploring: bool,
}

/// A place with its points.
struct Scored {
    place: Place,
    ability: f64,
    speed: f64,
    failures: f64,
    pace: f64,
    is_unseen: bool,
}

impl Orders {
    /// The orders at `now`, from what `standing` knows of each target. Ties keep the catalogue's order.
    pub fn new(catalog: &Catalog, now: Moment, standing: impl Fn(Target) -> Option<Standing>) -> Self {
        let scored: Vec<Scored> = catalog
            .enabled()
            .iter()
            .filter_map(|target| Scored::new(catalog, now, *target, standing(*target).unwrap_or_default()))
            .collect();
        let models = catalog.model_count();
        let order = |strategy| Arc::new(Order::new(&scored, strategy, models));
        Self {
            smart: order(Strategy::Smart),
            fast: order(Strategy::Fast),
            balanced: order(Strategy::Balanced),
        }
    }

    pub(super) fn of(&self, strategy: Strategy) -> &Arc<Order> {
        match strategy {
            Strategy::Smart => &self.smart,
            Strategy::Fast => &self.fast,
            Strategy::Balanced => &self.balanced,
        }
    }
}

impl Order {
    fn new(scored: &[Scored], strategy: Strategy, models: usize) -> Self {
        let mut sorted: Vec<(&Scored, (f64, f64))> =
            scored.iter().map(|scored| (scored, scored.points(strategy))).collect();
        sorted.sort_by(|(_, one), (_, other)| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let lead = sorted.first().map_or(f64::INFINITY, |(_, points)| points.0);
        let mut ranks = vec![usize::MAX; models];
        let places = sorted.iter().enumerate().map(|(rank, (scored, _))| {
            if let Some(known) = ranks.get_mut(scored.place.position) {
                *known = rank;
            }
            let could_lead = scored.at_its_quickest(strategy).is_some_and(|points| points <= lead);
            Place { is_worth_exploring: scored.is_unseen && could_lead, ..scored.place }
        });
        Self { places: places.collect(), ranks }
    }

    /// Where the model at `position` in the catalogue stands.
    pub(super) fn rank(&self, position: usize) -> Option<usize> {
        self.ranks.get(position).copied().filter(|rank| *rank != usize::MAX)
    }
}

impl Scored {
    fn new(
        catalog: &Catalog,
        now: Moment,
        target: Target,
        Standing { facts, pace }: Standing,
    ) -> Option<Self> {
        let (provider, model) = catalog.spec(target)?;
        let extra_attempts = 1.0 / facts.success_ratio(now) - 1.0 / FINE_SUCCESS_RATIO;
        Some(Self {
            place: place(catalog, target, model, provider.trains_on_data),
            ability: f64::from(model.intelligence_rank),
            speed: POINTS_PER_SPEED_RANK * facts.speed_rank(now, model.speed_rank),
            failures: POINTS_PER_EXTRA_ATTEMPT * extra_attempts.max(0.0),
            pace: if pace.is_ahead(now) { POINTS_WHEN_AHEAD } else { 0.0 },
            is_unseen: facts.is_unseen_for(now, UNSEEN),
        })
    }

    /// The points, and what decides between equals.
    fn points(&self, strategy: Strategy) -> (f64, f64) {
        let common = self.failures + self.pace;
        match strategy {
            Strategy::Smart => (self.ability + common, self.speed),
            Strategy::Fast => (self.speed + common, self.ability),
            Strategy::Balanced => (self.ability + self.speed + common, self.ability),
        }
    }

    /// The points if it were measured as quick as any can be; `None` where measuring changes nothing.
    fn at_its_quickest(&self, strategy: Strategy) -> Option<f64> {
        match strategy {
            Strategy::Smart => None,
            Strategy::Fast => Some(POINTS_PER_SPEED_RANK + self.pace),
            Strategy::Balanced => Some(self.ability + POINTS_PER_SPEED_RANK + self.pace),
        }
    }
}

fn place(catalog: &Catalog, target: Target, model: &ModelSpec, trains_on_data: bool) -> Place {
    Place {
        target,
        position: catalog.position(target),
        window: model.context_window.unwrap_or(u64::MAX),
        capabilities: model.capabilities,
        trains_on_data,
        is_worth_exploring: false,
    }
}
