//! `freellmapi demo`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Failure, UNAVAILABLE};
use super::output;
use super::serve::{curl, until_stopped};
use super::stop_signals::StopSignals;
use crate::app;
use crate::config::{self, Settings, Sources};
use crate::demo::{Behaviour, Simulation, simulated_specs};
use crate::domain::clock::SystemClock;

/// The one variable that `demo` takes: no key, no store and no file of the operator's come near it.
const LISTEN: &str = "FREELLMAPI_LISTEN";

pub(super) fn run(sources: Sources) -> Result<(), Failure> {
    if sources.file.is_some() {
        return Err(Failure::usage("demo takes no --config: it uses nothing but simulated providers"));
    }
    let mut environment = sources.environment;
    environment.retain(|name, _| name == LISTEN);
    let folder = Folder::create()?;
    let mut settings = config::built_in(&environment)?;
    settings.store.url = format!("sqlite:{}", folder.0.join("demo.db").display());
    settings.stats.spool = folder.0.join("spool");
    actix::System::new().block_on(demo(settings))
}

async fn demo(mut settings: Settings) -> Result<(), Failure> {
    let simulation = Simulation::start(&settings.providers, Behaviour::demo()).await?;
    settings.providers = simulated_specs(settings.providers, &simulation);
    let running = app::start(settings, Arc::new(SystemClock::start()), true).await?;
    // Before anybody learns that it runs, and may want it to stop.
    let signals = StopSignals::listen()?;
    let Some(key) = running.minted_key.as_ref().map(|key| key.expose().to_owned()) else {
        return Err(Failure::new(UNAVAILABLE, "the demo's store was not empty"));
    };
    output::line(
        "FreeLLMAPI demo: six simulated providers on this machine; no answer is real, no account is used.",
    );
    output::line(&format!("URL:  http://{}", running.address));
    output::line(&format!("Key:  {key}"));
    output::line("Paste this to stream an answer; Ctrl-C ends the demo:");
    output::line(&curl(running.address, &key));
    let outcome = until_stopped(running, signals).await;
    simulation.stop().await;
    outcome
}

/// A folder for a store that is thrown away.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("freellmapi-demo-{}", std::process::id()));
        remove(&path);
        fs::create_dir(&path)
            .map_err(|error| Failure::new(UNAVAILABLE, format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    let _was_not_there = fs::remove_dir_all(path);
}
