//! Requests for many graphs at once: each needs sessions of its own on the database's server.

use std::thread;

use fencepost::graph::Name;
use fencepost::service::{Refusal, Service};

use super::ask::{changeset, put_dataset};
use super::cluster::name;
use super::{limit, wait_until};

/// Far more than the sessions that are granted.
const GRAPHS: usize = 12;

fn graphs() -> Vec<Name> {
    (0..GRAPHS).map(|number| name(&format!("graph-{number}"))).collect()
}

pub fn create_graphs(node: &Service) {
    for graph in graphs() {
        wait_until(limit(), "the graph is created", || node.create_graph_and_wait(&graph).is_ok());
    }
}

/// A write and a read of every graph at once; those that were refused.
pub fn burst(node: &Service) -> Vec<Refusal> {
    let graphs = graphs();
    let asked: Vec<Result<(), Refusal>> = thread::scope(|scope| {
        let each: Vec<_> = graphs
            .iter()
            .flat_map(|graph| {
                let write = changeset([put_dataset(&uuid::Uuid::new_v4().to_string())]);
                let write = scope.spawn(move || node.write_and_wait(graph, write).map(drop));
                let read = scope.spawn(move || node.read_and_wait(graph).map(drop));
                [write, read]
            })
            .collect();
        each.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    asked.into_iter().filter_map(Result::err).collect()
}

/// Everybody is served, again and again, also after the server has ended all sessions.
#[track_caller]
pub fn serves_bursts(node: &Service, end_all_sessions: impl Fn()) {
    create_graphs(node);
    wait_until(limit(), "a whole burst is served", || burst(node).is_empty());
    for _ in 0..3 {
        let refused = burst(node);
        assert!(refused.is_empty(), "sessions that are granted serve everybody: {refused:?}");
    }
    end_all_sessions();
    let mut refused = burst(node);
    // Of a server that is busy with new sessions nobody waits for more of them.
    refused.retain(|refusal| !refusal.to_string().contains("has not answered a new session yet"));
    assert!(refused.len() < GRAPHS, "half of a burst is refused: {refused:?}");
    wait_until(limit(), "a whole burst is served again", || burst(node).is_empty());
    let refused = burst(node);
    assert!(refused.is_empty(), "{refused:?}");
}
