//! Many connections that do little: what they cost, and that others are served meanwhile. A real process, whose memory
//! and descriptors are its own.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use actix_web::rt::time::sleep;
use serde_json::json;
use tempfile::TempDir;

use crate::durability::{Process, until};
use crate::soak::gauges::Gauges;
use crate::support::app::{KEY, chat_body, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::raw_client::{RawClient, chat};

const IDLE: usize = 10_000;

/// What the descriptors of this process must leave to the tests beside this one.
const LEFT_TO_OTHERS: usize = 1_000;

/// What such a connection may cost. Measured (2026-11-23, debug build): 11 to 13 KiB.
const KIB_EACH_MAX: u64 = 32;

const WORKERS: usize = 2;

const SLOW: usize = 1_000;

/// So few at once that none waits in the listener's queue.
const AT_ONCE: usize = 100;

const WHOLE: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
const HALF: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\nx-half: ";

async fn serve(folder: &TempDir, upstream: &FakeUpstream) -> Process {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = {WORKERS}\nclient_head_timeout = \"2s\"\n{}",
        provider("up", upstream, "")
    );
    fs::write(folder.path().join("test.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
    command.current_dir(folder.path()).env_clear().env("FREELLMAPI_API_KEY", KEY);
    command.args(["--config", "test.toml"]).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start(command).await
}

/// What there is once every worker has served: they start after the program listens.
async fn at_rest(process: &Process) -> Gauges {
    for _ in 0..WORKERS {
        others_are_served(process.address.parse().unwrap()).await;
    }
    gauges(process)
}

fn gauges(process: &Process) -> Gauges {
    Gauges::of(process.id(), "/nowhere".as_ref())
}

/// So many connections, each of which has sent `bytes` and, where they ask for it, read its answer.
async fn connect(address: SocketAddr, count: usize, bytes: &[&[u8]]) -> Vec<RawClient> {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = RawClient::connect(address).await;
        for bytes in bytes {
            client.send(bytes).await;
            if *bytes == WHOLE {
                client.read_until("\r\n\r\n").await;
            }
        }
        clients.push(client);
        if number % AT_ONCE == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    clients
}

async fn others_are_served(address: SocketAddr) {
    let mut other = RawClient::connect(address).await;
    other.send(&chat(&chat_body(json!({"stream": false})))).await;
    assert!(other.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

async fn all_are_closed(process: &Process, sockets: u64) {
    // One to the provider stays in the pool of each worker.
    let kept = WORKERS as u64;
    until("all are closed", async || (gauges(process).sockets <= sockets + kept).then_some(())).await;
}

/// As many as the system lets this process hold beside the other tests, but no more than wanted.
fn allowed(wanted: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft: usize = line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    let allowed = wanted.min(soft.saturating_sub(LEFT_TO_OTHERS));
    assert!(allowed > 0, "`ulimit -n` is {soft}: too low for this test");
    if allowed < wanted {
        println!("only {allowed} of {wanted} connections: `ulimit -n` is {soft}");
    }
    allowed
}

#[actix_web::test]
async fn ten_thousand_idle_connections_cost_little_and_disturb_nobody() {
    let (upstream, folder) = (FakeUpstream::start([]), tempfile::tempdir().unwrap());
    let process = serve(&folder, &upstream).await;
    let address = process.address.parse().unwrap();
    let count = allowed(IDLE);
    let before = at_rest(&process).await;
    let idle = connect(address, count, &[WHOLE]).await;
    let during = gauges(&process);
    assert!(during.sockets >= count as u64, "{during:?}");
    others_are_served(address).await;
    let each = (during.resident_kib - before.resident_kib) / count as u64;
    println!("{count} idle connections: {each} KiB each; {before:?}, {during:?}");
    assert!(each <= KIB_EACH_MAX, "{each} KiB for a connection");
    drop(idle);
    all_are_closed(&process, before.sockets).await;
    process.terminate().await;
}

/// The server's library times the first head of a connection and not the later ones (actix-http 3.20, read
/// 2026-11-23): those stay as long as their clients, and cost no more than idle ones.
#[actix_web::test]
async fn a_thousand_heads_without_an_end_stop_nobody() {
    let (upstream, folder) = (FakeUpstream::start([]), tempfile::tempdir().unwrap());
    let process = serve(&folder, &upstream).await;
    let address = process.address.parse().unwrap();
    let before = at_rest(&process).await;
    let first = connect(address, SLOW, &[HALF]).await;
    others_are_served(address).await;
    // Their time is over while they are still there.
    all_are_closed(&process, before.sockets).await;
    drop(first);

    let later = connect(address, SLOW, &[WHOLE, HALF]).await;
    let during = gauges(&process);
    others_are_served(address).await;
    let each = during.resident_kib.saturating_sub(before.resident_kib) / SLOW as u64;
    println!("{SLOW} later heads without an end: {each} KiB each");
    assert!(each <= KIB_EACH_MAX, "{each} KiB for a connection");
    // And they do not keep the program from ending.
    let log = process.terminate().await;
    assert!(log.contains("drained"), "{log}");
    drop(later);
}
