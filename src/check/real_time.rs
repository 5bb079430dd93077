//! Real time: what began after another had ended must see it. Only within one file: each has a
//! clock of its own.

use std::collections::HashMap;

use super::existence::Existence;
use super::finding::{Finding, Kind};
use super::freeze::Freezes;
use super::history::{Call, Histories};

/// For each call the last place in the order of all calls that had been answered before it was
/// sent.
pub struct Floors {
    floors: Vec<Floor>,
    /// Where each stands; none of those that say nothing of the graph.
    places: Vec<Option<(u64, bool)>>,
    /// Versions that none of the calls with one key has made, nor any below.
    applied_after: Vec<u64>,
    /// Calls that were sent after a write had been told that the graph is frozen.
    frozen: Vec<bool>,
}

/// What a call may not fall below.
#[derive(Clone, Copy)]
struct Floor {
    /// As [`Call::place`] has it.
    place: (u64, bool),
    /// The call that was answered there; `None`: it is the version that the file begins at.
    by: Option<usize>,
}

impl Floors {
    /// O(n log n).
    pub fn of(histories: &Histories, existence: &Existence<'_>) -> Self {
        let calls = &histories.calls;
        let start =
            |file: usize| Floor { place: (histories.files[file].initial_version, false), by: None };
        let mut places: Vec<Option<(u64, bool)>> = calls.iter().map(Call::place).collect();
        let mut floors: Vec<Floor> = calls.iter().map(|call| start(call.file)).collect();
        let mut sent: Vec<usize> = (0..calls.len()).collect();
        sent.sort_unstable_by_key(|&at| (calls[at].file, calls[at].begun_ns));
        let mut ended: Vec<usize> = (0..calls.len())
            .filter(|&at| places[at].is_some() || calls[at].found_it_gone())
            .collect();
        ended.sort_unstable_by_key(|&at| (calls[at].file, calls[at].end_ns));
        let mut ended = ended.into_iter().peekable();
        let mut floor: Option<(usize, Floor)> = None;
        for at in sent {
            let call = &calls[at];
            let mut now = floor
                .filter(|(file, _)| *file == call.file)
                .map_or_else(|| start(call.file), |(_, floor)| floor);
            let before = |other: &usize| {
                (calls[*other].file, calls[*other].end_ns) < (call.file, call.begun_ns)
            };
            while let Some(other) = ended.next_if(before) {
                // Of one that found the graph gone it was found when that was sent.
                if let Some(place) = places[other]
                    && calls[other].file == call.file
                    && place > now.place
                {
                    now = Floor { place, by: Some(other) };
                }
            }
            if call.found_it_gone() {
                places[at] = existence.gone_at(call, now.place);
            }
            floor = Some((call.file, now));
            floors[at] = now;
        }
        let freezes = Freezes::of(histories);
        Self {
            floors,
            places,
            applied_after: calls.iter().map(|call| call.applied_after).collect(),
            frozen: calls.iter().map(|call| freezes.told_before(call)).collect(),
        }
    }

    /// The last place that had been answered before the call was sent.
    pub fn place(&self, call: usize) -> (u64, bool) {
        self.floors[call].place
    }

    /// Whether the call, of unknown outcome, may have made `version`: nothing as new, and not that
    /// the graph is frozen, had been answered before it was sent.
    pub fn allow_write(&self, call: usize, version: u64) -> bool {
        self.floors[call].place < (version, false)
            && self.applied_after[call] < version
            && !self.frozen[call]
    }

    /// The first call that falls below what was answered before it was sent.
    pub fn check(&self, histories: &Histories) -> Result<(), Box<Finding>> {
        let calls = &histories.calls;
        let falls_below = |at: &usize| {
            let Some(place) = self.places[*at] else { return false };
            let is_first = calls[*at].made_its_version() || calls[*at].created_the_graph();
            let floor = self.floors[*at].place;
            place < floor || place == floor && is_first
        };
        let first = (0..calls.len())
            .filter(falls_below)
            .min_by_key(|&at| (self.places[at], calls[at].invoke_ns));
        first.map_or(Ok(()), |at| Err(self.finding(histories, at)))
    }

    fn finding(&self, histories: &Histories, at: usize) -> Box<Finding> {
        let call = &histories.calls[at];
        let Floor { place: (floor, _), by } = self.floors[at];
        let version = self.places[at].map_or(0, |(version, _)| version);
        let (kind, expected) = if call.created_the_graph() && version == floor {
            (Kind::WrongCreated, "created: false".to_owned())
        } else if !call.made_its_version() {
            (Kind::StaleAnswer, format!("an answer at version {floor} or later"))
        } else if version == floor {
            (
                Kind::AnswerBeforeItsWrite,
                format!("version {version} not to be seen before its write was sent"),
            )
        } else {
            (Kind::WriteOutOfOrder, format!("a version above {floor}"))
        };
        let why = match by {
            None => format!("the history begins at version {floor}"),
            Some(_) => format!(
                "version {floor} had been answered before the second was sent; the two did not \
                 overlap"
            ),
        };
        let operations =
            by.into_iter().chain([at]).map(|at| histories.involved(&histories.calls[at]));
        Finding::new(kind, version, operations.collect(), expected, why)
    }
}

/// Each process sees versions rise. What real time does not catch: requests of one process between
/// which no time passed.
pub fn check_sessions(histories: &Histories) -> Result<(), Box<Finding>> {
    let mut last: HashMap<(usize, u64), &Call> = HashMap::new();
    let mut first: Option<(&Call, &Call)> = None;
    // An answer that another call of its key may have been given first is of that one's time.
    let of_its_own = |call: &&Call| call.version().is_some() && call.begun_ns == call.invoke_ns;
    for call in histories.calls.iter().filter(of_its_own) {
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
