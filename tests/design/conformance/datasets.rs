//! Datasets, declared and implied.

use fencepost::graph::{Operation, Rejection};
use fencepost::service::Accepted;

use super::Fixture;
use crate::support::ask::{
    accepted, delete_dataset, delete_job, json, put_dataset, put_job, rejected, write,
};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::audit;

pub fn a_declared_dataset_outlives_its_mentions(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d"), put_job("j", &["d"], &["implied"])]);
    accepted(&node, [delete_job("j")]);
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    assert!(image.graph.dataset("d").is_some() && image.graph.dataset("implied").is_none());
}

pub fn a_dataset_in_use_is_not_deleted(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d"), put_job("j", &["d"], &[])]);
    let (rejection, _) = rejected(&node, [delete_dataset("d")]);
    assert_eq!(
        rejection,
        Rejection::DatasetInUse { name: name("d"), jobs: vec![name("j")], operation: 0 }
    );
    accepted(&node, [delete_dataset("d"), delete_job("j")]);
    assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().graph.dataset_count(), 0);
}

pub fn metadata_is_replaced_and_equal_metadata_changes_nothing(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let put = |metadata: &str| Operation::PutDataset { name: name("d"), metadata: json(metadata) };
    accepted(&node, [put(r#"{"a":1}"#)]);
    assert_eq!(
        write(&node, [put(r#"{ "a": 1 }"#)]),
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
    assert_eq!(accepted(&node, [put("{}")]), 2);
    let image = fixture.node().read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(image.graph.dataset("d").unwrap().metadata().unwrap().as_str(), "{}");
}

pub fn an_implied_dataset_can_be_declared_and_undeclared(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_job("j", &["d"], &[])]);
    accepted(&node, [put_dataset("d")]);
    accepted(&node, [put_job("j", &[], &[])]);
    accepted(&node, [delete_dataset("d")]);
    assert_eq!(audit(fixture.site()).version, 4);
    let (rejection, _) = rejected(&node, [delete_dataset("d")]);
    assert_eq!(rejection, Rejection::DatasetNotFound { name: name("d"), operation: 0 });
}
