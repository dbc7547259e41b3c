//! Who is asked: over a simulated day of the shipped catalogue, and through the whole gateway.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use freellmapi::config::shipped_providers;
use freellmapi::domain::chat::{ChatRequest, ModelSelector, Strategy};
use freellmapi::domain::clock::Moment;
use freellmapi::domain::input_tokens::InputTokens;
use freellmapi::domain::limit::Window;
use freellmapi::domain::provider::{AccountSpec, ModelSpec, ProviderSpec};
use freellmapi::domain::usage::Usage;
use freellmapi::quota::{Answer, Book, Charge, Demand, Spent};
use freellmapi::routing::{Allowed, Catalog, Leaning, Orders, Standing, Target, Went, plan};
use serde_json::{Value, json};

use crate::support::app::{TestApp, limit, provider, until};
use crate::support::fake_upstream::FakeUpstream;
use crate::support::reply::{Reply, Step};

const START: Moment = Moment::from_unix_micros(1_790_000_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const USAGE: Usage = Usage { input_tokens: 60, output_tokens: 40 };

fn is_daily(window: Window) -> bool {
    matches!(window, Window::Sliding(length) if length == DAY)
}

/// The shipped providers, switched on, with the models that a daily limit binds.
fn scarce() -> Vec<Arc<ProviderSpec>> {
    let providers = shipped_providers().unwrap().into_iter().map(|mut provider| {
        provider.enabled = true;
        provider.accounts = vec![AccountSpec { name: "a".to_owned(), keys: Vec::new() }];
        let of_provider = provider.limits.iter().any(|limit| is_daily(limit.window));
        let is_scarce = |model: &ModelSpec| {
            model.enabled && (of_provider || model.limits.iter().any(|limit| is_daily(limit.window)))
        };
        provider.models.retain(is_scarce);
        Arc::new(provider)
    });
    providers.filter(|provider| !provider.models.is_empty()).collect()
}

/// The gateway's choice and its books, without the gateway.
struct Pool {
    catalog: Catalog,
    books: Vec<Book>,
    standings: Vec<Vec<Standing>>,
    orders: Orders,
    made_at: Moment,
    requests: u32,
}

impl Pool {
    fn new(providers: Vec<Arc<ProviderSpec>>) -> Self {
        let books = providers.iter().map(|provider| Book::new(provider)).collect();
        let standings = providers.iter().map(|provider| vec![Standing::default(); provider.models.len()]);
        let (standings, catalog) = (standings.collect(), Catalog::new(providers.clone()));
        let orders = Orders::new(&catalog, START, |_| None);
        Self { catalog, books, standings, orders, made_at: START, requests: 0 }
    }

    /// Whoever serves a request of that strategy now; `None` when all are at their limits.
    fn serve(&mut self, now: Moment, strategy: Strategy) -> Option<Target> {
        if now.saturating_since(self.made_at) >= Duration::from_secs(10) {
            self.made_at = now;
            let standings = &self.standings;
            self.orders =
                Orders::new(&self.catalog, now, |target| Some(standings[target.provider][target.model.0]));
        }
        self.requests += 1;
        let mut request = ChatRequest::new(ByteString::new());
        request.input_tokens = InputTokens::certain(USAGE.input_tokens);
        request.choice_cap = Some(USAGE.output_tokens);
        request.selector = ModelSelector::Auto(Some(strategy));
        let leaning = Leaning { strategy, keeps: None, explores: self.requests.is_multiple_of(50) };
        let mut plan = plan(&request, &Allowed::default(), &self.catalog, &self.orders, &leaning).unwrap();
        std::iter::from_fn(|| plan.pop()).find(|target| self.attempt(now, *target))
    }

    /// One attempt that takes no time in the books, and as long as the model's rank promises in the facts.
    fn attempt(&mut self, now: Moment, target: Target) -> bool {
        let book = &mut self.books[target.provider];
        let send_within = Duration::from_secs(1);
        let Usage { input_tokens, output_tokens } = USAGE;
        let demand =
            Demand { model: target.model, input_tokens, output_tokens, send_within, is_streamed: true };
        let Answer::Granted(mut hold) = book.reserve(now, &demand) else { return false };
        book.first_byte(now, &mut hold);
        book.settle(now, hold, Spent::Ended(Charge::Exact(USAGE)));
        let rank = self.catalog.spec(target).unwrap().1.speed_rank;
        let seconds = 0.6 * 1.5_f64.powi(i32::try_from(rank).unwrap() - 1);
        let went = Went::Streamed {
            first_token: Duration::from_secs_f64(seconds / 3.0),
            writing: Duration::from_secs_f64(seconds / 1.5),
            output_tokens: 300,
        };
        let standing = &mut self.standings[target.provider][target.model.0];
        standing.facts.note(now, rank, went);
        standing.pace.note(now, book.remaining(now, target.model));
        true
    }

    /// What the daily limits of `target` have left, 0 to 1.
    fn left(&self, now: Moment, target: Target) -> f64 {
        self.books[target.provider].remaining(now, target.model).unwrap().left
    }

    /// The requests that the tightest daily limit of `target` lets through.
    fn per_day(&self, target: Target) -> u64 {
        let (provider, model) = self.catalog.spec(target).unwrap();
        let limits = provider.limits.iter().chain(&model.limits).filter(|limit| is_daily(limit.window));
        limits
            .map(|limit| limit.max / if limit.unit.as_str() == "requests" { 1 } else { USAGE.total_tokens() })
            .min()
            .unwrap()
    }
}

#[test]
fn a_saturated_day_uses_every_daily_quota() {
    let mut pool = Pool::new(scarce());
    let mut now = START;
    while now < START + DAY {
        while pool.serve(now, Strategy::Balanced).is_some() {}
        now = now + Duration::from_secs(60);
    }
    let end = START + DAY - Duration::from_secs(1);
    let targets = pool.catalog.enabled().to_vec();
    assert!(targets.len() >= 5, "the catalogue has scarce models");
    for target in targets {
        let left = pool.left(end, target);
        assert!(left <= 0.01, "{:?}: {left} is left", pool.catalog.spec(target).unwrap().1.id);
    }
}

#[test]
fn a_light_day_belongs_to_the_best_model() {
    for strategy in [Strategy::Smart, Strategy::Balanced, Strategy::Fast] {
        let mut pool = Pool::new(scarce());
        let best = Pool::new(scarce()).serve(START, strategy).unwrap();
        let per_day = pool.per_day(best);
        // Seven tenths of its quota, at random instants.
        let wanted = per_day * 7 / 10;
        let (mut random, mut now) = (7_u64, START);
        let (mut served, mut by_best) = (0_u32, 0_u32);
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((random >> 11) as f64 / (1_u64 << 53) as f64).max(1e-12);
            now = now + Duration::from_secs_f64(-uniform.ln() * DAY.as_secs_f64() / wanted as f64);
            if now >= START + DAY {
                break;
            }
            let target = pool.serve(now, strategy).expect("there is room for everybody");
            served += 1;
            by_best += u32::from(target == best);
        }
        assert!(f64::from(served) > wanted as f64 * 0.8, "{strategy:?}: {served} of {wanted}");
        let share = f64::from(by_best) / f64::from(served);
        assert!(share >= 0.95, "{strategy:?}: the best served {share} of {served}");
    }
}

fn turn(messages: &Value) -> Value {
    json!({"model": "family-m", "messages": messages})
}

#[actix_web::test]
async fn a_conversation_stays_where_it_went_and_another_one_does_not() {
    let (first, second) = (FakeUpstream::start([]), FakeUpstream::start([]));
    let limited = provider("first", &first, &limit("requests", 1, "60s"));
    let app =
        TestApp::with_config(&(limited + &provider("second", &second, "") + &provider("third", &first, "")))
            .await;
    let opening = json!([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]);
    let mut longer = opening.clone();
    longer.as_array_mut().unwrap().extend([
        json!({"role": "assistant", "content": "hello"}),
        json!({"role": "user", "content": "and now?"}),
    ]);
    let via = async |body: Value| {
        let answer = app.completion(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-routed-via").unwrap().to_owned()
    };
    let pinned = json!({"model": "third/m-third", "messages": opening});
    assert_eq!(via(pinned).await, "third/m-third");
    assert_eq!(via(turn(&longer)).await, "third/m-third", "the conversation goes on where it was");
    longer[1]["content"] = json!("something else");
    assert_eq!(via(turn(&longer)).await, "first/m-first", "another conversation has had nothing");
    assert_eq!(via(turn(&longer)).await, "second/m-second", "its model has no room: it moves");
    assert_eq!(via(turn(&longer)).await, "second/m-second", "and stays");
    app.finish().await;
}

#[actix_web::test]
async fn a_refusal_says_per_candidate_why() {
    let (full, broken) =
        (FakeUpstream::start([]), FakeUpstream::start_with([], Reply::error(500, "secret words")));
    let limits = limit("requests", 1, "600s");
    let small = provider("small", &full, "") + "context_window = 100\n";
    let config = provider("full", &full, &limits) + &small + &provider("broken", &broken, "");
    let app = TestApp::with_config(&config).await;
    assert_eq!(app.chat(json!({"stream": false, "max_tokens": 500})).await.status, 200);
    let refused = app.chat(json!({"stream": false, "max_tokens": 500})).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let details = refused.json()["details"].clone();
    let detail = |name: &str| {
        let lines = details.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
        lines.into_iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {details}"))
    };
    assert!(detail("full/m-full: no capacity until 2").ends_with('Z'));
    assert_eq!(detail("small/m-small"), "small/m-small: its context window is 100 tokens");
    assert_eq!(detail("broken/m-broken"), "broken/m-broken: the provider reported an error");
    assert!(!refused.text().contains("secret words"));

    let openai = app.completion(json!({"model": "full/m-full"})).await;
    assert_eq!(openai.status, 429);
    let error = openai.json()["error"].clone();
    assert_eq!(error.as_object().unwrap().len(), 4, "{error}");
    assert!(error["message"].as_str().unwrap().contains("full/m-full: no capacity until 2"), "{error}");

    let seen = app.refusals().await;
    let last = seen.last().unwrap();
    assert_eq!((last.status, last.why_not.len()), (429, 1));
    assert_eq!(last.why_not[0].reason, "no_room");
    assert!(last.why_not[0].until.is_some());
    app.finish().await;
}

#[actix_web::test]
async fn who_turns_out_slow_is_asked_second() {
    let late = Reply::stream([
        Step::Pause(Duration::from_millis(300)),
        Step::delta("one"),
        Step::chunk("data: [DONE]\n\n"),
        Step::End,
    ]);
    let (slow, quick) = (FakeUpstream::start_with([], late), FakeUpstream::start([]));
    let ranked = |id: &str, upstream: &FakeUpstream| provider(id, upstream, "") + "speed_rank = 5\n";
    let app = TestApp::with_config(&(ranked("slow", &slow) + &ranked("quick", &quick))).await;
    let ask = async |model: &str| app.completion(json!({"model": model, "stream": true})).await;
    assert_eq!(ask("family-m").await.header("x-routed-via"), Some("slow/m-slow"), "it stands first");
    for _ in 0..3 {
        assert_eq!(ask("slow/m-slow").await.status, 200);
        assert_eq!(ask("quick/m-quick").await.status, 200);
    }
    until("the new order", async || {
        (ask("family-m").await.header("x-routed-via") == Some("quick/m-quick")).then_some(())
    })
    .await;
    app.finish().await;
}
