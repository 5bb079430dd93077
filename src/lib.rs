//! Fencepost stores a graph of jobs and the datasets they read and write in SQL, as rows or as a
//! log of changes. It refuses every change that would break the graph's rules, and says in which
//! order jobs must run to produce a dataset.
//!
//! `docs/ARCHITECTURE.md` walks one write and one read through these modules. Its table "Who may
//! use whom" says which module may use which; a test holds the sources to it.

pub mod address;
pub mod archive;
pub mod bench;
pub mod chain;
pub mod check;
pub mod conformance;
pub mod db;
pub mod design;
pub mod event;
pub mod export;
pub mod failpoint;
pub mod graph;
pub mod http;
pub mod import;
pub mod input;
pub mod lock;
pub mod node;
mod object;
pub mod service;
pub mod store;
pub mod terminal;
pub mod wire;

/// The commit that this was built from, with `-dirty` after it if the sources were changed since;
/// `None` of a debug build, or where git could not tell. See `build.rs`.
pub const COMMIT: Option<&str> = option_env!("FENCEPOST_COMMIT");
