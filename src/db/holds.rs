//! The tables of the local ledger.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::Connection as _;
use diesel::dsl::{count_star, exists, select, sql};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::hold_rows::{
    BlockRow, CooldownRow, CoverageRow, FinishRow, HoldBatch, HoldChange, HoldRow, HoldTarget, ServedSpan,
};
use super::schema::{completion_events, local_blocks, local_cooldowns, local_coverage, local_holds};
use crate::domain::clock::Moment;
use crate::domain::usage::Usage;

// With every column in every statement, its text is always the same and stays prepared.
#[derive(Insertable)]
#[diesel(table_name = local_holds, treat_none_as_default_value = false)]
struct NewRow<'a> {
    id: i64,
    provider: &'a str,
    account: &'a str,
    model: &'a str,
    input_tokens: i64,
    output_tokens: i64,
    send_by_us: i64,
    first_byte_us: Option<i64>,
    finish_us: Option<i64>,
    is_aborted: bool,
    is_exact: bool,
    used_input_tokens: i64,
    used_output_tokens: i64,
}

impl<'a> From<&'a HoldRow> for NewRow<'a> {
    fn from(row: &'a HoldRow) -> Self {
        let finish = Finish::of(row.finish);
        Self {
            id: row.id,
            provider: &row.target.provider,
            account: &row.target.account,
            model: &row.target.model,
            input_tokens: signed(row.reserved.input_tokens),
            output_tokens: signed(row.reserved.output_tokens),
            send_by_us: row.send_by.unix_micros(),
            first_byte_us: row.first_byte.map(Moment::unix_micros),
            finish_us: finish.finish_us,
            is_aborted: finish.is_aborted,
            is_exact: finish.is_exact,
            used_input_tokens: finish.used_input_tokens,
            used_output_tokens: finish.used_output_tokens,
        }
    }
}

/// The columns that tell of the end.
#[derive(AsChangeset)]
#[diesel(table_name = local_holds)]
struct Finish {
    /// `None` leaves the column as it is: an end is not taken back.
    finish_us: Option<i64>,
    is_aborted: bool,
    is_exact: bool,
    used_input_tokens: i64,
    used_output_tokens: i64,
}

impl Finish {
    fn of(finish: Option<FinishRow>) -> Self {
        let used = finish.map(|finish| finish.used).unwrap_or_default();
        Self {
            finish_us: finish.map(|finish| finish.at.unix_micros()),
            is_aborted: finish.is_some_and(|finish| finish.is_aborted),
            is_exact: finish.is_some_and(|finish| finish.is_exact),
            used_input_tokens: signed(used.input_tokens),
            used_output_tokens: signed(used.output_tokens),
        }
    }
}

#[derive(Queryable)]
struct Row {
    id: i64,
    provider: String,
    account: String,
    model: String,
    input_tokens: i64,
    output_tokens: i64,
    send_by_us: i64,
    first_byte_us: Option<i64>,
    finish_us: Option<i64>,
    is_aborted: bool,
    is_exact: bool,
    used_input_tokens: i64,
    used_output_tokens: i64,
}

impl From<Row> for HoldRow {
    fn from(row: Row) -> Self {
        let (is_aborted, is_exact) = (row.is_aborted, row.is_exact);
        let used = usage(row.used_input_tokens, row.used_output_tokens);
        Self {
            id: row.id,
            target: Arc::new(HoldTarget { provider: row.provider, account: row.account, model: row.model }),
            reserved: usage(row.input_tokens, row.output_tokens),
            send_by: Moment::from_unix_micros(row.send_by_us),
            first_byte: row.first_byte_us.map(Moment::from_unix_micros),
            finish: row.finish_us.map(|at| FinishRow {
                at: Moment::from_unix_micros(at),
                is_aborted,
                is_exact,
                used,
            }),
        }
    }
}

fn usage(input_tokens: i64, output_tokens: i64) -> Usage {
    Usage { input_tokens: unsigned(input_tokens), output_tokens: unsigned(output_tokens) }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn unsigned(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn cooldown((provider, account, model, until, reason): (String, String, String, i64, String)) -> CooldownRow {
    let target = Arc::new(HoldTarget { provider, account, model });
    CooldownRow { target, until: Moment::from_unix_micros(until), reason }
}

fn coverage((provider, account, model, since, kept): (String, String, String, i64, i64)) -> CoverageRow {
    let target = HoldTarget { provider, account, model };
    let kept = Duration::from_micros(unsigned(kept));
    CoverageRow { target, since: Moment::from_unix_micros(since), kept }
}

fn block((id, provider, since): (i64, String, i64)) -> BlockRow {
    let provider = Some(provider).filter(|provider| !provider.is_empty());
    BlockRow { id, provider, since: Moment::from_unix_micros(since) }
}

/// One group of the statistics: slot, platform, model, requests, attempts, input, output.
type Group = (i64, Option<String>, Option<String>, i64, i64, i64, i64);

fn served_span(
    (slot, platform, model, requests, attempts, input, output): Group,
    slot_us: i64,
) -> ServedSpan {
    ServedSpan {
        end: Moment::from_unix_micros(slot.saturating_add(1).saturating_mul(slot_us)),
        served_by: platform.zip(model),
        requests: unsigned(requests),
        attempts: unsigned(attempts),
        usage: usage(input, output),
    }
}

per_backend! {
    /// Row by row, by statements that stay prepared: on SQLite that costs less than preparing one of as many rows.
    pub(in crate::db) fn write(connection: &mut Connection, batch: &HoldBatch) -> QueryResult<()> {
        // One statement is a transaction by itself, without two more to be parsed.
        if let ([row], true) = (batch.inserted.as_slice(), batch.has_only_new_holds()) {
            return insert(connection, row);
        }
        connection.transaction(|connection| {
            batch.inserted.iter().try_for_each(|row| insert(connection, row))?;
            batch.changed.iter().try_for_each(|change| update(connection, change))?;
            for id in &batch.deleted {
                diesel::delete(local_holds::table.find(id)).execute(connection)?;
            }
            batch.cooldowns.iter().try_for_each(|cooldown| extend(connection, cooldown))
        })
    }

    fn insert(connection: &mut Connection, row: &HoldRow) -> QueryResult<()> {
        diesel::insert_into(local_holds::table).values(NewRow::from(row)).execute(connection).map(|_| ())
    }

    fn update(connection: &mut Connection, change: &HoldChange) -> QueryResult<()> {
        // An absent value leaves its column as it is.
        let first_byte = change.first_byte.map(|at| local_holds::first_byte_us.eq(at.unix_micros()));
        let row = diesel::update(local_holds::table.find(change.id));
        match change.finish {
            Some(_) => row.set((first_byte, Finish::of(change.finish))).execute(connection),
            None if change.first_byte.is_some() => row.set(first_byte).execute(connection),
            None => Ok(0),
        }
        .map(|_| ())
    }

    fn extend(connection: &mut Connection, cooldown: &CooldownRow) -> QueryResult<()> {
        use local_cooldowns::dsl;

        let CooldownRow { target, until, reason } = cooldown;
        let key = (target.provider.as_str(), target.account.as_str(), target.model.as_str());
        let earlier = local_cooldowns::table.find(key).filter(dsl::until_us.lt(until.unix_micros()));
        diesel::delete(earlier).execute(connection)?;
        diesel::insert_into(local_cooldowns::table)
            .values((
                dsl::provider.eq(key.0),
                dsl::account.eq(key.1),
                dsl::model.eq(key.2),
                dsl::until_us.eq(until.unix_micros()),
                dsl::reason.eq(reason),
            ))
            .on_conflict_do_nothing()
            .execute(connection)
            .map(|_| ())
    }

    pub(in crate::db) fn after(connection: &mut Connection, id: i64, rows: i64) -> QueryResult<Vec<HoldRow>> {
        let page = local_holds::table.filter(local_holds::id.gt(id)).order(local_holds::id).limit(rows);
        Ok(page.load::<Row>(connection)?.into_iter().map(HoldRow::from).collect())
    }

    pub(in crate::db) fn abort_open(connection: &mut Connection, now: Moment) -> QueryResult<usize> {
        let open = local_holds::table.filter(local_holds::finish_us.is_null());
        diesel::update(open)
            .set((local_holds::finish_us.eq(now.unix_micros()), local_holds::is_aborted.eq(true)))
            .execute(connection)
    }

    pub(in crate::db) fn delete(connection: &mut Connection, ids: &[i64]) -> QueryResult<usize> {
        diesel::delete(local_holds::table.filter(local_holds::id.eq_any(ids))).execute(connection)
    }

    pub(in crate::db) fn cooldowns(connection: &mut Connection) -> QueryResult<Vec<CooldownRow>> {
        Ok(local_cooldowns::table.load(connection)?.into_iter().map(cooldown).collect())
    }

    pub(in crate::db) fn delete_cooldowns(connection: &mut Connection, before: Moment) -> QueryResult<usize> {
        let over = local_cooldowns::table.filter(local_cooldowns::until_us.lt(before.unix_micros()));
        diesel::delete(over).execute(connection)
    }

    pub(in crate::db) fn coverages(connection: &mut Connection) -> QueryResult<Vec<CoverageRow>> {
        Ok(local_coverage::table.load(connection)?.into_iter().map(coverage).collect())
    }

    pub(in crate::db) fn put_coverages(connection: &mut Connection, rows: &[CoverageRow]) -> QueryResult<()> {
        use local_coverage::dsl;

        connection.transaction(|connection| {
            for CoverageRow { target, since, kept } in rows {
                let values = (dsl::since_us.eq(since.unix_micros()), dsl::kept_us.eq(micros(*kept)));
                let key = (
                    dsl::provider.eq(&target.provider),
                    dsl::account.eq(&target.account),
                    dsl::model.eq(&target.model),
                );
                diesel::insert_into(local_coverage::table)
                    .values((key, values))
                    .on_conflict((dsl::provider, dsl::account, dsl::model))
                    .do_update()
                    .set(values)
                    .execute(connection)?;
            }
            Ok(())
        })
    }

    pub(in crate::db) fn add_block(
        connection: &mut Connection,
        provider: Option<&str>,
        since: Moment,
    ) -> QueryResult<()> {
        use local_blocks::dsl;

        diesel::insert_into(local_blocks::table)
            .values((dsl::provider.eq(provider.unwrap_or_default()), dsl::since_us.eq(since.unix_micros())))
            .execute(connection)
            .map(|_| ())
    }

    pub(in crate::db) fn blocks_after(connection: &mut Connection, id: i64) -> QueryResult<Vec<BlockRow>> {
        let later = local_blocks::table.filter(local_blocks::id.gt(id)).order(local_blocks::id);
        Ok(later.load(connection)?.into_iter().map(block).collect())
    }

    pub(in crate::db) fn is_fresh(connection: &mut Connection) -> QueryResult<bool> {
        let has_events: bool = select(exists(completion_events::table.select(completion_events::event_id))).get_result(connection)?;
        let has_begun: bool = select(exists(local_coverage::table.select(local_coverage::since_us))).get_result(connection)?;
        Ok(!has_events && !has_begun)
    }

    pub(in crate::db) fn served_within(
        connection: &mut Connection,
        from: Moment,
        to: Moment,
        slot: Duration,
    ) -> QueryResult<Vec<ServedSpan>> {
        use completion_events::dsl;

        let slot_us = micros(slot).max(1);
        // Our own number, not a user's text.
        let groups = completion_events::table
            .group_by(sql::<BigInt>(&format!("ended_us / {slot_us}, platform, model_id")))
            .select((
                sql::<BigInt>(&format!("ended_us / {slot_us}")),
                sql::<Nullable<Text>>("platform"),
                sql::<Nullable<Text>>("model_id"),
                count_star(),
                sql::<BigInt>("CAST(SUM(attempts) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(input_tokens) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(output_tokens) AS BIGINT)"),
            ))
            .filter(dsl::ended_us.ge(from.unix_micros()))
            .filter(dsl::ended_us.le(to.unix_micros()))
            .filter(dsl::attempts.gt(0));
        Ok(groups.load::<Group>(connection)?.into_iter().map(|group| served_span(group, slot_us)).collect())
    }
}
