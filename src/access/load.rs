//! From the store to what is in force.

use std::collections::HashMap;
use std::sync::Arc;

use super::keyring::Keyring;
use crate::db::{Store, StoreError};
use crate::domain::clock::Moment;
use crate::quota::TenantBooks;

/// The keyring as the store has it. A tenant that has limits, and no book yet, gets one that knows what it used
/// until now, before its limits come into force: neither a restart nor a new limit forgets anything. Blocks.
///
/// What the workers have counted since the last few hundred milliseconds is not in the store yet, so that a book
/// that is opened while its tenant is busy may miss that much.
///
/// # Errors
/// When the store fails; the books that were opened stay.
pub fn load_keyring(store: &dyn Store, books: &TenantBooks, now: Moment) -> Result<Keyring, StoreError> {
    // The keys first: a key whose tenant was removed meanwhile is then known to nobody.
    let keys = store.keys(None)?;
    let policies = store.tenant_policies()?;
    for (tenant, policy) in &policies {
        if !policy.limits.is_unlimited() && !books.has(*tenant) {
            books.open(*tenant, &store.tenant_use(*tenant, now)?, now);
        }
    }
    let policies: HashMap<_, _> =
        policies.into_iter().map(|(tenant, policy)| (tenant, Arc::new(policy))).collect();
    books.retain(|tenant| policies.contains_key(&tenant));
    Ok(Keyring::new(keys, &policies))
}
