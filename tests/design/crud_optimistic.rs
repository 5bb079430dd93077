//! What tells `crud-optimistic` from other designs: no lock at all; who finds that another was
//! faster judges again, so often and no more.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use fencepost::design::Reads;
use fencepost::design::TurnLimits;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::turns::expected_version::ExpectedVersionLimits;
use fencepost::design::turns::locked::LockedLimits;
use fencepost::graph::{Precondition, Rejection};
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::service::{Limits, Refusal, Service};

use crate::support::ask::{
    accepted, changeset, conditional, delete_job, in_line, put_dataset, put_job, rejection_of,
    verdicts, write,
};
use crate::support::cluster::start_optimistic;
use crate::support::cluster::{GRAPH, Kind, LIMIT, Site, name, wait_until};
use crate::support::redis::Redis;
use crate::support::stages::{Interrupted, is_over, set};
use crate::support::storm::{Choices, audit};

fn optimistic(site: &Site) -> Service {
    node::open(&NodeOptions { design: &CRUD_OPTIMISTIC, ..site.options() }).unwrap()
}

/// A node that a test can come in between, and another that does; and the graph, at version 1.
fn raced(
    site: &Site,
    limits: Limits,
    turn_limits: TurnLimits,
) -> (Arc<Interrupted>, Service, Arc<Service>) {
    let store = Arc::new(Interrupted::new(site.open_database()));
    let slow = start_optimistic(Arc::clone(&store.store), limits, turn_limits);
    let quick = Arc::new(optimistic(site));
    quick.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&quick, [put_dataset("first")]);
    (store, slow, quick)
}

/// Conflicts, and verdicts thrown away for them.
fn lost(node: &Service) -> (u64, u64) {
    let metrics = node.metrics();
    (metrics.lost_writes.with_label_values(&["conflict"]).get(), metrics.wasted_decisions.get())
}

#[test]
fn who_was_outrun_judges_again_on_what_the_other_wrote() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let (store, slow, quick) = raced(&site, Limits::default(), TurnLimits::default());
        let ahead = Arc::clone(&quick);
        set(&store.before_commit, move || {
            accepted(&ahead, [put_job("a", &["x"], &["y"])]);
        });
        // On the version before it was no cycle.
        let (rejection, version) = rejection_of(write(&slow, [put_job("b", &["y"], &["x"])]));
        assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
        assert_eq!((version, lost(&slow)), (2, (1, 1)));
        assert!(is_over(&store.before_commit));

        set(&store.before_commit, move || {
            accepted(&quick, [put_dataset("d")]);
        });
        assert_eq!(accepted(&slow, [put_dataset("e")]), 4);
        assert_eq!((lost(&slow), slow.metrics().image_loads.get()), ((2, 2), 1), "it has followed");
        assert_eq!(audit(&site).version, 4);
    }
}

/// Nobody sees what a commit under way would lead to: it may fail.
#[test]
fn an_image_is_published_when_its_commit_has_succeeded_and_not_before() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let (store, slow, _) = raced(&site, Limits::default(), TurnLimits::default());
        let reader = slow.clone();
        let (seen, told) = mpsc::channel();
        accepted(&slow, [put_dataset("second")]);
        set(&store.before_commit, move || {
            let image = reader.read_and_wait(&name(GRAPH)).unwrap();
            seen.send((image.key.version, image.graph.dataset("third").is_some())).unwrap();
        });
        assert_eq!(accepted(&slow, [put_dataset("third")]), 3);
        assert_eq!(told.recv_timeout(LIMIT).unwrap(), (2, false));
        let metrics = slow.metrics();
        assert_eq!(
            (metrics.images_ahead_of_store.get(), metrics.image_loads.get()),
            (0, 1),
            "no image was thrown away or loaded again"
        );
    }
}

/// All verdicts of a turn that was outrun are thrown away, those that needed no commit of their own
/// too.
#[test]
fn no_verdict_of_an_attempt_that_was_outrun_is_answered() {
    let site = Site::on(Kind::of_this_run());
    let (store, slow, quick) =
        raced(&site, Limits { batch_time: LIMIT, ..Limits::default() }, TurnLimits::default());
    let ((reached, is_reached), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    set(&store.before_commit, move || {
        reached.send(()).unwrap();
        may_go_on.recv_timeout(LIMIT).unwrap();
    });
    let first = in_line(&slow, GRAPH, [changeset([put_dataset("second")])]);
    is_reached.recv_timeout(LIMIT).unwrap();
    let writes = [
        changeset([put_dataset("third")]),
        changeset([delete_job("a")]),
        conditional(put_job("b", &["x"], &[]), Precondition::Version(3)),
        conditional(put_job("a", &[], &[]), Precondition::Absent),
    ];
    let waiting = in_line(&slow, GRAPH, writes);
    set(&store.before_commit, move || {
        accepted(&quick, [put_job("a", &[], &[]), put_job("b", &[], &[])]);
    });
    let decisions = slow.metrics().decide.get_sample_count();
    go_on.send(()).unwrap();
    assert!(verdicts(first)[0].is_ok());
    let versions: Vec<_> =
        verdicts(waiting).into_iter().map(|verdict| verdict.unwrap().version).collect();
    // Version 3 is the other's. On the version before it, the first and the last would have been
    // accepted, the others rejected.
    assert_eq!(versions, [4, 5, 6, 7]);
    let batches = slow.metrics().decide.get_sample_count() - decisions;
    assert_eq!((batches, lost(&slow)), (2, (1, 4)));
    audit(&site);
}

/// Has `node` write before each of the next commits to `store`, so many.
fn outrun(store: &Arc<Interrupted>, node: Arc<Service>, commits: u64) {
    let again = Arc::clone(store);
    set(&store.before_commit, move || {
        accepted(&node, [put_dataset(&format!("quick-{commits}"))]);
        if commits > 1 {
            outrun(&again, node, commits - 1);
        }
    });
}

#[test]
fn who_is_outrun_each_time_gives_up_after_so_many_and_has_written_nothing() {
    const RETRIES: usize = 4;
    let site = Site::on(Kind::of_this_run());
    let (store, slow, quick) = raced(
        &site,
        Limits::default(),
        TurnLimits {
            expected_version: ExpectedVersionLimits { retries: RETRIES },
            ..TurnLimits::default()
        },
    );
    let attempts = RETRIES as u64 + 1;
    outrun(&store, quick, attempts + 1);
    let verdict = write(&slow, [put_dataset("slow")]);
    assert!(
        matches!(&verdict, Err(Refusal::Contended { what }) if what.contains("faster")),
        "{verdict:?}"
    );
    assert_eq!(lost(&slow), (attempts, attempts));
    let left = audit(&site);
    assert_eq!(left.version, 1 + attempts);
    assert!(left.log.iter().all(|logged| !logged.text.contains("slow")));
    assert_eq!(
        accepted(&slow, [put_dataset("slow")]),
        3 + attempts,
        "outrun once more, it has its turn"
    );
}

#[test]
fn of_two_nodes_that_race_each_write_has_its_verdict() {
    const WRITES: usize = 40;
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let (store, slow, quick) = raced(&site, Limits::default(), TurnLimits::default());
        let ahead = Arc::clone(&quick);
        set(&store.before_commit, move || {
            accepted(&ahead, [put_dataset("ahead")]);
        });
        let told = std::thread::scope(|scope| {
            let racers = [(&slow, 1), (&*quick, 2)].map(|(node, seed)| {
                scope.spawn(move || {
                    let mut choices = Choices(seed);
                    let mut dataset = || format!("dataset-{}", choices.below(6));
                    let one = |n: usize| {
                        write(
                            node,
                            [put_job(&format!("job-{}", n % 5), &[&dataset()], &[&dataset()])],
                        )
                    };
                    (0..WRITES).map(one).collect::<Vec<_>>()
                })
            });
            racers.map(|racer| racer.join().unwrap())
        });
        let mut versions = Vec::new();
        for verdict in told.into_iter().flatten() {
            match verdict {
                Ok(accepted) if accepted.changed => versions.push(accepted.version),
                Ok(_) | Err(Refusal::Rejected { .. }) => {}
                Err(other) => panic!("no verdict: {other:?}"),
            }
        }
        versions.sort_unstable();
        let audit = audit(&site);
        let theirs: Vec<u64> = (2..=audit.version)
            .filter(|version| !is_ahead(&audit.log[*version as usize - 1].text))
            .collect();
        assert_eq!(versions, theirs, "each version was told to one of them");
        let (conflicts, wasted) = lost(&slow);
        assert!(
            conflicts > 0 && wasted >= conflicts,
            "{conflicts} conflicts, {wasted} verdicts thrown away"
        );
    }
}

fn is_ahead(text: &str) -> bool {
    text.contains("\"ahead\"")
}

/// The image is behind each time, and what it says would be another answer.
#[test]
fn a_rejection_is_answered_at_a_version_read_after_its_request_came() {
    for reads in [None, Some(Reads::Snapshot)] {
        let site = Site::on(Kind::of_this_run());
        let quick = optimistic(&site);
        quick.create_graph_and_wait(&name(GRAPH)).unwrap();
        let options = NodeOptions { design: &CRUD_OPTIMISTIC, reads, ..site.options() };
        let slow = node::open(&options).unwrap();
        for n in 1..10 {
            let version = accepted(&quick, [put_job("j", &[&format!("d-{n}")], &[])]);
            let before = Precondition::Version(version - 1);
            let verdict =
                slow.write_and_wait(&name(GRAPH), conditional(put_job("j", &[], &[]), before));
            let (rejection, rejected_at) = rejection_of(verdict);
            let found = matches!(rejection, Rejection::PreconditionFailed { actual, .. } if actual == Some(version));
            assert!(
                found && rejected_at == version,
                "{rejection:?} at {rejected_at}, not {version}"
            );
            assert_eq!(rejection_of(write(&slow, [delete_job("absent")])).1, version);
            assert_eq!(slow.read_and_wait(&name(GRAPH)).unwrap().key.version, version);
        }
    }
}

#[test]
fn it_serves_while_the_lock_server_is_away() {
    let mut server = Redis::start(&[]);
    let mut site = Site::on(Kind::Sqlite);
    site.lock_url = Some(LockUrl::parse(&server.url()).unwrap());
    // Not kept: a kept grant serves turns until the server is asked again.
    let locked = LockedLimits { keep: None, wait: Duration::from_millis(100), retries: 3 };
    let turn_limits = TurnLimits { locked, ..TurnLimits::default() };
    let locked = node::open(&NodeOptions { turn_limits, ..site.options() }).unwrap();
    locked.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&locked, [put_dataset("with the lock")]);
    let node = optimistic(&site);
    server.kill();
    let refused = write(&locked, [put_dataset("d")]);
    assert!(
        matches!(refused, Err(Refusal::LockUnavailable { .. })),
        "the server is there: {refused:?}"
    );
    for node in [node, optimistic(&site)] {
        accepted(&node, [put_dataset(&format!("without the lock {}", site.head().version))]);
        assert_eq!(node.read_and_wait(&name(GRAPH)).unwrap().key.version, site.head().version);
        let (sender, ready) = mpsc::channel();
        node.ready(move |answer| drop(sender.send(answer)));
        assert_eq!(ready.recv_timeout(LIMIT).unwrap(), Ok(()));
    }
}

#[test]
fn it_makes_no_lock_names_none_and_measures_none() {
    let site = Site::on(Kind::Sqlite);
    let node = optimistic(&site);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    for n in 0..3 {
        accepted(&node, [put_dataset(&format!("d-{n}"))]);
        node.read_and_wait(&name(GRAPH)).unwrap();
    }
    wait_until("the turns are over", || node.metrics().turn.read.get_sample_count() == 3);
    assert!(!site.lock_directory().exists());
    assert_eq!(site.store().lock_record().unwrap(), None);
    assert_eq!((site.head().epoch, site.head().fence), (0, 0));
    let text = node.metrics().text();
    let of_the_lock = ["fencepost_lock_", "fencepost_epochs_", "fencepost_tokens_"];
    let measured: Vec<_> = text
        .lines()
        .filter(|line| of_the_lock.iter().any(|prefix| line.starts_with(prefix)))
        .collect();
    assert!(measured.is_empty(), "{measured:?}");
    // A node with a lock measures that it waits for it, under these names.
    let locked = site.node();
    accepted(&locked, [put_dataset("d")]);
    assert!(
        locked.metrics().text().contains("fencepost_lock_wait_seconds_count{mode=\"exclusive\"} 1")
    );
}

/// Designs may be mixed on a graph. That a node which takes the lock loses to one that does not is
/// usual there: it is counted, and no line of the log for each.
#[test]
fn a_conflict_with_a_node_of_another_design_is_counted_and_not_logged() {
    let site = Site::with_graph();
    let (locked, other) = (site.serve(), optimistic(&site));
    assert_eq!(locked.put_job("a", &[], &[]).unwrap().version(), 2);
    accepted(&other, [put_dataset("between")]);
    assert_eq!(locked.put_job("b", &[], &[]).unwrap().version(), 4);
    assert_eq!(locked.count("fencepost_lost_writes_total", "conflict"), 1);
    let log = locked.wait_for_log(|_| true);
    assert!(!log.contains("did not hold"), "{log}");
}
