//! A graph in packed form: bytes in parts, from which its image comes back quicker than from rows
//! or from its log.
//!
//! [`GraphPacker`] writes the parts and [`GraphUnpacker`] reads them, each one at a time. They hold
//! all of an image: the version, each job and dataset in its own slot, which slots are free, names,
//! texts, versions of jobs, edges, and the topological order. So a reader sorts nothing. It checks
//! all that makes a graph legal, which takes one look at each edge.
//!
//! `format.rs` says what the bytes mean; `bytes.rs` has numbers, `texts.rs` names and JSON.

mod bytes;
mod compare;
mod edges;
mod error;
mod format;
mod pack;
mod texts;
mod unpack;

pub use compare::GraphComparer;
pub use error::UnpackError;
pub use format::FORMAT as PACKED_FORMAT;
pub use pack::GraphPacker;
pub use unpack::GraphUnpacker;
