//! The walls between the rooms: an import that breaks one fails here, with the wall's reason.

use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may know, besides itself and those that everybody may know.
const MAY_KNOW: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("config", &[]),
    ("error", &[]),
    ("telemetry", &[]),
    ("metrics", &["telemetry"]),
    ("quota", &[]),
    ("routing", &["quota"]),
    ("db", &[]),
    ("access", &["db", "quota"]),
    ("stats", &["db", "metrics"]),
    ("ledger", &["db", "quota"]),
    ("provider", &["ledger", "metrics", "quota", "routing", "stats", "error"]),
    ("dispatcher", &["provider", "quota", "routing", "stats", "error"]),
    ("api", &["access", "db", "dispatcher", "metrics", "provider", "quota", "routing", "error", "stats"]),
    ("demo", &[]),
];

/// What everybody may know: the vocabulary.
const COMMON: [&str; 1] = ["domain"];

/// Which files may name a library: the one owner of each.
const OWNERS: [(&str, &[&str]); 7] = [
    ("prometheus", &["src/metrics/"]),
    ("awc", &["src/provider/transport.rs"]),
    ("diesel", &["src/db/"]),
    ("diesel_migrations", &["src/db/"]),
    ("rustls", &["src/provider/transport.rs", "src/app/"]),
    ("clap", &["src/cli/"]),
    ("toml", &["src/config/"]),
];

/// One file of the program, without its tests.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(source(&path, root));
            }
        }
    }
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

fn source(path: &Path, root: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect();
    Source { path: path.strip_prefix(root).unwrap().to_path_buf(), lines }
}

impl Source {
    fn room(&self) -> String {
        let inside = self.path.strip_prefix("src").unwrap();
        inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.ends_with("properties.rs")
            || self.path.ends_with("fixture.rs")
    }

    /// The names that follow `prefix` anywhere in the code, braces of a grouped import included.
    fn names_after<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().flat_map(move |line| {
            line.match_indices(prefix).map(move |(position, _)| {
                let rest = &line[position + prefix.len()..];
                let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
                &rest[..end.unwrap_or(rest.len())]
            })
        })
    }
}

#[test]
fn rooms_know_only_the_rooms_that_they_may() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let room = source.room();
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else { continue };
        for known in source.names_after("crate::") {
            let is_fine = known == room || allowed.contains(&known) || COMMON.contains(&known);
            if !is_fine {
                broken.push(format!("{} may not know `{known}`", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_library_has_one_owner() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let path = source.path.to_str().unwrap();
        for (library, owners) in OWNERS {
            let names = |line: &&String| {
                line.contains(&format!("{library}::")) && !line.contains(&format!("_{library}::"))
            };
            let is_owner = owners.iter().any(|owner| path.starts_with(owner));
            if !is_owner && source.lines.iter().any(|line| names(&line)) {
                broken.push(format!("{path} may not name `{library}`: it belongs to {}", owners.join(", ")));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_rooms_know_no_runtime() {
    let runtimes = ["actix", "actix_web", "awc", "tokio", "diesel"];
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let room = source.room();
        // The one clock of the machine stands in the vocabulary, and counts on tokio's instant.
        let is_clock = source.path.ends_with("domain/clock.rs");
        if !["quota", "routing", "domain", "config"].contains(&room.as_str()) || is_clock {
            continue;
        }
        for runtime in runtimes {
            if source.lines.iter().any(|line| line.contains(&format!("{runtime}::"))) {
                broken.push(format!("{} may not name `{runtime}`", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_grows_beyond_what_is_read_in_one_go() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|source| !source.is_test() && source.lines.len() > 400)
        .map(|source| format!("{}: {} lines", source.path.display(), source.lines.len()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
