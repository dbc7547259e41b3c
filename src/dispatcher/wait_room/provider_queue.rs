//! Those who wait for one provider, and whose turn it is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::entry::Entry;
use super::floor::Floor;
use super::line::{Line, Spot};
use super::refusals::{Refusals, Shut};
use super::size::Size;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::quota::ModelIndex;

/// An offer that is not decided after this long is joined by another: a slow ledger, or a worker that stands still,
/// must not keep the room from everybody. Chosen: far longer than a ledger's call takes.
const OFFER_PATIENCE: Duration = Duration::from_secs(1);

/// A request that was refused for its size is passed over by so many others, or for so long, and then what comes
/// free is kept for it. Chosen: a quarter of the usual wait of 20 s leaves it three quarters to be served in; sixteen
/// grants are about that at the 30 to 60 requests a minute of the shipped catalogue (2026-11-22), and sooner at more.
const PASSED_OVER_MAX: u64 = 16;
const PASSED_OVER_FOR: Duration = Duration::from_secs(5);

/// The queue of one provider: a line for each tenant, served by deficit round robin.
///
/// A *round* lasts from one event that may have freed something to the next. Within it everything is offered one by
/// one, and what is refused stays refused for whatever asks for as much or more; then the round is over.
#[derive(Debug)]
pub(super) struct ProviderQueue {
    round: u64,
    /// Whether nothing has been offered in this round yet.
    is_fresh: bool,
    /// Whether nobody who waits can use what is left of this round.
    is_over: bool,
    /// When the next round begins by itself.
    next_look: Moment,
    models: Vec<Model>,
    /// Grants so far, by group of models.
    granted: Vec<u64>,
    lines: BTreeMap<TenantId, Line>,
    /// The smallest sizes of all lines.
    floor: Floor,
    /// Whose turn it is.
    turn: Option<TenantId>,
    offer: Option<Offer>,
    reserved: Option<Reserved>,
}

#[derive(Debug, Default)]
struct Model {
    refusals: Refusals,
    waiting: usize,
    group: usize,
}

/// The offer that is outstanding.
#[derive(Clone, Copy, Debug)]
struct Offer {
    number: u64,
    since: Moment,
}

/// What comes free in `group` is kept for that request.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    number: u64,
    group: usize,
}

/// What decides whether a request can use what the provider may have.
pub(super) struct Sight<'a> {
    provider: usize,
    round: u64,
    models: &'a [Model],
    reserved: Option<Reserved>,
}

impl Sight<'_> {
    pub(super) fn fits<W>(&self, number: u64, spot: &Spot, entry: &Entry<W>) -> bool {
        entry.is_waiting()
            && spot.refused_in != Some(self.round)
            && self.open_models(number, entry).next().is_some()
    }

    /// Whether some model may have room for so much; for the one that room is kept for, if it is that one.
    pub(super) fn may_fit(&self, number: u64, size: &Size) -> bool {
        self.may_fit_at(size, |group| {
            self.reserved.is_none_or(|kept| kept.group != group || kept.number == number)
        })
    }

    /// Whether some model may have room for so much that is kept for nobody.
    pub(super) fn may_fit_one(&self, size: &Size) -> bool {
        self.may_fit_at(size, |group| self.reserved.is_none_or(|kept| kept.group != group))
    }

    fn may_fit_at(&self, size: &Size, is_open: impl Fn(usize) -> bool) -> bool {
        let may_fit = |model: &Model| {
            model.waiting > 0 && is_open(model.group) && model.refusals.covering(size).is_none()
        };
        self.models.iter().any(may_fit)
    }

    /// Those of its models here that may have room for it.
    fn open_models<'a, W>(
        &'a self,
        number: u64,
        entry: &'a Entry<W>,
    ) -> impl Iterator<Item = ModelIndex> + 'a {
        entry.candidates().at(self.provider).filter(move |index| {
            self.models.get(index.0).is_some_and(|model| {
                let is_kept =
                    self.reserved.is_some_and(|kept| kept.group == model.group && kept.number != number);
                !is_kept && model.refusals.covering(&entry.size).is_none()
            })
        })
    }
}

/// What a request at the door finds at one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtModel {
    /// It may ask.
    Free,
    /// It would be refused.
    Shut(Shut),
    /// Others wait who may have a claim.
    Behind,
}

impl ProviderQueue {
    /// `groups` names the group of each model.
    pub(super) fn new(groups: &[usize]) -> Self {
        let model = |group: &usize| Model { group: *group, ..Model::default() };
        Self {
            round: 0,
            is_fresh: true,
            is_over: false,
            next_look: Moment::NEVER,
            models: groups.iter().map(model).collect(),
            granted: vec![0; groups.len()],
            lines: BTreeMap::new(),
            floor: Floor::default(),
            turn: None,
            offer: None,
            reserved: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Catches up with the round that the gauges tell: what was refused before may be granted now.
    pub(super) fn enter(&mut self, round: u64, now: Moment) {
        if round != self.round {
            for line in self.lines.values_mut() {
                line.end_round(self.round, &self.granted);
            }
            self.round = round;
            self.is_fresh = true;
            self.models.iter_mut().for_each(|model| model.refusals.end_round(now));
            let ends = self.models.iter().map(|model| model.refusals.next_end());
            self.next_look = ends.min().unwrap_or(Moment::NEVER);
            self.look_again();
        }
    }

    /// Whether refusals of this round have ended by now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.next_look <= now
    }

    /// The next instant at which something has to be done here, as long as nothing happens.
    pub(super) fn next_instant(&self) -> Moment {
        // Once nobody else can use what is left there is nothing to be impatient about.
        let undecided = self.offer.filter(|_| !self.is_over);
        let undecided = undecided.map_or(Moment::NEVER, |offer| offer.since + OFFER_PATIENCE);
        if self.is_empty() { Moment::NEVER } else { self.next_look.min(undecided) }
    }

    pub(super) fn join<W>(&mut self, provider: usize, number: u64, weight: u32, entry: &Entry<W>) {
        self.count(provider, entry, |waiting| waiting.saturating_add(1));
        let line = self.lines.entry(entry.tenant).or_insert_with(|| Line::new(weight));
        line.set_weight(weight);
        line.insert(number, entry.size, entry.since);
        self.floor.add(&entry.size);
        self.is_over = false;
    }

    /// Takes a request out; whether others may now have what was offered to it or kept for it.
    pub(super) fn leave<W>(&mut self, provider: usize, number: u64, entry: &Entry<W>) -> bool {
        self.count(provider, entry, |waiting| waiting.saturating_sub(1));
        if let Some(line) = self.lines.get_mut(&entry.tenant) {
            line.remove(number);
            if line.is_empty() {
                self.lines.remove(&entry.tenant);
            }
        }
        let was_offered = self.withdraw(number);
        let was_kept_for = self.reserved.is_some_and(|kept| kept.number == number);
        if was_kept_for {
            self.reserved = None;
            self.look_again();
        }
        was_offered || was_kept_for
    }

    fn count<W>(&mut self, provider: usize, entry: &Entry<W>, change: impl Fn(usize) -> usize) {
        for index in entry.candidates().at(provider) {
            if let Some(model) = self.models.get_mut(index.0) {
                model.waiting = change(model.waiting);
            }
        }
    }

    /// The offer to that request is decided; whether it was the one outstanding.
    pub(super) fn withdraw(&mut self, number: u64) -> bool {
        let was_offered = self.offer.is_some_and(|offer| offer.number == number);
        if was_offered {
            self.offer = None;
        }
        was_offered
    }

    /// That request waits on, and may be eligible here.
    pub(super) fn returned<W>(&mut self, provider: usize, number: u64, entry: &Entry<W>) {
        let sight = Sight { provider, round: self.round, models: &self.models, reserved: self.reserved };
        if let Some(line) = self.lines.get_mut(&entry.tenant)
            && line.spot(number).is_some_and(|spot| sight.fits(number, spot, entry))
        {
            line.look_again_at(number);
            self.is_over = false;
        }
    }

    /// The model has refused a request of that size in this round.
    pub(super) fn note_refusal(&mut self, model: ModelIndex, size: Size, shut: Shut) {
        self.next_look = self.next_look.min(shut.until);
        if let Some(model) = self.models.get_mut(model.0) {
            model.refusals.note(size, shut);
        }
    }

    /// The provider has nothing for that request in this round.
    pub(super) fn note_refused<W>(&mut self, provider: usize, number: u64, entry: &Entry<W>) {
        let best = entry.candidates().at(provider).next();
        let group = best.and_then(|index| self.models.get(index.0)).map_or(0, |model| model.group);
        let spot = self.lines.get_mut(&entry.tenant).and_then(|line| line.spot_mut(number));
        if let Some(spot) = spot {
            spot.refused_in = Some(self.round);
            spot.group = group;
            spot.granted_before = self.granted.get(group).copied().unwrap_or_default();
        }
    }

    /// The request that was offered room has taken it, at that model.
    pub(super) fn note_granted<W>(&mut self, model: ModelIndex, entry: &Entry<W>) {
        if let Some(line) = self.lines.get_mut(&entry.tenant) {
            line.charge(entry.size.cost());
        }
        self.count_grant(model);
    }

    fn count_grant(&mut self, model: ModelIndex) {
        let group = self.models.get(model.0).map(|model| model.group);
        if let Some(granted) = group.and_then(|group| self.granted.get_mut(group)) {
            *granted = granted.saturating_add(1);
        }
    }

    /// What a new request of that size finds at the model. One that may pass, because nobody who waits can use what
    /// it asks for, counts as granted: whoever is refused for its size is passed over by it.
    pub(super) fn at_door(&mut self, index: ModelIndex, size: &Size, now: Moment) -> AtModel {
        let Some(model) = self.models.get(index.0) else { return AtModel::Free };
        let is_kept = self.reserved.is_some_and(|kept| kept.group == model.group);
        match model.refusals.covering(size) {
            Some(shut) if shut.until > now => return AtModel::Shut(shut),
            _ if is_kept => return AtModel::Behind,
            _ if model.waiting == 0 => return AtModel::Free,
            _ => {}
        }
        if !self.is_over || self.is_due(now) {
            return AtModel::Behind;
        }
        self.count_grant(index);
        AtModel::Free
    }

    /// Why the model would refuse that size, as far as this round knows.
    pub(super) fn shut(&self, model: ModelIndex, size: &Size) -> Option<Shut> {
        self.models.get(model.0)?.refusals.covering(size)
    }

    /// Makes the next offer: to whom, and of which models. `None` while one is outstanding or nobody can use any.
    pub(super) fn next_offer<W>(
        &mut self,
        provider: usize,
        entries: &HashMap<u64, Entry<W>>,
        now: Moment,
    ) -> Option<(u64, Vec<ModelIndex>)> {
        let is_undecided = self.offer.is_some_and(|offer| now < offer.since + OFFER_PATIENCE);
        if self.is_over || is_undecided {
            return None;
        }
        // It looks at every tenant: once a round is enough.
        if std::mem::take(&mut self.is_fresh) {
            self.keep_for_the_passed_over(now);
        }
        let number = self.reserved_now(provider, entries).or_else(|| self.choose(provider, entries));
        let Some(number) = number else {
            self.is_over = true;
            return None;
        };
        self.offer = Some(Offer { number, since: now });
        let sight = Sight { provider, round: self.round, models: &self.models, reserved: self.reserved };
        let models = entries.get(&number).map(|entry| sight.open_models(number, entry).collect());
        Some((number, models.unwrap_or_default()))
    }

    /// The request that room is kept for, when this round may have enough.
    fn reserved_now<W>(&self, provider: usize, entries: &HashMap<u64, Entry<W>>) -> Option<u64> {
        let number = self.reserved?.number;
        let entry = entries.get(&number)?;
        let spot = self.lines.get(&entry.tenant)?.spot(number)?;
        let sight = Sight { provider, round: self.round, models: &self.models, reserved: self.reserved };
        sight.fits(number, spot, entry).then_some(number)
    }

    /// Deficit round robin over the tenants who have somebody eligible. Whose turn it is goes on while its deficit
    /// lasts; who has nobody eligible is skipped and gains nothing.
    fn choose<W>(&mut self, provider: usize, entries: &HashMap<u64, Entry<W>>) -> Option<u64> {
        let sight = Sight { provider, round: self.round, models: &self.models, reserved: self.reserved };
        if !self.floor.sizes().any(|size| sight.may_fit_one(size)) {
            return None;
        }
        if let Some(line) = self.turn.and_then(|tenant| self.lines.get_mut(&tenant))
            && let Some((number, cost)) = line.first(&sight, entries)
            && line.affords(cost)
        {
            return Some(number);
        }
        let visits = self.lines.len();
        match go_round(&mut self.lines, &mut self.turn, visits, |line| line.first(&sight, entries)) {
            Ok(number) => Some(number),
            Err(None) => {
                // It has looked in vain: the sizes of those who have left are not to mislead it again.
                self.floor = Floor::of(self.lines.values().flat_map(|line| line.floor().sizes()));
                None
            }
            Err(Some(turns_short)) => {
                // What costs much would take many rounds: all of them but the last at once.
                for line in self.lines.values_mut() {
                    if line.first(&sight, entries).is_some() {
                        line.gain(turns_short.saturating_sub(1));
                    }
                }
                go_round(&mut self.lines, &mut self.turn, visits, |line| line.first(&sight, entries)).ok()
            }
        }
    }

    /// Keeps what comes free for the oldest request that was passed over for too long, one at a time.
    fn keep_for_the_passed_over(&mut self, now: Moment) {
        if self.reserved.is_some() {
            return;
        }
        let is_passed_over = |(_, spot): &(u64, &Spot)| {
            let is_late = now.saturating_since(spot.since) >= PASSED_OVER_FOR;
            spot.passed_over >= PASSED_OVER_MAX || (spot.passed_over > 0 && is_late)
        };
        let oldest = self.lines.values().filter_map(Line::oldest).filter(is_passed_over);
        let number_and_group = oldest.map(|(number, spot)| (number, spot.group)).min();
        self.reserved = number_and_group.map(|(number, group)| Reserved { number, group });
    }

    fn look_again(&mut self) {
        self.is_over = false;
        self.lines.values_mut().for_each(Line::look_again);
    }

    #[cfg(test)]
    pub(super) fn is_kept_for(&self, number: u64) -> bool {
        self.reserved.is_some_and(|kept| kept.number == number)
    }

    #[cfg(test)]
    pub(super) fn is_kept_for_another(&self, number: u64) -> bool {
        self.reserved.is_some_and(|kept| kept.number != number)
    }

    #[cfg(test)]
    pub(super) fn has_offer(&self) -> bool {
        self.offer.is_some()
    }
}

/// Visits so many tenants after the one whose turn it was, until one can afford what it asks for.
///
/// # Errors
/// When none can: the fewest further turns that one of them needs, or `None` when nobody asks for anything.
fn go_round(
    lines: &mut BTreeMap<TenantId, Line>,
    turn: &mut Option<TenantId>,
    visits: usize,
    mut first: impl FnMut(&mut Line) -> Option<(u64, u64)>,
) -> Result<u64, Option<u64>> {
    let mut turns_short: Option<u64> = None;
    let mut tenant = *turn;
    for _ in 0..visits {
        let Some(next) = tenant_after(lines, tenant) else { break };
        tenant = Some(next);
        let Some(line) = lines.get_mut(&next) else { break };
        let Some((number, cost)) = first(line) else { continue };
        line.visit(cost);
        if line.affords(cost) {
            *turn = tenant;
            return Ok(number);
        }
        let short = line.turns_short(cost);
        turns_short = Some(turns_short.map_or(short, |fewest| fewest.min(short)));
    }
    Err(turns_short)
}

fn tenant_after(lines: &BTreeMap<TenantId, Line>, tenant: Option<TenantId>) -> Option<TenantId> {
    let later = tenant.and_then(|tenant| lines.range((Excluded(tenant), Unbounded)).next());
    later.or_else(|| lines.first_key_value()).map(|(tenant, _)| *tenant)
}
