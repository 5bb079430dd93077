//! Fencepost keeps a graph of jobs and the datasets they read and write as rows in SQL, refuses
//! every change that would break the graph's rules, and says in which order jobs must run to
//! produce a dataset.
//!
//! `docs/ARCHITECTURE.md` walks one write and one read through these modules. Who may use whom:
//! `graph` imports nothing of ours; `db` and `lock` know no graph; `store` knows `graph` and `db`;
//! `event` knows `graph`, and of `store` what a chain and a row of the log are; `keep` knows
//! `event` and `store`; `export` knows those three; `design` knows `store` and `lock`; `http`,
//! `import` and `bench` know `design` and `graph`, `http` `event` too, `import` `keep`, and `bench`
//! `http`'s problems. `check` knows none of them, but for fetching what it is to judge. `address`,
//! `terminal`, `input`, which opens paths, and `object`, by which structs are read from JSON
//! objects, know nothing of ours; anything may use them.

pub mod address;
pub mod bench;
pub mod check;
pub mod db;
pub mod design;
pub mod event;
pub mod export;
pub mod failpoint;
pub mod graph;
pub mod http;
pub mod import;
pub mod input;
pub mod keep;
pub mod lock;
pub mod node;
mod object;
pub mod store;
pub mod terminal;
pub mod wire;
