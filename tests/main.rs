//! All tests that need more than one module, in one binary: support is compiled once, and so is the program.

mod bench;
mod cli;
mod graph;
mod lock;
mod support;
