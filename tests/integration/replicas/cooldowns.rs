//! What one replica leaves alone, all of them do, for the same reason and as long; and none for longer than the others.

use freellmapi::provider::ObserveProvider;

use super::*;

/// Scope, reason and level of all that is left alone.
const OFF: &str = "SELECT concat_ws(' ', scope, reason, level) AS value FROM ledger_cooldowns ORDER BY 1";

impl Fleet {
    /// What is left alone, once that is so: scope, reason and level.
    async fn left_alone(&self, expected: &[&str]) {
        until(&format!("{expected:?}"), async || {
            let rows = self.database.texts("", OFF);
            (rows == expected).then_some(())
        })
        .await;
    }

    /// Has every wait end now.
    fn end_waits(&self) {
        self.database.execute("UPDATE ledger_cooldowns SET until_us = 0");
    }

    /// What a replica says of the one provider: account, model and why it is left alone.
    async fn cooldowns(&self, replica: usize) -> Vec<(String, Option<String>, &'static str)> {
        let providers = self.replicas[replica].providers.lock().clone();
        let snapshots = all(providers.iter().map(|provider| provider.send(ObserveProvider))).await;
        let cooldowns = snapshots.into_iter().flat_map(|snapshot| snapshot.unwrap().book.cooldowns);
        cooldowns.map(|cooldown| (cooldown.account, cooldown.model, cooldown.reason)).collect()
    }

    /// A line of a replica's metrics, without the prefix that all have.
    async fn metric(&self, replica: usize, series: &str) -> Option<String> {
        let url = format!("http://{}/metrics", self.replicas[replica].address);
        let body = self.client.get(url).bearer_auth(ADMIN_KEY).send().await.unwrap().body().await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("freellmapi_")?.strip_prefix(series));
        line.map(|value| value.trim().to_owned())
    }
}

#[actix_web::test]
async fn an_account_that_is_off_is_off_in_all_replicas_until_one_finds_it_well() {
    for (status, reason) in [(401, "unauthorized"), (402, "payment_required")] {
        let upstream = FakeUpstream::start([Reply::error(status, "no")]);
        let fleet = Fleet::start_with(3, upstream, &limit("requests", 100, "60s"), "").await;
        assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 503);
        fleet.left_alone(&[&format!(" {reason} 0")]).await;
        for replica in [1, 2, 0, 1] {
            let refused = fleet.chat(replica, LEDGERS_TIME).await;
            assert_eq!(refused.status, 503, "{}", refused.text);
            assert!(refused.retry_after.is_some_and(|seconds| (500..=600).contains(&seconds)));
        }
        for replica in 0..2 {
            assert_eq!(fleet.cooldowns(replica).await, [("default".to_owned(), None, reason)]);
            let series = format!("provider_cooling{{provider=\"up\",reason=\"{reason}\"}}");
            assert_eq!(fleet.metric(replica, &series).await.as_deref(), Some("1"));
        }
        assert_eq!(fleet.metric(1, "accounts_refused_total{provider=\"up\"}").await.as_deref(), Some("0"));
        assert_eq!(fleet.upstream.request_count(), 1, "one replica was told, and that is enough");

        fleet.end_waits();
        let serves = async |replica| {
            until("it serves again", async || {
                (fleet.chat(replica, LEDGERS_TIME).await.status == 200).then_some(())
            })
            .await;
        };
        serves(1).await;
        fleet.left_alone(&[]).await;
        serves(2).await;
        assert_eq!(fleet.cooldowns(2).await, []);
        fleet.finish().await;
    }
}

#[actix_web::test]
async fn a_model_that_is_gone_is_gone_for_all_replicas_and_others_are_not() {
    let upstream = FakeUpstream::start([Reply::error(404, "no such model")]);
    let more = "[[provider.model]]\nid = \"other\"\n";
    let fleet = Fleet::start_with(2, upstream, &limit("requests", 100, "60s"), more).await;
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 503);
    fleet.left_alone(&["model:m-up model_gone 0"]).await;
    let refused = fleet.chat(1, LEDGERS_TIME).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(fleet.cooldowns(1).await, [("default".to_owned(), Some("m-up".to_owned()), "model_gone")]);
    let address = fleet.replicas[1].address.to_string();
    assert_eq!(fleet.chat_with(&address, "up/other", LEDGERS_TIME).await.unwrap().status, 200);
    fleet.finish().await;
}

#[actix_web::test]
async fn another_key_of_the_account_is_not_off_with_the_old_one() {
    let upstream = FakeUpstream::start([Reply::error(401, "no such key")]);
    let provider = format!(
        "[[provider]]\nid = \"up\"\nbase_url = \"{}\"\n[[provider.account]]\nname = \"team-a\"\n\
         keys_env = [\"UP_KEY\"]\n{}[[provider.model]]\nid = \"m-up\"\n",
        upstream.base_url(),
        limit("requests", 2, "60s")
    );
    let mut fleet = Fleet::start_configured(2, upstream, &provider).await;
    assert_eq!(fleet.chat(0, LEDGERS_TIME).await.status, 503);
    until("it is written", async || (fleet.database.texts("", OFF).len() == 1).then_some(())).await;
    assert_eq!(fleet.chat(1, LEDGERS_TIME).await.status, 503);
    let mut environment = fleet.environment();
    environment.insert("UP_KEY".to_owned(), "the-new-key".to_owned());
    let renewed = fleet.replica_in(environment, Arc::new(SystemClock::start())).await;
    fleet.replicas.push(renewed);
    assert_eq!(fleet.chat(2, LEDGERS_TIME).await.status, 200);
    assert_eq!(fleet.chat(1, LEDGERS_TIME).await.status, 503, "it has the old key");
    // The budget is the account's, whatever its key.
    assert_eq!(fleet.chat(2, LEDGERS_TIME).await.status, 429);
    let names = fleet.database.texts("", "SELECT scope || account AS value FROM ledger_cooldowns");
    assert!(!names.concat().contains("the-old-key"), "{names:?}");
    fleet.finish().await;
}

#[actix_web::test]
async fn waits_grow_from_one_replica_to_the_next_and_start_over_with_a_success() {
    let refusal = || Reply::error(429, "slow down");
    let script = [refusal(), refusal(), Reply::text("Well again."), refusal()];
    let fleet = Fleet::start_with(3, FakeUpstream::start(script), &limit("requests", 100, "60s"), "").await;
    let refused = async |replica, at_least, at_most| {
        let answer = fleet.chat(replica, LEDGERS_TIME).await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        let retry_after = answer.retry_after.unwrap();
        assert!((at_least..=at_most).contains(&retry_after), "{retry_after}");
    };
    refused(0, 20, 30).await;
    fleet.left_alone(&[" rate_limited 1"]).await;
    refused(1, 1, 30).await;
    assert_eq!(fleet.upstream.request_count(), 1);
    fleet.end_waits();
    // The third has not heard of it before: it is told with its grant that it is the second wait.
    refused(2, 100, 120).await;
    fleet.left_alone(&[" rate_limited 2"]).await;
    assert_eq!(fleet.cooldowns(2).await, [("default".to_owned(), None, "rate_limited")]);
    fleet.end_waits();
    until("it serves again", async || (fleet.chat(1, LEDGERS_TIME).await.status == 200).then_some(())).await;
    fleet.left_alone(&[]).await;
    refused(1, 20, 30).await;
    fleet.left_alone(&[" rate_limited 1"]).await;
    assert_eq!(fleet.upstream.request_count(), 4);
    fleet.finish().await;
}

/// A pool is refused, and probed, as one: not once for each of its models.
#[actix_web::test]
async fn a_pool_is_left_alone_as_one_and_has_one_probe() {
    let script = [Reply::error(429, "slow down"), Reply::text("Well again.").after_signal()];
    let upstream = FakeUpstream::start(script);
    let provider = format!(
        "[[provider]]\nid = \"up\"\nbase_url = \"{}\"\nauth = \"none\"\n[[provider.limit]]\nscope = \"pool:free\"\n\
         unit = \"requests\"\nmax = 100\nwindow = \"60s\"\n[[provider.error]]\nstatus = 429\nwords = \"slow down\"\n\
         means = \"rate_limited\"\nunit = \"requests\"\nwindow = \"60s\"\n[[provider.model]]\nid = \"one\"\npool = \"free\"\n\
         [[provider.model]]\nid = \"two\"\npool = \"free\"\n",
        upstream.base_url(),
    );
    let fleet = Fleet::start_configured(3, upstream, &provider).await;
    let chat = async |replica: usize, model: &str| {
        let address = fleet.replicas[replica].address.to_string();
        fleet.chat_with(&address, model, LEDGERS_TIME).await.unwrap().status
    };
    assert_eq!(chat(0, "up/one").await, 429);
    let rows = until("it is written", async || {
        let rows = fleet.database.texts("", OFF);
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows, ["pool:free rate_limited 1"]);
    fleet.end_waits();
    let others = async {
        fleet.upstream.wait_for_requests(2).await;
        let address = fleet.replicas[2].address.to_string();
        let refused = fleet.chat_with(&address, "up/one", 0).await.unwrap();
        assert_ne!(refused.status, 200, "{}", refused.text);
        assert_eq!(fleet.upstream.request_count(), 2, "more than one probe");
        fleet.upstream.signal();
    };
    let (probe, ()) = tokio::join!(chat(1, "up/two"), others);
    assert_eq!(probe, 200);
    fleet.left_alone(&[]).await;
    fleet.finish().await;
}

/// Waiting requests ask again by themselves, a second apart at most, for room may come back in another replica; and
/// not much more often, however many they are.
#[actix_web::test]
async fn who_waits_finds_the_room_that_another_replica_gives_back() {
    let upstream = FakeUpstream::start_with([], Reply::text("In time.").after_signal());
    let limits = limit("parallel", 1, "") + &limit("tokens", 1_000_000, "60s");
    let fleet = Fleet::start_with(2, upstream, &limits, "").await;
    let clock = SystemClock::start();
    let watch = async {
        fleet.upstream.wait_for_requests(1).await;
        let (first, began) = (fleet.status(1).counters.claims_asked, clock.now());
        let asked = until("it asks again and again", async || {
            sleep(Duration::from_millis(50)).await;
            let asked = fleet.status(1).counters.claims_asked - first;
            (asked >= 4).then_some(asked)
        })
        .await;
        let took = clock.now().saturating_since(began);
        // One each second; the first ones of all who came, and one that was on its way.
        assert!(u128::from(asked) <= took.as_millis() / 900 + 12, "{asked} in {took:?}");
        fleet.upstream.signal();
        let freed = clock.now();
        fleet.upstream.wait_for_requests(2).await;
        eprintln!("room of another replica was found after {:?}", clock.now().saturating_since(freed));
        (0..5).for_each(|_| fleet.upstream.signal());
    };
    let first = fleet.chat(0, LEDGERS_TIME);
    let waiting = async {
        fleet.upstream.wait_for_requests(1).await;
        all((0..5).map(|_| fleet.chat(1, 20_000))).await
    };
    let (first, waiting, ()) = tokio::join!(first, waiting, watch);
    assert!(waiting.iter().chain([&first]).all(|answer| answer.status == 200));
    fleet.finish().await;
}
