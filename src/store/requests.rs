//! Writes that one node has passed on to another: their names, and what the database knows of them
//! when the answer is lost.

use diesel::prelude::*;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::head::{ImageKey, column};
use crate::db::AnyConnection;
use crate::db::schema::{changes, graphs, leaders};
use crate::failpoint;
use crate::graph::Name;

/// The name of a write that is passed on; each attempt at it has one of its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestId {
    /// 32 hexadecimal digits, and what the log notes if the write has created something.
    noted: String,
}

/// After the name, in the log: the change has created something that the request names.
const CREATED: &str = "+";
const DIGITS: usize = 32;

impl RequestId {
    /// A name that no other has.
    #[must_use]
    pub fn random() -> Self {
        Self { noted: format!("{}{CREATED}", Uuid::new_v4().simple()) }
    }

    /// Reads 32 hexadecimal digits in lower case.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == DIGITS && text.bytes().all(is_digit))
            .then(|| Self { noted: format!("{text}{CREATED}") })
    }

    /// The digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.noted[..DIGITS]
    }

    /// The digits as a number.
    #[must_use]
    pub fn number(&self) -> u128 {
        u128::from_str_radix(self.digits(), 16).expect("they are hexadecimal")
    }

    /// What the log notes of the change that the request has made.
    pub(crate) fn noted(&self, created: bool) -> &str {
        if created { &self.noted } else { self.digits() }
    }
}

/// What the database knows of a request that was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLook {
    /// The token of the last take-over of the graph's leadership: no write under an earlier one
    /// comes later than what was looked at.
    pub leader_token: i64,
    /// The node that has taken it over then, if that is noted.
    pub leader: Option<String>,
    /// What it has done.
    pub applied: Option<AppliedRequest>,
    /// Whether the log has all changes that it can have made. It has not if it was pruned, or if
    /// a backup was put back: then the graph is at an earlier version than when the request was
    /// passed on, or has come there by other changes.
    pub log_is_whole: bool,
}

/// A change that a request has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedRequest {
    /// The graph's version with it.
    pub version: u64,
    /// Whether it has created something that the request names.
    pub created: bool,
}

impl Store {
    /// What is known of a request that was passed on when the graph was at `since` or later; `None`
    /// if there is no such graph. It is read in one snapshot of a server that can write: the log
    /// may be pruned meanwhile, and a former primary may have what the new one lacks. O(changes
    /// since); O(changes in the log) if that is not whole.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn request_look(
        &self,
        graph: &Name,
        request: &RequestId,
        since: &ImageKey,
    ) -> Result<Option<RequestLook>, StoreError> {
        self.database.read(|connection| {
            let of_token = leaders::token.eq(graphs::leader_token);
            let row = graphs::table
                .left_join(leaders::table.on(leaders::graph_id.eq(graphs::id).and(of_token)))
                .filter(graphs::name.eq(graph.as_str()))
                .select((graphs::leader_token, leaders::node.nullable(), FoundAt::as_select()))
                .first::<(i64, Option<String>, FoundAt)>(connection)
                .optional()?;
            let Some((leader_token, leader, found)) = row else { return Ok(None) };
            failpoint::pass("request-look");
            let log_is_whole = found.log_is_whole_since(connection, since)?;
            let searches_all = !log_is_whole && !failpoint::is_off("forwarded-history");
            let after = if searches_all { 0 } else { column(since.version) };
            let names = [request.noted(false), request.noted(true)];
            let made: Option<(i64, Option<String>)> = changes::table
                .filter(changes::graph_id.eq(found.id))
                .filter(changes::version.gt(after))
                .filter(changes::request.eq_any(names))
                .select((changes::version, changes::request))
                .first(connection)
                .optional()?;
            let applied = made.map(|(version, noted)| AppliedRequest {
                version: version.unsigned_abs(),
                created: noted.as_deref() == Some(request.noted(true)),
            });
            Ok(Some(RequestLook { leader_token, leader, applied, log_is_whole }))
        })
    }
}

/// Where a graph is, and which changes its log has.
#[derive(Queryable, Selectable)]
#[diesel(table_name = graphs)]
struct FoundAt {
    id: i64,
    oldest: i64,
    version: i64,
    chain: Vec<u8>,
}

impl FoundAt {
    /// Whether the log has each change since then, and none from another history.
    fn log_is_whole_since(
        &self,
        connection: &mut AnyConnection,
        since: &ImageKey,
    ) -> QueryResult<bool> {
        let after = column(since.version);
        if self.id != since.graph_id || self.version < after || self.oldest > after + 1 {
            return Ok(false);
        }
        if failpoint::is_off("forwarded-history") {
            return Ok(true);
        }
        if self.version == after {
            return Ok(self.chain == since.chain.0);
        }
        let next: Option<(String, Vec<u8>)> = changes::table
            .find((self.id, after + 1))
            .select((changes::change, changes::chain))
            .first(connection)
            .optional()?;
        Ok(next.is_some_and(|(change, chain)| chain == since.chain.next(&change).0))
    }
}
