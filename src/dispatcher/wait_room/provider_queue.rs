//! Those who wait for one provider, and whose turn it is.

use std::collections::hash_map;
use std::time::Duration;

use super::classes::Classes;
use super::entry::Entry;
use super::keyed::Keyed;
use super::line::{Judge, Line};
use super::passed_over::{Granted, PassedOver, Refused};
use super::refusals::Shut;
use super::sight::{Groups, Model, Reserved, Sight};
use super::size::Size;
use super::turns::{Account, Turns};
use crate::domain::bits::Bits;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::quota::ModelIndex;
use crate::routing::Target;

/// An offer that is not decided after this long is joined by another: a slow ledger, or a worker that stands still,
/// must not keep the room from everybody. Chosen: far longer than a ledger's call takes.
const OFFER_PATIENCE: Duration = Duration::from_secs(1);

/// The queue of one provider: a line for each tenant, served by deficit round robin.
///
/// A *round* lasts from one event that may have freed something to the next. Within it everything is offered one by
/// one, and what is refused stays refused for whatever asks for as much or more; then the round is over.
///
/// Nothing here walks over all who wait, nor over all lines for each offer: whoever was looked at in vain is not looked
/// at again in the same round, and requests of a class without room are not looked at.
#[derive(Debug)]
pub(super) struct ProviderQueue {
    round: u64,
    /// Counts what makes those who were looked at in vain worth another look.
    look: u64,
    /// Whether nothing has been offered in this round yet.
    is_fresh: bool,
    /// Whether nobody who waits can use what is left of this round.
    is_over: bool,
    /// When the next round begins by itself.
    next_look: Moment,
    models: Vec<Model>,
    granted: Granted,
    classes: Classes,
    lines: Keyed<TenantId, Line>,
    turns: Turns,
    passed_over: PassedOver,
    waiting: usize,
    offer: Option<Offer>,
    reserved: Option<Reserved>,
}

/// The offer that is outstanding.
#[derive(Clone, Copy, Debug)]
struct Offer {
    number: u64,
    since: Moment,
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
    /// `groups` says of each model what it draws on together with others.
    pub(super) fn new(groups: &[Groups]) -> Self {
        let model = |groups: &Groups| Model { groups: *groups, ..Model::default() };
        Self {
            round: 0,
            look: 0,
            is_fresh: true,
            is_over: false,
            next_look: Moment::NEVER,
            models: groups.iter().map(model).collect(),
            granted: Granted::new(groups),
            classes: Classes::default(),
            lines: Keyed::default(),
            turns: Turns::default(),
            passed_over: PassedOver::default(),
            waiting: 0,
            offer: None,
            reserved: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Catches up with the round that the gauges tell: what was refused before may be granted now.
    pub(super) fn enter(&mut self, round: u64, now: Moment) {
        if round == self.round {
            return;
        }
        self.passed_over.end_round(&self.granted);
        self.round = round;
        self.is_fresh = true;
        self.next_look = Moment::NEVER;
        for model in &mut self.models {
            model.was_short = model.refusals.has_any();
            model.refusals.end_round(now);
            self.next_look = self.next_look.min(model.refusals.next_end());
        }
        if let Some(kept) = self.reserved {
            let is_tight = kept.is_tight || self.are_requests_short(kept.groups);
            self.reserved = Some(Reserved { is_tight, ..kept });
        }
        self.look_again();
    }

    /// Whether others, who share no more than a limit on requests with that group, were refused in the last round.
    fn are_requests_short(&self, groups: Groups) -> bool {
        self.models.iter().any(|model| {
            let shares_requests_alone =
                model.groups.tokens != groups.tokens && model.groups.requests == groups.requests;
            shares_requests_alone && model.was_short
        })
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

    /// Takes a request in; its class here.
    pub(super) fn join<W>(&mut self, provider: usize, number: u64, weight: u32, entry: &Entry<W>) -> usize {
        let (class, is_new) = self.classes.join(entry.candidates().at(provider), &entry.size);
        if is_new {
            self.count(class, |classes| classes.saturating_add(1));
        }
        let round = self.turns.round();
        let line = match self.lines.entry(entry.tenant) {
            hash_map::Entry::Occupied(line) => line.into_mut(),
            hash_map::Entry::Vacant(vacant) => vacant.insert(Line::new(Account::new(weight, round))),
        };
        line.account.set_weight(weight);
        line.insert(class, number);
        self.turns.enter((line.account.round(), entry.tenant));
        self.waiting += 1;
        self.is_over = false;
        class
    }

    /// Takes a request of that class out; whether others may now have what was offered to it or kept for it.
    pub(super) fn leave(&mut self, class: usize, number: u64, tenant: TenantId) -> bool {
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.remove(class, number);
            if line.is_empty() && !self.turns.rest((line.account.round(), tenant)) {
                self.lines.remove(&tenant);
            }
        }
        while let Some(rested) = self.turns.rested() {
            self.lines.remove(&rested);
        }
        if self.classes.is_last(class) {
            self.count(class, |classes| classes.saturating_sub(1));
        }
        self.classes.leave(class);
        self.waiting = self.waiting.saturating_sub(1);
        self.passed_over.leave(number);
        let was_offered = self.withdraw(number);
        let was_kept_for = self.reserved.is_some_and(|kept| kept.number == number);
        if was_kept_for {
            self.reserved = None;
            self.look_again();
        }
        was_offered || was_kept_for
    }

    fn count(&mut self, class: usize, change: impl Fn(usize) -> usize) {
        for index in self.classes.models(class) {
            if let Some(model) = self.models.get_mut(index.0) {
                model.classes = change(model.classes);
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

    /// That request of that class waits on, and may be eligible here.
    pub(super) fn returned(&mut self, class: usize, number: u64, tenant: TenantId) {
        let may_be_kept_for = self.reserved.is_some_and(|kept| kept.number == number);
        if self.passed_over.is_refused_in(number, self.round)
            || (self.classes.is_shut(class) && !may_be_kept_for)
        {
            return;
        }
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.look_again_at(class, number);
            self.turns.look_again_at((line.account.round(), tenant));
            self.is_over = false;
        }
    }

    /// The model has refused a request of that size in this round.
    pub(super) fn note_refusal(&mut self, model: ModelIndex, size: Size, shut: Shut) {
        self.next_look = self.next_look.min(shut.until);
        self.classes.change();
        if let Some(model) = self.models.get_mut(model.0) {
            model.refusals.note(size, shut);
        }
    }

    /// The provider has nothing for that request in this round.
    pub(super) fn note_refused<W>(&mut self, provider: usize, number: u64, entry: &Entry<W>) {
        let best = entry.candidates().at(provider).next();
        let model = best.and_then(|index| self.models.get(index.0));
        let Some((groups, shut)) = model.map(|model| (model.groups, model.refusals.covering(&entry.size)))
        else {
            return;
        };
        let granted_before = self.granted.of(groups);
        let until = shut.map_or(Moment::NEVER, |shut| shut.until);
        let refused = Refused { round: self.round, until, groups, granted_before, since: entry.since };
        self.passed_over.note(number, refused);
        if let Some(kept) = self.reserved.as_mut().filter(|kept| kept.number == number) {
            kept.until = until;
            self.look_again();
        }
    }

    /// The request that was offered room has taken it, at that model.
    pub(super) fn note_granted<W>(&mut self, model: ModelIndex, entry: &Entry<W>) {
        if let Some(line) = self.lines.get_mut(&entry.tenant) {
            let then = (line.account.round(), entry.tenant);
            line.account.charge(entry.size.cost(), self.turns.round());
            self.turns.serve(then, (line.account.round(), entry.tenant));
        }
        self.count_grant(model);
    }

    fn count_grant(&mut self, model: ModelIndex) {
        if let Some(model) = self.models.get(model.0) {
            self.granted.count(model.groups);
        }
    }

    /// What a new request of that size finds at the model. One that may pass, because nobody who waits can use what
    /// it asks for, counts as granted: whoever is refused for its size is passed over by it.
    pub(super) fn at_door(&mut self, index: ModelIndex, size: &Size, now: Moment) -> AtModel {
        let Some(model) = self.models.get(index.0) else { return AtModel::Free };
        let is_kept = self.reserved.is_some_and(|kept| kept.keeps(model.groups, now));
        match model.refusals.covering(size) {
            Some(shut) if shut.until > now => return AtModel::Shut(shut),
            _ if is_kept => return AtModel::Behind,
            _ if model.classes == 0 => return AtModel::Free,
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
        entries: &Keyed<u64, Entry<W>>,
        now: Moment,
    ) -> Option<(u64, Vec<Target>)> {
        let is_undecided = self.offer.is_some_and(|offer| now < offer.since + OFFER_PATIENCE);
        if self.is_over || is_undecided {
            return None;
        }
        if std::mem::take(&mut self.is_fresh) {
            self.keep_for_the_passed_over(now);
        }
        let sight = Sight {
            provider,
            round: self.round,
            now,
            models: &self.models,
            passed_over: &self.passed_over,
            reserved: self.reserved,
        };
        let fits = |number: &u64| entries.get(number).is_some_and(|entry| sight.fits(*number, entry));
        let number = self.reserved.map(|kept| kept.number).filter(fits);
        let number = number.or_else(|| {
            let mut look = Look { classes: &mut self.classes, sight: &sight, entries };
            choose(&mut self.turns, &mut self.lines, self.look, &mut look)
        });
        let Some(number) = number else {
            self.is_over = true;
            return None;
        };
        self.offer = Some(Offer { number, since: now });
        let entry = entries.get(&number)?;
        let mut targets = Vec::with_capacity(entry.candidates().at(provider).count());
        targets.extend(sight.open_models(number, entry).map(|model| Target { provider, model }));
        Some((number, targets))
    }

    /// Keeps what comes free for the oldest request that was passed over for too long, one at a time.
    fn keep_for_the_passed_over(&mut self, now: Moment) {
        if self.reserved.is_none()
            && let Some((number, Refused { groups, until, .. })) = self.passed_over.oldest(now)
        {
            let is_tight = self.are_requests_short(groups);
            self.reserved = Some(Reserved { number, groups, until, is_tight });
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        self.is_over = false;
        self.look += 1;
        self.turns.look_again();
        self.classes.reopen();
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

/// A look at those who wait.
struct Look<'a, W> {
    classes: &'a mut Classes,
    sight: &'a Sight<'a>,
    entries: &'a Keyed<u64, Entry<W>>,
}

impl<W> Judge for Look<'_, W> {
    fn next_open(&self, of: &Bits, from: usize) -> Option<usize> {
        self.classes.next_open(of, from)
    }

    fn may_fit(&mut self, class: usize) -> bool {
        self.classes.may_fit(class, |model, size| self.sight.is_open(model, size))
    }

    fn fits(&mut self, class: usize, number: u64) -> bool {
        let Some(entry) = self.entries.get(&number).filter(|entry| entry.is_waiting()) else { return false };
        self.classes.fits(class, &entry.size, |model, size| self.sight.is_open(model, size))
            && !self.sight.is_refused(number)
    }
}

/// Deficit round robin over the tenants who have somebody eligible; who has nobody is skipped.
fn choose<W>(
    turns: &mut Turns,
    lines: &mut Keyed<TenantId, Line>,
    count: u64,
    look: &mut Look<'_, W>,
) -> Option<u64> {
    while !look.classes.are_shut() {
        let turn = turns.current()?;
        let first = lines.get_mut(&turn.1).and_then(|line| line.first(count, look));
        if first.is_some() {
            return first;
        }
        turns.pass(turn);
    }
    None
}
