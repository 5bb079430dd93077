//! The two writes that move only the fence: a new epoch of tokens, and a token sealed after a lease
//! ran out.

use diesel::prelude::*;

use super::Store;
use super::commit_error::CommitError;
use super::head::{Head, read_head_by_id};
use crate::db::WriteError;
use crate::db::schema::graphs;

impl Store {
    /// Raises the epoch to `epoch` and seals `fence`, if the row's epoch still is what was read.
    /// Returns the row as it is then.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::EpochMoved`] if another process was first.
    pub fn raise_epoch(
        &self,
        read: &Head,
        epoch: u32,
        fence: i64,
        incarnation: &str,
    ) -> Result<Head, CommitError> {
        let written = self.database.write(|connection| {
            let changed = diesel::update(
                graphs::table.find(read.id).filter(graphs::epoch.eq(i64::from(read.epoch))),
            )
            .set((
                graphs::epoch.eq(i64::from(epoch)),
                graphs::fence.eq(fence),
                graphs::lock_incarnation.eq(incarnation),
            ))
            .execute(connection)?;
            let now = read_head_by_id(connection, read.id)?;
            if changed == 1 {
                return Ok(now);
            }
            Err(CommitError::EpochMoved { expected: read.epoch, actual: now.epoch })
        });
        written.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            // Whether or not it was written: the epoch is used for nothing, and the next turn
            // raises it again.
            WriteError::CommitUnknown(error) => CommitError::from(error),
        })
    }

    /// Has the graph refuse every token below `token` from here on, if the row's epoch still is
    /// what was read.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::Fenced`] if a larger one was sealed or used, or the epoch
    /// raised.
    pub fn seal(&self, read: &Head, token: i64) -> Result<(), CommitError> {
        let sealed = self.database.write(|connection| {
            let row = graphs::table.find(read.id).filter(graphs::epoch.eq(i64::from(read.epoch)));
            let changed =
                diesel::update(row.filter(graphs::fence.le(token))).set(graphs::fence.eq(token));
            if changed.execute(connection)? == 1 {
                return Ok(());
            }
            Err(CommitError::Fenced { token, fence: read_head_by_id(connection, read.id)?.fence })
        });
        sealed.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            // Whether or not it was written: it is no more than the next turn's seal will be.
            WriteError::CommitUnknown(error) => CommitError::from(error),
        })
    }
}
