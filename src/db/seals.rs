//! Sealed values: what only the master key opens.

use diesel::prelude::*;

use super::schema::seals;

per_backend! {
    pub(in crate::db) fn find(connection: &mut Connection, name: &str) -> QueryResult<Option<Vec<u8>>> {
        seals::table.find(name).select(seals::value).first(connection).optional()
    }

    pub(in crate::db) fn put_if_absent(
        connection: &mut Connection,
        name: &str,
        value: &[u8],
    ) -> QueryResult<Vec<u8>> {
        diesel::insert_into(seals::table)
            .values((seals::name.eq(name), seals::value.eq(value)))
            .on_conflict_do_nothing()
            .execute(connection)?;
        seals::table.find(name).select(seals::value).first(connection)
    }
}
