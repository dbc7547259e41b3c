//! Tenants and what they are granted.

use std::collections::HashMap;

use diesel::connection::Connection as _;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use serde::Serialize;

use super::schema::{api_keys, tenants};
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::domain::tenant::{TenantChange, TenantLimits, TenantPolicy, WEIGHT_MAX};

/// Somebody who asks us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub created_at: Moment,
    /// Keys that admit: neither revoked nor expired.
    pub active_keys: u64,
    #[serde(flatten)]
    pub policy: TenantPolicy,
}

#[derive(Queryable)]
struct Columns {
    id: i64,
    name: String,
    created_us: i64,
    rpm: Option<i64>,
    rpd: Option<i64>,
    tpm: Option<i64>,
    tpd: Option<i64>,
    tpmonth: Option<i64>,
    parallel: Option<i64>,
    weight: i64,
    models: Option<String>,
    no_training: bool,
}

/// `None` leaves a column as it is, `Some(None)` makes it NULL.
#[derive(AsChangeset)]
#[diesel(table_name = tenants)]
struct Changed {
    rpm: Option<Option<i64>>,
    rpd: Option<Option<i64>>,
    tpm: Option<Option<i64>>,
    tpd: Option<Option<i64>>,
    tpmonth: Option<Option<i64>>,
    parallel: Option<Option<i64>>,
    weight: Option<i64>,
    models: Option<Option<String>>,
    no_training: Option<bool>,
}

impl From<&TenantChange> for Changed {
    fn from(change: &TenantChange) -> Self {
        let names =
            |names: &Option<Vec<String>>| names.as_ref().map(|names| serde_json::json!(names).to_string());
        Self {
            rpm: change.rpm.map(signed),
            rpd: change.rpd.map(signed),
            tpm: change.tpm.map(signed),
            tpd: change.tpd.map(signed),
            tpmonth: change.tpmonth.map(signed),
            parallel: change.parallel.map(signed),
            weight: change.weight.map(i64::from),
            models: change.models.as_ref().map(names),
            no_training: change.no_training,
        }
    }
}

fn signed(limit: Option<u64>) -> Option<i64> {
    limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// What is stored below zero admits nothing, too.
fn unsigned(limit: Option<i64>) -> Option<u64> {
    limit.map(|limit| u64::try_from(limit).unwrap_or(0))
}

impl Columns {
    /// # Errors
    /// When the models are no list of names: who may use what is not guessed.
    fn policy(&mut self) -> QueryResult<TenantPolicy> {
        let names = self.models.take().map(|text| {
            let names = serde_json::from_str(&text);
            names.map_err(|error| QueryError::DeserializationError(error.into()))
        });
        let weight = u32::try_from(self.weight).unwrap_or(WEIGHT_MAX);
        Ok(TenantPolicy {
            weight: weight.clamp(1, WEIGHT_MAX),
            limits: TenantLimits {
                rpm: unsigned(self.rpm),
                rpd: unsigned(self.rpd),
                tpm: unsigned(self.tpm),
                tpd: unsigned(self.tpd),
                tpmonth: unsigned(self.tpmonth),
                parallel: unsigned(self.parallel),
            },
            models: names.transpose()?,
            no_training: self.no_training,
        })
    }

    fn tenant(mut self, active_keys: i64) -> QueryResult<Tenant> {
        let policy = self.policy()?;
        Ok(Tenant {
            id: TenantId(self.id),
            name: self.name,
            created_at: Moment::from_unix_micros(self.created_us),
            active_keys: u64::try_from(active_keys).unwrap_or(0),
            policy,
        })
    }
}

per_backend! {
    pub(in crate::db) fn add(connection: &mut Connection, name: &str, now: Moment) -> QueryResult<Tenant> {
        diesel::insert_into(tenants::table)
            .values((tenants::name.eq(name), tenants::created_us.eq(now.unix_micros())))
            .returning(tenants::all_columns)
            .get_result::<Columns>(connection)?
            .tenant(0)
    }

    /// Adds a tenant and grants it what `change` says, both or neither.
    pub(in crate::db) fn add_with(
        connection: &mut Connection,
        name: &str,
        change: &TenantChange,
        now: Moment,
    ) -> QueryResult<Tenant> {
        connection.transaction(|connection| {
            let mut tenant = add(connection, name, now)?;
            self::change(connection, name, change)?;
            if let Some(columns) = find(connection, name)? {
                tenant = columns.tenant(0)?;
            }
            Ok(tenant)
        })
    }

    /// Changes what is given, in one statement, so that two commands at once both take effect; whether there is
    /// such a tenant.
    pub(in crate::db) fn change(
        connection: &mut Connection,
        name: &str,
        change: &TenantChange,
    ) -> QueryResult<bool> {
        if change.is_empty() {
            return Ok(find(connection, name)?.is_some());
        }
        let changed = diesel::update(tenants::table.filter(tenants::name.eq(name)))
            .set(Changed::from(change))
            .execute(connection)?;
        Ok(changed > 0)
    }

    /// Deletes a tenant with all of its keys, both or neither; how many keys there were, `None` without such a
    /// tenant. Its completion events stay.
    pub(in crate::db) fn remove(connection: &mut Connection, name: &str) -> QueryResult<Option<usize>> {
        connection.transaction(|connection| {
            // Begins with a write: SQLite cannot wait for the writer's turn after a read.
            let id = tenants::table.filter(tenants::name.eq(name)).select(tenants::id);
            let keys =
                diesel::delete(api_keys::table.filter(api_keys::tenant_id.eq_any(id))).execute(connection)?;
            let removed = diesel::delete(tenants::table.filter(tenants::name.eq(name))).execute(connection)?;
            Ok((removed > 0).then_some(keys))
        })
    }

    fn find(connection: &mut Connection, name: &str) -> QueryResult<Option<Columns>> {
        tenants::table.filter(tenants::name.eq(name)).first::<Columns>(connection).optional()
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
            let active_keys = active.get(&row.id).copied().unwrap_or(0);
            row.tenant(active_keys)
        };
        rows.into_iter().map(with_keys).collect()
    }

    /// Reads them all: only commands and start-up ask, and tenants are few.
    pub(in crate::db) fn named(
        connection: &mut Connection,
        name: &str,
        now: Moment,
    ) -> QueryResult<Option<Tenant>> {
        Ok(all(connection, now)?.into_iter().find(|tenant| tenant.name == name))
    }

    pub(in crate::db) fn policies(connection: &mut Connection) -> QueryResult<Vec<(TenantId, TenantPolicy)>> {
        let rows: Vec<Columns> = tenants::table.load(connection)?;
        rows.into_iter().map(|mut row| Ok((TenantId(row.id), row.policy()?))).collect()
    }
}
