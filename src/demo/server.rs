//! The HTTP face of one simulated provider: `/v1/chat/completions` and `/v1/models` on a loopback port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::call::Call;
use super::complaint::Complaint;
use super::fault::Fault;
use super::provider::SimulatedProvider;
use super::request::ChatCall;
use super::stream::{broken, events};

/// The largest request that is read. Chosen: twice what the gateway takes by default, so that it never is the limit.
const REQUEST_MAX_BYTES: usize = 16 << 20;

/// How long an idle connection is kept. Chosen: longer than clients keep theirs, so that they decide.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Opens `provider` on a free port of 127.0.0.1, served by one thread of its own.
///
/// # Errors
/// What the system says when it gives no port.
pub(super) fn open(
    provider: SimulatedProvider,
) -> io::Result<(Arc<SimulatedProvider>, SocketAddr, ServerHandle)> {
    let shared = Data::new(provider);
    let provider = Arc::clone(&shared);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&shared))
            .app_data(PayloadConfig::new(REQUEST_MAX_BYTES))
            .route("/v1/chat/completions", web::post().to(chat))
            .route("/v1/models", web::get().to(models))
    })
    .workers(1)
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    // Else a caller that leaves while nothing is sent would go unnoticed, and its call would stay open.
    .h1_allow_half_closed(false)
    .disable_signals()
    .bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = server.addrs().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let server = server.run();
    let handle = server.handle();
    rt::spawn(server);
    Ok((provider, address, handle))
}

async fn models(request: HttpRequest, provider: Data<SimulatedProvider>) -> HttpResponse {
    match provider.account(bearer(&request)) {
        Ok(_) => HttpResponse::Ok().json(model_list(&provider)),
        Err(complaint) => complaint.into_response(),
    }
}

fn model_list(provider: &SimulatedProvider) -> Value {
    let spec = provider.spec();
    let model = |id: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": spec.id.as_str()});
    let models: Vec<Value> = spec.models.iter().map(|spec| model(&spec.id)).collect();
    json!({"object": "list", "data": models})
}

async fn chat(request: HttpRequest, body: Bytes, provider: Data<SimulatedProvider>) -> HttpResponse {
    let provider = provider.into_inner();
    answer(bearer(&request), &body, provider).await.unwrap_or_else(Complaint::into_response)
}

/// A request is counted as soon as its account is known, also when nothing else about it is right.
async fn answer(
    key: Option<&str>,
    body: &[u8],
    provider: Arc<SimulatedProvider>,
) -> Result<HttpResponse, Complaint> {
    let account = provider.account(key)?;
    let chat = ChatCall::parse(body, provider.spec());
    let arrival = chat.as_ref().map(ChatCall::arrival).unwrap_or_default();
    let mut call = Arc::clone(&provider).open(account, arrival)?;
    let chat = chat?;
    let fault = provider.draw_fault()?;
    call.began(chat.prompt_tokens);
    if chat.streamed {
        Ok(streamed(call, &chat, &provider, fault).await)
    } else {
        Ok(whole(call, &chat, &provider, fault).await)
    }
}

/// The head of a stream comes with its first token, as at the real ones.
async fn streamed(
    call: Call,
    chat: &ChatCall,
    provider: &SimulatedProvider,
    fault: Option<Fault>,
) -> HttpResponse {
    let tempo = provider.tempo(fault);
    let letterhead = provider.letterhead(&call, chat);
    pause(tempo.first_token).await;
    let is_cut = fault == Some(Fault::Cut);
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .streaming(events(call, chat, letterhead, provider.answer(chat), tempo, is_cut))
}

async fn whole(
    mut call: Call,
    chat: &ChatCall,
    provider: &SimulatedProvider,
    fault: Option<Fault>,
) -> HttpResponse {
    let answer = provider.answer(chat);
    let output_tokens = answer.output_tokens();
    pause(provider.tempo(fault).whole_answer(output_tokens)).await;
    call.produced(output_tokens);
    let body = provider.letterhead(&call, chat).completion(&answer, call.usage());
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, "application/json"));
    if fault == Some(Fault::Cut) {
        let half = body.slice(..body.len() / 2);
        return response
            .streaming(stream::iter([Ok(half)]).chain(stream::once(async { Err(broken().await) })));
    }
    response.body(body)
}

/// Without a timer where there is nothing to wait for: a timer would round up to a millisecond.
async fn pause(duration: Duration) {
    if !duration.is_zero() {
        rt::time::sleep(duration).await;
    }
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim)
}
