//! The way out: a graph's log written to other engines while it is served, held against the database, and the cut-over.
//!
//! Uses `event` and `store`, and takes no lock: it reads snapshots, and what writers have committed.

mod address;
mod file;
mod nats;
mod postgres;
mod redis;
pub mod sink;
mod stdout;
