//! Rows that no key of the tables stops, and that the tables of an earlier schema, which had more
//! keys, do not take: found to say why a migration cannot be taken back.

use diesel::prelude::*;

use super::AnyConnection;
use super::statement::TextRow;

/// A query that finds one such row and says which it is: for SQLite and for Postgres.
type Query = [&'static str; 2];

macro_rules! same {
    ($query:expr) => {
        [$query, $query]
    };
}

macro_rules! twice {
    ($table:literal, $what:literal) => {
        same!(concat!(
            "SELECT 'graph `' || graphs.name || '`: the ",
            $what,
            " `' || stored.name || '` is stored twice' AS value FROM ",
            $table,
            " AS stored JOIN graphs ON graphs.id = stored.graph_id \
             GROUP BY graphs.id, graphs.name, stored.name HAVING count(*) > 1 LIMIT 1"
        ))
    };
}

const QUERIES: [Query; 5] = [
    twice!("jobs", "job"),
    twice!("datasets", "dataset"),
    same!(
        "SELECT 'graph `' || graphs.name || '`: the producer of the dataset `' || datasets.name \
         || '` is the job with id ' || datasets.producer || ', which is not stored' AS value \
         FROM datasets JOIN graphs ON graphs.id = datasets.graph_id \
         WHERE datasets.producer IS NOT NULL AND NOT EXISTS (SELECT 1 FROM jobs \
         WHERE jobs.graph_id = datasets.graph_id AND jobs.id = datasets.producer) LIMIT 1"
    ),
    [
        "SELECT 'graph `' || graphs.name || '`: the inputs of the job `' || jobs.name \
         || '` are no list of ids, each once' AS value \
         FROM jobs JOIN graphs ON graphs.id = jobs.graph_id WHERE CASE \
         WHEN NOT json_valid(inputs) OR json_type(inputs) <> 'array' THEN 1 \
         ELSE json_array_length(inputs) <> \
         (SELECT count(DISTINCT value) FROM json_each(inputs)) END LIMIT 1",
        "SELECT 'graph `' || graphs.name || '`: the inputs of the job `' || jobs.name \
         || '` are no list of ids, each once' AS value \
         FROM jobs JOIN graphs ON graphs.id = jobs.graph_id WHERE cardinality(inputs) <> \
         (SELECT count(DISTINCT id) FROM unnest(inputs) AS input (id)) LIMIT 1",
    ],
    [
        "SELECT 'graph `' || graphs.name || '`: the job `' || jobs.name \
         || '` reads the dataset with id ' || input.value || ', which is not stored' AS value \
         FROM jobs JOIN graphs ON graphs.id = jobs.graph_id CROSS JOIN json_each(inputs) AS input \
         WHERE NOT EXISTS (SELECT 1 FROM datasets WHERE datasets.graph_id = jobs.graph_id \
         AND datasets.id = input.value) LIMIT 1",
        "SELECT 'graph `' || graphs.name || '`: the job `' || jobs.name \
         || '` reads the dataset with id ' || input.id || ', which is not stored' AS value \
         FROM jobs JOIN graphs ON graphs.id = jobs.graph_id \
         CROSS JOIN LATERAL unnest(inputs) AS input (id) \
         WHERE NOT EXISTS (SELECT 1 FROM datasets WHERE datasets.graph_id = jobs.graph_id \
         AND datasets.id = input.id) LIMIT 1",
    ],
];

impl AnyConnection {
    /// The first damage that is found, with the graph and the row, and what to do; `None` if there
    /// is none, or the tables are those of another schema. Reads all rows of all graphs.
    pub(super) fn stored_damage(&mut self) -> Option<String> {
        if let Some(orphans) = self.orphaned_rows().ok()?.first() {
            return Some(format!("{orphans}, and no earlier schema takes them"));
        }
        let place = match self {
            Self::Sqlite(_) => 0,
            Self::Postgres(_) => 1,
        };
        let first = QUERIES.iter().find_map(|query| {
            let row = diesel::sql_query(query[place]).get_result::<TextRow>(self);
            row.ok().map(|row| row.value)
        })?;
        Some(format!(
            "{first}. `fencepost check-rows` names all such rows of a graph; put them right first"
        ))
    }
}
