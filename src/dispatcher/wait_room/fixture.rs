//! A pool of providers that grant tokens, for the tests of the queue: it is to the queue what the books are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::arrival::{Arrival, Notice, Over};
use super::gauges::Gauges;
use super::queue::{Door, FairQueue, NoSeat, Wake};
use super::sight::Groups;
use super::size::Size;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::domain::input_tokens::InputTokens;
use crate::provider::{Declined, Said};
use crate::quota::ModelIndex;
use crate::routing::Target;

pub(super) const START: Moment = Moment::from_unix_micros(1_000_000_000);

/// Every provider has one model, of unlimited requests and so many tokens. Or there is one provider, of so many
/// requests, and what stands for providers here are its models.
pub(super) struct World {
    pub(super) queue: FairQueue<u64>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) now: Moment,
    pub(super) tokens: Vec<u64>,
    /// What all models share, if they are of one provider.
    pub(super) shared: Option<u64>,
    pub(super) requests: BTreeMap<u64, Request>,
    offers: BTreeSet<u64>,
    /// In the order of their grants.
    pub(super) granted: Vec<u64>,
    pub(super) refused: Vec<(u64, Over)>,
    pub(super) in_vain: Vec<u64>,
    /// What each provider says of the instant of its next release.
    pub(super) release_in: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) tenant: i64,
    pub(super) weight: u32,
    pub(super) tokens: u64,
    pub(super) providers: Vec<usize>,
    pub(super) deadline: Moment,
    pub(super) number: Option<u64>,
    pub(super) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Offered(usize, u64),
    Gone,
}

impl World {
    pub(super) fn new(tokens: &[u64], max: usize) -> Self {
        let layout: Vec<Vec<Groups>> = tokens.iter().map(|_| vec![Groups::default()]).collect();
        Self::laid_out(&layout, tokens, max, None)
    }

    /// One provider, whose models have tokens of their own and share so many requests.
    pub(super) fn sharing(requests: u64, tokens: &[u64]) -> Self {
        let layout = (0..tokens.len()).map(|model| Groups { tokens: model, requests: 0 }).collect();
        Self::laid_out(&[layout], tokens, 1_000, Some(requests))
    }

    fn laid_out(layout: &[Vec<Groups>], tokens: &[u64], max: usize, shared: Option<u64>) -> Self {
        let gauges = Arc::new(Gauges::new(layout.len()));
        Self {
            queue: FairQueue::new(layout, max, Arc::clone(&gauges)),
            gauges,
            shared,
            now: START,
            tokens: tokens.to_vec(),
            requests: BTreeMap::new(),
            offers: BTreeSet::new(),
            granted: Vec::new(),
            refused: Vec::new(),
            in_vain: Vec::new(),
            release_in: Duration::from_secs(1),
        }
    }

    /// A request comes to the door, asks where it may, and waits when nobody has room. Answers its id.
    pub(super) fn arrive(&mut self, tenant: i64, weight: u32, tokens: u64, providers: &[usize]) -> u64 {
        self.arrive_for(tenant, weight, tokens, providers, Duration::from_secs(20))
    }

    pub(super) fn arrive_for(
        &mut self,
        tenant: i64,
        weight: u32,
        tokens: u64,
        providers: &[usize],
        wait: Duration,
    ) -> u64 {
        let id = self.requests.len() as u64;
        let deadline = self.now + wait;
        let request = Request {
            tenant,
            weight,
            tokens,
            providers: providers.to_vec(),
            deadline,
            number: None,
            state: State::Waiting,
        };
        self.requests.insert(id, request);
        let mut declined = Vec::new();
        for &provider in providers {
            let target = self.target(provider);
            let said = match self.at_door(provider, tokens) {
                Door::Free { .. } if self.grants(provider, tokens) => {
                    self.requests.get_mut(&id).unwrap().state = State::Gone;
                    self.granted.push(id);
                    return id;
                }
                Door::Free { round } => Some(Said::Full { until: self.now + self.release_in, round }),
                Door::Shut { shut, round } => Some(Said::Full { until: shut.until, round }),
                Door::Behind => None,
            };
            declined.push(Declined { target, said });
        }
        self.park(id, declined);
        id
    }

    pub(super) fn at_door(&mut self, provider: usize, tokens: u64) -> Door {
        let target = self.target(provider);
        if self.gauges.waiting(target.provider) == 0 {
            return Door::Free { round: self.gauges.round(target.provider) };
        }
        self.queue.at_door(self.now, target, &size(tokens))
    }

    fn park(&mut self, id: u64, declined: Vec<Declined>) {
        let request = self.requests[&id].clone();
        let arrival = Arrival {
            number: request.number,
            tenant: TenantId(request.tenant),
            weight: request.weight,
            size: size(request.tokens),
            deadline: request.deadline,
            declined,
        };
        let mut wakes = Vec::new();
        let parked = self.queue.park(self.now, arrival, id, &mut wakes);
        match parked {
            Ok(number) => self.requests.get_mut(&id).unwrap().number = Some(number),
            Err(over) => {
                self.requests.get_mut(&id).unwrap().state = State::Gone;
                self.refused.push((id, over));
            }
        }
        self.take(wakes);
    }

    /// Tokens come free.
    pub(super) fn free(&mut self, provider: usize, tokens: u64) {
        self.tokens[provider] += tokens;
        self.happened(self.target(provider).provider);
    }

    /// Requests come free that the models share.
    pub(super) fn free_shared(&mut self, requests: u64) {
        self.shared = self.shared.map(|shared| shared + requests);
        self.happened(0);
    }

    fn happened(&mut self, provider: usize) {
        self.gauges.advance(provider);
        if self.gauges.waiting(provider) > 0 {
            let mut wakes = Vec::new();
            self.queue.freed(self.now, provider, &mut wakes);
            self.take(wakes);
        }
    }

    /// What the books are asked.
    fn grants(&mut self, provider: usize, tokens: u64) -> bool {
        let grants = self.tokens[provider] >= tokens && self.shared != Some(0);
        if grants {
            self.tokens[provider] -= tokens;
            self.shared = self.shared.map(|shared| shared - 1);
        }
        grants
    }

    fn target(&self, provider: usize) -> Target {
        match self.shared {
            Some(_) => Target { provider: 0, model: ModelIndex(provider) },
            None => target(provider),
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut wakes = Vec::new();
        self.queue.tick(self.now, &mut wakes);
        self.take(wakes);
    }

    /// Who has been offered something, in the order of their ids.
    pub(super) fn offered(&self) -> Vec<u64> {
        self.offers.iter().copied().collect()
    }

    /// One who was offered room asks for it.
    pub(super) fn answer(&mut self, id: u64) {
        self.offers.remove(&id);
        let request = self.requests.get_mut(&id).unwrap();
        let State::Offered(provider, round) = request.state else { panic!("{id} has no offer") };
        let (number, tokens) = (request.number.unwrap(), request.tokens);
        let mut wakes = Vec::new();
        if self.grants(provider, tokens) {
            self.requests.get_mut(&id).unwrap().state = State::Gone;
            self.granted.push(id);
            self.queue.granted(self.now, number, self.target(provider).model, &mut wakes);
        } else {
            self.requests.get_mut(&id).unwrap().state = State::Waiting;
            let until = self.now + self.release_in;
            self.back(id, provider, Said::Full { until, round }, &mut wakes);
        }
        self.take(wakes);
    }

    /// One who was offered room is told something else.
    pub(super) fn decline(&mut self, id: u64, said: impl FnOnce(Moment) -> Said) {
        self.offers.remove(&id);
        let request = self.requests.get_mut(&id).unwrap();
        let State::Offered(provider, _) = request.state else { panic!("{id} has no offer") };
        request.state = State::Waiting;
        let mut wakes = Vec::new();
        self.back(id, provider, said(self.now + self.release_in), &mut wakes);
        self.take(wakes);
    }

    fn back(&mut self, id: u64, provider: usize, said: Said, wakes: &mut Vec<Wake<u64>>) {
        let declined = [Declined { target: self.target(provider), said: Some(said) }];
        let request = self.requests.get_mut(&id).unwrap();
        match self.queue.back(self.now, (request.number.unwrap(), &declined), id, wakes) {
            Ok(()) => {}
            Err(no_seat) => {
                request.state = State::Gone;
                match no_seat {
                    NoSeat::Over(over) => self.refused.push((id, over)),
                    NoSeat::InVain { .. } => self.in_vain.push(id),
                }
            }
        }
    }

    pub(super) fn answer_all(&mut self) {
        while let Some(id) = self.offers.first().copied() {
            self.answer(id);
        }
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.offers.remove(&id);
        let request = self.requests.get_mut(&id).unwrap();
        request.state = State::Gone;
        let Some(number) = request.number else { return };
        let mut wakes = Vec::new();
        self.queue.left(self.now, number, &mut wakes);
        self.take(wakes);
    }

    pub(super) fn is_waiting(&self, id: u64) -> bool {
        self.requests[&id].state == State::Waiting
    }

    fn take(&mut self, wakes: Vec<Wake<u64>>) {
        for Wake { waker, notice } in wakes {
            let request = self.requests.get_mut(&waker).unwrap();
            assert_eq!(request.state, State::Waiting, "{waker} is woken twice");
            request.state = match notice {
                Notice::Offer { targets, round } => {
                    assert_eq!(targets.len(), 1);
                    self.offers.insert(waker);
                    let Target { provider, model } = targets[0];
                    State::Offered(if self.shared.is_some() { model.0 } else { provider }, round)
                }
                Notice::First => panic!("{waker} does not sit apart"),
                Notice::Over(over) => {
                    self.refused.push((waker, over));
                    State::Gone
                }
            };
        }
    }
}

pub(super) fn target(provider: usize) -> Target {
    Target { provider, model: ModelIndex(0) }
}

pub(super) fn size(tokens: u64) -> Size {
    Size { input: InputTokens::certain(tokens), output_tokens: Some(0), choices: 1 }
}
