//! What one worker's dispatcher chooses by: the catalogue, what is measured, and what conversations had.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::chat::{ChatRequest, Strategy};
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::provider::{Absences, Job, Measurements};
use crate::routing::{
    self, AccountWhyNot, Affinity, Allowed, Catalog, ConversationKey, Leaning, NoPlan, Orders, Plan, Target,
    WhyNot, WhyNotSnapshot, WhyNots,
};

/// The orders are made anew this often. Chosen: what is measured fades over minutes, so a second late is in time, and
/// sorting a few hundred targets once a second costs nothing.
const ORDERS_LAST: Duration = Duration::from_secs(1);

/// One request in so many may go to a target that nobody has asked for long: a bound on what curiosity costs.
const EXPLORE_EVERY: u32 = 50;

/// Reasons that a client is told, at most: an answer of a page helps nobody.
const TOLD_MAX: usize = 8;

/// Accounts that are remembered with the reasons of one request, at most. Chosen: as many as candidates are, and 10 KiB.
const ACCOUNTS_MAX: usize = 256;

/// Why nobody answers a request.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    candidates: WhyNots,
    /// Accounts that are left alone for a candidate, by their positions, and why and until when each is.
    accounts: Vec<(Target, usize, (CooldownReason, Moment))>,
}

/// What the conversations of the last minutes had, in the whole process: the next request of one may come to any worker.
#[derive(Clone, Debug, Default)]
pub struct Conversations(Arc<Mutex<Affinity>>);

/// The choice of one worker. Its orders are its own, so that a request reads them without a lock.
pub struct Router {
    catalog: Arc<Catalog>,
    /// In the catalogue's order.
    measurements: Vec<Arc<Measurements>>,
    /// In the same order.
    absences: Vec<Absences>,
    conversations: Conversations,
    orders: Orders,
    made_at: Option<Moment>,
    requests: u32,
}

/// What the request's tenant may use.
fn allowed(request: &ChatRequest) -> Allowed<'_> {
    Allowed { models: request.policy.models.as_deref(), no_training: request.policy.no_training }
}

impl Router {
    /// Chooses from `catalog`, whose providers have these `measurements` and `absences`.
    pub fn new(
        catalog: Arc<Catalog>,
        measurements: Vec<Arc<Measurements>>,
        absences: Vec<Absences>,
        conversations: Conversations,
    ) -> Self {
        let orders = Orders::default();
        Self { catalog, measurements, absences, conversations, orders, made_at: None, requests: 0 }
    }

    /// The candidates for the request, but for those that have failed it already.
    pub(super) fn plan(&mut self, job: &mut Job, strategy: Strategy, now: Moment) -> Result<Plan, NoPlan> {
        self.keep_fresh(now);
        self.requests = self.requests.wrapping_add(1);
        let explores = self.requests.is_multiple_of(EXPLORE_EVERY);
        let leaning = Leaning { strategy, keeps: self.kept(job, now), explores };
        let allowed = allowed(&job.request);
        let plan = routing::plan(&job.request, &allowed, &self.catalog, &self.orders, &leaning)?;
        Ok(plan.without(&job.route.failed))
    }

    /// The request goes to `target` now: if it is answered, its conversation has that model.
    pub(super) fn note_asked(&self, job: &Job, target: Target, now: Moment) {
        if let Some(key) = job.route.conversation {
            self.conversations.0.lock().note(now, key, target);
        }
    }

    /// Why nobody answers the request: what the choice left out, and what became of those that were asked.
    pub(super) fn why_not(&self, job: &Job, strategy: Strategy) -> Reasons {
        let allowed = allowed(&job.request);
        let candidates = routing::why_not(&job.request, &allowed, &self.catalog, &self.orders, strategy);
        let mut reasons = Reasons { candidates, accounts: Vec::new() };
        for (target, reason) in job.route.why_not.iter() {
            let absent = self.absences.get(target.provider).map_or_else(Vec::new, |all| all.of(target.model));
            reasons.candidates.note(target, reason.given(&absent));
            let accounts = absent.into_iter().enumerate();
            let accounts = accounts.filter_map(|(account, absence)| Some((target, account, absence?)));
            reasons.accounts.extend(accounts.take(ACCOUNTS_MAX.saturating_sub(reasons.accounts.len())));
        }
        reasons
    }

    /// The reasons in words for the tenant, who learns of its own request and of no account.
    pub(super) fn told(&self, reasons: &Reasons) -> Vec<String> {
        let mut reasons = reasons.candidates.iter().filter(|(_, reason)| reason.is_for_tenants());
        let first = reasons.by_ref().take(TOLD_MAX).map(|(target, reason)| self.line(target, reason));
        let mut told: Vec<String> = first.collect();
        match reasons.count() {
            0 => {}
            more => told.push(format!("and {more} more")),
        }
        told
    }

    /// The reasons for the operator.
    pub(super) fn snapshot(&self, reasons: &Reasons) -> Vec<WhyNotSnapshot> {
        let snapshot = |(target, reason): (Target, WhyNot)| {
            let (provider, model) = self.catalog.spec(target)?;
            Some(WhyNotSnapshot {
                provider: provider.id.to_string(),
                model: model.id.clone(),
                reason: reason.as_str(),
                until: reason.until(),
                failure: reason.failure().map(CooldownReason::as_str),
                accounts: self.accounts_of(target, reasons),
            })
        };
        reasons.candidates.iter().filter_map(snapshot).collect()
    }

    fn accounts_of(&self, wanted: Target, reasons: &Reasons) -> Vec<AccountWhyNot> {
        let Some((provider, _)) = self.catalog.spec(wanted) else { return Vec::new() };
        let of_this = reasons.accounts.iter().filter(|(target, ..)| *target == wanted);
        of_this
            .filter_map(|&(_, account, (reason, until))| {
                Some(AccountWhyNot {
                    account: provider.accounts.get(account)?.name.clone(),
                    reason: WhyNot::left_alone(reason, until).as_str(),
                    failure: reason.as_str(),
                    until,
                })
            })
            .collect()
    }

    fn line(&self, target: Target, reason: WhyNot) -> String {
        let name = self.catalog.spec(target).map(|(provider, model)| format!("{}/{}", provider.id, model.id));
        format!("{}: {reason}", name.unwrap_or_default())
    }

    fn keep_fresh(&mut self, now: Moment) {
        if self.made_at.is_some_and(|made_at| now.saturating_since(made_at) < ORDERS_LAST) {
            return;
        }
        self.made_at = Some(now);
        let standings: Vec<_> = self.measurements.iter().map(|measured| measured.standings()).collect();
        self.orders = Orders::new(&self.catalog, now, |target| {
            standings.get(target.provider)?.get(target.model.0).copied()
        });
    }

    /// What the conversation of the request had so far. The first request of one has had nothing, whatever another
    /// one that began with the same words had.
    fn kept(&self, job: &mut Job, now: Moment) -> Option<Target> {
        let opening = job.request.opening?;
        let key = ConversationKey { tenant: job.completion.tenant(), digest: opening.digest };
        job.route.conversation = Some(key);
        if opening.is_continued { self.conversations.0.lock().preferred(now, key) } else { None }
    }
}
