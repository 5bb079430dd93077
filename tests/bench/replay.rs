//! Reads histories, and has them checked.

use std::collections::{HashMap, HashSet};

use fencepost::check::{Evidence, Verdict};
use serde_json::Value;

/// An invocation and its completion.
pub struct Call<'h> {
    pub invoke: &'h Value,
    pub end: &'h Value,
}

/// Pairs every invocation with its one completion, and checks what holds of every history.
pub fn calls(history: &[Value]) -> Vec<Call<'_>> {
    let (start, end) =
        (history.first().expect("a first line"), history.last().expect("a last line"));
    assert_eq!((start["event"].as_str(), end["event"].as_str()), (Some("start"), Some("end")));
    assert_eq!(start["format"], fencepost::bench::FORMAT_VERSION);
    let mut open: HashMap<u64, &Value> = HashMap::new();
    let mut busy = HashSet::new();
    let mut gone = HashSet::new();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut calls = Vec::new();
    for line in &history[1..history.len() - 1] {
        let event = line["event"].as_str().expect("an event");
        let (id, process) = (number(line, "id"), number(line, "process"));
        *counts.entry(event).or_default() += 1;
        if event == "invoke" {
            assert!(!gone.contains(&process), "process {process} goes on after an unknown outcome");
            assert!(busy.insert(process), "process {process} has two requests under way");
            assert!(open.insert(id, line).is_none(), "id {id} comes twice");
            continue;
        }
        assert!(["ok", "fail", "info"].contains(&event), "{event} is no event");
        let invoke = open.remove(&id).expect("a completion belongs to an invocation");
        assert_eq!(number(invoke, "process"), process);
        assert!(number(invoke, "time_ns") <= number(line, "time_ns"));
        busy.remove(&process);
        if event == "info" {
            gone.insert(process);
        }
        calls.push(Call { invoke, end: line });
    }
    assert!(open.is_empty(), "{} requests have no completion", open.len());
    for event in ["invoke", "ok", "fail", "info"] {
        assert_eq!(
            number(end, event),
            counts.get(event).copied().unwrap_or_default(),
            "count of {event}"
        );
    }
    calls
}

pub fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("{field} in {line}"))
}

/// Has a history checked that begins with a new graph.
pub fn check(history: &[Value]) {
    let lines: String = history.iter().map(|line| format!("{line}\n")).collect();
    let mut evidence = Evidence::default();
    evidence.history("history", lines.as_bytes()).expect("a whole history");
    match evidence.judge() {
        Verdict::Valid(summary) => assert_eq!(summary.unknown, 0),
        Verdict::Found(finding) => panic!("{finding}"),
    }
}
