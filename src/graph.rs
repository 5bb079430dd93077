//! The pure core: what a job graph is, which changes it accepts, and what can be asked of it.
//!
//! [`decide()`] holds all rules. [`apply()`] applies a change to a graph, and holds none. Every
//! design runs these two. There is no SQL, lock, HTTP, clock or randomness in here, and nothing of
//! Fencepost's other modules: the same input gives the same output, byte for byte. Nothing recurses
//! over the graph, since a chain of a million jobs would overflow the stack.

mod acyclic;
mod adjacency_lists;
mod affected;
mod apply;
mod build;
mod by_name;
mod canonical_text;
mod change;
mod change_json;
mod cycle;
mod decide;
mod decided_batch;
mod digest;
mod draft;
mod full_map;
#[expect(clippy::module_inception, reason = "it holds `Graph`, and is looked for under its name")]
mod graph;
mod hex;
mod illegal;
mod import_builder;
mod index;
mod json;
mod log_builder;
mod name;
mod names_in_order;
mod neighbours;
mod nodes;
mod operation;
mod order;
mod packed;
mod plan;
mod ranges;
mod reach;
mod rejection;
mod replay;
mod scanner;
mod slot_map;
mod slots;
mod sorted;
mod touched;
mod traversal;
mod two_threads;

pub use apply::{apply, apply_all};
pub use build::{DamagedRows, GraphBuilder, is_id};
pub use change::{Change, Fact};
pub use change_json::DamagedFact;
pub use decide::{CHANGE_BYTES_MAX, Decision, decide};
pub use decided_batch::{AcceptedCommand, DecidedBatch, Effect};
pub use graph::{Dataset, Graph, Job};
pub use hex::{HEX_DIGITS, hex, hex_into};
pub use illegal::{FactViolation, IllegalChange, IllegalFact};
pub use import_builder::ImportBuilder;
pub use json::{CanonicalJson, JsonError};
pub use log_builder::{LogBuilder, LogIsCyclic};
pub use name::{InvalidName, Name};
pub use operation::{
    Changeset, Command, JobPatch, JobSpecification, Operation, Precondition, Side, SpecPatch, Step,
    Unchanged,
};
pub use packed::{GraphComparer, GraphPacker, GraphUnpacker, PACKED_FORMAT, UnpackError};
pub use plan::{Plan, PlanRequest, QueryError};
pub use reach::{Direction, Origin, Reachable};
pub use rejection::Rejection;
pub use replay::{apply_all_and_judge, apply_and_judge, replay};
pub(crate) use scanner::Scanner;
pub use sorted::SortedGraph;
pub use touched::Touched;
