//! A storm of conflicting writes against servers, and the check of what it leaves behind. The check
//! shares no code with what it checks: it reads the rows, replays the change log by a model of its
//! own, and compares.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::RwLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fencepost::db::schema::{changes, datasets, graphs, jobs};
use fencepost::graph::hex;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::support::cluster::{Client, GRAPH, Site, Sql};

/// Sebastiano Vigna's splitmix64: a fixed seed, the same choices.
pub struct Choices(pub u64);

impl Choices {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// What the clients of a storm were told.
#[derive(Default)]
pub struct Told {
    /// Version and mark of each accepted write.
    pub accepted: Vec<(u64, String)>,
    /// The marks of rejected writes.
    pub rejected: Vec<String>,
    /// How often no answer came.
    pub lost: usize,
    /// How often a server said to come again.
    pub refused: usize,
}

impl Told {
    pub fn merge(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, mut next| {
            sum.accepted.append(&mut next.accepted);
            sum.rejected.append(&mut next.rejected);
            sum.lost += next.lost;
            sum.refused += next.refused;
            sum
        })
    }
}

/// Where servers are, and how much was acknowledged so far by all of them.
pub struct Field {
    pub servers: RwLock<Vec<String>>,
    pub answered: AtomicUsize,
}

const JOBS: usize = 12;
const DATASETS: usize = 16;

/// One client: `writes` writes, each of a job that reads and writes at random, so that many would
/// break a rule. A write that was not answered, or refused for now, is sent again to the next
/// server under its own key.
pub fn client(field: &Field, number: usize, first_server: usize, writes: usize) -> Told {
    let mut choices = Choices(number as u64);
    let mut client = Client::new();
    let mut told = Told::default();
    let mut server = first_server;
    for n in 0..writes {
        let mark = format!("client-{number}-write-{n}");
        let path = format!("/v1/graphs/{GRAPH}/jobs/job-{}", choices.below(JOBS));
        let mut dataset = || format!("dataset-{}", choices.below(DATASETS));
        let body = serde_json::json!({"inputs": [dataset(), dataset()], "outputs": [dataset()], "spec": {"mark": mark}});
        loop {
            assert!(told.lost + told.refused < 100 * writes, "the servers never answer");
            let base = {
                let servers = field.servers.read().unwrap();
                servers[server % servers.len()].clone()
            };
            match client.send(&base, "PUT", &path, Some(&mark), Some(&body)) {
                Ok(answer) if answer.status == 200 || answer.status == 201 => {
                    assert_eq!(answer.body["changed"], true, "{answer:?}");
                    told.accepted.push((answer.version(), mark));
                }
                Ok(answer) if answer.status == 409 => told.rejected.push(mark),
                Ok(answer) if answer.status == 503 => {
                    told.refused += 1;
                    server += 1;
                    continue;
                }
                Ok(other) => panic!("neither accepted nor rejected: {other:?}"),
                Err(_) => {
                    told.lost += 1;
                    server += 1;
                    client = Client::new();
                    continue;
                }
            }
            field.answered.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    told
}

/// One row of the change log.
pub struct LoggedChange {
    pub text: String,
    pub attempt: String,
    pub token: i64,
}

/// What was found to hold.
pub struct Audit {
    pub version: u64,
    pub log: Vec<LoggedChange>,
    pub digest: String,
}

#[derive(Deserialize)]
struct ChangeText<'t> {
    #[serde(borrow)]
    facts: Vec<FactText<'t>>,
    version: u64,
}

#[derive(Deserialize)]
struct FactText<'t> {
    fact: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    inputs: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    inputs_added: Vec<String>,
    #[serde(default)]
    inputs_removed: Vec<String>,
    #[serde(default)]
    outputs_added: Vec<String>,
    #[serde(default)]
    outputs_removed: Vec<String>,
    #[serde(borrow)]
    spec: Option<&'t RawValue>,
    #[serde(borrow)]
    metadata: Option<&'t RawValue>,
}

#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct JobModel {
    inputs: BTreeSet<String>,
    outputs: BTreeSet<String>,
    spec: String,
    pub(super) version: i64,
}

#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<String, JobModel>,
    declared: BTreeMap<String, String>,
}

impl Model {
    pub(super) fn replay(&mut self, text: &str) -> u64 {
        let change: ChangeText<'_> = serde_json::from_str(text).unwrap();
        assert!(!change.facts.is_empty(), "a change without facts");
        for fact in change.facts {
            let (name, version) = (fact.name, change.version as i64);
            match fact.fact.as_str() {
                "graph_deleted" => *self = Self::default(),
                "job_deleted" => {
                    assert!(self.jobs.remove(&name).is_some(), "deleted job `{name}` was not there")
                }
                "job_created" => {
                    let (inputs, outputs) =
                        (fact.inputs.into_iter().collect(), fact.outputs.into_iter().collect());
                    let job = JobModel {
                        inputs,
                        outputs,
                        spec: fact.spec.unwrap().get().to_owned(),
                        version,
                    };
                    assert!(self.jobs.insert(name, job).is_none(), "a created job was there");
                }
                "job_changed" => {
                    let job = self.jobs.get_mut(&name).expect("a changed job is there");
                    job.version = version;
                    fact.inputs_removed.iter().for_each(|gone| assert!(job.inputs.remove(gone)));
                    fact.outputs_removed.iter().for_each(|gone| assert!(job.outputs.remove(gone)));
                    job.inputs.extend(fact.inputs_added);
                    job.outputs.extend(fact.outputs_added);
                    if let Some(spec) = fact.spec {
                        job.spec = spec.get().to_owned();
                    }
                }
                "dataset_undeclared" => assert!(self.declared.remove(&name).is_some()),
                "dataset_declared" | "dataset_changed" => {
                    self.declared.insert(name, fact.metadata.unwrap().get().to_owned());
                }
                other => panic!("unknown fact {other}"),
            }
        }
        change.version
    }

    pub(super) fn digest(&self) -> String {
        let sha = |text: &str| hex(&Sha256::digest(text));
        let mut lines: Vec<String> = self
            .declared
            .iter()
            .map(|(name, metadata)| format!("dataset\t{name}\t{}\n", sha(metadata)))
            .collect();
        for (name, job) in &self.jobs {
            lines.push(format!("job\t{name}\t{}\n", sha(&job.spec)));
            lines.extend(job.inputs.iter().map(|dataset| format!("in\t{name}\t{dataset}\n")));
            lines.extend(job.outputs.iter().map(|dataset| format!("out\t{name}\t{dataset}\n")));
        }
        lines.sort_unstable();
        sha(&lines.concat())
    }

    /// At most one producer, and jobs can be taken away one after another until none is left.
    pub(super) fn check_rules(&self) {
        let mut producer = HashMap::new();
        for (name, job) in &self.jobs {
            for dataset in &job.outputs {
                let other = producer.insert(dataset, name);
                assert!(other.is_none(), "`{dataset}` is written by `{name}` and {other:?}");
            }
        }
        let mut left: BTreeSet<&String> = self.jobs.keys().collect();
        while !left.is_empty() {
            let waits = |name: &String| {
                self.jobs[name]
                    .inputs
                    .iter()
                    .any(|input| producer.get(input).is_some_and(|job| left.contains(job)))
            };
            let ready: Vec<_> = left.iter().copied().filter(|name| !waits(name)).collect();
            assert!(!ready.is_empty(), "the rows hold a cycle among {left:?}");
            ready.iter().for_each(|name| assert!(left.remove(*name)));
        }
    }
}

/// Checks everything that must always hold of [`GRAPH`], between any two transactions: versions
/// dense and unique, the chain of hashes unbroken, tokens rising, the rows, if it is kept as rows,
/// equal to the replayed log, the rules kept.
pub fn audit(site: &Site) -> Audit {
    audit_graph(&mut site.sql(), GRAPH)
}

pub fn audit_graph(connection: &mut Sql, graph: &str) -> Audit {
    audit_tokens(connection, graph, true)
}

/// As [`audit`], where some wrote without a lock: tokens need not rise.
pub fn audit_without_tokens(connection: &mut Sql, graph: &str) -> Audit {
    audit_tokens(connection, graph, false)
}

fn audit_tokens(connection: &mut Sql, graph: &str, tokens_rise: bool) -> Audit {
    let audited = connection.transaction(|connection| {
        if let Sql::Postgres(connection) = connection {
            connection.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        }
        Ok::<_, diesel::result::Error>(audit_snapshot(connection, graph, tokens_rise))
    });
    audited.unwrap()
}

fn audit_snapshot(connection: &mut Sql, graph: &str, tokens_rise: bool) -> Audit {
    type Head = (i64, i64, i64, i64, Vec<u8>, String);
    let (id, version, fence, epoch, chain, storage): Head = graphs::table
        .filter(graphs::name.eq(graph))
        .select((
            graphs::id,
            graphs::version,
            graphs::fence,
            graphs::epoch,
            graphs::chain,
            graphs::storage,
        ))
        .first(connection)
        .unwrap();
    let rows: Vec<(i64, String, Vec<u8>, String, i64)> = changes::table
        .filter(changes::graph_id.eq(id))
        .order(changes::version)
        .select((
            changes::version,
            changes::change,
            changes::chain,
            changes::attempt,
            changes::token,
        ))
        .load(connection)
        .unwrap();

    // A lock on Redis is kept from one turn to the next, and its token with it.
    let keeps =
        diesel::sql_query("SELECT count(*) AS count FROM service WHERE lock_kind = 'redis'");
    let keeps = keeps.get_result::<Count>(connection).unwrap().count > 0;

    let mut replayed = Model::default();
    let mut hash = vec![0; 32];
    let mut log: Vec<LoggedChange> = Vec::new();
    for (expected, (version, text, row_chain, attempt, token)) in (1..).zip(rows) {
        assert_eq!(version, expected, "versions are dense and unique");
        if storage == "rows_plain" {
            assert_eq!(text, "", "a graph without a history has no changes");
            let of_before = log.last().is_some_and(|before| before.attempt == attempt);
            assert_eq!(of_before, hash == row_chain, "each attempt has a number of its own");
            hash = row_chain;
        } else {
            assert_eq!(replayed.replay(&text) as i64, version, "a change tells its own version");
            hash = Sha256::digest([&hash, text.as_bytes()].concat()).to_vec();
            assert_eq!(hash, row_chain, "the chain is broken at version {version}");
        }
        if let Some(before) = log.last() {
            let same_turn = before.attempt == attempt;
            let (last, now) = (before.token, token);
            // Where no lock was ever taken, nobody was given a token.
            let rises = match same_turn || epoch == 0 {
                true => now == last,
                false => now > last || (keeps && now == last),
            };
            assert!(rises || !tokens_rise, "token {now} follows {last} at {version}");
        }
        log.push(LoggedChange { text, attempt, token });
    }
    assert_eq!(log.len() as i64, version, "the log ends at the graph's version");
    assert_eq!(hash, chain, "the graph's chain is that of its last change");
    assert!(log.last().is_none_or(|last| last.token <= fence), "no token is above the fence");
    assert_eq!(fence >> 40, epoch, "the fence is of the epoch");

    let stored = read_rows(connection, id);
    let kept = match &*storage {
        "rows" => {
            assert_eq!(stored, replayed, "the rows are what the log says");
            assert_eq!(stored.digest(), replayed.digest());
            stored
        }
        "rows_plain" => stored,
        other => {
            assert!(matches!(other, "log" | "log_unchecked"), "{other}");
            assert_eq!(stored, Model::default(), "a graph that is kept by its log has no rows");
            replayed
        }
    };
    kept.check_rules();
    Audit { version: version as u64, log, digest: kept.digest() }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct Inputs {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    id: i64,
    #[diesel(sql_type = diesel::sql_types::Text)]
    inputs: String,
}

fn read_rows(connection: &mut Sql, id: i64) -> Model {
    let mut model = Model::default();
    let mut datasets_by_id = BTreeMap::new();
    let rows: Vec<(i64, String, Option<String>)> = datasets::table
        .filter(datasets::graph_id.eq(id))
        .select((datasets::id, datasets::name, datasets::metadata))
        .load(connection)
        .unwrap();
    for (id, name, metadata) in rows {
        if let Some(metadata) = metadata {
            model.declared.insert(name.clone(), metadata);
        }
        datasets_by_id.insert(id, name);
    }
    let mut jobs_by_id = BTreeMap::new();
    let rows: Vec<(i64, String, String, i64)> = jobs::table
        .filter(jobs::graph_id.eq(id))
        .select((jobs::id, jobs::name, jobs::spec, jobs::version))
        .load(connection)
        .unwrap();
    for (id, name, spec, version) in rows {
        model.jobs.insert(name.clone(), JobModel { spec, version, ..JobModel::default() });
        jobs_by_id.insert(id, name);
    }
    let mut mentioned = BTreeSet::new();
    // An array in Postgres, JSON in SQLite.
    let query =
        format!("SELECT id, CAST(inputs AS TEXT) AS inputs FROM jobs WHERE graph_id = {id}");
    for row in diesel::sql_query(query).load::<Inputs>(connection).unwrap() {
        let ids = row.inputs.trim_matches(['[', ']', '{', '}']);
        for dataset in ids.split(',').filter(|id| !id.is_empty()) {
            let dataset: i64 = dataset.parse().unwrap();
            mentioned.insert(dataset);
            let job = model.jobs.get_mut(&jobs_by_id[&row.id]).unwrap();
            let is_new = job.inputs.insert(datasets_by_id[&dataset].clone());
            assert!(is_new, "an input is listed twice");
        }
    }
    let produced = datasets::table
        .filter(datasets::graph_id.eq(id))
        .filter(datasets::producer.is_not_null())
        .select((datasets::id, datasets::producer.assume_not_null()));
    for (dataset, job) in produced.load::<(i64, i64)>(connection).unwrap() {
        mentioned.insert(dataset);
        let job = model.jobs.get_mut(&jobs_by_id[&job]).unwrap();
        job.outputs.insert(datasets_by_id[&dataset].clone());
    }
    for (id, name) in &datasets_by_id {
        assert!(
            mentioned.contains(id) || model.declared.contains_key(name),
            "dataset `{name}` is an orphan"
        );
    }
    model
}

/// Everything that clients were told is so, and nothing was done twice.
pub fn check_public_text(told: &Told, audit: &Audit) {
    for (version, mark) in &told.accepted {
        let logged = &audit.log[*version as usize - 1];
        assert!(
            logged.text.contains(&format!("\"{mark}\"")),
            "{mark} was accepted as {version}, where {}",
            logged.text
        );
    }
    let mut versions: Vec<u64> = told.accepted.iter().map(|(version, _)| *version).collect();
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), told.accepted.len(), "no version was given twice");
    let everything: String = audit.log.iter().map(|logged| logged.text.as_str()).collect();
    for (_, mark) in &told.accepted {
        assert_eq!(
            everything.matches(&format!("\"{mark}\"")).count(),
            1,
            "{mark} was applied once"
        );
    }
    for mark in &told.rejected {
        assert!(!everything.contains(&format!("\"{mark}\"")), "{mark} was rejected and is there");
    }
}
