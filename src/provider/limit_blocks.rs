//! Which targets refuse without saying until when, by account; pure.

use std::time::Duration;

use crate::domain::calendar;
use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, Scope, Window};
use crate::domain::provider::ProviderSpec;
use crate::domain::signals::{Period, RefusedLimit};
use crate::quota::{AccountIndex, CooldownScope, Escalation, ModelIndex, PoolIndex, Pools, ProbeSerial};

const DAY: Duration = Duration::from_secs(86_400);

/// An attempt that finds out whether a target is fit again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitProbe {
    pub(super) account: AccountIndex,
    /// Who refuses: what shares the limit.
    pub(super) target: CooldownScope,
    serial: ProbeSerial,
}

/// The escalations of one provider: of each account as a whole, its models and its pools.
#[derive(Debug)]
pub(super) struct LimitBlocks {
    pools: Pools,
    models: usize,
    accounts: Vec<Vec<Escalation>>,
}

impl LimitBlocks {
    pub(super) fn new(spec: &ProviderSpec) -> Self {
        let (pools, models) = (Pools::new(spec), spec.models.len());
        let targets = 1 + models + pools.names().count();
        let accounts = spec.accounts.iter().map(|_| vec![Escalation::default(); targets]).collect();
        Self { pools, models, accounts }
    }

    /// Who a refusal speaks for: whose limit it says it is, else whose limit of that unit and period there is, else
    /// everybody who shares a limit with the model.
    pub(super) fn target(
        &self,
        spec: &ProviderSpec,
        refused: &RefusedLimit,
        model: ModelIndex,
    ) -> CooldownScope {
        let stated = refused.scope.clone().or_else(|| known_scope(spec, refused, model));
        let shared = || if spec.limits.is_empty() { Scope::Model } else { Scope::Account };
        match stated.unwrap_or_else(shared) {
            Scope::Account => CooldownScope::Account,
            Scope::Model => CooldownScope::Model(model),
            Scope::Pool(name) => self.pools.named(&name).map_or(CooldownScope::Account, CooldownScope::Pool),
        }
    }

    /// The most that a limit of that unit and period allows the model, at least 1.
    pub(super) fn max(spec: &ProviderSpec, refused: &RefusedLimit, model: ModelIndex) -> u32 {
        let limits = binding(spec, refused, model).map(|limit| limit.max);
        limits.min().map_or(1, |max| u32::try_from(max).unwrap_or(u32::MAX).max(1))
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    pub(super) fn escalation(
        &mut self,
        account: AccountIndex,
        target: CooldownScope,
    ) -> Option<&mut Escalation> {
        let index = match target {
            CooldownScope::Account => 0,
            CooldownScope::Model(model) => 1 + model.0,
            CooldownScope::Pool(PoolIndex(pool)) => 1 + self.models + pool,
        };
        self.accounts.get_mut(account.0)?.get_mut(index)
    }

    /// An attempt at the model was granted: the probe that it is, if a target of the model waits for one.
    pub(super) fn start_probe(
        &mut self,
        now: Moment,
        account: AccountIndex,
        model: ModelIndex,
    ) -> Option<LimitProbe> {
        self.pools.scopes(model).find_map(|target| {
            let escalation = self.escalation(account, target)?;
            let serial = escalation.awaits_probe(now).then(|| escalation.start_probe(now))?;
            Some(LimitProbe { account, target, serial })
        })
    }

    /// The model has answered: whatever escalates around it starts over, as far as the answer counts there. Whether
    /// the target of the probe is open again.
    pub(super) fn answered(
        &mut self,
        account: AccountIndex,
        model: ModelIndex,
        probe: Option<LimitProbe>,
    ) -> bool {
        self.pools.scopes(model).fold(false, |opens, target| {
            let serial = serial_for(probe, target);
            self.escalation(account, target).is_some_and(|escalation| escalation.answered(serial)) || opens
        })
    }

    /// An attempt at the model was granted by those who know from everybody what refuses around it, and how often in a
    /// row: `level` of each target, `None` where nothing does.
    pub(super) fn follow(
        &mut self,
        now: Moment,
        account: AccountIndex,
        model: ModelIndex,
        level: impl Fn(CooldownScope) -> Option<u32>,
    ) {
        for target in self.pools.scopes(model) {
            if let Some(escalation) = self.escalation(account, target) {
                escalation.follow(now, level(target));
            }
        }
    }

    /// A probe has ended without deciding anything; whether it was the one that is waited for.
    pub(super) fn abandon(&mut self, probe: LimitProbe) -> bool {
        self.escalation(probe.account, probe.target)
            .is_some_and(|escalation| escalation.abandon(probe.serial))
    }
}

/// The scope of the limits that the refusal can be about, if they have one in common.
fn known_scope(spec: &ProviderSpec, refused: &RefusedLimit, model: ModelIndex) -> Option<Scope> {
    if refused.unit.is_none() && refused.period.is_none() {
        return None;
    }
    let mut scopes = binding(spec, refused, model).map(|limit| &limit.scope);
    let first = scopes.next()?;
    scopes.all(|scope| scope == first).then(|| first.clone())
}

/// The limits of the model that the refusal can be about.
fn binding<'a>(
    spec: &'a ProviderSpec,
    refused: &'a RefusedLimit,
    model: ModelIndex,
) -> impl Iterator<Item = &'a Limit> {
    let model = spec.models.get(model.0);
    let pool = model.and_then(|model| model.pool.as_ref());
    let own = model.map(|model| model.limits.as_slice()).unwrap_or_default();
    let binds = move |limit: &&Limit| match &limit.scope {
        Scope::Account | Scope::Model => true,
        Scope::Pool(name) => pool == Some(name),
    };
    let fits = |limit: &&Limit| {
        refused.unit.is_none_or(|unit| unit == limit.unit)
            && refused.period.is_none_or(|period| is_over(limit.window, period))
    };
    spec.limits.iter().chain(own).filter(binds).filter(fits)
}

/// Whether a limit of ours is over what an upstream calls that period.
fn is_over(window: Window, period: Period) -> bool {
    match (period, window) {
        (Period::Length(stated), Window::Sliding(length) | Window::Spacing(length)) => length == stated,
        (Period::Length(stated), Window::Calendar(_)) => stated == DAY && window.is_day(),
        (Period::UtcDay, _) => window.is_day(),
        (Period::UtcMonth, Window::Calendar(calendar)) => calendar.period == calendar::Period::Month,
        (Period::UtcMonth, Window::Sliding(_) | Window::Spacing(_)) | (_, Window::InFlight) => false,
    }
}

/// The probe's number, if it is that target's.
pub(super) fn serial_for(probe: Option<LimitProbe>, target: CooldownScope) -> Option<ProbeSerial> {
    probe.filter(|probe| probe.target == target).map(|probe| probe.serial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shipped_providers;
    use crate::domain::limit::Unit;

    fn shipped(id: &str) -> ProviderSpec {
        let mut spec = shipped_providers().unwrap().into_iter().find(|spec| spec.id.as_str() == id).unwrap();
        spec.accounts = vec![crate::domain::provider::AccountSpec { name: "a".to_owned(), keys: Vec::new() }];
        spec
    }

    fn refused(unit: Unit, seconds: u64) -> RefusedLimit {
        let period = Some(Period::Length(Duration::from_secs(seconds)));
        RefusedLimit { unit: Some(unit), period, scope: None }
    }

    #[test]
    fn a_refusal_speaks_for_those_who_share_the_limit() {
        let of = |id: &str, refused: RefusedLimit| {
            let spec = shipped(id);
            LimitBlocks::new(&spec).target(&spec, &refused, ModelIndex(1))
        };
        assert_eq!(of("groq", refused(Unit::Requests, 60)), CooldownScope::Model(ModelIndex(1)));
        assert_eq!(
            of("groq", RefusedLimit::default()),
            CooldownScope::Model(ModelIndex(1)),
            "nothing is shared"
        );
        assert_eq!(of("openrouter", refused(Unit::Requests, 60)), CooldownScope::Pool(PoolIndex(0)));
        assert_eq!(of("sambanova", refused(Unit::Tokens, 86_400)), CooldownScope::Account);
        let stated = RefusedLimit { scope: Some(Scope::Model), ..refused(Unit::Requests, 60) };
        assert_eq!(of("openrouter", stated), CooldownScope::Model(ModelIndex(1)), "it says so itself");
    }

    #[test]
    fn a_pool_is_probed_by_one_of_its_models() {
        let spec = shipped("openrouter");
        let (account, now) = (AccountIndex(0), Moment::from_unix_micros(0));
        let mut blocks = LimitBlocks::new(&spec);
        let pool = CooldownScope::Pool(PoolIndex(0));
        assert!(blocks.pools().members(pool).count() > 5);
        let until =
            blocks.escalation(account, pool).unwrap().refuse(now, None, false, Moment::NEVER).unwrap();
        assert_eq!(blocks.start_probe(now, account, ModelIndex(0)), None);
        let probe = blocks.start_probe(until, account, ModelIndex(0)).unwrap();
        assert_eq!(probe.target, pool);
        assert_eq!(blocks.start_probe(until, account, ModelIndex(1)), None);
        assert!(!blocks.answered(account, ModelIndex(1), None));
        assert!(blocks.answered(account, ModelIndex(0), Some(probe)));
        assert_eq!(blocks.start_probe(until, account, ModelIndex(0)), None, "open again");
    }
}
