//! What an append to a log costs with the update of the graph's row, and without it: `cargo bench
//! --bench append`.
//!
//! With: the row moves from the version and chain that were read, and the change follows. Without:
//! the change is inserted if the one before it is there with the chain that was read, and the
//! primary key keeps out whoever comes second. One change of 200 bytes in each transaction, the two
//! in turn. Prints medians, and on Postgres the bytes of write-ahead log: of the first append to
//! each page after a checkpoint, which has the whole page, and of those that follow.
//! `FENCEPOST_BENCH_DATABASES` may name URLs, with spaces between, to use instead of a new SQLite
//! file; their tables `append_heads` and `append_log` are dropped.

#[path = "shared/databases.rs"]
mod databases;

use std::time::{Duration, Instant};

use diesel::Connection as _;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};

const WARM_UP: i64 = 200;
const ROUNDS: i64 = 3_000;

const TABLES: &str = "
DROP TABLE IF EXISTS append_heads; DROP TABLE IF EXISTS append_log;
CREATE TABLE append_heads (
    id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL,
    version BIGINT NOT NULL, fence BIGINT NOT NULL, chain BYTES NOT NULL, uuid TEXT NOT NULL
);
CREATE TABLE append_log (
    graph_id BIGINT NOT NULL, version BIGINT NOT NULL, change TEXT NOT NULL, chain BYTES NOT NULL,
    attempt TEXT NOT NULL, token BIGINT NOT NULL, committed_at_ms BIGINT NOT NULL, actor TEXT,
    PRIMARY KEY (graph_id, version)
);";
const HEADS: &str = "
INSERT INTO append_heads VALUES
    (1, 'with', 'open', 0, 0, ZERO, '0'), (2, 'without', 'open', 0, 0, ZERO, '0');
INSERT INTO append_log VALUES (2, 0, '', ZERO, '', 0, 0, NULL);";

const UPDATE: &str = "UPDATE append_heads SET version = $1 + 1, chain = $2, fence = $1 \
     WHERE id = $3 AND state = 'open' AND version = $1 AND chain = $4 AND fence <= $1";
const INSERT: &str = "INSERT INTO append_log VALUES ($3, $1 + 1, $5, $2, 'attempt', $1, 0, NULL)";
const INSERT_AFTER: &str = "INSERT INTO append_log \
     SELECT $3, $1 + 1, $5, $2, 'attempt', $1, 0, NULL FROM append_log \
     WHERE graph_id = $3 AND version = $1 AND chain = $4";

/// On Postgres each append is one call, in one round trip.
const FUNCTIONS: &str = "
CREATE OR REPLACE FUNCTION append_with(BIGINT, BYTEA, BIGINT, BYTEA, TEXT) RETURNS BIGINT
LANGUAGE plpgsql AS $$ DECLARE done BIGINT; BEGIN
    UPDATE; IF NOT FOUND THEN RETURN 0; END IF;
    INSERT; GET DIAGNOSTICS done = ROW_COUNT; RETURN done;
END $$;
CREATE OR REPLACE FUNCTION append_without(BIGINT, BYTEA, BIGINT, BYTEA, TEXT) RETURNS BIGINT
LANGUAGE plpgsql AS $$ DECLARE done BIGINT; BEGIN
    AFTER; GET DIAGNOSTICS done = ROW_COUNT; RETURN done;
END $$;";

#[derive(Clone, Copy, PartialEq)]
enum Append {
    With,
    Without,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// 32 bytes that no other version has.
fn chain(version: i64) -> Vec<u8> {
    let mut chain = vec![0; 32];
    chain[..8].copy_from_slice(&version.to_be_bytes());
    chain
}

/// The statement with the version that was read, the next chain, the graph and the chain that was
/// read; and the change, if there is one.
macro_rules! bound {
    ($text:expr, $version:expr, $graph:expr) => {
        diesel::sql_query($text)
            .bind::<BigInt, _>($version)
            .bind::<Binary, _>(chain($version + 1))
            .bind::<BigInt, _>($graph)
            .bind::<Binary, _>(chain($version))
    };
    ($text:expr, $version:expr, $graph:expr, $change:expr) => {
        bound!($text, $version, $graph).bind::<Text, _>($change)
    };
}

/// With the parameters numbered as SQLite does it.
fn for_sqlite(text: &str) -> String {
    text.replace('$', "?")
}

impl Connection {
    fn open(url: &str) -> Self {
        let (bytes, zero) = match url.starts_with("sqlite:") {
            true => ("BLOB", "zeroblob(32)"),
            false => ("BYTEA", "decode(repeat('00', 32), 'hex')"),
        };
        let (tables, heads) = (TABLES.replace("BYTES", bytes), HEADS.replace("ZERO", zero));
        match url.strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = SqliteConnection::establish(file).expect("opens");
                connection
                    .batch_execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
                    .and_then(|()| connection.batch_execute(&(tables + &heads)))
                    .expect("makes its tables");
                Self::Sqlite(connection)
            }
            None => {
                let mut connection = PgConnection::establish(url).expect("opens");
                let functions = FUNCTIONS
                    .replace("UPDATE;", &format!("{UPDATE};"))
                    .replace("INSERT;", &format!("{INSERT};"))
                    .replace("AFTER;", &format!("{INSERT_AFTER};"));
                connection
                    .batch_execute(&(tables + &heads + &functions))
                    .expect("makes its tables");
                Self::Postgres(connection)
            }
        }
    }

    fn append(&mut self, append: Append, version: i64, change: &str) {
        let graph = if append == Append::With { 1 } else { 2 };
        let done = match self {
            Self::Sqlite(connection) => connection
                .immediate_transaction(|connection| {
                    if append == Append::Without {
                        let insert = for_sqlite(INSERT_AFTER);
                        return bound!(insert, version, graph, change).execute(connection);
                    }
                    bound!(for_sqlite(UPDATE), version, graph).execute(connection)?;
                    bound!(for_sqlite(INSERT), version, graph, change).execute(connection)
                })
                .expect("appends"),
            Self::Postgres(connection) => {
                let call = match append {
                    Append::With => "SELECT append_with($1, $2, $3, $4, $5) AS value",
                    Append::Without => "SELECT append_without($1, $2, $3, $4, $5) AS value",
                };
                let done = bound!(call, version, graph, change).get_result::<Number>(connection);
                done.expect("appends").value as usize
            }
        };
        assert_eq!(done, 1);
    }

    /// The end of the write-ahead log, in bytes; `None` on SQLite.
    fn log_end(&mut self) -> Option<i64> {
        let Self::Postgres(connection) = self else { return None };
        let query = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS value";
        Some(diesel::sql_query(query).get_result::<Number>(connection).expect("tells").value)
    }

    fn checkpoint(&mut self) {
        if let Self::Postgres(connection) = self {
            connection.batch_execute("CHECKPOINT").expect("the role may");
        }
    }
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn measure(url: &str) {
    let mut connection = Connection::open(url);
    let change = format!(r#"{{"facts":[{:>180}],"version":0}}"#, "");
    let (mut times, mut bytes) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut after_checkpoint = [0, 0];
    for version in 0..WARM_UP + ROUNDS {
        for (at, append) in [Append::With, Append::Without].into_iter().enumerate() {
            let last = version == WARM_UP + ROUNDS - 1;
            if last {
                connection.checkpoint();
            }
            let before = connection.log_end();
            let began = Instant::now();
            connection.append(append, version, &change);
            let took = began.elapsed();
            let written =
                connection.log_end().zip(before).map_or(0, |(after, before)| after - before);
            if last {
                after_checkpoint[at] = written;
            } else if version >= WARM_UP {
                times[at].push(took);
                bytes[at].push(written);
            }
        }
    }
    println!("{}", url.split('@').next_back().unwrap_or(url));
    for (at, what) in ["with the row", "without it"].into_iter().enumerate() {
        let time: Duration = median(&mut times[at]);
        let (bytes, first) = (median(&mut bytes[at]), after_checkpoint[at]);
        print!("{what}: {:.1} µs", time.as_secs_f64() * 1e6);
        match connection {
            Connection::Sqlite(_) => println!(),
            Connection::Postgres(_) => {
                println!(", {bytes} bytes of log, {first} just after a checkpoint");
            }
        }
    }
}

fn main() {
    databases::on_each(measure);
}
