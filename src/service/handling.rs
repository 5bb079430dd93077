//! How a service handles graphs of one storage: one handling for each storage that it serves.

use std::sync::Arc;

use super::choices::{BatchSize, Choices};
use super::turn_taking::Turns;
use crate::store::StorageKind;

/// How graphs of one storage are handled.
pub struct Handling {
    /// What this is called, for people.
    pub name: &'static str,
    /// The storage, and what turns do.
    pub choices: Choices,
    /// How writers take turns. Several handlings may share it.
    pub turns: Arc<dyn Turns>,
}

/// The handlings of a service, each of another storage. New graphs are handled by the first.
pub(super) struct Handlings(Vec<Handling>);

impl Handlings {
    /// # Panics
    /// If there is none, or two are of one storage.
    pub(super) fn new(handlings: Vec<Handling>) -> Self {
        assert!(!handlings.is_empty(), "new graphs are handled somehow");
        let storages: Vec<StorageKind> = handlings.iter().map(|one| one.choices.storage).collect();
        for (at, storage) in storages.iter().enumerate() {
            assert!(!storages[..at].contains(storage), "two handlings of one storage");
        }
        Self(handlings)
    }

    fn iter(&self) -> impl Iterator<Item = &Handling> {
        self.0.iter()
    }

    /// How writers take turns, each way once.
    pub(super) fn turns(&self) -> impl Iterator<Item = &Arc<dyn Turns>> {
        let earlier = |at: usize, turns: &Arc<dyn Turns>| {
            self.0[..at].iter().any(|handling| Arc::ptr_eq(&handling.turns, turns))
        };
        let all = self.0.iter().map(|handling| &handling.turns).enumerate();
        all.filter(move |(at, turns)| !earlier(*at, turns)).map(|(_, turns)| turns)
    }

    /// Of new graphs.
    pub(super) fn first(&self) -> &Handling {
        &self.0[0]
    }

    /// Of graphs of that storage.
    pub(super) fn of(&self, storage: StorageKind) -> Option<&Handling> {
        self.iter().find(|handling| handling.choices.storage == storage)
    }

    /// The storages, that of new graphs first.
    pub(super) fn storages(&self) -> Vec<StorageKind> {
        self.iter().map(|handling| handling.choices.storage).collect()
    }

    /// For people.
    pub(super) fn names(&self) -> String {
        self.iter().map(|handling| handling.name).collect::<Vec<_>>().join(",")
    }

    /// How many turns of writes a graph of that storage has at once. One that was not seen yet has
    /// as many as a graph of any storage has.
    pub(super) fn turns_at_once(&self, storage: Option<StorageKind>) -> usize {
        match storage.and_then(|storage| self.of(storage)) {
            Some(handling) => handling.turns.at_once(),
            None => self.iter().map(|handling| handling.turns.at_once()).min().unwrap_or(1),
        }
    }

    /// Whether a turn on a graph of that storage serves all requests that wait. Of a graph that was
    /// not seen yet, only if that is so for every storage.
    pub(super) fn share_turns(&self, storage: Option<StorageKind>) -> bool {
        self.have(storage, |choices| choices.batch == BatchSize::AllWaiting)
    }

    /// Whether images of graphs of that storage are kept; as [`share_turns`](Self::share_turns).
    pub(super) fn keep_images(&self, storage: Option<StorageKind>) -> bool {
        self.have(storage, |choices| choices.refresh.keeps_images())
    }

    fn have(&self, storage: Option<StorageKind>, what: impl Fn(&Choices) -> bool) -> bool {
        match storage.and_then(|storage| self.of(storage)) {
            Some(handling) => what(&handling.choices),
            None => self.iter().all(|handling| what(&handling.choices)),
        }
    }
}
