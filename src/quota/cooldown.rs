//! Targets left alone until an instant, because upstream said so.

use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;

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
    /// Why, as it said last of what lasts longest.
    reason: CooldownReason,
    /// Until when it does not work at all, which may be over before it has room.
    off_until: Moment,
    /// While one attempt finds out whether it is over.
    probed_until: Moment,
}

impl Cooldown {
    const NONE: Self = Self {
        until: LONG_AGO,
        reason: CooldownReason::RateLimited,
        off_until: LONG_AGO,
        probed_until: LONG_AGO,
    };

    fn end(self) -> Moment {
        self.until.max(self.probed_until)
    }
}

impl Cooldowns {
    pub(super) fn new(models: usize) -> Self {
        Self { account: Cooldown::NONE, models: vec![Cooldown::NONE; models] }
    }

    /// Cools the model, or all of the account, until `until`, or until it already does when that is later.
    pub(super) fn extend(&mut self, model: Option<ModelIndex>, until: Moment, reason: CooldownReason) {
        let Some(cooldown) = self.of(model) else { return };
        if until >= cooldown.until {
            (cooldown.until, cooldown.reason) = (until, reason);
        }
        if reason.is_off() {
            cooldown.off_until = until.max(cooldown.off_until);
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

    /// Until when that model does not work there; in the past when it does.
    pub(super) fn off_until(&self, model: ModelIndex) -> Moment {
        let account = self.account.off_until;
        self.models.get(model.0).map_or(account, |model| account.max(model.off_until))
    }

    /// What cools that model at `now` for the longest: why, and until when it may not be asked.
    pub(super) fn of_model(&self, now: Moment, model: ModelIndex) -> Option<(CooldownReason, Moment)> {
        let model = self.models.get(model.0).copied().unwrap_or(Cooldown::NONE);
        let last = if self.account.end() < model.end() { model } else { self.account };
        (last.end() > now).then_some((last.reason, last.end()))
    }

    fn of(&mut self, model: Option<ModelIndex>) -> Option<&mut Cooldown> {
        match model {
            None => Some(&mut self.account),
            Some(ModelIndex(index)) => self.models.get_mut(index),
        }
    }

    /// What still cools at `now`: all of the account (`None`) or a model, until when, and why.
    pub(super) fn at(
        &self,
        now: Moment,
    ) -> impl Iterator<Item = (Option<ModelIndex>, Moment, CooldownReason)> {
        let models = self.models.iter().enumerate().map(|(index, model)| (Some(ModelIndex(index)), model));
        let all = std::iter::once((None, &self.account)).chain(models);
        all.map(|(model, cooldown)| (model, cooldown.end(), cooldown.reason))
            .filter(move |(_, until, _)| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: CooldownReason = CooldownReason::RateLimited;

    #[test]
    fn a_cooldown_only_ever_extends() {
        let [early, late] = [10, 20].map(Moment::from_unix_micros);
        let mut cooldowns = Cooldowns::new(2);
        cooldowns.extend(Some(ModelIndex(1)), late, LIMIT);
        cooldowns.extend(Some(ModelIndex(1)), early, CooldownReason::ModelGone);
        assert_eq!(cooldowns.end(ModelIndex(1)), late);
        assert_eq!(cooldowns.end(ModelIndex(0)), LONG_AGO);
        cooldowns.extend(None, early, LIMIT);
        assert_eq!(cooldowns.end(ModelIndex(0)), early);
        assert_eq!(cooldowns.end(ModelIndex(1)), late);
        assert_eq!(cooldowns.at(early).collect::<Vec<_>>(), [(Some(ModelIndex(1)), late, LIMIT)]);
        assert_eq!(cooldowns.off_until(ModelIndex(1)), early, "it is gone for less long than it has no room");
        assert_eq!(cooldowns.off_until(ModelIndex(0)), LONG_AGO);
    }

    #[test]
    fn what_lasts_longer_says_why_a_model_is_left_alone() {
        let [start, early, late] = [0, 10, 20].map(Moment::from_unix_micros);
        let mut cooldowns = Cooldowns::new(2);
        cooldowns.extend(Some(ModelIndex(1)), late, CooldownReason::ModelGone);
        cooldowns.extend(None, early, CooldownReason::Unauthorized);
        let of_model = |now, model| cooldowns.of_model(now, ModelIndex(model));
        assert_eq!(of_model(start, 0), Some((CooldownReason::Unauthorized, early)));
        assert_eq!(of_model(start, 1), Some((CooldownReason::ModelGone, late)));
        assert_eq!(of_model(early, 0), None, "it is over");
    }

    #[test]
    fn a_probe_keeps_others_away_and_ends_no_cooldown() {
        let [now, later, last] = [10, 20, 30].map(Moment::from_unix_micros);
        let mut cooldowns = Cooldowns::new(1);
        cooldowns.extend(Some(ModelIndex(0)), later, LIMIT);
        cooldowns.probe(None, Some(last));
        assert_eq!(cooldowns.end(ModelIndex(0)), last);
        cooldowns.probe(None, None);
        assert_eq!(cooldowns.end(ModelIndex(0)), later);
        assert_eq!(cooldowns.at(now).count(), 1);
    }
}
