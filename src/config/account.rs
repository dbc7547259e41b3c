//! A provider's accounts: budgets of their own, each reached by one or more keys from the environment.

use std::collections::HashMap;

use toml::Value;

use crate::domain::provider::{AccountSpec, Auth};
use crate::domain::secret::Secret;

use super::environment::{self, Environment, is_header_safe};
use super::reader::{Parsed, Section};
use super::scalar::{self, variables};

/// A provider's accounts and the variables that its keys come from.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) keys_env: Vec<String>,
    pub(super) accounts: Vec<AccountSpec>,
}

/// An `[[account]]` as stated.
#[derive(Debug)]
struct Stated {
    name: String,
    keys_env: Vec<String>,
}

/// Reads `keys_env` and the `[[account]]` list. An account without any key is left out: it could not be used.
pub(super) fn read(section: &mut Section<'_>, auth: Option<Auth>, env: Environment<'_>) -> Option<Accounts> {
    let keys_env = section.or("keys_env", Vec::new(), variables_or_none);
    let stated = section.tables("account", "name", read_stated);
    let (keys_env, stated) = (keys_env?, stated?);
    if auth? == Auth::None {
        return keyless(section, &keys_env, &stated);
    }
    let mut owners = HashMap::new();
    let mut accounts = Vec::new();
    for account in &stated {
        check_name(section, account, &stated);
        accounts.push(shared_budget(section, account, env, &mut owners));
    }
    for key in keys_env.iter().flat_map(|variable| keys(section, variable, env)) {
        // A key met before already has its budget; a second one for it would be spent twice.
        if !owners.contains_key(&key) {
            let name = format!("env-{}", accounts.len() - stated.len() + 1);
            owners.insert(key.clone(), name.clone());
            accounts.push(AccountSpec { name, keys: vec![Secret::new(key)] });
        }
    }
    accounts.retain(|account| !account.keys.is_empty());
    let all = keys_env.into_iter().chain(stated.into_iter().flat_map(|account| account.keys_env)).collect();
    Some(Accounts { keys_env: all, accounts })
}

fn read_stated(section: &mut Section<'_>) -> Option<Stated> {
    let name = section.required("name", account_name);
    let keys_env = section.required("keys_env", variables);
    Some(Stated { name: name?, keys_env: keys_env? })
}

fn account_name(value: &Value) -> Parsed<String> {
    let name = scalar::name(value)?;
    let numbered = name.strip_prefix("env-").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if numbered { Err("names like \"env-1\" are given to the keys of keys_env".into()) } else { Ok(name) }
}

/// The empty list is how a file takes back the variables of a shipped provider.
fn variables_or_none(value: &Value) -> Parsed<Vec<String>> {
    match value.as_array() {
        Some(none) if none.is_empty() => Ok(Vec::new()),
        _ => variables(value),
    }
}

fn keyless(section: &mut Section<'_>, keys_env: &[String], stated: &[Stated]) -> Option<Accounts> {
    if !keys_env.is_empty() {
        section.problem("keys_env", "auth = \"none\" sends no key: set auth = \"bearer\", or keys_env = []");
    }
    if !stated.is_empty() {
        section.problem("account", "auth = \"none\" sends no key: set auth = \"bearer\", or leave it out");
    }
    let account = AccountSpec { name: "default".to_owned(), keys: Vec::new() };
    Some(Accounts { keys_env: Vec::new(), accounts: vec![account] })
}

fn check_name(section: &mut Section<'_>, account: &Stated, all: &[Stated]) {
    if all.iter().filter(|other| other.name == account.name).count() > 1 {
        section.problem("account", format!("the name {:?} is given twice", account.name));
    }
}

/// The keys of one stated account; one that another account already has is a problem, because an upstream
/// knows one budget for it.
fn shared_budget(
    section: &mut Section<'_>,
    account: &Stated,
    env: Environment<'_>,
    owners: &mut HashMap<String, String>,
) -> AccountSpec {
    let mut own = Vec::new();
    for variable in &account.keys_env {
        for key in keys(section, variable, env) {
            match owners.insert(key.clone(), account.name.clone()) {
                None => own.push(Secret::new(key)),
                Some(owner) if owner == account.name => {}
                Some(owner) => section.problem(
                    "account",
                    format!("{:?} and {owner:?} have the same key in {variable}", account.name),
                ),
            }
        }
    }
    AccountSpec { name: account.name.clone(), keys: own }
}

/// The keys that a variable holds, with commas between them.
fn keys(section: &mut Section<'_>, variable: &str, env: Environment<'_>) -> Vec<String> {
    let mut keys = Vec::new();
    let all = env.get(variable).unwrap_or_default().split(',').map(str::trim);
    for (index, key) in all.filter(|key| !key.is_empty()).enumerate() {
        if is_header_safe(key) {
            keys.push(key.to_owned());
        } else {
            section.problem_of(
                environment::ORIGIN,
                variable,
                format!(
                    "key {} has characters that a header cannot carry: expected visible ASCII",
                    index + 1
                ),
            );
        }
    }
    keys
}
