//! A chat from the door to the first byte of its answer, for every surface.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::rt::time::timeout;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::admission::Permit;
use super::edge::{Edge, Readiness};
use super::held_body::{HeldBody, TAKEN_AT_ONCE_BYTES};
use super::sse_body::{Manner, SseBody};
use super::surface::Surface;
use super::{answer_head, auth, body, error, rate_limit, served};
use crate::access::Caller;
use crate::dispatcher::Dispatch;
use crate::domain::chat::ChatRequest;
use crate::domain::clock::Moment;
use crate::domain::ids::RequestId;
use crate::domain::usage::Outcome;
use crate::error::GatewayError;
use crate::provider::{Answer, EventStream, Served, Whole};
use crate::stats::Completion;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_MAX_WAIT_MS: HeaderName = HeaderName::from_static("x-max-wait-ms");

/// What a surface adds to the common way: how it reads a request and how it shows a whole answer.
pub(super) struct Dialect {
    pub(super) surface: Surface,
    pub(super) read: fn(Bytes) -> Result<ChatRequest, GatewayError>,
    pub(super) whole: fn(Bytes, &Served) -> Bytes,
}

/// Answers a chat. Authentication comes first, in memory; then a permit; then everything that costs.
///
/// Cancel-safe: when the client leaves, the server drops this future or the body that it returned, and with it
/// the upstream call.
pub(super) async fn answer(
    dialect: &Dialect,
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
) -> HttpResponse {
    let answered = edge.panics.survive_all("a request", try_answer(dialect, edge, request, payload)).await;
    answered.unwrap_or_else(|| error::response(&GatewayError::Internal, dialect.surface))
}

async fn try_answer(
    dialect: &Dialect,
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
) -> HttpResponse {
    let started_at = edge.clock.now();
    let caller = match auth::caller(edge, request) {
        Ok(caller) => caller,
        Err(refusal) => {
            edge.requests.unauthorized(dialect.surface.counted());
            let is_fit = body::turn_away(payload, edge.permits.strangers()).await;
            return error::last_unless(is_fit, stranger(&refusal, dialect.surface, request));
        }
    };
    // From here on the request is in the statistics, however it ends. Until it is read, only its client can end it.
    let mut completion = open(edge, request, &caller, (dialect.surface, started_at));
    completion.ends_as(Outcome::ClientLeft);
    let mut is_fit = true;
    let admitted = admit(edge, request, payload, (&caller, &mut is_fit)).await;
    completion.body_is_in();
    // Whoever loses it from here on is one of us.
    completion.ends_as(Outcome::Internal);
    let read = admitted.and_then(|(body, admitted)| Ok(((dialect.read)(body)?, admitted)));
    let mut response = match read {
        Ok((mut chat, admitted)) => {
            chat.policy = Arc::clone(&caller.policy);
            respond(dialect, edge, (chat, admitted), completion).await
        }
        Err(refusal) => {
            completion.finish(refusal.outcome());
            error::last_unless(is_fit, error::response(&refusal, dialect.surface))
        }
    };
    rate_limit::tell(edge, &caller, dialect.surface, response.headers_mut());
    response
}

fn open(
    edge: &Edge,
    request: &HttpRequest,
    caller: &Caller,
    (surface, started_at): (Surface, Moment),
) -> Completion {
    let (recorder, clock) = (edge.recorder.clone(), Arc::clone(&edge.clock));
    Completion::open(
        recorder,
        clock,
        answer_head::request_id(request),
        (caller.tenant, caller.key),
        (surface.counted(), started_at),
    )
}

/// A refusal of somebody whom no statistics know. Its words stay out of the log.
fn stranger(refusal: &GatewayError, surface: Surface, request: &HttpRequest) -> HttpResponse {
    let id = answer_head::request_id(request);
    log::info!(request_id = id.as_str(), path = request.path(), status = refusal.status(); "refused at the door");
    error::response(refusal, surface)
}

/// A request that may be answered.
struct Admitted {
    permit: Permit,
    max_wait: Option<Duration>,
}

/// # Errors
/// Whoever is refused before its body was read learns whether its connection is fit for another request.
async fn admit(
    edge: &Edge,
    request: &HttpRequest,
    payload: &mut Payload,
    (caller, is_fit): (&Caller, &mut bool),
) -> Result<(Bytes, Admitted), GatewayError> {
    let permit = edge.permits.take(caller, edge.clock.now());
    let (permit, max_wait) = match permit.and_then(|permit| Ok((permit, max_wait(request)?))) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            *is_fit = body::turn_away(payload, edge.permits.shed()).await;
            return Err(refusal);
        }
    };
    let body =
        body::read(payload, edge.settings.request_body_limit, edge.settings.client_body_timeout).await?;
    Ok((body, Admitted { permit, max_wait }))
}

fn max_wait(request: &HttpRequest) -> Result<Option<Duration>, GatewayError> {
    let Some(value) = request.headers().get(X_MAX_WAIT_MS) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    let name = X_MAX_WAIT_MS;
    let wrong =
        || GatewayError::bad_field(name.as_str(), format!("{name} must be a whole number of milliseconds"));
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(wrong)
}

async fn respond(
    dialect: &Dialect,
    edge: &Edge,
    (chat, Admitted { permit, max_wait }): (ChatRequest, Admitted),
    mut completion: Completion,
) -> HttpResponse {
    let streamed = chat.streamed;
    completion.is_streamed(streamed);
    let request_id = streamed.then(|| completion.request_id().clone());
    let (reply, answer) = oneshot::channel();
    edge.dispatcher.send(Dispatch { request: Arc::new(chat), completion, max_wait, reply });
    if let Some(request_id) = request_id {
        return stream(dialect, edge, (answer, request_id), permit).await;
    }
    let whole = whole(dialect, edge, answer, permit).await;
    whole.unwrap_or_else(|refusal| error::response(&refusal, dialect.surface))
}

async fn whole(
    dialect: &Dialect,
    edge: &Edge,
    answer: oneshot::Receiver<Answer>,
    permit: Permit,
) -> Result<HttpResponse, GatewayError> {
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        () = edge.readiness.cut_off() => return Err(Readiness::stopping()),
    };
    let Whole { body, served, mut completion } = match answer {
        Ok(Answer::Whole(whole)) => *whole,
        Ok(Answer::Refused(refusal)) => return Err(refusal),
        Ok(Answer::Stream(_)) | Err(_) => return Err(GatewayError::Internal),
    };
    let mut response = HttpResponse::Ok();
    served::headers(&mut response, &served);
    response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    let body = (dialect.whole)(body, &served);
    completion.first_byte();
    if body.len() >= TAKEN_AT_ONCE_BYTES {
        return Ok(response.body(HeldBody::new(body, completion, permit)));
    }
    completion.finish(Outcome::Served);
    drop(permit);
    Ok(response.body(body))
}

/// Waits for the first event, but no longer than one heartbeat: then the headers go out and the body waits on.
async fn stream(
    dialect: &Dialect,
    edge: &Edge,
    (mut answer, request_id): (oneshot::Receiver<Answer>, RequestId),
    permit: Permit,
) -> HttpResponse {
    let manner = Manner {
        surface: dialect.surface,
        heartbeat: edge.settings.heartbeat,
        clock: Arc::clone(&edge.clock),
        readiness: edge.readiness.clone(),
        panics: edge.panics.clone(),
        client_stall_timeout: edge.settings.client_stall_timeout,
        request_id,
    };
    let refusal = match timeout(manner.heartbeat, &mut answer).await {
        Err(_) => {
            let body = SseBody::waiting(answer, manner, permit);
            return event_stream(None, body);
        }
        Ok(Ok(Answer::Stream(events))) => {
            let events: Box<EventStream> = events.take();
            let served = events.served.clone();
            let body = SseBody::streaming(events, manner, permit);
            return event_stream(Some(&served), body);
        }
        Ok(Ok(Answer::Refused(refusal))) => refusal,
        Ok(Ok(Answer::Whole(_)) | Err(_)) => GatewayError::Internal,
    };
    error::response(&refusal, dialect.surface)
}

fn event_stream(served: Option<&crate::provider::Served>, body: SseBody) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(served) = served {
        served::headers(&mut response, served);
    }
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        // nginx and its kin buffer an answer unless they are told not to.
        .insert_header((X_ACCEL_BUFFERING, HeaderValue::from_static("no")))
        .streaming(body)
}
