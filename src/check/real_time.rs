//! Real time: what began after another had ended must see it. Only within one file: each has a
//! clock of its own.

use std::collections::HashMap;

use super::finding::{Finding, Kind};
use super::freeze::Freezes;
use super::history::{Call, Histories};

/// For each call the largest version that had been answered before it was sent.
pub struct Floors {
    floors: Vec<Floor>,
    /// Calls that were sent after a write had been told that the graph is frozen.
    frozen: Vec<bool>,
}

/// What a call may not fall below.
#[derive(Clone, Copy)]
pub struct Floor {
    /// The version.
    pub version: u64,
    /// The call that was answered with it; `None`: it is the version that the file begins at.
    by: Option<usize>,
}

impl Floors {
    /// O(n log n).
    pub fn of(histories: &Histories) -> Self {
        let calls = &histories.calls;
        let start =
            |file: usize| Floor { version: histories.files[file].initial_version, by: None };
        let mut floors: Vec<Floor> = calls.iter().map(|call| start(call.file)).collect();
        let mut sent: Vec<usize> = (0..calls.len()).collect();
        sent.sort_unstable_by_key(|&at| (calls[at].file, calls[at].invoke_ns));
        let mut ended: Vec<usize> =
            (0..calls.len()).filter(|&at| calls[at].version().is_some()).collect();
        ended.sort_unstable_by_key(|&at| (calls[at].file, calls[at].end_ns));
        let mut ended = ended.into_iter().peekable();
        let mut floor: Option<(usize, Floor)> = None;
        for at in sent {
            let call = &calls[at];
            let mut now = floor
                .filter(|(file, _)| *file == call.file)
                .map_or_else(|| start(call.file), |(_, floor)| floor);
            let before = |other: &usize| {
                (calls[*other].file, calls[*other].end_ns) < (call.file, call.invoke_ns)
            };
            while let Some(other) = ended.next_if(before) {
                let version = calls[other].version().unwrap_or_default();
                if calls[other].file == call.file && version > now.version {
                    now = Floor { version, by: Some(other) };
                }
            }
            floor = Some((call.file, now));
            floors[at] = now;
        }
        let freezes = Freezes::of(histories);
        Self { floors, frozen: calls.iter().map(|call| freezes.told_before(call)).collect() }
    }

    /// Whether the call, of unknown outcome, may have made `version`: nothing as new, and not that
    /// the graph is frozen, had been answered before it was sent.
    pub fn allow_write(&self, call: usize, version: u64) -> bool {
        self.floors[call].version < version && !self.frozen[call]
    }

    /// The first call that falls below what was answered before it was sent.
    pub fn check(&self, histories: &Histories) -> Result<(), Box<Finding>> {
        let calls = &histories.calls;
        let falls_below = |at: &usize| {
            let Some(version) = calls[*at].version() else { return false };
            if calls[*at].made_its_version() {
                version <= self.floors[*at].version
            } else {
                version < self.floors[*at].version
            }
        };
        let first = (0..calls.len())
            .filter(falls_below)
            .min_by_key(|&at| (calls[at].version(), calls[at].invoke_ns));
        first.map_or(Ok(()), |at| Err(self.finding(histories, at)))
    }

    fn finding(&self, histories: &Histories, at: usize) -> Box<Finding> {
        let (call, floor) = (&histories.calls[at], self.floors[at]);
        let version = call.version().unwrap_or_default();
        let (kind, expected) = if !call.made_its_version() {
            (Kind::StaleAnswer, format!("an answer at version {} or later", floor.version))
        } else if version == floor.version {
            (
                Kind::AnswerBeforeItsWrite,
                format!("version {version} not to be seen before its write was sent"),
            )
        } else {
            (Kind::WriteOutOfOrder, format!("a version above {}", floor.version))
        };
        let why = match floor.by {
            None => format!("the history begins at version {}", floor.version),
            Some(_) => format!(
                "version {} had been answered before the second was sent; the two did not overlap",
                floor.version
            ),
        };
        let operations =
            floor.by.into_iter().chain([at]).map(|at| histories.involved(&histories.calls[at]));
        Finding::new(kind, version, operations.collect(), expected, why)
    }
}

/// Each process sees versions rise. What real time does not catch: requests of one process between
/// which no time passed.
pub fn check_sessions(histories: &Histories) -> Result<(), Box<Finding>> {
    let mut last: HashMap<(usize, u64), &Call> = HashMap::new();
    let mut first: Option<(&Call, &Call)> = None;
    for call in histories.calls.iter().filter(|call| call.version().is_some()) {
        let Some(before) = last.insert((call.file, call.process), call) else { continue };
        let back = call.version() < before.version()
            || call.made_its_version() && call.version() == before.version();
        let earlier = first.is_none_or(|(_, found)| {
            (call.version(), call.invoke_ns) < (found.version(), found.invoke_ns)
        });
        if back && earlier {
            first = Some((before, call));
        }
    }
    let Some((before, call)) = first else { return Ok(()) };
    let operations = vec![histories.involved(before), histories.involved(call)];
    let (seen, version) = (before.version().unwrap_or_default(), call.version());
    let expected =
        format!("a version {} {seen}", if call.made_its_version() { "above" } else { "not below" });
    Err(Finding::new(
        Kind::SessionWentBack,
        version,
        operations,
        expected,
        "the same process had seen that before",
    ))
}
