//! The SQL functions of the shared ledger, on the real Postgres: against a naive reference under random
//! interleavings of many connections, against the known traps, and for what each of them promises.

mod leases;
mod owner;
mod pool;
mod promises;
mod reference;
mod replay;
mod traps;
