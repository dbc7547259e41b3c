//! Everybody who waits, and what every event means to them; pure.

mod ends;

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::apart::ApartLines;
use super::arrival::{Arrival, Notice, Over};
use super::entry::{Candidates, Entry, State};
use super::gauges::Gauges;
use super::keyed::Keyed;
use super::pace::Pace;
use super::places::Places;
use super::provider_queue::{AtModel, ProviderQueue};
use super::refusals::{Cause, Shut};
use super::sight::Groups;
use super::size::Size;
use super::snapshot::WaitRoomSnapshot;
use crate::dispatcher::course::LOOK;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::provider::{Declined, Said};
use crate::quota::{ModelIndex, Shares};
use crate::routing::Target;

/// A refusal is believed for at least this long, so that one that is over at once cannot spin.
const SHUT_MIN: Duration = Duration::from_millis(5);

/// The queue of the whole process; `W` wakes a waiting request. Every method that may wake somebody says whom in
/// `wakes`; nobody is woken twice without having come back between.
#[derive(Debug)]
pub struct FairQueue<W> {
    providers: Vec<ProviderQueue>,
    entries: Keyed<u64, Entry<W>>,
    deadlines: BTreeSet<(Moment, u64)>,
    /// How many may wait, and of whom.
    shares: Shares,
    places: Places,
    apart: ApartLines<W>,
    gauges: Arc<Gauges>,
    next_number: u64,
    pace: Pace,
    offers_made: u64,
    offers_taken: u64,
    /// Memory for a moment, so that an offer need not ask for any.
    providers_of_one: Vec<usize>,
}

/// Somebody to be woken, and why.
#[derive(Debug)]
pub struct Wake<W> {
    pub waker: W,
    pub notice: Notice,
}

/// What a new request finds at a candidate before it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// It may ask; what it is told is said in this round.
    Free { round: u64 },
    /// It would be refused until then.
    Shut { shut: Shut, round: u64 },
    /// Others were here before, who may have a claim.
    Behind,
}

/// Why a request does not wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// It has waited long enough, or its tenant has too many waiting.
    Over(Over),
    /// No candidate will have room for it in time: the earliest instant of those that are full, and of those that are
    /// off.
    InVain { room_at: Option<Moment>, off_until: Option<Moment> },
}

impl<W> FairQueue<W> {
    /// `layout` says of each model of each provider what it shares with others, `max` bounds how many may wait.
    pub fn new(layout: &[Vec<Groups>], max: usize, gauges: Arc<Gauges>) -> Self {
        Self {
            providers: layout.iter().map(|groups| ProviderQueue::new(groups)).collect(),
            entries: Keyed::default(),
            deadlines: BTreeSet::new(),
            shares: Shares::new(max),
            places: Places::default(),
            apart: ApartLines::default(),
            gauges,
            next_number: 0,
            pace: Pace::default(),
            offers_made: 0,
            offers_taken: 0,
            providers_of_one: Vec::new(),
        }
    }

    /// What a new request of that size finds at `target`.
    pub fn at_door(&mut self, now: Moment, target: Target, size: &Size) -> Door {
        let round = self.enter(target.provider, now);
        let Some(queue) = self.providers.get_mut(target.provider) else { return Door::Free { round } };
        match queue.at_door(target.model, size, now) {
            AtModel::Free => Door::Free { round },
            AtModel::Shut(shut) => Door::Shut { shut, round },
            AtModel::Behind => Door::Behind,
        }
    }

    /// Seats a request; answers its number.
    ///
    /// # Errors
    /// [`Over`] when there is no place for one of its tenant.
    pub fn park(
        &mut self,
        now: Moment,
        arrival: Arrival,
        waker: W,
        wakes: &mut Vec<Wake<W>>,
    ) -> Result<u64, Over> {
        let Arrival { number, tenant, weight, size, deadline, declined } = arrival;
        self.admit(now, tenant, weight, wakes)?;
        let number = number.filter(|number| !self.entries.contains_key(number)).unwrap_or(self.next_number);
        self.next_number = self.next_number.max(number.saturating_add(1));
        let candidates = Candidates::new(declined.iter().map(|declined| declined.target));
        let mut entry = Entry::new((tenant, size), (now, deadline), candidates, waker);
        self.join(number, weight, &mut entry);
        self.places.add(tenant, weight, number);
        self.deadlines.insert((deadline, number));
        self.entries.insert(number, entry);
        self.learn(now, number, &declined);
        self.offer_to(now, number, wakes);
        Ok(number)
    }

    /// Puts a request into the lines of all its candidates.
    fn join(&mut self, number: u64, weight: u32, entry: &mut Entry<W>) {
        let mut classes = Vec::new();
        for provider in entry.candidates().providers() {
            // Counted first, the round looked at then: see `Gauges`.
            self.gauges.came(provider);
            let queue = self.providers.get_mut(provider);
            classes.push(queue.map_or(0, |queue| queue.join(provider, number, weight, entry)));
        }
        entry.set_classes(classes);
    }

    /// Takes back a request whose offer was refused, to its old place.
    ///
    /// # Errors
    /// [`NoSeat`] when it does not wait on; it is gone then.
    pub fn back(
        &mut self,
        now: Moment,
        (number, declined): (u64, &[Declined]),
        waker: W,
        wakes: &mut Vec<Wake<W>>,
    ) -> Result<(), NoSeat> {
        let Some(entry) = self.entries.get_mut(&number) else {
            return Err(NoSeat::Over(Over {
                retry_after: Duration::ZERO,
                position: 1,
                is_ledger_away: false,
            }));
        };
        let deadline = entry.deadline;
        let asked = match mem::replace(&mut entry.state, State::Waiting(waker)) {
            State::Offered { provider } => Some(provider),
            State::Waiting(_) => None,
        };
        if let Some(queue) = asked.and_then(|provider| self.providers.get_mut(provider)) {
            queue.withdraw(number);
        }
        self.forget(number, declined);
        self.learn(now, number, declined);
        if let Some(end) = self.end_of(now, number) {
            self.remove(now, number, wakes);
            asked.into_iter().for_each(|provider| self.offer(now, provider, wakes));
            return Err(end);
        }
        self.deadlines.insert((deadline, number));
        if let Some(entry) = self.entries.get(&number) {
            for (provider, class) in entry.places() {
                if let Some(queue) = self.providers.get_mut(provider) {
                    queue.returned(class, number, entry.tenant);
                }
            }
        }
        self.offer_to(now, number, wakes);
        Ok(())
    }

    /// The room that a request was offered is really its own: it has left the queue.
    pub fn granted(&mut self, now: Moment, number: u64, model: ModelIndex, wakes: &mut Vec<Wake<W>>) {
        let Some(entry) = self.entries.get(&number) else { return };
        if let State::Offered { provider } = entry.state
            && let Some(queue) = self.providers.get_mut(provider)
        {
            queue.note_granted(model, entry);
            self.pace.note(now);
            self.offers_taken = self.offers_taken.saturating_add(1);
        }
        self.remove(now, number, wakes);
    }

    /// A request waits for its tenant's own limits: it counts among those who wait, and stands in no provider's line.
    /// Answers its number, and whether it is its tenant's first there; else `waker` is told when it is.
    ///
    /// # Errors
    /// [`Over`] when there is no place for one of its tenant.
    pub(super) fn sit_apart(
        &mut self,
        now: Moment,
        (tenant, weight, number): (TenantId, u32, Option<u64>),
        waker: W,
        wakes: &mut Vec<Wake<W>>,
    ) -> Result<(u64, bool), Over> {
        self.admit(now, tenant, weight, wakes)?;
        let number = number.unwrap_or(self.next_number);
        self.next_number = self.next_number.max(number.saturating_add(1));
        Ok((number, self.apart.join(tenant, number, waker)))
    }

    /// Whether somebody of that tenant, who came before, waits for its own limits.
    pub(super) fn is_behind_apart(&self, tenant: TenantId, number: Option<u64>) -> bool {
        self.apart.is_behind(tenant, number)
    }

    /// One that sat apart does not any more; the next of its tenant may ask.
    pub(super) fn stand_up(&mut self, tenant: TenantId, number: u64, wakes: &mut Vec<Wake<W>>) {
        self.shares.give_back(tenant);
        let next = self.apart.leave(tenant, number);
        wakes.extend(next.map(|waker| Wake { waker, notice: Notice::First }));
    }

    /// A request is over: its client has left, or it was answered otherwise.
    pub(super) fn left(&mut self, now: Moment, number: u64, wakes: &mut Vec<Wake<W>>) {
        self.remove(now, number, wakes);
    }

    /// That provider may have room that it had not; the gauges have been advanced.
    pub fn freed(&mut self, now: Moment, provider: usize, wakes: &mut Vec<Wake<W>>) {
        self.offer(now, provider, wakes);
    }

    /// Does what is due: ends waits, begins rounds.
    pub fn tick(&mut self, now: Moment, wakes: &mut Vec<Wake<W>>) {
        while let Some((deadline, number)) = self.deadlines.pop_first() {
            if deadline > now {
                self.deadlines.insert((deadline, number));
                break;
            }
            // Whoever asks just now is judged when it comes back.
            if self.entries.get(&number).is_some_and(Entry::is_waiting) {
                self.dismiss(now, number, wakes);
            }
        }
        for provider in 0..self.providers.len() {
            let queue = self.providers.get(provider).filter(|queue| !queue.is_empty());
            let Some(is_due) = queue.map(|queue| queue.is_due(now)) else { continue };
            if is_due {
                self.gauges.advance(provider);
            }
            self.offer(now, provider, wakes);
        }
    }

    /// When [`FairQueue::tick`] has something to do, as long as nothing happens.
    pub(super) fn next_instant(&self) -> Moment {
        let deadline = self.deadlines.first().map_or(Moment::NEVER, |(deadline, _)| *deadline);
        self.providers.iter().map(ProviderQueue::next_instant).fold(deadline, Moment::min)
    }

    pub(super) fn snapshot(&self, now: Moment) -> WaitRoomSnapshot {
        let oldest = self.entries.values().map(|entry| entry.since).min();
        let oldest_wait = oldest.map_or(Duration::ZERO, |since| now.saturating_since(since));
        WaitRoomSnapshot {
            waiting: self.waiting(),
            tenants: self.places.snapshot(),
            oldest_wait_ms: u64::try_from(oldest_wait.as_millis()).unwrap_or(u64::MAX),
            offers_made: self.offers_made,
            offers_taken: self.offers_taken,
        }
    }

    fn admit(
        &mut self,
        now: Moment,
        tenant: TenantId,
        weight: u32,
        wakes: &mut Vec<Wake<W>>,
    ) -> Result<(), Over> {
        if self.shares.take(tenant, weight, now).is_ok() {
            return Ok(());
        }
        let position = self.waiting().saturating_add(1);
        let full = Over { retry_after: self.pace.of(position), position, is_ledger_away: false };
        let greedy = self.shares.makes_way_for(tenant).ok_or(full)?;
        let is_waiting = |number: &u64| self.entries.get(number).is_some_and(Entry::is_waiting);
        let newest = self.places.newest(greedy).find(is_waiting).ok_or(full)?;
        self.dismiss(now, newest, wakes);
        self.shares.take(tenant, weight, now).map_err(|_| full)
    }

    pub(super) fn waiting(&self) -> usize {
        usize::try_from(self.shares.held()).unwrap_or(usize::MAX)
    }

    /// Takes note of what candidates have said to a request; what was said in an earlier round says nothing any more.
    fn learn(&mut self, now: Moment, number: u64, declined: &[Declined]) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let is_away = |declined: &Declined| matches!(declined.said, Some(Said::LedgerAway { .. }));
        entry.is_ledger_away = declined.iter().any(is_away);
        for provider in entry.candidates().providers() {
            let queue = self.providers.get_mut(provider);
            queue.into_iter().for_each(|queue| queue.enter(self.gauges.round(provider), now));
        }
        let mut declined = declined.to_vec();
        // Stable: what a provider has said stays in its order.
        declined.sort_by_key(|declined| declined.target.provider);
        for said_here in declined.chunk_by(|one, next| one.target.provider == next.target.provider) {
            let Some(provider) = said_here.first().map(|declined| declined.target.provider) else { continue };
            let Some(queue) = self.providers.get_mut(provider) else { continue };
            let round = queue.round();
            let mut has_said_all = true;
            for Declined { target, said } in said_here {
                let (until, cause) = match *said {
                    Some(Said::Full { until, round: said_in }) if said_in == round => (until, Cause::Full),
                    Some(Said::Off { until, round: said_in }) if said_in == round => (until, Cause::Off),
                    Some(Said::LedgerAway { until }) => (until, Cause::LedgerAway),
                    Some(Said::TooLarge) => continue,
                    Some(Said::Full { .. } | Said::Off { .. }) | None => {
                        has_said_all = false;
                        continue;
                    }
                };
                let shut = Shut { until: until.max(now + SHUT_MIN), cause };
                queue.note_refusal(target.model, entry.size, shut);
            }
            if has_said_all {
                queue.note_refused(provider, number, entry);
            }
        }
    }

    /// Takes the candidates that will never have room for it off a request's list.
    fn forget(&mut self, number: u64, declined: &[Declined]) {
        let is_too_large = |declined: &&Declined| declined.said == Some(Said::TooLarge);
        let hopeless: Vec<Target> =
            declined.iter().filter(is_too_large).map(|declined| declined.target).collect();
        if hopeless.is_empty() {
            return;
        }
        let Some(mut entry) = self.entries.remove(&number) else { return };
        for (provider, class) in entry.places() {
            self.gauges.went(provider);
            if let Some(queue) = self.providers.get_mut(provider) {
                queue.leave(class, number, entry.tenant);
            }
        }
        entry.keep_candidates(|target| !hopeless.contains(&target));
        self.join(number, self.places.weight(entry.tenant), &mut entry);
        self.entries.insert(number, entry);
    }

    /// Ends a wait.
    fn dismiss(&mut self, now: Moment, number: u64, wakes: &mut Vec<Wake<W>>) {
        let Some(entry) = self.entries.get(&number) else { return };
        let notice = Notice::Over(self.over(now, number, entry));
        if let Some(State::Waiting(waker)) = self.remove(now, number, wakes).map(|entry| entry.state) {
            wakes.push(Wake { waker, notice });
        }
    }

    fn remove(&mut self, now: Moment, number: u64, wakes: &mut Vec<Wake<W>>) -> Option<Entry<W>> {
        let entry = self.entries.remove(&number)?;
        self.deadlines.remove(&(entry.deadline, number));
        self.shares.give_back(entry.tenant);
        self.places.remove(entry.tenant, number);
        let mut is_free_again = Vec::new();
        for (provider, class) in entry.places() {
            self.gauges.went(provider);
            let queue = self.providers.get_mut(provider);
            if queue.is_some_and(|queue| queue.leave(class, number, entry.tenant)) {
                is_free_again.push(provider);
            }
        }
        is_free_again.into_iter().for_each(|provider| self.offer(now, provider, wakes));
        Some(entry)
    }

    /// Has every candidate of that request make its next offer, which need not be to this one.
    fn offer_to(&mut self, now: Moment, number: u64, wakes: &mut Vec<Wake<W>>) {
        let Some(entry) = self.entries.get(&number) else { return };
        let mut providers = mem::take(&mut self.providers_of_one);
        providers.extend(entry.candidates().providers());
        providers.drain(..).for_each(|provider| self.offer(now, provider, wakes));
        self.providers_of_one = providers;
    }

    fn offer(&mut self, now: Moment, provider: usize, wakes: &mut Vec<Wake<W>>) {
        let round = self.enter(provider, now);
        let Some(queue) = self.providers.get_mut(provider) else { return };
        let Some((number, targets)) = queue.next_offer(provider, &self.entries, now) else { return };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if let State::Waiting(waker) = mem::replace(&mut entry.state, State::Offered { provider }) {
            self.offers_made = self.offers_made.saturating_add(1);
            wakes.push(Wake { waker, notice: Notice::Offer { targets, round } });
        }
    }

    /// Catches up with the provider's round.
    fn enter(&mut self, provider: usize, now: Moment) -> u64 {
        let round = self.gauges.round(provider);
        if let Some(queue) = self.providers.get_mut(provider) {
            queue.enter(round, now);
        }
        round
    }

    #[cfg(test)]
    pub(super) fn provider(&self, provider: usize) -> &ProviderQueue {
        &self.providers[provider]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
