//! Why nobody answered: each candidate's own reason, in full for the operator, and to a tenant nothing of anybody else.

use freellmapi::domain::tenant::TenantChange;
use freellmapi::routing::WhyNotSnapshot;
use serde_json::json;

use crate::support::app::{KEY, TestApp, chat_body, limit, provider};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::Reply;

/// Two accounts for a provider; how they are called.
const TWO_KEYS: &str = "auth = \"bearer\"\nkeys_env = \"TEST_KEYS\"";

fn refusing(reply: Reply) -> FakeUpstream {
    FakeUpstream::start_with([], reply)
}

/// A provider whose model can use tools and whose data is not trained on; `model` is more of the model.
fn candidate(id: &str, upstream: &FakeUpstream, extra: &str, model: &str) -> String {
    let extra = format!("trains_on_data = false\n{extra}");
    let whole = provider(id, upstream, &extra) + "capabilities = [\"tools\"]\n" + model;
    if extra.contains("keys_env") { whole.replacen("auth = \"none\"\n", "", 1) } else { whole }
}

#[actix_web::test]
async fn every_candidate_has_its_own_reason_and_a_tenant_learns_of_no_account() {
    let sound = FakeUpstream::start([]);
    let refused = refusing(Reply::error(401, "who are you"));
    let broke = refusing(Reply::error(402, "pay first"));
    let gone = refusing(Reply::error(404, "no such model"));
    let limited = refusing(Reply::rate_limited(40));
    let full = limit("requests", 1, "60s");
    let config = [
        candidate("full", &sound, &full, ""),
        candidate("limited", &limited, "", ""),
        candidate("refused", &refused, TWO_KEYS, ""),
        candidate("broke", &broke, "", ""),
        candidate("gone", &gone, "", ""),
        candidate("short", &sound, "", "context_window = 20\n"),
        candidate("plain", &sound, "", "").replace("[\"tools\"]", "[\"vision\"]"),
        candidate("hidden", &sound, "", ""),
        candidate("trains", &sound, "", "").replace("trains_on_data = false", "trains_on_data = true"),
    ];
    let app = TestApp::with_config(&config.concat()).await;
    let open = ["full", "limited", "refused", "broke", "gone", "short", "plain", "trains"];
    let models = open.iter().map(|id| format!("{id}/m-{id}")).collect();
    let change =
        TenantChange { models: Some(Some(models)), no_training: Some(true), ..TenantChange::default() };
    let tenant = app.tenant("other", change).await;
    assert_eq!(
        app.completion(json!({"model": "m-full", "stream": false, "max_tokens": 9})).await.status,
        200
    );

    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let body = json!({"model": "family-m", "stream": false, "max_tokens": 9, "tools": tools,
        "messages": [{"role": "user", "content": "more words than fit into the shortest of all windows ".repeat(9)}]});
    // Each failure is seen once; then what it left behind is the reason.
    let mut answer = None;
    for _ in 0..2 {
        let headers = [("x-max-wait-ms", "0")];
        answer = Some(app.post_as(&tenant, "/v1/chat/completions", chat_body(body.clone()), &headers).await);
    }
    let answer = answer.unwrap();
    assert_eq!(answer.status, 429, "{}", answer.text());

    let last = app.refusals().await.pop().unwrap();
    let reason = |provider: &str| {
        let of = |why: &&WhyNotSnapshot| why.provider == provider;
        let why = last.why_not.iter().find(of).unwrap_or_else(|| panic!("{provider}: {:?}", last.why_not));
        (why.reason, why.failure)
    };
    let expected = [
        ("full", "no_room", None),
        ("limited", "cooling", Some("rate_limited")),
        ("refused", "account_off", Some("unauthorized")),
        ("broke", "credit_out", Some("payment_required")),
        ("gone", "model_off", Some("model_gone")),
        ("short", "window_too_small", None),
        ("plain", "no_capability", None),
        ("hidden", "not_allowed", None),
        ("trains", "data_policy", None),
    ];
    for (provider, label, failure) in expected {
        assert_eq!(reason(provider), (label, failure), "{provider}: {:?}", last.why_not);
    }
    let has_instant = |why: &WhyNotSnapshot| why.until.is_some();
    assert_eq!(last.why_not.iter().filter(|why| has_instant(why)).count(), 5);
    let of_refused = last.why_not.iter().find(|why| why.provider == "refused").unwrap();
    let accounts: Vec<&str> = of_refused.accounts.iter().map(|account| account.account.as_str()).collect();
    assert_eq!(accounts.len(), 2, "each account with its own: {of_refused:?}");

    let told = answer.text();
    for (provider, words) in [
        ("full", "no capacity until"),
        ("limited", "left alone until"),
        ("refused", "out of order until"),
        ("broke", "out of order until"),
        ("gone", "out of order until"),
        ("short", "its context window is 20 tokens"),
        ("plain", "cannot do what the request needs"),
    ] {
        assert!(told.contains(&format!("{provider}/m-{provider}: {words}")), "{provider}: {told}");
    }
    for secret in ["hidden", "trains", "account", "credit", "payment", "other"].iter().chain(&accounts) {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    app.finish().await;
}

#[actix_web::test]
async fn one_account_that_is_off_is_told_to_the_operator_though_the_candidate_is_full() {
    let upstream = FakeUpstream::start([Reply::error(401, "who are you")]);
    let config = candidate("up", &upstream, &format!("{TWO_KEYS}\n{}", limit("requests", 1, "60s")), "");
    let app = TestApp::with_config(&config).await;
    let ask = async || {
        let body = chat_body(json!({"model": "m-up", "stream": false, "max_tokens": 9}));
        app.post_as(KEY, "/v1/chat/completions", body, &[("x-max-wait-ms", "0")]).await
    };
    // The first account is refused, the second one answers, and is full from then on.
    assert_eq!(ask().await.status, 200);
    let refused = ask().await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let last = app.refusals().await.pop().unwrap();
    let [why] = last.why_not.as_slice() else { panic!("{:?}", last.why_not) };
    assert_eq!((why.reason, why.accounts.len()), ("no_room", 1));
    assert_eq!((why.accounts[0].reason, why.accounts[0].failure), ("account_off", "unauthorized"));
    app.finish().await;
}
