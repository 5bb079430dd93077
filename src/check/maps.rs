//! Maps whose keys are hashed quickly. A history asks after names some ten times for each of its
//! edges, and with the standard library's hash that is a third of all that a check of a large graph
//! takes. Whoever makes up a history can slow down its check, and nothing else.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// By keys of any kind.
pub type Map<K, V> = HashMap<K, V, RandomState>;

/// The same without values.
pub type Set<K> = HashSet<K, RandomState>;
