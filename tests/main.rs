//! Everything that runs against a real database, a real lock and real processes.

#[path = "support/ask.rs"]
mod ask;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/stages.rs"]
mod stages;
#[path = "support/storm.rs"]
mod storm;

mod crash;
mod design;
mod store;
