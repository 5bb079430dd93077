//! From the wire format to the graph's own types and back, and short ways to write commands.

use std::collections::BTreeMap;
use std::ops::Bound;

use fencepost::graph::{
    CanonicalJson, Change, Changeset, Command, Dataset, Direction, Graph, GraphBuilder,
    GraphPacker, GraphUnpacker, Job, JobSpecification, LogBuilder, Name, Operation, Origin,
    PlanRequest, Precondition, Rejection, UnpackError, decide,
};
use fencepost::wire::ChangesetWire;
use serde_json::{Value, json};

use super::model::{Model, Verdict};

pub const NO_LIMIT: usize = usize::MAX;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn names<S: AsRef<str>>(texts: &[S]) -> Vec<Name> {
    let mut names: Vec<Name> = texts.iter().map(|text| name(text.as_ref())).collect();
    names.sort();
    names.dedup();
    names
}

/// `put("job", &["read", …], &["written", …])`
pub fn put(job: &str, inputs: &[&str], outputs: &[&str]) -> Operation {
    let (inputs, outputs) = (names(inputs), names(outputs));
    Operation::PutJob(JobSpecification {
        name: name(job),
        inputs,
        outputs,
        spec: CanonicalJson::default(),
    })
}

pub fn changeset(operations: impl IntoIterator<Item = Operation>) -> Command {
    Command::Changeset(operations.into_iter().collect())
}

/// The graph after operations that must all be accepted, each in a changeset of its own.
pub fn graph_of(operations: impl IntoIterator<Item = Operation>) -> Graph {
    operations
        .into_iter()
        .fold(Graph::default(), |graph, operation| accepted(&graph, &changeset([operation])))
}

pub fn accepted(graph: &Graph, command: &Command) -> Graph {
    match decide(graph, command) {
        Ok(decision) => decision.next,
        Err(rejection) => panic!("rejected: {rejection}"),
    }
}

pub fn rejected(graph: &Graph, command: &Command) -> Rejection {
    match decide(graph, command) {
        Ok(_) => panic!("accepted"),
        Err(rejection) => rejection,
    }
}

/// The command that the model's JSON means. `if_exists`, and `if_version` with a list or of the
/// whole command, are not on the wire: HTTP says them in headers.
pub fn command(json: &Value) -> Command {
    let precondition = match (&json["if_version"], &json["if_exists"]) {
        (Value::Array(versions), _) => {
            Some(Precondition::OneOf(versions.iter().map(|one| one.as_u64().unwrap()).collect()))
        }
        (version, exists) => {
            let version = version.as_u64().map(Precondition::Version);
            version.or_else(|| (*exists == json!(true)).then_some(Precondition::Exists))
        }
    };
    if json["delete_graph"] == json!(true) {
        return Command::DeleteGraph { precondition };
    }
    let mut operations = json["operations"].as_array().unwrap().clone();
    let must_exist: Vec<bool> = operations
        .iter_mut()
        .map(|op| op.as_object_mut().unwrap().remove("if_exists").is_some())
        .collect();
    let wire: ChangesetWire =
        serde_json::from_str(&json!({"operations": operations}).to_string()).unwrap();
    let Changeset { mut steps, .. } = wire.into_changeset().unwrap();
    for (step, must_exist) in steps.iter_mut().zip(must_exist) {
        if must_exist {
            step.precondition = Some(Precondition::Exists);
        }
    }
    Command::Changeset(Changeset { precondition, unchanged: None, steps })
}

pub fn verdict(graph: &Graph, command: &Command) -> Verdict {
    match decide(graph, command) {
        Ok(decision) => {
            let text = decision.change.canonical_json(0);
            let data: Value = serde_json::from_str(&text).unwrap();
            Verdict::Accepted {
                facts: data["facts"].as_array().unwrap().clone(),
                created: decision.created,
            }
        }
        Err(rejection) => Verdict::Rejected(told(&rejection)),
    }
}

fn expectation(expected: &Precondition) -> Value {
    match expected {
        Precondition::Version(version) => json!(version),
        Precondition::OneOf(versions) => json!(versions),
        Precondition::Absent => Value::Null,
        Precondition::Exists => json!("*"),
    }
}

/// A rejection with all its fields, as the model writes it.
fn told(rejection: &Rejection) -> Value {
    match rejection {
        Rejection::PreconditionFailed { expected, actual, operation } => {
            json!({"rejected": "precondition_failed", "expected": expectation(expected), "actual": actual, "operation": operation})
        }
        Rejection::PreconditionRequired { actual } => {
            json!({"rejected": "precondition_required", "actual": actual})
        }
        Rejection::JobNotFound { name, operation } => {
            json!({"rejected": "job_not_found", "name": name, "operation": operation})
        }
        Rejection::DatasetNotFound { name, operation } => {
            json!({"rejected": "dataset_not_found", "name": name, "operation": operation})
        }
        Rejection::EdgeNotFound { job, dataset, operation } => {
            json!({"rejected": "edge_not_found", "job": job, "dataset": dataset, "operation": operation})
        }
        Rejection::EdgeExists { job, dataset, operation } => {
            json!({"rejected": "edge_exists", "job": job, "dataset": dataset, "operation": operation})
        }
        Rejection::DatasetInUse { name, jobs, operation } => {
            json!({"rejected": "dataset_in_use", "name": name, "jobs": jobs, "operation": operation})
        }
        Rejection::TooLarge { bytes, limit } => {
            json!({"rejected": "too_large", "bytes": bytes, "limit": limit})
        }
        Rejection::SecondProducer { dataset, producer, job, operation } => {
            json!({"rejected": "second_producer", "dataset": dataset, "producer": producer, "job": job, "operation": operation})
        }
        Rejection::Cycle { cycle, operation } => {
            json!({"rejected": "cycle", "cycle": cycle, "operation": operation})
        }
    }
}

/// Everything that can be read of the graph is what the model has.
pub fn assert_same(graph: &Graph, model: &Model) {
    assert_eq!(graph.version(), model.version);
    assert_eq!(graph.job_count(), model.jobs.len());
    assert_eq!(graph.dataset_count(), model.datasets().len());
    assert_eq!(graph.edge_count(), model.edges().len());
    assert_eq!(graph.digest(), model.digest());
    for (job, (name, expected)) in graph.jobs_from(Bound::Unbounded).zip(&model.jobs) {
        assert_eq!((job.name().as_str(), job.version()), (name.as_str(), expected.version));
        assert_eq!(job.spec().as_str(), expected.spec.to_string());
        assert!(job.inputs().into_iter().map(Name::as_str).eq(expected.inputs.iter()));
        assert!(job.outputs().into_iter().map(Name::as_str).eq(expected.outputs.iter()));
    }
    for (dataset, name) in graph.datasets_from(Bound::Unbounded).zip(model.datasets()) {
        assert_eq!(dataset.name().as_str(), name);
        assert_eq!(
            dataset.metadata().map(CanonicalJson::as_str),
            model.declared.get(&name).map(Value::to_string).as_deref()
        );
        assert!(
            dataset
                .producer()
                .iter()
                .map(|job| job.name().as_str())
                .eq(model.producers(&name).iter())
        );
        assert!(
            dataset.consumers().into_iter().map(Name::as_str).eq(model.consumers(&name).iter())
        );
        assert_eq!(dataset.mentions(), model.producers(&name).len() + model.consumers(&name).len());
    }
}

/// Asks for everything that can be asked of a graph, whatever it is. Each job and dataset must tell
/// the same of their edges.
pub fn ask_everything(graph: &Graph) {
    let mut edges = 0;
    for job in graph.jobs_from(Bound::Unbounded) {
        edges += job.inputs().len() + job.outputs().len();
        for input in job.inputs() {
            let consumers = graph.dataset(input.as_str()).unwrap().consumers();
            assert!(consumers.contains(&job.name()), "{} reads {input}", job.name());
        }
        for output in job.outputs() {
            let producer = graph.dataset(output.as_str()).unwrap().producer().unwrap();
            assert_eq!(producer.name(), job.name(), "{output}");
        }
        let jobs = vec![job.name().clone()];
        graph.plan(&PlanRequest { jobs, ..PlanRequest::default() }, usize::MAX).unwrap();
        for direction in [Direction::Upstream, Direction::Downstream] {
            let origin = Origin::Job(job.name().clone());
            graph.reachable(&origin, direction, None, usize::MAX).unwrap();
        }
    }
    for dataset in graph.datasets_from(Bound::Unbounded) {
        let datasets = vec![dataset.name().clone()];
        graph.plan(&PlanRequest { datasets, ..PlanRequest::default() }, usize::MAX).unwrap();
        let named = dataset.consumers().len() + usize::from(dataset.producer().is_some());
        assert_eq!(named, dataset.mentions());
        assert!(named > 0 || dataset.metadata().is_some(), "{} is an orphan", dataset.name());
    }
    assert_eq!(edges, graph.edge_count());
    assert_eq!(graph.digest().len(), 64);
    let _ = graph.is_acyclic();
}

/// The ids of all jobs and datasets by name.
pub fn ids(graph: &Graph) -> (BTreeMap<&str, u32>, BTreeMap<&str, u32>) {
    let jobs = graph.jobs_from(Bound::Unbounded).map(|job| (job.name().as_str(), job.id()));
    let datasets = graph
        .datasets_from(Bound::Unbounded)
        .map(|dataset| (dataset.name().as_str(), dataset.id()));
    (jobs.collect(), datasets.collect())
}

/// All that can be read of a graph, with the ids of its jobs and datasets.
pub fn everything(graph: &Graph) -> Value {
    let job = |job: Job<'_>| {
        json!([job.name(), job.id(), job.version(), job.spec(), job.inputs(), job.outputs()])
    };
    let dataset = |dataset: Dataset<'_>| {
        let producer = dataset.producer().map(|job| job.name());
        let (metadata, consumers) = (dataset.metadata(), dataset.consumers());
        json!([dataset.name(), dataset.id(), metadata, producer, consumers])
    };
    json!({
        "version": graph.version(),
        "jobs": graph.jobs_from(Bound::Unbounded).map(job).collect::<Vec<_>>(),
        "datasets": graph.datasets_from(Bound::Unbounded).map(dataset).collect::<Vec<_>>(),
        "counts": [graph.job_count(), graph.dataset_count(), graph.edge_count()],
        "bytes": graph.memory_bytes(),
        "digest": graph.digest(),
    })
}

/// The parts of the graph in packed form.
pub fn packed(graph: &Graph, part_bytes: usize) -> Vec<Vec<u8>> {
    GraphPacker::new(graph, part_bytes).collect()
}

/// What has taken these parts of a packed graph.
pub fn unpacker(parts: &[impl AsRef<[u8]>]) -> Result<GraphUnpacker, UnpackError> {
    let mut unpacker = GraphUnpacker::default();
    parts.iter().try_for_each(|part| unpacker.add(part.as_ref()))?;
    Ok(unpacker)
}

/// The graph of these parts.
pub fn unpacked(parts: &[impl AsRef<[u8]>]) -> Result<Graph, UnpackError> {
    unpacker(parts)?.finish()
}

/// The graph that a log of these changes leads to, or the first reason why it leads to none.
pub fn built_from(changes: &[Change]) -> Result<Graph, String> {
    let mut builder = LogBuilder::default();
    for (version, change) in (1..).zip(changes) {
        builder.add(change).map_err(|error| error.to_string())?;
        assert_eq!(builder.version(), version);
    }
    builder.finish().map_err(|error| error.to_string())
}

/// The same graph built from its rows, in slots of the same numbers.
pub fn rebuilt(graph: &Graph) -> Graph {
    let mut builder = GraphBuilder::default();
    for job in graph.jobs_from(Bound::Unbounded) {
        builder
            .job(job.id().into(), job.name().as_str(), job.spec().as_str(), job.version())
            .unwrap();
    }
    for dataset in graph.datasets_from(Bound::Unbounded) {
        let metadata = dataset.metadata().map(CanonicalJson::as_str);
        builder.dataset(dataset.id().into(), dataset.name().as_str(), metadata).unwrap();
    }
    for job in graph.jobs_from(Bound::Unbounded) {
        let id = |name: &Name| i64::from(graph.dataset(name.as_str()).unwrap().id());
        job.inputs()
            .into_iter()
            .for_each(|dataset| builder.input(job.id().into(), id(dataset)).unwrap());
        job.outputs()
            .into_iter()
            .for_each(|dataset| builder.output(job.id().into(), id(dataset)).unwrap());
    }
    builder.finish(graph.version()).unwrap()
}

/// The plan as the model writes it.
pub fn plan(graph: &Graph, datasets: &[String], jobs: &[String], stop_at: &[String]) -> Value {
    let as_asked = |texts: &[String]| texts.iter().map(|text| name(text)).collect();
    let request = PlanRequest {
        datasets: as_asked(datasets),
        jobs: as_asked(jobs),
        stop_at: as_asked(stop_at),
    };
    let plan = graph.plan(&request, NO_LIMIT).unwrap();
    json!({
        "targets": plan.targets, "stages": plan.stages, "dependencies": plan.dependencies, "sources": plan.sources,
        "digest": plan.digest,
    })
}

/// What is reached, as the model writes it.
pub fn reachable(
    graph: &Graph,
    origin: &str,
    is_job: bool,
    upstream: bool,
    depth: Option<usize>,
) -> Value {
    let origin = if is_job { Origin::Job(name(origin)) } else { Origin::Dataset(name(origin)) };
    let direction = if upstream { Direction::Upstream } else { Direction::Downstream };
    let reached = graph.reachable(&origin, direction, depth, NO_LIMIT).unwrap();
    json!({"jobs": reached.jobs, "datasets": reached.datasets})
}

/// The graph after the command, whether or not it was accepted.
pub fn decided(graph: &Graph, command: &Command) -> Graph {
    decide(graph, command).map_or_else(|_| graph.clone(), |decision| decision.next)
}
