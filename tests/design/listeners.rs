//! Who wants to know of writes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::ask::{accepted, put_dataset, write};
use crate::support::cluster::{GRAPH, Site, name};

#[test]
fn who_listens_hears_of_each_write_of_the_node_before_it_is_answered() {
    let site = Site::with_graph();
    let (node, other) = (site.node(), site.node());
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let listening = node.listen(&name(GRAPH), move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let times = || heard.load(Ordering::SeqCst);
    accepted(&node, [put_dataset("a")]);
    assert_eq!(times(), 1);
    assert!(!write(&node, [put_dataset("a")]).unwrap().changed);
    assert_eq!(times(), 1, "nothing was written");
    accepted(&other, [put_dataset("b")]);
    assert_eq!(times(), 1, "of other nodes nothing is heard");
    drop(listening);
    accepted(&node, [put_dataset("c")]);
    assert_eq!(times(), 1, "it listens no more");
}
