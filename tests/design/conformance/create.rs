//! Graphs come to be.

use fencepost::service::{Accepted, Refusal};

use super::Fixture;
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job, write};
use crate::support::cluster::{GRAPH, name};

pub fn a_new_graph_is_empty_at_version_0(fixture: &impl Fixture) {
    let node = fixture.node();
    let verdict = node.create_graph_and_wait(&name(GRAPH));
    assert_eq!(
        verdict,
        Ok(Accepted { version: 0, changed: true, created: true, subject_version: Some(0) })
    );
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(
        (image.key.version, image.graph.job_count(), image.graph.dataset_count()),
        (0, 0, 0)
    );
}

pub fn creating_a_graph_that_is_there_changes_nothing(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    let verdict = node.create_graph_and_wait(&name(GRAPH));
    assert_eq!(
        verdict,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
}

pub fn an_unknown_graph_answers_not_found_and_is_not_remembered(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    for n in 0..50 {
        let unknown = name(&format!("unknown-{n}"));
        let not_found = Refusal::GraphNotFound { graph: unknown.clone() };
        assert_eq!(node.write_and_wait(&unknown, delete_graph()), Err(not_found.clone()));
        assert_eq!(node.read_and_wait(&unknown).err(), Some(not_found));
    }
    assert_eq!(node.metrics().graphs_held.get(), 1, "names that are no graphs are kept");
}

pub fn a_graph_created_again_continues_its_versions(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &["x"], &["y"])]);
    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    let again = node.create_graph_and_wait(&name(GRAPH));
    assert_eq!(
        again,
        Ok(Accepted { version: 2, changed: true, created: true, subject_version: Some(2) })
    );
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.job_count(), 0);
    assert_eq!(accepted(&node, [put_dataset("d")]), 3);
    crate::support::storm::audit(fixture.site());
}

pub fn two_nodes_create_one_graph(fixture: &impl Fixture) {
    let nodes = [fixture.node(), fixture.node()];
    for n in 0..20 {
        let graph = name(&format!("graph-{n}"));
        let created = std::thread::scope(|scope| {
            let creating = nodes
                .each_ref()
                .map(|node| scope.spawn(|| node.create_graph_and_wait(&graph).unwrap()));
            creating.map(|thread| thread.join().unwrap().created)
        });
        assert_eq!(created.iter().filter(|created| **created).count(), 1, "one of them created it");
    }
}

pub fn no_rule_spans_two_graphs(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let other = name("other");
    node.create_graph_and_wait(&other).unwrap();
    write(&node, [put_job("a", &["x"], &["y"])]).unwrap();
    let verdict = node.write_and_wait(
        &other,
        crate::support::ask::changeset([put_job("b", &["y"], &["x"]), put_job("c", &[], &["y"])]),
    );
    assert_eq!(
        verdict,
        Ok(Accepted { version: 1, changed: true, created: true, subject_version: Some(1) })
    );
}
