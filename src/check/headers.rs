//! What an answer tells twice, or beside its body: the headers `Fencepost-Version`, `ETag` and
//! `Location`, and the body of the answer to a write.
//!
//! Only a history of HTTP has them. Judges on the state at the answer's version; a write that made
//! its version is judged after it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::finding::Kind;
use super::history::{Call, End, Headers};
use super::model::State;
use super::recorded_request::{Operation, Request, Route, Step, Text};
use crate::object::objects_only;

/// What is wrong with an answer.
pub struct Wrong {
    /// How it is called.
    pub kind: Kind,
    /// What should have been answered.
    pub expected: String,
}

/// Holds the headers of `call`, if they were recorded, and what the answer to a write says in its
/// body, against `state`, the graph called `graph` at the answer's version. O(length).
///
/// # Errors
/// The first that is wrong.
pub fn check(state: &State, graph: &str, call: &Call) -> Result<(), Wrong> {
    if let Some(headers) = &call.headers {
        check_headers(state, graph, call, headers)?;
    }
    match (&call.asked.request, &call.end) {
        (request, End::Accepted { answer: Some(answer), changed, .. }) => {
            let subject_version = match request {
                Request::Write { route, steps } => subject_version(state, *route, steps),
                Request::DeleteGraph => None,
                _ => Some(state.version),
            };
            check_body(state, graph, *changed, answer, subject_version)
        }
        _ => Ok(()),
    }
}

fn check_headers(state: &State, graph: &str, call: &Call, headers: &Headers) -> Result<(), Wrong> {
    let same = |name: &str, given: Option<&Text>, expected: Option<String>| {
        if given.map(|given| &**given) == expected.as_deref() {
            return Ok(());
        }
        let expected = match expected {
            Some(expected) => format!("{name}: {expected}"),
            None => format!("no {name}"),
        };
        Err(Wrong { kind: Kind::WrongHeader, expected })
    };
    let version = call.version().map(|version| version.to_string());
    same("Fencepost-Version", headers.version.as_ref(), version)?;
    let (etag, created) = match (&call.asked.request, &call.end) {
        (Request::Write { route, steps }, End::Accepted { .. }) => {
            let tagged = *route != Route::PutOrDelete;
            let created = (*route == Route::Create).then(|| steps[0].operation.target());
            (tagged.then(|| subject_version(state, *route, steps)).flatten(), created)
        }
        (Request::Job { name, .. }, End::Answered { .. } | End::NotModified { .. }) => {
            (state.jobs.get(name).map(|job| job.version), None)
        }
        (_, End::Answered { .. }) => (Some(state.version), None),
        _ => (None, None),
    };
    same("ETag", headers.etag.as_ref(), etag.map(|version| format!("\"{version}\"")))?;
    match (created, &headers.location) {
        (Some(job), Some(location)) if leads_to(location, graph, job) => Ok(()),
        (None, None) => Ok(()),
        (Some(job), _) => Err(Wrong {
            kind: Kind::WrongHeader,
            expected: format!("Location: the path of job `{job}` in graph `{graph}`"),
        }),
        (None, Some(_)) => {
            Err(Wrong { kind: Kind::WrongHeader, expected: "no Location".to_owned() })
        }
    }
}

/// Whether the path, with or without the server before it, is that of the job.
fn leads_to(location: &str, graph: &str, job: &str) -> bool {
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => location,
    };
    let decoded = |segment| percent_decode_str(segment).decode_utf8().unwrap_or_default();
    let segments: Vec<Cow<'_, str>> = path.split('/').map(decoded).collect();
    segments == ["", "v1", "graphs", graph, "jobs", job]
}

/// The version of what a write was about, once it was decided; `None` if that is gone.
fn subject_version(state: &State, route: Route, steps: &[Step]) -> Option<u64> {
    let (Some(step), true) = (steps.first(), route != Route::Changeset) else {
        return Some(state.version);
    };
    let name = step.operation.target();
    match step.operation {
        Operation::PutDataset { .. } | Operation::DeleteDataset { .. } => {
            state.datasets.contains_key(name).then_some(state.version)
        }
        _ => state.jobs.get(name).map(|job| job.version),
    }
}

/// The body of the answer to a write that was accepted. A member that is absent says nothing.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct WrittenWire<'a> {
    #[serde(borrow)]
    graph: Option<Cow<'a, str>>,
    version: Option<u64>,
    changed: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    etag: Option<Option<Cow<'a, str>>>,
}

objects_only!(WrittenWire<'a>);

/// Tells `null` from absent.
fn present<'a, D: serde::Deserializer<'a>>(
    from: D,
) -> Result<Option<Option<Cow<'a, str>>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

fn check_body(
    state: &State,
    graph: &str,
    changed: bool,
    answer: &str,
    subject_version: Option<u64>,
) -> Result<(), Wrong> {
    let tag = subject_version.map(|version| format!("\"{version}\""));
    let right = serde_json::from_str(answer).is_ok_and(|given: WrittenWire<'_>| {
        given.graph.is_none_or(|given| given == graph)
            && given.version.is_none_or(|given| given == state.version)
            && given.changed.is_none_or(|given| given == changed)
            && given.etag.is_none_or(|given| given.as_deref() == tag.as_deref())
    });
    if right {
        return Ok(());
    }
    let version = state.version;
    let expected =
        serde_json::json!({"graph": graph, "version": version, "changed": changed, "etag": tag});
    Err(Wrong { kind: Kind::WrongAnswer, expected: expected.to_string() })
}
