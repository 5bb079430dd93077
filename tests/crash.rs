//! Processes that are killed, stopped, and let loose on one file. Real ones: `kill -9` takes
//! whatever was not yet written.

mod batches;
mod kills;
mod sessions;
mod stops;
mod storms;
mod syncs;
