//! `freellmapi serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::output;
use crate::app::{self, Running};
use crate::config::{self, Settings, Sources};
use crate::domain::clock::SystemClock;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    settings.warnings().iter().for_each(|warning| log::warn!("{warning}"));
    actix::System::new().block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let running = app::start(settings, Arc::new(SystemClock::start()), false).await?;
    log::info!("listening on http://{}", running.address);
    if let Some(key) = &running.minted_key {
        output::line("A key for tenant `default`; it is shown only this once:");
        output::line(&format!("  {}", key.expose()));
        output::line("Try it:");
        output::line(&curl(running.address, key.expose()));
    }
    until_stopped(running).await
}

/// A line that streams an answer when it is pasted into a shell.
pub(super) fn curl(address: SocketAddr, key: &str) -> String {
    format!(
        "curl -N http://{address}/api/chat.php -H 'Authorization: Bearer {key}' \
         -H 'Content-Type: application/json' -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'"
    )
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends the process at once.
pub(super) async fn until_stopped(running: Running) -> Result<(), Failure> {
    signal().await?;
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
    signal().await
}

async fn signal() -> Result<(), Failure> {
    use actix_web::rt::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
