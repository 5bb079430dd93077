//! Answers.

use serde::Serialize;

use super::headers::entity_tag;
use super::problem::Problem;
use super::stream::Streamed;
use crate::graph::Name;
use crate::service::Accepted;

/// A body.
pub enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// As it comes.
    Streamed(Streamed),
}

/// An answer that is not a problem.
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body's media type.
    pub media_type: &'static str,
    /// The body.
    pub body: Content,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct WriteBody<'a> {
    graph: &'a Name,
    version: u64,
    changed: bool,
    etag: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl Reply {
    /// JSON with status 200.
    pub fn json(body: &impl Serialize) -> Self {
        Self::text("application/json", serde_json::to_vec(body).expect("answers are JSON"))
    }

    /// Any text with status 200.
    #[must_use]
    pub fn text(media_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: 200, media_type, body: Content::Whole(body), headers: Vec::new() }
    }

    /// A stream with status 200.
    #[must_use]
    pub fn streamed(media_type: &'static str, body: Streamed) -> Self {
        Self { status: 200, media_type, body: Content::Streamed(body), headers: Vec::new() }
    }

    /// The answer to an accepted write.
    #[must_use]
    pub fn written(graph: &Name, accepted: Accepted, dry_run: bool) -> Self {
        let Accepted { version, changed, created, subject_version } = accepted;
        let etag = subject_version.map(entity_tag);
        let reply = Self::json(&WriteBody { graph, version, changed, etag, dry_run });
        let status = if created && !dry_run { 201 } else { 200 };
        Self { status, ..reply }.at_version(version)
    }

    /// The same, with the ETag as a header too. Not for PUT: there it would say that the body was
    /// kept byte by byte (RFC 9110, 9.3.4), and a job's is not.
    #[must_use]
    pub fn written_and_tagged(graph: &Name, accepted: Accepted, dry_run: bool) -> Self {
        let reply = Self::written(graph, accepted, dry_run);
        match accepted.subject_version {
            Some(version) => reply.with("ETag", entity_tag(version)),
            None => reply,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds the version that the answer was computed at.
    #[must_use]
    pub fn at_version(self, version: u64) -> Self {
        self.with("Fencepost-Version", version.to_string())
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let mut reply = Self {
            status: problem.status(),
            media_type: "application/problem+json",
            body: Content::Whole(problem.body()),
            headers: Vec::new(),
        };
        if let Some((_, version)) = &problem.decided {
            reply = reply.at_version(*version);
        }
        if let Some(seconds) = problem.retry_after() {
            reply = reply.with("Retry-After", seconds.to_string());
        }
        if let Some(allow) = problem.allow {
            reply = reply.with("Allow", allow);
        }
        reply
    }
}
