//! Targets left alone until an instant, because upstream said so.

use crate::domain::clock::Moment;

use super::demand::ModelIndex;

/// An instant that is over on every clock: not cooling.
const LONG_AGO: Moment = Moment::from_unix_micros(i64::MIN);

/// The cooldowns of one account: of all of it, and of single models on it.
#[derive(Debug)]
pub(super) struct Cooldowns {
    account: Cooldown,
    models: Vec<Cooldown>,
}

/// Until when one target is left alone, and why.
#[derive(Clone, Copy, Debug)]
struct Cooldown {
    /// As upstream said.
    until: Moment,
    /// While one attempt finds out whether it is over.
    probed_until: Moment,
}

impl Cooldown {
    const NONE: Self = Self { until: LONG_AGO, probed_until: LONG_AGO };

    fn end(self) -> Moment {
        self.until.max(self.probed_until)
    }
}

impl Cooldowns {
    pub(super) fn new(models: usize) -> Self {
        Self { account: Cooldown::NONE, models: vec![Cooldown::NONE; models] }
    }

    /// Cools the model, or all of the account, until `until`, or until it already does when that is later.
    pub(super) fn extend(&mut self, model: Option<ModelIndex>, until: Moment) {
        if let Some(cooldown) = self.of(model) {
            cooldown.until = until.max(cooldown.until);
        }
    }

    /// Keeps everybody but a probe away until `until`; with `None` they may come again, as far as nothing else cools.
    pub(super) fn probe(&mut self, model: Option<ModelIndex>, until: Option<Moment>) {
        if let Some(cooldown) = self.of(model) {
            cooldown.probed_until = until.unwrap_or(LONG_AGO);
        }
    }

    /// The instant from which that model may be asked; in the past when it does not cool.
    pub(super) fn end(&self, model: ModelIndex) -> Moment {
        let account = self.account.end();
        self.models.get(model.0).map_or(account, |model| account.max(model.end()))
    }

    fn of(&mut self, model: Option<ModelIndex>) -> Option<&mut Cooldown> {
        match model {
            None => Some(&mut self.account),
            Some(ModelIndex(index)) => self.models.get_mut(index),
        }
    }

    /// What still cools at `now`: all of the account (`None`) or a model, and until when.
    pub(super) fn at(&self, now: Moment) -> impl Iterator<Item = (Option<ModelIndex>, Moment)> {
        let models =
            self.models.iter().enumerate().map(|(index, cooldown)| (Some(ModelIndex(index)), cooldown.end()));
        std::iter::once((None, self.account.end())).chain(models).filter(move |(_, until)| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cooldown_only_ever_extends() {
        let [early, late] = [10, 20].map(Moment::from_unix_micros);
        let mut cooldowns = Cooldowns::new(2);
        cooldowns.extend(Some(ModelIndex(1)), late);
        cooldowns.extend(Some(ModelIndex(1)), early);
        assert_eq!(cooldowns.end(ModelIndex(1)), late);
        assert_eq!(cooldowns.end(ModelIndex(0)), LONG_AGO);
        cooldowns.extend(None, early);
        assert_eq!(cooldowns.end(ModelIndex(0)), early);
        assert_eq!(cooldowns.end(ModelIndex(1)), late);
        assert_eq!(cooldowns.at(early).collect::<Vec<_>>(), [(Some(ModelIndex(1)), late)]);
    }

    #[test]
    fn a_probe_keeps_others_away_and_ends_no_cooldown() {
        let [now, later, last] = [10, 20, 30].map(Moment::from_unix_micros);
        let mut cooldowns = Cooldowns::new(1);
        cooldowns.extend(Some(ModelIndex(0)), later);
        cooldowns.probe(None, Some(last));
        assert_eq!(cooldowns.end(ModelIndex(0)), last);
        cooldowns.probe(None, None);
        assert_eq!(cooldowns.end(ModelIndex(0)), later);
        assert_eq!(cooldowns.at(now).count(), 1);
    }
}
