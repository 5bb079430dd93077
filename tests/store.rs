//! What the database promises: the conditional write, tokens that only rise, outcomes that are
//! told, and how it is opened.

mod audit;
mod batches;
mod failover;
mod keys;
mod opening;
mod outcomes;
mod poolers;
mod server;
mod sessions;
mod tokens;
mod writes;
