//! Single edges.

use fencepost::graph::{Rejection, Side};
use fencepost::service::Accepted;

use super::Fixture;
use crate::support::ask::{accepted, add, put_dataset, put_job, rejected, remove, write};
use crate::support::cluster::name;
use crate::support::storm::audit;

pub fn an_edge_needs_both_its_ends(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let (rejection, _) = rejected(&node, [add(Side::Input, "j", "d")]);
    assert_eq!(rejection, Rejection::JobNotFound { name: name("j"), operation: 0 });
    accepted(&node, [put_job("j", &[], &[])]);
    let (rejection, _) = rejected(&node, [add(Side::Output, "j", "d")]);
    assert_eq!(rejection, Rejection::DatasetNotFound { name: name("d"), operation: 0 });
}

pub fn an_edge_is_added_once_and_removed_once(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &[], &[]), put_dataset("d")]);
    let verdict = write(&node, [add(Side::Input, "j", "d")]);
    assert_eq!(
        verdict,
        Ok(Accepted { version: 2, changed: true, created: true, subject_version: Some(2) })
    );
    let (rejection, _) = rejected(&node, [add(Side::Input, "j", "d")]);
    assert_eq!(
        rejection,
        Rejection::EdgeExists { job: name("j"), dataset: name("d"), operation: 0 }
    );
    assert_eq!(accepted(&node, [remove(Side::Input, "j", "d")]), 3);
    let (rejection, _) = rejected(&node, [remove(Side::Input, "j", "d")]);
    assert_eq!(
        rejection,
        Rejection::EdgeNotFound { job: name("j"), dataset: name("d"), operation: 0 }
    );
    assert_eq!(audit(fixture.site()).version, 3);
}

pub fn an_added_edge_may_not_break_a_rule(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("a", &["x"], &["y"]), put_job("b", &["y"], &["z"])]);
    let (rejection, _) = rejected(&node, [add(Side::Input, "a", "z")]);
    assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
    let (rejection, _) = rejected(&node, [add(Side::Output, "b", "y")]);
    assert!(matches!(rejection, Rejection::SecondProducer { .. }), "{rejection:?}");
}

pub fn one_edge_of_a_large_job_is_one_small_fact(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let inputs: Vec<String> = (0..1000).map(|n| format!("input-{n}")).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    accepted(&node, [put_job("j", &inputs, &[]), put_dataset("d")]);
    accepted(&node, [add(Side::Input, "j", "d")]);
    let log = audit(fixture.site()).log;
    assert!(log[1].text.len() < 200, "{}", log[1].text);
}
