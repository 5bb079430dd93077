//! What one write at a time costs against its bare round trips and its commit: the same statements
//! on the same database, or on Postgres the same call, sent one after another by a loop that
//! decides nothing, keeps no image and answers nobody.
//!
//! `cargo bench --bench write`. `FENCEPOST_BENCH_DATABASES` may name URLs, with spaces between, to
//! use instead of a new SQLite file, and `FENCEPOST_BENCH_REDIS` a Redis server to take the lock
//! from, for each write and then kept from one to the next, `FENCEPOST_BENCH_DESIGN` another design
//! than `crud`. Prints medians in microseconds and their ratio. The two take turns, write by write.

#[path = "shared/databases.rs"]
mod databases;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use fencepost::db::schema::ChangeRow;
use fencepost::db::{
    CallOutcome, CommitCall, Database, DatabaseUrl, DbError, NewDataset, NewJob, PoolLimits,
    RowsWrite, Value,
};
use fencepost::design::turns::locked::LockedLimits;
use fencepost::design::{self, TurnLimits};
use fencepost::graph::{CanonicalJson, Changeset, Command, JobSpecification, Name, Operation};
use fencepost::lock::kept::KeepLimits;
use fencepost::node::{self, LockUrl, NodeOptions};
use fencepost::store::{StorageKind, Store};

const WARM_UP: usize = 50;
const ROUNDS: usize = 1_000;

fn name(text: String) -> Name {
    Name::new(&text).expect("a name")
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// The statements of a write of a new job with two inputs that exist and one output that is new.
struct Bare {
    database: Database,
    lock: Lock,
    graph_id: i64,
    uuid: String,
    storage: StorageKind,
}

/// Whom the lock is asked of.
enum Lock {
    /// No server.
    Files,
    /// One session, three round trips.
    Postgres(Database),
    /// One round trip, to take it: what gives it back is sent and not waited for.
    Redis(Mutex<redis::Connection>, redis::Script),
}

impl Bare {
    fn ask_postgres(&self, statement: &'static str) {
        if let Lock::Postgres(lock) = &self.lock {
            lock.ask(|session| session.run(statement, &[Value::Integer(42)])).expect("answers");
        }
    }

    fn ask_redis(&self) {
        if let Lock::Redis(connection, script) = &self.lock {
            let connection = &mut *connection.lock().expect("nobody panics");
            let _: i64 = script.key("bare").invoke(connection).expect("answers");
        }
    }

    fn write(&self, number: i64) {
        self.ask_postgres("SELECT pg_advisory_lock(?)");
        self.ask_redis();
        let change = format!(
            r#"{{"facts":[{{"fact":"job_created","inputs":["in0","in1"],"name":"job{number}"}}]}}"#
        );
        let (id, output) = (number as u32, 2 + number as u32);
        let (job, dataset) = (format!("job{number}"), format!("out{number}"));
        let rows = vec![
            RowsWrite::InsertDatasets(vec![NewDataset {
                id: output,
                name: &dataset,
                metadata: None,
                producer: Some(id),
            }]),
            RowsWrite::InsertJobs(vec![NewJob {
                id,
                name: &job,
                spec: "{}",
                version: number as u64,
                inputs: vec![0, 1],
            }]),
        ];
        // Of a graph that is kept by its log there are no rows.
        let rows = if self.storage == StorageKind::Log { Vec::new() } else { rows };
        let log = [ChangeRow {
            graph_id: self.graph_id,
            version: number,
            change: &change,
            chain: &[0; 32],
            attempt: "0123456789abcdef0123456789abcdef",
            token: number,
            committed_at_ms: None,
            actor: None,
            request: None,
        }];
        if self.database.is_server() {
            self.call(number, &log, &rows);
        } else {
            self.transaction(number, &log, &rows);
        }
        self.ask_postgres("SELECT 1 WHERE 1 < ?");
        self.ask_postgres("SELECT pg_advisory_unlock(?)");
    }

    fn call(&self, number: i64, log: &[ChangeRow<'_>], rows: &[RowsWrite<'_>]) {
        let call = CommitCall {
            graph_id: self.graph_id,
            read_uuid: &self.uuid,
            read_storage: self.storage.word(),
            read_version: number - 1,
            read_chain: &[0; 32],
            token: Some(number),
            leader: None,
            attempt: log[0].attempt,
            log,
            rows,
            keys: &[],
            answers: &[],
            key_age_max_ms: 1,
        };
        let called = self
            .database
            .call(false, |connection, own| connection.commit_in_one_call(&call, own, false))
            .expect("answers");
        assert!(matches!(called, CallOutcome::Written));
    }

    fn transaction(&self, number: i64, log: &[ChangeRow<'_>], rows: &[RowsWrite<'_>]) {
        let written = self.database.write(|connection| {
            connection.run(
                "UPDATE graphs SET version = ?, known_version = ? WHERE id = ?",
                &[Value::Integer(number), Value::Integer(number), Value::Integer(self.graph_id)],
            )?;
            for write in rows {
                connection.write_rows(self.graph_id, write)?;
            }
            connection.insert_changes(log)?;
            Ok::<_, DbError>(())
        });
        written.expect("is written");
    }
}

fn main() {
    databases::on_each(|url| {
        let url = DatabaseUrl::parse(url).expect("a URL");
        measure(&url, None);
        if std::env::var_os("FENCEPOST_BENCH_REDIS").is_some() {
            measure(&url, LockedLimits::default().keep);
        }
    });
}

/// `keep`: the lock is kept from one write to the next, so that the bare write asks it nothing.
fn measure(url: &DatabaseUrl, keep: Option<KeepLimits>) {
    let redis = std::env::var("FENCEPOST_BENCH_REDIS").ok();
    let lock_url = redis.as_deref().map(|redis| LockUrl::parse(redis).expect("a lock"));
    let wanted = std::env::var("FENCEPOST_BENCH_DESIGN").unwrap_or_default();
    let design = design::named(&wanted).unwrap_or_default();
    let locked = LockedLimits { keep, ..LockedLimits::default() };
    let turn_limits = TurnLimits { locked, ..TurnLimits::default() };
    let options = NodeOptions { lock_url, design, turn_limits, ..NodeOptions::new(url.clone()) };
    let node = node::open(&options).expect("a node");
    let open = |connections| {
        Database::open(url, PoolLimits { connections, ..PoolLimits::default() })
            .expect("the database opens")
    };
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_nanos();
    let (ours, bare) = (name(format!("ours-{stamp}")), name(format!("bare-{stamp}")));
    for graph in [&ours, &bare] {
        node.create_graph_and_wait(graph).expect("a graph");
    }
    let head = Store::new(open(1)).expect("opens").head(&bare).expect("reads").expect("is there");
    let lock = match (&redis, url) {
        _ if !design.takes_lock() || keep.is_some() => Lock::Files,
        (Some(redis), _) => {
            let client = redis::Client::open(redis.as_str()).expect("a Redis URL");
            let connection = client.get_connection().expect("Redis answers");
            Lock::Redis(Mutex::new(connection), redis::Script::new("return 1"))
        }
        (None, DatabaseUrl::Postgres(_)) => Lock::Postgres(open(1)),
        (None, DatabaseUrl::Sqlite(_)) => Lock::Files,
    };
    let (graph_id, uuid, storage) = (head.id, head.uuid.to_string(), head.storage);
    let bare = Bare { database: open(1), lock, graph_id, uuid, storage };
    let input = |id, name| NewDataset { id, name, metadata: None, producer: None };
    let inputs = RowsWrite::InsertDatasets(vec![input(0, "in0"), input(1, "in1")]);
    let written = bare
        .database
        .write(|connection| Ok::<_, DbError>(connection.write_rows(head.id, &inputs)?));
    written.expect("is written");

    let put = |number: usize| {
        Operation::PutJob(JobSpecification {
            name: name(format!("job{number}")),
            inputs: vec![name("in0".to_owned()), name("in1".to_owned())],
            outputs: vec![name(format!("out{number}"))],
            spec: CanonicalJson::default(),
        })
    };
    let (mut bare_times, mut our_times) = (Vec::new(), Vec::new());
    for number in 1..=WARM_UP + ROUNDS {
        let changeset: Changeset = [put(number)].into_iter().collect();
        let command = Command::Changeset(changeset);
        let began = Instant::now();
        node.write_and_wait(&ours, command.into()).expect("accepted");
        our_times.push(began.elapsed());
        let began = Instant::now();
        bare.write(number as i64);
        bare_times.push(began.elapsed());
    }
    let (bare, ours) =
        (median(bare_times.split_off(WARM_UP)), median(our_times.split_off(WARM_UP)));
    println!(
        "{url}, {design}{}{}",
        redis.map(|redis| format!(", lock at {redis}")).unwrap_or_default(),
        keep.map(|_| ", kept").unwrap_or_default()
    );
    println!(
        "bare: {bare:.0} µs; a write: {ours:.0} µs; ratio {:.2} (medians of {ROUNDS})",
        ours / bare
    );
}
