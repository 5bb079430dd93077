//! Jobs come to be and are replaced.

use fencepost::graph::Rejection;
use fencepost::service::Accepted;

use super::Fixture;
use crate::support::ask::{accepted, put_job, put_job_with, rejected, write};
use crate::support::cluster::{GRAPH, name};

pub fn a_job_comes_with_its_edges_and_implied_datasets(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let verdict = write(
        &node,
        [put_job_with("j/1 \"q\" 日本", &["b", "a"], &["c"], r#"{"z":1.0,"a":[null]}"#)],
    );
    assert_eq!(
        verdict,
        Ok(Accepted { version: 1, changed: true, created: true, subject_version: Some(1) })
    );
    let image = fixture.node().read_and_wait(&name(GRAPH)).unwrap();
    let job = image.graph.job("j/1 \"q\" 日本").unwrap();
    assert_eq!(job.inputs(), [&name("a"), &name("b")]);
    assert_eq!(job.outputs(), [&name("c")]);
    assert_eq!((job.version(), job.spec().as_str()), (1, r#"{"a":[null],"z":1.0}"#));
    let produced = image.graph.dataset("c").unwrap();
    assert_eq!(produced.producer().unwrap().name(), job.name());
    assert_eq!(produced.metadata(), None);
    assert_eq!((image.graph.dataset_count(), image.graph.edge_count()), (3, 3));
}

pub fn replacing_a_job_drops_its_old_edges_first(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &["x"], &["y"])]);
    let verdict = write(&node, [put_job("j", &["y"], &["x"])]);
    assert_eq!(
        verdict,
        Ok(Accepted { version: 2, changed: true, created: false, subject_version: Some(2) })
    );
    crate::support::storm::audit(fixture.site());
}

pub fn putting_what_is_there_changes_nothing_and_keeps_the_version(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job_with("j", &["x", "w"], &["y"], r#"{"a":1,"b":2}"#)]);
    let again = write(&node, [put_job_with("j", &["w", "x"], &["y"], r#"{ "b":2, "a":1 }"#)]);
    assert_eq!(
        again,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
    assert_eq!(crate::support::storm::audit(fixture.site()).version, 1);
}

pub fn a_job_that_reads_what_it_writes_is_refused(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let (rejection, version) = rejected(&node, [put_job("j", &["x"], &["x"])]);
    let cycle = ["j", "x", "j"].map(name).to_vec();
    assert_eq!((rejection, version), (Rejection::Cycle { cycle, operation: 0 }, 0));
}

pub fn a_cycle_is_refused_with_its_path(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("b", &["1"], &["2"])]);
    accepted(&other, [put_job("c", &["2"], &["3"])]);
    let (rejection, version) = rejected(&node, [put_job("a", &["3"], &["1"])]);
    let cycle = ["a", "1", "b", "2", "c", "3", "a"].map(name).to_vec();
    assert_eq!((rejection, version), (Rejection::Cycle { cycle, operation: 0 }, 2));
    assert_eq!(crate::support::storm::audit(fixture.site()).version, 2);
}

pub fn a_second_producer_is_refused(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("a", &[], &["x"])]);
    let (rejection, _) = rejected(&other, [put_job("b", &[], &["x"])]);
    let (dataset, producer, job) = (name("x"), name("a"), name("b"));
    assert_eq!(rejection, Rejection::SecondProducer { dataset, producer, job, operation: 0 });
}

pub fn a_diamond_is_fine(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("top", &[], &["l", "r"]), put_job("left", &["l"], &["l2"])]);
    accepted(
        &node,
        [put_job("right", &["r"], &["r2"]), put_job("bottom", &["l2", "r2"], &["end"])],
    );
}
