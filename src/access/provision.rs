//! What an empty store needs before anybody can enter.

use thiserror::Error;

use super::mint::ApiKey;
use super::pepper::Pepper;
use super::random::NoRandomness;
use crate::db::{NewKey, Store, StoreError, Tenant};
use crate::domain::clock::Moment;
use crate::domain::secret::Secret;

/// The tenant that a first start creates.
pub const DEFAULT_TENANT: &str = "default";

/// The label of the key that a first start mints.
const MINTED_LABEL: &str = "first start";

/// The label of the key that the environment sets.
const CONFIGURED_LABEL: &str = "FREELLMAPI_API_KEY";

/// Why the first tenant and key are not there.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The operator set a key that would admit nobody.
    #[error("FREELLMAPI_API_KEY names a key that was revoked: set another one")]
    ConfiguredKeyRevoked,
    /// The operator set a key that somebody else has.
    #[error("FREELLMAPI_API_KEY names a key of tenant `{0}`: set another one")]
    ConfiguredKeyTaken(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Makes sure that somebody can enter. With a `configured` key: that this very key is one of tenant `default`.
/// Without: that a store without tenants gets tenant `default` and a minted key, which is answered this once, to be
/// shown; of replicas that start together one gets it. Blocks.
///
/// # Errors
/// [`ProvisionError`].
pub fn ensure_tenant_and_key(
    store: &dyn Store,
    pepper: &Pepper,
    configured: Option<&Secret<String>>,
    now: Moment,
) -> Result<Option<ApiKey>, ProvisionError> {
    match configured {
        Some(key) => ensure_configured(store, &pepper.digest(key.expose()), now).map(|()| None),
        None => mint_first(store, pepper, now),
    }
}

fn mint_first(store: &dyn Store, pepper: &Pepper, now: Moment) -> Result<Option<ApiKey>, ProvisionError> {
    if !store.tenants(now)?.is_empty() {
        return Ok(None);
    }
    let key = ApiKey::mint()?;
    match store.add_tenant_with_key(DEFAULT_TENANT, MINTED_LABEL, &pepper.digest(key.expose()), now) {
        Ok(_) => Ok(Some(key)),
        // Another replica was faster, and shows its key.
        Err(StoreError::NameTaken(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn ensure_configured(store: &dyn Store, digest: &[u8; 32], now: Moment) -> Result<(), ProvisionError> {
    let tenant = ensure_default(store, now)?;
    let key = NewKey::without_end(tenant.id, CONFIGURED_LABEL, *digest, now);
    match store.add_key(&key) {
        Ok(_) => Ok(()),
        Err(StoreError::DigestTaken) => check_existing(store, digest),
        Err(error) => Err(error.into()),
    }
}

fn ensure_default(store: &dyn Store, now: Moment) -> Result<Tenant, StoreError> {
    if let Some(tenant) = store.tenant_named(DEFAULT_TENANT, now)? {
        return Ok(tenant);
    }
    match store.add_tenant(DEFAULT_TENANT, now) {
        Err(error @ StoreError::NameTaken(_)) => store.tenant_named(DEFAULT_TENANT, now)?.ok_or(error),
        answer => answer,
    }
}

/// A revoked key stays revoked, whatever the environment says: who revoked it had a reason.
fn check_existing(store: &dyn Store, digest: &[u8; 32]) -> Result<(), ProvisionError> {
    match store.keys(None)?.into_iter().find(|row| row.digest == *digest) {
        Some(row) if row.tenant_name != DEFAULT_TENANT => {
            Err(ProvisionError::ConfiguredKeyTaken(row.tenant_name))
        }
        Some(row) if row.revoked_at.is_some() => Err(ProvisionError::ConfiguredKeyRevoked),
        _ => Ok(()),
    }
}
