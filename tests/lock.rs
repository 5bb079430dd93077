//! Tests of the lock.

mod key;
mod token;
