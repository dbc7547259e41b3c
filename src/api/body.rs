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

#[cfg(test)]
mod tests {
    use actix_web::FromRequest;
    use actix_web::dev::Payload as AnyPayload;
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use futures_util::stream::{self, Stream};

    use super::*;
    use crate::api::admission::Permits;

    type Piece = Result<Bytes, PayloadError>;

    async fn payload(pieces: impl Stream<Item = Piece> + 'static) -> Payload {
        let mut any: AnyPayload = AnyPayload::Stream { payload: Box::pin(pieces) };
        Payload::from_request(&TestRequest::default().to_http_request(), &mut any).await.unwrap()
    }

    /// So many pieces of a megabyte.
    fn megabytes(count: usize) -> impl Stream<Item = Piece> {
        stream::iter((0..count).map(|_| Ok(Bytes::from(vec![0; 1 << 20]))))
    }

    #[actix_web::test]
    async fn what_is_there_is_taken_without_a_seat() {
        let nowhere = Seats::new(0);
        assert!(turn_away(&mut payload(megabytes(3)).await, &nowhere).await);
        let mut has_waited = false;
        let second_turn = stream::once(std::future::poll_fn(move |_| {
            if std::mem::replace(&mut has_waited, true) {
                return std::task::Poll::Ready(Ok(Bytes::from_static(b"x")));
            }
            std::task::Poll::Pending
        }));
        assert!(turn_away(&mut payload(second_turn).await, &nowhere).await);
    }

    #[actix_web::test]
    async fn who_is_slow_needs_a_seat_and_has_it_for_a_while() {
        tokio::time::pause();
        let (nowhere, one) = (Seats::new(0), Seats::new(1));
        let slow = || stream::pending::<Piece>();
        assert!(!turn_away(&mut payload(slow()).await, &nowhere).await);
        let (mut first, mut second) = (payload(slow()).await, payload(slow()).await);
        let ends = tokio::join!(turn_away(&mut first, &one), turn_away(&mut second, &one));
        assert_eq!(ends, (false, false));
        assert!(one.take().is_some(), "the seat is free again");
    }

    #[actix_web::test]
    async fn nobody_is_listened_to_for_ever() {
        let permits = Permits::new(1);
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 1 << 16])));
        assert!(!turn_away(&mut payload(endless).await, permits.strangers()).await);
    }
}
