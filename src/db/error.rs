//! What can go wrong with the store.

use std::error::Error;
use std::path::PathBuf;

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use thiserror::Error;

/// A failure of the store. No text of it contains a password.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached, or the connection to it was lost.
    #[error("the store {store} is unreachable: {reason}")]
    Unreachable {
        /// The URL, without its password.
        store: String,
        reason: String,
    },
    /// The URL names no store; the text says what would be right.
    #[error("the store's URL is wrong: {0}")]
    BadUrl(String),
    /// Another process serves from it.
    #[error("the store is in use: another process holds {}", .0.display())]
    InUse(PathBuf),
    /// A tenant of this name exists.
    #[error("a tenant named `{0}` exists already")]
    NameTaken(String),
    /// A key with this digest exists.
    #[error("this key exists already")]
    DigestTaken,
    /// A migration failed; nothing of it was kept.
    #[error("the store could not be migrated")]
    Migration(#[source] Box<dyn Error + Send + Sync>),
    /// Any other failure of a statement.
    #[error("the store refused a statement")]
    Query(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Sorts a failed statement of the store that calls itself `store`: lost connections apart from the rest.
    pub(super) fn of_query(error: QueryError, store: &dyn ToString) -> Self {
        match &error {
            QueryError::DatabaseError(DatabaseErrorKind::ClosedConnection, info) => {
                Self::Unreachable { store: store.to_string(), reason: first_line(info.message()) }
            }
            QueryError::BrokenTransactionManager => {
                Self::Unreachable { store: store.to_string(), reason: error.to_string() }
            }
            _ => Self::Query(Box::new(error)),
        }
    }
}

/// Whether a statement failed because the value of a unique column is there already.
pub(super) fn is_duplicate(error: &QueryError) -> bool {
    matches!(error, QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// The first line of a text, trimmed: drivers add hints over several lines, our errors are one line each.
pub(super) fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}
