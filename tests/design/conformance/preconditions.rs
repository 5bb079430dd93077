//! Writes that hold only if the graph is what the client thinks.

use fencepost::graph::{Changeset, Command, Operation, Precondition, Rejection, Side};
use fencepost::service::{Refusal, Service, Subject, Write};

use super::Fixture;
use crate::support::ask::{
    accepted, add, changeset, conditional, delete_dataset, delete_graph, delete_job, in_line,
    put_dataset, put_job, put_job_with, rejection_of, verdicts,
};
use crate::support::cluster::{GRAPH, name};
use crate::support::storm::audit;

fn failed(expected: Precondition, actual: Option<u64>) -> Rejection {
    Rejection::PreconditionFailed { expected, actual, operation: Some(0) }
}

pub fn a_write_at_the_version_of_the_job_holds(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("j", &["x"], &[])]);
    accepted(&node, [put_dataset("unrelated")]);
    let write = conditional(put_job("j", &["y"], &[]), Precondition::Version(1));
    assert_eq!(other.write_and_wait(&name(GRAPH), write).unwrap().version, 3);
}

pub fn a_write_at_another_version_is_refused(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_job("j", &["x"], &[])]);
    accepted(&other, [put_job("j", &["y"], &[])]);
    for (job, expected, actual) in [("j", 1, Some(2)), ("j", 3, Some(2)), ("absent", 1, None)] {
        let write = conditional(put_job(job, &["z"], &[]), Precondition::Version(expected));
        let (rejection, version) = rejection_of(node.write_and_wait(&name(GRAPH), write));
        assert_eq!((rejection, version), (failed(Precondition::Version(expected), actual), 2));
    }
    assert_eq!(audit(fixture.site()).version, 2);
}

pub fn a_job_that_must_be_absent_is_not_replaced(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    let write = || conditional(put_job("j", &["x"], &[]), Precondition::Absent);
    assert_eq!(node.write_and_wait(&name(GRAPH), write()).unwrap().version, 1);
    let (rejection, _) = rejection_of(other.write_and_wait(&name(GRAPH), write()));
    assert_eq!(rejection, failed(Precondition::Absent, Some(1)));
}

pub fn a_changeset_at_another_version_of_the_graph_is_refused(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    accepted(&node, [put_dataset("d")]);
    let at = |version| {
        let steps = vec![put_dataset("e").into()];
        let precondition = Some(Precondition::Version(version));
        Command::Changeset(Changeset { precondition, unchanged: None, steps }).into()
    };
    let (rejection, _) = rejection_of(other.write_and_wait(&name(GRAPH), at(0)));
    assert_eq!(
        rejection,
        Rejection::PreconditionFailed {
            expected: Precondition::Version(0),
            actual: Some(1),
            operation: None
        }
    );
    assert_eq!(other.write_and_wait(&name(GRAPH), at(1)).unwrap().version, 2);
    let deletion = Command::DeleteGraph { precondition: Some(Precondition::Version(1)) };
    let (rejection, _) = rejection_of(other.write_and_wait(&name(GRAPH), deletion.into()));
    assert_eq!(
        rejection,
        Rejection::PreconditionFailed {
            expected: Precondition::Version(1),
            actual: Some(2),
            operation: None
        }
    );
}

pub fn a_graph_that_is_not_empty_is_deleted_only_with_a_precondition(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    let delete = |node: &Service, precondition| {
        node.write_and_wait(&name(GRAPH), Command::DeleteGraph { precondition }.into())
    };
    let required = |actual| {
        let rejection = Rejection::PreconditionRequired { actual };
        Err(Refusal::Rejected { rejection, version: actual })
    };
    // Declared datasets count as jobs do.
    accepted(&node, [put_dataset("d")]);
    assert_eq!(delete(&other, None), required(1));
    accepted(&other, [delete_dataset("d"), put_job("j", &["x"], &[])]);
    assert_eq!(delete(&node, None), required(2));
    let none = Precondition::OneOf(vec![]);
    for (expected, holds) in [
        (none, false),
        (Precondition::OneOf(vec![1, 3]), false),
        (Precondition::Version(1), false),
        (Precondition::OneOf(vec![1, 2]), true),
        (Precondition::Version(3), false),
        (Precondition::Exists, true),
    ] {
        let before = audit(fixture.site()).version;
        let verdict = delete(&node, Some(expected.clone()));
        if holds {
            assert_eq!(verdict.unwrap().version, before + 1);
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            // An empty one takes none.
            assert_eq!(delete(&other, None).unwrap().version, before + 2);
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
            accepted(&node, [put_job("j", &[], &[])]);
        } else {
            let actual = Some(before);
            let rejection = Rejection::PreconditionFailed { expected, actual, operation: None };
            assert_eq!(verdict, Err(Refusal::Rejected { rejection, version: before }));
        }
    }
}

pub fn an_answer_tells_the_version_of_what_was_written(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    let told = |node: &Service, operation: Operation, subject: Subject| {
        let write = Write { subject, ..changeset([operation]) };
        node.write_and_wait(&name(GRAPH), write).unwrap().subject_version
    };
    let job = || Subject::Job(name("j"));
    let dataset = || Subject::Dataset(name("d"));
    assert_eq!(told(&node, put_job("j", &["x"], &[]), job()), Some(1));
    assert_eq!(told(&other, put_dataset("d"), dataset()), Some(2));
    // Nothing is changed: it is still that of the last change.
    assert_eq!(told(&node, put_job("j", &["x"], &[]), job()), Some(1));
    assert_eq!(told(&other, put_dataset("d"), dataset()), Some(2));
    assert_eq!(told(&other, put_dataset("e"), Subject::Graph), Some(3));
    assert_eq!(told(&other, put_dataset("d"), dataset()), Some(3));
    assert_eq!(told(&node, add(Side::Input, "j", "d"), job()), Some(4));
    assert_eq!(told(&other, delete_dataset("e"), Subject::Dataset(name("e"))), None);
    assert_eq!(told(&node, delete_job("j"), job()), None);
    assert_eq!(node.write_and_wait(&name(GRAPH), delete_graph()).unwrap().subject_version, None);
}

pub fn preconditions_are_judged_before_everything_else(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let write = conditional(delete_job("absent"), Precondition::Version(7));
    let (rejection, _) = rejection_of(node.write_and_wait(&name(GRAPH), write));
    assert_eq!(rejection, failed(Precondition::Version(7), None));
    let write = conditional(put_job("j", &["x"], &["x"]), Precondition::Version(7));
    let (rejection, _) = rejection_of(node.write_and_wait(&name(GRAPH), write));
    assert_eq!(rejection, failed(Precondition::Version(7), None));
}

pub fn of_writes_at_one_version_only_one_holds(fixture: &impl Fixture) {
    let nodes = [fixture.node_with_graph(), fixture.node()];
    accepted(&nodes[0], [put_job("j", &[], &[])]);
    let waiting = nodes.iter().enumerate().flat_map(|(n, node)| {
        let write = |k| {
            let spec = format!(r#"{{"writer":"{n}-{k}"}}"#);
            conditional(put_job_with("j", &[], &[], &spec), Precondition::Version(1))
        };
        in_line(node, GRAPH, (0..20).map(write))
    });
    let verdicts = verdicts(waiting.collect());
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 1);
    for verdict in verdicts.into_iter().filter(Result::is_err) {
        assert_eq!(rejection_of(verdict), (failed(Precondition::Version(1), Some(2)), 2));
    }
    assert_eq!(audit(fixture.site()).version, 2);
}
