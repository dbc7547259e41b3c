//! The door: from what a caller presents to who that is.

use std::mem;
use std::time::Duration;

use parking_lot::RwLock;

use super::keyring::{Caller, Keyring, Refused};
use super::known_digests::KnownDigests;
use super::pepper::Pepper;
use crate::domain::clock::Moment;

/// The longest key that is digested; longer ones are unknown unseen. Chosen: an operator's own key may be long,
/// but digesting may not become work that a stranger can order.
const KEY_MAX_BYTES: usize = 512;

/// How long known keys are good without word from the store. Chosen: longer than a database takes to fail over;
/// promised to operators.
const KNOWN_KEYS_LAST: Duration = Duration::from_secs(5 * 60);

/// Admits callers by memory alone. One for the whole process: every worker asks it, the refresher renews it.
#[derive(Debug)]
pub struct Gate {
    pepper: Pepper,
    /// Read by every request and written once a second or less, so that readers share it.
    state: RwLock<State>,
    /// Read by every request and written once for every key that comes into use.
    known: RwLock<KnownDigests>,
}

#[derive(Debug)]
struct State {
    keyring: Keyring,
    /// When the store was asked for it.
    loaded_at: Moment,
    /// Whether the last attempt to load a newer one failed.
    store_away: bool,
}

impl Gate {
    /// A gate that knows the keys that the store had at `loaded_at`.
    pub fn new(pepper: Pepper, keyring: Keyring, loaded_at: Moment) -> Self {
        Self {
            pepper,
            state: RwLock::new(State { keyring, loaded_at, store_away: false }),
            known: RwLock::default(),
        }
    }

    /// Who presents this key.
    ///
    /// # Errors
    /// [`Refused`]. While the store is away an unknown key may be a new one and is [`Refused::StoreAway`]; known
    /// keys admit for another 5 min after the last load.
    pub fn admit(&self, presented: &str, now: Moment) -> Result<Caller, Refused> {
        if presented.len() > KEY_MAX_BYTES {
            return Err(Refused::Unknown);
        }
        let (fingerprint, known) = {
            let known = self.known.read();
            let fingerprint = known.fingerprint(presented);
            (fingerprint, known.get(fingerprint).copied())
        };
        let digest = known.unwrap_or_else(|| self.pepper.digest(presented));
        let answer = self.admit_digest(&digest, now);
        if known.is_none() && answer.is_ok() {
            self.known.write().insert(fingerprint, digest);
        }
        answer
    }

    fn admit_digest(&self, digest: &[u8; 32], now: Moment) -> Result<Caller, Refused> {
        let state = self.state.read();
        if now.saturating_since(state.loaded_at) > KNOWN_KEYS_LAST {
            return Err(Refused::StoreAway);
        }
        match state.keyring.admit(digest, now) {
            Err(Refused::Unknown) if state.store_away => Err(Refused::StoreAway),
            answer => answer,
        }
    }

    /// Puts in force the keys that the store had at `loaded_at`.
    pub fn replace(&self, keyring: Keyring, loaded_at: Moment) {
        let renewed = State { keyring, loaded_at, store_away: false };
        let outdated = mem::replace(&mut *self.state.write(), renewed);
        // Freed only now that no reader waits for the lock.
        drop(outdated);
    }

    /// Notes that the store could not be asked; the next [`Gate::replace`] ends that.
    pub fn note_store_away(&self) {
        self.state.write().store_away = true;
    }

    /// How long ago the keys in force were loaded.
    pub fn staleness(&self, now: Moment) -> Duration {
        now.saturating_since(self.state.read().loaded_at)
    }

    /// How many keys are in force, those that no longer admit included.
    pub fn known_keys(&self) -> usize {
        self.state.read().keyring.len()
    }

    /// What turns keys into digests here; for those who store new keys.
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::db::KeyRow;

    use crate::domain::ids::{KeyId, TenantId};
    use crate::domain::tenant::TenantPolicy;

    const LOADED_AT: Moment = Moment::from_unix_micros(1_000_000);

    fn gate() -> Gate {
        let pepper = Pepper::of(b"pepper");
        Gate::new(Pepper::of(b"pepper"), keyring(&pepper, None), LOADED_AT)
    }

    /// One key, `good`.
    fn keyring(pepper: &Pepper, revoked_at: Option<Moment>) -> Keyring {
        let row = KeyRow {
            id: KeyId(1),
            tenant: TenantId(2),
            tenant_name: "t".to_owned(),
            label: String::new(),
            digest: pepper.digest("good"),
            created_at: LOADED_AT,
            expires_at: None,
            revoked_at,
        };
        Keyring::new(vec![row], &HashMap::from([(TenantId(2), TenantPolicy::unrestricted())]))
    }

    #[test]
    fn a_known_key_admits_and_anything_else_does_not() {
        let gate = gate();
        let caller = Caller { tenant: TenantId(2), key: KeyId(1), policy: TenantPolicy::unrestricted() };
        for _first_and_known in 0..2 {
            assert_eq!(gate.admit("good", LOADED_AT), Ok(caller.clone()));
        }
        for bad in ["", "goo", "good ", "GOOD", &"x".repeat(512), &"x".repeat(10_000_000), "\0ü"] {
            assert_eq!(gate.admit(bad, LOADED_AT), Err(Refused::Unknown));
        }
    }

    #[test]
    fn a_known_key_that_is_revoked_admits_nobody_from_then_on() {
        let gate = gate();
        assert!(gate.admit("good", LOADED_AT).is_ok());
        gate.replace(keyring(gate.pepper(), Some(LOADED_AT)), LOADED_AT);
        assert_eq!(gate.admit("good", LOADED_AT), Err(Refused::Revoked));
        gate.replace(keyring(gate.pepper(), None), LOADED_AT);
        assert!(gate.admit("good", LOADED_AT).is_ok());
    }

    #[test]
    fn guesses_are_not_remembered() {
        let gate = gate();
        for guess in 0..100 {
            assert!(gate.admit(&guess.to_string(), LOADED_AT).is_err());
        }
        assert_eq!(gate.known.read().len(), 0);
        assert!(gate.admit("good", LOADED_AT).is_ok());
        assert_eq!(gate.known.read().len(), 1);
    }

    #[test]
    fn while_the_store_is_away_only_known_keys_admit() {
        let gate = gate();
        gate.note_store_away();
        assert!(gate.admit("good", LOADED_AT).is_ok());
        assert_eq!(gate.admit("new", LOADED_AT), Err(Refused::StoreAway));
        gate.replace(Keyring::default(), LOADED_AT);
        assert_eq!(gate.admit("good", LOADED_AT), Err(Refused::Unknown));
    }

    #[test]
    fn known_keys_last_five_minutes_without_the_store() {
        let gate = gate();
        gate.note_store_away();
        let last = LOADED_AT + Duration::from_secs(300);
        assert!(gate.admit("good", last).is_ok());
        assert_eq!(gate.staleness(last), Duration::from_secs(300));
        assert_eq!(gate.admit("good", last + Duration::from_micros(1)), Err(Refused::StoreAway));
    }
}
