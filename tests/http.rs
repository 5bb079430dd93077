//! The HTTP surface, asked of the real binary over TCP.

mod bad_input;
mod changes;
mod changesets;
mod conformance;
mod consumers;
mod datasets;
mod digits;
mod document;
mod follower;
mod graphs;
mod headers;
mod hosts;
mod idempotency;
mod jobs;
mod limits;
mod names;
mod negotiation;
mod pages;
mod plans;
mod preconditions;
mod protocol;
mod service;
mod shutdown;
mod snapshot;
mod versions;
