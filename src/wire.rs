//! The JSON in which clients ask for changes: HTTP bodies, lines of imports, and the histories of
//! the load driver.
//!
//! A type that ends in `Wire` is a document that was read and is not checked yet: its `into_…`
//! checks it and makes a type of `graph`. A type that ends in `Json` wraps a type of `graph` and
//! writes it. Reading is strict: unknown, missing and repeated fields are errors, with the path of
//! the field.
//!
//! Knows `graph`, which knows nothing of JSON in requests. What the service *answers* is written by
//! `http`, and the change log's JSON by `graph`, since hashes cover it.

mod changeset;
mod dataset;
mod error;
mod field;
mod job;

pub use changeset::{ChangesetWire, OperationsJson};
pub use dataset::DatasetWire;
pub use error::InvalidOperation;
pub use job::{JobPatchJson, JobPatchWire, JobWire};
