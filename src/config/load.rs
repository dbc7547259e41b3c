//! Reads all sources and answers with valid settings, or with everything that is wrong.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::domain::provider::ProviderSpec;

use super::document::{self, Document};
use super::environment::{self, Environment};
use super::layers::{self, ProviderLayer};
use super::problem::Problems;
use super::provider::Surroundings;
use super::reader::Section;
use super::settings::Settings;
use super::{access, dispatch, provider, server, shipped, stats, store, timeouts};

/// The operator's file where none is named; read if it is there.
const USUAL_FILE: &str = "config/freellmapi.toml";

/// Where the configuration comes from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file named by `--config`; without it `FREELLMAPI_CONFIG` of the environment names it, else
    /// `config/freellmapi.toml` is read if it exists.
    pub file: Option<PathBuf>,
    /// The process's environment variables.
    pub environment: HashMap<String, String>,
}

impl std::fmt::Debug for Sources {
    /// Shows no variable: any of them may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Reads the built-in default and providers, the operator's file over them, and the environment over that.
///
/// # Errors
/// Every problem of all sources together; none of them holds a secret.
pub fn load(sources: &Sources) -> Result<Settings, Problems> {
    let mut problems = Problems::default();
    let environment = Environment::new(&sources.environment);
    let own = operators_file(sources, environment, &mut problems);
    let settings = assemble(own, environment, &mut problems);
    settings.filter(|_| problems.is_empty()).ok_or(problems)
}

/// The built-in default and providers under the given variables alone; no file is read.
///
/// # Errors
/// As [`load`].
pub fn built_in(variables: &HashMap<String, String>) -> Result<Settings, Problems> {
    let mut problems = Problems::default();
    let settings = assemble(None, Environment::new(variables), &mut problems);
    settings.filter(|_| problems.is_empty()).ok_or(problems)
}

/// The shipped providers as they are, without any key or override.
///
/// # Errors
/// What is wrong with the embedded files; nothing, as a test proves.
pub fn shipped_providers() -> Result<Vec<ProviderSpec>, Problems> {
    built_in(&HashMap::new()).map(|settings| settings.providers)
}

fn operators_file(
    sources: &Sources,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<Document> {
    let named = sources.file.clone().or_else(|| environment.config_file());
    let path = named.as_deref().unwrap_or(Path::new(USUAL_FILE));
    match fs::read_to_string(path) {
        Ok(text) => document::parse(path.display().to_string(), &text, problems),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            problems.push_source(&path.display().to_string(), format!("cannot be read: {error}"));
            None
        }
    }
}

fn assemble(
    own: Option<Document>,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<Settings> {
    let mut main = document::parse(shipped::DEFAULT.origin(), shipped::DEFAULT.text, problems)?;
    let mut providers = shipped_layers(problems);
    if let Some(mut own) = own {
        if let Some(list) = own.table.remove(layers::PROVIDERS) {
            layers::lay_providers(&mut providers, &own.origin, list, problems);
        }
        layers::lay_sections(&mut main, own, problems);
    }
    read(main, providers, environment, problems)
}

fn shipped_layers(problems: &mut Problems) -> Vec<ProviderLayer> {
    let mut providers = Vec::new();
    for file in shipped::PROVIDERS {
        if let Some(Document { origin, table }) = document::parse(file.origin(), file.text, problems) {
            let list = Value::Array(vec![Value::Table(table)]);
            layers::lay_providers(&mut providers, &origin, list, problems);
        }
    }
    providers
}

fn read(
    Document { origin, table }: Document,
    providers: Vec<ProviderLayer>,
    environment: Environment<'_>,
    problems: &mut Problems,
) -> Option<Settings> {
    let mut main = Section::new(&origin, "", table, problems);
    let server = main.section("server", server::read).flatten();
    let store = main.section("store", store::read).flatten();
    let (timeouts, dispatch) = main
        .section("dispatch", |section| {
            let timeouts = timeouts::read(section);
            (timeouts, dispatch::read(section, timeouts))
        })
        .unwrap_or_default();
    let access = main.section("access", access::read).flatten();
    let stats = main.section("stats", stats::read).flatten();
    main.also_known(layers::PROVIDERS);
    main.finish();
    let overrides = environment::read(environment, problems);
    let providers = read_providers(providers, Surroundings { environment, timeouts }, problems);
    let (mut server, mut store) = (server?, store?);
    server.listen = overrides.listen.unwrap_or(server.listen);
    store.url = overrides.store_url.unwrap_or(store.url);
    Some(Settings {
        server,
        store,
        dispatch: dispatch?,
        access: access?,
        stats: stats?,
        providers,
        api_key: overrides.api_key,
        admin_key: overrides.admin_key,
        master_key: overrides.master_key,
    })
}

/// Those that are right; whatever is wrong with the others is among the problems.
fn read_providers(
    layers: Vec<ProviderLayer>,
    around: Surroundings<'_>,
    problems: &mut Problems,
) -> Vec<ProviderSpec> {
    let read_one = |ProviderLayer { origin, path, table }: ProviderLayer| {
        let mut section = Section::new(&origin, &path, table, problems);
        let provider = provider::read(&mut section, around);
        section.finish();
        provider
    };
    layers.into_iter().filter_map(read_one).collect()
}
