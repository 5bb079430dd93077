//! What is measured: a server over HTTP, or the service in this process. Both answer in the same
//! words.

use std::time::Instant;

use serde::Serialize;

use super::request::{Headers, Outcome, Request};
use super::verbatim::Verbatim;
use crate::graph::JobSpecification;
use crate::service::Service;

mod http;
mod in_process;

pub use http::HttpTarget;
pub use in_process::InProcess;

/// Something that answers requests.
pub trait Target: Sync {
    /// Names it in a history.
    fn describe(&self) -> String;

    /// One client's way to it; those of several clients are spread over its nodes. Nothing is sent
    /// yet.
    fn connect(&self) -> Box<dyn Connection>;

    /// How many nodes it has.
    fn nodes(&self) -> usize;

    /// What each node says of itself, in Prometheus' text format; `None` of one that cannot be
    /// asked or says nothing. A node that was named twice is there once.
    fn metrics(&self) -> Vec<Option<String>>;

    /// The service, if it is in this process.
    fn service(&self) -> Option<&Service>;
}

/// How one client asks. Used by one thread.
pub trait Connection {
    /// Asks and waits for the answer.
    fn perform(&mut self, request: &Request) -> Completion;

    /// Leaves the connection, on which something may still be under way, for a new one to the next
    /// node.
    fn move_on(&mut self);

    /// Which of the target's nodes it asks, in their order; the service in this process is the
    /// first.
    fn node(&self) -> usize {
        0
    }

    /// Says that no history is recorded: from now on answers need not hold what only a history
    /// tells, which costs processor time that the server could use.
    fn skip_evidence(&mut self) {}

    /// The first jobs of the graph in byte order of names, at most `limit`.
    ///
    /// # Errors
    /// Says what was answered instead.
    fn first_jobs(&mut self, limit: usize) -> Result<Vec<JobSpecification>, String>;
}

/// An answer, or what there was instead.
#[derive(Debug, Clone)]
pub struct Completion {
    /// When the last byte was there. What the client makes of it is not counted.
    pub at: Instant,
    /// What it is.
    pub outcome: Outcome,
    /// Over HTTP: the headers of the answer, if there was one and a history is recorded.
    pub headers: Option<Headers>,
    /// Over HTTP: the body of the answer to a write that was accepted, where a history is recorded.
    pub written: Option<Verbatim>,
}

impl Completion {
    /// What was not answered over HTTP.
    fn without_http(at: Instant, outcome: Outcome) -> Self {
        Self { at, outcome, headers: None, written: None }
    }
}

/// What a history holds of a plan.
#[derive(Serialize)]
struct PlanAnswer {
    digest: String,
    jobs: usize,
}

/// What a history holds of a digest.
#[derive(Serialize)]
struct DigestAnswer {
    digest: String,
}
