//! The provider actors of one worker, started again when they die.

use std::time::Duration;

use actix::Addr;

use super::messages::ChildSnapshot;
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::provider::ProviderActor;

/// The pause before a second start; it doubles, so that an actor that dies at once does not spin.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Starts one provider's actor on the calling thread. Its state lives elsewhere, so a restart forgets nothing.
pub type StartProvider = Box<dyn Fn() -> Addr<ProviderActor>>;

/// The children. actix's own supervisor does nothing after a panic, so the parent does.
pub struct Roster {
    children: Vec<Child>,
}

struct Child {
    provider: ProviderId,
    start: StartProvider,
    address: Addr<ProviderActor>,
    restarts: u32,
    not_before: Moment,
}

impl Roster {
    /// Starts every provider's actor; positions are those of the catalogue.
    pub fn start(providers: Vec<(ProviderId, StartProvider)>) -> Self {
        let children = providers.into_iter().map(|(provider, start)| {
            let address = start();
            Child { provider, start, address, restarts: 0, not_before: Moment::default() }
        });
        Self { children: children.collect() }
    }

    /// The actor at `position`, alive; else when to ask again.
    pub(super) fn child(&mut self, position: usize, now: Moment) -> Result<Addr<ProviderActor>, Moment> {
        let Some(child) = self.children.get_mut(position) else { return Err(Moment::NEVER) };
        if !child.address.connected() {
            child.restart(now)?;
        }
        Ok(child.address.clone())
    }

    pub(super) fn snapshot(&self) -> Vec<ChildSnapshot> {
        let snapshot = |child: &Child| ChildSnapshot {
            provider: child.provider.clone(),
            is_alive: child.address.connected(),
            restarts: child.restarts,
        };
        self.children.iter().map(snapshot).collect()
    }
}

impl Child {
    fn restart(&mut self, now: Moment) -> Result<(), Moment> {
        if now < self.not_before {
            return Err(self.not_before);
        }
        self.address = (self.start)();
        self.restarts = self.restarts.saturating_add(1);
        self.not_before = now + FIRST_PAUSE.saturating_mul(1 << self.restarts.min(10)).min(PAUSE_MAX);
        log::error!(provider = self.provider.as_str(), restarts = self.restarts; "a provider actor died and was started again");
        Ok(())
    }
}
