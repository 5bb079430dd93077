//! The nodes that this one has greeted before it passed writes on to them: whether each is who it
//! was taken for, and believes this one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocket::tokio::time::Instant;

/// For how many nodes that is kept.
pub(super) const MOST: usize = 4_096;
/// For how long a node that could not be met is not greeted again.
const MISSED_FOR: Duration = Duration::from_secs(1);

/// What came of greeting a node: why it could not be met.
type Greeting = Result<(), String>;

/// See the module.
#[derive(Default)]
pub(super) struct Met {
    /// By name and address.
    greetings: Mutex<HashMap<(String, String), (Instant, Greeting)>>,
}

impl Met {
    /// What came of greeting that node, if it need not be greeted again.
    pub(super) fn known(&self, node: &str, address: &str) -> Option<Greeting> {
        let (at, greeting) = self.greetings().get(&key(node, address))?.clone();
        (greeting.is_ok() || at.elapsed() < MISSED_FOR).then_some(greeting)
    }

    pub(super) fn note(&self, node: &str, address: &str, greeting: Greeting) {
        let mut greetings = self.greetings();
        if greetings.len() >= MOST {
            greetings.clear();
        }
        greetings.insert(key(node, address), (Instant::now(), greeting));
    }

    /// The node is to be greeted before anything else is sent to it.
    pub(super) fn forget(&self, node: &str, address: &str) {
        self.greetings().remove(&key(node, address));
    }

    fn greetings(&self) -> MutexGuard<'_, HashMap<(String, String), (Instant, Greeting)>> {
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(node: &str, address: &str) -> (String, String) {
    (node.to_owned(), address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_nodes_are_known_as_may_be_and_the_last_of_them() {
        let met = Met::default();
        for n in 0..3 * MOST {
            let node = format!("node {n}");
            met.note(&node, "address", Ok(()));
            assert_eq!(met.known(&node, "address"), Some(Ok(())));
            assert!(met.greetings().len() <= MOST, "after {n}");
        }
        assert_eq!(met.known("node 0", "address"), None);
    }

    #[test]
    fn a_node_that_was_met_elsewhere_or_is_forgotten_is_greeted_again() {
        let met = Met::default();
        met.note("node", "address", Ok(()));
        assert_eq!(met.known("node", "another"), None);
        assert_eq!(met.known("another", "address"), None);
        met.forget("node", "address");
        assert_eq!(met.known("node", "address"), None);
        met.note("node", "address", Err("nobody answers".to_owned()));
        assert_eq!(met.known("node", "address"), Some(Err("nobody answers".to_owned())));
    }
}
