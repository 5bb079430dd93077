//! What a read must be answered, from the state at its version.

use std::borrow::Cow;
use std::collections::{BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::changeset::Rejection;
use super::json::canonical;
use super::maps::{Map, Set};
use super::model::{Job, State, sha256};
use super::recorded_request::{Listed, Request, Text};
use crate::object::{objects_both_ways, objects_only};

/// A plan: the digest of stages and dependencies, and how many jobs.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(remote = "Self")]
pub struct Plan {
    /// Lower-case hex SHA-256.
    pub digest: String,
    /// How many.
    pub jobs: usize,
}

/// What an answer about the whole graph says of its place beside what was asked for. Members that
/// are absent say nothing.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct PlaceWire<'a> {
    #[serde(borrow)]
    graph: Option<Cow<'a, str>>,
    version: Option<u64>,
    /// Of a plan: the digest of the stages and dependencies that were answered.
    #[serde(borrow)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow)]
    digest_of_body: Option<Cow<'a, str>>,
}

impl PlaceWire<'_> {
    fn is(&self, graph: &str, version: u64) -> bool {
        self.graph.as_ref().is_none_or(|given| given == graph)
            && self.version.is_none_or(|given| given == version)
            && self.digest_of_body.as_ref().is_none_or(|body| Some(body) == self.digest.as_ref())
    }
}

/// What `request`, a read, must be answered, as JSON; of a plan and a digest what is recorded. For
/// showing: comparing is quicker.
///
/// # Errors
/// The problem, if it has no answer.
pub fn expected(state: &State, digest: &str, request: &Request) -> Result<String, Box<Rejection>> {
    match request {
        Request::Job { name, .. } => {
            let job = state.jobs.get(name).ok_or_else(|| job_not_found(name))?;
            Ok(shown(&JobWire {
                inputs: owned(&job.inputs),
                name: name.to_string(),
                outputs: owned(&job.outputs),
                spec: raw(&job.spec),
                version: job.version,
            }))
        }
        Request::Dataset(name) => {
            let dataset = state.datasets.get(name).ok_or_else(|| dataset_not_found(name))?;
            Ok(shown(&DatasetWire {
                consumers: owned(&dataset.consumers),
                declared: dataset.metadata.is_some(),
                metadata: raw(dataset.metadata.as_deref().unwrap_or("{}")),
                name: name.to_string(),
                producer: dataset.producers.first().map(ToString::to_string),
            }))
        }
        Request::Plan { datasets, jobs, stop_at } => {
            plan(state, datasets, jobs, stop_at).map(|plan| shown(&plan))
        }
        Request::Digest => Ok(shown(&DigestWire { digest: digest.to_owned() })),
        Request::Graph => Ok(shown(&Counts::of(state))),
        Request::Page { of, prefix, after, limit } => {
            let (names, more) = page(state, *of, prefix, after.as_ref(), *limit);
            let of_job = |name| Request::Job { name, if_none_match: None };
            let item = |name: &Text| match of {
                Listed::Jobs => expected(state, digest, &of_job(name.clone())),
                Listed::Datasets => expected(state, digest, &Request::Dataset(name.clone())),
            };
            let items = names.into_iter().map(item).collect::<Result<Vec<_>, _>>()?;
            let cursor = if more { "\"(a cursor)\"" } else { "null" };
            Ok(format!(r#"{{"items":[{}],"next_cursor":{cursor}}}"#, items.join(",")))
        }
        Request::Write { .. } | Request::CreateGraph | Request::DeleteGraph | Request::Fetch => {
            unreachable!("not a read of the graph")
        }
    }
}

/// The names on a page, and whether there are more after it. O(n log limit) for n names.
fn page<'s>(
    state: &'s State,
    of: Listed,
    prefix: &str,
    after: Option<&Text>,
    limit: usize,
) -> (Vec<&'s Text>, bool) {
    let listed = |name: &&Text| name.starts_with(prefix) && after.is_none_or(|after| *name > after);
    let mut first: BinaryHeap<&Text> = BinaryHeap::new();
    let mut take = |name| {
        first.push(name);
        // One more than fits tells that there are more.
        if first.len() > limit.saturating_add(1) {
            first.pop();
        }
    };
    match of {
        Listed::Jobs => state.jobs.keys().filter(listed).for_each(&mut take),
        Listed::Datasets => state.datasets.keys().filter(listed).for_each(&mut take),
    }
    let mut names = first.into_sorted_vec();
    let more = names.len() > limit;
    names.truncate(limit);
    (names, more)
}

fn owned(names: &BTreeSet<Text>) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn raw(canonical: &str) -> &RawValue {
    serde_json::from_str(canonical).expect("canonical text is JSON")
}

fn shown(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("an answer is always JSON")
}

/// An answer, if it is an object of that form.
fn object<'a, T: Deserialize<'a>>(answer: &'a str) -> Option<T> {
    serde_json::from_str(answer).ok()
}

// Answers, their members in byte order. A member that comes twice is refused, an unknown one is
// not looked at.

#[derive(Deserialize, Serialize)]
#[serde(remote = "Self")]
struct JobWire<'a> {
    inputs: Vec<String>,
    name: String,
    outputs: Vec<String>,
    #[serde(borrow)]
    spec: &'a RawValue,
    version: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Self")]
struct DatasetWire<'a> {
    consumers: Vec<String>,
    declared: bool,
    #[serde(borrow)]
    metadata: &'a RawValue,
    name: String,
    producer: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "Self")]
struct DigestWire {
    digest: String,
}

#[derive(PartialEq, Deserialize, Serialize)]
#[serde(remote = "Self")]
struct Counts {
    datasets: usize,
    edges: usize,
    jobs: usize,
}

impl Counts {
    fn of(state: &State) -> Self {
        let (datasets, jobs) = (state.datasets.len(), state.jobs.len());
        Self { datasets, edges: state.edges, jobs }
    }
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct PageWire<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    next_cursor: Option<String>,
}

objects_both_ways!(Plan, JobWire<'a>, DatasetWire<'a>, DigestWire, Counts);
objects_only!(PlaceWire<'a>, PageWire<'a>);

/// Whether `answer` is what the read must be answered, `graph` being the graph's name. Lists count
/// in their order, JSON as canonical text: a number by its digits.
pub fn is_right(state: &State, graph: &str, digest: &str, request: &Request, answer: &str) -> bool {
    let in_place =
        || object::<PlaceWire<'_>>(answer).is_some_and(|place| place.is(graph, state.version));
    let same = |stated: &[String], names: &BTreeSet<Text>| {
        stated.iter().map(String::as_str).eq(names.iter().map(|name| &**name))
    };
    let same_json = |raw: &RawValue, text: &str| {
        raw.get() == text || canonical(raw).is_ok_and(|given| given == text)
    };
    match request {
        Request::Job { name, .. } => {
            let (Some(job), Some(given)) = (state.jobs.get(name), object::<JobWire<'_>>(answer))
            else {
                return false;
            };
            given.name == **name
                && given.version == job.version
                && same(&given.inputs, &job.inputs)
                && same(&given.outputs, &job.outputs)
                && same_json(given.spec, &job.spec)
        }
        Request::Dataset(name) => {
            let (Some(dataset), Some(given)) =
                (state.datasets.get(name), object::<DatasetWire<'_>>(answer))
            else {
                return false;
            };
            given.name == **name
                && given.declared == dataset.metadata.is_some()
                && given.producer.as_deref()
                    == dataset.producers.first().map(|producer| &**producer)
                && same(&given.consumers, &dataset.consumers)
                && same_json(given.metadata, dataset.metadata.as_deref().unwrap_or("{}"))
        }
        Request::Plan { datasets, jobs, stop_at } => {
            let plan = plan(state, datasets, jobs, stop_at).ok();
            plan.is_some() && plan == object(answer) && in_place()
        }
        Request::Digest => {
            object::<DigestWire>(answer).is_some_and(|given| given.digest == digest) && in_place()
        }
        Request::Graph => object(answer) == Some(Counts::of(state)) && in_place(),
        Request::Page { of, prefix, after, limit } => {
            let (names, more) = page(state, *of, prefix, after.as_ref(), *limit);
            let Some(PageWire { items, next_cursor }) = object(answer) else { return false };
            let is_item = |(name, item): (&Text, &RawValue)| {
                let request = match of {
                    Listed::Jobs => Request::Job { name: name.clone(), if_none_match: None },
                    Listed::Datasets => Request::Dataset(name.clone()),
                };
                is_right(state, graph, digest, &request, item.get())
            };
            names.len() == items.len()
                && names.into_iter().zip(items).all(is_item)
                && next_cursor.is_some() == more
        }
        Request::Write { .. } | Request::CreateGraph | Request::DeleteGraph | Request::Fetch => {
            unreachable!("not a read of the graph")
        }
    }
}

fn job_not_found(name: &Text) -> Box<Rejection> {
    Rejection::new(404, "job_not_found", json!({"name": name}))
}

fn dataset_not_found(name: &Text) -> Box<Rejection> {
    Rejection::new(404, "dataset_not_found", json!({"name": name}))
}

/// The plan for datasets and jobs. The search for producers ends at datasets in `stop_at`; a job
/// depends on every other job of the plan that writes what it reads, also through `stop_at`.
/// O(p log p) for p jobs and edges of the plan.
///
/// # Errors
/// The problem of the first name that is not there: of `stop_at`, then of the datasets, then of the
/// jobs.
pub fn plan(
    state: &State,
    datasets: &[Text],
    jobs: &[Text],
    stop_at: &[Text],
) -> Result<Plan, Box<Rejection>> {
    if let Some(absent) =
        stop_at.iter().chain(datasets).find(|name| !state.datasets.contains_key(*name))
    {
        return Err(dataset_not_found(absent));
    }
    if let Some(absent) = jobs.iter().find(|name| !state.jobs.contains_key(*name)) {
        return Err(job_not_found(absent));
    }
    let stop_at: Set<&Text> = stop_at.iter().collect();
    let producer = |dataset: &Text| state.datasets.get(dataset)?.producers.first();
    let needed = |dataset: &&Text| !stop_at.contains(dataset);
    // Found first, by number in the order in which they were found; by name after, all of them
    // being known.
    let mut found: Vec<(&Text, &Job)> = Vec::new();
    let mut numbers: Map<&Text, usize> = Map::default();
    let mut number = |found: &mut Vec<_>, name| {
        let (name, job) = state.jobs.get_key_value(name).expect("a producer is there");
        *numbers.entry(name).or_insert_with(|| {
            found.push((name, job));
            found.len() - 1
        })
    };
    for job in jobs.iter().chain(datasets.iter().filter(needed).filter_map(producer)) {
        number(&mut found, job);
    }
    let mut next = 0;
    while let Some((_, job)) = found.get(next) {
        for before in job.inputs.iter().filter(needed).filter_map(producer) {
            number(&mut found, before);
        }
        next += 1;
    }
    // All jobs are known: now every pair of them, whichever way each of the two was found.
    let mut waits_for: Vec<(usize, usize)> = Vec::new();
    for (after, (_, job)) in found.iter().enumerate() {
        let before = job.inputs.iter().filter_map(producer);
        waits_for.extend(before.filter_map(|job| Some((*numbers.get(job)?, after))));
    }
    let mut by_name: Vec<usize> = (0..found.len()).collect();
    by_name.sort_unstable_by_key(|&number| found[number].0);
    let mut place = vec![0; found.len()];
    by_name.iter().enumerate().for_each(|(at, &number)| place[number] = at);
    let name = |place: usize| found[by_name[place]].0;
    let mut dependencies: Vec<_> =
        waits_for.iter().map(|&(before, after)| (place[before], place[after])).collect();
    dependencies.sort_unstable();
    dependencies.dedup();

    // Wave by wave: who waits for nobody any more is in the next stage.
    let mut left = vec![0; found.len()];
    dependencies.iter().for_each(|&(_, after)| left[after] += 1);
    let mut stage: Vec<usize> = (0..found.len()).filter(|&job| left[job] == 0).collect();
    let mut lines = String::new();
    let mut stage_number = 0;
    while !stage.is_empty() {
        let mut following = Vec::new();
        for job in stage {
            writeln!(lines, "job\t{stage_number}\t{}", name(job)).expect("a String takes all");
            let from = dependencies.partition_point(|&(before, _)| before < job);
            for &(_, after) in dependencies[from..].iter().take_while(|(before, _)| *before == job)
            {
                left[after] -= 1;
                if left[after] == 0 {
                    following.push(after);
                }
            }
        }
        following.sort_unstable();
        stage = following;
        stage_number += 1;
    }
    for (before, after) in dependencies {
        writeln!(lines, "dep\t{}\t{}", name(before), name(after)).expect("a String takes all");
    }
    Ok(Plan { jobs: found.len(), digest: sha256(lines.as_bytes()) })
}
