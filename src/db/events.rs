//! Completion events: one row for each request that ended.

use std::time::Duration;

use diesel::connection::Connection as _;
use diesel::dsl::{count_star, sql};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde::Serialize;

use super::schema::completion_events::{self, dsl};
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::domain::usage::{Outcome, UsageRecord};

/// Events in one insert on Postgres, where each statement is a round trip: 15 values each, of 65,535.
/// Source: <https://www.postgresql.org/docs/15/limits.html>, read 2026-11-22.
const ROWS_PER_STATEMENT: usize = 1_000;

/// Events in one insert on SQLite, as far as there are so many; what is left goes in smaller ones. Counted (callgrind
/// and strace, 2026-11-23): with 16 rows a statement still copied 1.6 pages for each of them, to be undone if need be.
const MANY_ROWS: usize = 64;
const SOME_ROWS: usize = 8;

/// Events deleted in one step. Chosen: some ten milliseconds on SQLite, whose one writer would otherwise keep
/// holds waiting for as long as the whole purge takes.
const ROWS_PER_PURGE: i64 = 5_000;

/// The most tokens that one event counts, of input and of output. Chosen: a hundred times the largest context
/// window known, and nine thousand million such events still add up within 64 bits: what an upstream claims
/// cannot make the sums overflow.
const TOKENS_MAX: i64 = 1_000_000_000;

// The events again, as the subquery of a deletion from them must call them.
diesel::alias!(const OUTDATED_EVENTS: Alias<OutdatedEvents> = completion_events as outdated_events);

/// Sums over completion events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// All that ended, however.
    pub requests: u64,
    /// Input and output of all of them.
    pub tokens: u64,
    /// Those that count in the success rate.
    pub counted: u64,
    /// Those answered in full: `served / counted` is the success rate.
    pub served: u64,
    /// From request in to last byte out, over the served ones.
    pub latency_us_sum: u64,
}

impl Totals {
    /// The share of the counted requests that were served; `None` when nothing counts yet.
    pub fn success_rate(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.served as f64 / self.counted as f64)
    }

    /// From request in to last byte out, averaged over the served requests; `None` when none was served.
    pub fn average_latency(&self) -> Option<Duration> {
        self.latency_us_sum.checked_div(self.served).map(Duration::from_micros)
    }

    /// Adds the requests that ended in one way. An outcome that only a newer release knows counts as a request
    /// and in tokens, but as neither success nor failure.
    fn add(&mut self, group: Group) {
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == group.outcome);
        self.requests += unsigned(group.requests);
        self.tokens += unsigned(group.tokens);
        if outcome.is_some_and(Outcome::counts_in_success_rate) {
            self.counted += unsigned(group.requests);
        }
        if outcome == Some(Outcome::Served) {
            self.served += unsigned(group.requests);
            self.latency_us_sum += unsigned(group.latency_us);
        }
    }
}

/// All events of one outcome.
#[derive(Queryable)]
struct Group {
    outcome: String,
    requests: i64,
    tokens: i64,
    latency_us: i64,
}

/// One event as it is stored. `None` is written as NULL instead of DEFAULT, which SQLite has not: so the text of an
/// insert does not depend on the row; texts are owned, because only types without a lifetime are known by their type.
#[derive(Insertable)]
#[diesel(table_name = completion_events, treat_none_as_default_value = false)]
struct EventRow {
    event_id: Vec<u8>,
    request_id: String,
    tenant_id: i64,
    key_id: i64,
    platform: Option<String>,
    model_id: Option<String>,
    outcome: &'static str,
    streamed: bool,
    attempts: i64,
    input_tokens: i64,
    output_tokens: i64,
    usage_reported: bool,
    started_us: i64,
    first_byte_us: Option<i64>,
    ended_us: i64,
}

impl From<&UsageRecord> for EventRow {
    fn from(event: &UsageRecord) -> Self {
        let served_by = event.served_by.as_ref();
        Self {
            event_id: event.event_id.as_bytes().to_vec(),
            request_id: event.request_id.as_str().to_owned(),
            tenant_id: event.tenant.0,
            key_id: event.key.0,
            platform: served_by.map(|served_by| served_by.provider.as_str().to_owned()),
            model_id: served_by.map(|served_by| served_by.model.to_string()),
            outcome: event.outcome.as_str(),
            streamed: event.streamed,
            attempts: i64::from(event.attempts),
            input_tokens: bounded_tokens(event.usage.input_tokens),
            output_tokens: bounded_tokens(event.usage.output_tokens),
            usage_reported: event.usage_reported,
            started_us: event.started_at.unix_micros(),
            first_byte_us: event.first_byte_at.map(Moment::unix_micros),
            ended_us: event.ended_at.unix_micros(),
        }
    }
}

fn bounded_tokens(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(TOKENS_MAX).min(TOKENS_MAX)
}

fn unsigned(sum: i64) -> u64 {
    u64::try_from(sum).unwrap_or(0)
}

/// What each backend takes events by.
trait TakesEvents {
    /// Inserts those that are new; their number.
    fn insert(&mut self, events: &[UsageRecord]) -> QueryResult<usize>;
}

/// SQLite has no round trips, but it reads the text of every statement that it has not seen. A statement for a fixed
/// number of rows is always the same one: diesel knows it by its type, without its text, and has it prepared once.
impl TakesEvents for SqliteConnection {
    fn insert(&mut self, events: &[UsageRecord]) -> QueryResult<usize> {
        // In the order of their ids, which is that of the table: what is put at its end moves nothing.
        let mut events: Vec<&UsageRecord> = events.iter().collect();
        events.sort_unstable_by_key(|event| *event.event_id.as_bytes());
        let (many, rest) = events.as_chunks::<MANY_ROWS>();
        let (some, rest) = rest.as_chunks::<SOME_ROWS>();
        let mut inserted = 0;
        for chunk in many {
            let rows = chunk.map(EventRow::from);
            inserted += diesel::insert_or_ignore_into(completion_events::table).values(rows).execute(self)?;
        }
        for chunk in some {
            let rows = chunk.map(EventRow::from);
            inserted += diesel::insert_or_ignore_into(completion_events::table).values(rows).execute(self)?;
        }
        for event in rest {
            let row = EventRow::from(*event);
            inserted += diesel::insert_or_ignore_into(completion_events::table).values(row).execute(self)?;
        }
        Ok(inserted)
    }
}

impl TakesEvents for PgConnection {
    fn insert(&mut self, events: &[UsageRecord]) -> QueryResult<usize> {
        events.chunks(ROWS_PER_STATEMENT).try_fold(0, |inserted, chunk| {
            let rows: Vec<EventRow> = chunk.iter().map(EventRow::from).collect();
            let insert = diesel::insert_into(completion_events::table).values(&rows);
            Ok(inserted + insert.on_conflict(dsl::event_id).do_nothing().execute(self)?)
        })
    }
}

per_backend! {
    pub(in crate::db) fn record(connection: &mut Connection, events: &[UsageRecord]) -> QueryResult<usize> {
        connection.transaction(|connection| connection.insert(events))
    }

    pub(in crate::db) fn totals(
        connection: &mut Connection,
        tenant: Option<TenantId>,
        from: Moment,
        to: Moment,
    ) -> QueryResult<Totals> {
        // The casts make of both backends' sums (Postgres: NUMERIC) what fits into 64 bits.
        let mut query = completion_events::table
            .group_by(dsl::outcome)
            .select((
                dsl::outcome,
                count_star(),
                sql::<BigInt>("CAST(SUM(input_tokens + output_tokens) AS BIGINT)"),
                sql::<BigInt>("CAST(SUM(ended_us - started_us) AS BIGINT)"),
            ))
            .filter(dsl::ended_us.ge(from.unix_micros()))
            .filter(dsl::ended_us.lt(to.unix_micros()))
            .into_boxed();
        if let Some(TenantId(tenant_id)) = tenant {
            query = query.filter(dsl::tenant_id.eq(tenant_id));
        }
        let mut totals = Totals::default();
        query.load::<Group>(connection)?.into_iter().for_each(|group| totals.add(group));
        Ok(totals)
    }

    pub(in crate::db) fn purge(connection: &mut Connection, before: Moment) -> QueryResult<usize> {
        let mut purged = 0;
        loop {
            let outdated = OUTDATED_EVENTS
                .filter(OUTDATED_EVENTS.field(dsl::ended_us).lt(before.unix_micros()))
                .select(OUTDATED_EVENTS.field(dsl::event_id))
                .limit(ROWS_PER_PURGE);
            let step = diesel::delete(completion_events::table.filter(dsl::event_id.eq_any(outdated)))
                .execute(connection)?;
            purged += step;
            if step == 0 {
                return Ok(purged);
            }
        }
    }
}
