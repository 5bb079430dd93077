//! A graph's own row, compared with its log.

use super::difference::GraphFault;
use crate::archive::past::Past;
use crate::store::{GraphState, History, LogEnds};

/// How the row differs from where the log begins and ends; of a graph without a log beside it, only
/// whether a value of it is of another type.
pub(super) fn faults_of_ends(ends: &LogEnds, history: History) -> Vec<GraphFault> {
    let LogEnds { head, oldest_logged: first, newest_logged: newest, snapshot, damaged } = ends;
    let (version, oldest) = (head.version, head.oldest);
    let mut faults: Vec<GraphFault> = damaged.iter().cloned().map(GraphFault::Field).collect();
    if history != History::Beside {
        return faults;
    }
    // While a log is pruned, and after that was cut short, it still has changes before it.
    let begins_later = first.is_some_and(|first| first > oldest && oldest <= version);
    let is_pruned_without_snapshot = oldest > 1 && snapshot.is_none();
    if !(1..=version + 1).contains(&oldest) || begins_later || is_pruned_without_snapshot {
        faults.push(GraphFault::Oldest { oldest, first: *first, version });
    }
    match *newest {
        Some(newest) if newest > version => {
            faults.push(GraphFault::ChangesAfter { version, newest });
        }
        newest if newest < Some(version) && oldest <= version => {
            faults.push(GraphFault::ChangesMissing { version, newest });
        }
        _ => {}
    }
    faults
}

/// How the row of `replayed` differs from what the log leads to, where it was replayed to the row's
/// version.
pub(super) fn faults_of_replayed(replayed: &Past) -> Vec<GraphFault> {
    let Past { head, graph, chain, .. } = replayed;
    if graph.version() != head.version {
        return Vec::new();
    }
    let is_empty = graph.job_count() == 0 && graph.dataset_count() == 0;
    let faults = [
        (head.chain != *chain).then_some(GraphFault::Chain),
        (head.state == GraphState::Deleted && !is_empty).then_some(GraphFault::Deleted),
    ];
    faults.into_iter().flatten().collect()
}
