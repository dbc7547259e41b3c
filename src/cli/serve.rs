//! `freellmapi serve`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, IO};
use super::stop_signals::StopSignals;
use super::{key, output};
use crate::access::ApiKey;
use crate::app::{self, OpenStore, Running};
use crate::config::{self, Settings, Sources};
use crate::domain::clock::SystemClock;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    settings.warnings().iter().for_each(|warning| log::warn!("{warning}"));
    match actix::System::new().block_on(serve(settings.clone()))? {
        None => Ok(()),
        Some(unseen) => withdraw(&settings, &unseen),
    }
}

/// A first key that could not be printed.
struct Unseen {
    key: ApiKey,
    error: io::Error,
}

async fn serve(settings: Settings) -> Result<Option<Unseen>, Failure> {
    let running = app::start(settings, Arc::new(SystemClock::start()), false).await?;
    // Before anybody learns that it runs, and may want it to stop.
    let signals = StopSignals::listen()?;
    log::info!("listening on http://{}", running.address);
    let shown = running.minted_key.as_ref().map(|key| (key.clone(), show(key, running.address)));
    if let Some((key, Err(error))) = shown {
        running.drain().await;
        return Ok(Some(Unseen { key, error }));
    }
    until_stopped(running, signals).await.map(|()| None)
}

fn show(key: &ApiKey, address: SocketAddr) -> io::Result<()> {
    output::line("A key for tenant `default`; it is shown only this once:");
    output::line_once(&format!("  {}", key.expose()))?;
    output::line("Try it:");
    output::line(&curl(address, key.expose()));
    Ok(())
}

/// A second start would mint no other key, and nobody would miss this one.
fn withdraw(settings: &Settings, unseen: &Unseen) -> Result<(), Failure> {
    let OpenStore { store, pepper } = OpenStore::open(settings)?;
    let digest = pepper.digest(unseen.key.expose());
    let row = store.keys(None)?.into_iter().find(|row| row.digest == digest);
    Err(match row {
        Some(row) => key::withdraw(&*store, row.id, &unseen.error),
        None => Failure::new(IO, format!("the first key could not be printed: {}", unseen.error)),
    })
}

/// A line that streams an answer when it is pasted into a shell.
pub(super) fn curl(address: SocketAddr, key: &str) -> String {
    format!(
        "curl -N http://{address}/api/chat.php -H 'Authorization: Bearer {key}' \
         -H 'Content-Type: application/json' -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'"
    )
}

/// Serves until a signal to stop, then drains; a second signal ends the process at once.
pub(super) async fn until_stopped(running: Running, mut signals: StopSignals) -> Result<(), Failure> {
    signals.recv().await;
    log::info!("draining; a second signal stops at once");
    tokio::select! {
        () = running.drain() => {}
        second = second_signal() => {
            second?;
            return Err(Failure::new(super::failure::UNAVAILABLE, "stopped before everything was drained"));
        }
    }
    log::info!("drained");
    Ok(())
}

/// Some supervisors and shells send a signal to the process and again to its group: that is one wish, not two.
const ONE_WISH: Duration = Duration::from_secs(1);

async fn second_signal() -> Result<(), Failure> {
    actix_web::rt::time::sleep(ONE_WISH).await;
    StopSignals::listen()?.recv().await;
    Ok(())
}
