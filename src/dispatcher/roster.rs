//! The provider actors of one worker, started again when they die.

use std::time::Duration;

use actix::Addr;

use super::messages::ChildSnapshot;
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;
use crate::domain::pause::doubled;
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
    pub(super) fn child(&mut self, position: usize, now: Moment) -> Result<&Addr<ProviderActor>, Moment> {
        let Some(child) = self.children.get_mut(position) else { return Err(Moment::NEVER) };
        if !child.address.connected() {
            child.restart(now)?;
        }
        Ok(&child.address)
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
        self.not_before = now + doubled(FIRST_PAUSE, self.restarts, PAUSE_MAX);
        log::error!(provider = self.provider.as_str(), restarts = self.restarts; "a provider actor died and was started again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix::{Actor, Arbiter};

    use super::*;
    use crate::config::shipped_providers;
    use crate::domain::clock::{Clock, FakeClock};
    use crate::domain::panics::Panics;
    use crate::provider::{ObserveProvider, ProviderShared, tls_config};

    /// A roster of one provider whose actors live on arbiters of their own, so that a test can end one.
    fn roster(clock: &Arc<FakeClock>, arbiters: &Arc<parking_lot::Mutex<Vec<Arbiter>>>) -> Roster {
        let spec = Arc::new(shipped_providers().unwrap().remove(0));
        let shared =
            Arc::new(ProviderShared::new(Arc::clone(&spec), Arc::clone(clock) as _, Panics::default()));
        let arbiters = Arc::clone(arbiters);
        let start: StartProvider = Box::new(move || {
            let (arbiter, shared, tls) = (Arbiter::new(), Arc::clone(&shared), tls_config().unwrap());
            let address = ProviderActor::start_in_arbiter(&arbiter.handle(), move |_| {
                ProviderActor::new(shared, &tls, 1)
            });
            arbiters.lock().push(arbiter);
            address
        });
        Roster::start(vec![(spec.id.clone(), start)])
    }

    /// Ends the newest actor together with its thread.
    async fn kill(arbiters: &Arc<parking_lot::Mutex<Vec<Arbiter>>>, address: &Addr<ProviderActor>) {
        let arbiter = arbiters.lock().pop().unwrap();
        arbiter.stop();
        arbiter.join().unwrap();
        while address.connected() {
            actix_web::rt::task::yield_now().await;
        }
    }

    #[actix_web::test]
    async fn a_child_that_died_is_started_again_with_a_growing_delay() {
        let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_000_000)));
        let arbiters = Arc::default();
        let mut roster = roster(&clock, &arbiters);

        let first = roster.child(0, clock.now()).unwrap().clone();
        kill(&arbiters, &first).await;
        let second = roster.child(0, clock.now()).unwrap().clone();
        assert!(second.send(ObserveProvider).await.is_ok(), "the second one answers");

        kill(&arbiters, &second).await;
        let not_before = roster.child(0, clock.now()).unwrap_err();
        assert_eq!(not_before, clock.now() + FIRST_PAUSE * 2);
        assert!(!roster.snapshot()[0].is_alive);
        clock.advance(FIRST_PAUSE * 2);
        assert!(roster.child(0, clock.now()).is_ok());
        assert_eq!(roster.snapshot()[0].restarts, 2);
    }

    #[actix_web::test]
    async fn nobody_is_at_an_unknown_position() {
        let clock = Arc::new(FakeClock::at(Moment::default()));
        let mut roster = roster(&clock, &Arc::default());
        assert_eq!(roster.child(7, clock.now()).unwrap_err(), Moment::NEVER);
    }
}
