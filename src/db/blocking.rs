//! The way from an arbiter's thread to the store.

use std::sync::Arc;

use super::error::StoreError;
use super::store::Store;

/// Runs `work` on the runtime's thread pool for blocking calls and answers with its result.
///
/// Cancel-safe in the sense that the caller may leave: `work` is then finished without it.
///
/// # Errors
/// What `work` answers; [`StoreError::Query`] when it panicked or the runtime is ending.
pub async fn blocking<T, F>(store: &Arc<dyn Store>, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
        Ok(answer) => answer,
        Err(aborted) => Err(StoreError::Query(Box::new(aborted))),
    }
}
