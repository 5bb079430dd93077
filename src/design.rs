//! The designs: what each is made of, and the list of all.
//!
//! A design is a constant that names its choices, in a file of its own that says how it takes
//! turns, what a request costs, when it loses and what would break it. Adding one takes that file,
//! a `mod` line here and an entry in [`ALL`]. Uses `service` and `lock`; `service` knows none of
//! this.

pub mod crud;
pub mod crud_delta;
pub mod crud_naive;
pub mod crud_optimistic;
mod definition;
pub mod turns;

pub use definition::{Design, NoLockToShare, TurnLimits};
pub use turns::Reads;

/// All designs. The first is the default.
pub static ALL: &[&Design] = &[
    &crud::CRUD,
    &crud_delta::CRUD_DELTA,
    &crud_optimistic::CRUD_OPTIMISTIC,
    &crud_naive::CRUD_NAIVE,
];

/// The design of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Design> {
    ALL.iter().copied().find(|design| design.name == name)
}

impl Default for &Design {
    fn default() -> Self {
        ALL[0]
    }
}
