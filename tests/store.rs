//! What the database promises: the conditional write, tokens that only rise, outcomes that are
//! told, and how it is opened.

mod audit;
mod batches;
mod binding;
mod files;
mod foreign;
mod keys;
mod opening;
mod outcomes;
mod rolling;
mod server;
mod tokens;
mod writes;
