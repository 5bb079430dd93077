//! Who reads a graph's change log from outside, and how far: what pruning waits for.

use diesel::prelude::*;

use super::Store;
use super::commit_error::{CommitError, repeatable};
use super::error::StoreError;
use super::head::{GraphState, Head, column, head_of, read_head, read_head_row};
use crate::db::AnyConnection;
use crate::db::schema::consumers;
use crate::graph::Name;

/// Somebody who reads the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// What it calls itself.
    pub name: Name,
    /// It needs no change up to this version.
    pub acknowledged: u64,
    /// When it reached that version, in milliseconds since 1970, by the database's clock.
    pub acknowledged_at_ms: i64,
    /// When it last reported, in milliseconds since 1970, by the database's clock.
    pub seen_at_ms: i64,
    /// Pruning stops waiting for it this many milliseconds after its last report; `None`: pruning
    /// always waits.
    pub lifetime_ms: Option<i64>,
    /// Whether pruning waits for it, by the database's clock when this was read.
    pub is_waited_for: bool,
    /// Where it writes, if it is an export; `None` too for exports of builds that did not note it.
    pub sink: Option<ConsumerSink>,
}

/// Where an export writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSink {
    /// Its URL, without a password.
    pub url: String,
    /// The identity of what is there: the same as long as it is the same place.
    pub identity: String,
}

impl Consumer {
    /// When pruning stops waiting for it, in milliseconds since 1970; `None`: never.
    #[must_use]
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.lifetime_ms.map(|lifetime| self.seen_at_ms.saturating_add(lifetime))
    }
}

/// How long pruning waits for a consumer after its last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// For ever.
    Unlimited,
    /// So many milliseconds if the consumer is new or was limited before.
    LimitedIfNew(i64),
    /// So many milliseconds from now on, whatever it was before.
    Limited(i64),
}

/// What an export reports.
#[derive(Debug, Clone)]
pub struct ExportReport<'r> {
    /// Its name among the consumers.
    pub consumer: &'r Name,
    /// Where it writes.
    pub sink: &'r ConsumerSink,
    /// The version that its sink has.
    pub version: u64,
    /// For how long pruning waits for it.
    pub lifetime: Lifetime,
    /// Whether an acknowledgement of more than `version` is taken back, because the sink does not
    /// have it. It never falls below what was pruned.
    pub take_back: bool,
}

/// What became of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It is noted, or something later was noted before.
    Noted {
        /// The graph's row.
        head: Head,
        /// What the consumer has acknowledged now.
        acknowledged: u64,
        /// Whether it was not registered before.
        registered: bool,
    },
    /// There is no such graph.
    GraphNotFound,
    /// That version is beyond the graph's.
    Ahead {
        /// The version that it has.
        version: u64,
    },
    /// It would register for changes that are gone.
    Pruned {
        /// The oldest change that is there.
        oldest: u64,
    },
}

type ConsumerRow = (String, i64, i64, i64, Option<i64>, Option<String>, Option<String>);

fn consumer_of(row: ConsumerRow, now_ms: i64) -> Result<Consumer, StoreError> {
    let (name, acknowledged, acknowledged_at_ms, seen_at_ms, lifetime_ms, url, identity) = row;
    let name = Name::new(&name).map_err(|error| StoreError::DamagedValue(error.to_string()))?;
    let sink = url.zip(identity).map(|(url, identity)| ConsumerSink { url, identity });
    let expires_at_ms = lifetime_ms.map(|lifetime| seen_at_ms.saturating_add(lifetime));
    Ok(Consumer {
        name,
        acknowledged: acknowledged as u64,
        acknowledged_at_ms,
        seen_at_ms,
        lifetime_ms,
        is_waited_for: expires_at_ms.is_none_or(|expires| now_ms <= expires),
        sink,
    })
}

/// The consumers of a graph, in byte order of names. `now_ms` is the database's clock.
pub(super) fn consumers_of(
    connection: &mut AnyConnection,
    graph_id: i64,
    now_ms: i64,
) -> Result<Vec<Consumer>, StoreError> {
    let rows: Vec<ConsumerRow> = consumers::table
        .filter(consumers::graph_id.eq(graph_id))
        .order(consumers::name)
        .select((
            consumers::name,
            consumers::acknowledged,
            consumers::acknowledged_at_ms,
            consumers::seen_at_ms,
            consumers::lifetime_ms,
            consumers::sink,
            consumers::sink_identity,
        ))
        .load(connection)?;
    rows.into_iter().map(|row| consumer_of(row, now_ms)).collect()
}

/// As [`behind`], of the graph's consumers. What this finds holds as long as the caller holds the
/// graph's row.
pub(super) fn read_behind(
    connection: &mut AnyConnection,
    graph_id: i64,
    oldest: u64,
) -> Result<(Vec<Consumer>, Vec<Consumer>), CommitError> {
    let now_ms = connection.now_ms()?;
    let all = consumers_of(connection, graph_id, now_ms).map_err(CommitError::Unavailable)?;
    Ok(behind(all, oldest))
}

pub(super) fn forget_consumers(
    connection: &mut AnyConnection,
    graph_id: i64,
    forgotten: &[Consumer],
) -> QueryResult<()> {
    for consumer in forgotten {
        let row = consumers::table.find((graph_id, consumer.name.as_str()));
        diesel::delete(row).execute(connection)?;
    }
    Ok(())
}

/// Of these consumers, those that need a change before `oldest`: the ones that pruning waits for,
/// the furthest behind first, and the ones that it no longer waits for.
#[must_use]
pub(crate) fn behind(consumers: Vec<Consumer>, oldest: u64) -> (Vec<Consumer>, Vec<Consumer>) {
    let (mut waiting, expired): (Vec<_>, Vec<_>) = consumers
        .into_iter()
        .filter(|consumer| consumer.acknowledged + 1 < oldest)
        .partition(|consumer| consumer.is_waited_for);
    waiting.sort_by(|one, other| {
        (one.acknowledged, &one.name).cmp(&(other.acknowledged, &other.name))
    });
    (waiting, expired)
}

/// What to note about a consumer. That holds the graph's row, as pruning does. So either pruning
/// sees this consumer, or this sees what pruning left.
struct Note<'n> {
    consumer: &'n Name,
    version: u64,
    take_back: bool,
    lifetime: Option<Lifetime>,
    sink: Option<&'n ConsumerSink>,
}

fn note(
    connection: &mut AnyConnection,
    name: &Name,
    note: &Note<'_>,
) -> Result<Acknowledgement, CommitError> {
    connection.hold_graph(name.as_str())?;
    let found = read_head(connection, name)?.filter(|head| head.state != GraphState::Deleted);
    let Some(head) = found else { return Ok(Acknowledgement::GraphNotFound) };
    if note.version > head.version {
        return Ok(Acknowledgement::Ahead { version: head.version });
    }
    let now_ms = connection.now_ms()?;
    let before = consumers_of(connection, head.id, now_ms)
        .map_err(CommitError::Unavailable)?
        .into_iter()
        .find(|consumer| consumer.name == *note.consumer);
    if before.is_none() && note.version + 1 < head.oldest {
        return Ok(Acknowledgement::Pruned { oldest: head.oldest });
    }
    // What was pruned cannot be wanted back.
    let least = head.oldest.saturating_sub(1);
    let acknowledged = match &before {
        None => note.version,
        Some(before) if note.version < before.acknowledged && note.take_back => {
            note.version.max(least).min(before.acknowledged)
        }
        Some(before) => note.version.max(before.acknowledged),
    };
    let since = match &before {
        Some(before) if before.acknowledged == acknowledged => before.acknowledged_at_ms,
        _ => now_ms,
    };
    let lifetime_before = before.as_ref().and_then(|before| before.lifetime_ms);
    let lifetime_ms = match note.lifetime {
        None => lifetime_before,
        Some(Lifetime::Unlimited) => None,
        Some(Lifetime::Limited(ms)) => Some(ms),
        Some(Lifetime::LimitedIfNew(_)) if before.is_some() && lifetime_before.is_none() => None,
        Some(Lifetime::LimitedIfNew(ms)) => Some(ms),
    };
    let registered = before.is_none();
    let sink = note.sink.cloned().or_else(|| before.and_then(|before| before.sink));
    let row = (
        consumers::acknowledged.eq(column(acknowledged)),
        consumers::acknowledged_at_ms.eq(since),
        consumers::seen_at_ms.eq(now_ms),
        consumers::lifetime_ms.eq(lifetime_ms),
        consumers::sink.eq(sink.as_ref().map(|sink| sink.url.clone())),
        consumers::sink_identity.eq(sink.map(|sink| sink.identity)),
    );
    if registered {
        let key = (consumers::graph_id.eq(head.id), consumers::name.eq(note.consumer.as_str()));
        diesel::insert_into(consumers::table).values((key, row)).execute(connection)?;
    } else {
        let place = consumers::table.find((head.id, note.consumer.as_str()));
        diesel::update(place).set(row).execute(connection)?;
    }
    Ok(Acknowledgement::Noted { head, acknowledged, registered })
}

impl Store {
    /// The graph's row and who reads its log, in byte order of names.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn consumers(&self, name: &Name) -> Result<Option<(Head, Vec<Consumer>)>, StoreError> {
        let head = |connection: &mut AnyConnection| read_head_row(connection, name);
        self.database.learn_and_read(head, |connection, row| {
            let Some(row) = row else { return Ok(None) };
            let head = head_of(row)?;
            let now_ms = connection.now_ms()?;
            let found = consumers_of(connection, head.id, now_ms)?;
            Ok(Some((head, found)))
        })
    }

    /// Notes that `consumer` needs no change up to `version`; registers it if it is new. What was
    /// acknowledged once stays so: a smaller version than before changes nothing.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    pub fn acknowledge(
        &self,
        name: &Name,
        consumer: &Name,
        version: u64,
    ) -> Result<Acknowledgement, CommitError> {
        let noted = Note { consumer, version, take_back: false, lifetime: None, sink: None };
        self.database.write(|connection| note(connection, name, &noted)).map_err(repeatable)
    }

    /// Notes how far an export's sink is, as [`acknowledge`](Self::acknowledge) does, and where it
    /// is. The one way by which an acknowledgement becomes less.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    pub fn report_export(
        &self,
        name: &Name,
        report: &ExportReport<'_>,
    ) -> Result<Acknowledgement, CommitError> {
        let noted = Note {
            consumer: report.consumer,
            version: report.version,
            take_back: report.take_back,
            lifetime: Some(report.lifetime),
            sink: Some(report.sink),
        };
        self.database.write(|connection| note(connection, name, &noted)).map_err(repeatable)
    }

    /// Renames the consumer `from` to `to`, or deletes it if `to` exists. Returns whether `from`
    /// existed.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    pub fn rename_consumer(
        &self,
        name: &Name,
        from: &Name,
        to: &Name,
    ) -> Result<bool, CommitError> {
        let written = self.database.write(|connection| {
            connection.hold_graph(name.as_str())?;
            let Some(head) = read_head(connection, name)? else { return Ok(false) };
            let row =
                |consumer: &Name| consumers::table.find((head.id, consumer.as_str().to_owned()));
            let taken: i64 = row(to).count().get_result(connection)?;
            let moved = if taken > 0 {
                // It is known by its new name already, and that tells how far it is.
                diesel::delete(row(from)).execute(connection)?
            } else {
                diesel::update(row(from))
                    .set(consumers::name.eq(to.as_str()))
                    .execute(connection)?
            };
            Ok::<_, CommitError>(moved == 1)
        });
        written.map_err(repeatable)
    }

    /// Takes the consumer off the list; whether it was on it. `None` if there is no such graph.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be written.
    pub fn forget_consumer(
        &self,
        name: &Name,
        consumer: &Name,
    ) -> Result<Option<bool>, CommitError> {
        let written = self.database.write(|connection| {
            // Of a deleted graph too: its log can be pruned, unless somebody is in the way.
            let Some(head) = read_head(connection, name)? else { return Ok(None) };
            let row = consumers::table.find((head.id, consumer.as_str()));
            Ok::<_, CommitError>(Some(diesel::delete(row).execute(connection)? == 1))
        });
        written.map_err(repeatable)
    }
}
