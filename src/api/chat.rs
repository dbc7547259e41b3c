//! A chat from the door to the first byte of its answer, for every surface.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::rt::time::timeout;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::admission::Permit;
use super::edge::Edge;
use super::sse_body::SseBody;
use super::surface::Surface;
use super::{auth, body, error, request_id, served};
use crate::access::Caller;
use crate::dispatcher::Dispatch;
use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::usage::Outcome;
use crate::error::GatewayError;
use crate::provider::{Answer, EventStream, Whole};

/// What a surface adds to the common way: how it reads a request and how it shows a whole answer.
pub(super) struct Dialect {
    pub(super) surface: Surface,
    pub(super) read: fn(Bytes) -> Result<ChatRequest, GatewayError>,
    pub(super) whole: fn(&Whole) -> Bytes,
}

/// Answers a chat.
///
/// Cancel-safe: when the client leaves, the server drops this future or the body that it returned, and with it
/// the upstream call.
pub(super) async fn answer(
    dialect: &Dialect,
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
) -> HttpResponse {
    let started_at = edge.clock.now();
    let result = match admit(edge, request) {
        Ok(admitted) => take(dialect, edge, request, payload, admitted, started_at).await,
        Err(refusal) => {
            body::drain(payload).await;
            Err(refusal)
        }
    };
    result.unwrap_or_else(|refusal| refuse(&refusal, dialect.surface, request))
}

struct Admitted {
    caller: Caller,
    permit: Permit,
    max_wait: Option<Duration>,
}

/// Authentication first, in memory; then a permit; then everything that costs.
fn admit(edge: &Edge, request: &HttpRequest) -> Result<Admitted, GatewayError> {
    let caller = auth::caller(edge, request)?;
    let permit = edge.permits.take()?;
    Ok(Admitted { caller, permit, max_wait: max_wait(request)? })
}

fn max_wait(request: &HttpRequest) -> Result<Option<Duration>, GatewayError> {
    const NAME: &str = "x-max-wait-ms";
    let Some(value) = request.headers().get(NAME) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    let wrong = || GatewayError::bad_field(NAME, format!("{NAME} must be a whole number of milliseconds"));
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(wrong)
}

async fn take(
    dialect: &Dialect,
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
    admitted: Admitted,
    started_at: Moment,
) -> Result<HttpResponse, GatewayError> {
    let body = body::read(payload, edge.settings.request_body_limit).await?;
    let chat = Arc::new((dialect.read)(body)?);
    let streamed = chat.streamed;
    let Admitted { caller, permit, max_wait } = admitted;
    let (reply, answer) = oneshot::channel();
    edge.dispatcher.send(Dispatch {
        request: chat,
        request_id: request_id::of(request),
        caller: (caller.tenant, caller.key),
        started_at,
        max_wait,
        reply,
    });
    if streamed {
        Ok(stream(dialect, edge, answer, permit).await)
    } else {
        whole(dialect, edge, answer, permit).await
    }
}

async fn whole(
    dialect: &Dialect,
    edge: &Edge,
    answer: oneshot::Receiver<Answer>,
    permit: Permit,
) -> Result<HttpResponse, GatewayError> {
    let whole = match answer.await {
        Ok(Answer::Whole(whole)) => whole,
        Ok(Answer::Refused(refusal)) => return Err(refusal),
        Ok(Answer::Stream(_)) | Err(_) => return Err(GatewayError::Internal),
    };
    let mut response = begin_response(edge);
    served::headers(&mut response, &whole.served);
    let response = response.insert_header((CONTENT_TYPE, "application/json")).body((dialect.whole)(&whole));
    let mut completion = whole.completion;
    completion.first_byte();
    completion.finish(Outcome::Served);
    drop(permit);
    Ok(response)
}

/// Waits for the first event, but no longer than one heartbeat: then the headers go out and the body waits on.
async fn stream(
    dialect: &Dialect,
    edge: &Edge,
    mut answer: oneshot::Receiver<Answer>,
    permit: Permit,
) -> HttpResponse {
    let (surface, heartbeat, clock) = (dialect.surface, edge.settings.heartbeat, Arc::clone(&edge.clock));
    let refusal = match timeout(heartbeat, &mut answer).await {
        Err(_) => {
            let body = SseBody::waiting(answer, surface, heartbeat, clock, permit);
            return event_stream(edge, None, body);
        }
        Ok(Ok(Answer::Stream(events))) => {
            let events: Box<EventStream> = events.take();
            let served = events.served.clone();
            let body = SseBody::streaming(events, surface, heartbeat, clock, permit);
            return event_stream(edge, Some(&served), body);
        }
        Ok(Ok(Answer::Refused(refusal))) => refusal,
        Ok(Ok(Answer::Whole(_)) | Err(_)) => GatewayError::Internal,
    };
    error::response(&refusal, surface)
}

fn event_stream(edge: &Edge, served: Option<&crate::provider::Served>, body: SseBody) -> HttpResponse {
    let mut response = begin_response(edge);
    if let Some(served) = served {
        served::headers(&mut response, served);
    }
    response
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        // nginx and its kin buffer an answer unless they are told not to.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body)
}

fn begin_response(edge: &Edge) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if edge.settings.is_demo {
        response.insert_header(("x-freellmapi-demo", "simulated"));
    }
    response
}

/// Renders a refusal; those that never came to the dispatcher are logged here, the others by their event.
fn refuse(refusal: &GatewayError, surface: Surface, request: &HttpRequest) -> HttpResponse {
    log::info!(
        request_id = request_id::of(request).as_str(),
        path = request.path(),
        status = refusal.status();
        "refused: {refusal}"
    );
    error::response(refusal, surface)
}
