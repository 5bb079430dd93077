//! The way out: a graph's log written to other engines while it is served, held against the
//! database, and the cut-over.
//!
//! Uses `event`, `archive` and `store`, and takes no lock: it reads snapshots and committed
//! changes. Writers never wait for it.

mod asking;
mod backoff;
mod consumer_name;
mod cut_over;
mod error;
mod exporter;
mod gaps;
mod last_event;
pub mod sink;
mod sink_url;
mod sinks;
mod verify;

pub use asking::{AskError, Unreachable, ask_sinks};
pub use cut_over::{FreezeError, await_sink, check_sink};
pub use error::ExportError;
pub use exporter::{ExportRequest, Exported, Registration, export};
pub use sink_url::SinkUrl;
pub use verify::{Verified, VerifyError, replay_from, verify};
