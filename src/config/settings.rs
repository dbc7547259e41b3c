//! Everything that was configured, valid.

use crate::domain::provider::ProviderSpec;
use crate::domain::secret::Secret;

use super::access::AccessSettings;
use super::dispatch::DispatchSettings;
use super::server::ServerSettings;
use super::stats::StatsSettings;
use super::store::StoreSettings;

/// The gateway's whole configuration; nothing past [`super::load()`] checks it again.
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: ServerSettings,
    pub store: StoreSettings,
    pub dispatch: DispatchSettings,
    pub access: AccessSettings,
    pub stats: StatsSettings,
    /// The shipped ones first, then those that the operator's file adds, in its order.
    pub providers: Vec<ProviderSpec>,
    /// The key that tenant `default` must have (`FREELLMAPI_API_KEY`).
    pub api_key: Option<Secret<String>>,
    /// The key of the administration (`FREELLMAPI_ADMIN_KEY`); without it there is none.
    pub admin_key: Option<Secret<String>>,
    /// 64 hex digits that wrap the store's secrets (`FREELLMAPI_MASTER_KEY`).
    pub master_key: Option<Secret<String>>,
}
