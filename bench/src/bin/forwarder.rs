//! The yardstick: what actix-web and awc cost when nothing else is done.
//!
//! One worker, one route. The request is read whole and sent on with its key; the answer streams through as it comes.
//! No actors, no keys of its own, no limits, no checks, no statistics, no failover. Its server and its client are
//! set up as the gateway's are, so that the difference between both is the gateway's own work.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use awc::{Client, Connector};
use freellmapi_bench::arguments::{Arguments, exit_code};
use freellmapi_bench::script::PATH;

const USAGE: &str = "
usage: forwarder --upstream 127.0.0.1:PORT [--listen 127.0.0.1:0]";

/// The gateway's values, see its `app/wiring.rs` and `provider/transport.rs`.
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(75);
const IDLE_KEEP: Duration = Duration::from_secs(60);
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

struct Upstream {
    client: Client,
    url: String,
}

fn main() -> ExitCode {
    exit_code("forwarder", USAGE, run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::new(std::env::args().skip(1))?;
    let upstream: SocketAddr = arguments.need("upstream")?;
    let address = arguments.take("listen", SocketAddr::from(([127, 0, 0, 1], 0)))?;
    arguments.finish()?;
    actix_web::rt::System::new().block_on(serve(address, format!("http://{upstream}{PATH}")))
}

async fn serve(address: SocketAddr, url: String) -> Result<(), Box<dyn Error>> {
    let server = HttpServer::new(move || {
        let upstream = Data::new(Upstream { client: client(), url: url.clone() });
        App::new().app_data(upstream).route(PATH, web::post().to(forward))
    })
    .workers(1)
    .keep_alive(CLIENT_KEEP_ALIVE)
    .tcp_nodelay(true)
    .h1_allow_half_closed(false)
    // In a bench nobody is left to wait for.
    .shutdown_timeout(1)
    .bind(address)?;
    for address in server.addrs() {
        writeln!(std::io::stdout(), "{}", address.port())?;
    }
    Ok(server.run().await?)
}

fn client() -> Client {
    let connector = Connector::new().limit(0).conn_keep_alive(IDLE_KEEP).conn_lifetime(CONNECTION_LIFETIME);
    Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

async fn forward(upstream: Data<Upstream>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let mut onward = upstream.client.post(upstream.url.as_str());
    for name in [CONTENT_TYPE, AUTHORIZATION] {
        if let Some(value) = request.headers().get(&name) {
            onward = onward.insert_header((name, value.clone()));
        }
    }
    let Ok(answer) = onward.send_body(body).await else {
        return HttpResponse::BadGateway().finish();
    };
    let mut response = HttpResponse::build(answer.status());
    if let Some(value) = answer.headers().get(CONTENT_TYPE) {
        response.insert_header((CONTENT_TYPE, value.clone()));
    }
    let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) => response.body(SizedStream::new(length, answer)),
        None => response.streaming(answer),
    }
}
