//! What the turns and all other requests of a service share: the store, the images, the limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::Histogram;

use super::choices::Choices;
use super::graph_cache::GraphCache;
use super::image::{Image, Refreshed};
use super::limits::Limits;
use super::listeners::Listeners;
use super::local_graph::LocalGraph;
use super::metrics::{Metrics, observe};
use super::permits::{Permit, Permits};
use super::refusal::Refusal;
use super::turn_error::TurnError;
use super::workers::Workers;
use crate::db::watch::Reclaimable;
use crate::graph::{Change, Name, apply_all};
use crate::store::{
    CatchUp, ChangesSince, Head, ImageUpdate, LoadedFrom, SnapshotUse, Store, StoreError,
};

pub(super) struct Engine {
    pub(super) store: Arc<Store>,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// Permits to load a graph whose image is not kept.
    loads: Arc<Permits>,
    pub(super) graphs: GraphCache,
    /// Of the graphs whose load replayed changes since the last look, the one that replayed most: a
    /// snapshot may be due though it is no longer in the cache.
    pub(super) replayed: Mutex<Option<Replayed>>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) workers: Workers,
}

impl Engine {
    pub(super) fn new(store: Arc<Store>, limits: Limits) -> Self {
        let metrics = Metrics::new();
        let (held, bytes) = (metrics.graphs_held.clone(), metrics.graph_bytes.clone());
        let graphs =
            GraphCache::new(limits.graph_bytes, held, bytes, metrics.graphs_evicted.clone());
        let (held, waiting) = (metrics.loads_held.clone(), metrics.loads_waiting.clone());
        let loads = Permits::new(limits.loaded_images, held, waiting);
        let (listeners, workers) = (Arc::default(), Workers::new(limits.turn_threads));
        let replayed = Mutex::default();
        Self { store, limits, metrics, loads, graphs, replayed, listeners, workers }
    }

    pub(super) fn overflow(&self, what: &str, limit: usize) -> Refusal {
        self.metrics.overflows.inc();
        Refusal::Contended { what: format!("{limit} {what} of this graph are waiting already") }
    }

    /// The row's id; `None` if there never was such a graph.
    pub(super) fn graph_id(&self, graph: &LocalGraph) -> Result<Option<i64>, StoreError> {
        if let Some(id) = graph.graph_id() {
            return Ok(Some(id));
        }
        Ok(self.look(graph)?.map(|head| head.id))
    }

    /// The row now; `None` if there never was such a graph. Unless a row was found, drops the name
    /// from the cache.
    pub(super) fn look(&self, graph: &LocalGraph) -> Result<Option<Head>, StoreError> {
        let head = self.store.head(&graph.name);
        if let Ok(Some(head)) = &head {
            graph.set_head(Some(head.clone()));
        } else {
            self.graphs.forget(&graph.name);
        }
        head
    }

    /// The row and the image at its version. `None` if there is no such graph.
    ///
    /// # Errors
    /// [`TurnError::StorageChanged`] if it is not kept as `choices` have it.
    pub(super) fn refreshed(
        &self,
        graph: &LocalGraph,
        choices: Choices,
        timed: &Histogram,
    ) -> Result<Option<Refreshed>, TurnError> {
        let permit = self.load_permit(choices)?;
        let began = Instant::now();
        let known = graph.image.get();
        let (by, key) = (choices.refresh.catches_up_by(), known.as_ref().map(|image| image.key));
        let refreshed = self.store.refresh(&graph.name, key, by, choices.storage)?;
        let Some((head, update)) = refreshed else {
            graph.set_head(None);
            return Ok(None);
        };
        let image = match (update, known) {
            (ImageUpdate::Current, Some(image)) if image.storage == head.storage => image,
            // It was deleted, and created again in another storage at the same version.
            (ImageUpdate::Current, Some(image)) => {
                let image = Image::derived(&head, image.graph.clone(), &image);
                self.publish(graph, image, choices.refresh.keeps_images())
            }
            (ImageUpdate::Changes(changes), Some(image)) => {
                self.caught_up(graph, &head, &image, &changes)
            }
            (ImageUpdate::OtherStorage, _) => {
                let (expected, actual) = (choices.storage, head.storage);
                graph.set_head(Some(head));
                return Err(TurnError::StorageChanged { expected, actual });
            }
            (ImageUpdate::Current | ImageUpdate::Changes(_), None) => {
                unreachable!("the store was told of no image")
            }
            (ImageUpdate::Whole(whole, from), known) => {
                if let Some(image) = known.filter(|image| image.key.version >= head.version) {
                    log::warn!(
                        "graph `{}`: the store is at version {}, behind the image at {} or on \
                         another history; was a backup restored? Loading it again",
                        graph.name,
                        head.version,
                        image.key.version
                    );
                    self.metrics.images_ahead_of_store.inc();
                    graph.image.discard(image.key);
                }
                self.metrics.image_loads.inc();
                self.metrics.image_loads_from.with_label_values(&[word(from)]).inc();
                self.metrics.changes_replayed.inc_by(from.changes());
                let image = Image::loaded(&head, *whole, permit);
                let image = self.publish(graph, image, choices.refresh.keeps_images());
                if choices.refresh.keeps_images() {
                    self.note_replay(graph, from.changes(), &image);
                }
                image
            }
        };
        // A commit of this process may have come since the row was read.
        if graph.image.get().is_none_or(|newest| newest.key.version <= head.version) {
            graph.set_head(Some(head.clone()));
        }
        observe(timed, began.elapsed());
        Ok(Some(Refreshed { head, image }))
    }

    /// Applies the changes that a refused commit has read to the image. Returns whether it did; it
    /// does so only where images follow changes (`Refresh::Delta`).
    pub(super) fn follow(
        &self,
        graph: &LocalGraph,
        choices: Choices,
        since: &ChangesSince,
    ) -> bool {
        let image = graph.image.get().filter(|image| image.key == since.from);
        let (Some(image), CatchUp::Changes) = (image, choices.refresh.catches_up_by()) else {
            return false;
        };
        if since.head.storage != choices.storage {
            return false;
        }
        self.caught_up(graph, &since.head, &image, &since.changes);
        graph.set_head(Some(since.head.clone()));
        true
    }

    /// The image at `head`, to which the changes lead from `image`.
    fn caught_up(
        &self,
        graph: &LocalGraph,
        head: &Head,
        image: &Image,
        changes: &[Change],
    ) -> Arc<Image> {
        self.metrics.image_catch_ups.inc();
        self.metrics.changes_applied.inc_by(changes.len() as u64);
        let next = match self.store.may_break_rules(head.storage) {
            true => Image::judged(head, changes, image),
            false => Image::derived(head, apply_all(&image.graph, changes), image),
        };
        self.publish(graph, next, true)
    }

    fn note_replay(&self, graph: &LocalGraph, changes: u64, image: &Arc<Image>) {
        let none_is_taken = self.limits.snapshot_log_bytes == u64::MAX
            || self.store.snapshot_use(image.storage) == SnapshotUse::None;
        if none_is_taken {
            return;
        }
        let mut most = self.replayed.lock().unwrap_or_else(PoisonError::into_inner);
        if changes > most.as_ref().map_or(0, |most| most.changes) {
            let (name, image) = (graph.name.clone(), Arc::clone(image));
            *most = Some(Replayed { name, changes, image });
        }
    }

    /// Makes `image` the newest of the graph, if it is to be kept.
    pub(super) fn publish(&self, graph: &LocalGraph, image: Image, keep: bool) -> Arc<Image> {
        let image = Arc::new(image);
        if keep {
            graph.image.publish(&image);
            self.graphs.settle(graph);
        }
        image
    }

    /// A permit to hold one more graph in memory; `None` if loads are not limited.
    fn load_permit(&self, choices: Choices) -> Result<Option<Reclaimable<Permit>>, Refusal> {
        if choices.refresh.keeps_images() {
            return Ok(None);
        }
        let permit = self.loads.take(self.limits.load_wait);
        let contended = || Refusal::Contended {
            what: format!("the limit of {} loaded graphs is reached", self.limits.loaded_images),
        };
        permit.map(|permit| Some(Reclaimable::new(permit))).ok_or_else(contended)
    }
}

/// A graph whose load replayed changes.
pub(super) struct Replayed {
    pub(super) name: Name,
    /// How many.
    changes: u64,
    pub(super) image: Arc<Image>,
}

/// What a graph was loaded from, as metrics have it.
fn word(from: LoadedFrom) -> &'static str {
    match from {
        LoadedFrom::Rows => "rows",
        LoadedFrom::Log { .. } => "log",
        LoadedFrom::Snapshot { .. } => "snapshot",
    }
}
