//! The layouts that are compared. Their tables are the SQL files beside this one, in which `{name}`
//! stands for a text that is compared as bytes, `{bytes}` for a type of bytes, `{list}` for that of
//! a list of ids, `{by_name}` for an index by name, `{clustered}` for what keeps an SQLite table in
//! the order of its primary key, and `{each}` and `{column}` for what makes rows of a list.

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
    pub key: Key,
    /// There is an index by name besides the key.
    pub by_name: bool,
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

/// How a job or a dataset is found.
#[derive(Clone, Copy, PartialEq)]
pub enum Key {
    Id,
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
const LISTS_NAMED: &str = include_str!("lists_named.sql");
const CHUNKS: &str = include_str!("chunks.sql");
const CHUNKS_VIEWS: &str = include_str!("chunks_views.sql");

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
const EDGE_NAMED: EdgeChange =
    sent_whole(Sent::List, "UPDATE jobs SET inputs = ?{cast} WHERE graph_id = ? AND name = ?");
const EDGE_CHUNK: EdgeChange = sent_whole(
    Sent::Chunk,
    "UPDATE job_inputs_chunks SET inputs = ?{cast} \
     WHERE graph_id = ? AND job_id = ? AND chunk = 200",
);
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
    key: Key::Id,
    by_name: true,
};
const PRODUCED: (Rows, &str) = (Rows::Produced, "datasets (graph_id, id, name, producer)");
const JOB_COLUMNS: &str = "jobs (graph_id, id, name, spec, version, inputs)";
const OF_LISTS: Layout = Layout {
    name: "c lists",
    tables: &[COMMON, LISTS, LISTS_VIEWS],
    inserts: &[PRODUCED, (Rows::JobLists { most: usize::MAX }, JOB_COLUMNS)],
    load: Load::Lists,
    edges: &[EDGE_LIST],
    produce: "UPDATE datasets SET producer = ? WHERE graph_id = ? AND id = ?",
    ..OF_ROWS
};
/// The one that was chosen.
const WITHOUT_NAMES: Layout =
    Layout { name: "g lists, no index by name", by_name: false, ..OF_LISTS };
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
    WITHOUT_NAMES,
    CHUNKED,
    NAMED,
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

impl Kind {
    /// A list as the database takes it.
    pub fn encode(self, list: &[i32]) -> Value {
        let numbers = list.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        Value::Text(match self {
            Self::Postgres => format!("{{{numbers}}}"),
            Self::Sqlite => format!("[{numbers}]"),
        })
    }
}

impl Layout {
    /// A text of the layout as the database takes it.
    pub fn fill(&self, kind: Kind, text: &str) -> String {
        let by_name = if self.by_name { ",\n    UNIQUE (graph_id, name)" } else { "" };
        let placeholders = [
            ("{name}", "TEXT COLLATE \"C\"", "TEXT"),
            ("{bytes}", "BYTEA", "BLOB"),
            (" {clustered}", "", " WITHOUT ROWID"),
            ("{by_name}", by_name, by_name),
            ("{list}", "INTEGER[]", "TEXT"),
            ("{cast}", "::integer[]", ""),
            ("{each}", "LATERAL unnest", "json_each"),
            (" {column}", " (value)", ""),
        ];
        placeholders.iter().fold(text.to_owned(), |text, (placeholder, postgres, sqlite)| {
            let filled = if kind == Kind::Postgres { postgres } else { sqlite };
            text.replace(placeholder, filled)
        })
    }

    pub fn has_views(&self) -> bool {
        self.tables.iter().any(|sql| sql.contains("VIEW input_edges"))
    }
}
