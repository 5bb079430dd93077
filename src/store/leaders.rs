//! Who leads which graph. The token in a graph's row is what counts: conditional writes compare it.
//! All else is what nodes tell each other, so that clients are told where to go and graphs can be
//! handed over; nothing that must be right rests on it.

use std::time::Duration;

use diesel::prelude::*;

use super::Store;
use super::commit_error::{CommitError, repeatable};
use super::error::StoreError;
use super::head::{Head, ImageKey};
use super::storage_kind::StorageKind;
use crate::chain::Chain;
use crate::db::schema::{graphs, leader_nodes, leaders};
use crate::db::{AnyConnection, Value, WriteError};
use crate::failpoint;
use crate::graph::Name;

/// What stands for any node as a successor.
const ANY: &str = "*";
/// A node that was silent for longer, in milliseconds, is asked for nothing.
const SILENT_AFTER_MS: i64 = 6_000;

/// Who leads a graph, as the leader has said itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The graph's row id.
    pub graph_id: i64,
    /// The graph.
    pub graph: Name,
    /// How it is stored.
    pub storage: StorageKind,
    /// Its version.
    pub version: u64,
    /// The chain there.
    pub chain: Chain,
    /// The node that leads it.
    pub node: String,
    /// Where that node's clients reach it.
    pub address: Option<String>,
    /// The token of its take-over.
    pub token: i64,
    /// For how long it has led it, in milliseconds.
    pub led_ms: i64,
    /// How long the node has been silent, in milliseconds; `None` if it was forgotten.
    pub silent_ms: Option<i64>,
    /// Whether it is about to give the graph up.
    pub is_leaving: bool,
    /// Who is to lead next.
    pub successor: Option<Successor>,
    /// Whether it leads the graph because most writes of it come through it.
    pub follows_load: bool,
}

impl Leader {
    /// Whether its node has told of itself lately.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.silent_ms.is_some_and(|silent_ms| silent_ms < SILENT_AFTER_MS)
    }

    /// What an image of the graph is known by, as it was when this was read.
    #[must_use]
    pub fn key(&self) -> ImageKey {
        let Self { graph_id, version, chain, .. } = *self;
        ImageKey { graph_id, version, chain }
    }

    /// The node that waits for the leader to give the graph up.
    #[must_use]
    pub fn waiting_successor(&self) -> Option<&String> {
        self.successor.as_ref().filter(|successor| successor.waits)?.node.as_ref()
    }
}

/// A node that may lead, as it has said itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Tells it from all others.
    pub node: String,
    /// Where its clients reach it.
    pub address: Option<String>,
    /// How long it has been silent, in milliseconds.
    pub silent_ms: i64,
}

impl Node {
    /// Whether it has told of itself lately.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.silent_ms < SILENT_AFTER_MS
    }
}

/// Who is to lead a graph next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The node; `None`: whichever takes it up.
    pub node: Option<String>,
    /// Whether it waits for the leader to give the graph up.
    pub waits: bool,
}

impl Successor {
    fn from_columns(node: Option<String>, waits: i64) -> Option<Self> {
        let node = node?;
        Some(Self { node: (node != ANY).then_some(node), waits: waits != 0 })
    }
}

type LeaderRow = (
    (i64, String, String, i64, Vec<u8>),
    (String, i64, i64, i64, Option<String>, i64, i64),
    Option<NodeRow>,
);
type NodeRow = (Option<String>, i64);

impl Store {
    /// Counts up the graph's leader token, if it still is what was read, and notes that `node`
    /// leads the graph, and where its clients reach it. From then on the writes of all former
    /// leaders are refused. Returns the token.
    ///
    /// # Errors
    /// [`CommitError`]; [`CommitError::Fenced`] if another was first, [`CommitError::Gone`] if the
    /// row is another graph's.
    pub fn take_over(
        &self,
        read: &Head,
        node: &str,
        address: Option<&str>,
    ) -> Result<i64, CommitError> {
        let token = read.leader_token + 1;
        let written = self.database.write(|connection| {
            let row = graphs::table
                .find(read.id)
                .filter(graphs::uuid.eq(read.uuid.to_string()))
                .filter(graphs::leader_token.eq(read.leader_token));
            let changed = diesel::update(row).set(graphs::leader_token.eq(token));
            if changed.execute(connection)? != 1 {
                let found = graphs::table.find(read.id).select(graphs::leader_token);
                let found: Option<i64> = found.first(connection).optional()?;
                let Some(fence) = found.filter(|fence| *fence >= token) else {
                    return Err(CommitError::Gone { id: read.id });
                };
                return Err(CommitError::Fenced { token, fence });
            }
            insert(connection, read.id, token, node)?;
            note(connection, node, address)?;
            Ok(token)
        });
        written.map_err(|error| match error {
            WriteError::RolledBack(error) => error,
            // Whether or not it was written: no write has carried the token, and the next take-over
            // counts on from what it finds.
            WriteError::CommitUnknown(error) => CommitError::from(error),
        })
    }

    /// Notes that `node` leads the graph, if that take-over still is the last.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn note_leader(&self, graph_id: i64, token: i64, node: &str) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            let now_ms = connection.now_ms()?;
            connection.run(
                "INSERT INTO leaders (graph_id, node, token, since_ms) SELECT ?, ?, ?, ? \
                 FROM graphs WHERE id = ? AND leader_token = ? ON CONFLICT (graph_id) DO NOTHING",
                &[
                    Value::Integer(graph_id),
                    Value::Text(node),
                    Value::Integer(token),
                    Value::Integer(now_ms),
                    Value::Integer(graph_id),
                    Value::Integer(token),
                ],
            )?;
            Ok(())
        });
        written.map_err(repeatable)
    }

    /// Who leads the graph with this row id; `None` if nobody says so.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    pub fn leader(&self, graph_id: i64) -> Result<Option<Leader>, StoreError> {
        let found = self.database.ask(|connection| {
            let now_ms = connection.now_ms()?;
            let rows = told().filter(leaders::graph_id.eq(graph_id)).load(connection)?;
            Ok((now_ms, rows))
        })?;
        Ok(leaders_of(found)?.pop())
    }

    /// Who leads which graph, by row id, but for nodes that were forgotten. O(graphs that are led).
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    pub fn leaders(&self) -> Result<Vec<Leader>, StoreError> {
        let found = self.database.ask(|connection| {
            let now_ms = connection.now_ms()?;
            let known = told().filter(leader_nodes::node.is_not_null());
            Ok((now_ms, known.order(leaders::graph_id).load(connection)?))
        })?;
        leaders_of(found)
    }

    /// The nodes that may lead, silent ones included.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let nodes = self.database.ask(|connection| {
            let now_ms = connection.now_ms()?;
            let rows: Vec<(String, Option<String>, i64)> =
                leader_nodes::table.order(leader_nodes::node).load(connection)?;
            let silent_ms = |seen_at_ms: i64| (now_ms - seen_at_ms).max(0);
            let node = |(node, address, seen_at_ms)| Node {
                node,
                address,
                silent_ms: silent_ms(seen_at_ms),
            };
            Ok(rows.into_iter().map(node).collect())
        })?;
        Ok(nodes)
    }

    /// Notes that the node lives, and where its clients reach it.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn note_node(&self, node: &str, address: Option<&str>) -> Result<(), CommitError> {
        let written = self.database.write(|connection| Ok(note(connection, node, address)?));
        written.map_err(repeatable)
    }

    /// Forgets nodes that were silent for so long. That they lead what they led stays noted, until
    /// another takes it over: they may still hold the lock.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn forget_nodes(&self, silent_for: Duration) -> Result<(), CommitError> {
        let silent_ms = i64::try_from(silent_for.as_millis()).unwrap_or(i64::MAX);
        let written = self.database.write(|connection| {
            let before = connection.now_ms()?.saturating_sub(silent_ms);
            let silent: Vec<String> = leader_nodes::table
                .filter(leader_nodes::seen_at_ms.lt(before))
                .select(leader_nodes::node)
                .load(connection)?;
            for node in &silent {
                forget(connection, node)?;
                if failpoint::is_off("forgotten-leaders") {
                    forget_leaders(connection, node)?;
                }
            }
            Ok(())
        });
        written.map_err(repeatable)
    }

    /// Forgets a node, and what it led.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn forget_node(&self, node: &str) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            forget_leaders(connection, node)?;
            Ok(forget(connection, node)?)
        });
        written.map_err(repeatable)
    }

    /// Notes that the node is about to give up all graphs that it leads, and takes over none.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn announce_leaving(&self, node: &str) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            diesel::update(leaders::table.filter(leaders::node.eq(node)))
                .set(leaders::is_leaving.eq(1))
                .execute(connection)?;
            succeeds_nobody(connection, node)?;
            Ok(())
        });
        written.map_err(repeatable)
    }

    /// Notes that `node` does not lead these graphs any more: each with the token of its take-over,
    /// after which another may have come.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn end_leaderships(&self, node: &str, ended: &[(i64, i64)]) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            for (graph_id, token) in ended {
                let of_node = of_take_over(*graph_id, *token).filter(leaders::node.eq(node));
                diesel::delete(of_node).execute(connection)?;
            }
            Ok(())
        });
        written.map_err(repeatable)
    }

    /// Asks that `successor`, or `None` for any node, leads the graph next; instead of whom was
    /// asked for before. Whether that take-over still is the last.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn name_successor(
        &self,
        graph_id: i64,
        token: i64,
        successor: Option<&str>,
    ) -> Result<bool, CommitError> {
        let written = self.database.write(|connection| {
            let changed = diesel::update(of_take_over(graph_id, token))
                .set((
                    leaders::successor.eq(Some(successor.unwrap_or(ANY))),
                    leaders::successor_waits.eq(0),
                    leaders::follows_load.eq(0),
                ))
                .execute(connection)?;
            Ok(changed == 1)
        });
        written.map_err(repeatable)
    }

    /// Asks that `node` leads the graph next, unless a successor was asked for already. If it is to
    /// because most writes come through it (`follows_load`), it is not asked, for as long as it
    /// leads, to give the graph up for another's share. Whether it is to lead next.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn ask_to_succeed(
        &self,
        graph_id: i64,
        token: i64,
        node: &str,
        follows_load: bool,
    ) -> Result<bool, CommitError> {
        let written = self.database.write(|connection| {
            let unnamed = of_take_over(graph_id, token).filter(leaders::successor.is_null());
            let follows_load = i64::from(follows_load);
            let changed = diesel::update(unnamed)
                .set((leaders::successor.eq(Some(node)), leaders::follows_load.eq(follows_load)))
                .execute(connection)?;
            Ok(changed == 1)
        });
        written.map_err(repeatable)
    }

    /// Takes back that any node was asked to lead the graph next, or `successor` was.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn withdraw_successor(
        &self,
        graph_id: i64,
        token: i64,
        successor: Option<&str>,
    ) -> Result<(), CommitError> {
        let written = self.database.write(|connection| {
            let named = [ANY.to_owned(), successor.unwrap_or(ANY).to_owned()];
            let named = of_take_over(graph_id, token).filter(leaders::successor.eq_any(named));
            diesel::update(named).set(no_successor()).execute(connection)?;
            Ok(())
        });
        written.map_err(repeatable)
    }

    /// Notes that `node` waits for the leader to give the graph up, if it was named for that, or
    /// any node was. Whether it is to wait.
    ///
    /// # Errors
    /// [`CommitError`] if it cannot be written.
    pub fn wait_as_successor(
        &self,
        graph_id: i64,
        token: i64,
        node: &str,
    ) -> Result<bool, CommitError> {
        let written = self.database.write(|connection| {
            let named = [ANY.to_owned(), node.to_owned()];
            let named = of_take_over(graph_id, token).filter(leaders::successor.eq_any(named));
            let changed = diesel::update(named)
                .set((leaders::successor.eq(Some(node)), leaders::successor_waits.eq(1)))
                .execute(connection)?;
            Ok(changed == 1)
        });
        written.map_err(repeatable)
    }
}

/// In place of what is noted of the graph.
fn insert(
    connection: &mut AnyConnection,
    graph_id: i64,
    token: i64,
    node: &str,
) -> QueryResult<()> {
    let now_ms = connection.now_ms()?;
    connection.run(
        "INSERT INTO leaders (graph_id, node, token, since_ms) VALUES (?, ?, ?, ?) \
         ON CONFLICT (graph_id) DO UPDATE SET node = excluded.node, token = excluded.token, \
         since_ms = excluded.since_ms, is_leaving = 0, successor = NULL, successor_waits = 0, \
         follows_load = CASE leaders.successor WHEN excluded.node THEN leaders.follows_load ELSE 0 END",
        &[
            Value::Integer(graph_id),
            Value::Text(node),
            Value::Integer(token),
            Value::Integer(now_ms),
        ],
    )?;
    Ok(())
}

fn note(connection: &mut AnyConnection, node: &str, address: Option<&str>) -> QueryResult<()> {
    let now_ms = connection.now_ms()?;
    connection.run(
        "INSERT INTO leader_nodes (node, address, seen_at_ms) VALUES (?, ?, ?) \
         ON CONFLICT (node) DO UPDATE SET address = excluded.address, \
         seen_at_ms = excluded.seen_at_ms",
        &[Value::Text(node), Value::OptionalText(address), Value::Integer(now_ms)],
    )?;
    Ok(())
}

fn forget(connection: &mut AnyConnection, node: &str) -> QueryResult<()> {
    succeeds_nobody(connection, node)?;
    diesel::delete(leader_nodes::table.find(node)).execute(connection)?;
    Ok(())
}

fn forget_leaders(connection: &mut AnyConnection, node: &str) -> QueryResult<()> {
    diesel::delete(leaders::table.filter(leaders::node.eq(node))).execute(connection)?;
    Ok(())
}

/// It takes nothing over any more.
fn succeeds_nobody(connection: &mut AnyConnection, node: &str) -> QueryResult<()> {
    diesel::update(leaders::table.filter(leaders::successor.eq(node)))
        .set(no_successor())
        .execute(connection)?;
    Ok(())
}

#[diesel::dsl::auto_type(no_type_alias)]
fn no_successor() -> _ {
    let nobody: Option<String> = None;
    (
        leaders::successor.eq(nobody),
        leaders::successor_waits.eq(0_i64),
        leaders::follows_load.eq(0_i64),
    )
}

#[diesel::dsl::auto_type(no_type_alias)]
fn of_take_over(graph_id: i64, token: i64) -> _ {
    leaders::table.filter(leaders::graph_id.eq(graph_id)).filter(leaders::token.eq(token))
}

/// What leaders have said, as far as it is of the last take-over of their graph.
#[diesel::dsl::auto_type(no_type_alias)]
fn told() -> _ {
    leaders::table
        .inner_join(graphs::table.on(graphs::id.eq(leaders::graph_id)))
        .left_join(leader_nodes::table.on(leader_nodes::node.eq(leaders::node)))
        .filter(graphs::leader_token.eq(leaders::token))
        .select((
            (graphs::id, graphs::name, graphs::storage, graphs::version, graphs::chain),
            (
                leaders::node,
                leaders::token,
                leaders::since_ms,
                leaders::is_leaving,
                leaders::successor,
                leaders::successor_waits,
                leaders::follows_load,
            ),
            (leader_nodes::address, leader_nodes::seen_at_ms).nullable(),
        ))
}

fn leaders_of((now_ms, rows): (i64, Vec<LeaderRow>)) -> Result<Vec<Leader>, StoreError> {
    let damaged = |what: &str| StoreError::DamagedValue(format!("{what} of a graph that is led"));
    let leader = |(graph, told, of_node): LeaderRow| {
        let (graph_id, name, storage, version, chain) = graph;
        let (node, token, since_ms, is_leaving, successor, successor_waits, follows_load) = told;
        let silent_ms = of_node.as_ref().map(|(_, seen_at_ms)| (now_ms - seen_at_ms).max(0));
        Ok(Leader {
            graph_id,
            graph: Name::new(&name).map_err(|_| damaged("the name"))?,
            storage: StorageKind::of_word(&storage),
            version: u64::try_from(version).map_err(|_| damaged("the version"))?,
            chain: Chain(chain.as_slice().try_into().map_err(|_| damaged("the chain"))?),
            node,
            address: of_node.and_then(|(address, _)| address),
            token,
            led_ms: (now_ms - since_ms).max(0),
            silent_ms,
            is_leaving: is_leaving != 0,
            successor: Successor::from_columns(successor, successor_waits),
            follows_load: follows_load != 0,
        })
    };
    rows.into_iter().map(leader).collect()
}

/// Whether a node's address, `http://HOST:PORT`, is one that leads each machine to itself.
#[must_use]
pub fn is_on_loopback(address: &str) -> bool {
    let place = address.strip_prefix("http://").unwrap_or(address);
    if let Ok(socket) = place.parse::<std::net::SocketAddr>() {
        return socket.ip().is_loopback();
    }
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_known_as_one() {
        for own in [
            "http://127.0.0.1:8000",
            "http://localhost:8000",
            "http://[::1]:8000",
            "http://127.9.0.1",
        ] {
            assert!(is_on_loopback(own), "{own}");
        }
        for other in [
            "http://10.0.0.1:8000",
            "http://node-a:8000",
            "http://[2001:db8::1]:80",
            "http://localhost.example:80",
        ] {
            assert!(!is_on_loopback(other), "{other}");
        }
    }
}
