//! Keys of tenants: digests, never the keys themselves.

use diesel::prelude::*;
use diesel::result::Error as QueryError;
use serde::Serialize;

use super::schema::{api_keys, tenants};
use crate::domain::clock::Moment;
use crate::domain::ids::{KeyId, TenantId};

/// A key to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub tenant: TenantId,
    /// For people, to tell keys apart; may be empty.
    pub label: String,
    /// By `access::Pepper::digest`.
    pub digest: [u8; 32],
    pub created_at: Moment,
    /// From then on it admits nobody; `None` = never.
    pub expires_at: Option<Moment>,
}

impl NewKey {
    /// A key that is good until it is revoked.
    pub fn without_end(tenant: TenantId, label: &str, digest: [u8; 32], created_at: Moment) -> Self {
        Self { tenant, label: label.to_owned(), digest, created_at, expires_at: None }
    }
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    pub id: KeyId,
    pub tenant: TenantId,
    pub tenant_name: String,
    pub label: String,
    pub digest: [u8; 32],
    pub created_at: Moment,
    pub expires_at: Option<Moment>,
    /// From then on it admits nobody.
    pub revoked_at: Option<Moment>,
}

/// What became of the wish to revoke a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    Revoked,
    /// It was before; its first instant stays.
    AlreadyRevoked,
    /// There is no such key.
    Unknown,
}

#[derive(Queryable)]
struct Columns {
    id: i64,
    tenant_id: i64,
    tenant_name: String,
    label: String,
    digest: Vec<u8>,
    created_us: i64,
    expires_us: Option<i64>,
    revoked_us: Option<i64>,
}

impl TryFrom<Columns> for KeyRow {
    type Error = QueryError;

    fn try_from(row: Columns) -> Result<Self, QueryError> {
        let digest = row.digest.try_into().map_err(|_| {
            QueryError::DeserializationError(format!("key {} has no digest of 32 bytes", row.id).into())
        })?;
        Ok(Self {
            id: KeyId(row.id),
            tenant: TenantId(row.tenant_id),
            tenant_name: row.tenant_name,
            label: row.label,
            digest,
            created_at: Moment::from_unix_micros(row.created_us),
            expires_at: row.expires_us.map(Moment::from_unix_micros),
            revoked_at: row.revoked_us.map(Moment::from_unix_micros),
        })
    }
}

per_backend! {
    pub(in crate::db) fn add(connection: &mut Connection, key: &NewKey) -> QueryResult<KeyId> {
        diesel::insert_into(api_keys::table)
            .values((
                api_keys::tenant_id.eq(key.tenant.0),
                api_keys::label.eq(&key.label),
                api_keys::digest.eq(key.digest.as_slice()),
                api_keys::created_us.eq(key.created_at.unix_micros()),
                api_keys::expires_us.eq(key.expires_at.map(Moment::unix_micros)),
            ))
            .returning(api_keys::id)
            .get_result(connection)
            .map(KeyId)
    }

    pub(in crate::db) fn list(
        connection: &mut Connection,
        tenant: Option<TenantId>,
    ) -> QueryResult<Vec<KeyRow>> {
        let mut query = api_keys::table
            .inner_join(tenants::table)
            .select((
                api_keys::id,
                api_keys::tenant_id,
                tenants::name,
                api_keys::label,
                api_keys::digest,
                api_keys::created_us,
                api_keys::expires_us,
                api_keys::revoked_us,
            ))
            .order(api_keys::id)
            .into_boxed();
        if let Some(TenantId(tenant_id)) = tenant {
            query = query.filter(api_keys::tenant_id.eq(tenant_id));
        }
        query.load::<Columns>(connection)?.into_iter().map(KeyRow::try_from).collect()
    }

    pub(in crate::db) fn revoke(
        connection: &mut Connection,
        KeyId(id): KeyId,
        now: Moment,
    ) -> QueryResult<Revocation> {
        let live = api_keys::table.find(id).filter(api_keys::revoked_us.is_null());
        let revoked = diesel::update(live)
            .set(api_keys::revoked_us.eq(now.unix_micros()))
            .execute(connection)?;
        if revoked > 0 {
            return Ok(Revocation::Revoked);
        }
        let exists = diesel::select(diesel::dsl::exists(api_keys::table.find(id))).get_result(connection)?;
        Ok(if exists { Revocation::AlreadyRevoked } else { Revocation::Unknown })
    }
}
