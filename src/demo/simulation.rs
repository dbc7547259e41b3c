//! All simulated providers of one demo or test, and what they have seen.

use std::io;
use std::sync::Arc;

use actix_web::dev::ServerHandle;

use super::behaviour::Behaviour;
use super::provider::{OpenCalls, SimulatedProvider};
use super::server;
use crate::domain::ids::ProviderId;
use crate::domain::provider::ProviderSpec;

/// Simulated providers, each behind a loopback port of its own; dropping it closes them all.
#[derive(Debug)]
pub struct Simulation {
    sites: Vec<Site>,
    open_calls: OpenCalls,
}

#[derive(Debug)]
struct Site {
    provider: Arc<SimulatedProvider>,
    base_url: String,
    handle: ServerHandle,
}

impl Simulation {
    /// Opens one server for each of `specs` that has documented limits; the others state nothing to simulate. Each
    /// enforces those limits per account (one account is one bearer key, whichever it is).
    ///
    /// Must be called on an actix system, which then drives the servers. Never waits.
    ///
    /// # Errors
    /// What the system says when it gives no port.
    pub async fn start(specs: &[ProviderSpec], behaviour: Behaviour) -> io::Result<Self> {
        let mut simulation = Self { sites: Vec::new(), open_calls: OpenCalls::default() };
        for spec in specs.iter().filter(|spec| !spec.documented_limits.is_empty()) {
            let provider =
                SimulatedProvider::new(spec.clone(), behaviour.clone(), Arc::clone(&simulation.open_calls));
            let (provider, address, handle) = server::open(provider)?;
            simulation.sites.push(Site { provider, base_url: format!("http://{address}/v1"), handle });
        }
        Ok(simulation)
    }

    /// Where a provider is served, without a trailing slash; `None` when it is not simulated.
    pub fn base_url(&self, provider: &ProviderId) -> Option<&str> {
        self.sites.iter().find(|site| site.provider.spec().id == *provider).map(|site| site.base_url.as_str())
    }

    /// Chat requests that arrived at all providers with a credential, refused ones too.
    pub fn arrivals(&self) -> u64 {
        self.sites.iter().map(|site| site.provider.arrivals()).sum()
    }

    /// Requests that were refused because they would have broken a limit: the caller's mistakes, 0 in a good test.
    /// Faults are not among them.
    pub fn refusals(&self) -> u64 {
        self.sites.iter().map(|site| site.provider.refusals()).sum()
    }

    /// By how many tokens any limit was overdrawn at most, where tokens are only counted at the end.
    pub fn most_overdrawn_tokens(&self) -> u64 {
        self.sites.iter().map(|site| site.provider.most_overdrawn_tokens()).max().unwrap_or(0)
    }

    /// Calls in progress, streamed or not: from their arrival until the last byte went out or the caller left.
    pub fn open_calls(&self) -> usize {
        *self.open_calls.borrow()
    }

    /// Waits until exactly so many calls are in progress; without a limit of time. Safe to cancel.
    pub async fn wait_until_open_calls(&self, count: usize) {
        // The sender lives as long as the simulation, so the wait cannot fail.
        let _ = self.open_calls.subscribe().wait_for(|calls| *calls == count).await;
    }

    /// Closes all servers at once, with the connections that they hold. Dropping does the same without waiting.
    pub async fn stop(self) {
        for site in &self.sites {
            site.handle.stop(false).await;
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        for site in &self.sites {
            // The order is given by the call; its answer need not be waited for.
            drop(site.handle.stop(false));
        }
    }
}
