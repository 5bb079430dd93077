//! The tables, as both databases have them. `migrations/` says what they are for.
#![expect(
    missing_docs,
    reason = "Diesel makes a module and a struct for each table and column; the migrations document them"
)]

use diesel::{Queryable, Selectable};

diesel::table! {
    service (id) {
        id -> BigInt,
        database_id -> Text,
        lock_kind -> Nullable<Text>,
        lock_identity -> Nullable<Text>,
    }
}

diesel::table! {
    graphs (id) {
        id -> BigInt,
        name -> Text,
        state -> Text,
        moved_to -> Nullable<Text>,
        version -> BigInt,
        fence -> BigInt,
        epoch -> BigInt,
        lock_incarnation -> Text,
        chain -> Binary,
        uuid -> Text,
        oldest -> BigInt,
        storage -> Text,
        known_version -> Nullable<BigInt>,
        leader_token -> BigInt,
    }
}

// Beside these columns, `inputs` is an array in Postgres and JSON in SQLite.
diesel::table! {
    jobs (graph_id, id) {
        graph_id -> BigInt,
        id -> BigInt,
        name -> Text,
        spec -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    datasets (graph_id, id) {
        graph_id -> BigInt,
        id -> BigInt,
        name -> Text,
        metadata -> Nullable<Text>,
        producer -> Nullable<BigInt>,
    }
}

diesel::table! {
    changes (graph_id, version) {
        graph_id -> BigInt,
        version -> BigInt,
        change -> Text,
        chain -> Binary,
        attempt -> Text,
        token -> BigInt,
        committed_at_ms -> BigInt,
        actor -> Nullable<Text>,
        request -> Nullable<Text>,
    }
}

diesel::table! {
    idempotency_keys (graph_id, key) {
        graph_id -> BigInt,
        key -> Text,
        fingerprint -> Text,
        answer -> Text,
        created_at_ms -> BigInt,
        attempt -> Nullable<Text>,
    }
}

diesel::table! {
    consumers (graph_id, name) {
        graph_id -> BigInt,
        name -> Text,
        acknowledged -> BigInt,
        acknowledged_at_ms -> BigInt,
        seen_at_ms -> BigInt,
        lifetime_ms -> Nullable<BigInt>,
        sink -> Nullable<Text>,
        sink_identity -> Nullable<Text>,
    }
}

diesel::table! {
    snapshots (graph_id) {
        graph_id -> BigInt,
        version -> BigInt,
        committed_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    snapshot_parts (graph_id, version, part) {
        graph_id -> BigInt,
        version -> BigInt,
        part -> BigInt,
        lines -> Text,
    }
}

diesel::table! {
    packed_snapshots (graph_id, version) {
        graph_id -> BigInt,
        version -> BigInt,
        snapshot -> Text,
        chain -> Binary,
        format -> BigInt,
        digest -> Text,
        parts -> BigInt,
        bytes -> BigInt,
        taken_at_ms -> BigInt,
    }
}

diesel::table! {
    packed_parts (graph_id, snapshot, part) {
        graph_id -> BigInt,
        snapshot -> Text,
        part -> BigInt,
        checksum -> Binary,
        content -> Binary,
    }
}

diesel::table! {
    packed_claims (graph_id) {
        graph_id -> BigInt,
        snapshot -> Text,
        expires_at_ms -> BigInt,
    }
}

diesel::table! {
    leader_nodes (node) {
        node -> Text,
        address -> Nullable<Text>,
        seen_at_ms -> BigInt,
    }
}

diesel::table! {
    leaders (graph_id) {
        graph_id -> BigInt,
        node -> Text,
        token -> BigInt,
        since_ms -> BigInt,
        is_leaving -> BigInt,
        successor -> Nullable<Text>,
        successor_waits -> BigInt,
        follows_load -> BigInt,
    }
}

diesel::define_sql_function! {
    /// How many bytes there are.
    fn length(bytes: diesel::sql_types::Binary) -> diesel::sql_types::Integer;
}

diesel::define_sql_function! {
    /// How many bytes a text has, without reading it.
    fn octet_length(text: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

diesel::allow_tables_to_appear_in_same_query!(graphs, changes);
diesel::allow_tables_to_appear_in_same_query!(graphs, leaders, leader_nodes);
diesel::allow_tables_to_appear_in_same_query!(packed_snapshots, packed_parts, packed_claims);

/// A graph's row.
#[derive(Queryable, Selectable)]
#[diesel(table_name = graphs)]
pub struct GraphRow {
    pub id: i64,
    pub name: String,
    pub state: String,
    pub moved_to: Option<String>,
    pub version: i64,
    pub fence: i64,
    pub epoch: i64,
    pub lock_incarnation: String,
    pub chain: Vec<u8>,
    pub uuid: String,
    pub oldest: i64,
    pub storage: String,
    pub leader_token: i64,
}

/// A row of the change log. Without a time, it is written now, by the database's clock.
#[derive(Clone, Copy)]
pub struct ChangeRow<'r> {
    pub graph_id: i64,
    pub version: i64,
    pub change: &'r str,
    pub chain: &'r [u8],
    pub attempt: &'r str,
    pub token: i64,
    pub committed_at_ms: Option<i64>,
    pub actor: Option<&'r str>,
    /// The name of the request that made it, if another node has passed it on.
    pub request: Option<&'r str>,
}
