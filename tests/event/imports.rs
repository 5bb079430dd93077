//! A graph as events: every prefix legal, equal graphs in equal bytes, and back again.

use std::collections::BTreeSet;

use fencepost::graph::{Change, Graph, SortedGraph, replay};

use super::{History, lines, replayed};
use crate::support::event_log;

fn facts(line: &str) -> (Change, Option<u64>) {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let (change, _, job_version) = Change::from_event_json(&event["data"].to_string()).unwrap();
    (change, job_version)
}

#[test]
fn a_log_replays_to_the_graph_with_its_versions() {
    for seed in 0..30 {
        let history = History::of("g", seed, 25);
        for version in [0, 1, 7, 25] {
            let log = history.log(version);
            let came_to = replayed(&log).unwrap();
            let last = history.graphs.last().unwrap();
            assert_eq!(came_to.chain, history.logged.last().unwrap().chain);
            assert_eq!((came_to.graph.version(), came_to.first_version), (25, version as u64));
            assert_eq!(came_to.graph.digest(), last.digest());
            for job in last.jobs_from(std::ops::Bound::Unbounded) {
                assert_eq!(
                    came_to.graph.job(job.name().as_str()).unwrap().version(),
                    job.version()
                );
            }
            let told = event_log::replay("g", log.iter().map(String::as_str));
            assert_eq!((told.version, told.digest), (25, last.digest()));
        }
        // Without a graph at the beginning.
        assert_eq!(
            replayed(&history.changes(0)).unwrap().graph.digest(),
            history.graphs[25].digest()
        );
    }
}

#[test]
fn every_prefix_of_an_import_is_a_legal_graph() {
    for seed in 0..30 {
        let history = History::of("g", seed, 40);
        let log = lines(history.import(40));
        let mut graph = Graph::default();
        for line in &log[1..log.len() - 1] {
            graph = replay(graph, &facts(line).0).unwrap();
            assert!(graph.is_acyclic());
        }
        assert_eq!(graph.digest(), history.graphs[40].digest());
    }
}

#[test]
fn a_job_comes_after_those_that_produce_what_it_reads_and_otherwise_in_byte_order() {
    let history = History::of("g", 8, 60);
    let graph = &history.graphs[60];
    let sorted = SortedGraph::of(graph);
    let names: Vec<&str> =
        graph.jobs_from(std::ops::Bound::Unbounded).map(|job| job.name().as_str()).collect();
    let told: Vec<&str> =
        sorted.jobs_by_generation().iter().map(|job| names[*job as usize]).collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), names.len());
    let stage = |name: &str| -> usize {
        let request = fencepost::graph::PlanRequest {
            jobs: vec![crate::support::cluster::name(name)],
            ..Default::default()
        };
        graph.plan(&request, usize::MAX).unwrap().stages.len()
    };
    let mut expected = names.clone();
    expected.sort_by_key(|name| (stage(name), name.to_string()));
    assert_eq!(told, expected);
}

#[test]
fn equal_graphs_give_equal_bytes_however_they_came_to_be() {
    let history = History::of("g", 4, 50);
    let first = lines(history.import(50));
    // From rows, in other slots.
    let again = replayed(&first).unwrap().graph;
    let chain = history.logged[49].chain;
    let time = Some(history.logged[49].committed_at_ms);
    let second =
        lines(fencepost::event::Importing::new(history.stream.clone(), again, chain, time));
    assert_eq!(first, second);
}

#[test]
fn an_import_that_was_left_unfinished_is_begun_anew_and_counts_no_more() {
    let history = History::of("g", 6, 30);
    let unfinished = lines(history.import(10));
    for kept in [1, 2, unfinished.len() / 2, unfinished.len() - 1] {
        for version in [10, 20] {
            let mut log = unfinished[..kept].to_vec();
            let last = fencepost::event::EventIndex { version: 10, ordinal: kept as u64 - 1 };
            log.extend(lines(history.import(version).abandoning(last)));
            log.extend(history.changes(version));
            let came_to = replayed(&log).unwrap();
            assert_eq!(
                (came_to.graph.digest(), came_to.first_version),
                (history.graphs[30].digest(), version as u64)
            );
            let told = event_log::replay("g", log.iter().map(String::as_str));
            assert_eq!((told.imports, told.digest), (2, history.graphs[30].digest()));
            // Whoever reads it must not take the two for one.
            log.remove(kept);
            replayed(&log).unwrap_err();
        }
    }
}
