//! What it costs to load an image anew, against a bare Diesel load of the same rows into vectors:
//! 500,000 jobs, 500,000 datasets, 2,000,000 edges, names of 40 bytes.
//!
//! `cargo bench --bench reload`. Prints medians, their ratio, what the first list of names costs
//! after a load, which leaves their order out, and the memory of the process before, while and
//! after loading. What was loaded is dropped when the clock has stopped, on both sides.
//! `FENCEPOST_BENCH_DATABASES` may name URLs, with spaces between, of databases to use instead of
//! a new file: one that has the graph already is used as it is.

#[path = "shared/databases.rs"]
mod databases;
#[path = "shared/inputs.rs"]
mod inputs;

use std::ops::Bound;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use fencepost::db::schema::{datasets, jobs};
use fencepost::db::{Database, DatabaseUrl, PoolLimits};
use fencepost::graph::{CanonicalJson, Changeset, Command, JobSpecification, Name, Operation};
use fencepost::node::{self, NodeOptions};
use fencepost::store::Store;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JOBS: usize = 500_000;
const JOBS_PER_CHANGESET: usize = 10_000;
const ROUNDS: usize = 5;

fn name(kind: &str, number: usize) -> Name {
    // Scattered, so that names are not in the order of ids.
    let scattered = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Name::new(&format!("{kind:<8}{scattered:016x}{number:016x}").replace(' ', "-"))
        .expect("a name of 40 bytes")
}

fn job(number: usize) -> JobSpecification {
    let mut inputs: Vec<Name> =
        inputs::before(number).into_iter().map(|before| name("dataset", before)).collect();
    inputs.sort_unstable();
    JobSpecification {
        name: name("job", number),
        inputs,
        outputs: vec![name("dataset", number)],
        spec: CanonicalJson::default(),
    }
}

fn resident_mb(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The rows by Diesel alone, into vectors. As a function for each kind of connection would be.
macro_rules! bare_load {
    ($connection:expr, $graph:expr, $inputs:ty, $list:ty) => {{
        let began = Instant::now();
        let jobs: Vec<(i64, String, String, i64, $list)> = jobs::table
            .filter(jobs::graph_id.eq($graph))
            .order(jobs::id)
            .select((
                jobs::id,
                jobs::name,
                jobs::spec,
                jobs::version,
                diesel::dsl::sql::<$inputs>("inputs"),
            ))
            .load($connection)
            .expect("loads");
        let datasets: Vec<(i64, String, Option<String>, Option<i64>)> = datasets::table
            .filter(datasets::graph_id.eq($graph))
            .order(datasets::id)
            .select((datasets::id, datasets::name, datasets::metadata, datasets::producer))
            .load($connection)
            .expect("loads");
        (jobs.len() + datasets.len(), began.elapsed())
    }};
}

/// How many rows there are, and how long they took.
fn bare_load(url: &str, graph: i64) -> (usize, Duration) {
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut connection =
                diesel::SqliteConnection::establish(path).expect("the database is there");
            bare_load!(&mut connection, graph, diesel::sql_types::Text, String)
        }
        None => {
            let mut connection =
                diesel::PgConnection::establish(url).expect("the database is there");
            type Inputs = diesel::sql_types::Array<diesel::sql_types::Integer>;
            bare_load!(&mut connection, graph, Inputs, Vec<i32>)
        }
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn main() {
    databases::on_each(measure);
}

fn measure(url: &str) {
    let database = DatabaseUrl::parse(url).expect("a URL");
    println!("{database}");
    let graph = Name::new("bench").expect("a name");
    let open = || {
        Store::new(Database::open(&database, PoolLimits::default()).expect("opens")).expect("opens")
    };
    if open().head(&graph).expect("reads").is_none() {
        let service = node::open(&NodeOptions::new(database.clone())).expect("a node");
        service.create_graph_and_wait(&graph).expect("a graph");
        let began = Instant::now();
        for first in (0..JOBS).step_by(JOBS_PER_CHANGESET) {
            let puts =
                (first..first + JOBS_PER_CHANGESET).map(|number| Operation::PutJob(job(number)));
            let changeset: Changeset = puts.collect();
            service.write_and_wait(&graph, Command::Changeset(changeset).into()).expect("accepted");
        }
        println!("written: {JOBS} jobs in {:.1} s", began.elapsed().as_secs_f64());
    }
    let store = open();
    let graph_id = store.head(&graph).expect("reads").expect("is there").id;
    println!("resident before loading: {:.0} MB", resident_mb("VmRSS"));

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let mut image = None;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let loaded = store.load(&graph).expect("loads").map(|(_, graph)| graph);
        ours.push(began.elapsed());
        // As in a service: the image before is dropped when the new one is there.
        image = loaded;
        if ours.len() == 1 {
            println!(
                "resident with one image: {:.0} MB; peak while loading it: {:.0} MB",
                resident_mb("VmRSS"),
                resident_mb("VmHWM")
            );
        }
        let (rows, time) = bare_load(url, graph_id);
        bare.push(time);
        assert_eq!(rows, 2 * JOBS, "the same rows");
    }
    println!("resident peak with two images at once: {:.0} MB", resident_mb("VmHWM"));
    let (bare, ours) = (median(bare), median(ours));
    println!(
        "bare Diesel load: {bare:.2} s; image: {ours:.2} s; ratio {:.2} (medians of {ROUNDS})",
        ours / bare
    );
    let image = image.expect("is there");
    let began = Instant::now();
    let first = image.jobs_from(Bound::Unbounded).next().is_some();
    assert!(first && image.datasets_from(Bound::Unbounded).next().is_some(), "names in order");
    println!("the first list of jobs and of datasets: {:.2} s more", began.elapsed().as_secs_f64());
    println!("resident with one image and its names in order: {:.0} MB", resident_mb("VmRSS"));
}
