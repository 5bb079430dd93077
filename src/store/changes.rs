//! The change log from a version on, as it leaves the database. Each page is bounded in changes and
//! in bytes, since one change may be as large as a request.

use diesel::prelude::*;

use super::Store;
use super::error::StoreError;
use super::head::{Head, column, split_server_state};
use crate::chain::{Chain, LoggedChange};
use crate::db::schema::{changes, octet_length, snapshots};
use crate::db::server_state;
use crate::graph::Name;

/// Bytes of changes in one page, beyond its first.
const PAGE_BYTES: i64 = 4 << 20;

/// A graph's row, and a page of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The row, as it was at some time after the call and not after the last of these changes was
    /// read.
    pub head: Head,
    /// Dense, from the version after the one that was asked for, none beyond the head's. Empty if
    /// that was pruned.
    pub changes: Vec<LoggedChange>,
}

type LoggedRow = (i64, String, Vec<u8>, i64, Option<String>);

impl Store {
    /// The graph's row, deleted graphs included, and the changes after `after` up to its version,
    /// as many as fit `most` and some megabytes, but at least one if there is one. Look at
    /// [`Head::oldest`] first: of what was pruned nothing is told.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read, or the log has a gap.
    ///
    /// One round trip where nothing happened since, three where something did.
    pub fn feed(&self, name: &Name, after: u64, most: usize) -> Result<Option<Feed>, StoreError> {
        let Some(head) = self.head(name)? else { return Ok(None) };
        if head.version <= after || after + 1 < head.oldest {
            return Ok(Some(Feed { head, changes: Vec::new() }));
        }
        let last = head.version.min(after.saturating_add(most.max(1) as u64));
        let range = || {
            changes::table
                .filter(changes::graph_id.eq(head.id))
                .filter(changes::version.gt(column(after)))
                .filter(changes::version.le(column(last)))
                .order(changes::version)
        };
        let sizes: Vec<(i64, i32)> = self.database.learn(|connection| {
            let sizes = (changes::version, octet_length(changes::change));
            Ok(split_server_state(range().select((server_state(), sizes)).load(connection)?))
        })?;
        let mut bytes = 0;
        let fits = sizes.iter().enumerate().take_while(|(at, (_, size))| {
            bytes += i64::from(*size);
            *at == 0 || bytes <= PAGE_BYTES
        });
        let last = fits.last().map_or(after, |(_, (version, _))| *version as u64);
        let rows: Vec<LoggedRow> = self.database.learn(|connection| {
            let columns = (
                changes::version,
                changes::change,
                changes::chain,
                changes::committed_at_ms,
                changes::actor,
            );
            let rows = range().filter(changes::version.le(column(last)));
            Ok(split_server_state(rows.select((server_state(), columns)).load(connection)?))
        })?;
        let dense = rows.iter().zip(after + 1..).all(|(row, expected)| row.0 as u64 == expected);
        if rows.is_empty() || !dense {
            // It may have been pruned meanwhile.
            let Some(head) = self.head(name)? else { return Ok(None) };
            if after + 1 < head.oldest {
                return Ok(Some(Feed { head, changes: Vec::new() }));
            }
            return Err(StoreError::DamagedValue(format!(
                "a gap in the change log of graph `{name}` after version {after}"
            )));
        }
        let logged = |(version, change, chain, committed_at_ms, actor): LoggedRow| {
            let chain = chain.as_slice().try_into();
            let chain = chain
                .map_err(|_| StoreError::DamagedValue(format!("chain of version {version}")))?;
            Ok(LoggedChange {
                version: version as u64,
                change,
                chain: Chain(chain),
                committed_at_ms,
                actor,
            })
        };
        let changes = rows.into_iter().map(logged).collect::<Result<_, StoreError>>()?;
        Ok(Some(Feed { head, changes }))
    }

    /// When a version was committed, in milliseconds since 1970; `None` if neither the log nor the
    /// current snapshot has it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    ///
    /// Cost: one or two rows, each found by its primary key, and each with a query of the server's
    /// state.
    pub fn committed_at(&self, graph_id: i64, version: u64) -> Result<Option<i64>, StoreError> {
        let change =
            changes::table.find((graph_id, column(version))).select(changes::committed_at_ms);
        let logged =
            self.database.learn(|connection| Ok((None, change.first(connection).optional()?)))?;
        if let Some(logged) = logged {
            return Ok(Some(logged));
        }
        let current =
            snapshots::table.find(graph_id).filter(snapshots::version.eq(column(version)));
        let current = current.select(snapshots::committed_at_ms);
        let committed_at: Option<Option<i64>> =
            self.database.learn(|connection| Ok((None, current.first(connection).optional()?)))?;
        Ok(committed_at.flatten())
    }

    /// Calls `each` with every change after `after`, in order, until it returns `false`: canonical
    /// text and chain.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn changes(
        &self,
        graph_id: i64,
        after: u64,
        each: &mut dyn FnMut(u64, &str, Chain) -> bool,
    ) -> Result<(), StoreError> {
        self.database.read(|connection| {
            let rows = changes::table
                .filter(changes::graph_id.eq(graph_id))
                .filter(changes::version.gt(column(after)))
                .order(changes::version)
                .select((changes::version, changes::change, changes::chain))
                .load_iter::<(i64, String, Vec<u8>), _>(connection)?;
            for row in rows {
                let (version, change, chain) = row?;
                let chain = chain.as_slice().try_into();
                let chain = chain
                    .map_err(|_| StoreError::DamagedValue(format!("chain of version {version}")))?;
                if !each(version as u64, &change, Chain(chain)) {
                    break;
                }
            }
            Ok(())
        })
    }
}
