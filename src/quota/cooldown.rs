//! Targets left alone until an instant, because upstream said so.

use crate::domain::clock::Moment;

use super::demand::ModelIndex;

/// An instant that is over on every clock: not cooling.
const LONG_AGO: Moment = Moment::from_unix_micros(i64::MIN);

/// The cooldowns of one account: of all of it, and of single models on it.
#[derive(Debug)]
pub(super) struct Cooldowns {
    account: Moment,
    models: Vec<Moment>,
}

impl Cooldowns {
    pub(super) fn new(models: usize) -> Self {
        Self { account: LONG_AGO, models: vec![LONG_AGO; models] }
    }

    /// Cools the model, or all of the account, until `until`, or until it already does when that is later.
    pub(super) fn extend(&mut self, model: Option<ModelIndex>, until: Moment) {
        let cooldown = match model {
            None => Some(&mut self.account),
            Some(ModelIndex(index)) => self.models.get_mut(index),
        };
        if let Some(cooldown) = cooldown {
            *cooldown = until.max(*cooldown);
        }
    }

    /// The instant from which that model may be asked; in the past when it does not cool.
    pub(super) fn end(&self, model: ModelIndex) -> Moment {
        self.models.get(model.0).map_or(self.account, |model| self.account.max(*model))
    }

    /// What still cools at `now`: all of the account (`None`) or a model, and until when.
    pub(super) fn at(&self, now: Moment) -> impl Iterator<Item = (Option<ModelIndex>, Moment)> {
        let models = self.models.iter().enumerate().map(|(index, until)| (Some(ModelIndex(index)), *until));
        std::iter::once((None, self.account)).chain(models).filter(move |(_, until)| *until > now)
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
}
