//! Who was refused while others got something.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keyed::Keyed;
use super::sight::Groups;
use crate::domain::clock::Moment;

/// A request that was refused for its size is passed over by so many others, or for so long, and then what comes
/// free is kept for it. Chosen: a quarter of the usual wait of 20 s leaves it three quarters to be served in; sixteen
/// grants are about that at the 30 to 60 requests a minute of the shipped catalogue (2026-11-22), and sooner at more.
const PASSED_OVER_MAX: u64 = 16;
const PASSED_OVER_FOR: Duration = Duration::from_secs(5);

/// Grants so far, by group of models.
#[derive(Debug)]
pub(super) struct Granted {
    tokens: Vec<u64>,
    requests: Vec<u64>,
}

impl Granted {
    /// Nothing yet; no group has a number beyond those of the models.
    pub(super) fn new(models: &[Groups]) -> Self {
        Self { tokens: vec![0; models.len()], requests: vec![0; models.len()] }
    }

    pub(super) fn count(&mut self, groups: Groups) {
        let tokens = self.tokens.get_mut(groups.tokens).into_iter();
        let both = tokens.chain(self.requests.get_mut(groups.requests));
        both.for_each(|granted| *granted = granted.saturating_add(1));
    }

    /// Those that took of the same tokens, and those that took of the same requests.
    pub(super) fn of(&self, groups: Groups) -> (u64, u64) {
        let get = |all: &[u64], group: usize| all.get(group).copied().unwrap_or_default();
        (get(&self.tokens, groups.tokens), get(&self.requests, groups.requests))
    }
}

/// The requests that one provider has refused, as long as that means something.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    refused: Keyed<u64, Record>,
    /// Those who were refused in this round.
    now: Vec<u64>,
    /// Those who were passed over too often, and all others who were, by the instant since when they wait.
    too_often: BTreeSet<u64>,
    since: BTreeSet<(Moment, u64)>,
}

/// What is known of a request that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// The round in which that was so last, until when, and what its best model shares with others.
    pub(super) round: u64,
    pub(super) until: Moment,
    pub(super) groups: Groups,
    /// How much had been granted by then to those who share its tokens, and its requests.
    pub(super) granted_before: (u64, u64),
    /// Since when it waits.
    pub(super) since: Moment,
}

#[derive(Debug)]
struct Record {
    last: Refused,
    /// Grants to others in its group after it had been refused, over all rounds that have ended.
    passed_over: u64,
}

impl PassedOver {
    /// The provider has nothing for that request in this round.
    pub(super) fn note(&mut self, number: u64, refused: Refused) {
        self.now.push(number);
        let record = self.refused.entry(number).or_insert(Record { last: refused, passed_over: 0 });
        let is_again = record.last.round == refused.round;
        let granted_before = if is_again { record.last.granted_before } else { refused.granted_before };
        record.last = Refused { granted_before, ..refused };
    }

    pub(super) fn is_refused_in(&self, number: u64, round: u64) -> bool {
        self.refused.get(&number).is_some_and(|record| record.last.round == round)
    }

    pub(super) fn last(&self, number: u64) -> Option<Refused> {
        self.refused.get(&number).map(|record| record.last)
    }

    /// The round is over, with so much granted in each group so far: whoever was refused in it has been passed over by
    /// what was granted after that.
    pub(super) fn end_round(&mut self, granted: &Granted) {
        while let Some(number) = self.now.pop() {
            let Some(record) = self.refused.get_mut(&number) else { continue };
            let Refused { groups, granted_before, since, .. } = record.last;
            let granted = granted.of(groups);
            let tokens = granted.0.saturating_sub(granted_before.0);
            let requests = granted.1.saturating_sub(granted_before.1);
            record.passed_over = record.passed_over.saturating_add(tokens.max(requests));
            // What has been counted is not counted again, where it was refused twice in a round.
            record.last.granted_before = granted;
            match record.passed_over {
                0 => drop(self.refused.remove(&number)),
                PASSED_OVER_MAX.. => drop(self.too_often.insert(number)),
                _ => drop(self.since.insert((since, number))),
            }
        }
    }

    /// That request does not wait any more.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(record) = self.refused.remove(&number) {
            self.too_often.remove(&number);
            self.since.remove(&(record.last.since, number));
        }
    }

    /// The oldest of those who were passed over for too long, by the order of their arrival.
    pub(super) fn oldest(&self, now: Moment) -> Option<(u64, Refused)> {
        let is_late = |(since, _): &&(Moment, u64)| now.saturating_since(*since) >= PASSED_OVER_FOR;
        let late = self.since.first().filter(is_late).map(|(_, number)| *number);
        let number = self.too_often.first().copied().into_iter().chain(late).min()?;
        Some((number, self.last(number)?))
    }
}
