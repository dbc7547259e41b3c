//! What concerns tenants and no provider: their own limits, and how they divide what they share.

mod book;
mod books;
mod shares;

#[cfg(test)]
mod tests;

pub use book::{Gauge, Remaining, TenantBook, TenantDemand, TenantHold};
pub use books::{TenantBooks, TenantGuard};
pub use shares::{Denied, Shares};
