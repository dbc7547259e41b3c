//! The numbers by which the original API names models.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::result::Error as QueryError;

use super::schema::models;
use crate::domain::ids::{ModelNumber, ProviderId};

/// Models in one insert: two values each, of SQLite's 32,766 per statement. Chosen: far more than one provider
/// lists.
const ROWS_PER_STATEMENT: usize = 1_000;

/// The number of each model, by platform and upstream id.
type Numbers = HashMap<(String, String), i64>;

fn missing<'a>(numbers: &Numbers, asked: &'a [(ProviderId, String)]) -> Vec<(&'a str, &'a str)> {
    let is_new = |(provider, model): &&(ProviderId, String)| {
        !numbers.contains_key(&(provider.as_str().to_owned(), model.clone()))
    };
    asked.iter().filter(is_new).map(|(provider, model)| (provider.as_str(), model.as_str())).collect()
}

fn in_order(numbers: &Numbers, asked: &[(ProviderId, String)]) -> QueryResult<Vec<ModelNumber>> {
    let number = |(provider, model): &(ProviderId, String)| {
        let number = numbers.get(&(provider.as_str().to_owned(), model.clone()));
        number.copied().map(ModelNumber).ok_or(QueryError::NotFound)
    };
    asked.iter().map(number).collect()
}

per_backend! {
    /// Reads first and inserts only what is new: an insert that meets an existing row would still use up a number.
    pub(in crate::db) fn number(
        connection: &mut Connection,
        asked: &[(ProviderId, String)],
    ) -> QueryResult<Vec<ModelNumber>> {
        let mut numbers = load(connection)?;
        let new = missing(&numbers, asked);
        for chunk in new.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<_> = chunk
                .iter()
                .map(|(platform, model_id)| (models::platform.eq(*platform), models::model_id.eq(*model_id)))
                .collect();
            // Another replica may have numbered some of them since; its numbers stand.
            diesel::insert_into(models::table).values(&rows).on_conflict_do_nothing().execute(connection)?;
        }
        if !new.is_empty() {
            numbers = load(connection)?;
        }
        in_order(&numbers, asked)
    }

    fn load(connection: &mut Connection) -> QueryResult<Numbers> {
        let rows: Vec<(i64, String, String)> = models::table.load(connection)?;
        Ok(rows.into_iter().map(|(id, platform, model_id)| ((platform, model_id), id)).collect())
    }
}
