//! The engines that events are written to, each in a file.

pub mod file;
pub mod nats;
pub mod postgres;
pub mod redis;
pub mod stdout;
