//! Turns that decide on the image at hand, without a look at the store: whatever another process
//! has done since, no verdict is given that the store's state would not give.
//!
//! The other process takes no lock, as one that has lost it unawares: so the turns that are tested
//! know nothing of it, although they have the lock.

use std::sync::Arc;

use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_naive::CRUD_NAIVE;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::{Design, TurnLimits};
use fencepost::graph::Precondition;
use fencepost::service::{Limits, Refusal, Service, Verdict, Write};
use fencepost::store::Store;

use super::node_held_up as node_of;
use crate::support::ask::{
    changeset, conditional, delete_dataset, delete_graph, delete_job, dry_run, in_line, keyed,
    put_dataset, put_job, verdicts,
};
use crate::support::cluster::{GRAPH, Kind, Site, in_child, name, start_optimistic};
use crate::support::stages::set;
use crate::support::storm::audit_without_tokens;

/// What the other process does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Foreign {
    Nothing,
    Puts,
    PutsWithKey,
    Deletes,
    DeletesGraph,
    CreatesGraphAgain,
    Freezes,
    FreezesElsewhere,
    Thaws,
}

use Foreign::{
    CreatesGraphAgain, Deletes, DeletesGraph, Freezes, FreezesElsewhere, Nothing, Puts,
    PutsWithKey, Thaws,
};

/// What can befall a graph that is open.
pub(super) const TO_OPEN: [Foreign; 7] =
    [Nothing, Puts, PutsWithKey, Deletes, DeletesGraph, CreatesGraphAgain, Freezes];
/// And one that is frozen.
const TO_FROZEN: [Foreign; 3] = [Nothing, FreezesElsewhere, Thaws];
/// And one that was deleted.
const TO_DELETED: [Foreign; 2] = [Nothing, CreatesGraphAgain];

impl Foreign {
    pub(super) fn happens(self, other: &Other, graph: &str) {
        let write = match self {
            Nothing => return,
            Freezes | FreezesElsewhere => {
                let to = if matches!(self, Freezes) { "there" } else { "elsewhere" };
                other.store.freeze(&name(graph), Some(to)).unwrap().unwrap();
                return;
            }
            Thaws => {
                other.store.thaw(&name(graph)).unwrap().unwrap();
                return;
            }
            CreatesGraphAgain => {
                drop(other.node.write_and_wait(&name(graph), delete_graph()));
                other.node.create_graph_and_wait(&name(graph)).unwrap();
                return;
            }
            Puts => changeset([put_dataset("theirs")]),
            PutsWithKey => keyed(changeset([put_dataset("theirs")]), "k", "f"),
            Deletes => changeset([delete_job("a")]),
            DeletesGraph => delete_graph(),
        };
        // After the batch it may find nothing to do.
        drop(other.node.write_and_wait(&name(graph), write));
    }
}

/// What the node under test is asked for at once.
pub(super) fn batches() -> Vec<Vec<Write>> {
    let theirs = || changeset([put_dataset("theirs")]);
    let at_two = Precondition::Version(2);
    let singles = [
        changeset([put_dataset("mine")]),
        theirs(),
        changeset([delete_dataset("theirs")]),
        changeset([delete_job("a")]),
        changeset([put_job("a", &["x"], &[])]),
        conditional(put_dataset("mine"), at_two),
        dry_run([delete_job("a")]),
        dry_run([delete_dataset("theirs")]),
        keyed(theirs(), "k", "f"),
        keyed(theirs(), "k", "another"),
        keyed(changeset([delete_dataset("theirs")]), "k", "f"),
        keyed(changeset([delete_dataset("missing")]), "k", "f"),
    ];
    let mut batches: Vec<Vec<Write>> = singles.iter().map(|one| vec![one.clone()]).collect();
    // One that is rejected beside one that is accepted, and beside one that only keeps an answer.
    batches.push(vec![singles[2].clone(), singles[0].clone()]);
    batches.push(vec![singles[2].clone(), keyed(changeset([put_dataset("x")]), "l", "f")]);
    batches.push(singles.into());
    batches
}

/// What happens before, so that the node knows of it, and what happens then.
fn cases() -> impl Iterator<Item = (Foreign, Foreign)> {
    let to = |first: Foreign, then: &'static [Foreign]| then.iter().map(move |then| (first, *then));
    to(Nothing, &TO_OPEN).chain(to(Freezes, &TO_FROZEN)).chain(to(DeletesGraph, &TO_DELETED))
}

/// When the other process does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    BeforeTheTurn,
    BeforeTheCommit,
}

/// Another process.
pub(super) struct Other {
    node: Service,
    store: Arc<Store>,
}

impl Other {
    pub(super) fn writes(&self, write: Write) {
        self.node.write_and_wait(&name(GRAPH), write).unwrap();
    }
}

pub(super) fn other_on(site: &Site) -> Arc<Other> {
    let store = Arc::new(site.store());
    let (limits, turn_limits) = (Limits::default(), TurnLimits::default());
    Arc::new(Other { node: start_optimistic(Arc::clone(&store), limits, turn_limits), store })
}

/// At version 3, with the image of that version at hand.
pub(super) fn prepare(node: &Service, graph: &str) {
    node.create_graph_and_wait(&name(graph)).unwrap();
    for operation in [put_job("a", &["x"], &["y"]), put_dataset("first"), put_dataset("second")] {
        node.write_and_wait(&name(graph), changeset([operation])).unwrap();
    }
}

/// The verdicts on writes to `graph`, without its name.
pub(super) fn outlines(verdicts: Vec<Verdict>, graph: &str) -> Vec<String> {
    verdicts.iter().map(|verdict| format!("{verdict:?}").replace(graph, GRAPH)).collect()
}

/// Every foreign write between every two steps of a turn, for every batch. The verdicts are those
/// of a node that keeps no image and looks each time, asked for one write after another, with the
/// foreign one somewhere between: before all of them, if it came before the turn.
fn every_foreign_write_is_seen(kind: Kind, design: &'static Design) {
    let site = Site::on(kind);
    let (store, node) = node_of(design, &site);
    let (_, looking) = node_of(&CRUD_NAIVE, &site);
    let other = other_on(&site);
    for (number, batch) in batches().into_iter().enumerate() {
        for (first, foreign) in cases() {
            let prepare = |graph: &str| {
                prepare(&node, graph);
                first.happens(&other, graph);
                // It learns of that.
                drop(node.write_and_wait(&name(graph), changeset([delete_dataset("missing")])));
            };
            let expected = |place: usize| {
                let graph = format!("{number}-{first:?}-{foreign:?}-{place}");
                prepare(&graph);
                let mut verdicts = Vec::new();
                for (at, write) in batch.iter().enumerate() {
                    if at == place {
                        foreign.happens(&other, &graph);
                    }
                    verdicts.push(looking.write_and_wait(&name(&graph), write.clone()));
                }
                outlines(verdicts, &graph)
            };
            let expected: Vec<Vec<String>> = (0..batch.len()).map(expected).collect();
            for when in [When::BeforeTheTurn, When::BeforeTheCommit] {
                let graph = format!("{number}-{first:?}-{foreign:?}-{when:?}");
                prepare(&graph);
                if when == When::BeforeTheCommit {
                    let (other, graph) = (Arc::clone(&other), graph.clone());
                    set(&store.before_commit, move || foreign.happens(&other, &graph));
                } else {
                    foreign.happens(&other, &graph);
                }
                let found = verdicts(in_line(&node, &graph, batch.iter().cloned()));
                let found = outlines(found, &graph);
                // Without a commit nobody was held up, and nothing happened.
                if store.before_commit.lock().unwrap().take().is_some() {
                    continue;
                }
                // The first writes may have had a turn of their own before.
                let places = if when == When::BeforeTheTurn { 1 } else { batch.len() };
                assert!(
                    expected[..places].contains(&found),
                    "{design}: {first:?}, {foreign:?} {when:?}: {batch:?}: {found:?}, not {:?}",
                    expected[0]
                );
                if !matches!(first, DeletesGraph) && !matches!(foreign, DeletesGraph) {
                    audit_without_tokens(&mut site.sql(), &graph);
                }
            }
        }
    }
}

#[test]
fn under_a_lock_every_foreign_write_is_seen_on_sqlite() {
    every_foreign_write_is_seen(Kind::Sqlite, &CRUD_DELTA);
}

#[test]
fn under_a_lock_every_foreign_write_is_seen_on_postgres() {
    every_foreign_write_is_seen(Kind::Postgres, &CRUD_DELTA);
}

#[test]
fn without_a_lock_every_foreign_write_is_seen_on_sqlite() {
    every_foreign_write_is_seen(Kind::Sqlite, &CRUD_OPTIMISTIC);
}

#[test]
fn without_a_lock_every_foreign_write_is_seen_on_postgres() {
    every_foreign_write_is_seen(Kind::Postgres, &CRUD_OPTIMISTIC);
}

/// The verdict on one write, after a foreign one that the node knows nothing of.
fn verdict_after(foreign: Foreign, write: Write) -> Verdict {
    let site = Site::new();
    let (_, node) = node_of(&CRUD_DELTA, &site);
    prepare(&node, GRAPH);
    foreign.happens(&other_on(&site), GRAPH);
    node.write_and_wait(&name(GRAPH), write)
}

/// The negative control: a batch that commits nothing is answered from an old image.
#[test]
fn without_the_look_of_a_batch_that_commits_nothing_an_old_verdict_is_given() {
    in_child(
        concat!(
            module_path!(),
            "::without_the_look_of_a_batch_that_commits_nothing_an_old_verdict_is_given"
        ),
        "confirmation=off",
        || {
            let verdict = verdict_after(Puts, changeset([delete_dataset("theirs")]));
            assert!(matches!(verdict, Err(Refusal::Rejected { .. })), "{verdict:?}");
        },
    );
}

/// The negative control: a request that comes twice is carried out twice.
#[test]
fn without_the_comparison_of_keys_a_request_is_judged_twice() {
    in_child(
        concat!(module_path!(), "::without_the_comparison_of_keys_a_request_is_judged_twice"),
        "kept-keys=off",
        || {
            let again = || keyed(changeset([delete_dataset("first")]), "k", "f");
            let site = Site::on(Kind::Sqlite);
            let (_, node) = node_of(&CRUD_DELTA, &site);
            prepare(&node, GRAPH);
            node.write_and_wait(&name(GRAPH), again()).unwrap();
            let second = node.write_and_wait(&name(GRAPH), again());
            assert!(matches!(second, Err(Refusal::Rejected { .. })), "{second:?}");
        },
    );
}
