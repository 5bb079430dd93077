//! Questions and their answers.

use fencepost::graph::{Change, Graph, PlanRequest, apply};

use super::Fixture;
use crate::support::ask::{accepted, delete_job, put_dataset, put_job, rejected};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::audit;

pub fn a_plan_lists_what_must_run_in_stages(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(
        &node,
        [put_job("extract", &["source"], &["raw"]), put_job("clean", &["raw"], &["clean"])],
    );
    accepted(
        &node,
        [
            put_job("report", &["clean", "raw"], &["report"]),
            put_job("unrelated", &["raw"], &["other"]),
        ],
    );
    let request = PlanRequest { datasets: vec![name("report")], ..PlanRequest::default() };
    let image = other.read_and_wait(&name(GRAPH)).unwrap();
    let plan = image.graph.plan(&request, 100).unwrap();
    assert_eq!(plan.stages, [[name("extract")], [name("clean")], [name("report")]]);
    assert_eq!(plan.sources, [name("source")]);
    assert_eq!(plan.dependencies.len(), 3);
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.plan(&request, 100).unwrap(), plan);
}

pub fn an_image_stays_as_it_is_while_writes_go_on(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &["x"], &["y"])]);
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    let before = image.graph.digest();
    accepted(&node, [delete_job("j")]);
    assert_eq!((image.key.version, image.graph.version(), image.graph.digest()), (1, 1, before));
}

pub fn a_rejection_tells_the_version_it_was_decided_at(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    for version in 1..5 {
        accepted(&node, [put_dataset(&format!("d{version}"))]);
        assert_eq!(rejected(&other, [delete_job("j")]).1, version);
    }
}

pub fn the_change_log_replays_to_the_same_digest(fixture: &impl Fixture) {
    if !fixture.has_history() {
        return;
    }
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("a", &["x"], &["y"]), put_dataset("d")]);
    accepted(&node, [put_job("b", &["y", "d"], &["z"])]);
    accepted(&node, [delete_job("a")]);
    node.write_and_wait(&name(GRAPH), crate::support::ask::delete_graph()).unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_job("c", &["z"], &["y"])]);
    let audit = audit(fixture.site());
    let replayed = audit.log.iter().fold(Graph::default(), |graph, logged| {
        apply(&graph, &Change::from_canonical_json(&logged.text).unwrap().0)
    });
    assert_eq!((replayed.version(), replayed.digest()), (audit.version, audit.digest.clone()));
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.digest(), audit.digest);
}
