//! What is kept of graphs stays within a budget: those that were used longest ago leave memory,
//! unless somebody uses them.

use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::lock::Mode;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service};

use crate::support::ask::{accepted, changeset, in_line, put_dataset, put_job_with, verdicts};
use crate::support::cluster::{GRAPH, Site, name, wait_until, waiting_for_lock};

/// A node that keeps so many bytes. Its turns come one after another: when one begins, nobody has
/// the graph of the one before any more.
fn node_with(site: &Site, graph_bytes: usize) -> Service {
    let limits = Limits { graph_bytes, turn_threads: 1, ..Limits::default() };
    node::open(&NodeOptions { limits, ..site.options() }).unwrap()
}

/// Creates `graphs`, as large as each other if their names are; says how many bytes each takes.
fn fill(site: &Site, graphs: &[&str]) -> usize {
    let node = site.node();
    for graph in graphs {
        node.create_graph_and_wait(&name(graph)).unwrap();
        let spec = format!("{{\"of\":\"{graph}\"}}");
        let jobs = (0..30).map(|n| {
            put_job_with(&format!("job-{n:02}"), &["in"], &[&format!("out-{n:02}")], &spec)
        });
        node.write_and_wait(&name(graph), changeset(jobs)).unwrap();
    }
    assert_eq!(node.metrics().graphs_held.get() as usize, graphs.len());
    node.metrics().graph_bytes.get() as usize / graphs.len()
}

fn digest(node: &Service, graph: &str) -> String {
    node.read_and_wait(&name(graph)).unwrap().graph.digest()
}

/// Graphs held, graphs let go, images loaded.
fn kept(node: &Service) -> (i64, u64, u64) {
    let metrics = node.metrics();
    (metrics.graphs_held.get(), metrics.graphs_evicted.get(), metrics.image_loads.get())
}

#[test]
fn the_graph_that_was_used_longest_ago_leaves_memory_and_comes_back_as_it_was() {
    let site = Site::new();
    let each = fill(&site, &["a", "b", "c"]);
    let node = node_with(&site, 2 * each + each / 2);
    let [a, b] = ["a", "b"].map(|graph| digest(&node, graph));
    assert_eq!(kept(&node), (2, 0, 2));
    assert_eq!(digest(&node, "a"), a);
    // Room for two, and `b` was used longest ago.
    let c = digest(&node, "c");
    assert_eq!((kept(&node), node.metrics().graph_bytes.get() as usize), ((2, 1, 3), 2 * each));
    assert_eq!([digest(&node, "a"), digest(&node, "c")], [a.clone(), c.clone()]);
    assert_eq!(kept(&node), (2, 1, 3), "they were there");
    assert_eq!(digest(&node, "b"), b);
    assert_eq!(kept(&node), (2, 2, 4));
    assert_eq!([digest(&node, "a"), digest(&node, "c")], [a, c], "each is what it was");
    assert_eq!(node.metrics().graph_bytes.get() as usize, 2 * each);
}

/// What a write adds to a graph is counted too.
#[test]
fn a_graph_that_grows_drives_another_out() {
    let site = Site::new();
    let each = fill(&site, &["a", "b"]);
    let node = node_with(&site, 2 * each + 1000);
    for graph in ["a", "b"] {
        digest(&node, graph);
    }
    assert_eq!(kept(&node), (2, 0, 2));
    let spec = format!("{{\"long\":\"{}\"}}", "x".repeat(2000));
    node.write_and_wait(&name("b"), changeset([put_job_with("large", &[], &[], &spec)])).unwrap();
    assert_eq!(kept(&node), (1, 1, 2));
    let bytes = node.metrics().graph_bytes.get() as usize;
    assert!((each + 2000..2 * each).contains(&bytes), "{bytes} bytes, where a graph takes {each}");
}

#[test]
fn a_graph_in_use_stays_even_if_it_alone_is_over_the_budget() {
    let site = Site::with_graph();
    fill(&site, &["other"]);
    let node = node_with(&site, 1);
    for n in 0..3 {
        accepted(&node, [put_dataset(&format!("d-{n}"))]);
        node.read_and_wait(&name(GRAPH)).unwrap();
    }
    assert_eq!(kept(&node), (1, 0, 1));
    digest(&node, "other");
    assert_eq!(kept(&node), (1, 1, 2), "nobody used it any more");
}

/// Its queue would be lost, and a second turn begin beside the one that serves it.
#[test]
fn a_graph_with_a_request_in_its_queue_is_not_evicted() {
    let site = Site::with_graph();
    fill(&site, &["a", "b", "c"]);
    let limits = Limits { graph_bytes: 1, ..Limits::default() };
    let turn_limits = waiting_for_lock(2 * crate::support::limit());
    let node = node::open(&NodeOptions { limits, turn_limits, ..site.options() }).unwrap();
    node.read_and_wait(&name(GRAPH)).unwrap();
    let lock = site.hold_lock(GRAPH, Mode::Exclusive);
    let mut waiting = in_line(&node, GRAPH, [changeset([put_dataset("d-0")])]);
    wait_until("its turn has begun", || node.waiting().0 == 0);
    for (n, graph) in ["a", "b", "c"].iter().enumerate() {
        waiting.extend(in_line(&node, GRAPH, [changeset([put_dataset(&format!("e-{n}"))])]));
        digest(&node, graph);
        assert_eq!(node.waiting().0, n + 1, "its line is lost");
    }
    lock.release();
    let versions: Vec<_> =
        verdicts(waiting).into_iter().map(|verdict| verdict.unwrap().version).collect();
    assert_eq!(versions, [2, 3, 4, 5]);
    assert_eq!(node.metrics().image_loads.get(), 4, "its image was there");
}

#[test]
fn what_is_kept_stays_within_the_budget_however_many_graphs_are_used() {
    const KEPT: usize = 50;
    let site = Site::new();
    let zeros = if site.database_url().starts_with("sqlite:") {
        "zeroblob(32)"
    } else {
        "decode(repeat('00', 32), 'hex')"
    };
    site.store();
    let names = (0..1000).map(|n| format!("graph-{n:03}"));
    let uuid = |n: u128| uuid::Uuid::from_u128(n);
    let rows = (0..)
        .zip(names.clone())
        .map(|(n, graph)| format!("('{graph}', 'open', 0, 0, 0, '', {zeros}, '{}')", uuid(n)));
    let rows: Vec<_> = rows.collect();
    site.run_sql(&format!(
        "INSERT INTO graphs (name, state, version, fence, epoch, lock_incarnation, chain, uuid) VALUES {}",
        rows.join(", ")
    ));
    let design = &CRUD_OPTIMISTIC;
    let each = {
        let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
        node.read_and_wait(&name("graph-000")).unwrap();
        node.metrics().graph_bytes.get() as usize
    };
    let limits = Limits { graph_bytes: KEPT * each, turn_threads: 1, ..Limits::default() };
    let node = node::open(&NodeOptions { design, limits, ..site.options() }).unwrap();
    for graph in names {
        node.read_and_wait(&name(&graph)).unwrap();
        let bytes = node.metrics().graph_bytes.get() as usize;
        assert!(bytes <= KEPT * each, "{bytes} bytes are kept with {graph}, of {}", KEPT * each);
    }
    assert_eq!(kept(&node), (KEPT as i64, 1000 - KEPT as u64, 1000));
    // Names that are no graph's take nothing, and drive nobody out.
    for n in 0..100 {
        let unknown = name(&format!("unknown-{n}"));
        assert_eq!(
            node.read_and_wait(&unknown).err(),
            Some(Refusal::GraphNotFound { graph: unknown })
        );
    }
    assert_eq!(kept(&node), (KEPT as i64, 1000 - KEPT as u64, 1000));
    assert_eq!(node.metrics().graph_bytes.get() as usize, KEPT * each);
}
