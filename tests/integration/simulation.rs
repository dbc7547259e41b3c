//! The simulated providers speak OpenAI's dialect, judge by their documented limits, and say that they are simulated.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::rt::time::timeout;
use awc::{Client, ClientResponse};
use freellmapi::demo::{Behaviour, Pace, Simulation, simulated_specs};
use freellmapi::domain::clock::{FakeClock, Moment};
use freellmapi::domain::ids::ProviderId;
use freellmapi::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged, Unit, Window};
use freellmapi::domain::provider::{
    Auth, Capabilities, Dialect, ModelSpec, ProviderSpec, Quirks, StreamUsage, Timeouts,
};
use futures_util::StreamExt;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest wait for a condition; only a broken test ever waits so long.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn limit(unit: Unit, max: u64) -> Limit {
    Limit { scope: Scope::Model, unit, max, window: Window::Sliding(MINUTE) }
}

fn spec(id: &str, documented_limits: Vec<Limit>) -> ProviderSpec {
    ProviderSpec {
        id: ProviderId::new(id),
        display_name: "The Provider".to_owned(),
        base_url: "https://provider.example/v1".to_owned(),
        dialect: Dialect::OpenAi,
        auth: Auth::Bearer,
        enabled: false,
        disabled_reason: None,
        keys_env: Vec::new(),
        requests_charged: RequestsCharged::Arrival,
        tokens_charged: TokensCharged::Reserve,
        trains_on_data: true,
        limits: Vec::new(),
        documented_limits,
        models: vec![ModelSpec {
            id: "model-a".to_owned(),
            display_name: "Model A".to_owned(),
            family: None,
            size_label: "Small".to_owned(),
            intelligence_rank: 1,
            speed_rank: 1,
            context_window: None,
            max_output_tokens: None,
            capabilities: Capabilities::default(),
            pool: None,
            price: None,
            limits: Vec::new(),
            enabled: true,
            disabled_reason: None,
            number: None,
        }],
        accounts: Vec::new(),
        signals: Default::default(),
        quirks: Quirks {
            drop_fields: Vec::new(),
            rename_fields: Vec::new(),
            allow_fields: Vec::new(),
            stream_usage: StreamUsage::Asked,
        },
        timeouts: Timeouts { connect: MINUTE, first_token: MINUTE, stall: MINUTE, total: HOUR },
    }
}

/// One simulated provider and a client of it.
struct Bench {
    simulation: Simulation,
    url: String,
    client: Client,
}

impl Bench {
    async fn start(documented_limits: Vec<Limit>, behaviour: Behaviour) -> Self {
        let spec = spec("groq", documented_limits);
        let simulation = Simulation::start(std::slice::from_ref(&spec), behaviour).await.unwrap();
        let url = simulation.base_url(&spec.id).unwrap().to_owned();
        Self { simulation, url, client: Client::builder().timeout(WAIT_MAX).finish() }
    }

    /// With more room than any test uses.
    async fn roomy(behaviour: Behaviour) -> Self {
        Self::start(vec![limit(Unit::Requests, 1_000_000)], behaviour).await
    }

    async fn post(&self, key: &str, body: &Value) -> ClientResponse {
        let request = self.client.post(format!("{}/chat/completions", self.url)).bearer_auth(key);
        request.send_json(body).await.unwrap()
    }

    async fn ask(&self, body: &Value) -> (StatusCode, Value) {
        let mut response = self.post("any-key", body).await;
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn status(&self, key: &str) -> StatusCode {
        self.post(key, &question("Hello")).await.status()
    }
}

fn question(text: &str) -> Value {
    json!({"model": "model-a", "messages": [{"role": "user", "content": text}], "max_tokens": 500})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

fn streamed(text: &str) -> Value {
    with(question(text), "stream", json!(true))
}

/// The events of a complete stream, without the `[DONE]` that must end it.
async fn events(mut response: ClientResponse) -> Vec<Value> {
    assert_eq!(response.headers().get("content-type").unwrap(), "text/event-stream; charset=utf-8");
    let body = response.body().await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    let (events, done) = text.strip_suffix("\n\n").unwrap().rsplit_once("\n\n").unwrap();
    assert_eq!(done, "data: [DONE]");
    events
        .split("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    timeout(WAIT_MAX, wait).await.expect("the condition within the bound")
}

#[actix_web::test]
async fn an_answer_says_that_it_is_simulated_and_refers_to_the_question() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let (status, answer) = bench.ask(&question("What is \"actix\"?")).await;
    assert_eq!(status, StatusCode::OK);
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("This is a simulated answer by The Provider (model-a). "), "{text}");
    assert!(text.contains("What is \"actix\"?"), "{text}");
    assert_eq!(
        (&choice["finish_reason"], &answer["system_fingerprint"]),
        (&json!("stop"), &json!("simulated"))
    );
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], text.split(' ').count());
    assert_eq!(
        usage["total_tokens"],
        usage["prompt_tokens"].as_u64().unwrap() + text.split(' ').count() as u64
    );
}

#[actix_web::test]
async fn a_stream_carries_the_same_answer_token_by_token() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let (_, whole) = bench.ask(&question("Hello")).await;
    let asking = with(streamed("Hello"), "stream_options", json!({"include_usage": true}));
    let events = events(bench.post("any-key", &asking).await).await;
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(events.len() as u64, whole["usage"]["completion_tokens"].as_u64().unwrap() + 3);
}

#[actix_web::test]
async fn a_paced_stream_is_complete_too() {
    let pace =
        Pace::Fixed { first_token: Duration::from_millis(1), between_tokens: Duration::from_micros(100) };
    let bench = Bench::roomy(Behaviour { pace, ..Behaviour::steady() }).await;
    let (_, whole) = bench.ask(&question("Hello")).await;
    let events = events(bench.post("any-key", &streamed("Hello")).await).await;
    assert_eq!(events.len() as u64, whole["usage"]["completion_tokens"].as_u64().unwrap() + 2);
}

#[actix_web::test]
async fn the_cap_ends_an_answer_and_usage_is_told_only_when_asked_for() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let (_, whole) = bench.ask(&with(question("Hello"), "max_tokens", json!(5))).await;
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 5);
    let events = events(bench.post("any-key", &with(streamed("Hello"), "max_tokens", json!(5))).await).await;
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[actix_web::test]
async fn a_required_tool_is_called_whole_and_in_a_stream() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    let body = with(with(question("Hello"), "tools", tools), "tool_choice", json!("required"));
    let (_, whole) = bench.ask(&body).await;
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    assert_eq!(call["arguments"], "{\"city\":\"simulated\"}");
    let events = events(bench.post("any-key", &with(body, "stream", json!(true))).await).await;
    assert_eq!(events[1]["choices"][0]["delta"]["tool_calls"][0]["function"], *call);
    assert_eq!(events[2]["choices"][0]["finish_reason"], "tool_calls");
}

#[actix_web::test]
async fn what_is_wrong_is_told_as_openai_does() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let unknown = bench.ask(&with(question("Hello"), "model", json!("model-z"))).await;
    assert_eq!((unknown.0, &unknown.1["error"]["code"]), (StatusCode::NOT_FOUND, &json!("model_not_found")));
    let empty = bench.ask(&json!({})).await;
    assert_eq!(
        (empty.0, &empty.1["error"]["type"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_request_error"))
    );
    let url = format!("{}/chat/completions", bench.url);
    let garbage = bench.client.post(&url).bearer_auth("any-key").send_body("{").await.unwrap();
    assert_eq!(garbage.status(), StatusCode::BAD_REQUEST);
    let mut keyless = bench.client.post(&url).send_json(&question("Hello")).await.unwrap();
    assert_eq!(keyless.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(keyless.json::<Value>().await.unwrap()["error"]["code"], "invalid_api_key");
    assert_eq!((bench.simulation.arrivals(), bench.simulation.open_calls()), (3, 0));
}

#[actix_web::test]
async fn the_models_are_listed_to_who_has_a_key() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    let url = format!("{}/models", bench.url);
    let mut listed = bench.client.get(&url).bearer_auth("any-key").send().await.unwrap();
    assert_eq!(listed.json::<Value>().await.unwrap()["data"][0]["id"], "model-a");
    assert_eq!(bench.client.get(&url).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[actix_web::test]
async fn the_request_over_the_limit_is_refused_until_the_first_one_leaves_the_window() {
    let clock = Arc::new(FakeClock::at(Moment::from_unix_micros(1_790_000_000_000_000)));
    let behaviour = Behaviour { clock: clock.clone(), ..Behaviour::steady() };
    let bench = Bench::start(vec![limit(Unit::Requests, 3)], behaviour).await;
    for _ in 0..3 {
        assert_eq!(bench.status("key-a").await, StatusCode::OK);
        clock.advance(Duration::from_secs(10));
    }
    assert_eq!(bench.simulation.refusals(), 0);
    let mut refused = bench.post("key-a", &question("Hello")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers().get("retry-after").unwrap(), "30");
    let message = refused.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("requests per minute (RPM): Limit 3"), "{message}");
    assert_eq!(bench.status("key-b").await, StatusCode::OK);
    clock.advance(Duration::from_secs(30));
    assert_eq!(bench.status("key-a").await, StatusCode::OK);
    assert_eq!(bench.simulation.refusals(), 1);
}

#[actix_web::test]
async fn reserved_tokens_are_charged_by_the_cap_and_too_many_never_fit() {
    let bench = Bench::start(vec![limit(Unit::Tokens, 1000)], Behaviour::steady()).await;
    assert_eq!(bench.ask(&with(question("Hello"), "max_tokens", json!(1000))).await.0.as_u16(), 413);
    assert_eq!(bench.status("any-key").await, StatusCode::OK);
    let refused = bench.ask(&question("Hello")).await;
    assert_eq!((refused.0.as_u16(), &refused.1["error"]["type"]), (429, &json!("tokens")));
    assert_eq!((bench.simulation.refusals(), bench.simulation.most_overdrawn_tokens()), (2, 0));
}

#[actix_web::test]
async fn tokens_that_are_counted_at_the_end_can_be_overdrawn() {
    let mut spec = spec("mistral", vec![limit(Unit::Tokens, 30)]);
    spec.tokens_charged = TokensCharged::Usage;
    let simulation = Simulation::start(&[spec.clone()], Behaviour::steady()).await.unwrap();
    let url = format!("{}/chat/completions", simulation.base_url(&spec.id).unwrap());
    let ask = async || {
        let request = Client::default().post(&url).bearer_auth("any-key");
        request.send_json(&question("Hello")).await.unwrap().status().as_u16()
    };
    assert_eq!((ask().await, ask().await), (200, 429));
    assert!(simulation.most_overdrawn_tokens() > 0);
}

#[actix_web::test]
async fn a_caller_that_leaves_closes_its_call_before_the_head_and_in_the_stream() {
    let slow_head = Pace::Fixed { first_token: HOUR, between_tokens: HOUR };
    let slow_stream = Pace::Fixed { first_token: Duration::ZERO, between_tokens: HOUR };
    let bench = Bench::roomy(Behaviour { pace: slow_head, ..Behaviour::steady() }).await;
    let body = streamed("Hello");
    let call = bench.post("any-key", &body);
    let arrived = bench.simulation.wait_until_open_calls(1);
    soon(futures_util::future::select(Box::pin(call), Box::pin(arrived))).await;
    soon(bench.simulation.wait_until_open_calls(0)).await;

    let bench = Bench::roomy(Behaviour { pace: slow_stream, ..Behaviour::steady() }).await;
    let mut response = bench.post("any-key", &streamed("Hello")).await;
    soon(response.next()).await.unwrap().unwrap();
    assert_eq!(bench.simulation.open_calls(), 1);
    drop(response);
    soon(bench.simulation.wait_until_open_calls(0)).await;
}

#[actix_web::test]
async fn faults_come_in_every_kind_and_are_no_refusals() {
    let behaviour = Behaviour { seed: 1, fault_percent: 100, ..Behaviour::steady() };
    let bench = Bench::roomy(behaviour).await;
    let (mut statuses, mut cut, mut complete) = (Vec::new(), 0, 0);
    for _ in 0..60 {
        let mut response = bench.post("any-key", &streamed("Hello")).await;
        statuses.push(response.status().as_u16());
        if response.status() == StatusCode::OK {
            // awc takes a body without its last chunk for a whole one: only the `[DONE]` tells them apart.
            let body = response.body().await.unwrap();
            let is_complete = body.ends_with(b"data: [DONE]\n\n");
            assert!(body.starts_with(b"data: {"));
            complete += usize::from(is_complete);
            cut += usize::from(!is_complete);
        }
    }
    for status in [200, 429, 500, 503] {
        assert!(statuses.contains(&status), "{status}: {statuses:?}");
    }
    assert!(cut > 0 && complete > 0, "{cut} cut, {complete} complete");
    assert_eq!((bench.simulation.arrivals(), bench.simulation.refusals()), (60, 0));
}

#[actix_web::test]
async fn a_cut_answer_that_is_not_streamed_is_broken_too() {
    let behaviour = Behaviour { seed: 1, fault_percent: 100, ..Behaviour::steady() };
    let bench = Bench::roomy(behaviour).await;
    let mut broken = 0;
    for _ in 0..60 {
        let mut response = bench.post("any-key", &question("Hello")).await;
        let is_whole = response.json::<Value>().await.is_ok();
        broken += usize::from(response.status() == StatusCode::OK && !is_whole);
    }
    assert!(broken > 0);
}

#[actix_web::test]
async fn the_demo_s_settings_point_the_documented_providers_at_the_simulation() {
    let shipped = vec![spec("groq", vec![limit(Unit::Requests, 30)]), spec("other", Vec::new())];
    let simulation = Simulation::start(&shipped, Behaviour::demo()).await.unwrap();
    let specs = simulated_specs(shipped, &simulation);
    assert_eq!(specs.len(), 1);
    assert!(specs[0].is_usable() && specs[0].base_url.starts_with("http://127.0.0.1:"));
    assert_eq!(specs[0].limits[0].scope, Scope::Account);
    assert_eq!(simulation.base_url(&ProviderId::new("other")), None);
}

#[actix_web::test]
async fn a_stopped_simulation_answers_nobody() {
    let bench = Bench::roomy(Behaviour::steady()).await;
    soon(bench.simulation.stop()).await;
    let request = Client::default().get(format!("{}/models", bench.url)).bearer_auth("any-key");
    assert!(request.send().await.is_err());
}
