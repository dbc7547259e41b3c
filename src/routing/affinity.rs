//! Which model a conversation has had so far, so that it may keep it.
//!
//! Invariant: what one tenant's conversation had never decides for another tenant's, and what is remembered is bounded.

use std::collections::HashMap;
use std::time::Duration;

use super::catalog::Target;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;

/// A conversation that rests for longer starts anew. Chosen: providers keep a prompt's cache for about as long
/// (Anthropic says 5 minutes, OpenAI 5 to 10 of inactivity:
/// <https://gist.github.com/monperrus/9784f52d5144975fd11be7f642c4a8fc>, 2026-10-03, read 2026-11-23).
const IDLE_MAX: Duration = Duration::from_secs(600);

/// As many conversations are remembered in each of two halves.
const HALF_MAX: usize = 5_000;

/// A conversation of one tenant. The tenant is a part of it, so nobody can aim at another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    pub tenant: TenantId,
    /// Of what it began with ([`Opening`](crate::domain::chat::Opening)).
    pub digest: u64,
}

/// The conversations of the last minutes.
///
/// Two halves: what is used goes into the young one; when that is full, or old enough, it becomes the old one, and the
/// old one is forgotten. No look ever walks the map.
#[derive(Debug, Default)]
pub struct Affinity {
    young: HashMap<ConversationKey, Had>,
    old: HashMap<ConversationKey, Had>,
    young_since: Moment,
}

/// What a conversation had last.
#[derive(Clone, Copy, Debug)]
struct Had {
    target: Target,
    at: Moment,
}

impl Affinity {
    /// The target that the conversation had last, unless it has rested for too long.
    pub fn preferred(&self, now: Moment, key: ConversationKey) -> Option<Target> {
        let had = self.young.get(&key).or_else(|| self.old.get(&key))?;
        (now.saturating_since(had.at) < IDLE_MAX).then_some(had.target)
    }

    /// The conversation has `target` now.
    pub fn note(&mut self, now: Moment, key: ConversationKey, target: Target) {
        let is_old = now.saturating_since(self.young_since) >= IDLE_MAX;
        if is_old || (self.young.len() >= HALF_MAX && !self.young.contains_key(&key)) {
            self.old = std::mem::take(&mut self.young);
            self.young_since = now;
        }
        self.young.insert(key, Had { target, at: now });
    }

    /// How many conversations are remembered, for those who look.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::ModelIndex;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000_000);
    const TENANT: TenantId = TenantId(1);

    fn target(model: usize) -> Target {
        Target { provider: 0, model: ModelIndex(model) }
    }

    #[test]
    fn a_conversation_keeps_its_model_while_it_goes_on() {
        let mut affinity = Affinity::default();
        let key = ConversationKey { tenant: TENANT, digest: 7 };
        assert_eq!(affinity.preferred(NOW, key), None);
        affinity.note(NOW, key, target(3));
        let last = NOW + IDLE_MAX - Duration::from_micros(1);
        assert_eq!(affinity.preferred(last, key), Some(target(3)));
        assert_eq!(affinity.preferred(NOW + IDLE_MAX, key), None);
        affinity.note(last, key, target(4));
        assert_eq!(affinity.preferred(NOW + IDLE_MAX, key), Some(target(4)));
    }

    #[test]
    fn no_tenant_sees_what_another_one_had() {
        let mut affinity = Affinity::default();
        let mine = ConversationKey { tenant: TENANT, digest: 7 };
        let theirs = ConversationKey { tenant: TenantId(2), ..mine };
        affinity.note(NOW, mine, target(3));
        assert_eq!(affinity.preferred(NOW, theirs), None);
        assert_ne!(mine, theirs);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_stay() {
        let mut affinity = Affinity::default();
        let key = |digest| ConversationKey { tenant: TENANT, digest };
        for number in 0..30_000_u64 {
            affinity.note(NOW, key(number), target(1));
            assert!(affinity.len() <= 2 * HALF_MAX);
        }
        for number in 25_000..30_000_u64 {
            assert!(affinity.preferred(NOW, key(number)).is_some(), "{number}");
        }
    }
}
