//! Conformance of any server with the HTTP surface: which of its rules a server keeps, case by
//! case.
//!
//! Asks over HTTP and nothing else, so that a server in any language can be judged. It must not
//! use the modules that it judges: what an answer must be is written out in the cases.
//!
//! Each case works on graphs of its own, whose names no other case and no other run has, and
//! deletes them in the end.

mod all;
mod case;
mod client;
mod core;
mod expect;
mod junit;
mod report;
mod run;
mod session;
mod unmet;
mod writes;

pub use case::{Case, Level};
pub use junit::junit;
pub use report::{Ended, Report, Verdict};
pub use run::{ConformanceError, cases, run, run_cases};
