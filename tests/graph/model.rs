//! A second, naive graph that the real one is compared with. It shares nothing with `src/graph` but
//! the wire format: operations come as JSON, facts and reasons leave as JSON, and every question is
//! answered by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub version: u64,
    pub jobs: BTreeMap<String, ModelJob>,
    /// Declared datasets and their metadata.
    pub declared: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelJob {
    pub version: u64,
    pub spec: Value,
    pub inputs: BTreeSet<String>,
    pub outputs: BTreeSet<String>,
}

/// A command with its answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Accepted { facts: Vec<Value>, created: bool },
    Rejected(Value),
}

/// (job, "input" or "output", dataset)
type Edge = (String, &'static str, String);

/// A model on its way through a changeset.
struct Attempt {
    after: Model,
    /// The edges before the first operation and after each.
    moments: Vec<BTreeSet<Edge>>,
    /// Edges asked for by `add_input` and `add_output`.
    asked: BTreeSet<Edge>,
    /// The first operation that deleted a dataset since it was last put.
    deleted_by: BTreeMap<String, usize>,
}

impl Model {
    /// Every edge.
    pub fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (name, job) in &self.jobs {
            edges.extend(job.inputs.iter().map(|dataset| (name.clone(), "input", dataset.clone())));
            edges.extend(
                job.outputs.iter().map(|dataset| (name.clone(), "output", dataset.clone())),
            );
        }
        edges
    }

    /// Every dataset, declared or mentioned.
    pub fn datasets(&self) -> BTreeSet<String> {
        self.edges()
            .into_iter()
            .map(|(_, _, dataset)| dataset)
            .chain(self.declared.keys().cloned())
            .collect()
    }

    fn dataset_exists(&self, dataset: &str) -> bool {
        self.declared.contains_key(dataset) || self.mentioned_by(dataset).next().is_some()
    }

    pub fn mentioned_by(&self, dataset: &str) -> impl Iterator<Item = String> {
        let mentions =
            |job: &&ModelJob| job.inputs.contains(dataset) || job.outputs.contains(dataset);
        let jobs: Vec<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| mentions(job))
            .map(|(name, _)| name.clone())
            .collect();
        jobs.into_iter()
    }

    pub fn producers(&self, dataset: &str) -> Vec<String> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.outputs.contains(dataset))
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub fn consumers(&self, dataset: &str) -> Vec<String> {
        self.jobs
            .iter()
            .filter(|(_, job)| job.inputs.contains(dataset))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Judges a command and, if it is accepted, carries it out. `{"delete_graph": true}` or
    /// `{"operations": […]}`, both with an optional `if_version`, one or a list, or `if_exists`.
    pub fn decide(&mut self, command: &Value) -> Verdict {
        let (verdict, after) = self.judge(command);
        if let Verdict::Accepted { facts, .. } = &verdict
            && !facts.is_empty()
        {
            let version = self.version + 1;
            let before = std::mem::take(self);
            *self = after;
            self.version = version;
            for (name, job) in &mut self.jobs {
                let same = before.jobs.get(name).is_some_and(|old| {
                    (&old.spec, &old.inputs, &old.outputs) == (&job.spec, &job.inputs, &job.outputs)
                });
                job.version = if same { before.jobs[name].version } else { version };
            }
        }
        verdict
    }

    fn judge(&self, command: &Value) -> (Verdict, Self) {
        let rejected = |reason| (Verdict::Rejected(reason), Self::default());
        let expected = &command["if_version"];
        let version = json!(self.version);
        let met = match expected {
            Value::Array(versions) => versions.contains(&version),
            one => one.is_null() || *one == version,
        };
        if !met {
            return rejected(failed(expected.clone(), version, Value::Null));
        }
        if command["delete_graph"] == json!(true) {
            let holds_something = !self.jobs.is_empty() || !self.declared.is_empty();
            if holds_something && expected.is_null() && command["if_exists"].is_null() {
                return rejected(json!({"rejected": "precondition_required", "actual": version}));
            }
            let facts = vec![json!({"fact": "graph_deleted"})];
            return (Verdict::Accepted { facts, created: false }, Self::default());
        }
        let operations = command["operations"].as_array().unwrap();
        for (number, operation) in operations.iter().enumerate() {
            if let Err(reason) = self.check_precondition(operation, number) {
                return rejected(reason);
            }
        }
        let attempt = match Attempt::of(self, operations) {
            Ok(attempt) => attempt,
            Err(reason) => return rejected(reason),
        };
        if let Some(reason) =
            attempt.in_use().or_else(|| attempt.second_producer(self)).or_else(|| attempt.cycle())
        {
            return rejected(reason);
        }
        let facts = facts(self, &attempt.after);
        let new_edge =
            |edge: &Edge| attempt.after.edges().contains(edge) && !self.edges().contains(edge);
        let created = !facts.is_empty()
            && (attempt.after.jobs.keys().any(|job| !self.jobs.contains_key(job))
                || attempt.after.declared.keys().any(|dataset| !self.dataset_exists(dataset))
                || attempt.asked.iter().any(new_edge));
        (Verdict::Accepted { facts, created }, attempt.after)
    }

    /// The smallest of the shortest cycles of the graph that a changeset would leave, whatever its
    /// operations.
    pub fn shortest_in_the_end(&self, command: &Value) -> Value {
        let operations = command["operations"].as_array().unwrap();
        json!(Attempt::of(self, operations).unwrap().after.smallest_cycle())
    }

    /// The edges that are there before and after a changeset and were not meanwhile, each as the
    /// names of its ends in the direction of the data.
    pub fn put_again(&self, command: &Value) -> Vec<Value> {
        let attempt = Attempt::of(self, command["operations"].as_array().unwrap()).unwrap();
        let again = attempt.moments[0]
            .iter()
            .filter(|edge| attempt.after.edges().contains(*edge) && attempt.owner(edge).is_some());
        let ends = |(job, side, dataset): &Edge| match *side {
            "input" => json!([dataset, job]),
            _ => json!([job, dataset]),
        };
        again.map(ends).collect()
    }

    fn check_precondition(&self, operation: &Value, number: usize) -> Result<(), Value> {
        let op = text(operation, "op");
        let actual = if op.ends_with("dataset") {
            if self.dataset_exists(&text(operation, "name")) {
                json!(self.version)
            } else {
                Value::Null
            }
        } else {
            let job =
                if op.ends_with("job") { text(operation, "name") } else { text(operation, "job") };
            self.jobs.get(&job).map_or(Value::Null, |job| json!(job.version))
        };
        if let Some(expected) = operation["if_version"].as_u64()
            && json!(expected) != actual
        {
            return Err(failed(json!(expected), actual, json!(number)));
        }
        if operation["if_exists"] == json!(true) && actual.is_null() {
            return Err(failed(json!("*"), actual, json!(number)));
        }
        let absent = match side(&op) {
            Some(side) => {
                let edge = (text(operation, "job"), side, text(operation, "dataset"));
                !self.edges().contains(&edge)
            }
            None => actual.is_null(),
        };
        if operation["if_absent"] == json!(true) && !absent {
            return Err(failed(Value::Null, actual, json!(number)));
        }
        Ok(())
    }

    /// The shortest cycle, of those the byte-smallest, or none: from every job a search of the
    /// whole graph.
    pub fn smallest_cycle(&self) -> Option<Vec<String>> {
        let mut steps: BTreeMap<&String, Vec<(&String, &String)>> = BTreeMap::new();
        let mut readers: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (name, job) in &self.jobs {
            job.inputs.iter().for_each(|dataset| readers.entry(dataset).or_default().push(name));
        }
        for (name, job) in &self.jobs {
            let of_dataset = |dataset| {
                readers.get(dataset).into_iter().flatten().map(move |next| (dataset, *next))
            };
            steps.insert(name, job.outputs.iter().flat_map(of_dataset).collect());
        }
        let back: Vec<_> =
            self.jobs.keys().filter_map(|start| Some((way_back(&steps, start)?, start))).collect();
        let length = back.iter().map(|(length, _)| *length).min()?;
        let starts =
            back.iter().filter(|(shortest, _)| *shortest == length).map(|(_, start)| *start);
        starts.map(|start| smallest_walk_back(&steps, start, length)).min()
    }

    pub fn digest(&self) -> String {
        let mut lines = BTreeSet::new();
        for (name, metadata) in &self.declared {
            lines.insert(
                format!("dataset\t{name}\t{}\n", sha256(&metadata.to_string())).into_bytes(),
            );
        }
        for (name, job) in &self.jobs {
            lines.insert(format!("job\t{name}\t{}\n", sha256(&job.spec.to_string())).into_bytes());
            lines.extend(
                job.inputs.iter().map(|dataset| format!("in\t{name}\t{dataset}\n").into_bytes()),
            );
            lines.extend(
                job.outputs.iter().map(|dataset| format!("out\t{name}\t{dataset}\n").into_bytes()),
            );
        }
        sha256(&String::from_utf8(lines.into_iter().flatten().collect()).unwrap())
    }

    /// The plan for these targets, as JSON without the graph's name and version. Each part is what
    /// the contract says of it, on its own: the jobs by the search that ends at `stop_at`, all the
    /// rest by looking at every pair of these jobs.
    pub fn plan(&self, datasets: &[String], jobs: &[String], stop_at: &[String]) -> Value {
        let searched = |dataset: &String| {
            if stop_at.contains(dataset) { Vec::new() } else { self.producers(dataset) }
        };
        let mut needed: BTreeSet<String> =
            jobs.iter().cloned().chain(datasets.iter().flat_map(searched)).collect();
        loop {
            let before = needed.len();
            for job in needed.clone() {
                needed.extend(self.jobs[&job].inputs.iter().flat_map(searched));
            }
            if needed.len() == before {
                break;
            }
        }
        let mut dependencies: BTreeSet<(String, String)> = BTreeSet::new();
        for (x, y) in needed.iter().flat_map(|x| needed.iter().map(move |y| (x, y))) {
            if !self.jobs[x].outputs.is_disjoint(&self.jobs[y].inputs) {
                dependencies.insert((x.clone(), y.clone()));
            }
        }
        let of_all = |list: fn(&ModelJob) -> &BTreeSet<String>| -> BTreeSet<String> {
            needed.iter().flat_map(|job| list(&self.jobs[job]).clone()).collect()
        };
        let (read, written) = (of_all(|job| &job.inputs), of_all(|job| &job.outputs));
        let sources: Vec<&String> = read.difference(&written).collect();
        let mut stage_of: BTreeMap<&String, usize> = needed.iter().map(|job| (job, 0)).collect();
        for _ in 0..needed.len() {
            for (before, after) in &dependencies {
                let at_least = stage_of[before] + 1;
                let stage = stage_of.get_mut(after).unwrap();
                *stage = at_least.max(*stage);
            }
        }
        let count = stage_of.values().max().map_or(0, |last| last + 1);
        let stage = |k| needed.iter().filter(|job| stage_of[*job] == k).collect::<Vec<_>>();
        let stages: Vec<Vec<&String>> = (0..count).map(stage).collect();
        let mut lines = String::new();
        for (k, stage) in stages.iter().enumerate() {
            stage.iter().for_each(|job| lines += &format!("job\t{k}\t{job}\n"));
        }
        dependencies
            .iter()
            .for_each(|(before, after)| lines += &format!("dep\t{before}\t{after}\n"));
        let kinds = [("dataset", datasets), ("job", jobs)];
        let targets: BTreeSet<(&String, &str)> = kinds
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (name, kind)))
            .collect();
        let targets: Vec<&String> = targets.into_iter().map(|(name, _)| name).collect();
        json!({"targets": targets, "stages": stages, "dependencies": dependencies, "sources": sources, "digest": sha256(&lines)})
    }

    /// What is reached from a job or dataset, as (jobs, datasets).
    pub fn reachable(&self, origin: &str, is_job: bool, upstream: bool, depth: usize) -> Value {
        let (mut jobs, mut datasets) = (BTreeSet::new(), BTreeSet::new());
        let beyond_job = |job: &String| {
            let job = &self.jobs[job];
            if upstream { job.inputs.clone() } else { job.outputs.clone() }
        };
        let mut edge: BTreeSet<String> = if is_job {
            let direct = beyond_job(&origin.to_owned());
            datasets.extend(direct.clone());
            direct
        } else {
            BTreeSet::from([origin.to_owned()])
        };
        for _ in 0..depth.min(self.jobs.len()) {
            let next = edge
                .iter()
                .flat_map(|d| if upstream { self.producers(d) } else { self.consumers(d) });
            let next: BTreeSet<String> = next.collect();
            edge = next.iter().flat_map(beyond_job).collect();
            jobs.extend(next);
            datasets.extend(edge.clone());
        }
        json!({"jobs": jobs, "datasets": datasets})
    }
}

impl Attempt {
    /// All operations, judged for existence only.
    fn of(base: &Model, operations: &[Value]) -> Result<Self, Value> {
        let mut attempt = Self {
            after: base.clone(),
            moments: vec![base.edges()],
            asked: BTreeSet::new(),
            deleted_by: BTreeMap::new(),
        };
        for (number, operation) in operations.iter().enumerate() {
            attempt.take(operation, number)?;
            attempt.moments.push(attempt.after.edges());
        }
        Ok(attempt)
    }

    fn take(&mut self, operation: &Value, number: usize) -> Result<(), Value> {
        let op = text(operation, "op");
        match op.as_str() {
            "put_job" => {
                let name = text(operation, "name");
                let new = ModelJob {
                    version: 0,
                    spec: json!({}),
                    inputs: BTreeSet::new(),
                    outputs: BTreeSet::new(),
                };
                let job = self.after.jobs.entry(name.clone()).or_insert(new);
                job.spec = operation.get("spec").cloned().unwrap_or_else(|| json!({}));
                self.set_edges(&name, "input", &operation["inputs"]);
                self.set_edges(&name, "output", &operation["outputs"]);
            }
            "patch_job" => {
                let name = text(operation, "name");
                self.job_must_exist(&name, number)?;
                let patch = &operation["patch"];
                let job = self.after.jobs.get_mut(&name).unwrap();
                match patch.get("spec") {
                    None => {}
                    Some(Value::Null) => job.spec = json!({}),
                    Some(spec) => job.spec = merged(Some(&job.spec), spec),
                }
                for (side, field) in [("input", "inputs"), ("output", "outputs")] {
                    if patch.get(field).is_some() {
                        self.set_edges(&name, side, &patch[field]);
                    }
                }
            }
            "delete_job" => {
                let name = text(operation, "name");
                self.job_must_exist(&name, number)?;
                self.set_edges(&name, "input", &json!([]));
                self.set_edges(&name, "output", &json!([]));
                self.after.jobs.remove(&name);
            }
            "put_dataset" => {
                let metadata = operation.get("metadata").cloned().unwrap_or_else(|| json!({}));
                let name = text(operation, "name");
                self.deleted_by.remove(&name);
                self.after.declared.insert(name, metadata);
            }
            "delete_dataset" => {
                let name = text(operation, "name");
                if !self.after.dataset_exists(&name) {
                    return Err(
                        json!({"rejected": "dataset_not_found", "name": name, "operation": number}),
                    );
                }
                self.after.declared.remove(&name);
                self.deleted_by.entry(name).or_insert(number);
            }
            _ => {
                let (job, dataset) = (text(operation, "job"), text(operation, "dataset"));
                self.job_must_exist(&job, number)?;
                if !self.after.dataset_exists(&dataset) {
                    return Err(
                        json!({"rejected": "dataset_not_found", "name": dataset, "operation": number}),
                    );
                }
                let edge = (job.clone(), side(&op).unwrap(), dataset.clone());
                let there = self.after.edges().contains(&edge);
                if op.starts_with("add_") {
                    if there {
                        return Err(
                            json!({"rejected": "edge_exists", "job": job, "dataset": dataset, "operation": number}),
                        );
                    }
                    self.add(edge.clone());
                    self.asked.insert(edge);
                } else {
                    if !there {
                        return Err(
                            json!({"rejected": "edge_not_found", "job": job, "dataset": dataset, "operation": number}),
                        );
                    }
                    self.remove(&edge);
                }
            }
        }
        Ok(())
    }

    fn job_must_exist(&self, name: &str, number: usize) -> Result<(), Value> {
        if self.after.jobs.contains_key(name) {
            Ok(())
        } else {
            Err(json!({"rejected": "job_not_found", "name": name, "operation": number}))
        }
    }

    fn set_edges(&mut self, job: &str, side: &'static str, names: &Value) {
        let wanted: BTreeSet<String> = names
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        let all = self.after.edges();
        let present: BTreeSet<Edge> =
            all.into_iter().filter(|(j, s, _)| j == job && *s == side).collect();
        for edge in &present {
            if !wanted.contains(&edge.2) {
                self.remove(edge);
            }
        }
        for dataset in wanted {
            let edge = (job.to_owned(), side, dataset);
            if !present.contains(&edge) {
                self.add(edge);
            }
        }
    }

    fn list(&mut self, edge: &Edge) -> &mut BTreeSet<String> {
        let job = self.after.jobs.get_mut(&edge.0).unwrap();
        if edge.1 == "input" { &mut job.inputs } else { &mut job.outputs }
    }

    fn add(&mut self, edge: Edge) {
        self.list(&edge).insert(edge.2.clone());
    }

    fn remove(&mut self, edge: &Edge) {
        self.list(edge).remove(&edge.2);
    }

    fn in_use(&self) -> Option<Value> {
        let broken = self.deleted_by.iter().filter(|(dataset, _)| {
            !self.after.declared.contains_key(*dataset) && self.after.dataset_exists(dataset)
        });
        let (operation, name) = broken.map(|(name, operation)| (operation, name)).min()?;
        let jobs: Vec<String> = self.after.mentioned_by(name).take(10).collect();
        Some(
            json!({"rejected": "dataset_in_use", "name": name, "jobs": jobs, "operation": operation}),
        )
    }

    fn second_producer(&self, base: &Model) -> Option<Value> {
        let mut violations = Vec::new();
        for dataset in self.after.datasets() {
            let producers = self.after.producers(&dataset);
            let keeps = |job: &&String| {
                base.jobs.get(*job).is_some_and(|job| job.outputs.contains(&dataset))
            };
            let kept = producers.iter().find(keeps).cloned();
            let mut adders: Vec<(usize, String)> = producers
                .iter()
                .filter(|job| Some(*job) != kept.as_ref())
                .map(|job| {
                    let edge = (job.clone(), "output", dataset.clone());
                    (self.owner(&edge).expect("the job is new to it"), job.clone())
                })
                .collect();
            adders.sort();
            let producer = match kept {
                Some(kept) => kept,
                None if adders.is_empty() => continue,
                None => adders.remove(0).1,
            };
            if let Some((operation, job)) = adders.first() {
                violations.push((*operation, dataset, producer, job.clone()));
            }
        }
        let (operation, dataset, producer, job) = violations.into_iter().min()?;
        Some(
            json!({"rejected": "second_producer", "dataset": dataset, "producer": producer, "job": job, "operation": operation}),
        )
    }

    /// The last operation before which the edge was absent and after which it was present.
    fn owner(&self, edge: &Edge) -> Option<usize> {
        let there: Vec<bool> = self.moments.iter().map(|edges| edges.contains(edge)).collect();
        there.windows(2).rposition(|pair| pair == [false, true])
    }

    /// Operation by operation: the first after which the old edges and those that belong to it or
    /// to an operation before it form a cycle.
    fn cycle(&self) -> Option<Value> {
        (0..self.moments.len() - 1).find_map(|operation| {
            let cycle = self.up_to(operation).smallest_cycle()?;
            Some(json!({"rejected": "cycle", "cycle": cycle, "operation": operation}))
        })
    }

    /// The final graph without the edges that belong to operations after `last`.
    fn up_to(&self, last: usize) -> Model {
        let mut graph = self.after.clone();
        for edge in self.after.edges() {
            if self.owner(&edge).is_some_and(|operation| operation > last) {
                let (job, side, dataset) = edge;
                let job = graph.jobs.get_mut(&job).unwrap();
                let list = if side == "input" { &mut job.inputs } else { &mut job.outputs };
                list.remove(&dataset);
            }
        }
        graph
    }
}

type Steps<'m> = BTreeMap<&'m String, Vec<(&'m String, &'m String)>>;

/// How many jobs the shortest walk from `start` back to it passes.
fn way_back(steps: &Steps<'_>, start: &String) -> Option<usize> {
    let (mut seen, mut edge, mut length) = (BTreeSet::new(), BTreeSet::from([start]), 0);
    while !edge.is_empty() {
        length += 1;
        let next: BTreeSet<&String> =
            edge.iter().flat_map(|job| steps[job].iter().map(|(_, next)| *next)).collect();
        if next.contains(start) {
            return Some(length);
        }
        edge = next.into_iter().filter(|job| seen.insert(*job)).collect();
    }
    None
}

/// The byte-smallest walk of `length` jobs from `start` back to it. Walks of equal length are
/// compared as sequences, so of all that end at one job only the smallest need be kept.
fn smallest_walk_back(steps: &Steps<'_>, start: &String, length: usize) -> Vec<String> {
    let mut walks = BTreeMap::from([(start, vec![start.clone()])]);
    for _ in 0..length {
        let mut longer: BTreeMap<&String, Vec<String>> = BTreeMap::new();
        for (job, walk) in &walks {
            for &(dataset, next) in &steps[job] {
                let mut walk = walk.clone();
                walk.extend([dataset.clone(), next.clone()]);
                let kept = longer.entry(next).or_insert_with(|| walk.clone());
                if walk < *kept {
                    *kept = walk;
                }
            }
        }
        walks = longer;
    }
    walks.remove(start).expect("there is a way back of that length")
}

/// The difference between two graphs: by kind, then by name.
fn facts(base: &Model, after: &Model) -> Vec<Value> {
    let (mut deleted, mut changed, mut created) = (Vec::new(), Vec::new(), Vec::new());
    for name in base.jobs.keys().chain(after.jobs.keys()).collect::<BTreeSet<_>>() {
        match (base.jobs.get(name), after.jobs.get(name)) {
            (Some(_), None) => deleted.push(json!({"fact": "job_deleted", "name": name})),
            (None, Some(new)) => created.push(json!({
                "fact": "job_created", "name": name, "inputs": new.inputs, "outputs": new.outputs, "spec": new.spec,
            })),
            (Some(old), Some(new)) => {
                if (&old.spec, &old.inputs, &old.outputs) != (&new.spec, &new.inputs, &new.outputs) {
                    let minus = |a: &BTreeSet<String>, b: &BTreeSet<String>| json!(a.difference(b).collect::<Vec<_>>());
                    let mut fact = Map::new();
                    fact.insert("fact".into(), json!("job_changed"));
                    fact.insert("name".into(), json!(name));
                    fact.insert("inputs_added".into(), minus(&new.inputs, &old.inputs));
                    fact.insert("inputs_removed".into(), minus(&old.inputs, &new.inputs));
                    fact.insert("outputs_added".into(), minus(&new.outputs, &old.outputs));
                    fact.insert("outputs_removed".into(), minus(&old.outputs, &new.outputs));
                    if old.spec != new.spec {
                        fact.insert("spec".into(), new.spec.clone());
                    }
                    changed.push(Value::Object(fact));
                }
            }
            (None, None) => unreachable!(),
        }
    }
    let (mut undeclared, mut other, mut declared) = (Vec::new(), Vec::new(), Vec::new());
    for name in base.declared.keys().chain(after.declared.keys()).collect::<BTreeSet<_>>() {
        match (base.declared.get(name), after.declared.get(name)) {
            (Some(_), None) => undeclared.push(json!({"fact": "dataset_undeclared", "name": name})),
            (None, Some(new)) => {
                declared.push(json!({"fact": "dataset_declared", "name": name, "metadata": new}));
            }
            (Some(old), Some(new)) if old != new => {
                other.push(json!({"fact": "dataset_changed", "name": name, "metadata": new}));
            }
            _ => {}
        }
    }
    [deleted, changed, created, undeclared, other, declared].concat()
}

fn failed(expected: Value, actual: Value, operation: Value) -> Value {
    json!({"rejected": "precondition_failed", "expected": expected, "actual": actual, "operation": operation})
}

/// RFC 7396, as it is written there.
fn merged(target: Option<&Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            let new = merged(target.get(key), value);
            target.insert(key.clone(), new);
        }
    }
    Value::Object(target)
}

fn side(op: &str) -> Option<&'static str> {
    ["input", "output"].into_iter().find(|side| op.ends_with(side))
}

fn text(operation: &Value, field: &str) -> String {
    operation[field].as_str().unwrap().to_owned()
}

pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
