//! The one secret that an operator keeps outside the store.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::hex;
use super::random::{self, NoRandomness};
use crate::db::{StoreError, StoreUrl};
use crate::domain::secret::Secret;

/// The file beside an embedded store that keeps its master key.
const FILE_NAME: &str = "master.key";

/// The most that is read of it: the digits, a line end, and enough to see that there is more. Chosen.
const FILE_MAX_BYTES: u64 = 256;

/// 32 bytes that open what the store keeps sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey(Secret<[u8; 32]>);

/// Why there is no master key; the text says what to do.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    /// The variable is set to something else than 64 hex digits.
    #[error("FREELLMAPI_MASTER_KEY is not 64 hex digits; `openssl rand -hex 32` prints such a key")]
    BadVariable,
    /// Replicas must share one, so that none of them may make its own.
    #[error(
        "FREELLMAPI_MASTER_KEY is needed with Postgres: 64 hex digits, the same for every replica; \
         `openssl rand -hex 32` prints such a key"
    )]
    VariableMissing,
    /// The file holds something else than 64 hex digits.
    #[error("{} does not hold 64 hex digits: put the store's master key back into it", .0.display())]
    BadFile(PathBuf),
    /// There is no such file, or nothing in it, although the store is sealed with a key.
    #[error(
        "{} holds no key, but the store is sealed with one: put that key back into it, or set FREELLMAPI_MASTER_KEY \
         to it",
        .0.display()
    )]
    FileMissing(PathBuf),
    /// Others than its owner may read or write the file.
    #[error("{} is open to others than its owner (mode {mode:04o}): run `chmod 600 {}`", .path.display(), .path.display())]
    FileIsOpen { path: PathBuf, mode: u32 },
    /// The file cannot be read or made.
    #[error("{} cannot be used", .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The URL of the store is wrong, or its folder cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl MasterKey {
    /// The key in the environment (64 hex digits), else, for SQLite, the one in `master.key` beside the store, made
    /// with mode 0600 when there is none. Processes that start together make one. Blocks.
    ///
    /// # Errors
    /// [`MasterKeyError`]. A wrong variable is an error even where a file would do.
    pub fn obtain(env_hex: Option<&Secret<String>>, store_url: &str) -> Result<Self, MasterKeyError> {
        if let Some(key) = Self::find(env_hex, store_url)? {
            return Ok(key);
        }
        StoreUrl::parse(store_url)?.create_folder()?;
        make_file(&Self::file(store_url)?)
    }

    /// The key that [`MasterKey::obtain`] would answer, unless it would have to make one. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`MasterKeyError`].
    pub fn find(env_hex: Option<&Secret<String>>, store_url: &str) -> Result<Option<Self>, MasterKeyError> {
        match env_hex {
            Some(digits) => Self::from_hex(digits.expose()).map(Some).ok_or(MasterKeyError::BadVariable),
            None => find_file(&Self::file(store_url)?),
        }
    }

    /// Where the key of an embedded store is kept when the environment has none.
    ///
    /// # Errors
    /// [`MasterKeyError::VariableMissing`] with Postgres: it is kept nowhere else; [`MasterKeyError::Store`].
    pub fn file(store_url: &str) -> Result<PathBuf, MasterKeyError> {
        match StoreUrl::parse(store_url)? {
            StoreUrl::Sqlite(path) => Ok(path.with_file_name(FILE_NAME)),
            StoreUrl::Postgres(_) => Err(MasterKeyError::VariableMissing),
        }
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.0.expose()
    }

    fn from_hex(digits: &str) -> Option<Self> {
        hex::decode(digits.trim()).map(Secret::new).map(Self)
    }
}

fn find_file(path: &Path) -> Result<Option<MasterKey>, MasterKeyError> {
    let failed = |source| MasterKeyError::File { path: path.to_owned(), source };
    let digits = match File::open(path) {
        Ok(file) => {
            check_is_private(&file, path)?;
            file.lock_shared().and_then(|()| read(&file)).map_err(failed)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Empty: made by a process that has not come to write it yet, or never did.
    if digits.is_empty() { Ok(None) } else { read_as_key(&digits, path).map(Some) }
}

fn make_file(path: &Path) -> Result<MasterKey, MasterKeyError> {
    let fresh = hex::encode(&random::bytes::<32>()?);
    let digits = write_unless_written(path, &fresh)
        .map_err(|source| MasterKeyError::File { path: path.to_owned(), source })?;
    read_as_key(&digits, path)
}

fn read_as_key(digits: &str, path: &Path) -> Result<MasterKey, MasterKeyError> {
    MasterKey::from_hex(digits).ok_or_else(|| MasterKeyError::BadFile(path.to_owned()))
}

/// Writes `fresh` and makes sure that it outlives a power cut, unless another process was faster; what the file
/// holds then. The lock and not `create_new` decides, because a file that exists may still be empty.
fn write_unless_written(path: &Path, fresh: &str) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.lock()?;
    let written = read(&file)?;
    if !written.is_empty() {
        return Ok(written);
    }
    writeln!(file, "{fresh}")?;
    file.sync_all()?;
    Ok(fresh.to_owned())
}

fn read(file: &File) -> io::Result<String> {
    let mut text = String::new();
    file.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn check_is_private(file: &File, path: &Path) -> Result<(), MasterKeyError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata =
        file.metadata().map_err(|source| MasterKeyError::File { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(MasterKeyError::FileIsOpen { path: path.to_owned(), mode }) }
}

/// Other systems keep a user's files from other users by their folders.
#[cfg(not(unix))]
fn check_is_private(_: &File, _: &Path) -> Result<(), MasterKeyError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_in(folder: &Path) -> String {
        format!("sqlite:{}/data/freellmapi.db", folder.display())
    }

    #[test]
    fn the_environment_wins_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let digits = Secret::new("0f".repeat(32));
        let key = MasterKey::obtain(Some(&digits), &url_in(folder.path())).unwrap();
        assert_eq!(key.bytes(), &[0x0f; 32]);
        assert!(!folder.path().join("data").exists());
    }

    #[test]
    fn a_wrong_variable_is_an_error_that_does_not_quote_it() {
        for wrong in ["", "secret", &"g".repeat(64), &"0".repeat(63)] {
            let error = MasterKey::obtain(Some(&Secret::new(wrong.to_owned())), "sqlite:x.db").unwrap_err();
            assert!(matches!(error, MasterKeyError::BadVariable));
            assert!(wrong.is_empty() || !error.to_string().contains(wrong));
        }
    }

    #[test]
    fn postgres_without_the_variable_says_how_to_make_one() {
        let error = MasterKey::obtain(None, "postgres://host/db").unwrap_err();
        assert!(error.to_string().contains("openssl rand -hex 32"));
    }

    #[test]
    fn finding_makes_nothing_and_finds_what_obtaining_made() {
        let folder = tempfile::tempdir().unwrap();
        let url = url_in(folder.path());
        assert_eq!(MasterKey::find(None, &url).unwrap(), None);
        assert!(!folder.path().join("data").exists());

        let made = MasterKey::obtain(None, &url).unwrap();
        assert_eq!(MasterKey::find(None, &url).unwrap(), Some(made));

        let path = MasterKey::file(&url).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(MasterKey::find(None, &url).unwrap(), None);
        assert_eq!(std::fs::read(&path).unwrap(), b"");

        let error = MasterKey::find(None, "postgres://host/db").unwrap_err();
        assert!(matches!(error, MasterKeyError::VariableMissing));
    }

    #[test]
    fn an_embedded_store_gets_one_key_however_many_ask() {
        let folder = tempfile::tempdir().unwrap();
        let url = url_in(folder.path());
        let keys: Vec<MasterKey> = std::thread::scope(|scope| {
            let asked: Vec<_> =
                (0..8).map(|_| scope.spawn(|| MasterKey::obtain(None, &url).unwrap())).collect();
            asked.into_iter().map(|asker| asker.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
        let text = std::fs::read_to_string(folder.path().join("data/master.key")).unwrap();
        assert_eq!(text.trim_end(), hex::encode(keys[0].bytes()));
        assert_eq!(text.len(), 65);
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let url = url_in(folder.path());
        MasterKey::obtain(None, &url).unwrap();
        std::fs::write(folder.path().join("data/master.key"), "damaged").unwrap();
        assert!(matches!(MasterKey::obtain(None, &url), Err(MasterKeyError::BadFile(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_made_for_its_owner_only_and_refused_when_others_may_read_it() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let url = url_in(folder.path());
        MasterKey::obtain(None, &url).unwrap();
        let path = folder.path().join("data/master.key");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = MasterKey::obtain(None, &url).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
