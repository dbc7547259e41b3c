//! What a tenant has used, summed over its completion events.

use std::time::Duration;

use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};

use super::schema::completion_events::{self, dsl};
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::domain::tenant::{TenantUse, Used, UsedUntil};

/// The window of the limits per minute.
const MINUTE: Duration = Duration::from_secs(60);

/// The pieces in which the last minute is summed.
const SECOND_MICROS: i64 = 1_000_000;

fn used(requests: i64, tokens: i64) -> Used {
    Used { requests: u64::try_from(requests).unwrap_or(0), tokens: u64::try_from(tokens).unwrap_or(0) }
}

per_backend! {
    /// Only requests for which a provider was called: the others took nothing of the tenant's limits.
    pub(in crate::db) fn sum(
        connection: &mut Connection,
        tenant: TenantId,
        now: Moment,
    ) -> QueryResult<TenantUse> {
        let day = now.start_of_utc_day();
        let month = now.utc_month().map_or(day, |(start, _)| start);
        Ok(TenantUse {
            minute: by_second(connection, tenant, now - MINUTE)?,
            day: since(connection, tenant, day)?,
            month: since(connection, tenant, month)?,
        })
    }

    fn since(connection: &mut Connection, tenant: TenantId, from: Moment) -> QueryResult<Used> {
        let (requests, tokens) = completion_events::table
            .filter(dsl::tenant_id.eq(tenant.0))
            .filter(dsl::ended_us.ge(from.unix_micros()))
            .filter(dsl::attempts.gt(0))
            .select((
                count_star(),
                sql::<Nullable<BigInt>>("CAST(SUM(input_tokens + output_tokens) AS BIGINT)"),
            ))
            .first::<(i64, Option<i64>)>(connection)?;
        Ok(used(requests, tokens.unwrap_or(0)))
    }

    fn by_second(connection: &mut Connection, tenant: TenantId, from: Moment) -> QueryResult<Vec<UsedUntil>> {
        let rows = completion_events::table
            .group_by(sql::<BigInt>("ended_us / 1000000"))
            .select((
                sql::<BigInt>("ended_us / 1000000"),
                count_star(),
                sql::<BigInt>("CAST(SUM(input_tokens + output_tokens) AS BIGINT)"),
            ))
            .filter(dsl::tenant_id.eq(tenant.0))
            .filter(dsl::ended_us.ge(from.unix_micros()))
            .filter(dsl::attempts.gt(0))
            .load::<(i64, i64, i64)>(connection)?;
        let until = |second: i64| Moment::from_unix_micros(second.saturating_add(1).saturating_mul(SECOND_MICROS));
        let piece = |(second, requests, tokens)| UsedUntil { until: until(second), used: used(requests, tokens) };
        Ok(rows.into_iter().map(piece).collect())
    }
}
