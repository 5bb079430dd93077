//! A graph that was frozen: its version is the last, and every write is told so. A history in which
//! a graph is thawed cannot be judged.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::finding::{Finding, Kind};
use super::history::{Call, End, Histories, is_problem};
use super::json;

/// For each file the write that was the first to be told that the graph is frozen.
pub struct Freezes<'h>(HashMap<usize, &'h Call>);

impl<'h> Freezes<'h> {
    /// O(n).
    pub fn of(histories: &'h Histories) -> Self {
        let mut first: HashMap<usize, &Call> = HashMap::new();
        for call in histories.calls.iter().filter(|call| is_told(call)) {
            let earliest = first.entry(call.file).or_insert(call);
            if call.end_ns < earliest.end_ns {
                *earliest = call;
            }
        }
        Self(first)
    }

    /// Whether the call was sent after another of its file had been told.
    pub fn told_before(&self, call: &Call) -> bool {
        self.before(call).is_some()
    }

    fn before(&self, call: &Call) -> Option<&'h Call> {
        self.0.get(&call.file).copied().filter(|told| told.end_ns < call.begun_ns)
    }

    /// Once one was told, no write that is sent later is decided, and every read that is sent later
    /// is answered at the last version.
    ///
    /// # Errors
    /// The finding with the smallest version.
    pub fn check(&self, histories: &Histories, last_version: u64) -> Result<(), Box<Finding>> {
        if self.0.is_empty() {
            return Ok(());
        }
        let wrong = |call: &&Call| {
            let behind = call.version().is_some_and(|version| version < last_version);
            let wrong = call.version().is_some() && (call.asked.request.is_decided() || behind);
            wrong && self.told_before(call)
        };
        let first = histories.calls.iter().filter(wrong).min_by_key(|call| call.version());
        let Some((told, call)) = first.and_then(|call| Some((self.before(call)?, call))) else {
            return Ok(());
        };
        let operations = vec![histories.involved(told), histories.involved(call)];
        let (kind, expected) = if call.asked.request.is_decided() {
            (Kind::WriteAfterFreeze, "frozen".to_owned())
        } else {
            (Kind::ReadBehindFreeze, format!("an answer at version {last_version}, the last"))
        };
        let why = "the first had been told that before the second was sent; a history in which a \
                   graph is thawed cannot be judged";
        Err(Finding::new(kind, call.version(), operations, expected, why))
    }
}

/// Whether the call is a write that was told that the graph is frozen.
fn is_told(call: &Call) -> bool {
    match &call.end {
        End::Rejected { version: None, problem } => {
            call.asked.request.writes() && is_problem(problem, "frozen")
        }
        _ => false,
    }
}

/// Whether `problem`, which calls the graph frozen, is whole: its status, the graph, and where the
/// graph went.
pub fn is_right(problem: &str, graph: &str) -> bool {
    let wanted = |name: &str| matches!(name, "status" | "graph" | "moved_to");
    let Some(members) = json::members(problem, wanted) else { return false };
    let moved_to = members.get("moved_to");
    members.get("status") == Some(&json!(409))
        && members.get("graph").is_none_or(|given| given == graph)
        && moved_to.is_some_and(|to| matches!(to, Value::Null | Value::String(_)))
}
