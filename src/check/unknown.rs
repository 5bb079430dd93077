//! Writes whose outcome is unknown: which of them made the versions that nobody was told of.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::facts::Fact;
use super::history::{Call, Histories};
use super::recorded_request::{Request, Text};

/// The unknown writes of some histories.
pub struct Unknowns<'h> {
    /// In the order in which they were sent.
    all: Vec<usize>,
    /// The slots of those that were applied.
    taken: HashSet<usize>,
    by_target: HashMap<&'h Text, Vec<usize>>,
    /// Those that delete the graph.
    deletions: Vec<usize>,
}

impl<'h> Unknowns<'h> {
    /// O(n log n).
    pub fn of(histories: &'h Histories) -> Self {
        let calls = &histories.calls;
        let mut all: Vec<usize> =
            (0..calls.len()).filter(|&at| calls[at].may_have_written()).collect();
        all.sort_unstable_by_key(|&at| calls[at].begun_ns);
        let mut by_target: HashMap<&Text, Vec<usize>> = HashMap::new();
        for &at in &all {
            targets(&calls[at].asked.request)
                .into_iter()
                .for_each(|name| by_target.entry(name).or_default().push(at));
        }
        let deletes = |at: &usize| matches!(calls[*at].asked.request, Request::DeleteGraph);
        let deletions = all.iter().copied().filter(deletes).collect();
        Self { all, taken: HashSet::new(), by_target, deletions }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many were found to have been applied.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Those that are not known to have been applied.
    pub fn free(&self, calls: &[Call]) -> impl Iterator<Item = usize> {
        self.all.iter().copied().filter(|&at| !self.taken.contains(&calls[at].slot))
    }

    /// Makes one known, and with it all that have its key.
    pub fn take(&mut self, call: &Call) {
        self.taken.insert(call.slot);
    }

    /// Those that name what the first fact is about: no other can have led to it.
    pub fn about(&self, facts: &[Fact]) -> impl Iterator<Item = usize> {
        let about = match facts.first() {
            Some(Fact::GraphDeleted) => Some(&self.deletions),
            first => first.and_then(Fact::name).and_then(|name| self.by_target.get(name)),
        };
        about.into_iter().flatten().copied()
    }

    /// Writes about the same whose clients were told that nothing was changed. O(n): asked once,
    /// when all is lost.
    pub fn told_otherwise(
        &self,
        histories: &'h Histories,
        facts: &'h [Fact],
    ) -> impl Iterator<Item = usize> {
        let calls = histories.calls.iter().enumerate();
        let about = move |request: &Request| match facts.first() {
            Some(Fact::GraphDeleted) => matches!(request, Request::DeleteGraph),
            first => first.and_then(Fact::name).is_some_and(|name| targets(request).contains(name)),
        };
        calls
            .filter(move |(_, call)| call.told_not_applied() && about(&call.asked.request))
            .map(|(at, _)| at)
    }
}

fn targets(request: &Request) -> BTreeSet<&Text> {
    match request {
        Request::Write { steps, .. } => steps.iter().map(|step| step.operation.target()).collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether each version can have an unknown write of its own, of those that could have made it: a
/// matching, by augmenting paths. O(versions · candidates) at worst; where most have one candidate,
/// O(candidates).
///
/// # Errors
/// The first version for which none is left.
pub fn settle(orphans: &[(u64, Vec<usize>)]) -> Result<(), u64> {
    let mut holder: HashMap<usize, usize> = HashMap::new();
    for (start, (version, _)) in orphans.iter().enumerate() {
        // From a version by its candidates to the versions that hold them, until one is free.
        let mut reached_from: HashMap<usize, usize> = HashMap::new();
        let mut waiting = VecDeque::from([start]);
        let mut free = None;
        while let Some(orphan) = waiting.pop_front() {
            for &candidate in &orphans[orphan].1 {
                if reached_from.contains_key(&candidate) {
                    continue;
                }
                reached_from.insert(candidate, orphan);
                match holder.get(&candidate) {
                    Some(&other) => waiting.push_back(other),
                    None => free = free.or(Some(candidate)),
                }
            }
            if free.is_some() {
                break;
            }
        }
        let mut candidate = free.ok_or(*version)?;
        loop {
            let orphan = reached_from[&candidate];
            let held =
                orphans[orphan].1.iter().copied().find(|other| holder.get(other) == Some(&orphan));
            holder.insert(candidate, orphan);
            match held {
                // It gave up what it held, to whoever wanted that.
                Some(given_up) if orphan != start => candidate = given_up,
                _ => break,
            }
        }
    }
    Ok(())
}
