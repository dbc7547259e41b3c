//! The request's body, read within bounds.

use std::pin::pin;
use std::time::Duration;

use actix_web::rt::task::yield_now;
use actix_web::rt::time::timeout;
use actix_web::web::{BytesMut, Payload};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::admission::Seats;
use crate::error::GatewayError;

/// What is still taken of a body whose answer is settled, so that the client gets to reading the answer.
const DRAIN_MAX_BYTES: usize = 32 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body of at most `limit_bytes`, which may take `time`.
///
/// # Errors
/// 413 when it is longer (its rest is drained), 408 when it does not arrive in time, 400 when it breaks off.
pub(super) async fn read(
    payload: &mut Payload,
    limit_bytes: usize,
    time: Duration,
) -> Result<Bytes, GatewayError> {
    let whole = timeout(time, collect(payload, limit_bytes)).await;
    let outcome = whole.unwrap_or(Err(GatewayError::BodyTimeout));
    if let Err(GatewayError::BodyTooLarge { .. }) = outcome {
        drain(payload).await;
    }
    outcome
}

/// Throws away what is left of a body, within bounds.
async fn drain(payload: &mut Payload) {
    let _ended_in_time = timeout(DRAIN_TIMEOUT, discard(payload)).await;
}

/// Throws away the body of somebody who is turned away: what is there already, and what is still to come within
/// bounds while one of the `seats` is free. Whether the connection is fit for another request; where not, it is to be
/// closed.
pub(super) async fn turn_away(payload: &mut Payload, seats: &Seats) -> bool {
    let mut discarding = pin!(discard(payload));
    if let Some(is_over) = discarding.as_mut().now_or_never() {
        return is_over;
    }
    // The server hands over what came with the head only after the handler's first turn.
    yield_now().await;
    if let Some(is_over) = discarding.as_mut().now_or_never() {
        return is_over;
    }
    match seats.take() {
        Some(_seat) => timeout(DRAIN_TIMEOUT, discarding).await.unwrap_or(false),
        None => false,
    }
}

/// Whether the body came to its end.
async fn discard(payload: &mut Payload) -> bool {
    let mut taken = 0;
    while let Some(piece) = payload.next().await {
        let Ok(piece) = piece else { return false };
        taken += piece.len();
        if taken > DRAIN_MAX_BYTES {
            return false;
        }
    }
    true
}

async fn collect(payload: &mut Payload, limit_bytes: usize) -> Result<Bytes, GatewayError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|error| GatewayError::BadRequest {
            field: None,
            message: format!("the body could not be read: {error}"),
        })?;
        if whole.len() + piece.len() > limit_bytes {
            return Err(GatewayError::BodyTooLarge { limit_bytes });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
