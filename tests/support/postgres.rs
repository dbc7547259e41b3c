//! A PostgreSQL server of a test's own, to be stopped, hung and filled: the one that tests share must stay well.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use diesel::prelude::*;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::database::{execute_at, texts_at};

/// How long it may take to start or to end. A machine that is busy with other tests is slow at it.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// The database that the gateways under test share.
const DATABASE: &str = "judged";
/// As whom they come: not a superuser, for whom the server would keep connections free.
const USER: &str = "gateway";

/// Prints the cluster's folder, the programs' folder, and the words by which its user runs a program, a line each.
const CREATE: &str = "source scripts/packages.sh && source scripts/postgres.sh && need_postgres && create_cluster \
                      && printf '%s\\n' \"$POSTGRES_FOLDER\" \"$POSTGRES_TOOLS\" \"${POSTGRES_AS[@]}\"";

/// The server; it ends with the test, also when that is killed.
pub(crate) struct OwnPostgres {
    folder: PathBuf,
    /// The words of the command that starts it.
    command: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl OwnPostgres {
    /// A fresh one that admits so many connections, three of them for superusers only.
    ///
    /// # Panics
    /// When the server's programs are missing; says how to get them.
    pub(crate) async fn start(connections: u32) -> Self {
        // Takes seconds, in which others of the same test go on.
        let mut create = Command::new("bash");
        create.args(["-c", CREATE]).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        let made = spawn_blocking(move || create.output().unwrap()).await.unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
        assert!(made.status.success(), "no PostgreSQL of its own: {wrong}");
        // Whatever is said while a package is installed comes first.
        let mut lines = said.lines().skip_while(|line| !line.starts_with('/')).map(str::to_owned);
        let folder = PathBuf::from(lines.next().unwrap());
        let tools = lines.next().unwrap();
        let data = folder.join("data").display().to_string();
        let mut command: Vec<String> = lines.filter(|word| !word.is_empty()).collect();
        // The postmaster is told when the thread that started it has gone.
        command.extend(["setpriv", "--pdeathsig", "QUIT"].map(str::to_owned));
        command.extend([format!("{tools}/postgres"), "-D".to_owned(), data]);
        let settings = format!(
            "listen_addresses=127.0.0.1 unix_socket_directories= max_connections={connections} \
             superuser_reserved_connections=3 fsync=off full_page_writes=off track_functions=pl"
        );
        command.extend(settings.split_whitespace().flat_map(|setting| ["-c".to_owned(), setting.to_owned()]));
        let mut postgres = Self { folder, command, port: 0, server: None };
        postgres.resume().await;
        execute_at(&postgres.url_of("postgres", "postgres"), &format!("CREATE ROLE {USER} LOGIN"));
        let create = format!("CREATE DATABASE {DATABASE} OWNER {USER}");
        execute_at(&postgres.url_of("postgres", "postgres"), &create);
        postgres
    }

    /// As the gateways open it.
    pub(crate) fn url(&self) -> String {
        self.url_of(USER, DATABASE)
    }

    /// As whom the server admits when it is full.
    pub(crate) fn superuser_url(&self) -> String {
        self.url_of("postgres", DATABASE)
    }

    pub(crate) fn texts(&self, query: &str) -> Vec<String> {
        texts_at(&self.superuser_url(), query)
    }

    pub(crate) fn execute(&self, statement: &str) {
        execute_at(&self.superuser_url(), statement);
    }

    fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends it by a signal: `-INT` closes all connections first, `-QUIT` is a crash.
    pub(crate) async fn end(&mut self, signal: &str) {
        let mut server = self.server.take().unwrap();
        send(signal, [server.id()]);
        let ended = async {
            while server.try_wait().unwrap().is_none() {
                sleep(PAUSE).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("PostgreSQL ends");
    }

    /// Starts it again, on the port that it had, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        // A port that is free now may be taken a moment later: then another one is tried.
        let ports = if self.port == 0 { (0..3).map(|_| free_port()).collect() } else { vec![self.port; 3] };
        for port in ports {
            self.port = port;
            let log = fs::File::options().create(true).append(true).open(self.folder.join("server.log"));
            let mut words = self.command.iter();
            let mut command = Command::new(words.next().unwrap());
            command.args(words).args(["-p", &port.to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
            self.server = Some(command.spawn().unwrap());
            if timeout(PATIENCE, self.answers()).await.expect("PostgreSQL starts") {
                return;
            }
        }
        panic!("PostgreSQL has ended: {}", self.log());
    }

    /// Waits until it answers; false when it has ended instead.
    async fn answers(&mut self) -> bool {
        loop {
            if PgConnection::establish(&self.url_of("postgres", "postgres")).is_ok() {
                return true;
            }
            if self.server.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            sleep(PAUSE).await;
        }
    }

    /// Stops all its processes where they are: connections stay, and nobody answers.
    pub(crate) fn hang(&self) {
        let postmaster = self.server.as_ref().unwrap().id();
        // First the one that would start others.
        send("-STOP", [postmaster]);
        send("-STOP", children(postmaster));
    }

    /// Ends [`Self::hang`].
    pub(crate) fn go_on(&self) {
        let postmaster = self.server.as_ref().unwrap().id();
        send("-CONT", children(postmaster));
        send("-CONT", [postmaster]);
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let id = server.id();
            send("-CONT", children(id).into_iter().chain([id]));
            send("-QUIT", [id]);
            // It gives its processes five seconds at most.
            let _ = server.wait();
        }
        // A second panic in a drop would abort the test run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sends a signal to those of the processes that are still there.
fn send(signal: &str, processes: impl IntoIterator<Item = u32>) {
    for id in processes {
        let _ = Command::new("kill").args([signal, &id.to_string()]).stderr(Stdio::null()).status();
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let task = format!("/proc/{parent}/task/{parent}/children");
    let listed = fs::read_to_string(task).unwrap_or_default();
    listed.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("the port's address").port()
}
