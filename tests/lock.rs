//! Tests of the lock.

mod gate;
mod key;
mod token;
