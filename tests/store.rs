//! What the database promises: the conditional write, tokens that only rise, outcomes that are
//! told, and how it is opened.

mod adjacency_lists;
mod audit;
mod batches;
mod binding;
mod calls;
mod failover;
mod files;
mod foreign;
mod functions;
mod keys;
mod missing_rows;
mod opening;
mod outcomes;
mod poolers;
mod reverting;
mod rolling;
pub mod server;
mod sessions;
mod tokens;
mod writes;
