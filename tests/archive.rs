//! What is kept of a graph's past and how it comes back: graphs at earlier versions, pruning,
//! restoring, and the commands for it.

use std::ops::Bound;

use fencepost::archive::{Past, graph_at};
use fencepost::chain::{Chain, LoggedChange};
use fencepost::event::{Event, Stream};
use fencepost::graph::Graph;
use fencepost::service::Write;
use fencepost::store::Store;

use crate::support::ask::{accepted, delete_graph, put_job};
use crate::support::cluster::{GRAPH, Kind, Site, name};
use crate::support::requests::Requests;

mod commands;
mod past;
mod prune;
mod restore;
mod rows;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// What must be found again of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    version: u64,
    chain: Chain,
    digest: String,
    job_versions: Vec<(String, u64)>,
}

impl Known {
    fn of(graph: &Graph, chain: Chain) -> Self {
        let jobs = graph.jobs_from(Bound::Unbounded);
        let job_versions = jobs.map(|job| (job.name().to_string(), job.version())).collect();
        Self { version: graph.version(), chain, digest: graph.digest(), job_versions }
    }

    fn now(store: &Store) -> Self {
        let (head, graph) = store.load(&name(GRAPH)).unwrap().unwrap();
        Self::of(&graph, head.chain)
    }

    fn at(store: &Store, version: u64) -> Self {
        let Past { graph, chain, .. } = graph_at(store, &name(GRAPH), version)
            .unwrap_or_else(|error| panic!("version {version}: {error}"));
        Self::of(&graph, chain)
    }
}

/// A graph with a random history, in which it is deleted once; what it was at each version, as the
/// rows told it then.
fn grown(site: &Site, seed: u64, versions: u64) -> Vec<Known> {
    let (node, store) = (site.node(), site.store());
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    let mut requests = Requests::new(seed);
    let mut known = vec![Known::now(&store)];
    while (known.len() as u64) <= versions {
        let at = known.len();
        let write = match at as u64 == versions / 2 {
            true => delete_graph(),
            false => Write {
                actor: (at % 3 > 0).then(|| format!("actor \"{at}\"\n")),
                ..requests.next()
            },
        };
        let _ = node.write_and_wait(&name(GRAPH), write);
        let now = Known::now(&store);
        if now.version == at as u64 {
            known.push(now);
            node.create_graph_and_wait(&name(GRAPH)).unwrap();
        }
    }
    known
}

/// A graph of that many jobs, one a version.
fn plain(site: &Site, versions: u64) {
    let node = site.node();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    for n in 1..=versions {
        accepted(&node, [put_job(&format!("j{n}"), &["first"], &[&format!("d{n}")])]);
    }
}

fn logged(store: &Store, graph: &str, after: u64) -> Vec<LoggedChange> {
    let (mut all, mut after) = (Vec::new(), after);
    loop {
        let page = store.feed(&name(graph), after, 7).unwrap().unwrap().changes;
        let Some(last) = page.last() else { return all };
        after = last.version;
        all.extend(page);
    }
}

/// The changes after a version as events, one a line.
fn tail(store: &Store, after: u64) -> Vec<String> {
    let head = store.head(&name(GRAPH)).unwrap().unwrap();
    let stream = Stream::new(head.name, head.uuid);
    let line =
        |logged: &LoggedChange| String::from_utf8(stream.line(&Event::changed(logged))).unwrap();
    logged(store, GRAPH, after).iter().map(line).collect()
}

/// The graph at a version as events, one a line.
fn snapshot(store: &Store, version: u64) -> Vec<String> {
    let mut importing = graph_at(store, &name(GRAPH), version).unwrap().importing();
    let mut text = Vec::new();
    while importing.write_some(usize::MAX, &mut text).is_some() {}
    String::from_utf8(text).unwrap().split_inclusive('\n').map(str::to_owned).collect()
}
