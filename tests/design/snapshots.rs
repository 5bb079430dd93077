//! Graphs that are kept by their logs are loaded from packed snapshots: whatever happened to those,
//! a load gives the graph that the log tells of, or is refused.

use std::ops::Bound;
use std::time::Duration;

use diesel::prelude::*;
use fencepost::archive::{
    PastError, PruneError, SnapshotError, drop_snapshots, graph_at, list_snapshots, prune,
    take_snapshot,
};
use fencepost::db::schema::{packed_parts, packed_snapshots};
use fencepost::design::crud::CRUD;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::graph::Graph;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service};
use fencepost::store::{PackedSnapshot, Store, TakeLimits, Taken};
use proptest::prelude::*;

use super::event_sourced::{history, node_of};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job, write};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name, wait_until};
use crate::support::guards::passes;
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// A graph with a history of so many writes, most of which are accepted.
fn site_with_history(kind: Kind, seed: u64, writes: usize) -> Site {
    let site = Site::on(kind);
    let node = node_of(&site, &ES_OPTIMISTIC);
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
    let node = node_of(site, &ES_OPTIMISTIC);
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
    let (site, [first, _]) = site_with_two(kind);
    damage(&site);
    let (graph, from, changes) = loaded(&site);
    let expected = ("snapshot", graph.version() - first);
    assert_eq!((from, changes), expected, "{what}");
    assert_eq!(graph.digest(), audit(&site).digest, "{what}");
    assert_eq!(told(&graph), told(&replayed(&site)), "{what}");
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_the_one_before() {
    const TEST: &str = "design::snapshots::a_damaged_snapshot_is_passed_over_for_the_one_before";
    for kind in KINDS {
        // Another letter in a name is a legal graph as well: only the checksum tells.
        passes_over("a letter", kind, |site| {
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
    const TEST: &str = "design::snapshots::a_snapshot_of_another_history_or_graph_is_passed_over";
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
            site.run_sql(&format!(
                "UPDATE packed_parts SET graph_id = (SELECT id FROM graphs WHERE name = '{GRAPH}') \
                 WHERE snapshot = '{0}'; \
                 DELETE FROM packed_snapshots WHERE snapshot = '{0}'; \
                 UPDATE packed_snapshots SET snapshot = '{0}', parts = {1} WHERE {NEWEST}",
                other.id, other.parts
            ));
        });
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("packed-history")), "without the comparison it is believed");
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

        // The first claim has run out as soon as it is made.
        let mut second = None;
        let first = take_with(&store, Duration::ZERO, &mut || {
            second.get_or_insert_with(|| take_with(&other, hour, &mut || true));
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
        let first = take_with(&store, Duration::ZERO, &mut || {
            asked += 1;
            if asked == taken.parts + 2 {
                second = Some(take_with(&other, hour, &mut || true));
            }
            true
        });
        assert_eq!(first, Taken::ClaimLost);
        let Some(Taken::Yes(taken)) = second else { panic!("{second:?}") };

        // Whoever is told to stop leaves the claim to others, and nothing that could be read.
        let mut parts = 0;
        let stopped = take_with(&store, hour, &mut || {
            parts += 1;
            parts < 3
        });
        assert_eq!(stopped, Taken::Stopped);
        assert_eq!(versions(&site), [taken.version]);
        assert!(matches!(take_with(&other, hour, &mut || true), Taken::Yes(_)));
    }
    if std::env::var("FENCEPOST_FAILPOINTS").is_err() {
        assert!(!passes(TEST, Some("packed-claim")), "without the claim both write");
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

        // One of which something else comes back.
        let right = "SELECT digest FROM packed_snapshots";
        site.run_sql("UPDATE packed_snapshots SET digest = 'x' || digest");
        let refused = prune(&store, &name(GRAPH), taken.version).unwrap_err().to_string();
        assert!(refused.contains("can be read back"), "{right}: {refused}");
        site.run_sql("UPDATE packed_snapshots SET digest = substr(digest, 2)");

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
        assert_eq!(drop_snapshots(&store, &name(GRAPH), Some(taken.version)).unwrap(), 1);
        assert_eq!(versions(&site), [newer.version]);
        assert_eq!(told(&loaded(&site).0), told(&before));

        // Deleted and created again it goes on, in the same storage.
        let node = node_of(&site, &ES_OPTIMISTIC);
        node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
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
fn of_an_empty_graph_and_of_rows_none_is_taken() {
    let site = Site::on(Kind::Sqlite);
    node_of(&site, &ES_OPTIMISTIC).create_graph_and_wait(&name(GRAPH)).unwrap();
    node_of(&site, &CRUD).create_graph_and_wait(&name("rows")).unwrap();
    let refused = |graph: &str| take_snapshot(&site.store(), &name(graph)).unwrap_err();
    assert!(matches!(refused(GRAPH), SnapshotError::Empty(_)));
    assert!(matches!(refused("rows"), SnapshotError::NotUsed { .. }));
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
