//! `freellmapi ledger …`.

use serde_json::{Value, json};

use super::arguments::LedgerCommand;
use super::failure::Failure;
use super::output;
use crate::app::{OpenStore, ledger_names, retention};
use crate::config::{self, Settings, Sources};
use crate::db::shared_ledger::LedgerConnection;
use crate::db::{Backend, Store, StoreError};
use crate::domain::clock::{Clock, Moment, SystemClock};
use crate::domain::provider::ProviderSpec;
use crate::ledger::shared::{ShownCooldown, ShownLimit, shown_cooldowns, shown_limits};
use crate::ledger::{Kept, Names, Restored};
use crate::quota::Book;

pub(super) fn run(sources: &Sources, command: &LedgerCommand) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let open = OpenStore::open(&settings)?;
    let now = SystemClock::start().now();
    match command {
        LedgerCommand::Show { json } => show(&settings, &open, now, *json),
        LedgerCommand::Block { provider } => block(&settings, &*open.store, provider.as_deref(), now),
    }
}

/// What one provider holds.
struct Shown<'a> {
    spec: &'a ProviderSpec,
    limits: Vec<ShownLimit>,
    cooldowns: Vec<ShownCooldown>,
}

fn show(settings: &Settings, open: &OpenStore, now: Moment, as_json: bool) -> Result<(), Failure> {
    let shown = match open.store.backend() {
        Backend::Sqlite => read(settings, open, now)?,
        Backend::Postgres => read_shared(settings, open, now)?,
    };
    if as_json {
        output::line(&json_of(&shown).to_string());
    } else {
        print_tables(&shown);
    }
    Ok(())
}

fn read<'a>(settings: &'a Settings, open: &OpenStore, now: Moment) -> Result<Vec<Shown<'a>>, StoreError> {
    let providers: Vec<(&ProviderSpec, Names, Book)> = settings
        .providers
        .iter()
        .filter(|spec| spec.is_usable())
        .map(|spec| (spec, ledger_names(&open.pepper, spec), Book::new(spec)))
        .collect();
    let with_limits: Vec<_> = providers.iter().map(|(_, names, book)| (names, book.limits())).collect();
    let kept = Kept::read(&*open.store, now, retention(settings), &with_limits)?;
    drop(with_limits);
    let shown = |(spec, names, mut book): (&'a ProviderSpec, Names, Book)| {
        Restored::new(&kept, &names, &book.limits(), spec.tokens_charged).apply(now, &mut book);
        // What is kept here nobody else could spend: there are no leases.
        let budgets = book.snapshot(now).budgets.into_iter();
        let limits = budgets.map(|budget| ShownLimit { budget, leased: 0 }).collect();
        Shown { spec, limits, cooldowns: cooldowns(&kept, &names, spec) }
    };
    Ok(providers.into_iter().map(shown).collect())
}

fn read_shared<'a>(
    settings: &'a Settings,
    open: &OpenStore,
    now: Moment,
) -> Result<Vec<Shown<'a>>, StoreError> {
    let snapshot = LedgerConnection::open(&settings.store.url)?.snapshot()?;
    let shown = |spec: &'a ProviderSpec| {
        let names = ledger_names(&open.pepper, spec);
        let limits = shown_limits(now, spec, &names, &snapshot);
        Shown { spec, limits, cooldowns: shown_cooldowns(now, spec, &names, &snapshot) }
    };
    Ok(settings.providers.iter().filter(|spec| spec.is_usable()).map(shown).collect())
}

fn cooldowns(kept: &Kept, names: &Names, spec: &ProviderSpec) -> Vec<ShownCooldown> {
    let cooldown =
        |(account, model, until, reason): (crate::quota::AccountIndex, Option<_>, Moment, &str)| {
            let model = model.and_then(|crate::quota::ModelIndex(model)| spec.models.get(model));
            ShownCooldown {
                account: spec.accounts.get(account.0).map(|account| account.name.clone()).unwrap_or_default(),
                model: model.map(|model| model.id.clone()),
                until,
                reason: reason.to_owned(),
            }
        };
    kept.cooldowns_of(names).into_iter().map(cooldown).collect()
}

fn json_of(shown: &[Shown<'_>]) -> Value {
    let limits = shown.iter().flat_map(|Shown { spec, limits, .. }| {
        limits.iter().map(|ShownLimit { budget, leased }| {
            json!({
                "provider": spec.id,
                "account": budget.account,
                "scope": budget.scope,
                "unit": budget.unit,
                "window": budget.window,
                "window_ms": budget.window_ms,
                "held": budget.held,
                "leased": leased,
                "max": budget.max,
                "free_at": budget.free_at.map(instant),
            })
        })
    });
    let cooldowns = shown.iter().flat_map(|Shown { spec, cooldowns, .. }| {
        cooldowns.iter().map(|cooldown| {
            json!({
                "provider": spec.id,
                "account": cooldown.account,
                "model": cooldown.model,
                "until": instant(cooldown.until),
                "reason": cooldown.reason,
            })
        })
    });
    json!({ "limits": limits.collect::<Vec<_>>(), "cooldowns": cooldowns.collect::<Vec<_>>() })
}

fn print_tables(shown: &[Shown<'_>]) {
    let limits = shown.iter().flat_map(|Shown { spec, limits, .. }| {
        limits.iter().map(|ShownLimit { budget, leased }| {
            vec![
                spec.id.to_string(),
                budget.account.clone(),
                budget.scope.clone(),
                budget.unit.to_owned(),
                budget.window_ms.map_or_else(|| budget.window.clone(), window),
                budget.held.to_string(),
                leased.to_string(),
                budget.max.to_string(),
                budget.free_at.map_or_else(|| "now".to_owned(), instant),
            ]
        })
    });
    let headings =
        ["PROVIDER", "ACCOUNT", "SCOPE", "UNIT", "WINDOW", "HELD", "LEASED", "MAX", "FREE AGAIN AT"];
    output::table(&headings, &limits.collect::<Vec<_>>());
    let cooldowns = shown.iter().flat_map(|Shown { spec, cooldowns, .. }| {
        cooldowns.iter().map(|cooldown| {
            vec![
                spec.id.to_string(),
                cooldown.account.clone(),
                cooldown.model.clone().unwrap_or_else(|| "all".to_owned()),
                instant(cooldown.until),
                cooldown.reason.clone(),
            ]
        })
    });
    let cooldowns: Vec<_> = cooldowns.collect();
    if !cooldowns.is_empty() {
        output::line("");
        output::table(&["LEFT ALONE", "ACCOUNT", "MODEL", "UNTIL", "BECAUSE"], &cooldowns);
    }
}

fn instant(moment: Moment) -> String {
    format!("{moment:?}")
}

fn window(milliseconds: u64) -> String {
    match milliseconds {
        day if day % 86_400_000 == 0 => format!("{} d", day / 86_400_000),
        hour if hour % 3_600_000 == 0 => format!("{} h", hour / 3_600_000),
        second if second % 1_000 == 0 => format!("{} s", second / 1_000),
        other => format!("{other} ms"),
    }
}

fn block(settings: &Settings, store: &dyn Store, provider: Option<&str>, now: Moment) -> Result<(), Failure> {
    if let Some(provider) = provider
        && !settings.providers.iter().any(|spec| spec.id.as_str() == provider)
    {
        return Err(Failure::usage(format!("--provider {provider}: there is no such provider")));
    }
    let notices = match store.backend() {
        Backend::Sqlite => {
            store.add_block(provider, now)?;
            "a running server notices within 1 s"
        }
        Backend::Postgres => {
            LedgerConnection::open(&settings.store.url)?.block(provider)?;
            "all replicas honour it at once"
        }
    };
    let whose =
        provider.map_or_else(|| "every provider".to_owned(), |provider| format!("provider {provider}"));
    output::note(&format!("every limit of {whose} is held for one window; {notices}"));
    Ok(())
}
