//! Many changes in one transaction: the rows are those of the last graph, whatever came and went in
//! between, and ids that were given back and used again tell nobody apart.

use std::ops::Bound;

use fencepost::graph::{Decision, Graph, Job, Operation, Side, decide};
use fencepost::store::{Commit, Entry, Fence};

use crate::support::ask::{
    add, changeset, delete_dataset, delete_job, patch_inputs, put_dataset, put_job_with, remove,
};
use crate::support::cluster::{GRAPH, Site, name};
use crate::support::storm::{Choices, audit};

const ROUNDS: usize = 300;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn any_operation(random: &mut Choices) -> Operation {
    let mut pick = || NAMES[random.below(NAMES.len())];
    let (job, one, two) = (pick(), pick(), pick());
    match random.below(9) {
        0..3 => put_job_with(
            job,
            &[one],
            &[two],
            if random.below(2) == 0 { "{}" } else { r#"{"n":1}"# },
        ),
        3 => delete_job(job),
        4 => put_dataset(one),
        5 => delete_dataset(one),
        6 => add(if random.below(2) == 0 { Side::Input } else { Side::Output }, job, one),
        7 => remove(if random.below(2) == 0 { Side::Input } else { Side::Output }, job, one),
        _ => patch_inputs(job, &[one, two]),
    }
}

/// As many changes as the rules allow of up to forty, each on the graph that the one before leads
/// to.
fn any_batch(random: &mut Choices, from: &Graph) -> Vec<Decision> {
    let mut batch: Vec<Decision> = Vec::new();
    for _ in 0..1 + random.below(40) {
        let operations: Vec<_> = (0..1 + random.below(3)).map(|_| any_operation(random)).collect();
        let graph = batch.last().map_or(from, |decision| &decision.next);
        let Ok(decision) = decide(graph, &changeset(operations).command) else { continue };
        if !decision.change.is_empty() {
            batch.push(decision);
        }
    }
    batch
}

#[test]
fn rows_are_those_of_the_last_graph_of_a_batch() {
    let site = Site::with_graph();
    let store = site.store();
    let mut random = Choices(7);
    let (mut replaced, mut largest) = (0, 0);
    for round in 0..ROUNDS {
        let (head, before) = store.load(&name(GRAPH)).unwrap().unwrap();
        let batch = any_batch(&mut random, &before);
        let Some(last) = batch.last() else { continue };
        let entries: Vec<Entry<'_>> = batch
            .iter()
            .map(|decision| Entry {
                change: &decision.change,
                version: decision.next.version(),
                touched: &decision.touched,
                actor: None,
                request: None,
            })
            .collect();
        let commit = Commit {
            read: &head,
            fence: Fence::Token(head.fence + 1),
            attempt: &format!("round {round}"),
            before: &before,
            after: &last.next,
            entries: &entries,
            keys: &[],
            answers: &[],
            deletes_graph: false,
        };
        store.commit(&commit).unwrap();
        let (head, after) = store.load(&name(GRAPH)).unwrap().unwrap();
        assert_eq!(
            (head.version, after.digest()),
            (last.next.version(), last.next.digest()),
            "round {round}"
        );
        let is_replaced = |job: &Job<'_>| {
            last.next.job_of_id(job.id()).is_some_and(|after| after.name() != job.name())
        };
        replaced += before.jobs_from(Bound::Unbounded).filter(is_replaced).count();
        largest = largest.max(batch.len());
        if round % 20 == 0 {
            audit(&site);
        }
    }
    assert!(
        replaced > 20 && largest > 5,
        "ids were hardly used again: {replaced}, and batches were small: {largest}"
    );
    audit(&site);
}
