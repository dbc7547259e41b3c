//! A way to a server that can be slow or closed: the server is well, and nobody reaches it in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// What the server says arrives so much later.
    Slow(Duration),
    /// They stay, and nothing comes through, as when a cable is cut.
    Silent,
    /// They are closed, and so are new ones at once, as when the server has ended.
    Closed,
    /// The proxy ends.
    Gone,
}

/// Runs on a thread of its own; dropping it closes everything.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: Arc<watch::Sender<Way>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(target: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("the port's address");
        let (way, seen) = watch::channel(Way::Open);
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, target, seen));
        });
        Self { address, way: Arc::new(way), thread: Some(thread) }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Way::Gone);
        if let Some(thread) = self.thread.take() {
            // A panic of its own was printed; a second one in a drop would abort the test run.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, target: String, seen: watch::Receiver<Way>) {
    let listener = TcpListener::from_std(listener).expect("a listener for the runtime");
    let mut gone = seen.clone();
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward(stream, target.clone(), seen.clone()));
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = gone.wait_for(|way| *way == Way::Gone) => {}
    }
}

async fn forward(mut near: TcpStream, target: String, mut way: watch::Receiver<Way>) {
    let mut closed = way.clone();
    let slowness = way.clone();
    let forwarding = async {
        way.wait_for(|way| *way != Way::Silent).await.ok()?;
        let mut far = TcpStream::connect(&target).await.ok()?;
        loop {
            tokio::select! {
                () = carry(&mut near, &mut far, &slowness) => return Some(()),
                silent = way.wait_for(|way| *way == Way::Silent) => drop(silent.ok()?),
            }
            way.wait_for(|way| *way != Way::Silent).await.ok()?;
        }
    };
    tokio::select! {
        _ = forwarding => {}
        _ = closed.wait_for(|way| [Way::Closed, Way::Gone].contains(way)) => {}
    }
}

/// Carries bytes both ways until one side has ended.
async fn carry(near: &mut TcpStream, far: &mut TcpStream, way: &watch::Receiver<Way>) {
    let (near_reader, near_writer) = near.split();
    let (far_reader, far_writer) = far.split();
    let slowness = || match *way.borrow() {
        Way::Slow(delay) => delay,
        _ => Duration::ZERO,
    };
    tokio::select! {
        _ = pass_on(near_reader, far_writer, || Duration::ZERO) => {}
        _ = pass_on(far_reader, near_writer, slowness) => {}
    }
}

async fn pass_on(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    delay: impl Fn() -> Duration,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = reader.read(&mut bytes).await?;
        let Some(read) = bytes.get(..length).filter(|read| !read.is_empty()) else { return Ok(()) };
        // Even a sleep of nothing takes until the timer's next tick.
        if delay() > Duration::ZERO {
            sleep(delay()).await;
        }
        writer.write_all(read).await?;
    }
}
