//! HTTP towards the upstream. The only file that knows awc.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::dev::Payload;
use actix_web::error::ParseError;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue,
    TRANSFER_ENCODING, USER_AGENT,
};
use actix_web::http::{StatusCode, Uri, Version};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, ClientResponse, Connector};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::domain::provider::{AccountSpec, Auth, ProviderSpec};
use crate::quota::AccountIndex;

/// Some providers' firewalls answer 403 to the default agents of libraries (seen at Groq and Cerebras, public
/// reports up to 2026-10); a plain product name passes.
const USER_AGENT_VALUE: &str = concat!("freellmapi/", env!("CARGO_PKG_VERSION"));

/// Idle connections are kept this long: providers close theirs after a minute or more, and a new TLS
/// handshake costs two round trips.
const IDLE_KEEP: Duration = Duration::from_secs(60);
/// No connection is used for longer, so that a change of the provider's addresses is noticed.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

/// How long the rest of a finished answer may take before its connection is given up for reuse.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// What an error answer may say; the rest is not read.
const ERROR_BODY_MAX_BYTES: usize = 64 * 1024;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS towards all providers: shared by all workers, so that they share session tickets too.
pub type TlsConfig = Arc<rustls::ClientConfig>;

/// TLS that trusts Mozilla's roots and speaks HTTP/1.1: a dead pooled HTTP/2 connection would fail the next
/// request unseen (awc 3.11 sends no pings).
///
/// # Errors
/// When the crypto provider cannot offer TLS 1.2 and 1.3; it always can.
pub fn tls_config() -> Result<TlsConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// One actor's connections to its provider.
pub(super) struct Transport {
    tls: TlsConfig,
    connect_timeout: Duration,
    /// Where chats are posted to; the words of the error where the base URL makes no address.
    endpoint: Result<Uri, String>,
    /// What each account is known by, in the order of the specification.
    authorizations: Vec<Option<HeaderValue>>,
    /// Replaced when a connection that was put back may still bring bytes of an answer that is over.
    client: RefCell<Client>,
}

/// The head of a response; its body follows.
pub(super) struct Response {
    pub(super) status: u16,
    /// Whether the body is compressed, although we never ask for that.
    pub(super) is_encoded: bool,
    pub(super) body: Body,
    /// Without its body: its headers take 3 KiB, which an open stream does not keep.
    head: ClientResponse,
}

impl Response {
    fn new(mut head: ClientResponse) -> Self {
        let headers = head.headers();
        let is_encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let body = Body { payload: head.take_payload(), expected_bytes: length };
        Self { status: head.status().as_u16(), is_encoded, body, head }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.head.headers()
    }
}

impl Transport {
    /// Connections to `provider`, whose chats are posted to `path` below its base URL.
    pub(super) fn new(tls: &TlsConfig, provider: &ProviderSpec, path: &str) -> Self {
        let connect_timeout = provider.timeouts.connect;
        let endpoint = format!("{}{path}", provider.base_url);
        Self {
            tls: Arc::clone(tls),
            connect_timeout,
            endpoint: endpoint.parse().map_err(|error| format!("{endpoint} is no address: {error}")),
            authorizations: provider
                .accounts
                .iter()
                .map(|account| authorization(provider.auth, account))
                .collect(),
            client: RefCell::new(client(tls, connect_timeout)),
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    ///
    /// # Errors
    /// [`FailureKind::Connect`] when nothing was sent; [`FailureKind::Closed`] or [`FailureKind::Protocol`]
    /// when something may have been, or when the answer's end could not be told from the next one's beginning.
    pub(super) async fn send(
        &self,
        account: AccountIndex,
        body: Vec<u8>,
    ) -> Result<Response, UpstreamFailure> {
        let endpoint = match &self.endpoint {
            Ok(endpoint) => endpoint.clone(),
            Err(words) => return Err(UpstreamFailure::new(FailureKind::Connect, words)),
        };
        let mut request = self.client.borrow().post(endpoint);
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(authorization) = self.authorizations.get(account.0).cloned().flatten() {
            headers.insert(AUTHORIZATION, authorization);
        }
        let response = request.send_body(body).await.map_err(|error| failure_of(&error))?;
        if !has_end(&response) {
            self.forget_connections();
            let detail = format!("an answer ({}) whose end nothing tells", response.status());
            return Err(UpstreamFailure::new(FailureKind::Protocol, &detail));
        }
        Ok(Response::new(response))
    }

    /// Gives up every idle connection. Those in use end as they would, and are not put back where anybody finds
    /// them.
    fn forget_connections(&self) {
        self.client.replace(client(&self.tls, self.connect_timeout));
    }
}

/// The header that an account is known by; none where the provider wants none, or the account has no key that a
/// header can carry.
fn authorization(auth: Auth, account: &AccountSpec) -> Option<HeaderValue> {
    let key = account.keys.first().filter(|_| auth == Auth::Bearer)?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Connections are opened when they are needed; there is no limit on them here, because the admission permits of
/// the edge bound what is in flight.
fn client(tls: &TlsConfig, connect_timeout: Duration) -> Client {
    let connector = Connector::new()
        .rustls_0_23(Arc::clone(tls))
        .timeout(connect_timeout)
        .handshake_timeout(connect_timeout)
        .limit(0)
        .conn_keep_alive(IDLE_KEEP)
        .conn_lifetime(CONNECTION_LIFETIME);
    // Time limits belong to the attempt, which knows what it waits for; redirects are never followed.
    Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

/// Whether the head says where the answer ends. awc takes one that does not for an answer without a body, and an
/// interim one (1xx) for the answer itself, and puts the connection back: what comes then would be read as the
/// answer to somebody else's request.
fn has_end(response: &ClientResponse) -> bool {
    let (status, headers) = (response.status(), response.headers());
    let is_interim = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
    let ends_with_head =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS);
    let ends_with_connection = response.version() < Version::HTTP_11;
    let is_framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    !is_interim && (is_framed || ends_with_head || ends_with_connection)
}

fn failure_of(error: &SendRequestError) -> UpstreamFailure {
    let kind = match error {
        // What awc says when the connection closes before the head of the response: the request is out by then.
        SendRequestError::Connect(ConnectError::Disconnected)
        | SendRequestError::Response(ParseError::Io(_)) => FailureKind::Closed,
        SendRequestError::Url(_) | SendRequestError::Connect(_) | SendRequestError::Http(_) => {
            FailureKind::Connect
        }
        SendRequestError::Response(_) => FailureKind::Protocol,
        _ => FailureKind::Closed,
    };
    UpstreamFailure::new(kind, &error.to_string())
}

/// The body of a response, in pieces as they arrive. Dropping it closes the connection unless it was read to
/// its end.
pub(super) struct Body {
    payload: Payload,
    /// What the head says.
    expected_bytes: Option<usize>,
}

impl Stream for Body {
    type Item = Result<Bytes, UpstreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.payload
            .poll_next_unpin(context)
            .map_err(|error| UpstreamFailure::new(FailureKind::Protocol, &error.to_string()))
    }
}

impl Body {
    /// Reads the whole body. One that comes in one piece, as most do, is not copied.
    ///
    /// # Errors
    /// When it is longer than `limit_bytes` or breaks off.
    pub(super) async fn read_whole(mut self, limit_bytes: usize) -> Result<Bytes, UpstreamFailure> {
        let (mut first, mut whole) = (Bytes::new(), Vec::new());
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if first.len() + whole.len() + piece.len() > limit_bytes {
                let detail = format!("the answer is longer than {limit_bytes} bytes");
                return Err(UpstreamFailure::new(FailureKind::Protocol, &detail));
            }
            if first.is_empty() && whole.is_empty() {
                first = piece;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&piece);
            }
        }
        let whole = if whole.is_empty() { first } else { whole.into() };
        // awc ends such a body as if it were complete.
        if self.expected_bytes.is_some_and(|expected| whole.len() < expected) {
            return Err(UpstreamFailure::new(FailureKind::Protocol, "the answer broke off"));
        }
        Ok(whole)
    }

    /// Reads what there is of an error's body, within bounds; it never fails.
    pub(super) async fn read_error(mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let reading = async {
            while let Some(Ok(piece)) = self.next().await {
                let room = ERROR_BODY_MAX_BYTES - text.len();
                text.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
                if text.len() == ERROR_BODY_MAX_BYTES {
                    break;
                }
            }
        };
        let _ended_in_time = actix_web::rt::time::timeout(ERROR_BODY_TIMEOUT, reading).await;
        text
    }

    /// Reads the rest of a finished answer aside, so that its connection can be used again.
    pub(super) fn drain(mut self) {
        actix::spawn(async move {
            let rest = async { while let Some(Ok(_)) = self.next().await {} };
            let _ended_in_time = actix_web::rt::time::timeout(REST_TIMEOUT, rest).await;
        });
    }
}
