//! Several steps at once, judged as a whole.

use fencepost::graph::Rejection;
use fencepost::service::Accepted;

use super::Fixture;
use crate::support::ask::{
    accepted, delete_job, dry_run, put_dataset, put_job, rejected, rejection_of, write,
};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::audit;

pub fn two_jobs_swap_their_outputs_at_once(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("a", &[], &["x"]), put_job("b", &[], &["y"])]);
    accepted(&node, [put_job("a", &[], &["y"]), put_job("b", &[], &["x"])]);
    let image = fixture.node().read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(image.graph.dataset("x").unwrap().producer().unwrap().name(), &name("b"));
    audit(fixture.site());
}

pub fn one_bad_step_rejects_the_whole(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let before = audit(fixture.site()).digest;
    let (rejection, version) =
        rejected(&node, [put_job("a", &[], &["x"]), put_job("b", &[], &["x"])]);
    assert!(matches!(rejection, Rejection::SecondProducer { operation: 1, .. }), "{rejection:?}");
    assert_eq!((version, audit(fixture.site()).digest), (0, before));
}

pub fn existence_is_judged_step_by_step(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let verdict = write(&node, [put_job("j", &["x"], &[]), delete_job("j")]);
    assert_eq!(
        verdict,
        Ok(Accepted { version: 0, changed: false, created: false, subject_version: Some(0) })
    );
    let (rejection, _) = rejected(&node, [delete_job("j"), put_job("j", &[], &[])]);
    assert_eq!(rejection, Rejection::JobNotFound { name: name("j"), operation: 0 });
}

pub fn a_changeset_without_steps_changes_nothing(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    assert_eq!(
        write(&node, []),
        Ok(Accepted { version: 0, changed: false, created: false, subject_version: Some(0) })
    );
}

pub fn a_dry_run_judges_and_changes_nothing(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("a", &["x"], &["y"])]);
    let before = audit(fixture.site()).digest;
    let ask = |operations| node.write_and_wait(&name(GRAPH), dry_run(operations));
    assert_eq!(
        ask(vec![put_dataset("d")]),
        Ok(Accepted { version: 1, changed: true, created: true, subject_version: Some(1) })
    );
    assert_eq!(
        ask(vec![put_job("a", &["x"], &["y"])]),
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
    let (rejection, version) = rejection_of(ask(vec![put_job("b", &["y"], &["x"])]));
    assert!(matches!(rejection, Rejection::Cycle { .. }) && version == 1, "{rejection:?}");
    let after = audit(fixture.site());
    assert_eq!((after.version, &after.digest), (1, &before));
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.digest(), before);
}
