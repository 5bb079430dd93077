//! Writes that are decided while the commit before them is under way: whatever becomes of that
//! commit, each has the verdict that the store's state gives it, and nobody hears of it before its
//! own commit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use fencepost::design::Design;
use fencepost::design::crud_delta::CRUD_DELTA;
use fencepost::design::crud_naive::CRUD_NAIVE;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::graph::{Precondition, Rejection};
use fencepost::lock::Mode;
use fencepost::node::{LockUrl, inspect_lock};
use fencepost::service::{Limits, Refusal, Service, Verdict, Write};
use fencepost::store::StoreError;

use super::at_hand::{Foreign, TO_OPEN, batches, other_on, outlines, prepare};
use super::node_held_up_with;
use crate::store::server::behind_a_proxy;
use crate::support::ask::{
    changeset, conditional, delete_dataset, delete_job, in_line, put_dataset, put_job,
    rejection_of, verdicts,
};
use crate::support::cluster::{GRAPH, Kind, LIMIT, Site, in_child, name, wait_until};
use crate::support::proxy::Cut;
use crate::support::redis::Redis;
use crate::support::stages::{Interrupted, set};
use crate::support::storm::audit_without_tokens;

/// So that whatever waits is decided, in batches of so many.
fn ahead(batches: usize, batch_writes: usize) -> Limits {
    Limits {
        ahead: batches,
        batch_writes,
        worth_a_worker: 1,
        batch_time: LIMIT,
        ..Limits::default()
    }
}

fn decided_ahead(node: &Service) -> u64 {
    node.metrics().decided_ahead.get()
}

fn wasted(node: &Service) -> u64 {
    node.metrics().wasted_decisions.get()
}

/// Has `node` write, and while that is about to be committed asks it for `batch`. When so many of
/// that are decided, `then` happens. Gives the verdicts.
fn on_top_of_a_commit(
    (store, node): (&Interrupted, &Service),
    graph: &str,
    batch: &[Write],
    decided: usize,
    then: impl FnOnce() + Send + 'static,
) -> Vec<Verdict> {
    let (sender, receiver) = mpsc::channel();
    let (asked, batch, on) = (node.clone(), batch.to_vec(), graph.to_owned());
    set(&store.before_commit, move || {
        let before = decided_ahead(&asked);
        sender.send(in_line(&asked, &on, batch)).unwrap();
        wait_until("the batch is decided", || decided_ahead(&asked) == before + decided as u64);
        then();
    });
    let under = changeset([put_dataset("under")]);
    let mut all = in_line(node, graph, [under]);
    all.extend(receiver.recv_timeout(LIMIT).unwrap());
    verdicts(all)
}

/// Every foreign write, before a commit on whose state every batch is decided, as one and as two.
/// The verdicts are those of a node that keeps no image and decides nothing ahead.
fn what_was_decided_ahead_is_what_the_store_says(kind: Kind, design: &'static Design) {
    let site = Site::on(kind);
    let (_, looking) = node_held_up_with(&CRUD_NAIVE, &site, ahead(0, 1));
    let other = other_on(&site);
    for (number, batch) in batches().into_iter().enumerate() {
        for depth in [1, 2] {
            if depth > batch.len() {
                continue;
            }
            let (store, node) =
                node_held_up_with(design, &site, ahead(depth, batch.len().div_ceil(depth)));
            for foreign in TO_OPEN {
                let graph = format!("{number}-{foreign:?}-{depth}-expected");
                prepare(&looking, &graph);
                foreign.happens(&other, &graph);
                let under = [changeset([put_dataset("under")])];
                let one_by_one = under.iter().chain(&batch);
                let expected =
                    one_by_one.map(|one| looking.write_and_wait(&name(&graph), one.clone()));
                let expected = outlines(expected.collect(), &graph);

                let graph = format!("{number}-{foreign:?}-{depth}");
                prepare(&node, &graph);
                let (before, other, on) = (wasted(&node), Arc::clone(&other), graph.clone());
                let then = move || foreign.happens(&other, &on);
                let found = on_top_of_a_commit((&store, &node), &graph, &batch, batch.len(), then);
                assert_eq!(
                    outlines(found, &graph),
                    expected,
                    "{design}: {foreign:?}, {depth}: {batch:?}"
                );
                let is_disturbed = !matches!(foreign, Foreign::Nothing);
                let again = wasted(&node) - before;
                // A key that comes twice has its batch decided again.
                let twice = number + 1 == batches().len();
                assert!(is_disturbed || again == 0 || twice, "{again} in vain: {depth}, {batch:?}");
                assert!(!is_disturbed || again > batch.len() as u64, "{again} of {}", batch.len());
                if !matches!(foreign, Foreign::DeletesGraph) {
                    audit_without_tokens(&mut site.sql(), &graph);
                }
            }
        }
    }
}

#[test]
fn under_a_lock_what_was_decided_ahead_is_what_the_store_says_on_sqlite() {
    what_was_decided_ahead_is_what_the_store_says(Kind::Sqlite, &CRUD_DELTA);
}

#[test]
fn under_a_lock_what_was_decided_ahead_is_what_the_store_says_on_postgres() {
    what_was_decided_ahead_is_what_the_store_says(Kind::Postgres, &CRUD_DELTA);
}

#[test]
fn without_a_lock_what_was_decided_ahead_is_what_the_store_says_on_sqlite() {
    what_was_decided_ahead_is_what_the_store_says(Kind::Sqlite, &CRUD_OPTIMISTIC);
}

#[test]
fn without_a_lock_what_was_decided_ahead_is_what_the_store_says_on_postgres() {
    what_was_decided_ahead_is_what_the_store_says(Kind::Postgres, &CRUD_OPTIMISTIC);
}

/// What nobody may hear of yet, at some moment.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    verdicts: usize,
    notifications: usize,
    image: u64,
    stored: u64,
}

/// Each of three commits is stopped in turn, with all that follows it decided.
#[test]
fn nothing_is_told_before_its_own_commit_and_all_in_order() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let (store, node) = node_held_up_with(&CRUD_OPTIMISTIC, &site, ahead(2, 3));
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let notified = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&notified);
        let _listening = node.listen(&name(GRAPH), move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let (told, versions) = mpsc::channel();
        let put = |n: usize| {
            let told = told.clone();
            node.write(&name(GRAPH), changeset([put_dataset(&format!("d-{n}"))]), move |verdict| {
                told.send(verdict.unwrap().version).unwrap();
            });
        };
        let stop = |store: &Interrupted| {
            let ((reached, is_reached), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
            set(&store.before_commit, move || {
                reached.send(()).unwrap();
                may_go_on.recv_timeout(LIMIT).unwrap();
            });
            (is_reached, go_on)
        };
        let (is_reached, mut go_on): (_, mpsc::Sender<()>) = stop(&store);
        put(0);
        is_reached.recv_timeout(LIMIT).unwrap();
        (1..=6).for_each(put);
        wait_until("two batches are decided", || decided_ahead(&node) == 6);
        let mut versions_told = Vec::new();
        for (commits, told_before) in [(0, 0), (1, 1), (2, 4)] {
            versions_told.extend(versions.try_iter());
            let heard = Heard {
                verdicts: versions_told.len(),
                notifications: notified.load(Ordering::SeqCst),
                image: node.read_and_wait(&name(GRAPH)).unwrap().key.version,
                stored: site.head().version,
            };
            let before = told_before as u64;
            let expected = Heard {
                verdicts: told_before,
                notifications: commits,
                image: before,
                stored: before,
            };
            assert_eq!(heard, expected);
            if commits == 2 {
                break;
            }
            let (is_reached, next) = stop(&store);
            std::mem::replace(&mut go_on, next).send(()).unwrap();
            // The turn before has answered all before this one began.
            is_reached.recv_timeout(LIMIT).unwrap();
        }
        go_on.send(()).unwrap();
        let rest = std::iter::from_fn(|| versions.recv_timeout(LIMIT).ok()).take(3);
        versions_told.extend(rest);
        assert_eq!(versions_told, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((decided_ahead(&node), wasted(&node)), (6, 0), "each was decided once");
    }
}

/// Each way in which the database can refuse a commit or leave it without an answer is a failed
/// commit to what was decided on it.
#[test]
fn what_was_decided_on_a_commit_that_the_database_refused_is_decided_again() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        for depth in [1, 2] {
            let site = Site::on(kind);
            let (store, node) = node_held_up_with(&CRUD_DELTA, &site, ahead(depth, 4 / depth));
            prepare(&node, GRAPH);
            let refuse = match kind {
                Kind::Sqlite => {
                    "CREATE TRIGGER refuse BEFORE INSERT ON datasets WHEN NEW.name = 'under' \
                     BEGIN SELECT RAISE(ABORT, 'refused by a test'); END"
                }
                Kind::Postgres => {
                    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     RAISE EXCEPTION 'refused by a test'; END $$; \
                     CREATE TRIGGER refuse BEFORE INSERT ON datasets FOR EACH ROW \
                     WHEN (NEW.name = 'under') EXECUTE FUNCTION refuse()"
                }
            };
            site.run_sql(refuse);
            let uses_it = |job: &str| {
                let read = conditional(put_dataset("under"), Precondition::Exists);
                [read, changeset([put_job(job, &["x"], &[])])]
            };
            let batch: Vec<Write> = [uses_it("b"), uses_it("c")].into_iter().flatten().collect();
            let found = on_top_of_a_commit((&store, &node), GRAPH, &batch, 4, || {});
            let [under, rest @ ..] = &found[..] else { panic!("{found:?}") };
            assert!(matches!(under, Err(Refusal::Internal { .. })), "{under:?}");
            for (n, verdict) in rest.iter().enumerate() {
                match verdict {
                    Err(Refusal::Rejected { version, .. }) if n % 2 == 0 => {
                        assert_eq!(*version, 3 + n as u64 / 2);
                    }
                    Ok(accepted) if n % 2 == 1 => assert_eq!(accepted.version, 4 + n as u64 / 2),
                    other => panic!("{depth}, {n}: {other:?}"),
                }
            }
            assert!(wasted(&node) >= 4, "decided again");
            audit_without_tokens(&mut site.sql(), GRAPH);
        }
    }
}

/// The connection is lost with the commit on it: before the server has it, or with the answer. What
/// was decided on it holds if it is found, or sent again; and what becomes of it, if the graph was
/// frozen meanwhile, nobody knows.
#[test]
fn what_was_decided_on_a_commit_without_an_answer_waits_for_its_outcome() {
    for (cut, frozen) in [(Cut::Answer, false), (Cut::Commit, false), (Cut::Commit, true)] {
        for depth in [1, 2] {
            let (_server, site, proxy, through) = behind_a_proxy();
            let (_store, node) = node_held_up_with(&CRUD_DELTA, &through, ahead(depth, 4 / depth));
            prepare(&node, GRAPH);
            let (sender, receiver) = mpsc::channel();
            let (asked, freezing) = (node.clone(), site.store());
            proxy.cut_while(cut, move || {
                let batch = (0..4).map(|n| changeset([put_dataset(&format!("d-{n}"))]));
                sender.send(in_line(&asked, GRAPH, batch)).unwrap();
                wait_until("they are decided", || decided_ahead(&asked) == 4);
                if frozen {
                    freezing.freeze(&name(GRAPH), None).unwrap();
                }
            });
            let mut all = in_line(&node, GRAPH, [changeset([put_dataset("under")])]);
            all.extend(receiver.recv_timeout(LIMIT).unwrap());
            let found = verdicts(all);
            if frozen {
                assert!(matches!(found[0], Err(Refusal::OutcomeUnknown { .. })), "{found:?}");
                let are_frozen = |one| matches!(one, &Err(Refusal::Frozen { .. }));
                assert!(found[1..].iter().all(are_frozen), "{found:?}");
            } else {
                let versions: Vec<_> =
                    found.into_iter().map(|verdict| verdict.unwrap().version).collect();
                assert_eq!(versions, [4, 5, 6, 7, 8]);
                assert_eq!(wasted(&node), 0);
            }
            audit_without_tokens(&mut site.sql(), GRAPH);
        }
    }
}

/// Another process gets the lock between the commit and the next turn, and freezes the graph: so
/// the next turn looks at the store, finds the version on which its batch was decided, and must not
/// take over verdicts of an open graph.
#[test]
fn what_was_decided_on_an_open_graph_does_not_hold_on_a_frozen_one() {
    let mut site = Site::on(Kind::of_this_run());
    site.lock_url = Some(LockUrl::parse(&Redis::shared().new_database()).unwrap());
    let site = Arc::new(site);
    let (store, node) = node_held_up_with(&CRUD_DELTA, &site, ahead(1, 8));
    prepare(&node, GRAPH);
    let freezing = Arc::clone(&site);
    let found = on_top_of_a_commit(
        (&store, &node),
        GRAPH,
        &[changeset([delete_job("missing")]), changeset([delete_dataset("x")])],
        2,
        move || {
            let waits = Arc::clone(&freezing);
            thread::spawn(move || {
                let held = waits.hold_lock(GRAPH, Mode::Exclusive);
                waits.store().freeze(&name(GRAPH), None).unwrap().unwrap();
                drop(held);
            });
            wait_until("another waits for the lock", || {
                let report = inspect_lock(&freezing.options(), &name(GRAPH)).unwrap();
                !report.inspection.waiting.is_empty()
            });
        },
    );
    let [under, rest @ ..] = &found[..] else { panic!("{found:?}") };
    assert!(under.is_ok(), "{under:?}");
    assert!(rest.iter().all(|one| matches!(one, Err(Refusal::Frozen { .. }))), "{rest:?}");
    assert_eq!(wasted(&node), 2);
}

/// The commit conflicts, and what it was to write is rejected the second time: the store is at the
/// version on which the next was decided ahead, but by another history.
fn another_history_of_that_length() -> (Site, Verdict) {
    let site = Site::on(Kind::of_this_run());
    let (store, node) = node_held_up_with(&CRUD_OPTIMISTIC, &site, ahead(1, 8));
    prepare(&node, GRAPH);
    let (sender, receiver) = mpsc::channel();
    let (asked, other) = (node.clone(), other_on(&site));
    set(&store.before_commit, move || {
        let closes_a_cycle = changeset([put_job("b", &["second"], &["first"])]);
        sender.send(in_line(&asked, GRAPH, [closes_a_cycle])).unwrap();
        wait_until("it is decided", || decided_ahead(&asked) == 1);
        other.writes(changeset([put_job("theirs", &["first"], &["second"])]));
    });
    let first = conditional(put_job("theirs", &[], &[]), Precondition::Absent);
    let mut all = in_line(&node, GRAPH, [first]);
    all.extend(receiver.recv_timeout(LIMIT).unwrap());
    let found = verdicts(all);
    (site, found.into_iter().nth(1).unwrap())
}

#[test]
fn a_version_that_was_reached_by_another_history_is_not_the_one_that_was_decided_on() {
    let (site, verdict) = another_history_of_that_length();
    let (rejection, version) = rejection_of(verdict);
    assert!(matches!(rejection, Rejection::Cycle { .. }), "{rejection:?}");
    assert_eq!((version, audit_without_tokens(&mut site.sql(), GRAPH).version), (4, 4));
}

/// The negative control: the version alone is compared.
#[test]
fn without_the_comparison_of_states_a_cycle_is_written() {
    in_child(
        concat!(module_path!(), "::without_the_comparison_of_states_a_cycle_is_written"),
        "ahead-comparison=off",
        || {
            let (site, verdict) = another_history_of_that_length();
            assert_eq!(verdict.unwrap().version, 5);
            let Err(StoreError::DamagedRows { reason, .. }) = site.store().load(&name(GRAPH))
            else {
                panic!("a legal graph");
            };
            assert_eq!(reason.to_string(), "the stored jobs form a cycle");
        },
    );
}
