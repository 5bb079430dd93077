//! The way out: a graph's log in other engines.

mod sinks;
