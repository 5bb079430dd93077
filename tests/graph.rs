//! The pure core against a naive model, against itself, and in the shapes that break graph code.

mod behaviour;
mod closing;
mod cycles;
mod large;
mod model;
mod packed;
mod properties;
mod random;
mod replays;
mod support;
