//! Writes that wait for one turn are served together, as if one by one; or one by one, where the
//! design shares no turns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::mpsc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use fencepost::graph::{Changeset, Command, Precondition, Rejection};
use fencepost::lock::Mode;
use fencepost::service::{Accepted, IdempotencyKey, Limits, Refusal, Service, Verdict, Write};

use super::{Fixture, unhurried};
use crate::support::ask::{
    accepted, changeset, conditional, delete_job, dry_run, in_line, keyed, put_dataset, put_job,
    rejection_of, verdicts, write,
};
use crate::support::cluster::{GRAPH, LIMIT, name, wait_until};
use crate::support::requests::Requests;
use crate::support::storm::{audit, audit_graph};

/// Puts `writes` in line while nobody can take a turn, so that one turn serves them all, if turns
/// are shared; says what each was answered.
fn served_together(fixture: &impl Fixture, node: &Service, writes: Vec<Write>) -> Vec<Verdict> {
    let count = writes.len();
    let before = (
        node.metrics().write_batch.get_sample_count(),
        node.metrics().write_batch.get_sample_sum(),
    );
    // The one that holds up the line is a turn of its own.
    let held_up = fixture.hold_up(node);
    let waiting = in_line(node, GRAPH, writes);
    assert_eq!(node.waiting().0, count);
    held_up.release();
    let verdicts = verdicts(waiting);
    let turns = node.metrics().write_batch.get_sample_count() - before.0;
    let served = node.metrics().write_batch.get_sample_sum() - before.1;
    let for_the_rest = fixture.turns_for(count as u64);
    assert_eq!(
        (turns, served),
        (1 + for_the_rest, count as f64 + 1.0),
        "one turn for the first, and those for the rest"
    );
    verdicts
}

pub fn writes_in_line_are_served_together_each_with_its_own_verdict(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    let writes = (0..100).map(|n| changeset([put_job(&format!("job-{n}"), &["d"], &[])])).collect();
    let verdicts = served_together(fixture, &node, writes);
    for (n, verdict) in verdicts.into_iter().enumerate() {
        assert_eq!(
            verdict,
            Ok(Accepted {
                version: n as u64 + 2,
                changed: true,
                created: true,
                subject_version: Some(n as u64 + 2)
            })
        );
    }
    let audit = audit(fixture.site());
    assert_eq!(audit.version, 101);
    let mut transactions = HashSet::new();
    for (n, logged) in audit.log[1..].iter().enumerate() {
        assert!(
            logged.text.contains(&format!("\"job-{n}\"")) || !fixture.has_history(),
            "each has a change row of its own: {}",
            logged.text
        );
        transactions.insert((logged.token, &logged.attempt));
    }
    assert_eq!(transactions.len() as u64, fixture.turns_for(100), "one transaction for a turn");
}

/// Accepted, rejected, changing nothing, judged only, conditional, with a key: each seeing those
/// before it.
fn of_every_kind() -> Vec<Write> {
    vec![
        changeset([put_job("a", &["x"], &["y"])]),
        changeset([put_job("b", &["y"], &["x"])]),
        changeset([put_job("a", &["x"], &["y"])]),
        dry_run([put_job("c", &["y"], &["z"])]),
        conditional(put_job("a", &["w"], &["y"]), Precondition::Version(2)),
        conditional(put_job("a", &["w"], &["y"]), Precondition::Version(2)),
        keyed(changeset([put_job("c", &["y"], &["z"])]), "k", "f"),
        keyed(changeset([put_job("c", &["y"], &["z"])]), "k", "f"),
        keyed(changeset([put_dataset("other")]), "k", "g"),
        keyed(changeset([delete_job("absent")]), "l", "f"),
        keyed(changeset([put_dataset("d")]), "l", "f"),
        dry_run([delete_job("absent")]),
        changeset([put_job("e", &["z"], &["w"])]),
        changeset([delete_job("c")]),
        changeset([put_job("e", &["z"], &["w"])]),
        conditional(put_dataset("d"), Precondition::Absent),
        changeset([delete_job("a"), delete_job("e")]),
    ]
}

/// With deletions of the graph in between, which is then created again after the batch.
pub fn batches_of_any_requests_give_the_verdicts_that_one_by_one_gives(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let mut requests = Requests::new(14);
    let mut batches = Vec::new();
    while batches.iter().map(Vec::len).sum::<usize>() < 140 {
        let size = 1 + requests.choices.below(40);
        let mut batch: Vec<Write> = (0..size).map(|_| requests.next()).collect();
        if requests.choices.below(2) == 0 {
            let before_the_last = size - 1;
            batch.insert(before_the_last, requests.deletion());
        }
        batches.push(batch);
    }
    let mut together = Vec::new();
    for batch in &batches {
        together.push(served_together(fixture, &node, batch.clone()));
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
    }

    let alone = name("alone");
    let nodes = [&node, &fixture.node()];
    node.create_graph_and_wait(&alone).unwrap();
    for (batch, together) in batches.iter().zip(&together) {
        for (n, (write, together)) in batch.iter().zip(together).enumerate() {
            let verdict = match nodes[n % 2].write_and_wait(&alone, write.clone()) {
                Err(Refusal::GraphNotFound { .. }) => {
                    Err(Refusal::GraphNotFound { graph: name(GRAPH) })
                }
                other => other,
            };
            assert_eq!(verdict, *together, "{write:?}");
        }
        node.create_graph_and_wait(&alone).unwrap();
    }
    let logs = [GRAPH, "alone"].map(|graph| audit_graph(&mut fixture.site().sql(), graph));
    let [together_log, alone_log] =
        logs.each_ref().map(|audit| audit.log.iter().map(|logged| &logged.text));
    assert!(together_log.eq(alone_log), "the change logs differ");
    for graph in [GRAPH, "alone"] {
        let image = node.read_and_wait(&name(graph)).unwrap();
        assert_eq!(
            (image.key.version, image.graph.digest()),
            (logs[0].version, logs[0].digest.clone())
        );
    }
    assert_eq!(kinds_of(&batches, &together), EVERY_KIND.into());
}

/// What a request can come to, each at least once.
const EVERY_KIND: [&str; 22] = [
    "accepted",
    "accepted at its version",
    "answered again",
    "answered again within its batch",
    "created",
    "cycle",
    "dataset in use",
    "dataset not found",
    "dry run accepted",
    "dry run rejected",
    "edge exists",
    "edge not found",
    "graph deleted",
    "graph not found",
    "job not found",
    "judged again after its rejection",
    "key reused",
    "precondition of a step failed",
    "precondition of the whole failed",
    "precondition required",
    "second producer",
    "unchanged",
];

/// The batch in which a key was first used, and what was answered and kept.
type FirstUse<'w> = (usize, Option<(&'w IdempotencyKey, &'w Verdict)>);

/// The kinds that were met. A key that was answered once must have the same answer ever after.
fn kinds_of(batches: &[Vec<Write>], verdicts: &[Vec<Verdict>]) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    let mut keys: HashMap<&str, FirstUse<'_>> = HashMap::new();
    for (number, (batch, verdicts)) in batches.iter().zip(verdicts).enumerate() {
        for (write, verdict) in batch.iter().zip(verdicts) {
            if let (Some(key), false) = (&write.idempotency, write.dry_run) {
                match keys.get(key.key.as_str()) {
                    Some((first, Some((kept, answer)))) if *kept == key => {
                        assert_eq!(verdict, *answer, "another answer to {key:?}");
                        kinds.insert("answered again");
                        if *first == number {
                            kinds.insert("answered again within its batch");
                        }
                    }
                    Some((_, Some(_))) => {
                        assert_eq!(*verdict, Err(Refusal::KeyReused), "{key:?}");
                    }
                    Some((_, None)) => {
                        kinds.insert("judged again after its rejection");
                    }
                    None => {}
                }
                let used = keys.entry(&key.key).or_insert((number, None));
                if used.1.is_none() && verdict.is_ok() {
                    *used = (number, Some((key, verdict)));
                }
            }
            kinds.insert(kind_of(write, verdict));
        }
    }
    kinds
}

fn kind_of(write: &Write, verdict: &Verdict) -> &'static str {
    let is_conditional = match &write.command {
        Command::Changeset(Changeset { precondition, steps, .. }) => {
            precondition.is_some() || steps.iter().any(|step| step.precondition.is_some())
        }
        Command::DeleteGraph { .. } => false,
    };
    match verdict {
        Err(Refusal::Rejected { .. }) if write.dry_run => "dry run rejected",
        Ok(_) if write.dry_run => "dry run accepted",
        Ok(_) if matches!(write.command, Command::DeleteGraph { .. }) => "graph deleted",
        Ok(_) if is_conditional => "accepted at its version",
        Ok(Accepted { created: true, .. }) => "created",
        Ok(Accepted { changed: true, .. }) => "accepted",
        Ok(_) => "unchanged",
        Err(Refusal::GraphNotFound { .. }) => "graph not found",
        Err(Refusal::KeyReused) => "key reused",
        Err(Refusal::Rejected { rejection, .. }) => match rejection {
            Rejection::PreconditionFailed { operation: None, .. } => {
                "precondition of the whole failed"
            }
            Rejection::PreconditionFailed { .. } => "precondition of a step failed",
            Rejection::PreconditionRequired { .. } => "precondition required",
            Rejection::JobNotFound { .. } => "job not found",
            Rejection::DatasetNotFound { .. } => "dataset not found",
            Rejection::EdgeNotFound { .. } => "edge not found",
            Rejection::EdgeExists { .. } => "edge exists",
            Rejection::DatasetInUse { .. } => "dataset in use",
            Rejection::SecondProducer { .. } => "second producer",
            Rejection::Cycle { .. } => "cycle",
            Rejection::TooLarge { .. } => "too large",
        },
        other => panic!("{other:?} to {write:?}"),
    }
}

/// All of a batch is judged, and its transaction cannot begin: nobody may know yet, whatever the
/// verdict.
pub fn no_verdict_of_a_batch_leaves_before_its_commit(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    let judged = node.metrics().decide.get_sample_count();
    let held_up = fixture.hold_up(&node);
    let waiting = in_line(&node, GRAPH, of_every_kind());
    let go_on: Box<dyn FnOnce()> = if fixture.takes_lock() {
        let mut other_writer = fixture.site().hold_back_writers();
        held_up.release();
        Box::new(move || other_writer.batch_execute("COMMIT").unwrap())
    } else {
        let go_on = fixture.hold_up_a_commit(|| held_up.release());
        Box::new(move || go_on.send(()).unwrap())
    };
    wait_until("both batches are judged", || {
        node.metrics().decide.get_sample_count() == judged + 2
    });
    for verdict in &waiting {
        assert_eq!(
            verdict.try_recv(),
            Err(mpsc::TryRecvError::Empty),
            "a verdict left before the commit"
        );
    }
    if !fixture.reads_wait() {
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(image.key.version, 1, "a reader saw what is not committed");
    }
    go_on();
    assert!(verdicts(waiting)[0].is_ok());
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(image.graph.digest(), audit(fixture.site()).digest);
    assert_eq!(
        node.metrics().images_ahead_of_store.get(),
        0,
        "an image was published before its commit"
    );
}

pub fn a_full_line_is_refused_and_nothing_else_suffers(fixture: &impl Fixture) {
    let limits = Limits { waiting_writes: 5, waiting_reads: 3, ..Limits::default() };
    let node = fixture.node_with(limits);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    node.create_graph_and_wait(&name("other")).unwrap();
    let held_up = fixture.hold_up(&node);
    let put = |n: usize| changeset([put_dataset(&format!("d{n}"))]);
    let waiting = in_line(&node, GRAPH, (1..=5).map(put));
    let refused = verdicts(in_line(&node, GRAPH, (6..9).map(put)));
    for verdict in refused {
        assert!(
            matches!(&verdict, Err(Refusal::Contended { what }) if what.contains("5 writes")),
            "{verdict:?}"
        );
    }
    assert_eq!(node.metrics().overflows.get(), 3);
    // Another graph has a line of its own.
    let elsewhere = node.write_and_wait(&name("other"), put(0));
    assert_eq!(elsewhere.map(|accepted| accepted.version), Ok(1));
    held_up.release();
    let versions: Vec<_> = verdicts(waiting).into_iter().map(|v| v.unwrap().version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5]);
    assert_eq!(write(&node, [put_dataset("again")]).map(|accepted| accepted.version), Ok(6));
}

/// One turn waits for the lock, and so has one of two threads; the thousand behind it have none.
pub fn a_thousand_waiting_writes_hold_no_thread(fixture: &impl Fixture) {
    let node = fixture.node_waiting(Limits { turn_threads: 2, ..Limits::default() }, LIMIT);
    for graph in [GRAPH, "other"] {
        node.create_graph_and_wait(&name(graph)).unwrap();
    }
    let held_up = fixture.hold_up(&node);
    let put = |n: usize| changeset([put_dataset(&format!("dataset-{n}"))]);
    let waiting = in_line(&node, GRAPH, (0..1000).map(put));
    assert_eq!(node.waiting().0, 1000);
    for n in 0..10 {
        assert_eq!(
            node.write_and_wait(&name("other"), put(n)).map(|accepted| accepted.version),
            Ok(n as u64 + 1)
        );
        assert_eq!(node.read_and_wait(&name("other")).unwrap().key.version, n as u64 + 1);
    }
    assert_eq!(node.waiting().0, 1000);
    held_up.release();
    let versions: Vec<u64> =
        verdicts(waiting).into_iter().map(|verdict| verdict.unwrap().version).collect();
    assert_eq!(versions, (1..=1000).collect::<Vec<u64>>());
    let turns = node.metrics().write_batch.get_sample_count();
    if fixture.shares_turns() {
        assert!(turns < 30, "they were served in batches, not in {turns}");
    } else {
        assert_eq!(turns, 1 + 1000 + 10, "each had a turn of its own");
    }
}

pub fn a_batch_that_the_database_refuses_is_run_again_one_by_one(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    accepted(&node, [put_dataset("d")]);
    fixture.site().refuse_jobs_named("poison");
    let (before, loads) =
        (node.metrics().write_batch.get_sample_count(), node.metrics().image_loads.get());
    let held_up = fixture.hold_up(&node);
    let writes = ["a", "b", "poison", "c"].map(|job| changeset([put_job(job, &["d"], &[])]));
    let waiting = in_line(&node, GRAPH, writes);
    held_up.release();
    let verdicts = verdicts(waiting);
    let turns = node.metrics().write_batch.get_sample_count() - before;
    assert_eq!(turns, 1 + fixture.turns_for(4), "they were in one batch, if there are batches");
    let versions: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict.as_ref().ok().map(|accepted| accepted.version))
        .collect();
    assert_eq!(versions, [Some(2), Some(3), None, Some(4)]);
    assert!(
        node.metrics().image_loads.get() > loads,
        "images that led to refused rows are thrown away"
    );
    assert!(
        matches!(verdicts[2], Err(Refusal::Internal { .. })),
        "a bug is never told as a broken rule: {:?}",
        verdicts[2]
    );
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    assert!(image.graph.job("poison").is_none());
    assert_eq!(image.graph.digest(), audit(fixture.site()).digest);
    // Nothing sticks.
    fixture.site().refuse_no_jobs();
    assert_eq!(accepted(&node, [put_job("poison", &["d"], &[])]), 5);
}

pub fn a_lock_that_does_not_come_free_is_told_as_contended(fixture: &impl Fixture) {
    let node = fixture.node_waiting(Limits::default(), Duration::from_millis(50));
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let lock = fixture.site().hold_lock(GRAPH, Mode::Exclusive);
    let verdict = write(&node, [put_dataset("d")]);
    if !fixture.takes_lock() {
        assert_eq!(verdict.map(|accepted| accepted.version), Ok(1), "nobody looks at a lock");
        return;
    }
    assert!(matches!(verdict, Err(Refusal::Contended { .. })), "{verdict:?}");
    lock.release();
    assert_eq!(accepted(&fixture.node(), [put_dataset("d")]), 1);
}

pub fn a_frozen_graph_takes_reads_and_no_writes(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let first = keyed(changeset([put_dataset("d")]), "key", "f");
    let told = node.write_and_wait(&name(GRAPH), first.clone());
    assert_eq!(
        told,
        Ok(Accepted { version: 1, changed: true, created: true, subject_version: Some(1) })
    );
    let store = fixture.site().store();
    let head = store.freeze(&name(GRAPH), Some("elsewhere")).unwrap().unwrap();
    assert_eq!(head.version, 1);
    let frozen =
        Err(Refusal::Frozen { graph: name(GRAPH), moved_to: Some("elsewhere".to_owned()) });
    for node in [&node, &fixture.node()] {
        assert_eq!(write(node, [put_dataset("e")]), frozen);
        assert_eq!(write(node, [put_dataset("d")]), frozen);
        assert_eq!(node.write_and_wait(&name(GRAPH), dry_run([put_dataset("e")])), frozen);
        assert_eq!(node.write_and_wait(&name(GRAPH), crate::support::ask::delete_graph()), frozen);
        assert_eq!(
            node.write_and_wait(&name(GRAPH), first.clone()),
            told,
            "what was accepted is answered again"
        );
        let another = keyed(changeset([put_dataset("e")]), "another key", "f");
        assert_eq!(node.write_and_wait(&name(GRAPH), another), frozen);
        assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().key.version, 1);
    }
    assert_eq!(audit(fixture.site()).version, 1);
    let created = node.create_graph_and_wait(&name(GRAPH));
    assert_eq!(
        created,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) }),
        "it is there"
    );
    assert_eq!(write(&node, [put_dataset("e")]), frozen);
    store.thaw(&name(GRAPH)).unwrap();
    assert_eq!(accepted(&node, [put_dataset("e")]), 2);
}

/// A read is at a version that was read after it came; many that came meanwhile share one look, if
/// the design shares turns.
pub fn reads_in_line_are_served_by_one_look(fixture: &impl Fixture) {
    let node = fixture.node_with(Limits { turn_threads: 1, ..unhurried() });
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("d")]);
    let before = node.metrics().read_batch.get_sample_count();
    // The only thread is held, so that all of them come before the turn begins.
    let held_up = fixture.hold_up(&node);
    let (sender, receiver) = mpsc::channel();
    for _ in 0..200 {
        let sender = sender.clone();
        node.read(&name(GRAPH), move |image| {
            drop(sender.send(image.map(|image| image.key.version)))
        });
    }
    held_up.release();
    for _ in 0..200 {
        assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), Ok(1));
    }
    assert_eq!(node.metrics().read_batch.get_sample_count(), before + fixture.turns_for(200));
}

pub fn a_batch_ends_at_its_limit_of_bytes(fixture: &impl Fixture) {
    let node = fixture.node_with(Limits { batch_bytes: 100, ..unhurried() });
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let before = node.metrics().write_batch.get_sample_count();
    let held_up = fixture.hold_up(&node);
    // 60 + 40 fit, then 200 alone, then the rest: three turns, if they are shared.
    let sizes = [60, 40, 200, 50, 50];
    let writes = sizes
        .iter()
        .enumerate()
        .map(|(n, &bytes)| Write { bytes, ..changeset([put_dataset(&format!("d{n}"))]) });
    let waiting = in_line(&node, GRAPH, writes);
    held_up.release();
    assert!(verdicts(waiting).iter().all(Result::is_ok));
    let turns = node.metrics().write_batch.get_sample_count() - before;
    assert_eq!(turns, 1 + if fixture.shares_turns() { 3 } else { 5 });
    let (_, rejected_at) = rejection_of(write(&node, [delete_job("absent")]));
    assert_eq!(rejected_at, 5);
}
