//! The books of all tenants that have limits, shared by all workers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::book::{Remaining, TenantBook, TenantDemand, TenantHold};
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::domain::tenant::{TenantLimits, TenantUse};
use crate::quota::refusal::Refusal;

/// One short lock a tenant. A book outlives every change of its tenant's policy. Bounded by the number of tenants.
/// Each replica keeps books of its own: what the others let through is known here only as of a book's opening.
#[derive(Clone, Default)]
pub struct TenantBooks(Arc<RwLock<HashMap<TenantId, Book>>>);

type Book = Arc<Mutex<TenantBook>>;

impl TenantBooks {
    /// Whether there is a book of this tenant.
    pub fn has(&self, tenant: TenantId) -> bool {
        self.0.read().contains_key(&tenant)
    }

    /// Opens the book of a tenant that used this much until `now`; a book that is there stays as it is.
    pub fn open(&self, tenant: TenantId, used: &TenantUse, now: Moment) {
        let book = || Arc::new(Mutex::new(TenantBook::new(used, now)));
        self.0.write().entry(tenant).or_insert_with(book);
    }

    /// Drops the books of the tenants that are gone.
    pub fn retain(&self, is_there: impl Fn(TenantId) -> bool) {
        self.0.write().retain(|tenant, _| is_there(*tenant));
    }

    /// Takes the units of one request of this tenant, all or none.
    ///
    /// # Errors
    /// As [`TenantBook::reserve`].
    pub fn reserve(
        &self,
        tenant: TenantId,
        limits: &TenantLimits,
        demand: TenantDemand,
        now: Moment,
    ) -> Result<TenantGuard, Refusal> {
        let book = self.book(tenant, now);
        let hold = book.lock().reserve(now, limits, demand)?;
        Ok(TenantGuard { book, hold: Some(hold) })
    }

    /// What is left of this tenant's limits.
    pub fn remaining(&self, tenant: TenantId, limits: &TenantLimits, now: Moment) -> Remaining {
        self.book(tenant, now).lock().remaining(now, limits)
    }

    fn book(&self, tenant: TenantId, now: Moment) -> Book {
        if let Some(book) = self.0.read().get(&tenant) {
            return Arc::clone(book);
        }
        self.open(tenant, &TenantUse::default(), now);
        let books = self.0.read();
        books
            .get(&tenant)
            .map_or_else(|| Arc::new(Mutex::new(TenantBook::new(&TenantUse::default(), now))), Arc::clone)
    }
}

impl fmt::Debug for TenantBooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantBooks").field("tenants", &self.0.read().len()).finish()
    }
}

/// The units of one request under way. Dropped unsettled they are given back, as for a request for which nobody
/// was called.
#[derive(Debug)]
pub struct TenantGuard {
    book: Book,
    hold: Option<TenantHold>,
}

impl TenantGuard {
    /// The tokens reserved.
    pub fn tokens(&self) -> u64 {
        self.hold.as_ref().map_or(0, TenantHold::tokens)
    }

    /// Ends the request, which used so many tokens.
    pub fn settle(mut self, now: Moment, tokens: u64) {
        if let Some(hold) = self.hold.take() {
            self.book.lock().settle(now, hold, tokens);
        }
    }
}

impl Drop for TenantGuard {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.book.lock().give_back(hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000);
    const LIMITS: TenantLimits =
        TenantLimits { rpm: Some(1), rpd: None, tpm: None, tpd: None, tpmonth: None, parallel: Some(1) };

    fn reserve(books: &TenantBooks, tenant: i64) -> Result<TenantGuard, Refusal> {
        books.reserve(TenantId(tenant), &LIMITS, TenantDemand::default(), NOW)
    }

    #[test]
    fn tenants_take_nothing_of_each_other() {
        let books = TenantBooks::default();
        let _first = reserve(&books, 1).unwrap();
        assert!(reserve(&books, 1).is_err());
        assert!(reserve(&books, 2).is_ok());
    }

    #[test]
    fn what_came_to_nothing_is_given_back_and_what_was_settled_is_not() {
        let books = TenantBooks::default();
        drop(reserve(&books, 1).unwrap());
        reserve(&books, 1).unwrap().settle(NOW, 0);
        assert!(reserve(&books, 1).is_err());
    }

    #[test]
    fn a_book_that_is_open_is_not_opened_again() {
        let books = TenantBooks::default();
        reserve(&books, 1).unwrap().settle(NOW, 0);
        books.open(TenantId(1), &TenantUse::default(), NOW);
        assert!(reserve(&books, 1).is_err());
        books.retain(|tenant| tenant != TenantId(1));
        assert!(!books.has(TenantId(1)));
    }
}
