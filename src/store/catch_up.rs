//! How an image that is behind learns what happened since: the head and the changes after the
//! image's version, from one snapshot.

use diesel::prelude::*;

use super::error::StoreError;
use super::head::{Head, ImageKey, column, head_of, read_head_row_and_stored, split_server_state};
use crate::chain::Chain;
use crate::db::schema::{GraphRow, changes, graphs};
use crate::db::{AnyConnection, Database, ServerState, server_state};
use crate::graph::{Change, Name};

/// Changes read by one statement. One that finds as many is followed by another, each with a
/// snapshot of its own.
const PAGE: i64 = 256;
/// Beyond so many versions, or bytes of changes, the whole graph is read instead: its size is
/// bounded by its current state, that of the log is not. Where the whole graph is read by replaying
/// its log, the limit of versions is half of what would be replayed, if that is more.
const FURTHEST: u64 = 16_384;
const MOST_BYTES: usize = 64 << 20;

/// What there is to read for whoever knows a graph at some version.
pub(super) enum CaughtUp {
    /// Changes from there to the head, in order, each with the chain as the log has it. None if
    /// nothing happened.
    Changes(Vec<Change>),
    /// The changes since are not there, too many, or of another history: only the whole graph will
    /// do. For people, why.
    Whole(String),
}

type LoggedRow = (i64, String, Vec<u8>);

/// The head of the graph of that name, and what leads from `known` to it. One round trip for each
/// page of changes. `replays_whole` if the whole graph would be read by replaying its log.
pub(super) fn catch_up(
    database: &Database,
    name: &Name,
    known: ImageKey,
    replays_whole: bool,
) -> Result<Option<(Head, CaughtUp)>, StoreError> {
    let (mut at, mut found, mut bytes, mut follows_far) = (known, Vec::new(), 0, false);
    loop {
        let rows = database.learn(|connection| read_page(connection, name, at.version))?;
        let page = rows.len();
        let mut rows = rows.into_iter();
        let Some((head, first)) = rows.next() else { return Ok(None) };
        let head = head_of(head)?;
        let whole = |why: String| Ok(Some((head.clone(), CaughtUp::Whole(why))));
        if head.id != at.graph_id || head.version < at.version {
            return whole("the store is on another history".to_owned());
        }
        let behind = head.version - at.version;
        // Asked once: a snapshot that is taken meanwhile would make what was read be in vain.
        if behind > FURTHEST && at == known {
            follows_far = replays_whole && replays_as_many(database, &head, 2 * behind)?;
        }
        if behind > FURTHEST && !follows_far {
            return whole(format!("{behind} changes since"));
        }
        for (version, text, chain) in first.into_iter().chain(rows.filter_map(|(_, change)| change))
        {
            bytes += text.len();
            at = match follow(at, version, &text, &chain) {
                Ok(next) => next,
                Err(why) => return whole(why),
            };
            match Change::from_canonical_json(&text) {
                Ok((change, _)) => found.push(change),
                Err(damaged) => return whole(damaged.to_string()),
            }
        }
        if at == head.key() {
            return Ok(Some((head, CaughtUp::Changes(found))));
        }
        if page < PAGE as usize || bytes > MOST_BYTES {
            return whole(format!(
                "the change log has {bytes} bytes after it, and ends at version {}",
                at.version
            ));
        }
    }
}

/// Whether a load of the whole graph would replay so many changes, or more.
fn replays_as_many(database: &Database, head: &Head, changes: u64) -> Result<bool, StoreError> {
    let stored = database.learn(|connection| read_head_row_and_stored(connection, &head.name))?;
    let begun = stored.and_then(|(_, stored)| stored.newest_snapshot).unwrap_or_default();
    Ok(column(head.version).saturating_sub(begun) >= column(changes))
}

/// What was written since a graph was read: the graph's row now, and the changes that lead there.
#[derive(Debug)]
pub struct ChangesSince {
    /// The graph as it was read.
    pub from: ImageKey,
    /// The row.
    pub head: Head,
    /// In order, at least one. They lead from there to the row's version and chain.
    pub changes: Vec<Change>,
}

impl ChangesSince {
    /// If the `logged` changes and chains, which follow `read`, lead to `head`.
    pub(super) fn leading_to(
        head: &Head,
        read: &Head,
        logged: Vec<(String, Vec<u8>)>,
    ) -> Option<Box<Self>> {
        let (mut at, mut changes) = (read.key(), Vec::with_capacity(logged.len()));
        for (text, chain) in &logged {
            at = follow(at, column(at.version + 1), text, chain).ok()?;
            changes.push(Change::from_canonical_json(text).ok()?.0);
        }
        let leads_there = !changes.is_empty() && at == head.key() && head.uuid == read.uuid;
        leads_there.then(|| Box::new(Self { from: read.key(), head: head.clone(), changes }))
    }
}

/// The key one change on, if the log is dense and its chain that of the change's bytes.
fn follow(at: ImageKey, version: i64, text: &str, chain: &[u8]) -> Result<ImageKey, String> {
    let next = at.version + 1;
    if u64::try_from(version) != Ok(next) {
        return Err(format!("the change log goes on at version {version}, not {next}"));
    }
    let expected = at.chain.next(text);
    if Chain(chain.try_into().map_err(|_| format!("the chain of version {next} is damaged"))?)
        != expected
    {
        return Err(format!("version {next} is of another history"));
    }
    Ok(ImageKey { version: next, chain: expected, ..at })
}

/// The head and a change, if there is one.
type Row = (GraphRow, Option<LoggedRow>);

/// The head, once for each change after `version`, and once without if there is none. Beside it
/// what the server tells of itself. One statement sees one snapshot.
fn read_page(
    connection: &mut AnyConnection,
    name: &Name,
    version: u64,
) -> QueryResult<(Option<ServerState>, Vec<Row>)> {
    let since = changes::graph_id.eq(graphs::id).and(changes::version.gt(version as i64));
    let rows: Vec<(ServerState, Row)> = graphs::table
        .left_join(changes::table.on(since))
        .filter(graphs::name.eq(name.as_str()))
        .order(changes::version)
        .limit(PAGE)
        .select((
            server_state(),
            (GraphRow::as_select(), (changes::version, changes::change, changes::chain).nullable()),
        ))
        .load(connection)?;
    Ok(split_server_state(rows))
}
