//! The layouts that are compared. Their tables are the SQL files beside this one, in which `{name}`
//! stands for a text that is compared as bytes, `{bytes}` for a type of bytes, `{list}` for that of
//! a list of ids, `{clustered}` for what keeps an SQLite table in the order of its primary key, and
//! `{each}` and `{column}` for what makes rows of a list.

use super::statement::Value;

pub struct Layout {
    pub name: &'static str,
    pub databases: &'static [Kind],
    pub tables: &'static [&'static str],
    /// What rows a write inserts, and into which columns. The graph's id is first.
    pub inserts: &'static [(Rows, &'static str)],
    pub load: Load,
    /// Ways to add an edge to a job and to remove one.
    pub edges: &'static [EdgeChange],
    /// A job now writes a dataset that no job wrote. Takes the job, the graph, the dataset.
    pub produce: &'static str,
    pub list: List,
    pub key: Key,
    /// SQLite keeps rows in the order of the primary key, not of a number of its own.
    pub clustered: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

/// Which rows of a job a table has. Edges are a job and a dataset.
#[derive(Clone, Copy, PartialEq)]
pub enum Rows {
    /// Id, name, spec, version.
    Jobs,
    /// The same and the inputs, at most so many.
    JobLists {
        most: usize,
    },
    /// Id, name.
    Datasets,
    /// Id, name, producer.
    Produced,
    Inputs,
    Outputs,
    /// Job, number, and the inputs beyond the first chunk.
    Chunks,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Load {
    Rows,
    Lists,
    Chunks,
    Nothing,
}

#[derive(Clone, Copy, PartialEq)]
pub enum List {
    Array,
    Json,
    /// Numbers of four bytes, the lowest first.
    Blob,
}

/// How a job or a dataset is found.
#[derive(Clone, Copy, PartialEq)]
pub enum Key {
    Id,
    /// Id with the graph before it.
    Packed,
    Name,
}

/// Both statements take what is `sent`, the graph, the job.
pub struct EdgeChange {
    pub sent: Sent,
    pub add: &'static str,
    pub remove: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Sent {
    /// The dataset, to a table of edges.
    Row,
    /// The whole list.
    List,
    /// The list of chunk [`CHANGED_CHUNK`].
    Chunk,
    /// The dataset: the database changes the list.
    Dataset,
}

pub const CHUNK: usize = 256;
/// As in the statement.
pub const CHANGED_CHUNK: usize = 200;

const COMMON: &str = include_str!("common.sql");
const ROWS: &str = include_str!("rows.sql");
const ROWS_INDEXES: &str = include_str!("rows_indexes.sql");
const ROWS_VIEWS: &str = include_str!("rows_views.sql");
const LISTS: &str = include_str!("lists.sql");
const LISTS_VIEWS: &str = include_str!("lists_views.sql");
const LISTS_PACKED: &str = include_str!("lists_packed.sql");
const LISTS_NAMED: &str = include_str!("lists_named.sql");
const CHUNKS: &str = include_str!("chunks.sql");
const CHUNKS_VIEWS: &str = include_str!("chunks_views.sql");
const BY_PRODUCER: &str = "CREATE INDEX datasets_by_producer ON datasets (graph_id, producer)";
const EXTERNAL: &str = "ALTER TABLE jobs ALTER inputs SET STORAGE EXTERNAL";
const FILLFACTOR: &str =
    "ALTER TABLE jobs SET (fillfactor = 90); ALTER TABLE datasets SET (fillfactor = 90)";

/// The migrations that made the tables before lists were thought of.
macro_rules! today {
    ($database:literal) => {
        concat!(
            include_str!(concat!(
                "../../migrations/",
                $database,
                "/2026-11-22-000001_graphs/up.sql"
            )),
            include_str!(concat!(
                "../../migrations/",
                $database,
                "/2026-11-22-000002_changes/up.sql"
            )),
        )
    };
}

const EDGE_ROW: EdgeChange = EdgeChange {
    sent: Sent::Row,
    add: "INSERT INTO job_inputs (dataset_id, graph_id, job_id) VALUES (?, ?, ?)",
    remove: "DELETE FROM job_inputs WHERE dataset_id = ? AND graph_id = ? AND job_id = ?",
};
const fn sent_whole(sent: Sent, sql: &'static str) -> EdgeChange {
    EdgeChange { sent, add: sql, remove: sql }
}
const EDGE_LIST: EdgeChange =
    sent_whole(Sent::List, "UPDATE jobs SET inputs = ?{cast} WHERE graph_id = ? AND id = ?");
const EDGE_PACKED: EdgeChange =
    sent_whole(Sent::List, "UPDATE jobs SET inputs = ? WHERE id = (? << 32 | ?)");
const EDGE_NAMED: EdgeChange =
    sent_whole(Sent::List, "UPDATE jobs SET inputs = ?{cast} WHERE graph_id = ? AND name = ?");
const EDGE_CHUNK: EdgeChange = sent_whole(
    Sent::Chunk,
    "UPDATE job_inputs_chunks SET inputs = ?{cast} \
     WHERE graph_id = ? AND job_id = ? AND chunk = 200",
);
const EDGE_ARRAY: EdgeChange = EdgeChange {
    sent: Sent::Dataset,
    add: "UPDATE jobs SET inputs = array_append(inputs, ?::bigint::integer) \
          WHERE graph_id = ? AND id = ?",
    remove: "UPDATE jobs SET inputs = array_remove(inputs, ?::bigint::integer) \
             WHERE graph_id = ? AND id = ?",
};
const EDGE_JSON: EdgeChange = EdgeChange {
    sent: Sent::Dataset,
    add: "UPDATE jobs SET inputs = json_insert(inputs, '$[#]', ?) WHERE graph_id = ? AND id = ?",
    remove: "UPDATE jobs SET inputs = (SELECT json_group_array(value) \
             FROM json_each(jobs.inputs) WHERE value <> ?) WHERE graph_id = ? AND id = ?",
};

const OF_ROWS: Layout = Layout {
    name: "b rows, no foreign keys",
    databases: &[Kind::Postgres, Kind::Sqlite],
    tables: &[COMMON, ROWS, ROWS_INDEXES, ROWS_VIEWS],
    inserts: &[
        (Rows::Datasets, "datasets (graph_id, id, name)"),
        (Rows::Jobs, "jobs (graph_id, id, name, spec, version)"),
        (Rows::Inputs, "job_inputs (graph_id, job_id, dataset_id)"),
        (Rows::Outputs, "job_outputs (graph_id, job_id, dataset_id)"),
    ],
    load: Load::Rows,
    edges: &[EDGE_ROW],
    produce: "INSERT INTO job_outputs (job_id, graph_id, dataset_id) VALUES (?, ?, ?)",
    list: List::Json,
    key: Key::Id,
    clustered: true,
};
const PRODUCED: (Rows, &str) = (Rows::Produced, "datasets (graph_id, id, name, producer)");
const JOB_COLUMNS: &str = "jobs (graph_id, id, name, spec, version, inputs)";
const OF_LISTS: Layout = Layout {
    name: "c lists",
    databases: &[Kind::Postgres],
    tables: &[COMMON, LISTS, LISTS_VIEWS],
    inserts: &[PRODUCED, (Rows::JobLists { most: usize::MAX }, JOB_COLUMNS)],
    load: Load::Lists,
    edges: &[EDGE_LIST, EDGE_ARRAY],
    produce: "UPDATE datasets SET producer = ? WHERE graph_id = ? AND id = ?",
    list: List::Array,
    key: Key::Id,
    clustered: true,
};
const OF_JSON: Layout = Layout {
    databases: &[Kind::Sqlite],
    edges: &[EDGE_LIST, EDGE_JSON],
    list: List::Json,
    ..OF_LISTS
};
const CHUNKED: Layout = Layout {
    name: "d lists in chunks",
    tables: &[COMMON, LISTS, CHUNKS, CHUNKS_VIEWS],
    inserts: &[
        PRODUCED,
        (Rows::JobLists { most: CHUNK }, JOB_COLUMNS),
        (Rows::Chunks, "job_inputs_chunks (graph_id, job_id, chunk, inputs)"),
    ],
    load: Load::Chunks,
    edges: &[EDGE_CHUNK],
    ..OF_LISTS
};
const NAMED: Layout = Layout {
    name: "f lists, keyed by name",
    tables: &[COMMON, LISTS_NAMED, LISTS_VIEWS],
    edges: &[EDGE_NAMED],
    produce: "UPDATE datasets SET producer = ? WHERE graph_id = ? AND name = ?",
    key: Key::Name,
    ..OF_LISTS
};

pub const LAYOUTS: &[Layout] = &[
    Layout {
        name: "a before",
        databases: &[Kind::Postgres],
        tables: &[today!("postgres"), ROWS_VIEWS],
        ..OF_ROWS
    },
    Layout {
        name: "a before",
        databases: &[Kind::Sqlite],
        tables: &[today!("sqlite"), ROWS_VIEWS],
        ..OF_ROWS
    },
    OF_ROWS,
    Layout {
        name: "b2 rows, no index of the way back",
        tables: &[COMMON, ROWS, ROWS_VIEWS],
        ..OF_ROWS
    },
    OF_LISTS,
    Layout { name: "c, EXTERNAL", tables: &[COMMON, LISTS, LISTS_VIEWS, EXTERNAL], ..OF_LISTS },
    Layout {
        name: "c, fillfactor 90",
        tables: &[COMMON, LISTS, LISTS_VIEWS, FILLFACTOR],
        ..OF_LISTS
    },
    Layout {
        name: "c, index by producer",
        tables: &[COMMON, LISTS, LISTS_VIEWS, BY_PRODUCER],
        ..OF_LISTS
    },
    Layout { name: "c lists, JSON", ..OF_JSON },
    // Nothing in SQLite's SQL makes rows of such a list: no views.
    Layout {
        name: "c, BLOB",
        tables: &[COMMON, LISTS],
        edges: &[EDGE_LIST],
        list: List::Blob,
        ..OF_JSON
    },
    Layout {
        name: "c, index by producer",
        tables: &[COMMON, LISTS, LISTS_VIEWS, BY_PRODUCER],
        ..OF_JSON
    },
    Layout { name: "c, rowid and unique index", clustered: false, ..OF_JSON },
    Layout {
        name: "c, packed key",
        tables: &[COMMON, LISTS_PACKED],
        inserts: &[
            (Rows::Produced, "datasets (id, name, producer)"),
            (Rows::JobLists { most: usize::MAX }, "jobs (id, name, spec, version, inputs)"),
        ],
        edges: &[EDGE_PACKED],
        produce: "UPDATE datasets SET producer = ? WHERE id = (? << 32 | ?)",
        key: Key::Packed,
        ..OF_JSON
    },
    CHUNKED,
    Layout { databases: &[Kind::Sqlite], list: List::Json, ..CHUNKED },
    NAMED,
    Layout { databases: &[Kind::Sqlite], list: List::Json, ..NAMED },
    Layout {
        name: "e changes only",
        tables: &[COMMON],
        inserts: &[],
        load: Load::Nothing,
        edges: &[],
        ..OF_ROWS
    },
];

/// Asked through the views: how many jobs read a dataset, how many datasets a job writes.
pub const QUESTIONS: [(&str, &str); 2] = [
    (
        "who reads a dataset",
        "SELECT '', count(job) FROM input_edges WHERE graph_id = 1 AND dataset_id = \
         (SELECT id FROM datasets WHERE graph_id = 1 AND name = '{dataset}')",
    ),
    (
        "what a job writes",
        "SELECT '', count(dataset) FROM output_edges WHERE graph_id = 1 AND job_id = \
         (SELECT id FROM jobs WHERE graph_id = 1 AND name = '{job}')",
    ),
];

impl Layout {
    /// A text of the layout as the database takes it.
    pub fn fill(&self, kind: Kind, text: &str) -> String {
        let list = match self.list {
            List::Array => "INTEGER[]",
            List::Json => "TEXT",
            List::Blob => "BLOB",
        };
        let clustered = if self.clustered { " WITHOUT ROWID" } else { "" };
        let placeholders = [
            ("{name}", "TEXT COLLATE \"C\"", "TEXT"),
            ("{bytes}", "BYTEA", "BLOB"),
            (" {clustered}", "", clustered),
            ("{list}", list, list),
            ("{cast}", "::integer[]", ""),
            ("{each}", "LATERAL unnest", "json_each"),
            (" {column}", " (value)", ""),
        ];
        placeholders.iter().fold(text.to_owned(), |text, (placeholder, postgres, sqlite)| {
            let filled = if kind == Kind::Postgres { postgres } else { sqlite };
            text.replace(placeholder, filled)
        })
    }

    pub fn encode(&self, list: &[i32]) -> Value {
        let numbers = || list.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        match self.list {
            List::Array => Value::Text(format!("{{{}}}", numbers())),
            List::Json => Value::Text(format!("[{}]", numbers())),
            List::Blob => {
                Value::Bytes(list.iter().flat_map(|number| number.to_le_bytes()).collect())
            }
        }
    }

    pub fn has_views(&self) -> bool {
        self.tables.iter().any(|sql| sql.contains("VIEW input_edges"))
    }
}
