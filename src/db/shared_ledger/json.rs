//! JSON as a value of Postgres' type `jsonb`, and durations in it.

use std::io::Write;
use std::time::Duration;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The only version of `jsonb`'s wire format: a byte in front of the text.
/// Source: `jsonb_recv` in PostgreSQL's `src/backend/utils/adt/jsonb.c`, release 15.
const WIRE_VERSION: u8 = 1;

/// A document on its way to or from the server.
#[derive(Clone, Debug, PartialEq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Jsonb)]
pub(super) struct Json(pub(super) Value);

impl Json {
    /// The document as one of our types.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.0)
    }
}

impl ToSql<Jsonb, Pg> for Json {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[WIRE_VERSION])?;
        serde_json::to_writer(out, &self.0)?;
        Ok(IsNull::No)
    }
}

impl FromSql<Jsonb, Pg> for Json {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes().split_first() {
            Some((&WIRE_VERSION, text)) => Ok(Self(serde_json::from_slice(text)?)),
            _ => Err("unknown format of a jsonb value".into()),
        }
    }
}

/// Microseconds, at most some 36,000 years, so that adding an instant does not overflow.
pub(super) fn micros(duration: Duration) -> i64 {
    const MOST: i64 = 1 << 60;
    i64::try_from(duration.as_micros()).unwrap_or(MOST).min(MOST)
}
