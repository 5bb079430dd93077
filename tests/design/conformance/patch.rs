//! Jobs are changed in part.

use fencepost::graph::{JobPatch, Rejection, SpecPatch};
use fencepost::service::Accepted;

use super::Fixture;
use crate::support::ask::{
    accepted, json, patch_inputs, patch_job, put_job, put_job_with, rejected, write,
};
use crate::support::cluster::{GRAPH, name};

pub fn a_patch_changes_only_what_it_names(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job_with("j", &["x"], &["y"], r#"{"keep":1,"drop":2}"#)]);
    let spec = Some(SpecPatch::Merge(json(r#"{"drop":null,"new":3}"#)));
    assert_eq!(accepted(&node, [patch_job("j", JobPatch { spec, ..JobPatch::default() })]), 2);
    assert_eq!(accepted(&node, [patch_inputs("j", &["x", "w"])]), 3);
    let image = fixture.node().read_and_wait(&name(GRAPH)).unwrap();
    let job = image.graph.job("j").unwrap();
    assert_eq!((job.spec().as_str(), job.version()), (r#"{"keep":1,"new":3}"#, 3));
    assert_eq!((job.inputs(), job.outputs()), (vec![&name("w"), &name("x")], vec![&name("y")]));
}

pub fn a_patch_of_an_absent_job_is_refused(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let (rejection, _) = rejected(&node, [patch_inputs("j", &[])]);
    assert_eq!(rejection, Rejection::JobNotFound { name: name("j"), operation: 0 });
}

pub fn a_patch_that_changes_nothing_keeps_the_version(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &["x"], &["y"])]);
    let verdict = write(&node, [patch_inputs("j", &["x"])]);
    assert_eq!(
        verdict,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
}

pub fn a_patch_may_not_close_a_cycle(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("a", &[], &["x"]), put_job("b", &["x"], &["y"])]);
    let (rejection, _) = rejected(&node, [patch_inputs("a", &["y"])]);
    assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
}
