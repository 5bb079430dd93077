//! All tests that need more than one module, in one binary: support is compiled once, and so is the
//! program.

mod archive;
mod bench;
mod check;
mod cli;
mod crash;
mod design;
mod event;
mod export;
mod faults;
mod graph;
mod http;
mod layers;
mod lock;
mod on_postgres;
mod store;
mod support;
