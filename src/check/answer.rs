//! What a read must be answered, from the state at its version.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::changeset::Rejection;
use super::json::canonical;
use super::model::{State, sha256};
use super::request::{Request, Text};

/// A plan: how many jobs, and the digest of stages and dependencies.
pub struct Plan {
    /// How many.
    pub jobs: usize,
    /// Lower-case hex SHA-256.
    pub digest: String,
}

/// What `request`, a read, must be answered; of a plan and a digest what is recorded. For showing: comparing is quicker.
///
/// # Errors
/// The problem, if it has no answer.
pub fn expected(state: &State, digest: &str, request: &Request) -> Result<Value, Box<Rejection>> {
    let raw = |text: &Text| serde_json::from_str::<Value>(text).expect("canonical text is JSON");
    Ok(match request {
        Request::Job { name, .. } => {
            let job = state.jobs.get(name).ok_or_else(|| job_not_found(name))?;
            json!({"name": name, "inputs": job.inputs, "outputs": job.outputs, "spec": raw(&job.spec), "version": job.version})
        }
        Request::Dataset(name) => {
            let dataset = state.datasets.get(name).ok_or_else(|| dataset_not_found(name))?;
            let metadata = dataset.metadata.as_ref().map_or_else(|| json!({}), raw);
            json!({
                "name": name,
                "declared": dataset.metadata.is_some(),
                "producer": dataset.producers.first(),
                "consumers": dataset.consumers,
                "metadata": metadata,
            })
        }
        Request::Plan { datasets, jobs, stop_at } => {
            let plan = plan(state, datasets, jobs, stop_at)?;
            json!({"digest": plan.digest, "jobs": plan.jobs})
        }
        Request::Digest => json!({"digest": digest}),
        Request::Graph => json!({"jobs": state.jobs.len(), "datasets": state.datasets.len(), "edges": state.edges}),
        Request::Write(_) | Request::Fetch => unreachable!("not a read of the graph"),
    })
}

#[derive(Deserialize)]
struct JobWire<'a> {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    #[serde(borrow)]
    spec: &'a RawValue,
    version: u64,
}

#[derive(Deserialize)]
struct DatasetWire<'a> {
    name: String,
    declared: bool,
    producer: Option<String>,
    consumers: Vec<String>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Whether `answer` is what the read must be answered. Lists count in their order, JSON as canonical text.
pub fn is_right(state: &State, digest: &str, request: &Request, answer: &str) -> bool {
    let same = |stated: &[String], names: &BTreeSet<Text>| {
        stated.iter().map(String::as_str).eq(names.iter().map(|name| &**name))
    };
    let same_json = |raw: &RawValue, text: &str| raw.get() == text || canonical(raw).is_ok_and(|given| given == text);
    match request {
        Request::Job { name, .. } => {
            let (Some(job), Ok(given)) = (state.jobs.get(name), serde_json::from_str::<JobWire<'_>>(answer)) else {
                return false;
            };
            given.name == **name
                && given.version == job.version
                && same(&given.inputs, &job.inputs)
                && same(&given.outputs, &job.outputs)
                && same_json(given.spec, &job.spec)
        }
        Request::Dataset(name) => {
            let (Some(dataset), Ok(given)) =
                (state.datasets.get(name), serde_json::from_str::<DatasetWire<'_>>(answer))
            else {
                return false;
            };
            given.name == **name
                && given.declared == dataset.metadata.is_some()
                && given.producer.as_deref() == dataset.producers.first().map(|producer| &**producer)
                && same(&given.consumers, &dataset.consumers)
                && same_json(given.metadata, dataset.metadata.as_deref().unwrap_or("{}"))
        }
        _ => {
            let given = serde_json::from_str::<Value>(answer).ok();
            let (Ok(Value::Object(expected)), Some(given)) = (expected(state, digest, request), given) else {
                return false;
            };
            expected.iter().all(|(field, value)| given.get(field) == Some(value))
        }
    }
}

fn job_not_found(name: &Text) -> Box<Rejection> {
    Rejection::new(404, "job_not_found", json!({"name": name}))
}

fn dataset_not_found(name: &Text) -> Box<Rejection> {
    Rejection::new(404, "dataset_not_found", json!({"name": name}))
}

/// The plan for datasets and jobs; nothing is planned to produce what is in `stop_at`. O(p log n) for p jobs and edges of the plan.
///
/// # Errors
/// The problem of the first name that is not there: of `stop_at`, then of the datasets, then of the jobs.
pub fn plan(state: &State, datasets: &[Text], jobs: &[Text], stop_at: &[Text]) -> Result<Plan, Box<Rejection>> {
    if let Some(absent) = stop_at.iter().chain(datasets).find(|name| !state.datasets.contains_key(*name)) {
        return Err(dataset_not_found(absent));
    }
    if let Some(absent) = jobs.iter().find(|name| !state.jobs.contains_key(*name)) {
        return Err(job_not_found(absent));
    }
    let producer = |dataset: &Text| {
        if stop_at.contains(dataset) { None } else { state.datasets.get(dataset)?.producers.first() }
    };
    // Who must wait for whom, among all that are needed.
    let mut waits_for: BTreeMap<&Text, BTreeSet<&Text>> = BTreeMap::new();
    let mut waiting: Vec<&Text> = jobs.iter().chain(datasets.iter().filter_map(producer)).collect();
    while let Some(job) = waiting.pop() {
        if let Some((job, job_there)) = state.jobs.get_key_value(job)
            && !waits_for.contains_key(job)
        {
            let before: BTreeSet<&Text> = job_there.inputs.iter().filter_map(producer).collect();
            waiting.extend(before.iter().copied());
            waits_for.insert(job, before);
        }
    }
    let mut dependencies: BTreeSet<(&Text, &Text)> = BTreeSet::new();
    let mut followers: BTreeMap<&Text, Vec<&Text>> = BTreeMap::new();
    for (job, before) in &waits_for {
        for before in before {
            dependencies.insert((before, job));
            followers.entry(before).or_default().push(job);
        }
    }
    // Wave by wave: who waits for nobody is in this stage.
    let mut left: BTreeMap<&Text, usize> = waits_for.iter().map(|(job, before)| (*job, before.len())).collect();
    let mut stage: BTreeSet<&Text> = left.iter().filter(|(_, left)| **left == 0).map(|(job, _)| *job).collect();
    let mut lines = String::new();
    for number in 0.. {
        if stage.is_empty() {
            break;
        }
        let mut next = BTreeSet::new();
        for job in stage {
            writeln!(lines, "job\t{number}\t{job}").expect("a String takes all");
            for follower in followers.get(job).into_iter().flatten() {
                let left = left.get_mut(follower).expect("followers are of the plan");
                *left -= 1;
                if *left == 0 {
                    next.insert(*follower);
                }
            }
        }
        stage = next;
    }
    for (before, after) in dependencies {
        writeln!(lines, "dep\t{before}\t{after}").expect("a String takes all");
    }
    Ok(Plan { jobs: waits_for.len(), digest: sha256(lines.as_bytes()) })
}
