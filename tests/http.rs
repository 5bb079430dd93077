//! The HTTP surface, asked of the real binary over TCP.

mod bad_input;
mod changesets;
mod datasets;
mod document;
mod graphs;
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
mod versions;
