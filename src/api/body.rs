//! The request's body, read within bounds.

use std::time::Duration;

use actix_web::rt::time::timeout;
use actix_web::web::{BytesMut, Payload};
use bytes::Bytes;
use futures_util::StreamExt;

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
pub(super) async fn drain(payload: &mut Payload) {
    let reading = async {
        let mut taken = 0;
        while let Some(Ok(piece)) = payload.next().await {
            taken += piece.len();
            if taken > DRAIN_MAX_BYTES {
                break;
            }
        }
    };
    let _ended_in_time = timeout(DRAIN_TIMEOUT, reading).await;
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
