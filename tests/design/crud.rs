//! What tells `crud` from other designs: its image is reloaded when the version has moved, and only then.

use std::sync::atomic::{AtomicBool, Ordering};

use fencepost::design::Reads;
use fencepost::node::{self, NodeOptions};

use crate::ask::{accepted, put_dataset};
use crate::cluster::{GRAPH, Site, name};

#[test]
fn an_image_is_loaded_only_when_another_node_has_written() {
    let site = Site::with_graph();
    let (node, other) = (site.node(), site.node());
    let loads = || node.metrics().image_loads.get();
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("own-{n}"))]);
        node.read_and_wait(&name(GRAPH)).unwrap();
    }
    assert_eq!(loads(), 1, "what a node has written itself it knows");
    for n in 0..5 {
        accepted(&other, [put_dataset(&format!("other-{n}"))]);
        for _ in 0..3 {
            node.read_and_wait(&name(GRAPH)).unwrap();
        }
        assert_eq!(loads(), n + 2);
    }
}

#[test]
fn a_read_without_the_lock_loads_nothing_for_what_its_own_node_writes_meanwhile() {
    let site = Site::with_graph();
    let node = node::open(&NodeOptions { reads: Reads::Snapshot, ..site.options() }).unwrap();
    node.read_and_wait(&name(GRAPH)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                node.read_and_wait(&name(GRAPH)).unwrap();
            }
        });
        for n in 0..300 {
            accepted(&node, [put_dataset(&format!("own-{n}"))]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.metrics().image_loads.get(), 1);
}
