//! Tests of the lock. `conformance` and `processes` are what every implementation must pass, one
//! list for all.

mod child;
#[macro_use]
mod conformance;
mod file;
mod gate;
#[cfg(feature = "failpoints")]
mod guards;
mod kept;
mod key;
mod postgres;
mod processes;
mod redis;
mod row;
mod token;
