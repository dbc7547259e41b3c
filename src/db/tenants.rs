//! Tenants.

use std::collections::HashMap;

use diesel::prelude::*;
use serde::Serialize;

use super::schema::{api_keys, tenants};
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;

/// Somebody who asks us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub created_at: Moment,
    /// Keys that admit: neither revoked nor expired.
    pub active_keys: u64,
}

type Columns = (i64, String, i64);

impl Tenant {
    fn of((id, name, created_us): Columns, active_keys: i64) -> Self {
        Self {
            id: TenantId(id),
            name,
            created_at: Moment::from_unix_micros(created_us),
            active_keys: u64::try_from(active_keys).unwrap_or(0),
        }
    }
}

per_backend! {
    pub(in crate::db) fn add(connection: &mut Connection, name: &str, now: Moment) -> QueryResult<Tenant> {
        diesel::insert_into(tenants::table)
            .values((tenants::name.eq(name), tenants::created_us.eq(now.unix_micros())))
            .returning(tenants::all_columns)
            .get_result(connection)
            .map(|columns| Tenant::of(columns, 0))
    }

    pub(in crate::db) fn all(connection: &mut Connection, now: Moment) -> QueryResult<Vec<Tenant>> {
        let rows: Vec<Columns> = tenants::table.order(tenants::id).load(connection)?;
        let active: HashMap<i64, i64> = api_keys::table
            .filter(api_keys::revoked_us.is_null())
            .filter(api_keys::expires_us.is_null().or(api_keys::expires_us.gt(now.unix_micros())))
            .group_by(api_keys::tenant_id)
            .select((api_keys::tenant_id, diesel::dsl::count_star()))
            .load::<(i64, i64)>(connection)?
            .into_iter()
            .collect();
        let with_keys = |row: Columns| {
            let active_keys = active.get(&row.0).copied().unwrap_or(0);
            Tenant::of(row, active_keys)
        };
        Ok(rows.into_iter().map(with_keys).collect())
    }

    /// Reads them all: only commands and start-up ask, and tenants are few.
    pub(in crate::db) fn named(
        connection: &mut Connection,
        name: &str,
        now: Moment,
    ) -> QueryResult<Option<Tenant>> {
        Ok(all(connection, now)?.into_iter().find(|tenant| tenant.name == name))
    }
}
