//! When the graph was there: it can be deleted, which makes a version, and created again, which
//! makes none. So what is answered at the version of a deletion was asked once it was there again.

use std::collections::BTreeMap;

use serde_json::json;

use super::history::{Call, End, FileEnds, Histories};
use super::json;
use super::recorded_request::Request;

/// The calls that delete and create the graph.
pub struct Existence<'h> {
    files: &'h [FileEnds],
    first_version: u64,
    /// Those that were told that they created it, by the version that they were told.
    creations: BTreeMap<u64, Vec<&'h Call>>,
    /// Those that may have created it.
    unknown_creations: Vec<&'h Call>,
    /// Those that have deleted it, or may have.
    deletions: Vec<&'h Call>,
}

impl<'h> Existence<'h> {
    /// O(n).
    pub fn of(histories: &'h Histories) -> Self {
        let mut existence = Self {
            files: &histories.files,
            first_version: histories.first_version(),
            creations: BTreeMap::new(),
            unknown_creations: Vec::new(),
            deletions: Vec::new(),
        };
        for call in histories.calls.iter().filter(|call| !call.is_replay) {
            let is_unknown = matches!(call.end, End::Unknown { .. } | End::Undocumented { .. });
            match (&call.asked.request, &call.end) {
                (Request::CreateGraph, End::Accepted { version, created: true, .. }) => {
                    existence.creations.entry(*version).or_default().push(call);
                }
                (Request::CreateGraph, _) if is_unknown => existence.unknown_creations.push(call),
                (Request::DeleteGraph, _) if is_unknown || call.made_its_version() => {
                    existence.deletions.push(call);
                }
                _ => {}
            }
        }
        existence
    }

    /// Whether the graph, deleted with `version`, may have been created again before `call` was
    /// answered at that version, or was applied to it; by another call, or by a driver before its
    /// history began.
    pub fn may_be_back(&self, version: u64, call: &Call) -> bool {
        let end_ns = if call.may_have_written() { u64::MAX } else { call.end_ns };
        let created = self.creations.get(&version).into_iter().flatten();
        let mut creations = created.chain(&self.unknown_creations);
        creations.any(|creation| creation.file != call.file || creation.begun_ns < end_ns)
            || self.files.iter().any(|file| file.initial_version >= version)
    }

    /// Whether `call` is one of several that were told that they created the graph after one
    /// deletion, and not the first of them.
    pub fn is_created_twice(&self, version: u64, call: &Call) -> bool {
        let creations = self.creations.get(&version);
        creations.is_some_and(|creations| !std::ptr::eq(creations[0], call))
    }

    /// Whether the graph may have been gone at a moment between `call` and its answer, of which
    /// nothing may be told that stands before `floor` in the order of all calls.
    pub fn may_be_gone(&self, call: &Call, floor: (u64, bool)) -> bool {
        let gone = self.deletions.iter().any(|deletion| {
            let there = |version| (version, false) >= floor;
            deletion.file != call.file
                || deletion.begun_ns < call.end_ns && deletion.version().is_none_or(there)
        });
        gone || self.may_never_have_been_there(call)
    }

    /// Whether the graph may have been created for the first time after `call` was sent.
    fn may_never_have_been_there(&self, call: &Call) -> bool {
        let mut created = self.creations.get(&self.first_version).into_iter().flatten();
        created.any(|creation| creation.file == call.file && creation.end_ns >= call.invoke_ns)
    }

    /// Where a call that found the graph gone stands, if that is known: after the first deletion
    /// that can explain it.
    pub fn gone_at(&self, call: &Call, floor: (u64, bool)) -> Option<(u64, bool)> {
        if self.may_never_have_been_there(call) {
            return None;
        }
        let mut first: Option<(u64, bool)> = None;
        for deletion in &self.deletions {
            if deletion.file != call.file {
                return None;
            }
            if deletion.begun_ns >= call.end_ns {
                continue;
            }
            let place = (deletion.version()?, false);
            if place >= floor && first.is_none_or(|first| place < first) {
                first = Some(place);
            }
        }
        first
    }
}

/// Whether `problem`, which says that there is no such graph, is whole: its status, and its name.
pub fn is_right(problem: &str, graph: &str) -> bool {
    let wanted = |name: &str| matches!(name, "status" | "name");
    let Some(members) = json::members(problem, wanted) else { return false };
    members.get("status") == Some(&json!(404))
        && members.get("name").is_none_or(|given| given == graph)
}
