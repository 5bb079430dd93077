//! The pure core: what a job graph is, which changes it accepts, and what can be asked of it.
//!
//! [`decide()`] holds all rules; [`apply()`] makes of a graph what a change says, and holds none.
//! Every design runs these two. No SQL, lock, HTTP, clock or randomness in here, and nothing of
//! Fencepost's other modules; the same input gives the same output, byte for byte. No recursion
//! over the graph: a chain of a million jobs must not touch the stack.

mod acyclic;
mod adjacency;
mod affected;
mod apply;
mod assembly;
mod build;
mod by_name;
mod change;
mod cycle;
mod decide;
mod digest;
mod draft;
mod flat;
mod grouped;
mod index;
mod json;

mod name;
mod neighbours;
mod operation;
mod order;
mod plan;
mod reach;
mod rejection;
mod replay;
mod scanner;
mod series;
mod slot_map;
mod touched;

pub use adjacency::{Dataset, Graph, Job};
pub use apply::{apply, apply_all};
pub use assembly::Assembly;
pub use build::{DamagedRows, GraphBuilder};
pub use change::{Change, DamagedFact, Fact};
pub use decide::{CHANGE_BYTES_MAX, Decision, decide};
pub use digest::hex;
pub use flat::FlatGraph;
pub use json::{CanonicalJson, JsonError};
pub use name::{InvalidName, Name};
pub use operation::{
    Changeset, ChangesetWire, Command, DatasetWire, InvalidOperation, JobPatch, JobPatchWire,
    JobSpecification, JobWire, Operation, Precondition, Side, SpecPatch, Step, Unchanged,
};
pub use plan::{Plan, PlanRequest, QueryError};
pub use reach::{Direction, Origin, Reachable};
pub use rejection::Rejection;
pub use replay::{Breach, Illegal, Wrong, replay};
pub(crate) use scanner::Scanner;
pub use series::{AcceptedCommand, Effect, Series};
pub use touched::Touched;
