//! Writing a query once and compiling it for both backends.

/// Puts the given functions into a module `sqlite` and a module `postgres`, where `Connection` is the
/// respective connection.
///
/// A macro and not a generic function: the bounds that diesel needs for a statement over "any backend" are longer
/// than the statement, and differ between statements.
macro_rules! per_backend {
    ($($item:item)*) => {
        pub(in crate::db) mod sqlite {
            use super::*;
            type Connection = diesel::SqliteConnection;
            $($item)*
        }

        pub(in crate::db) mod postgres {
            use super::*;
            type Connection = diesel::PgConnection;
            $($item)*
        }
    };
}
