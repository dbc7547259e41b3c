//! The program as a person runs it: what it prints where, and how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::database::TestDatabase;

/// The program in a folder of its own, without anything of the environment.
fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
    command.current_dir(folder).env_clear().env("RUST_LOG", "warn").env("TMPDIR", folder);
    command.stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder).args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A server that has printed its first key.
struct Serving {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    printed: String,
}

impl Serving {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = program(folder);
        command.args(arguments);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.env("FREELLMAPI_LISTEN", "127.0.0.1:0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        while !printed.contains("curl ") {
            assert_ne!(stdout.read_line(&mut printed).unwrap(), 0, "it ended: {printed}");
        }
        Self { child, stdout, printed }
    }

    fn curl_line(&self) -> &str {
        self.printed.lines().find(|line| line.starts_with("curl ")).unwrap()
    }

    /// Sends SIGTERM and answers with the exit code and all that was printed on stdout.
    fn stop(self) -> (Option<i32>, String) {
        self.stop_by("-TERM")
    }

    fn stop_by(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        self.stdout.read_to_string(&mut self.printed).unwrap();
        (status.code(), self.printed.clone())
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let folder = folder();
    let commands: [&[&str]; 14] = [
        &["--help"],
        &["serve", "--help"],
        &["demo", "--help"],
        &["check", "--help"],
        &["migrate", "--help"],
        &["tenant", "add", "--help"],
        &["tenant", "set", "--help"],
        &["tenant", "remove", "--help"],
        &["tenant", "list", "--help"],
        &["key", "create", "--help"],
        &["key", "list", "--help"],
        &["key", "revoke", "--help"],
        &["model", "list", "--help"],
        &["tenant", "--help"],
    ];
    for arguments in commands {
        let help = run(folder.path(), arguments);
        assert_eq!(code(&help), 0, "{arguments:?}");
        assert!(arguments == ["tenant", "--help"] || out(&help).contains("Example"), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_is_64() {
    let folder = folder();
    let wrong: [&[&str]; 6] = [
        &["dance"],
        &["--nonsense"],
        &["key", "create"],
        &["key", "revoke", "three"],
        &["key", "revoke", "999"],
        &["key", "create", "--tenant", "nobody"],
    ];
    for arguments in wrong {
        let output = run(folder.path(), arguments);
        assert_eq!(code(&output), 64, "{arguments:?}: {}", err(&output));
        assert!(!err(&output).is_empty() && out(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_is_78_and_tells_everything_at_once() {
    let folder = folder();
    fs::write(
        folder.path().join("bad.toml"),
        "[server]\nlisten = \"nowhere\"\nwrokers = 2\n[dispatch]\nmax_wait = \"soon\"\n",
    )
    .unwrap();
    for command in ["serve", "migrate"] {
        let output = run(folder.path(), &["--config", "bad.toml", command]);
        assert_eq!(code(&output), 78, "{command}");
        for key in ["server.listen", "server.wrokers", "dispatch.max_wait"] {
            assert!(err(&output).contains(key), "{command}: {}", err(&output));
        }
    }
    let demo = run(folder.path(), &["--config", "bad.toml", "demo"]);
    assert_eq!(code(&demo), 64, "the demo takes nothing of the operator's: {}", err(&demo));
    let check = run(folder.path(), &["--config", "bad.toml", "check"]);
    assert_eq!(code(&check), 1);
    assert_eq!(err(&check).lines().count(), 3, "{}", err(&check));
    let missing = run(folder.path(), &["--config", "missing.toml"]);
    assert_eq!(code(&missing), 78);
    assert!(err(&missing).contains("missing.toml"));
}

#[test]
fn a_store_that_cannot_be_reached_is_69() {
    let folder = folder();
    let mut command = program(folder.path());
    command.env("DATABASE_URL", "postgres://u:secret@127.0.0.1:1/x");
    command.env("FREELLMAPI_MASTER_KEY", "0".repeat(64));
    let output = command.arg("migrate").output().unwrap();
    assert_eq!(code(&output), 69, "{}", err(&output));
    assert!(!err(&output).contains("secret"), "{}", err(&output));
}

/// Every file below `folder` with a hash of what is in it, but for those that SQLite keeps beside an open store.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap();
        if path.is_dir() {
            files.extend(self::files(&path));
            files.insert(path, 0);
        } else if !name.ends_with("-wal") && !name.ends_with("-shm") {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).unwrap().hash(&mut hasher);
            files.insert(path, hasher.finish());
        }
    }
    files
}

#[test]
fn a_check_changes_nothing() {
    let folder = folder();
    let empty = run(folder.path(), &["check"]);
    assert_eq!(code(&empty), 0, "{}", err(&empty));
    assert_eq!(files(folder.path()), BTreeMap::new());

    assert_eq!(code(&run(folder.path(), &["migrate"])), 0);
    let migrated = files(folder.path());
    let check = run(folder.path(), &["check"]);
    assert_eq!(code(&check), 0, "nothing is sealed yet: {}", err(&check));
    assert_eq!(files(folder.path()), migrated);

    assert_eq!(code(&run(folder.path(), &["tenant", "list"])), 0);
    let sealed = files(folder.path());
    let check = run(folder.path(), &["check"]);
    assert_eq!(code(&check), 0, "{}", err(&check));
    assert_eq!(files(folder.path()), sealed);
}

#[test]
fn a_check_leaves_a_store_that_was_never_migrated_as_it_is() {
    let folder = folder();
    fs::create_dir(folder.path().join("data")).unwrap();
    let file = folder.path().join("data/freellmapi.db");
    fs::write(&file, "").unwrap();
    let before = files(folder.path());
    let check = run(folder.path(), &["check"]);
    assert_eq!(code(&check), 0, "{}", err(&check));
    assert!(err(&check).contains("migrations are pending"), "{}", err(&check));
    assert_eq!(files(folder.path()), before);

    let database = TestDatabase::empty_postgres();
    let variables = [("DATABASE_URL", database.url()), ("FREELLMAPI_MASTER_KEY", "5a".repeat(32))];
    let check = program(folder.path()).arg("check").envs(variables).output().unwrap();
    assert_eq!(code(&check), 0, "{}", err(&check));
    assert!(err(&check).contains("migrations are pending"), "{}", err(&check));
    let all = "SELECT tablename::text AS value FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.texts(all, all), [""; 0]);
}

#[test]
fn a_check_tells_of_a_spool_that_cannot_be_written() {
    let folder = folder();
    fs::write(folder.path().join("spool.toml"), "[stats]\nspool = \"spool.toml/spool\"\n").unwrap();
    let check = run(folder.path(), &["--config", "spool.toml", "check"]);
    assert_eq!(code(&check), 1, "{}", err(&check));
    assert!(err(&check).contains("stats.spool: spool.toml/spool cannot be written"), "{}", err(&check));
}

#[test]
fn a_check_tells_what_is_wrong_with_the_master_key() {
    let folder = folder();
    assert_eq!(code(&run(folder.path(), &["tenant", "list"])), 0);
    let master_key = folder.path().join("data/master.key");
    let kept = fs::read(&master_key).unwrap();
    fs::remove_file(&master_key).unwrap();
    let missing = run(folder.path(), &["check"]);
    assert_eq!(code(&missing), 1);
    assert!(err(&missing).contains("data/master.key holds no key"), "{}", err(&missing));
    assert!(!master_key.exists());

    fs::write(&master_key, "0".repeat(kept.len())).unwrap();
    fs::set_permissions(&master_key, fs::Permissions::from_mode(0o600)).unwrap();
    let damaged = run(folder.path(), &["check"]);
    assert_eq!(code(&damaged), 1);
    assert!(err(&damaged).contains("data/master.key does not hold 64 hex digits"), "{}", err(&damaged));

    let mut postgres = program(folder.path());
    postgres.env("DATABASE_URL", "postgres://u@127.0.0.1:1/x");
    let output = postgres.arg("check").output().unwrap();
    assert_eq!(code(&output), 1);
    for problem in ["unreachable", "FREELLMAPI_MASTER_KEY is needed with Postgres"] {
        assert!(err(&output).contains(problem), "{}", err(&output));
    }
}

#[test]
fn keys_and_tenants_are_made_listed_and_revoked() {
    let folder = folder();
    assert_eq!(code(&run(folder.path(), &["tenant", "add", "--name", "team-a"])), 0);
    assert_eq!(code(&run(folder.path(), &["tenant", "add", "--name", "team-a"])), 64);
    assert!(out(&run(folder.path(), &["tenant", "list"])).contains("team-a"));

    let created =
        run(folder.path(), &["key", "create", "--tenant", "team-a", "--label", "laptop", "--expires", "30d"]);
    let key = out(&created);
    assert!(key.starts_with("freellmapi-") && key.trim().len() == 59 && key.lines().count() == 1, "{key}");
    assert!(err(&created).contains("key 1"), "{}", err(&created));

    let listed = out(&run(folder.path(), &["key", "list", "--tenant", "team-a"]));
    assert!(listed.contains("laptop") && listed.contains("expires"), "{listed}");
    assert!(!listed.contains(key.trim()));

    assert_eq!(code(&run(folder.path(), &["key", "revoke", "1"])), 0);
    assert!(out(&run(folder.path(), &["key", "list"])).contains("revoked"));
    let bad = run(folder.path(), &["key", "create", "--tenant", "team-a", "--expires", "soon"]);
    assert_eq!(code(&bad), 64);
}

#[test]
fn a_tenants_grants_are_set_shown_and_lifted() {
    let folder = folder();
    let tenant = |arguments: &[&str]| run(folder.path(), &[&["tenant"], arguments].concat());
    let added =
        tenant(&["add", "--name", "a", "--rpm", "30", "--weight", "3", "--models", "gpt-9", "--no-training"]);
    assert_eq!(code(&added), 0, "{}", err(&added));
    assert!(err(&added).contains("warning: no configured model is called `gpt-9`"), "{}", err(&added));
    let set = tenant(&["set", "--name", "a", "--rpm", "none", "--tpd", "5000", "--no-training=false"]);
    assert_eq!(code(&set), 0, "{}", err(&set));
    let listed = out(&tenant(&["list", "--json"]));
    let rows: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let row = &rows[0];
    assert_eq!((&row["name"], &row["weight"]), (&"a".into(), &3.into()));
    assert_eq!((&row["rpm"], &row["tpd"]), (&serde_json::Value::Null, &5_000.into()));
    assert_eq!((&row["models"][0], &row["no_training"]), (&"gpt-9".into(), &false.into()));
    assert!(out(&tenant(&["list"])).contains("tpd 5000, weight 3, models gpt-9"));

    for wrong in [
        &["set", "--name", "a"] as &[&str],
        &["set", "--name", "a", "--rpm", "0"],
        &["set", "--name", "a", "--rpm", "-1"],
        &["set", "--name", "a", "--weight", "none"],
        &["set", "--name", "a", "--models", ""],
        &["set", "--name", "b", "--rpm", "1"],
        &["add", "--name", "c", "--tpm", "1.5"],
        &["remove", "--name", "b"],
    ] {
        let output = tenant(wrong);
        assert_eq!(code(&output), 64, "{wrong:?}");
        assert!(!err(&output).is_empty());
    }
    assert_eq!(out(&tenant(&["list"])).lines().count(), 2);

    assert_eq!(code(&run(folder.path(), &["key", "create", "--tenant", "a"])), 0);
    let removed = tenant(&["remove", "--name", "a"]);
    assert_eq!(out(&removed), "tenant a is removed, and its keys with it: 1\n");
    assert_eq!(out(&run(folder.path(), &["key", "list"])).lines().count(), 1);
}

#[test]
fn names_and_labels_are_printable() {
    let folder = folder();
    let tenant = |name: &str| code(&run(folder.path(), &["tenant", "add", "--name", name]));
    let key = |label: &str| code(&run(folder.path(), &["key", "create", "--tenant", "t", "--label", label]));
    assert_eq!((tenant("t"), key("")), (0, 0));
    for bad in ["a\nb", "a\tb", "\u{1b}[2J", "\u{7f}", "\u{9b}2J", &"x".repeat(65)] {
        assert_eq!((tenant(bad), key(bad)), (64, 64), "{bad:?}");
    }
    assert_eq!((tenant(""), tenant(" "), tenant(&"é".repeat(64)), key(&"é".repeat(64))), (64, 64, 0, 0));
    let listed = out(&run(folder.path(), &["key", "list"]));
    assert_eq!(listed.lines().count(), 3, "{listed}");
}

/// A stdout that nobody reads any more: every write to it fails.
fn broken_pipe() -> io::PipeWriter {
    io::pipe().unwrap().1
}

#[test]
fn a_key_that_cannot_be_printed_is_revoked() {
    let folder = folder();
    assert_eq!(code(&run(folder.path(), &["tenant", "add", "--name", "t"])), 0);
    let mut create = program(folder.path());
    create.args(["key", "create", "--tenant", "t"]).stdout(broken_pipe());
    let created = create.output().unwrap();
    assert_eq!(code(&created), 74, "{}", err(&created));
    assert!(err(&created).contains("key 1 could not be printed"), "{}", err(&created));
    assert!(err(&created).contains("is revoked"), "{}", err(&created));
    let listed = out(&run(folder.path(), &["key", "list"]));
    assert!(listed.contains("revoked") && !listed.contains("active"), "{listed}");

    let mut list = program(folder.path());
    let seen_enough = list.args(["key", "list"]).stdout(broken_pipe()).output().unwrap();
    assert_eq!(code(&seen_enough), 0, "{}", err(&seen_enough));
}

#[test]
fn a_first_key_that_cannot_be_printed_is_revoked() {
    let folder = folder();
    let mut serve = program(folder.path());
    serve.arg("serve").env("FREELLMAPI_LISTEN", "127.0.0.1:0").stdout(broken_pipe());
    let served = serve.output().unwrap();
    assert_eq!(code(&served), 74, "{}", err(&served));
    assert!(err(&served).contains("freellmapi key create"), "{}", err(&served));
    let listed = out(&run(folder.path(), &["key", "list"]));
    assert!(listed.contains("first start") && listed.contains("revoked"), "{listed}");
}

#[test]
fn models_are_listed_for_people_and_programs() {
    let folder = folder();
    let table = out(&run(folder.path(), &["model", "list"]));
    assert!(table.contains("llama-3.3-70b-versatile") && table.contains("set GROQ_API_KEY"), "{table}");
    let json = out(&run(folder.path(), &["model", "list", "--json"]));
    let models: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        models
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["platform"] == "github" && model["enabled"] == false)
    );
    assert_eq!(out(&run(folder.path(), &["model", "list", "--json"])), json, "numbers stay");
}

#[test]
fn a_first_start_prints_a_key_once_and_a_second_server_is_69() {
    let folder = folder();
    let serving = Serving::start(folder.path(), &["serve"]);
    assert!(serving.curl_line().contains("freellmapi-"));
    let second = program(folder.path()).env("FREELLMAPI_LISTEN", "127.0.0.1:0").output().unwrap();
    assert_eq!(code(&second), 69, "{}", err(&second));
    assert!(
        out(&run(folder.path(), &["key", "list"])).contains("first start"),
        "commands work beside the server"
    );
    let (status, _) = serving.stop();
    assert_eq!(status, Some(0));

    let master_key = folder.path().join("data/master.key");
    assert_eq!(fs::read_to_string(&master_key).unwrap().trim().len(), 64);
    fs::write(&master_key, "0".repeat(64)).unwrap();
    let wrong_key = program(folder.path()).env("FREELLMAPI_LISTEN", "127.0.0.1:0").output().unwrap();
    assert_eq!(code(&wrong_key), 78, "{}", err(&wrong_key));
    fs::remove_file(&master_key).unwrap();
    let lost_key = program(folder.path()).env("FREELLMAPI_LISTEN", "127.0.0.1:0").output().unwrap();
    assert_eq!(code(&lost_key), 78, "{}", err(&lost_key));
    assert!(!master_key.exists(), "no key is made beside a store that another one has sealed");
}

#[test]
fn a_busy_port_is_said() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(folder.path()).arg("demo").env("FREELLMAPI_LISTEN", &address).output().unwrap();
    assert_eq!(code(&output), 69);
    assert!(
        err(&output).contains(&address) && err(&output).contains("FREELLMAPI_LISTEN"),
        "{}",
        err(&output)
    );
}

#[test]
fn the_demo_prints_what_it_promises_and_ends_cleanly() {
    let folder = folder();
    let serving = Serving::start(folder.path(), &["demo"]);
    for promised in ["URL:  http://127.0.0.1:", "Key:  freellmapi-", "simulated"] {
        assert!(serving.printed.contains(promised), "{}", serving.printed);
    }
    let (status, _) = serving.stop();
    assert_eq!(status, Some(0));
    assert_eq!(files(folder.path()), BTreeMap::new(), "the demo leaves nothing, its store included");
}

/// Whether the process of that number ignores SIGHUP, number 1; `None` where there is no /proc.
fn ignores_hangup(pid: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    Some(u64::from_str_radix(ignored, 16).unwrap() & 1 == 1)
}

#[test]
fn a_closed_terminal_is_a_stop() {
    // Tests that run under `nohup` start programs that are to ignore it.
    if ignores_hangup(std::process::id()) == Some(true) {
        return;
    }
    for command in ["demo", "serve"] {
        let folder = folder();
        let (status, _) = Serving::start(folder.path(), &[command]).stop_by("-HUP");
        assert_eq!(status, Some(0), "{command}");
        assert!(command == "serve" || files(folder.path()).is_empty());
    }
}

/// Who starts it under `nohup` wants it to outlive the terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_that_was_to_be_ignored_is_ignored() {
    let folder = folder();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" demo", env!("CARGO_BIN_EXE_freellmapi")]);
    command.current_dir(folder.path()).env_clear().env("TMPDIR", folder.path());
    let serving = Serving::spawn(command);
    assert_eq!(ignores_hangup(serving.child.id()), Some(true));
    assert_eq!(serving.stop().0, Some(0));
}
