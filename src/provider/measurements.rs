//! What one provider's attempts have shown of its models, for those who choose.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::domain::clock::Moment;
use crate::domain::provider::ProviderSpec;
use crate::quota::{ModelIndex, Remaining};
use crate::routing::{FactsSnapshot, Standing, Went};

/// What is left of the day is looked up no more often than this for one model: the look walks over all accounts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The standing of one provider's models. Written by its attempts as they end, read by the dispatchers of all workers
/// about once a second: one short lock, no I/O and no waiting under it.
#[derive(Debug)]
pub struct Measurements {
    models: Mutex<Vec<Model>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Model {
    standing: Standing,
    /// What the catalogue says, for as long as nothing is measured.
    speed_rank: u32,
    looked_at: Option<Moment>,
}

/// What is believed of one model, for `Observe`.
#[derive(Clone, Debug, Serialize)]
pub struct MeasuredSnapshot {
    /// The upstream's id.
    pub model: String,
    #[serde(flatten)]
    pub facts: FactsSnapshot,
    /// Whether its day is being used up too soon, so that it stands behind its equals.
    pub is_ahead_of_its_day: bool,
}

impl Measurements {
    pub(super) fn new(spec: &ProviderSpec) -> Self {
        let model = |speed_rank| Model { speed_rank, ..Model::default() };
        Self { models: Mutex::new(spec.models.iter().map(|spec| model(spec.speed_rank)).collect()) }
    }

    /// What is known of every model, in the provider's order.
    pub fn standings(&self) -> Vec<Standing> {
        self.models.lock().iter().map(|model| model.standing).collect()
    }

    /// An attempt has ended.
    pub(super) fn note(&self, now: Moment, model: ModelIndex, went: Went) {
        if let Some(model) = self.models.lock().get_mut(model.0) {
            model.standing.facts.note(now, model.speed_rank, went);
        }
    }

    /// Something was used; `remaining` is asked for what is left, if that is not just known.
    pub(super) fn note_use(
        &self,
        now: Moment,
        model: ModelIndex,
        remaining: impl FnOnce() -> Option<Remaining>,
    ) {
        let mut models = self.models.lock();
        let Some(model) = models.get_mut(model.0) else { return };
        if model.looked_at.is_none_or(|looked_at| now.saturating_since(looked_at) >= LOOK_EVERY) {
            model.looked_at = Some(now);
            model.standing.pace.note(now, remaining());
        }
    }

    /// What is believed of the models that have been asked.
    pub(super) fn snapshot(&self, now: Moment, spec: &ProviderSpec) -> Vec<MeasuredSnapshot> {
        let models = self.models.lock();
        let asked = spec.models.iter().zip(models.iter()).filter(|(_, model)| model.looked_at.is_some());
        let snapshot = asked.map(|(spec, Model { standing, speed_rank, .. })| MeasuredSnapshot {
            model: spec.id.clone(),
            facts: standing.facts.snapshot(now, *speed_rank),
            is_ahead_of_its_day: standing.pace.is_ahead(now),
        });
        snapshot.collect()
    }
}
