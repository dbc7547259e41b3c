//! The ledger that replicas share, from the command line, while they run.

use std::process::Output;

use serde_json::Value;

use super::*;

impl Fleet {
    /// Runs the program on the replicas' store and configuration.
    fn run(&self, arguments: &[&str]) -> Output {
        self.run_on(&self.database.url(), arguments)
    }

    fn run_on(&self, store: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freellmapi"));
        command.current_dir(self.folder.path()).env_clear().envs(self.environment());
        command.env("DATABASE_URL", store).stdin(Stdio::null());
        command.args(["--config", "test.toml"]).args(arguments).output().unwrap()
    }

    /// What `ledger show --json` prints.
    fn shown(&self) -> Value {
        let output = self.run(&["ledger", "show", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[actix_web::test]
async fn the_shared_ledger_is_shown() {
    let day = limit("tokens", 1_000_000, "day@UTC");
    let limits = limit("requests", 3, "60s") + &limit("parallel", 2, "") + &day;
    let fleet = Fleet::start(2, &limits).await;
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 200);
    assert_eq!(fleet.chat(1, LEDGERS_TIME).await.status, 200);
    let requests = until("both are written and have ended", async || {
        let shown = fleet.shown();
        let held = |index: usize| shown["limits"][index]["held"].as_u64();
        ((held(0), held(1)) == (Some(2), Some(0))).then(|| shown["limits"][0].clone())
    })
    .await;
    let expected = json!({
        "provider": "up", "account": "default", "scope": "account", "unit": "requests", "window": "60s",
        "window_ms": 60_000, "held": 2, "leased": 0, "max": 3, "free_at": null,
    });
    assert_eq!(requests, expected);
    assert_eq!(fleet.chat(1, LEDGERS_TIME).await.status, 200);
    let full = until("it is written", async || {
        let shown = fleet.shown();
        let is_over = shown["limits"][0]["held"] == 3 && shown["limits"][1]["held"] == 0;
        is_over.then_some(shown)
    })
    .await;
    assert!(full["limits"][0]["free_at"].as_str().is_some_and(|instant| instant.ends_with('Z')), "{full}");

    fleet.database.execute(
        "SELECT ledger_leave_alone('up', 'name:default', '', 60000000, 'unauthorized', 0); \
         SELECT ledger_leave_alone('up', 'name:default', 'model:m-up', 60000000, 'model_gone', 0); \
         SELECT ledger_leave_alone('up', 'name:default', 'key:of-somebody-else', 60000000, 'unauthorized', 0); \
         SELECT ledger_leave_alone('up', 'name:default', 'model:gone-from-the-configuration', 9, 'model_gone', 0)",
    );
    let cooldowns = fleet.shown()["cooldowns"].clone();
    let facts =
        |cooldown: &Value| [&cooldown["account"], &cooldown["model"], &cooldown["reason"]].map(Clone::clone);
    assert_eq!(
        cooldowns.as_array().unwrap().iter().map(facts).collect::<Vec<_>>(),
        [
            [json!("default"), json!(null), json!("unauthorized")],
            [json!("default"), json!("m-up"), json!("model_gone")]
        ]
    );
    let table = text(&fleet.run(&["ledger", "show"]).stdout);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["PROVIDER", "ACCOUNT", "SCOPE", "UNIT"], "{table}");
    assert_eq!(lines[1][..9], ["up", "default", "account", "requests", "60", "s", "3", "0", "3"], "{table}");
    assert_eq!(
        lines[2],
        ["up", "default", "account", "parallel", "in", "flight", "0", "0", "2", "now"],
        "{table}"
    );
    assert_eq!(lines[3][..5], ["up", "default", "account", "tokens", "day@UTC"], "{table}");
    let reason = |line: usize| (lines[line][..3].to_vec(), *lines[line].last().unwrap());
    assert_eq!(reason(6), (vec!["up", "default", "all"], "unauthorized"), "{table}");
    assert_eq!(reason(7), (vec!["up", "default", "m-up"], "model_gone"), "{table}");
    fleet.finish().await;
}

#[actix_web::test]
async fn a_block_holds_every_limit_in_all_running_replicas_at_once() {
    let fleet = Fleet::start(3, &limit("requests", 1_000, "60s")).await;
    for replica in 0..3 {
        assert_eq!(fleet.chat(replica, LEDGERS_TIME).await.status, 200);
    }
    let unknown = fleet.run(&["ledger", "block", "--provider", "nobody"]);
    assert_eq!(unknown.status.code(), Some(64), "{}", text(&unknown.stderr));
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 200);

    let blocked = fleet.run(&["ledger", "block", "--provider", "up"]);
    assert!(blocked.status.success(), "{}", text(&blocked.stderr));
    assert!(text(&blocked.stderr).contains("every limit of provider up is held for one window"));
    for replica in 0..3 {
        let refused = fleet.chat(replica, LEDGERS_TIME).await;
        assert_eq!(refused.status, 429, "{}", refused.text);
        assert!(refused.retry_after.is_some_and(|seconds| (30..=66).contains(&seconds)));
    }
    assert_eq!(fleet.upstream.request_count(), 4);
    let shown = fleet.shown();
    assert_eq!((&shown["limits"][0]["held"], &shown["limits"][0]["max"]), (&json!(1_000), &json!(1_000)));
    assert!(shown["limits"][0]["free_at"].is_string(), "{shown}");
    let all = fleet.run(&["ledger", "block"]);
    assert!(all.status.success(), "{}", text(&all.stderr));
    fleet.finish().await;
}

#[actix_web::test]
async fn a_ledger_that_cannot_be_reached_is_said_so() {
    let fleet = Fleet::start(0, &limit("requests", 3, "60s")).await;
    for arguments in [["ledger", "show"], ["ledger", "block"]] {
        let output = fleet.run_on("postgres://u:secret@127.0.0.1:1/x", &arguments);
        assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(
            said.lines().count() == 1 && said.contains("127.0.0.1:1") && !said.contains("secret"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    fleet.finish().await;
}
