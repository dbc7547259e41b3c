//! A fixed number of requests, one after the other.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::asking::ask;
use super::tally::Tally;
use super::target::Target;
use super::window::Window;

/// Asks `requests` times on one connection.
///
/// # Errors
/// When one of them fails.
pub async fn counted(target: &Target, requests: usize) -> io::Result<Value> {
    let (tally, window) = (Tally::default(), Window::begin(Duration::ZERO, Duration::MAX / 4));
    let mut connection = target.connect().await?;
    for _ in 0..requests {
        ask(&mut connection, target, (&window, Instant::now()), &tally).await?;
    }
    Ok(json!({ "requests": requests }))
}
