//! All tests that need more than one module, in one binary: support is compiled once, and so is the program.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/stages.rs"]
mod stages;
#[path = "support/storm.rs"]
mod storm;

mod bench;
mod cli;
mod crash;
mod design;
mod graph;
mod http;
mod lock;
mod store;
mod support;
