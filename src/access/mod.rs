//! Who may enter.
//!
//! A key is known by its digest: HMAC-SHA256 under a random [`Pepper`], which the store keeps sealed by the
//! [`MasterKey`]. The store alone, or a backup of it, lets nobody in and gives no key away.
//!
//! On the hot path there is memory only: the [`Gate`] digests what a caller presents and looks it up in the
//! [`Keyring`], which one [`KeyringRefresher`] in the process renews from the store, with what each tenant may do.

mod gate;
mod hex;
mod keyring;
mod known_digests;
mod load;
mod master_key;
mod messages;
mod mint;
mod outage;
mod pepper;
mod provision;
mod random;
mod refresher;
mod seal;

pub use gate::Gate;
pub use keyring::{Caller, Keyring, Refused};
pub use load::load_keyring;
pub use master_key::{MasterKey, MasterKeyError};
pub use messages::{Observe, RefresherSnapshot};
pub use mint::ApiKey;
pub use outage::RefreshState;
pub use pepper::{Pepper, PepperError};
pub use provision::{DEFAULT_TENANT, ProvisionError, ensure_tenant_and_key};
pub use random::NoRandomness;
pub use refresher::{KeyringRefresher, refresh_interval};
