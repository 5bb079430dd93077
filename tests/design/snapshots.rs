//! Graphs are loaded from packed snapshots: whatever happened to those, a load gives the graph that
//! the log and the rows tell of, or is refused.

use std::ops::Bound;
use std::time::Duration;

use diesel::prelude::*;
use fencepost::archive::{
    Difference, PastError, PruneError, Remedy, SnapshotError, check_rows, drop_snapshots, graph_at,
    list_snapshots, prune, take_snapshot,
};
use fencepost::chain::Chain;
use fencepost::db::schema::{packed_claims, packed_parts, packed_snapshots};
use fencepost::design::Design;
use fencepost::design::crud::CRUD;
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::graph::Graph;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service};
use fencepost::store::{ImageKey, PackedSnapshot, SnapshotOutcome, Store, TakeLimits, Taken};
use proptest::prelude::*;

use super::event_sourced::{history, node_of};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job, write};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name, wait_until};
use crate::support::guards::passes;
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// A graph with a history of so many writes, most of which are accepted.
fn site_with_history(kind: Kind, seed: u64, writes: usize) -> Site {
    site_of(&ES_OPTIMISTIC, kind, seed, writes)
}

fn site_of(design: &'static Design, kind: Kind, seed: u64, writes: usize) -> Site {
    let site = Site::on(kind);
    let node = node_of(&site, design);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("first")]);
    history(&node, seed, writes);
    site
}

fn go_on(site: &Site, seed: u64, writes: usize) {
    history(&node_of(site, &ES_OPTIMISTIC), seed, writes);
}

fn take(site: &Site) -> PackedSnapshot {
    take_snapshot(&site.store(), &name(GRAPH)).unwrap()
}

fn versions(site: &Site) -> Vec<u64> {
    let all = list_snapshots(&site.store(), &name(GRAPH)).unwrap();
    all.iter().map(|snapshot| snapshot.version).collect()
}

/// All that tells two images apart.
#[derive(Debug, PartialEq)]
struct Told {
    version: u64,
    digest: String,
    /// Ids, names and versions.
    jobs: Vec<(u32, String, u64)>,
    /// Ids and names.
    datasets: Vec<(u32, String)>,
}

fn told(graph: &Graph) -> Told {
    let jobs = graph.jobs_from(Bound::Unbounded);
    let datasets = graph.datasets_from(Bound::Unbounded);
    Told {
        version: graph.version(),
        digest: graph.digest(),
        jobs: jobs.map(|job| (job.id(), job.name().to_string(), job.version())).collect(),
        datasets: datasets.map(|dataset| (dataset.id(), dataset.name().to_string())).collect(),
    }
}

/// A node that has just loaded the graph: what it was loaded from, and how many changes were
/// replayed.
fn loaded(site: &Site) -> (Graph, &'static str, u64) {
    loaded_by(&ES_OPTIMISTIC, site)
}

fn loaded_by(design: &'static Design, site: &Site) -> (Graph, &'static str, u64) {
    let node = node_of(site, design);
    let graph = node.read_and_wait(&name(GRAPH)).unwrap().graph.clone();
    let metrics = node.metrics();
    let from = ["rows", "log", "snapshot"].into_iter().find(|from| loads(&node, from) == 1);
    (graph, from.expect("it was loaded once"), metrics.changes_replayed.get())
}

fn loads(node: &Service, from: &str) -> u64 {
    node.metrics().image_loads_from.with_label_values(&[from]).get()
}

/// The graph from its first change on, whatever snapshots there are.
fn replayed(site: &Site) -> Graph {
    site.run_sql("DELETE FROM packed_snapshots");
    let (graph, from, changes) = loaded(site);
    assert_eq!((from, changes), ("log", graph.version()));
    graph
}

#[test]
fn a_start_begins_with_the_newest_snapshot_and_replays_what_came_after() {
    for kind in KINDS {
        let site = site_with_history(kind, 1, 150);
        let first = take(&site);
        go_on(&site, 2, 100);
        let second = take(&site);
        assert!(first.version < second.version, "{first:?} {second:?}");
        assert_eq!(versions(&site), [second.version, first.version]);
        // Right after it, then with few changes, then with more than the graph has nodes.
        for (seed, writes) in [(0, 0), (3, 1), (4, 400)] {
            go_on(&site, seed, writes);
            let (graph, from, changes) = loaded(&site);
            assert_eq!((from, changes), ("snapshot", graph.version() - second.version));
            assert_eq!(graph.digest(), audit(&site).digest);
        }
        let (graph, ..) = loaded(&site);
        assert_eq!(told(&graph), told(&replayed(&site)));
        // Nothing is lost, and it goes on from there.
        accepted(&node_of(&site, &ES_OPTIMISTIC), [put_dataset("one more")]);
        audit(&site);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Over histories and points at which snapshots are taken: what is loaded is the graph that a
    /// replay of all changes gives, with the same ids.
    #[test]
    fn every_start_gives_the_graph_that_a_replay_gives(
        seed in any::<u64>(),
        stretches in proptest::collection::vec((0..60_usize, any::<bool>()), 1..5),
    ) {
        let site = site_with_history(Kind::Sqlite, seed, 5);
        for (at, (writes, snapshot)) in (1..).zip(stretches) {
            go_on(&site, seed.wrapping_add(at), writes);
            if snapshot {
                take(&site);
            }
            let (graph, ..) = loaded(&site);
            prop_assert_eq!(graph.digest(), audit(&site).digest);
        }
        let (graph, ..) = loaded(&site);
        prop_assert_eq!(told(&graph), told(&replayed(&site)));
    }

    /// The same where the graph has rows.
    #[test]
    fn every_start_of_a_graph_of_rows_gives_the_graph_that_its_rows_give(
        seed in any::<u64>(),
        stretches in proptest::collection::vec((0..60_usize, 0..6_usize), 1..4),
    ) {
        let site = site_of(&CRUD_OPTIMISTIC, Kind::Sqlite, seed, 5);
        for (at, (writes, after)) in (1..).zip(stretches) {
            let go_on = |seed, writes| history(&node_of(&site, &CRUD_OPTIMISTIC), seed, writes);
            go_on(seed.wrapping_add(at), writes);
            let taken = take(&site);
            go_on(seed.wrapping_sub(at), after);
            let (graph, from, changes) = loaded_by(&CRUD_OPTIMISTIC, &site);
            let since = graph.version() - taken.version;
            let expected = if 256 * since <= taken.bytes { ("snapshot", since) } else { ("rows", 0) };
            prop_assert_eq!((from, changes), expected);
            let (_, of_rows) = site.store().load(&name(GRAPH)).unwrap().unwrap();
            prop_assert_eq!(told(&graph), told(&of_rows));
            prop_assert_eq!(graph.digest(), audit(&site).digest);
        }
    }
}

#[test]
fn a_graph_of_rows_is_loaded_from_a_snapshot_that_can_be_used_and_else_from_its_rows() {
    for kind in KINDS {
        let site = site_of(&CRUD, kind, 1, 100);
        let node = node_of(&site, &CRUD);
        let from = || {
            let (graph, from, changes) = loaded_by(&CRUD, &site);
            let (_, of_rows) = site.store().load(&name(GRAPH)).unwrap().unwrap();
            assert_eq!(told(&graph), told(&of_rows));
            (from, changes)
        };
        let taken = take(&site);
        assert_eq!(from(), ("snapshot", 0));
        accepted(&node, [put_dataset("after")]);
        assert_eq!(from(), ("snapshot", 1));

        // The log does not go on from it; it is damaged.
        let replaced = |from: &str, to: &str| {
            let newest = format!("version = {}", taken.version + 1);
            site.run_sql(&format!(
                "UPDATE changes SET change = replace(change, '{from}', '{to}') WHERE {newest}"
            ));
        };
        replaced("after", "other");
        assert_eq!(from(), ("rows", 0));
        replaced("other", "after");
        assert_eq!(from(), ("snapshot", 1));
        site.run_sql("UPDATE packed_parts SET content = checksum");
        assert_eq!(from(), ("rows", 0));

        // Its log is pruned, and what is left of it leads nowhere without the snapshot.
        take(&site);
        assert_eq!(from(), ("snapshot", 0));
        prune(&site.store(), &name(GRAPH), taken.version + 1).unwrap();
        assert_eq!(from(), ("snapshot", 0));
        // The one of before went with the changes.
        assert_eq!(drop_snapshots(&site.store(), &name(GRAPH), None).unwrap(), 1);
        assert_eq!(from(), ("rows", 0));
        audit_of_rows(&site);

        // Its log can go on as all there is of it, once it is empty.
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        drop(node);
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let deleted_at = site.head().version;
        accepted(&node, [put_job("new", &["a"], &["b"])]);
        let (graph, from, changes) = loaded(&site);
        assert_eq!((graph.job_count(), from, changes), (1, "snapshot", 1));
        assert_eq!(graph.version(), deleted_at + 1);
    }
}

/// A snapshot of damaged rows is one of another graph, and nothing but the log tells.
#[test]
fn rows_that_were_put_right_are_not_what_a_snapshot_of_before_says_and_check_rows_says_so() {
    for kind in KINDS {
        let site = site_of(&CRUD, kind, 1, 20);
        accepted(&node_of(&site, &CRUD), [put_job("j", &["in"], &[])]);
        let set_spec = |spec: &str| {
            site.run_sql(&format!("UPDATE jobs SET spec = '{spec}' WHERE name = 'j'"));
        };
        let checked = || {
            let mut told = Vec::new();
            let each = &mut |difference: &Difference| told.push(difference.to_string());
            let checked = check_rows(&site.store(), &name(GRAPH), each).unwrap();
            (told, checked.remedy)
        };
        set_spec(r#"{"other":1}"#);
        let taken = take(&site);
        assert_eq!(checked().1, Remedy::Log);
        set_spec("{}");
        let (told, remedy) = checked();
        let expected = format!(
            "graph `{GRAPH}`: its snapshot of version {} is not what the log leads to",
            taken.version
        );
        assert_eq!((told, remedy), (vec![expected], Remedy::DropSnapshots));
        let (code, said) = finish(site.fencepost(&["check-rows", "--graph", GRAPH]));
        assert!(code == Some(1) && said.contains("fencepost snapshot drop --graph g"), "{said}");
        drop_snapshots(&site.store(), &name(GRAPH), None).unwrap();
        assert_eq!(checked().0, [""; 0]);

        // Whoever asks for the graph as it is stored is told of damaged rows, whatever there is
        // beside them.
        take(&site);
        site.run_sql("UPDATE jobs SET version = 0");
        assert!(site.store().load(&name(GRAPH)).is_err());
        assert_eq!(loaded_by(&CRUD, &site).1, "snapshot");
    }
}

/// Whoever replays the log from its beginning finds the rows.
fn audit_of_rows(site: &Site) {
    let past = graph_at(&site.store(), &name(GRAPH), site.head().version).unwrap();
    let (_, of_rows) = site.store().load(&name(GRAPH)).unwrap().unwrap();
    assert_eq!(past.graph.digest(), of_rows.digest());
}

/// Snapshots at two versions of one history, and changes after them.
fn site_with_two(kind: Kind) -> (Site, [u64; 2]) {
    let site = site_with_history(kind, 1, 60);
    let first = take(&site).version;
    go_on(&site, 2, 60);
    let second = take(&site).version;
    go_on(&site, 3, 10);
    (site, [first, second])
}

/// Names the newest snapshot.
fn newest_id(site: &Site) -> String {
    list_snapshots(&site.store(), &name(GRAPH)).unwrap().remove(0).id
}

const NEWEST: &str = "version = (SELECT max(version) FROM packed_snapshots)";

/// Whoever damages the newest snapshot makes the load begin with the one before.
fn passes_over(what: &str, kind: Kind, damage: impl Fn(&Site)) {
    let (site, _) = site_with_two(kind);
    damage(&site);
    let rows = packed_snapshots::table.filter(packed_snapshots::graph_id.eq(site.head().id));
    let before = rows.select(diesel::dsl::min(packed_snapshots::version));
    let before: Option<i64> = before.first(&mut site.sql()).unwrap();
    let first = before.unwrap() as u64;
    let (graph, from, changes) = loaded(&site);
    let expected = ("snapshot", graph.version() - first);
    assert_eq!((from, changes), expected, "{what}");
    assert_eq!(graph.digest(), audit(&site).digest, "{what}");
    assert_eq!(told(&graph), told(&replayed(&site)), "{what}");
}

/// Gives the newest snapshot the parts of another graph's.
fn put_in_place_of_newest(site: &Site, other: &PackedSnapshot) {
    site.run_sql(&format!(
        "UPDATE packed_parts SET graph_id = (SELECT id FROM graphs WHERE name = '{GRAPH}') \
         WHERE snapshot = '{0}'; \
         DELETE FROM packed_snapshots WHERE snapshot = '{0}'; \
         UPDATE packed_snapshots SET snapshot = '{0}', parts = {1} WHERE {NEWEST}",
        other.id, other.parts
    ));
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_one_before() {
    const TEST: &str = "design::snapshots::a_damaged_snapshot_is_passed_over_for_the_one_before";
    for kind in KINDS {
        // Another letter in a name is a legal graph as well: only the checksum tells, where no
        // change after it contradicts.
        passes_over("a letter", kind, |site| {
            take(site);
            let first = packed_parts::table
                .filter(packed_parts::snapshot.eq(newest_id(site)))
                .filter(packed_parts::part.eq(0));
            let content = first.clone().select(packed_parts::content);
            let mut content: Vec<u8> = content.first(&mut site.sql()).unwrap();
            let at = content.windows(4).position(|bytes| bytes == b"job-").unwrap();
            content[at] = b'J';
            diesel::update(first)
                .set(packed_parts::content.eq(content))
                .execute(&mut site.sql())
                .unwrap();
        });
        passes_over("a part is missing", kind, |site| {
            let newest = newest_id(site);
            site.run_sql(&format!("DELETE FROM packed_parts WHERE snapshot = '{newest}'"));
        });
        passes_over("fewer parts", kind, |site| {
            site.run_sql(&format!("UPDATE packed_snapshots SET parts = parts - 1 WHERE {NEWEST}"));
        });
        passes_over("more parts", kind, |site| {
            site.run_sql(&format!("UPDATE packed_snapshots SET parts = parts + 1 WHERE {NEWEST}"));
        });
        passes_over("another format", kind, |site| {
            site.run_sql(&format!("UPDATE packed_snapshots SET format = 9 WHERE {NEWEST}"));
        });
        // The parts of another graph, which was proven, in the place of this one's: the log does
        // not go on from there.
        passes_over("a graph that is another", kind, |site| {
            let node = node_of(site, &ES_OPTIMISTIC);
            accepted(&node, [put_job("is there", &[], &[])]);
            let first = list_snapshots(&site.store(), &name(GRAPH)).unwrap().pop().unwrap();
            let newest = take(site);
            accepted(&node, [crate::support::ask::delete_job("is there")]);
            // It would be the third.
            assert_ne!(versions(site).last(), Some(&first.version));
            node.create_graph_and_wait(&name("other")).unwrap();
            for n in 1..=newest.version {
                let put = crate::support::ask::changeset([put_dataset(&format!("d{n}"))]);
                node.write_and_wait(&name("other"), put).unwrap();
            }
            let other = take_snapshot(&site.store(), &name("other")).unwrap();
            assert_eq!(other.version, newest.version);
            put_in_place_of_newest(site, &other);
        });
        passes_over("a damaged row", kind, |site| {
            site.run_sql(&format!("UPDATE packed_snapshots SET parts = -1 WHERE {NEWEST}"));
        });
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("packed-checksum")), "without the checksum it is believed");
    }
}

#[test]
fn a_snapshot_of_another_history_or_graph_is_passed_over() {
    for kind in KINDS {
        // A restored backup has other changes at the same versions.
        passes_over("another history", kind, |site| {
            let other = packed_snapshots::chain.eq(vec![7_u8; 32]);
            let newest = versions(site)[0] as i64;
            diesel::update(packed_snapshots::table.filter(packed_snapshots::version.eq(newest)))
                .set(other)
                .execute(&mut site.sql())
                .unwrap();
        });
        passes_over("another graph", kind, |site| {
            let node = node_of(site, &ES_OPTIMISTIC);
            node.create_graph_and_wait(&name("other")).unwrap();
            let put = crate::support::ask::changeset([put_dataset("elsewhere")]);
            node.write_and_wait(&name("other"), put).unwrap();
            let other = take_snapshot(&site.store(), &name("other")).unwrap();
            put_in_place_of_newest(site, &other);
        });
    }
}

#[test]
fn without_a_usable_snapshot_the_whole_log_is_replayed_and_a_pruned_one_refused() {
    for kind in KINDS {
        let (site, [_, second]) = site_with_two(kind);
        site.run_sql("UPDATE packed_snapshots SET format = 9");
        let (graph, from, changes) = loaded(&site);
        assert_eq!((from, changes), ("log", graph.version()));

        site.run_sql("UPDATE packed_snapshots SET format = 1");
        prune(&site.store(), &name(GRAPH), second).unwrap();
        site.run_sql("UPDATE packed_snapshots SET format = 9");
        let node = node_of(&site, &ES_OPTIMISTIC);
        let refused = node.read_and_wait(&name(GRAPH)).map(|image| image.key.version);
        let Err(Refusal::Internal { what }) = refused else { panic!("it was loaded: {refused:?}") };
        assert!(
            what.contains(&format!("version 1: the log begins at version {second}"))
                && what.contains("no snapshot"),
            "{what}"
        );
        // Nor is a log that is damaged after its beginning taken for one without a snapshot.
        site.run_sql("UPDATE packed_snapshots SET format = 1");
        let gap = second + 1;
        site.run_sql(&format!("DELETE FROM changes WHERE version = {gap}"));
        let refused = node.read_and_wait(&name(GRAPH)).map(|image| image.key.version);
        let Err(Refusal::Internal { what }) = refused else { panic!("it was loaded: {refused:?}") };
        assert!(what.contains(&format!("version {gap}: it is missing")), "{what}");
    }
}

/// Nothing is dropped that hides damage of the log, and none is taken from one that is damaged.
#[test]
fn a_damaged_log_is_found_by_whoever_takes_or_drops_a_snapshot() {
    for kind in KINDS {
        let (site, _) = site_with_two(kind);
        site.run_sql("UPDATE changes SET change = '{}' WHERE version = 3");
        let dropped = drop_snapshots(&site.store(), &name(GRAPH), None);
        let taken = take_snapshot(&site.store(), &name(GRAPH));
        for refused in [dropped.map(|_| ()), taken.map(|_| ())] {
            assert!(matches!(refused, Err(SnapshotError::Past(_))), "{refused:?}");
        }
        assert_eq!(versions(&site).len(), 2);
        assert_eq!(loaded(&site).1, "snapshot");
    }
}

/// What a prune has kept is enough to make a snapshot from.
#[test]
fn a_pruned_log_whose_snapshots_are_damaged_gives_another() {
    for kind in KINDS {
        let (site, [_, second]) = site_with_two(kind);
        let before = loaded(&site).0;
        prune(&site.store(), &name(GRAPH), second).unwrap();
        site.run_sql("DELETE FROM packed_parts");
        let node = node_of(&site, &ES_OPTIMISTIC);
        assert!(node.read_and_wait(&name(GRAPH)).is_err());
        take(&site);
        let (graph, from, changes) = loaded(&site);
        assert_eq!((graph.digest(), from, changes), (before.digest(), "snapshot", 0));
    }
}

#[test]
fn the_newest_two_are_kept_and_nothing_of_the_others() {
    for kind in KINDS {
        let site = site_with_history(kind, 1, 20);
        let mut taken = Vec::new();
        for seed in 2..6 {
            go_on(&site, seed, 10);
            taken.insert(0, take(&site).version);
        }
        assert_eq!(versions(&site), taken[..2]);
        let parts: Vec<String> = packed_parts::table
            .select(packed_parts::snapshot)
            .distinct()
            .load(&mut site.sql())
            .unwrap();
        assert_eq!(parts.len(), 2);
        // Again at the same version: the newer one takes the other's place.
        take(&site);
        assert_eq!(versions(&site), taken[..2]);
    }
}

fn take_with(store: &Store, claim: Duration, goes_on: &mut dyn FnMut() -> bool) -> Taken {
    let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
    let limits = TakeLimits { part_bytes: 64, claim, ..TakeLimits::default() };
    store.take_packed(&name(GRAPH), head.key(), &graph, limits, goes_on).unwrap()
}

#[test]
fn of_two_that_take_a_snapshot_one_does_and_a_claim_that_ran_out_is_taken_over() {
    const TEST: &str = "design::snapshots::of_two_that_take_a_snapshot_one_does_and_a_claim_that_ran_out_is_taken_over";
    for kind in KINDS {
        let site = site_with_history(kind, 1, 60);
        let (store, other) = (site.store(), site.store());
        let hour = Duration::from_secs(3600);
        let mut second = None;
        let first = take_with(&store, hour, &mut || {
            second.get_or_insert_with(|| take_with(&other, hour, &mut || true));
            true
        });
        assert!(matches!(first, Taken::Yes(_)), "{first:?}");
        assert_eq!(second, Some(Taken::ClaimedElsewhere));

        // The first claim has run out.
        let run_out = || site.run_sql("UPDATE packed_claims SET expires_at_ms = 0");
        let mut second = None;
        let first = take_with(&store, hour, &mut || {
            second.get_or_insert_with(|| {
                run_out();
                take_with(&other, hour, &mut || true)
            });
            true
        });
        assert_eq!(first, Taken::ClaimLost);
        let Some(Taken::Yes(taken)) = second else { panic!("{second:?}") };
        assert_eq!(versions(&site), [taken.version]);
        let (graph, from, changes) = loaded(&site);
        assert_eq!((from, changes), ("snapshot", 0));
        assert_eq!(graph.digest(), taken.digest);

        // The same after the last part, while it is proven.
        let (mut second, mut asked) = (None, 0);
        let first = take_with(&store, hour, &mut || {
            asked += 1;
            if asked == taken.parts + 2 {
                run_out();
                second = Some(take_with(&other, hour, &mut || true));
            }
            true
        });
        assert_eq!(first, Taken::ClaimLost);
        assert!(matches!(second, Some(Taken::Yes(_))), "{second:?}");

        // While one writes, what others leave is deleted, and what it has written is not. After its
        // claim ran out that goes too, and it finds that out.
        for is_kept in [true, false] {
            let mut asked = 0;
            let first = take_with(&store, hour, &mut || {
                asked += 1;
                if asked == 3 {
                    if !is_kept {
                        run_out();
                    }
                    let there = drop_snapshots(&other, &name(GRAPH), None).unwrap();
                    assert_eq!(there, 1);
                    assert_eq!(parts_without_a_snapshot(&site) > 0, is_kept);
                }
                true
            });
            match is_kept {
                true => assert!(matches!(first, Taken::Yes(_)), "{first:?}"),
                false => assert_eq!(first, Taken::ClaimLost),
            }
            assert_eq!(parts_without_a_snapshot(&site), 0);
        }
        assert!(matches!(take_with(&store, hour, &mut || true), Taken::Yes(_)));

        // Of an image that is not of the log's history there is none, at its end or before.
        let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
        let key = ImageKey { chain: Chain([7; 32]), ..head.key() };
        let limits = TakeLimits::default();
        for _ in 0..2 {
            let of_other =
                store.take_packed(&name(GRAPH), key, &graph, limits, &mut || true).unwrap();
            assert_eq!(of_other, Taken::OtherHistory);
            assert_eq!(parts_without_a_snapshot(&site), 0);
            go_on(&site, 7, 20);
            assert!(site.head().version > head.version);
        }
        assert!(matches!(take_with(&store, hour, &mut || true), Taken::Yes(_)));

        // Whoever is told to stop leaves the claim to others, and nothing that could be read.
        let there = versions(&site);
        let mut parts = 0;
        let stopped = take_with(&store, hour, &mut || {
            parts += 1;
            parts < 3
        });
        assert_eq!(stopped, Taken::Stopped);
        assert_eq!(versions(&site), there);
        assert!(matches!(take_with(&other, hour, &mut || true), Taken::Yes(_)));
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        for guard in ["packed-claim", "installed-history"] {
            assert!(!passes(TEST, Some(guard)), "without {guard}");
        }
    }
}

fn parts_without_a_snapshot(site: &Site) -> i64 {
    let there = packed_snapshots::table.select(packed_snapshots::snapshot);
    let others = packed_parts::table.filter(packed_parts::snapshot.ne_all(there));
    others.count().get_result(&mut site.sql()).unwrap()
}

#[test]
fn a_snapshot_that_loses_a_part_after_it_was_proven_is_not_one_that_can_be_read() {
    for kind in KINDS {
        let site = site_with_history(kind, 1, 60);
        let reached = site.path("reached");
        let armed = format!("packed-written=pause:{}", reached.display());
        let mut command = site.fencepost(&["snapshot", "take", "--graph", GRAPH]);
        let command = command.env("FENCEPOST_FAILPOINTS", armed);
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_until("it was proven", || reached.exists());
        site.run_sql("DELETE FROM packed_parts");
        std::fs::remove_file(&reached).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("parts are missing") && ended.status.code() == Some(1), "{said}");
        assert_eq!(versions(&site), [0; 0]);
    }
}

#[test]
fn a_service_that_ends_while_it_takes_a_snapshot_leaves_it_to_others() {
    for kind in KINDS {
        let site = Site::with_graph_of(kind, &ES_OPTIMISTIC);
        let reached = site.path("reached");
        let armed = format!("packed-part=pause:{}@2", reached.display());
        let server =
            site.serve_armed(&armed, &["--design", "es-optimistic", "--snapshot-log-mib", "1"]);
        let spec = format!(r#"{{"text":"{}"}}"#, "x".repeat(300 << 10));
        let put = |n| crate::support::ask::put_job_with(&format!("long-{n}"), &[], &[], &spec);
        accepted(&node_of(&site, &ES_OPTIMISTIC), (0..4).map(put));
        // Has it loaded.
        server.get("/v1/graphs/g").unwrap();
        wait_until("the first part is written", || reached.exists());
        server.signal("TERM");
        let claims = || {
            let count: i64 = packed_claims::table.count().get_result(&mut site.sql()).unwrap();
            count
        };
        assert_eq!(claims(), 1);
        std::fs::remove_file(&reached).unwrap();
        wait_until("it has given it up", || claims() == 0);
        assert_eq!(server.end("TERM").code(), Some(0));
        assert_eq!(versions(&site), [0; 0]);
        take(&site);
        assert_eq!(parts_without_a_snapshot(&site), 0);
    }
}

/// Kills `fencepost snapshot take`, or `prune`, at each point, and then does it again.
#[test]
fn whoever_is_killed_while_a_snapshot_is_taken_or_a_log_pruned_loses_nothing() {
    for kind in KINDS {
        let points = [
            ("packed-part", 1),
            ("packed-part", 2),
            ("packed-written", 1),
            ("packed-installed", 1),
            ("prune-snapshot-written", 1),
            ("prune-flipped", 1),
        ];
        for (point, passage) in points {
            let (site, [_, second]) = site_with_two(kind);
            // More than a part.
            let spec = format!(r#"{{"text":"{}"}}"#, "x".repeat(300 << 10));
            for n in 0..2 {
                let put = crate::support::ask::put_job_with(&format!("long-{n}"), &[], &[], &spec);
                accepted(&node_of(&site, &ES_OPTIMISTIC), [put]);
            }
            let before = loaded(&site).0;
            let early = graph_at(&site.store(), &name(GRAPH), second - 5).unwrap();
            let reached = site.path("reached");
            let prunes = point.starts_with("prune");
            let before_arg = second.to_string();
            let arguments = match prunes {
                true => vec!["prune", "--graph", GRAPH, "--before", &before_arg],
                false => vec!["snapshot", "take", "--graph", GRAPH],
            };
            let armed = format!("{point}=pause:{}@{passage}", reached.display());
            let mut command = site.fencepost(&arguments);
            let mut child = command.env("FENCEPOST_FAILPOINTS", armed).spawn().unwrap();
            wait_until("the point is reached", || reached.exists());
            child.kill().unwrap();
            child.wait().unwrap();
            std::fs::remove_file(&reached).unwrap();

            let (after, from, _) = loaded(&site);
            assert_eq!((told(&after), from), (told(&before), "snapshot"), "{point}");
            if point == "prune-flipped" {
                // What is left of the changes before is no longer a way to load it.
                let refused = drop_snapshots(&site.store(), &name(GRAPH), Some(second));
                assert!(matches!(refused, Err(SnapshotError::Needed { .. })), "{refused:?}");
                let key = ImageKey { version: second - 5, chain: early.chain, ..early.head.key() };
                let (limits, graph) = (TakeLimits::default(), &early.graph);
                let taken =
                    site.store().take_packed(&name(GRAPH), key, graph, limits, &mut || true);
                assert_eq!(taken.unwrap(), Taken::OtherHistory);
            }
            // Its claim runs out.
            site.run_sql("UPDATE packed_claims SET expires_at_ms = 0");
            let (code, output) = finish(site.fencepost(&arguments));
            assert_eq!(code, Some(0), "{point}: {output}");
            let (after, from, _) = loaded(&site);
            assert_eq!((told(&after), from), (told(&before), "snapshot"), "{point}");
            let there: Vec<String> = packed_snapshots::table
                .select(packed_snapshots::snapshot)
                .order(packed_snapshots::snapshot)
                .load(&mut site.sql())
                .unwrap();
            let parts: Vec<String> = packed_parts::table
                .select(packed_parts::snapshot)
                .distinct()
                .order(packed_parts::snapshot)
                .load(&mut site.sql())
                .unwrap();
            assert_eq!(parts, there, "{point}: nothing is left of others");
        }
    }
}

#[test]
fn a_log_is_pruned_behind_a_snapshot_that_reads_back_and_never_past_a_consumer() {
    const TEST: &str = "design::snapshots::a_log_is_pruned_behind_a_snapshot_that_reads_back_and_never_past_a_consumer";
    for kind in KINDS {
        let site = site_with_history(kind, 1, 60);
        let store = site.store();
        let refused = prune(&store, &name(GRAPH), 2).unwrap_err().to_string();
        assert!(refused.contains("fencepost snapshot take --graph g"), "{refused}");

        let taken = take(&site);
        go_on(&site, 2, 20);
        let head = site.head().version;
        // One as late as that there is not.
        let refused = prune(&store, &name(GRAPH), head);
        assert!(matches!(refused, Err(PruneError::NoSnapshot { .. })), "{refused:?}");
        store.acknowledge(&name(GRAPH), &name("reader"), taken.version - 5).unwrap();
        let refused = prune(&store, &name(GRAPH), taken.version);
        assert!(matches!(refused, Err(PruneError::NeededBy { .. })), "{refused:?}");
        store.forget_consumer(&name(GRAPH), &name("reader")).unwrap();

        // Of those that are there one is dropped, and of others that is said.
        let refused = drop_snapshots(&store, &name(GRAPH), Some(2)).unwrap_err().to_string();
        assert!(refused.contains("no snapshot of version 2"), "{refused}");

        // One of which something else comes back.
        let right = "SELECT digest FROM packed_snapshots";
        site.run_sql("UPDATE packed_snapshots SET digest = 'x' || digest");
        let refused = prune(&store, &name(GRAPH), taken.version).unwrap_err().to_string();
        assert!(refused.contains("can be read back"), "{right}: {refused}");
        site.run_sql("UPDATE packed_snapshots SET digest = substr(digest, 2)");

        // An earlier one than the log's new beginning stands in for nothing.
        let outcome =
            store.install_snapshot(&name(GRAPH), taken.version + 1, None, &[], Some(&taken));
        assert_eq!(outcome.unwrap(), SnapshotOutcome::NotProven);

        let before = loaded(&site).0;
        let pruned = prune(&store, &name(GRAPH), taken.version).unwrap();
        assert_eq!(pruned.changes, taken.version - 1);
        let (after, from, changes) = loaded(&site);
        assert_eq!(told(&after), told(&before));
        assert_eq!((from, changes), ("snapshot", head - taken.version));
        // What is gone is said to be gone, and what is there can still be read.
        let gone = graph_at(&store, &name(GRAPH), taken.version - 1).map(|past| past.head);
        assert!(matches!(gone, Err(PastError::Pruned { .. })), "{gone:?}");
        let past = graph_at(&store, &name(GRAPH), taken.version).unwrap();
        assert_eq!(past.graph.digest(), taken.digest);

        // It is needed from now on.
        let refused = drop_snapshots(&store, &name(GRAPH), None);
        assert!(matches!(refused, Err(SnapshotError::Needed { .. })), "{refused:?}");
        let newer = take(&site);
        // Not while the newer one cannot be used.
        let of_newer = format!("WHERE version = {}", newer.version);
        site.run_sql(&format!("UPDATE packed_snapshots SET format = 9 {of_newer}"));
        let refused = drop_snapshots(&store, &name(GRAPH), Some(taken.version));
        assert!(matches!(refused, Err(SnapshotError::Needed { .. })), "{refused:?}");
        site.run_sql(&format!("UPDATE packed_snapshots SET format = 1 {of_newer}"));
        // Nor while it cannot be read back.
        let part = packed_parts::table.filter(packed_parts::snapshot.eq(&newer.id));
        let content: Vec<u8> = part.select(packed_parts::content).first(&mut site.sql()).unwrap();
        let set = |content: &[u8]| {
            let newer = packed_parts::table.filter(packed_parts::snapshot.eq(&newer.id));
            let set = packed_parts::content.eq(content.to_vec());
            diesel::update(newer).set(set).execute(&mut site.sql()).unwrap();
        };
        set(b"something else");
        let refused = drop_snapshots(&store, &name(GRAPH), Some(taken.version));
        assert!(matches!(refused, Err(SnapshotError::Needed { .. })), "{refused:?}");
        set(&content);
        assert_eq!(drop_snapshots(&store, &name(GRAPH), Some(taken.version)).unwrap(), 1);
        assert_eq!(versions(&site), [newer.version]);
        // One whose row is damaged can be dropped, and is nothing to load from.
        let of_newer = format!("WHERE version = {}", newer.version);
        let third = take(&site);
        assert_eq!(third.version, newer.version);
        go_on(&site, 3, 1);
        accepted(&node_of(&site, &ES_OPTIMISTIC), [put_dataset("after the third")]);
        let fourth = take(&site);
        site.run_sql(&format!("UPDATE packed_snapshots SET parts = -1 {of_newer}"));
        let refused = drop_snapshots(&store, &name(GRAPH), Some(fourth.version));
        assert!(matches!(refused, Err(SnapshotError::Needed { .. })), "{refused:?}");
        assert_eq!(drop_snapshots(&store, &name(GRAPH), Some(third.version)).unwrap(), 1);
        let before = loaded(&site).0;
        assert_eq!(told(&loaded(&site).0), told(&before));

        // Deleted and created again it goes on, in the same storage, whatever snapshots there are:
        // one of the empty graph takes the place of what was pruned.
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        site.run_sql("DELETE FROM packed_snapshots");
        drop(node);
        let node = node_of(&site, &ES_OPTIMISTIC);
        let gone = node.read_and_wait(&name(GRAPH)).map(|image| image.key);
        assert!(matches!(gone, Err(Refusal::GraphNotFound { .. })), "{gone:?}");
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(versions(&site), [site.head().version]);
        accepted(&node, [put_job("new", &["a"], &["b"])]);
        drop(node);
        let (graph, from, _) = loaded(&site);
        assert_eq!((graph.job_count(), from), (1, "snapshot"));
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        for guard in ["packed-needed", "prune-proof"] {
            assert!(!passes(TEST, Some(guard)), "without {guard}");
        }
    }
}

/// Between the proof and the moment when the log is cut off.
#[test]
fn a_snapshot_that_is_dropped_meanwhile_stops_a_prune() {
    const TEST: &str = "design::snapshots::a_snapshot_that_is_dropped_meanwhile_stops_a_prune";
    let off = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
    for kind in KINDS {
        let (site, [_, second]) = site_with_two(kind);
        let reached = site.path("reached");
        let before = second.to_string();
        let mut command = site.fencepost(&["prune", "--graph", GRAPH, "--before", &before]);
        let armed = format!("prune-snapshot-written=pause:{},{off}", reached.display());
        let child = command
            .env("FENCEPOST_FAILPOINTS", armed)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("the snapshot was proven", || reached.exists());
        assert_eq!(drop_snapshots(&site.store(), &name(GRAPH), None).unwrap(), 2);
        std::fs::remove_file(&reached).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("none at version") && ended.status.code() == Some(1), "{said}");
        let (graph, from, changes) = loaded(&site);
        assert_eq!((from, changes), ("log", graph.version()));
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("prune-packed")), "without the second look the log is lost");
    }
}

#[test]
fn snapshots_outlive_a_deleted_graph_and_go_with_its_history() {
    for kind in KINDS {
        let (site, _) = site_with_two(kind);
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        // One of the empty graph is as good as any.
        drop(node);
        let taken = take(&site);
        let node = node_of(&site, &ES_LOCKED);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        accepted(&node, [put_job("new", &["a"], &["b"])]);
        drop(node);
        let (graph, from, changes) = loaded(&site);
        assert_eq!(
            (graph.job_count(), from, changes),
            (1, "snapshot", graph.version() - taken.version)
        );
        assert_eq!(told(&graph), told(&replayed(&site)));

        take(&site);
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        drop(node);
        let plain = node_of(&site, &CRUD_PLAIN);
        plain.create_graph_and_wait(&name(GRAPH)).unwrap();
        let count: i64 = packed_snapshots::table.count().get_result(&mut site.sql()).unwrap();
        assert_eq!(count, 0, "its history is forgotten");
        let told = take_snapshot(&site.store(), &name(GRAPH)).unwrap_err().to_string();
        assert!(told.contains("kept as rows_plain"), "{told}");
    }
}

#[test]
fn a_frozen_graph_is_loaded_from_its_snapshot_and_another_can_be_taken() {
    for kind in KINDS {
        let (site, _) = site_with_two(kind);
        site.run_sql("UPDATE graphs SET state = 'frozen', moved_to = 'elsewhere'");
        let taken = take(&site);
        let (graph, from, changes) = loaded(&site);
        assert_eq!((graph.digest(), from, changes), (taken.digest, "snapshot", 0));
    }
}

#[test]
fn of_an_empty_graph_and_of_one_without_a_log_none_is_taken() {
    let site = Site::on(Kind::Sqlite);
    node_of(&site, &ES_OPTIMISTIC).create_graph_and_wait(&name(GRAPH)).unwrap();
    node_of(&site, &CRUD_PLAIN).create_graph_and_wait(&name("plain")).unwrap();
    let refused = |graph: &str| take_snapshot(&site.store(), &name(graph)).unwrap_err();
    assert!(matches!(refused(GRAPH), SnapshotError::Empty(_)));
    assert!(matches!(refused("plain"), SnapshotError::NotUsed { .. }));
    assert!(matches!(refused("none"), SnapshotError::Past(PastError::GraphNotFound(_))));
}

/// A node that takes a snapshot whenever the log has grown by so many bytes.
fn node_that_takes(site: &Site, log_bytes: u64, graph_bytes: usize) -> Service {
    let limits = Limits {
        snapshot_log_bytes: log_bytes,
        snapshot_every: Duration::from_millis(5),
        graph_bytes,
        ..Limits::default()
    };
    node::open(&NodeOptions { design: &ES_OPTIMISTIC, limits, ..site.options() }).unwrap()
}

#[test]
fn the_service_takes_a_snapshot_when_the_log_has_grown_enough() {
    for kind in KINDS {
        let site = Site::on(kind);
        let node = node_that_takes(&site, 4096, 1 << 30);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let mut bytes = 0;
        while list_snapshots(&site.store(), &name(GRAPH)).unwrap().is_empty() {
            assert!(bytes < 1 << 20, "it was due long ago");
            history(&node, bytes, 5);
            bytes += 500;
        }
        let first = versions(&site)[0];
        let grown = site.store().log_bytes(site.head().id, 0, first).unwrap();
        assert!(grown >= 4096, "{grown} bytes are too few");
        // Each further one after as much again.
        wait_until("a second one is taken", || {
            history(&node, bytes, 5);
            bytes += 1;
            versions(&site)[0] > first
        });
        let second = versions(&site)[0];
        let grown = site.store().log_bytes(site.head().id, first, second).unwrap();
        assert!(grown >= 4096, "{grown} bytes are too few");
        assert!(node.metrics().snapshots.with_label_values(&["taken"]).get() >= 2);
        assert!(node.metrics().snapshot_bytes.get() > 0);
        assert_eq!(loaded(&site).1, "snapshot");
        audit(&site);
    }
}

#[test]
fn a_snapshot_is_taken_when_the_log_has_grown_by_the_size_of_the_last() {
    for kind in KINDS {
        let site = site_with_history(kind, 1, 10);
        let jobs = (0..200).map(|n| put_job(&format!("many-{n}"), &[&format!("in-{n}")], &[]));
        accepted(&node_of(&site, &ES_OPTIMISTIC), jobs);
        let first = take(&site);
        assert!(first.bytes > 600, "{first:?}");
        let node = node_that_takes(&site, 1, 1 << 30);
        let mut seed = 2;
        wait_until("a second one is taken", || {
            history(&node, seed, 1);
            seed += 1;
            versions(&site)[0] > first.version
        });
        let second = versions(&site)[0];
        let grown = site.store().log_bytes(site.head().id, first.version, second).unwrap();
        assert!(grown >= first.bytes, "{grown} bytes are too few after {}", first.bytes);
    }
}

#[test]
fn one_that_cannot_be_used_is_not_counted_from() {
    for kind in KINDS {
        let (site, _) = site_with_two(kind);
        site.run_sql("UPDATE packed_snapshots SET format = 9");
        let node = node_that_takes(&site, 2048, 1 << 30);
        node.read_and_wait(&name(GRAPH)).unwrap();
        let head = site.head().version;
        wait_until("it takes one", || versions(&site)[0] == head);
        assert_eq!(loaded(&site).1, "snapshot");
    }
}

/// Looks again before it takes one: another may have done so.
#[test]
fn a_node_counts_from_the_snapshot_that_another_took() {
    for kind in KINDS {
        let site = Site::on(kind);
        let node = node_that_takes(&site, 8192, 1 << 30);
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        // Opened once: that takes longer than what it is asked.
        let store = site.store();
        let grown_by = |after: u64| {
            let head = store.head(&name(GRAPH)).unwrap().unwrap();
            store.log_bytes(head.id, after, head.version).unwrap()
        };
        let mut seeds = 0..;
        let mut grow_to = |bytes| {
            while grown_by(0) < bytes {
                history(&node, seeds.next().unwrap(), 1);
            }
        };
        grow_to(6_000);
        let by_hand = take(&site);
        grow_to(12_000);
        assert!(grown_by(by_hand.version) < 8192, "it would be due again");
        // It has looked at all graphs once more when another graph has its second snapshot.
        let clock = "clock";
        node.create_graph_and_wait(&name(clock)).unwrap();
        let mut number = 0;
        let mut taken = std::collections::HashSet::new();
        wait_until("it has looked at all", || {
            let spec = format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(9000));
            number += 1;
            let put = [crate::support::ask::put_job_with("job", &[], &[], &spec)];
            node.write_and_wait(&name(clock), crate::support::ask::changeset(put)).unwrap();
            let there = list_snapshots(&store, &name(clock)).unwrap();
            taken.extend(there.into_iter().map(|snapshot| snapshot.version));
            taken.len() > 2
        });
        assert_eq!(versions(&site), [by_hand.version]);
    }
}

/// Also of a graph that left the memory again before the node looked.
#[test]
fn a_graph_whose_load_replays_a_long_log_gets_a_snapshot() {
    for kind in KINDS {
        let site = site_with_history(kind, 1, 100);
        let small = node_of(&site, &ES_OPTIMISTIC);
        small.create_graph_and_wait(&name("small")).unwrap();
        let limits = Limits {
            snapshot_log_bytes: 2048,
            snapshot_every: Duration::from_millis(300),
            graph_bytes: 1,
            ..Limits::default()
        };
        let options = NodeOptions { design: &ES_OPTIMISTIC, limits, ..site.options() };
        let node = node::open(&options).unwrap();
        node.read_and_wait(&name(GRAPH)).unwrap();
        node.read_and_wait(&name("small")).unwrap();
        assert_eq!(node.metrics().graphs_evicted.get(), 1);
        wait_until("it has one", || !versions(&site).is_empty());
    }
}

#[test]
fn a_graph_of_which_no_snapshot_can_be_taken_is_in_nobodys_way() {
    let site = site_with_history(Kind::Sqlite, 1, 100);
    let id = site.head().id;
    site.run_sql(&format!(
        "CREATE TRIGGER refused BEFORE INSERT ON packed_parts WHEN NEW.graph_id = {id} \
         BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    ));
    let limits = Limits {
        snapshot_log_bytes: 1,
        snapshot_every: Duration::from_millis(5),
        snapshot_retry: Duration::from_millis(5),
        ..Limits::default()
    };
    let node =
        node::open(&NodeOptions { design: &ES_OPTIMISTIC, limits, ..site.options() }).unwrap();
    let others = ["before", "after"];
    for graph in others {
        node.create_graph_and_wait(&name(graph)).unwrap();
        // The cache has them in the order in which they were used.
        node.read_and_wait(&name(GRAPH)).unwrap();
        let put = crate::support::ask::changeset([put_dataset("d")]);
        node.write_and_wait(&name(graph), put).unwrap();
    }
    for graph in others {
        let taken = || !list_snapshots(&site.store(), &name(graph)).unwrap().is_empty();
        wait_until("each other graph has one", taken);
    }
    wait_until("it was tried", || {
        node.metrics().snapshots.with_label_values(&["failed"]).get() > 1
    });
    // Its claim does not hold up whoever can.
    site.run_sql("DROP TRIGGER refused");
    wait_until("it has one", || !versions(&site).is_empty());
}

/// Under load, of two nodes, with graphs that come and go in memory.
#[test]
fn graphs_return_to_memory_from_snapshots_under_load() {
    for kind in KINDS {
        let site = Site::on(kind);
        let nodes = [(); 2].map(|()| node_that_takes(&site, 2048, 1));
        let graphs = ["a", "b", GRAPH];
        for graph in graphs {
            nodes[0].create_graph_and_wait(&name(graph)).unwrap();
        }
        let from_snapshots = || nodes.iter().map(|node| loads(node, "snapshot")).sum::<u64>();
        std::thread::scope(|scope| {
            for (number, node) in nodes.iter().enumerate() {
                scope.spawn(move || {
                    for n in 0..120 {
                        let graph = name(graphs[n % 3]);
                        let put = [put_job(&format!("job-{number}-{n}"), &["in"], &[])];
                        let put = crate::support::ask::changeset(put);
                        node.write_and_wait(&graph, put).unwrap();
                        node.read_and_wait(&graph).unwrap();
                    }
                });
            }
        });
        wait_until("a graph has come back from a snapshot", || {
            for graph in graphs {
                write(&nodes[0], [put_dataset("d")]).unwrap();
                nodes[0].read_and_wait(&name(graph)).unwrap();
            }
            from_snapshots() > 0
        });
        for node in &nodes {
            let outcome = |outcome| node.metrics().snapshots.with_label_values(&[outcome]).get();
            assert_eq!((outcome("not proven"), outcome("failed")), (0, 0));
        }
        assert_eq!(audit(&site).digest, loaded(&site).0.digest());
    }
}
