//! The URL of a store, taken apart once.

use std::fmt;
use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use crate::domain::secret::Secret;

/// What stands in the place of a password.
const REDACTED: &str = "***";

/// Where the store is. Prints no password, neither by `Display` nor by `Debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file on this machine.
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

impl StoreUrl {
    /// Reads `sqlite:path`, `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], saying what would be right.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return sqlite_path(path.strip_prefix("//").unwrap_or(path)).map(Self::Sqlite);
        }
        match url.split_once("://") {
            Some(("postgres" | "postgresql", rest)) => {
                check_postgres(rest)?;
                Ok(Self::Postgres(PostgresUrl(Secret::new(url.to_owned()))))
            }
            _ => Err(bad("it must begin with `sqlite:`, `postgres://` or `postgresql://`")),
        }
    }

    /// Makes the folder that an SQLite file lies in; only its owner may look into what is made here, for the master
    /// key lies beside the store. Nothing to do for Postgres.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    pub(crate) fn create_folder(&self) -> Result<(), StoreError> {
        let Self::Sqlite(path) = self else { return Ok(()) };
        let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
            return Ok(());
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(|error| StoreError::Unreachable {
            store: self.to_string(),
            reason: format!("its folder cannot be made: {error}"),
        })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// A URL of Postgres that its client library reads without surprises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl(Secret<String>);

impl PostgresUrl {
    /// The whole URL, password included, with those `defaults` added that it does not set itself.
    pub(super) fn with_defaults(&self, defaults: &[(&str, &str)]) -> String {
        let mut url = self.0.expose().clone();
        for (name, value) in defaults {
            let is_set = query_of(self.0.expose()).any(|(key, _)| key == *name);
            if !is_set {
                let separator = match url.split_once('?') {
                    None => "?",
                    Some((_, "")) => "",
                    Some(_) => "&",
                };
                url.push_str(&format!("{separator}{name}={value}"));
            }
        }
        url
    }

    /// `text` without the password, should the client library have quoted the URL or a part of it.
    ///
    /// Replaces the password only where it stands as one: a password `postgres` is usual, and without it a
    /// message would no longer name the user or the database.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut scrubbed = text.to_owned();
        let url = self.0.expose();
        if let Some(password) = password_of(url) {
            scrubbed = scrubbed.replace(&format!(":{password}@"), &format!(":{REDACTED}@"));
        }
        for (key, value) in query_of(url).filter(|(key, _)| key.contains("password")) {
            scrubbed = scrubbed.replace(&format!("{key}={value}"), &format!("{key}={REDACTED}"));
        }
        scrubbed
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scrub(self.0.expose()))
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, StoreError> {
    if path.is_empty() || path.contains('\0') {
        return Err(bad("`sqlite:` needs the path of a file, for example `sqlite:data/freellmapi.db`"));
    }
    // Both would give every connection of the pool a store of its own.
    if path.starts_with(':') || path.starts_with("file:") {
        return Err(bad("`sqlite:` takes the path of a file, neither `:memory:` nor a `file:` URI"));
    }
    Ok(Path::new(path).to_owned())
}

/// Refuses what the client library would misread, or quote in an error in a form that hides the password from
/// [`PostgresUrl::scrub`].
fn check_postgres(rest: &str) -> Result<(), StoreError> {
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let stray_at = rest.match_indices('@').nth(1).is_some();
    if stray_at || rest.find('@').is_some_and(|at| at > authority_end) {
        return Err(bad(
            "in user, password and parameters, `@`, `/`, `?` and `#` are written %40, %2F, %3F and %23",
        ));
    }
    if rest.contains(|character: char| character.is_control() || character == '\u{7f}') {
        return Err(bad("it contains a control character"));
    }
    if !is_percent_encoded(rest) {
        return Err(bad("every `%` is followed by two hex digits; the sign itself is written %25"));
    }
    if raw_query(rest).any(|pair| pair.matches('=').count() != 1) {
        return Err(bad("each parameter after `?` is `name=value`; a `=` in the value is written %3D"));
    }
    Ok(())
}

fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00"
    })
}

/// The password of the part before the host, as written; `None` when there is none.
fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user_info, _) = rest.split_once('@')?;
    let (_, password) = user_info.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

fn query_of(url: &str) -> impl Iterator<Item = (&str, &str)> {
    raw_query(url).filter_map(|pair| pair.split_once('='))
}

fn raw_query(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter(|pair| !pair.is_empty())
}

fn bad(why: &str) -> StoreError {
    StoreError::BadUrl(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_names_a_file() {
        for (url, path) in [
            ("sqlite:data/a.db", "data/a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap(), StoreUrl::Sqlite(PathBuf::from(path)), "{url}");
        }
    }

    #[test]
    fn what_names_no_store_is_refused() {
        for url in [
            "",
            "mysql://host/db",
            "data.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:file:a?mode=memory",
            "postgres://u:p@ss@host/db",
            "postgres://u:p/w@host/db",
            "postgres://u:100%@host/db",
            "postgres://host/db?password=a=b",
            "postgres://host/db?password",
        ] {
            assert!(matches!(StoreUrl::parse(url), Err(StoreError::BadUrl(_))), "{url}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let url = "postgresql://anna:geheim%20!@db:5432/x?sslpassword=auch&password=geheimer";
        let parsed = StoreUrl::parse(url).unwrap();
        assert_eq!(parsed.to_string(), "postgresql://anna:***@db:5432/x?sslpassword=***&password=***");
        assert!(!format!("{parsed:?}").contains("geheim"));
        for bad in ["postgres://u:geheim@x@host/db", "postgres://u:geheim%@host/db"] {
            let error = StoreUrl::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("geheim"));
        }
    }

    #[test]
    fn a_password_that_is_also_a_name_hides_no_name() {
        let url = StoreUrl::parse("postgres://postgres:postgres@localhost/postgres").unwrap();
        assert_eq!(url.to_string(), "postgres://postgres:***@localhost/postgres");
    }

    #[test]
    fn defaults_do_not_override_what_the_url_says() {
        let StoreUrl::Postgres(url) = StoreUrl::parse("postgres://host/db?connect_timeout=1").unwrap() else {
            panic!("not a Postgres URL");
        };
        let full = url.with_defaults(&[("connect_timeout", "5"), ("application_name", "x")]);
        assert_eq!(full, "postgres://host/db?connect_timeout=1&application_name=x");
        let StoreUrl::Postgres(bare) = StoreUrl::parse("postgres://host/db?").unwrap() else {
            panic!("not a Postgres URL");
        };
        assert_eq!(bare.with_defaults(&[("a", "1"), ("b", "2")]), "postgres://host/db?a=1&b=2");
    }
}
