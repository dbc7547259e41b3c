//! One provider's limits as the shared ledger charges them; pure.

use std::sync::Arc;
use std::time::Duration;

use super::lease_policy::{Ask, LIFE};
use super::scopes::Scopes;
use crate::db::shared_ledger::{
    AttemptId, Budget, Claim, ClaimAccount, ClaimLine, Definition, Fill, PartLine, SettledLine, Span,
};
use crate::domain::calendar::{Calendar, Resets};
use crate::domain::clock::Moment;
use crate::domain::limit::{RequestsCharged, TokensCharged, Unit, Window};
use crate::domain::provider::ProviderSpec;
use crate::domain::usage::Usage;
use crate::ledger::identity::Names;
use crate::quota::{
    self, AccountIndex, Demand, HoldRecord, LATE_COUNT, ModelIndex, PROBE_PATIENCE, Term, Terms,
};

/// Resets of a calendar that go with its limit. Chosen: an attempt lasts minutes and a replica knows the next reset
/// anew as one passes, so the third is never needed before it is told.
const RESETS: usize = 3;

/// What is known of the time before the ledger saw a limit.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Nothing was ever sent from this store.
    pub is_empty: bool,
    /// The statistics know every request that ended so long ago or later.
    pub reach: Duration,
}

/// One provider's budgets, made once per configuration and renewed when a calendar's window is over.
#[derive(Debug)]
pub(super) struct Budgets {
    /// By account.
    accounts: Vec<Account>,
    scopes: Scopes,
    renew_at: Moment,
}

#[derive(Debug)]
struct Account {
    identity: String,
    budgets: Vec<Arc<Budget>>,
}

impl Budgets {
    pub(super) fn new(now: Moment, spec: &ProviderSpec, terms: &Terms, names: &Names, past: Past) -> Self {
        let account = |index| {
            let identity = names.target(AccountIndex(index), None)?.account.clone();
            let mut budgets: Vec<Budget> = Vec::new();
            for term in terms.all() {
                let definition =
                    Definition { span: span(now, term), max: term.max(), fill: fill(spec, term, past) };
                let is_its =
                    |budget: &&mut Budget| budget.scope == term.scope() && budget.unit == term.unit();
                match budgets.iter_mut().find(is_its) {
                    Some(budget) => add(&mut budget.definitions, definition),
                    None => budgets.push(Budget {
                        account: identity.clone(),
                        scope: term.scope().to_owned(),
                        unit: term.unit(),
                        models: models(spec, terms, term),
                        definitions: vec![definition],
                    }),
                }
            }
            Some(Account { identity, budgets: budgets.into_iter().map(Arc::new).collect() })
        };
        let accounts = (0..names.account_count()).filter_map(account).collect();
        let resets = terms.all().filter_map(|term| match term.window() {
            Window::Calendar(calendar) => Some(Resets::new(calendar).after(now).first),
            Window::Sliding(_) | Window::Spacing(_) | Window::InFlight => None,
        });
        let scopes = Scopes::new(spec, names);
        Self { accounts, scopes, renew_at: resets.min().unwrap_or(Moment::NEVER) }
    }

    /// By what names the cooldowns are shared.
    pub(super) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Whether a calendar's window has ended since they were made.
    pub(super) fn are_outdated(&self, now: Moment) -> bool {
        self.renew_at <= now
    }

    /// What an attempt asks for on one of `accounts`, the preferred one first.
    pub(super) fn claim(
        &self,
        spec: &ProviderSpec,
        terms: &Terms,
        demand: &Demand,
        accounts: &[AccountIndex],
    ) -> Claim {
        let wanted = per_budget(terms, &record(demand));
        let account = |index: &AccountIndex| {
            let account = self.accounts.get(index.0)?;
            let line = |(term, claim): &(Term<'_>, quota::Claim)| {
                let is_its =
                    |budget: &&Arc<Budget>| budget.scope == term.scope() && budget.unit == term.unit();
                Some(ClaimLine {
                    budget: Arc::clone(account.budgets.iter().find(is_its)?),
                    amount: claim.amount,
                    crash_cap: crash_cap(spec, term.unit(), demand.is_streamed),
                    returnable: claim.returnable,
                    leave: 0,
                })
            };
            Some(ClaimAccount {
                account: account.identity.clone(),
                cooldowns: self.scopes.asked(*index, demand.model),
                lines: wanted.iter().filter_map(line).collect(),
            })
        };
        Claim {
            id: AttemptId::mint(),
            provider: spec.id.clone(),
            send_within: demand.send_within,
            probe_within: PROBE_PATIENCE,
            accounts: accounts.iter().filter_map(account).collect(),
        }
    }

    /// The same for a lease that pays for many such attempts, streamed or not.
    pub(super) fn lease(
        &self,
        spec: &ProviderSpec,
        terms: &Terms,
        demand: &Demand,
        accounts: &[AccountIndex],
        asks: &[Ask],
    ) -> Claim {
        let mut claim = self.claim(spec, terms, &Demand { is_streamed: false, ..*demand }, accounts);
        let lines = claim.accounts.iter_mut().flat_map(|account| account.lines.iter_mut().zip(asks));
        for (line, Ask { amount, leave }) in lines {
            // What is not spent comes back as the lease ends, at the latest.
            (line.amount, line.returnable, line.leave) = (*amount, *amount, *leave);
        }
        Claim { id: AttemptId::mint_lease(), send_within: demand.send_within + LIFE, ..claim }
    }
}

/// What an attempt takes of each budget, in the order of a claim's lines.
pub(super) fn amounts(terms: &Terms, demand: &Demand) -> Vec<u64> {
    amounts_of(terms, &record(demand))
}

/// The same of an attempt that was granted.
pub(super) fn reserved_amounts(terms: &Terms, record: &HoldRecord) -> Vec<u64> {
    amounts_of(terms, &HoldRecord { first_byte: None, finish: None, ..*record })
}

fn amounts_of(terms: &Terms, record: &HoldRecord) -> Vec<u64> {
    per_budget(terms, record).into_iter().map(|(_, claim)| claim.amount).collect()
}

/// What leaves a lease with the latest event of an attempt that it paid for: all that this event has made final.
pub(super) fn part_lines(terms: &Terms, record: &HoldRecord) -> Vec<PartLine> {
    let is_told = |line: &SettledLine| {
        line.unit == Unit::Requests && record.first_byte.is_some() && record.finish.is_some()
    };
    let reserved = per_budget(terms, &HoldRecord { first_byte: None, finish: None, ..*record });
    let taken = |line: &SettledLine| {
        let its =
            |(term, _): &&(Term<'_>, quota::Claim)| term.scope() == line.scope && term.unit() == line.unit;
        reserved.iter().find(its).map_or(0, |(_, claim)| claim.amount)
    };
    let lines = settled_lines(terms, record).into_iter();
    lines
        .filter(|line| line.is_final && !is_told(line))
        .map(|line| PartLine {
            taken: taken(&line),
            held: line.amount,
            last_count: line.last_count,
            scope: line.scope,
            unit: line.unit,
        })
        .collect()
}

/// What is known of an attempt as far as its limits care: the parts of which the last count is known.
pub(super) fn settled_lines(terms: &Terms, record: &HoldRecord) -> Vec<SettledLine> {
    let has_ended = record.finish.is_some();
    let line = |(term, claim): (Term<'_>, quota::Claim)| {
        claim.last_count.map(|last_count| SettledLine {
            scope: term.scope().to_owned(),
            unit: term.unit(),
            amount: claim.amount,
            last_count: Some(last_count),
            // That it counts as one request, and when at the latest, is settled by its first byte.
            is_final: has_ended || (term.unit() == Unit::Requests && record.first_byte.is_some()),
            returnable: claim.returnable,
        })
    };
    per_budget(terms, record).into_iter().filter_map(line).collect()
}

/// How many budgets an attempt at the model is taken from.
pub(super) fn count(terms: &Terms, model: ModelIndex) -> usize {
    let mut budgets: Vec<(&str, Unit)> =
        terms.binding(model).map(|term| (term.scope(), term.unit())).collect();
    budgets.sort_unstable();
    budgets.dedup();
    budgets.len()
}

/// What the attempt holds of each budget: windows of the same unit and scope take the same from it.
fn per_budget<'a>(terms: &'a Terms, record: &HoldRecord) -> Vec<(Term<'a>, quota::Claim)> {
    let mut found: Vec<(Term<'a>, quota::Claim)> = Vec::new();
    for (term, claim) in terms.claims(record) {
        let is_known =
            found.iter().any(|(known, _)| known.scope() == term.scope() && known.unit() == term.unit());
        if !is_known {
            found.push((term, claim));
        }
    }
    found
}

fn record(demand: &Demand) -> HoldRecord {
    let Demand { model, input_tokens, output_tokens, .. } = *demand;
    HoldRecord {
        account: AccountIndex(0),
        model,
        reserved: Usage { input_tokens, output_tokens },
        send_by: Moment::default(),
        first_byte: None,
        finish: None,
    }
}

/// From the latest instant of sending to the last at which upstream can count an attempt of a replica that has died:
/// no attempt goes on after its time-outs, and then it counts as aborted.
fn crash_cap(spec: &ProviderSpec, unit: Unit, is_streamed: bool) -> Duration {
    let timeouts = &spec.timeouts;
    let first_byte = if is_streamed { timeouts.first_token } else { timeouts.total };
    let by_first_byte = match spec.requests_charged {
        RequestsCharged::Arrival => LATE_COUNT,
        RequestsCharged::Unknown => first_byte + LATE_COUNT,
    };
    match (unit, spec.tokens_charged) {
        (Unit::Requests, _) => by_first_byte,
        (Unit::Parallel, _) => timeouts.total + LATE_COUNT,
        (_, TokensCharged::Reserve) => by_first_byte,
        (_, TokensCharged::Usage | TokensCharged::Unknown) => timeouts.total + LATE_COUNT,
    }
}

/// Of two definitions over the same time the smaller one binds.
fn add(definitions: &mut Vec<Definition>, definition: Definition) {
    match definitions.iter_mut().find(|known| known.span == definition.span) {
        Some(known) => known.max = known.max.min(definition.max),
        None => definitions.push(definition),
    }
}

fn models(spec: &ProviderSpec, terms: &Terms, term: Term<'_>) -> Option<Vec<String>> {
    if term.scope() == "account" {
        return None;
    }
    let is_bound = |model| terms.binding(ModelIndex(model)).any(|bound| bound.scope() == term.scope());
    let bound = spec.models.iter().enumerate().filter(|(index, _)| is_bound(*index));
    Some(bound.map(|(_, model)| model.id.clone()).collect())
}

pub(super) fn span(now: Moment, term: Term<'_>) -> Span {
    match term.window() {
        Window::InFlight => Span::InFlight,
        Window::Sliding(_) | Window::Spacing(_) => Span::Sliding(term.longest()),
        Window::Calendar(calendar) => Span::Calendar {
            name: calendar.to_string(),
            longest: term.longest(),
            resets: resets(now, calendar),
        },
    }
}

/// The next resets. A midnight that comes twice is left out: the ledger knows instants only, and by the next one both
/// are over.
fn resets(now: Moment, calendar: Calendar) -> Vec<Moment> {
    let calendar = Resets::new(calendar);
    let all = std::iter::successors(Some(calendar.after(now)), |reset| Some(calendar.after(reset.last)));
    all.take(RESETS + 1)
        .filter(|reset| reset.first == reset.last)
        .map(|reset| reset.last)
        .take(RESETS)
        .collect()
}

/// What the ledger takes a limit to have been used for that it has never seen. Events tell requests, and usage; not
/// the cap that went with a request, nor what it cost at the time.
fn fill(spec: &ProviderSpec, term: Term<'_>, past: Past) -> Fill {
    let is_told = match term.unit() {
        Unit::Requests => true,
        Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => spec.tokens_charged == TokensCharged::Usage,
        Unit::Credits => false,
        Unit::Parallel => return Fill::Empty,
    };
    match (past.is_empty, is_told && term.longest() <= past.reach) {
        (true, _) => Fill::Empty,
        (false, true) => Fill::Statistics,
        (false, false) => Fill::Block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::{Period, Zone};
    use crate::domain::limit::{Limit, Scope};
    use crate::ledger::fixture::{limit, names, spec};
    use crate::quota::{Charge, Finish};

    const NOW: Moment = Moment::from_unix_micros(1_795_399_994_000_000);
    const KNOWN: Past = Past { is_empty: false, reach: Duration::from_secs(3_600) };

    fn tokens(max: u64, window: Window) -> Limit {
        Limit { scope: Scope::Account, unit: Unit::Tokens, max, window }
    }

    fn day(zone: &str) -> Window {
        Window::Calendar(Calendar { period: Period::Day, zone: Zone::named(zone).unwrap() })
    }

    fn demand() -> Demand {
        Demand {
            model: ModelIndex(0),
            input_tokens: 7,
            output_tokens: 5,
            send_within: Duration::from_secs(15),
            is_streamed: true,
        }
    }

    fn budgets(now: Moment, limits: &[Limit], past: Past) -> (ProviderSpec, Terms, Budgets) {
        let spec = spec(limits);
        let (terms, names) = (Terms::new(&spec), names(&spec));
        let budgets = Budgets::new(now, &spec, &terms, &names, past);
        (spec, terms, budgets)
    }

    #[test]
    fn limits_of_one_unit_and_scope_are_one_line() {
        let limits =
            [limit(10, 1), limit(30, 60), limit(9, 1), tokens(500, Window::Sliding(Duration::from_secs(60)))];
        let (spec, terms, budgets) = budgets(NOW, &limits, KNOWN);
        let claim = budgets.claim(&spec, &terms, &demand(), &[AccountIndex(1), AccountIndex(0)]);
        let accounts: Vec<&str> = claim.accounts.iter().map(|account| account.account.as_str()).collect();
        assert_eq!(accounts, ["name:b", "name:a"]);
        let lines = &claim.accounts[0].lines;
        assert_eq!(lines.iter().map(|line| line.amount).collect::<Vec<_>>(), [1, 12]);
        let requests = &lines[0].budget.definitions;
        let spans = requests.iter().map(|definition| (definition.span.clone(), definition.max));
        let lengthened = |ms| Span::Sliding(Duration::from_micros(ms));
        assert_eq!(spans.collect::<Vec<_>>(), [(lengthened(1_000_100), 9), (lengthened(60_006_000), 30)]);
        assert_eq!(claim.accounts[0].cooldowns[..2], ["", "model:m"]);
    }

    #[test]
    fn a_dead_replicas_units_end_after_its_timeouts_and_are_never_forgotten_before() {
        let (mut spec, ..) = budgets(NOW, &[], KNOWN);
        spec.timeouts.first_token = Duration::from_secs(60);
        spec.timeouts.total = Duration::from_secs(600);
        spec.requests_charged = RequestsCharged::Unknown;
        spec.tokens_charged = TokensCharged::Usage;
        let caps = |spec: &ProviderSpec, is_streamed| {
            [Unit::Requests, Unit::Tokens, Unit::Parallel]
                .map(|unit| crash_cap(spec, unit, is_streamed).as_secs())
        };
        assert_eq!(caps(&spec, true), [65, 605, 605]);
        assert_eq!(caps(&spec, false), [605, 605, 605]);
        spec.tokens_charged = TokensCharged::Reserve;
        assert_eq!(caps(&spec, true), [65, 65, 605]);
        spec.requests_charged = RequestsCharged::Arrival;
        assert_eq!(caps(&spec, false), [5, 5, 605]);
    }

    #[test]
    fn the_past_is_what_the_events_tell_or_all_of_it() {
        let fills = |past| {
            let limits =
                [limit(10, 60), limit(10, 7_200), tokens(9, Window::Sliding(Duration::from_secs(60)))];
            let mut spec = spec(&limits);
            spec.tokens_charged = TokensCharged::Reserve;
            let (terms, names) = (Terms::new(&spec), names(&spec));
            let budgets = Budgets::new(NOW, &spec, &terms, &names, past);
            let definitions =
                budgets.accounts[0].budgets.iter().flat_map(|budget| budget.definitions.clone());
            definitions.map(|definition| definition.fill).collect::<Vec<_>>()
        };
        assert_eq!(fills(KNOWN), [Fill::Statistics, Fill::Block, Fill::Block]);
        assert_eq!(fills(Past { is_empty: true, ..KNOWN }), [Fill::Empty; 3]);
    }

    #[test]
    fn budgets_are_renewed_with_their_calendar() {
        let (.., budgets) = budgets(NOW, &[tokens(9, day("UTC"))], KNOWN);
        // NOW is 2026-11-23T02:13:14Z.
        let midnight = NOW + Duration::from_secs(78_406);
        assert!(!budgets.are_outdated(midnight - Duration::from_micros(1)) && budgets.are_outdated(midnight));
        let Span::Calendar { name, resets, .. } = &budgets.accounts[0].budgets[0].definitions[0].span else {
            panic!("no calendar")
        };
        assert_eq!(name, "day@UTC");
        let days = [0, 1, 2].map(|day| midnight + Duration::from_secs(day * 86_400));
        assert_eq!(*resets, days);
    }

    #[test]
    fn a_midnight_that_comes_twice_is_no_reset() {
        let Window::Calendar(havana) = day("America/Havana") else { panic!("no calendar") };
        let at =
            |text: &str| Moment::from_unix_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let expected = ["2024-11-02T04:00:00Z", "2024-11-04T05:00:00Z", "2024-11-05T05:00:00Z"];
        assert_eq!(resets(at("2024-11-01T12:00:00Z"), havana), expected.map(at));
    }

    #[test]
    fn the_first_byte_settles_the_request_and_the_end_the_rest() {
        let parallel =
            Limit { scope: Scope::Account, unit: Unit::Parallel, max: 2, window: Window::InFlight };
        let minute = tokens(500, Window::Sliding(Duration::from_secs(60)));
        let (mut spec, ..) = budgets(NOW, &[limit(9, 60), minute, parallel], KNOWN);
        spec.tokens_charged = TokensCharged::Usage;
        spec.requests_charged = RequestsCharged::Unknown;
        let terms = Terms::new(&spec);
        let answered = HoldRecord { first_byte: Some(NOW), ..record(&demand()) };
        let finality = |record: &HoldRecord| {
            let lines = settled_lines(&terms, record);
            lines.iter().map(|line| (line.unit, line.amount, line.is_final)).collect::<Vec<_>>()
        };
        assert_eq!(finality(&answered), [(Unit::Requests, 1, true)]);
        let usage = Usage { input_tokens: 3, output_tokens: 1 };
        let ended = HoldRecord { finish: Some(Finish::Ended(NOW, Charge::Exact(usage))), ..answered };
        let all = [(Unit::Requests, 1, true), (Unit::Tokens, 4, true), (Unit::Parallel, 1, true)];
        assert_eq!(finality(&ended), all);
    }
}
