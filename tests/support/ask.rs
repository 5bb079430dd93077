//! Short ways to say what is asked of a node.

use std::sync::mpsc;

use fencepost::graph::{
    CanonicalJson, Changeset, Command, JobPatch, JobSpecification, Operation, Precondition,
    Rejection, Side, Step,
};
use fencepost::service::{Accepted, IdempotencyKey, Refusal, Service, Verdict, Write};

use crate::support::cluster::{GRAPH, name};

fn names(texts: &[&str]) -> Vec<fencepost::graph::Name> {
    let mut names: Vec<_> = texts.iter().map(|text| name(text)).collect();
    names.sort();
    names
}

pub fn json(text: &str) -> CanonicalJson {
    CanonicalJson::parse(text).unwrap()
}

pub fn put_job(job: &str, inputs: &[&str], outputs: &[&str]) -> Operation {
    put_job_with(job, inputs, outputs, "{}")
}

pub fn put_job_with(job: &str, inputs: &[&str], outputs: &[&str], spec: &str) -> Operation {
    let (inputs, outputs) = (names(inputs), names(outputs));
    Operation::PutJob(JobSpecification { name: name(job), inputs, outputs, spec: json(spec) })
}

pub fn patch_job(job: &str, patch: JobPatch) -> Operation {
    Operation::PatchJob { name: name(job), patch }
}

pub fn patch_inputs(job: &str, inputs: &[&str]) -> Operation {
    patch_job(job, JobPatch { inputs: Some(names(inputs)), ..JobPatch::default() })
}

pub fn delete_job(job: &str) -> Operation {
    Operation::DeleteJob { name: name(job) }
}

pub fn put_dataset(dataset: &str) -> Operation {
    Operation::PutDataset { name: name(dataset), metadata: CanonicalJson::default() }
}

pub fn delete_dataset(dataset: &str) -> Operation {
    Operation::DeleteDataset { name: name(dataset) }
}

pub fn add(side: Side, job: &str, dataset: &str) -> Operation {
    Operation::AddEdge { side, job: name(job), dataset: name(dataset) }
}

pub fn remove(side: Side, job: &str, dataset: &str) -> Operation {
    Operation::RemoveEdge { side, job: name(job), dataset: name(dataset) }
}

/// Whatever it holds.
pub fn delete_graph() -> Write {
    Command::DeleteGraph { precondition: Some(Precondition::Exists) }.into()
}

pub fn changeset(operations: impl IntoIterator<Item = Operation>) -> Write {
    Command::Changeset(operations.into_iter().collect()).into()
}

pub fn conditional(operation: Operation, precondition: Precondition) -> Write {
    let steps = vec![Step { operation, precondition: Some(precondition) }];
    Command::Changeset(Changeset { precondition: None, unchanged: None, steps }).into()
}

pub fn dry_run(operations: impl IntoIterator<Item = Operation>) -> Write {
    Write { dry_run: true, ..changeset(operations) }
}

/// With an idempotency key, and a fingerprint that stands for what is asked.
pub fn keyed(write: Write, key: &str, fingerprint: &str) -> Write {
    let idempotency = IdempotencyKey { key: key.to_owned(), fingerprint: fingerprint.to_owned() };
    Write { idempotency: Some(idempotency), ..write }
}

/// One changeset on [`GRAPH`].
pub fn write(node: &Service, operations: impl IntoIterator<Item = Operation>) -> Verdict {
    node.write_and_wait(&name(GRAPH), changeset(operations))
}

/// The version of an accepted changeset that changed something.
#[track_caller]
pub fn accepted(node: &Service, operations: impl IntoIterator<Item = Operation>) -> u64 {
    let Accepted { version, changed, .. } = write(node, operations).unwrap();
    assert!(changed, "nothing was changed");
    version
}

/// Why a changeset was rejected, and at which version.
#[track_caller]
pub fn rejected(
    node: &Service,
    operations: impl IntoIterator<Item = Operation>,
) -> (Rejection, u64) {
    rejection_of(write(node, operations))
}

#[track_caller]
pub fn rejection_of(verdict: Verdict) -> (Rejection, u64) {
    match verdict {
        Err(Refusal::Rejected { rejection, version }) => (rejection, version),
        other => panic!("not rejected by the rules: {other:?}"),
    }
}

/// Puts writes in line without waiting; their verdicts come in the order in which they are asked
/// for.
pub fn in_line(
    node: &Service,
    graph: &str,
    writes: impl IntoIterator<Item = Write>,
) -> Vec<mpsc::Receiver<Verdict>> {
    let send = |write| {
        let (sender, receiver) = mpsc::channel();
        node.write(&name(graph), write, move |verdict| drop(sender.send(verdict)));
        receiver
    };
    writes.into_iter().map(send).collect()
}

pub fn verdicts(waiting: Vec<mpsc::Receiver<Verdict>>) -> Vec<Verdict> {
    waiting
        .into_iter()
        .map(|verdict| verdict.recv_timeout(crate::support::cluster::LIMIT).unwrap())
        .collect()
}
