//! Jobs and graphs go, and graphs come again.

use fencepost::graph::Rejection;
use fencepost::service::{Accepted, Refusal};

use super::Fixture;
use crate::support::ask::{
    accepted, changeset, delete_graph, delete_job, in_line, put_dataset, put_job, rejected,
    verdicts, write,
};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::audit;

pub fn a_deleted_job_takes_its_edges_and_implied_datasets_along(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(
        &node,
        [put_dataset("declared"), put_job("a", &["declared", "shared", "own"], &["out"])],
    );
    accepted(&node, [put_job("b", &["shared"], &[])]);
    assert_eq!(accepted(&node, [delete_job("a")]), 3);
    let image = fixture.node().read_and_wait(&name(GRAPH)).unwrap();
    let left: Vec<_> = image
        .graph
        .datasets_from(std::ops::Bound::Unbounded)
        .map(|dataset| dataset.name())
        .collect();
    assert_eq!(left, [&name("declared"), &name("shared")]);
    assert_eq!((image.graph.job_count(), image.graph.edge_count()), (1, 1));
    audit(fixture.site());
}

pub fn deleting_an_absent_job_is_refused(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let (rejection, _) = rejected(&node, [delete_job("j")]);
    assert_eq!(rejection, Rejection::JobNotFound { name: name("j"), operation: 0 });
}

pub fn a_deleted_graph_is_not_found_and_its_versions_go_on(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("j", &["x"], &["y"])]);
    other.read_and_wait(&name(GRAPH)).unwrap();
    let verdict = node.write_and_wait(&name(GRAPH), delete_graph());
    assert_eq!(
        verdict,
        Ok(Accepted { version: 2, changed: true, created: false, subject_version: None })
    );
    let not_found = Refusal::GraphNotFound { graph: name(GRAPH) };
    for node in [&node, &other, &fixture.node()] {
        assert_eq!(node.read_and_wait(&name(GRAPH)).err(), Some(not_found.clone()));
        assert_eq!(write(node, [put_dataset("d")]), Err(not_found.clone()));
        assert_eq!(node.write_and_wait(&name(GRAPH), delete_graph()), Err(not_found.clone()));
    }
    assert_eq!(audit(fixture.site()).version, 2);
}

pub fn a_graph_deleted_and_created_again_while_another_node_holds_its_image(
    fixture: &impl Fixture,
) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("old", &["x"], &["y"])]);
    assert_eq!(other.read_and_wait(&name(GRAPH)).unwrap().graph.job_count(), 1);
    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    // A cycle with what was there, were it still there.
    assert_eq!(accepted(&other, [put_job("new", &["y"], &["x"])]), 3);
    let image = other.read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!((image.graph.job("old").is_some(), image.graph.job("new").is_some()), (false, true));
    assert_eq!(
        node.read_and_wait(&name(GRAPH)).unwrap().graph.digest(),
        audit(fixture.site()).digest
    );
}

pub fn what_was_in_line_behind_a_deletion_finds_no_graph(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    let held_up = fixture.hold_up(&node);
    let rest = in_line(
        &node,
        GRAPH,
        [changeset([put_dataset("f")]), delete_graph(), changeset([put_dataset("g")])],
    );
    held_up.release();
    let versions: Vec<_> = verdicts(rest).into_iter().map(|v| v.map(|a| a.version)).collect();
    assert_eq!(versions, [Ok(2), Ok(3), Err(Refusal::GraphNotFound { graph: name(GRAPH) })]);
    assert_eq!(audit(fixture.site()).version, 3);
}
