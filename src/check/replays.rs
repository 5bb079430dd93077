//! Writes that were sent again with an idempotency key: all that have one key are applied once at
//! most, and once one was accepted, its answer is what all get that ask for the same.
//!
//! Keys are of one file: two runs do not share any.

use std::collections::BTreeMap;

use serde_json::json;

use super::finding::{Finding, Kind};
use super::history::{Call, End, Histories, is_problem};
use super::json;

/// The calls of each key.
pub struct Replays(Vec<Vec<usize>>);

impl Replays {
    /// Finds them, and marks those that were not applied, or whose being applied would be another's.
    /// O(n log n).
    pub fn mark(histories: &mut Histories) -> Self {
        let mut by_key: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
        for (at, call) in histories.calls.iter().enumerate() {
            if let Some(key) = &call.asked.key {
                by_key.entry((call.file, key)).or_default().push(at);
            }
        }
        let groups: Vec<Vec<usize>> = by_key.into_values().collect();
        for group in &groups {
            mark_group(&mut histories.calls, group);
        }
        Self(groups)
    }

    /// Holds what each call with a key was answered against what the first was that was accepted.
    ///
    /// # Errors
    /// The first answer that does not fit.
    pub fn check(&self, histories: &Histories) -> Result<(), Box<Finding>> {
        for group in &self.0 {
            let calls: Vec<&Call> = group.iter().map(|&at| &histories.calls[at]).collect();
            let first = first_accepted(&histories.calls, group).map(|at| &histories.calls[at]);
            for call in &calls {
                check_call(histories, &calls, first, call)?;
            }
        }
        Ok(())
    }
}

/// The call that was accepted and answered first.
fn first_accepted(calls: &[Call], group: &[usize]) -> Option<usize> {
    let accepted = group.iter().copied().filter(|&at| is_accepted(&calls[at]));
    accepted.min_by_key(|&at| (calls[at].end_ns, calls[at].id))
}

fn is_accepted(call: &Call) -> bool {
    matches!(call.end, End::Accepted { .. })
}

fn may_be_applied(call: &Call) -> bool {
    matches!(call.end, End::Accepted { .. } | End::Unknown { .. } | End::Undocumented { .. })
}

fn mark_group(calls: &mut [Call], group: &[usize]) {
    let first = first_accepted(calls, group);
    // Of unknown ones that ask for the same, and none was accepted, one stands for all.
    let mut stands: Vec<usize> = first.into_iter().collect();
    for &at in group {
        if Some(at) == first || !may_be_applied(&calls[at]) {
            continue;
        }
        let same = |other: &usize| calls[*other].asked.text == calls[at].asked.text;
        let standing = stands.iter().copied().find(same);
        if let Some(standing) = standing {
            // Perhaps it was this one that was applied.
            calls[standing].begun_ns = calls[standing].begun_ns.min(calls[at].invoke_ns);
            calls[at].is_replay = true;
        } else if first.is_some() {
            // What is accepted under a key leaves nothing to be applied.
            calls[at].is_replay = true;
        } else {
            stands.push(at);
        }
    }
    // Keys are looked up at the version that a call is decided at, or later.
    let rejected = group.iter().filter_map(|&at| match calls[at].end {
        End::Rejected { version, .. } => version,
        _ => None,
    });
    let rejected = rejected.max().unwrap_or_default();
    for &at in &stands {
        (calls[at].applied_after, calls[at].slot) = (rejected, stands[0]);
    }
}

fn check_call(
    histories: &Histories,
    calls: &[&Call],
    first: Option<&Call>,
    call: &Call,
) -> Result<(), Box<Finding>> {
    let found = |kind, other: Option<&Call>, expected: &str, why: &str| {
        let operations = other.into_iter().chain([call]).map(|call| histories.involved(call));
        let version = first.and_then(Call::version);
        Err(Finding::new(kind, version, operations.collect(), expected, why))
    };
    let is_same = |other: &Call| other.asked.text == call.asked.text;
    if let End::Rejected { problem, .. } = &call.end
        && is_problem(problem, "idempotency_key_reused")
    {
        let used = match first {
            Some(first) => !is_same(first) && first.begun_ns < call.end_ns,
            None => calls.iter().any(|other| {
                !is_same(other) && may_be_applied(other) && other.invoke_ns < call.end_ns
            }),
        };
        if !used {
            let why = "no other request that had this key can have been accepted before";
            return found(Kind::WrongRejection, None, "a verdict at a version", why);
        }
        let status = json::members(problem, |name| name == "status").unwrap_or_default();
        return if status.get("status") == Some(&json!(422)) {
            Ok(())
        } else {
            let why = "that is what belongs to a key that was used before";
            found(Kind::WrongRejection, None, "a problem with status 422", why)
        };
    }
    let Some(first) = first.filter(|first| !std::ptr::eq(*first, call)) else { return Ok(()) };
    let made = first.version().unwrap_or_default();
    let too_late = matches!(call.end, End::Rejected { version: Some(at), .. }
        if made < at || made == at && first.made_its_version());
    let is_later = first.end_ns < call.invoke_ns || too_late;
    match &call.end {
        End::Accepted { .. } if !is_same(first) => {
            let why = "both have one key, and ask for something else: one of them can be accepted";
            found(Kind::WrongReplay, Some(first), "idempotency_key_reused", why)
        }
        End::Accepted { .. } if !is_same_answer(call, first) => {
            let both = [first, call].map(|call| match call.end {
                End::Accepted { version, changed: true, .. } => Some(version),
                _ => None,
            });
            let twice = matches!(both, [Some(one), Some(other)] if one != other);
            let kind = if twice { Kind::AppliedTwice } else { Kind::WrongReplay };
            let why = "both have one key, and the first was accepted";
            found(kind, Some(first), "the answer of the first", why)
        }
        // Whatever its key is, it was not read.
        End::Rejected { version: None, problem } if is_problem(problem, "too_large") => Ok(()),
        End::Rejected { .. } if is_later => {
            let expected =
                if is_same(first) { "the answer of the first" } else { "idempotency_key_reused" };
            let why = "both have one key, and the first had been accepted before it was sent";
            found(Kind::WrongReplay, Some(first), expected, why)
        }
        _ => Ok(()),
    }
}

/// Whether two writes that were accepted were told the same, headers and bodies included.
fn is_same_answer(one: &Call, other: &Call) -> bool {
    let told = |call: &Call| match &call.end {
        End::Accepted { version, changed, created, answer } => {
            Some((*version, *changed, *created, answer.clone()))
        }
        _ => None,
    };
    told(one) == told(other) && one.headers == other.headers
}
