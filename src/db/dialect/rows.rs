//! The statements that write many rows of a graph at once.

use diesel::QueryResult;

use super::AnyConnection;
use super::sqlite::set_sqlite_cache;
use super::statement::Value;
use crate::db::limits::Size;

/// A statement over this many rows belongs to a load, not to an ordinary request.
const MANY_ROWS: usize = 5_000;

/// A statement over many rows of one graph. The first `?` is the graph's id, the second the rows as
/// a JSON array.
pub struct RowsStatement {
    sqlite: &'static str,
    postgres: &'static str,
}

impl RowsStatement {
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_INPUTS: Self = Self {
        sqlite: "INSERT INTO job_inputs (graph_id, job_id, dataset_id) \
                 SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
        postgres: "INSERT INTO job_inputs (graph_id, job_id, dataset_id) \
                   SELECT ?, edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 \
                   FROM json_array_elements_text(?::json) AS edge (packed)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const INSERT_OUTPUTS: Self = Self {
        sqlite: "INSERT INTO job_outputs (graph_id, job_id, dataset_id) \
                 SELECT ?, value >> 32, value & 4294967295 FROM json_each(?)",
        postgres: "INSERT INTO job_outputs (graph_id, job_id, dataset_id) \
                   SELECT ?, edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 \
                   FROM json_array_elements_text(?::json) AS edge (packed)",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_INPUTS: Self = Self {
        sqlite: "DELETE FROM job_inputs WHERE graph_id = ? AND (job_id, dataset_id) IN \
                 (SELECT value >> 32, value & 4294967295 FROM json_each(?))",
        postgres: "DELETE FROM job_inputs WHERE graph_id = ? AND (job_id, dataset_id) IN \
                   (SELECT edge.packed::bigint >> 32, edge.packed::bigint & 4294967295 \
                    FROM json_array_elements_text(?::json) AS edge (packed))",
    };
    /// Rows: `job << 32 | dataset`.
    pub const DELETE_OUTPUTS: Self = Self {
        sqlite: "DELETE FROM job_outputs WHERE graph_id = ? AND dataset_id IN \
                 (SELECT value & 4294967295 FROM json_each(?))",
        postgres: "DELETE FROM job_outputs WHERE graph_id = ? AND dataset_id IN \
                   (SELECT edge.packed::bigint & 4294967295 \
                    FROM json_array_elements_text(?::json) AS edge (packed))",
    };
    /// Rows: ids.
    pub const DELETE_JOBS: Self = Self {
        sqlite: "DELETE FROM jobs WHERE graph_id = ? AND id IN (SELECT value FROM json_each(?))",
        postgres: "DELETE FROM jobs WHERE graph_id = ? AND id IN \
                   (SELECT gone.id::bigint FROM json_array_elements_text(?::json) AS gone (id))",
    };
    /// Rows: ids.
    pub const DELETE_DATASETS: Self = Self {
        sqlite: "DELETE FROM datasets WHERE graph_id = ? AND id IN \
                 (SELECT value FROM json_each(?))",
        postgres: "DELETE FROM datasets WHERE graph_id = ? AND id IN \
                   (SELECT gone.id::bigint FROM json_array_elements_text(?::json) AS gone (id))",
    };
    /// Rows: `[id, name, spec, version]`.
    pub const INSERT_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)",
        postgres: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                   SELECT ?, (new.value ->> 0)::bigint, new.value ->> 1, new.value ->> 2, \
                   (new.value ->> 3)::bigint \
                   FROM json_array_elements(?::json) AS new (value)",
    };
    /// Rows: `[id, spec, version]`; a spec of null keeps the old one. An upsert of existing rows,
    /// since SQLite scans all jobs of the graph for each row of an `UPDATE … FROM`.
    pub const UPDATE_JOBS: Self = Self {
        sqlite: "INSERT INTO jobs (graph_id, id, name, spec, version) \
                 SELECT old.graph_id, old.id, old.name, coalesce(new.value ->> 1, old.spec), \
                 new.value ->> 2 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN jobs AS old \
                 ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) \
                 DO UPDATE SET spec = excluded.spec, version = excluded.version",
        postgres: "WITH graph (id) AS (VALUES (?)) \
                   UPDATE jobs SET spec = coalesce(new.value ->> 1, spec), \
                   version = (new.value ->> 2)::bigint \
                   FROM json_array_elements(?::json) AS new (value), graph \
                   WHERE graph_id = graph.id AND jobs.id = (new.value ->> 0)::bigint",
    };
    /// Rows: `[id, name, metadata]`.
    pub const INSERT_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)",
        postgres: "INSERT INTO datasets (graph_id, id, name, metadata) \
                   SELECT ?, (new.value ->> 0)::bigint, new.value ->> 1, new.value ->> 2 \
                   FROM json_array_elements(?::json) AS new (value)",
    };
    /// Rows: `[id, metadata]`.
    pub const UPDATE_DATASETS: Self = Self {
        sqlite: "INSERT INTO datasets (graph_id, id, name, metadata) \
                 SELECT old.graph_id, old.id, old.name, new.value ->> 1 \
                 FROM (SELECT ? AS id) AS graph CROSS JOIN json_each(?) AS new \
                 CROSS JOIN datasets AS old \
                 ON old.graph_id = graph.id AND old.id = new.value ->> 0 WHERE true \
                 ON CONFLICT (graph_id, id) DO UPDATE SET metadata = excluded.metadata",
        postgres: "WITH graph (id) AS (VALUES (?)) UPDATE datasets SET metadata = new.value ->> 1 \
                   FROM json_array_elements(?::json) AS new (value), graph \
                   WHERE graph_id = graph.id AND datasets.id = (new.value ->> 0)::bigint",
    };
}

/// A statement and its rows as JSON, ready to be sent.
pub struct RowsWrite {
    statement: RowsStatement,
    rows: String,
    many: bool,
}

impl RowsWrite {
    /// How much work the statement is.
    #[must_use]
    pub fn size(&self) -> Size {
        if self.many { Size::Large } else { Size::Usual }
    }
}

impl RowsStatement {
    /// The statement over `rows`; `None` if there are none. O(bytes of the rows).
    ///
    /// # Panics
    /// If a row cannot be JSON.
    pub fn over<R: serde::Serialize>(
        self,
        rows: impl ExactSizeIterator<Item = R>,
    ) -> Option<RowsWrite> {
        let many = rows.len() >= MANY_ROWS;
        let rows: Vec<R> = rows.collect();
        let written = || serde_json::to_string(&rows).expect("rows are numbers and texts");
        (!rows.is_empty()).then(|| RowsWrite { statement: self, rows: written(), many })
    }
}

impl AnyConnection {
    /// Writes rows of a graph, in one round trip.
    ///
    /// # Errors
    /// What the database reports.
    pub fn write_rows(&mut self, graph_id: i64, write: &RowsWrite) -> QueryResult<()> {
        let RowsWrite { statement, rows, many } = write;
        if let (true, Self::Sqlite(connection)) = (many, &mut *self) {
            set_sqlite_cache(connection, 256)?;
        }
        let values = [Value::Integer(graph_id), Value::Text(rows)];
        self.run_either(statement.sqlite, statement.postgres, &values)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::query_plan::query_plan;
    use super::*;

    /// A statement over one row must not look at all others.
    #[test]
    fn rows_are_found_by_their_keys() {
        use RowsStatement as S;
        let all = [
            S::INSERT_INPUTS,
            S::INSERT_OUTPUTS,
            S::DELETE_INPUTS,
            S::DELETE_OUTPUTS,
            S::DELETE_JOBS,
            S::DELETE_DATASETS,
            S::INSERT_JOBS,
            S::UPDATE_JOBS,
            S::INSERT_DATASETS,
            S::UPDATE_DATASETS,
        ];
        for RowsStatement { sqlite, .. } in all {
            let steps = query_plan(&sqlite.replacen('?', "1", 1).replacen('?', "'[]'", 1));
            assert!(!steps.is_empty());
            for step in steps {
                let by_key = step.starts_with("SEARCH") && step.contains("id=? AND");
                let of_a_table = ["SEARCH", "SCAN job", "SCAN dataset", "SCAN old"]
                    .iter()
                    .any(|begin| step.starts_with(begin));
                assert!(by_key || !of_a_table, "{sqlite}: {step}");
            }
        }
    }
}
