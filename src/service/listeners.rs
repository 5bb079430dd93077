//! Callbacks that run when this process writes to a graph. Only a hint: other processes write too,
//! so a listener must also poll the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::graph::Name;

type Callback = Arc<dyn Fn() + Send + Sync>;

/// Of all graphs.
#[derive(Default)]
pub(super) struct Listeners {
    /// So that a write looks no further where nobody listens.
    count: AtomicUsize,
    by_graph: Mutex<HashMap<Name, Vec<(u64, Callback)>>>,
}

impl Listeners {
    /// Calls `callback` after each write to the graph, until what is returned is dropped.
    pub(super) fn add(self: &Arc<Self>, graph: &Name, callback: Callback) -> Listening {
        let mut by_graph = self.lock();
        let of_graph = by_graph.entry(graph.clone()).or_default();
        let number = of_graph.last().map_or(0, |(number, _)| number + 1);
        of_graph.push((number, callback));
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(by_graph);
        Listening { listeners: Arc::clone(self), graph: graph.clone(), number }
    }

    /// Tells those who listen to the graph. One atomic load where nobody listens to any.
    pub(super) fn notify(&self, graph: &Name) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let callbacks: Vec<Callback> = self
            .lock()
            .get(graph)
            .into_iter()
            .flatten()
            .map(|(_, callback)| Arc::clone(callback))
            .collect();
        callbacks.iter().for_each(|callback| callback());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<(u64, Callback)>>> {
        self.by_graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to a graph until it is dropped.
pub struct Listening {
    listeners: Arc<Listeners>,
    graph: Name,
    number: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut by_graph = self.listeners.lock();
        let Some(of_graph) = by_graph.get_mut(&self.graph) else { return };
        of_graph.retain(|(number, _)| *number != self.number);
        if of_graph.is_empty() {
            by_graph.remove(&self.graph);
        }
        self.listeners.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Listeners;
    use crate::graph::Name;

    #[test]
    fn those_who_listen_to_a_graph_hear_of_its_writes_until_they_go() {
        let listeners = Arc::new(Listeners::default());
        let (g, other) = (Name::new("g").unwrap(), Name::new("other").unwrap());
        let heard = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let listen = |one: &Arc<AtomicUsize>| {
            let one = Arc::clone(one);
            listeners.add(
                &g,
                Arc::new(move || {
                    one.fetch_add(1, Ordering::SeqCst);
                }),
            )
        };
        let [first, second] = [listen(&heard[0]), listen(&heard[1])];
        let count = || [&heard[0], &heard[1]].map(|one| one.load(Ordering::SeqCst));
        listeners.notify(&g);
        listeners.notify(&other);
        assert_eq!(count(), [1, 1]);
        drop(first);
        listeners.notify(&g);
        assert_eq!(count(), [1, 2]);
        drop(second);
        listeners.notify(&g);
        assert_eq!(count(), [1, 2]);
        assert_eq!(listeners.count.load(Ordering::SeqCst), 0);
        assert!(listeners.lock().is_empty());
    }
}
