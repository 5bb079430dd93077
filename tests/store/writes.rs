//! The conditional write: the version comparison keeps the rules, the fence makes a stale holder
//! known as such.

use fencepost::chain::Chain;
use fencepost::graph::{Graph, Operation, Side, decide};
use fencepost::store::{Commit, CommitError, Entry, Fence, GraphState, Head, Store, StoreError};

use crate::support::ask::{accepted, add, changeset, delete_graph, put_dataset, put_job, remove};
use crate::support::cluster::{GRAPH, Kind, Site, in_child, lists, name};
use crate::support::storm::audit;

/// What a writer has read before it decides.
pub(super) struct Seen {
    pub(super) head: Head,
    pub(super) graph: Graph,
}

pub(super) fn read(store: &Store) -> Seen {
    let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
    Seen { head, graph }
}

fn write(
    store: &Store,
    seen: &Seen,
    token: i64,
    operation: Operation,
) -> Result<Chain, CommitError> {
    write_with(store, seen, Fence::Token(token), operation)
}

pub(super) fn write_with(
    store: &Store,
    seen: &Seen,
    fence: Fence,
    operation: Operation,
) -> Result<Chain, CommitError> {
    let decision = decide(&seen.graph, &changeset([operation]).command)
        .expect("no rule forbids it as far as was seen");
    let version = decision.next.version();
    let entry = Entry {
        change: &decision.change,
        version,
        touched: &decision.touched,
        actor: None,
        request: None,
    };
    store.commit(&Commit {
        read: &seen.head,
        fence,
        attempt: &format!("attempt with {fence:?}"),
        before: &seen.graph,
        after: &decision.next,
        entries: &[entry],
        keys: &[],
        answers: &[],
        deletes_graph: false,
    })
}

/// A graph at version 3 whose jobs `a` and `b` would form a cycle with one more edge each.
fn two_jobs() -> Site {
    with_two_jobs(Site::with_graph())
}

pub(super) fn with_two_jobs(site: Site) -> Site {
    let node = site.node();
    accepted(
        &node,
        [put_job("a", &[], &["x"]), put_job("b", &[], &["y"]), put_dataset("x"), put_dataset("y")],
    );
    accepted(&node, [put_dataset("third")]);
    site
}

pub(super) fn half_a_cycle() -> [Operation; 2] {
    [add(Side::Input, "a", "y"), add(Side::Input, "b", "x")]
}

#[test]
fn a_write_at_the_version_that_was_read_holds() {
    let site = two_jobs();
    let store = site.store();
    let seen = read(&store);
    let [a, _] = half_a_cycle();
    let chain = write(&store, &seen, seen.head.fence + 1, a).unwrap();
    let head = site.head();
    assert_eq!((head.version, head.chain, head.fence), (4, chain, seen.head.fence + 1));
    assert_eq!(audit(&site).version, 4);
}

#[test]
fn a_write_after_another_is_a_conflict() {
    let site = two_jobs();
    let store = site.store();
    let (first, second) = (read(&store), read(&store));
    let [a, b] = half_a_cycle();
    write(&store, &first, first.head.fence + 1, a).unwrap();
    let lost = write(&store, &second, first.head.fence + 2, b);
    assert!(matches!(lost, Err(CommitError::Conflict { expected: 3, actual: 4, .. })), "{lost:?}");
    assert_eq!(audit(&site).version, 4);
}

#[test]
fn a_stale_holder_is_told_that_it_is_fenced() {
    let site = two_jobs();
    let store = site.store();
    let fence = read(&store).head.fence;
    let [a, b] = half_a_cycle();
    write(&store, &read(&store), fence + 5, a).unwrap();
    // It has read the right version, and yet holds no lock any more.
    let lost = write(&store, &read(&store), fence + 4, put_dataset("d"));
    assert!(
        matches!(lost, Err(CommitError::Fenced { token, fence: sealed }) if token + 1 == sealed),
        "{lost:?}"
    );
    // Version and token are both old: the token tells more.
    let old = Seen { head: Head { version: 3, ..read(&store).head }, ..read(&store) };
    let lost = write(&store, &old, fence + 4, remove(Side::Output, "b", "y"));
    assert!(matches!(lost, Err(CommitError::Fenced { .. })), "{lost:?}");
    drop(b);
    assert_eq!(audit(&site).version, 4);
}

#[test]
fn a_frozen_graph_and_a_deleted_one_are_told_apart() {
    let site = two_jobs();
    let store = site.store();
    let seen = read(&store);
    site.run_sql("UPDATE graphs SET state = 'frozen', moved_to = 'elsewhere'");
    let lost = write(&store, &seen, seen.head.fence + 1, put_dataset("d"));
    assert!(
        matches!(&lost, Err(CommitError::Frozen { moved_to: Some(to) }) if to == "elsewhere"),
        "{lost:?}"
    );
    site.run_sql("UPDATE graphs SET state = 'open', moved_to = NULL");
    site.node().write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    let lost = write(&store, &seen, seen.head.fence + 9, put_dataset("d"));
    assert!(matches!(lost, Err(CommitError::Deleted)), "{lost:?}");
    assert_eq!(site.head().state, GraphState::Deleted);
    assert_eq!(audit(&site).version, 4);
}

/// Then neither the version nor the token tells why the write did not hold. In the moment between
/// the two statements, a trigger opens the graph again.
#[test]
fn a_graph_that_is_opened_again_between_the_write_and_the_look_is_no_conflict() {
    let site = Site::on(Kind::Postgres);
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    let store = site.store();
    let seen = read(&store);
    site.run_sql(
        "CREATE FUNCTION thaw() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF pg_trigger_depth() = 1 THEN UPDATE graphs SET state = 'open'; END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER thaw AFTER UPDATE ON graphs FOR EACH STATEMENT EXECUTE FUNCTION thaw()",
    );
    for fence in [Fence::Token(seen.head.fence + 1), Fence::Unfenced] {
        site.run_sql(
            "ALTER TABLE graphs DISABLE TRIGGER thaw;
             UPDATE graphs SET state = 'frozen';
             ALTER TABLE graphs ENABLE TRIGGER thaw",
        );
        let lost = write_with(&store, &seen, fence, put_dataset("d"));
        assert!(matches!(lost, Err(CommitError::Thawed)), "{lost:?}");
    }
    site.run_sql("DROP TRIGGER thaw ON graphs");
    accepted(&node, [put_dataset("d")]);
    audit(&site);
}

/// A graph that was deleted and created again is not the one that was read, although its row is
/// open.
#[test]
fn a_graph_created_again_since_it_was_read_is_a_conflict() {
    let site = two_jobs();
    let store = site.store();
    let seen = read(&store);
    let node = site.node();
    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let lost = write(&store, &seen, seen.head.fence + 9, put_dataset("d"));
    assert!(matches!(lost, Err(CommitError::Conflict { expected: 3, actual: 4, .. })), "{lost:?}");
}

/// A reads version 3 and stalls; B, with a larger token, reads version 3; A writes, then B.
fn read_check_write_race(site: &Site) -> [Result<Chain, CommitError>; 2] {
    let (store_of_a, store_of_b) = (site.store(), site.store());
    let seen_by_a = read(&store_of_a);
    let seen_by_b = read(&store_of_b);
    let fence = seen_by_a.head.fence;
    let [a, b] = half_a_cycle();
    [write(&store_of_a, &seen_by_a, fence + 1, a), write(&store_of_b, &seen_by_b, fence + 2, b)]
}

#[test]
fn the_version_comparison_stops_the_second_of_two_writers_that_the_fence_lets_through() {
    let site = two_jobs();
    let [a, b] = read_check_write_race(&site);
    assert!(a.is_ok(), "{a:?}");
    assert!(matches!(b, Err(CommitError::Conflict { expected: 3, actual: 4, .. })), "{b:?}");
    assert_eq!(audit(&site).version, 4);
}

#[test]
fn without_the_version_comparison_the_key_of_the_change_log_still_refuses() {
    in_child(
        concat!(
            module_path!(),
            "::without_the_version_comparison_the_key_of_the_change_log_still_refuses"
        ),
        "version-comparison=off",
        || {
            let site = two_jobs();
            let [a, b] = read_check_write_race(&site);
            assert!(a.is_ok() && matches!(b, Err(CommitError::Refused(_))), "{a:?} {b:?}");
            assert_eq!(audit(&site).version, 4);
        },
    );
}

/// The negative control: both writers held the lock as far as they knew, both tokens passed the
/// fence, and the rows hold a cycle.
#[test]
fn without_the_version_comparison_and_that_key_the_rows_end_in_a_cycle() {
    in_child(
        concat!(
            module_path!(),
            "::without_the_version_comparison_and_that_key_the_rows_end_in_a_cycle"
        ),
        "version-comparison=off",
        || {
            let site = two_jobs();
            site.run_sql(
                "CREATE TABLE loose AS SELECT * FROM changes; DROP TABLE changes; ALTER TABLE loose RENAME TO changes",
            );
            let [a, b] = read_check_write_race(&site);
            assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
            let loaded = site.store().load(&name(GRAPH));
            let Err(StoreError::DamagedRows { reason, .. }) = loaded else {
                panic!("the rows are a legal graph")
            };
            assert_eq!(reason.to_string(), "the stored jobs form a cycle");
        },
    );
}

/// The negative control: a holder whose lock has passed to another writes in between, and tokens in
/// the log go back.
#[test]
fn without_the_fence_a_stale_holder_writes() {
    in_child(
        concat!(module_path!(), "::without_the_fence_a_stale_holder_writes"),
        "fence-comparison=off",
        || {
            let site = two_jobs();
            let store = site.store();
            let fence = read(&store).head.fence;
            write(&store, &read(&store), fence + 5, put_dataset("d")).unwrap();
            write(&store, &read(&store), fence + 4, put_dataset("e"))
                .expect("nothing stops the stale holder");
            let found = std::panic::catch_unwind(|| audit(&site));
            assert!(found.is_err(), "the audit is to notice that tokens went back");
        },
    );
}

/// A mistake of ours that only the database notices: the writer is told, and nothing of the
/// transaction stays.
#[test]
fn rows_that_the_database_refuses_leave_nothing_behind() {
    let site = two_jobs();
    let store = site.store();
    let seen = read(&store);
    // The id that the next job gets.
    let ghost = "INSERT INTO jobs SELECT id, 2, 'ghost', '{}', 1, '<>' FROM graphs";
    site.run_sql(&lists(&site, ghost));
    let refused = write(&store, &seen, seen.head.fence + 1, put_job("ghost", &[], &["new"]));
    assert!(matches!(refused, Err(CommitError::Refused(_))), "{refused:?}");
    site.run_sql("DELETE FROM jobs WHERE id = 2");
    assert_eq!(audit(&site).version, 3);
}

#[test]
fn changes_are_read_in_order_and_as_far_as_wanted() {
    let site = two_jobs();
    let store = site.store();
    let id = site.head().id;
    let mut seen = Vec::new();
    store
        .changes(id, 1, &mut |version, text, chain| {
            seen.push((version, text.to_owned(), chain));
            true
        })
        .unwrap();
    let log = audit(&site).log;
    assert_eq!(seen.iter().map(|(version, ..)| *version).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(seen[1].1, log[2].text);
    assert_eq!(seen[1].2, site.head().chain);
    let mut first = Vec::new();
    store
        .changes(id, 0, &mut |version, _, _| {
            first.push(version);
            false
        })
        .unwrap();
    assert_eq!(first, [1]);
}

#[test]
fn graphs_are_listed_in_byte_order_without_the_deleted_ones() {
    let site = Site::new();
    let node = site.node();
    for graph in ["b", "a", "aa", "a/1", "Ä", "gone", "a2"] {
        node.create_graph_and_wait(&name(graph)).unwrap();
    }
    node.write_and_wait(&name("gone"), delete_graph()).unwrap();
    let store = site.store();
    let list = |prefix: &str, after: Option<&str>, limit| {
        let heads = store.graphs(prefix, after, limit).unwrap();
        heads.into_iter().map(|head| head.name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 100), ["a", "a/1", "a2", "aa", "b", "Ä"]);
    assert_eq!(list("a", None, 100), ["a", "a/1", "a2", "aa"]);
    assert_eq!(list("a", Some("a/1"), 100), ["a2", "aa"]);
    assert_eq!(list("a", Some("a"), 2), ["a/1", "a2"]);
    assert_eq!(list("a", Some("b"), 100), Vec::<String>::new());
    assert_eq!(list("", Some("gone"), 100), ["Ä"]);
}
