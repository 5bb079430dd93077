//! Bringing an image to the graph's version, and loading a graph whole.

use super::Store;
use super::catch_up::{CaughtUp, catch_up};
use super::error::StoreError;
use super::head::{Head, ImageKey, column, head_of, read_head_row_and_log};
use crate::db::AnyConnection;
use crate::graph::{Change, Graph, Name};

/// How an image that is behind is to be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// By the whole graph.
    Reload,
    /// By the changes since, as long as the log has them, they are of the image's history, and they
    /// are not too many.
    Changes,
}

/// What brings an image to the version of a [`Head`].
pub enum ImageUpdate {
    /// Nothing: it is there.
    Current,
    /// These, one after another, with [`apply_all`](crate::graph::apply_all). At least one; they
    /// lead from the image's chain to the head's.
    Changes(Vec<Change>),
    /// This instead.
    Whole(Box<Graph>),
}

impl Store {
    /// The graph's row and, unless its key is `known`, what makes of the graph that is known the
    /// graph at that version: both from one snapshot. [`CatchUp::Changes`] costs what was changed
    /// since, [`CatchUp::Reload`] the whole graph.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn refresh(
        &self,
        name: &Name,
        known: Option<ImageKey>,
        by: CatchUp,
    ) -> Result<Option<(Head, ImageUpdate)>, StoreError> {
        match (known, by) {
            (None, _) => {}
            (Some(known), CatchUp::Reload) => {
                let Some(head) = self.head(name)? else { return Ok(None) };
                if known == head.key() {
                    return Ok(Some((head, ImageUpdate::Current)));
                }
            }
            (Some(known), CatchUp::Changes) => match catch_up(&self.database, name, known)? {
                None => return Ok(None),
                Some((head, CaughtUp::Changes(changes))) if changes.is_empty() => {
                    return Ok(Some((head, ImageUpdate::Current)));
                }
                Some((head, CaughtUp::Changes(changes))) => {
                    return Ok(Some((head, ImageUpdate::Changes(changes))));
                }
                Some((_, CaughtUp::Whole(why))) => log::info!("graph `{name}` is read anew: {why}"),
            },
        }
        let head = |connection: &mut AnyConnection| read_head_row_and_log(connection, name);
        let read = self.database.learn_and_read(head, |connection, row| {
            let Some((row, newest_logged)) = row else { return Ok::<_, StoreError>(None) };
            let head = head_of(row)?;
            check_log(&head, newest_logged)?;
            let loaded = self.storage.load(connection, &head)?;
            Ok(Some((head, loaded)))
        })?;
        // When the transaction is over: others may need the connection.
        let Some((head, loaded)) = read else { return Ok(None) };
        Ok(Some((head, ImageUpdate::Whole(Box::new(loaded()?)))))
    }

    /// The graph's row and the whole graph at its version, from one snapshot. O(size of the graph).
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn load(&self, name: &Name) -> Result<Option<(Head, Graph)>, StoreError> {
        let read = self.refresh(name, None, CatchUp::Reload)?;
        Ok(read.map(|(head, refresh)| match refresh {
            ImageUpdate::Whole(graph) => (head, *graph),
            ImageUpdate::Current | ImageUpdate::Changes(_) => unreachable!("nothing was known"),
        }))
    }
}

/// Refuses a row whose log goes on after its version, or that names a beginning of its log which
/// cannot be: the rows may be of any version then. A log that ends before the row's version does
/// not stop a load, as the rows are whole without it; `check-rows` tells of it.
fn check_log(head: &Head, newest_logged: Option<i64>) -> Result<(), StoreError> {
    let Head { name, version, oldest, .. } = head;
    let damaged = |what: String| {
        Err(StoreError::DamagedValue(format!(
            "graph `{name}` is at version {version}, and {what}; run `fencepost check-rows`"
        )))
    };
    match newest_logged {
        Some(newest) if newest > column(*version) => {
            damaged(format!("its log goes on to version {newest}"))
        }
        _ if !(1..=version + 1).contains(oldest) => {
            damaged(format!("its log is said to begin at version {oldest}"))
        }
        _ => Ok(()),
    }
}
