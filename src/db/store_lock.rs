//! The proof that no other process serves from the same embedded store.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::store_url::StoreUrl;

/// Held as long as it lives; the operating system takes it back however the process ends.
///
/// Commands do not take it: they read and write beside a server, under SQLite's own locks.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// Locks the store for the one process that serves from it: `<file>.lock` beside an SQLite file. `None` for
/// Postgres, which any number of replicas share.
///
/// # Errors
/// [`StoreError::InUse`] when another process holds it, [`StoreError::BadUrl`], [`StoreError::Unreachable`].
pub fn lock_exclusively(url: &str) -> Result<Option<StoreLock>, StoreError> {
    let url = StoreUrl::parse(url)?;
    url.create_folder()?;
    match url {
        StoreUrl::Sqlite(path) => lock_beside(&path).map(Some),
        StoreUrl::Postgres(_) => Ok(None),
    }
}

fn lock_beside(path: &Path) -> Result<StoreLock, StoreError> {
    let lock_path = with_suffix(path, ".lock");
    let unusable = |error: std::io::Error| StoreError::Unreachable {
        store: StoreUrl::Sqlite(path.to_owned()).to_string(),
        reason: format!("{} cannot be locked: {error}", lock_path.display()),
    };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(StoreLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(lock_path)),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
