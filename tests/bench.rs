//! The load driver: short runs whose histories are replayed, so that an answer that is not the
//! state's is found.

mod benchmark;
mod bounds;
mod digits;
mod example;
mod given;
mod histories;
mod loss;
mod page;
pub mod place;
mod replay;
mod reports;
mod runs;
mod servers;
mod stalls;
