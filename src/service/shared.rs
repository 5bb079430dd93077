//! A service's parts together: what its requests share, and how writers take turns.

use super::engine::Engine;
use super::turn_taking::Turns;

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) turns: Box<dyn Turns>,
}
