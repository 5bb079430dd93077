//! What a history says was asked, read strictly: what cannot be understood cannot be judged.
//!
//! Knows the format of histories and nothing of how a request is served.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json;
use super::maps::Set;
use crate::object::objects_only;

/// A job's or dataset's name, or canonical JSON; shared by all that mention it.
pub type Text = Arc<str>;

/// Which of a job's two lists an edge is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The job reads the dataset.
    Input,
    /// The job writes the dataset.
    Output,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The job.
    pub job: Text,
    /// Reads or writes.
    pub side: Side,
    /// The dataset.
    pub dataset: Text,
}

/// What is asked.
#[derive(Debug)]
pub enum Request {
    /// A changeset.
    Write {
        /// Where it was sent, which decides what its answer tells beside the version.
        route: Route,
        /// In their order.
        steps: Vec<Step>,
    },
    /// Creates the graph unless it is there.
    CreateGraph,
    /// Deletes the graph, whatever is in it.
    DeleteGraph,
    /// A job, unless it has this version.
    Job { name: Text, if_none_match: Option<u64> },
    /// A dataset.
    Dataset(Text),
    /// A plan.
    Plan { datasets: Vec<Text>, jobs: Vec<Text>, stop_at: Vec<Text> },
    /// The graph's digest.
    Digest,
    /// The graph's counts.
    Graph,
    /// A page of a list in byte order of names: those that begin with the prefix, after a name.
    Page { of: Listed, prefix: Text, after: Option<Text>, limit: usize },
    /// Anything that is not about the graph.
    Fetch,
}

/// What a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Jobs.
    Jobs,
    /// Datasets, declared or mentioned.
    Datasets,
}

/// Where a write was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As a changeset: its answer tells the graph's version, as ETag too.
    Changeset,
    /// `POST` of one job that must not be there: its answer tells the job's version, as ETag too,
    /// and where the job is.
    Create,
    /// `PATCH` of one job: its answer tells the job's version, as ETag too.
    Patch,
    /// `PUT` or `DELETE` of a job, an edge or a dataset: its answer tells the version of the job or
    /// dataset, and has no ETag.
    PutOrDelete,
}

/// An operation and what must hold for it.
#[derive(Debug)]
pub struct Step {
    /// What to do.
    pub operation: Operation,
    /// Judged before everything else.
    pub precondition: Option<Precondition>,
}

/// What must hold in the graph before the changeset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// This is the version.
    Version(u64),
    /// It is not there.
    Absent,
}

/// One intended step. Lists of names are sorted and hold none twice.
#[derive(Debug)]
pub enum Operation {
    /// Creates or replaces a job.
    PutJob { name: Text, inputs: Vec<Text>, outputs: Vec<Text>, spec: Text },
    /// Changes a job. A `spec` of `Some(None)` takes it back to `{}`.
    PatchJob {
        name: Text,
        inputs: Option<Vec<Text>>,
        outputs: Option<Vec<Text>>,
        spec: Option<Option<Text>>,
    },
    /// Deletes a job.
    DeleteJob { name: Text },
    /// Adds an edge.
    AddEdge(Edge),
    /// Removes an edge.
    RemoveEdge(Edge),
    /// Declares a dataset.
    PutDataset { name: Text, metadata: Text },
    /// Takes a declaration back.
    DeleteDataset { name: Text },
}

impl Operation {
    /// The job or dataset that the operation is about.
    pub fn target(&self) -> &Text {
        match self {
            Self::PutJob { name, .. }
            | Self::PatchJob { name, .. }
            | Self::DeleteJob { name }
            | Self::PutDataset { name, .. }
            | Self::DeleteDataset { name } => name,
            Self::AddEdge(edge) | Self::RemoveEdge(edge) => &edge.job,
        }
    }
}

/// One copy of each text.
#[derive(Default)]
pub struct Texts(Set<Text>);

impl Texts {
    /// The one copy. O(length).
    pub fn share(&mut self, text: &str) -> Text {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Text = text.into();
        self.0.insert(new.clone());
        new
    }

    /// Sorted, none twice.
    pub fn share_set(&mut self, texts: &[String]) -> Vec<Text> {
        let mut set: Vec<Text> = texts.iter().map(|text| self.share(text)).collect();
        set.sort_unstable();
        set.dedup();
        set
    }

    /// In the order that they have.
    fn share_list(&mut self, texts: Option<Vec<String>>) -> Vec<Text> {
        texts.unwrap_or_default().iter().map(|text| self.share(text)).collect()
    }

    fn share_json(&mut self, field: &str, raw: Option<&RawValue>) -> Result<Text, String> {
        match raw {
            None => Ok(self.share("{}")),
            Some(raw) => {
                Ok(self.share(&json::canonical(raw).map_err(|error| format!("{field}: {error}"))?))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct RequestWire<'l> {
    call: String,
    #[serde(borrow)]
    operations: Option<Vec<OperationWire<'l>>>,
    job: Option<String>,
    dataset: Option<String>,
    if_none_match: Option<u64>,
    datasets: Option<Vec<String>>,
    jobs: Option<Vec<String>>,
    stop_at: Option<Vec<String>>,
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    at_least: Option<u64>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct OperationWire<'l> {
    op: String,
    name: Option<String>,
    job: Option<String>,
    dataset: Option<String>,
    inputs: Option<Vec<String>>,
    outputs: Option<Vec<String>>,
    #[serde(borrow)]
    spec: Option<&'l RawValue>,
    #[serde(borrow)]
    metadata: Option<&'l RawValue>,
    #[serde(borrow)]
    patch: Option<PatchWire<'l>>,
    if_version: Option<u64>,
    if_absent: Option<bool>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct PatchWire<'l> {
    inputs: Option<Vec<String>>,
    outputs: Option<Vec<String>>,
    // Not an Option of a value alone: `null` removes, and absence does not.
    #[serde(borrow, default, deserialize_with = "present")]
    spec: Option<&'l RawValue>,
}

objects_only!(RequestWire<'l>, OperationWire<'l>, PatchWire<'l>);

fn present<'l, D: serde::Deserializer<'l>>(from: D) -> Result<Option<&'l RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// A request, as text and as what it means.
#[derive(Debug)]
pub struct Asked {
    /// As it stands in the file.
    pub text: Text,
    /// What it means.
    pub request: Request,
    /// Of a read: it is to be answered at this version or a later one.
    pub at_least: Option<u64>,
    /// Of a write: its idempotency key.
    pub key: Option<Text>,
}

impl Asked {
    /// Reads the `request` of an `invoke` line.
    ///
    /// # Errors
    /// Says what cannot be understood.
    pub fn read(text: &str, texts: &mut Texts) -> Result<Self, String> {
        let wire: RequestWire<'_> =
            serde_json::from_str(text).map_err(|error| format!("request: {error}"))?;
        let at_least = wire.at_least;
        let key = wire.key.as_ref().map(|key| texts.share(key));
        let request = Request::of(wire, texts)?;
        if key.is_some() && !request.writes() {
            return Err("request: only a write has a key".to_owned());
        }
        Ok(Self { text: text.into(), request, at_least, key })
    }
}

impl Request {
    fn of(wire: RequestWire<'_>, texts: &mut Texts) -> Result<Self, String> {
        let needs = |field: &str| format!("request: {field} is missing");
        Ok(match wire.call.as_str() {
            "createGraph" => Self::CreateGraph,
            "deleteGraph" => Self::DeleteGraph,
            call @ ("putJob" | "patchJob" | "deleteJob" | "addInput" | "addOutput"
            | "removeInput" | "removeOutput" | "putDataset" | "deleteDataset"
            | "applyChangeset" | "createJob") => {
                let operations = wire.operations.ok_or_else(|| needs("operations"))?;
                let steps = operations.into_iter().enumerate().map(|(number, operation)| {
                    operation
                        .into_step(texts)
                        .map_err(|error| format!("request: operations[{number}]: {error}"))
                });
                Self::write(call, steps.collect::<Result<_, _>>()?)?
            }
            "readJob" => {
                let name = texts.share(&wire.job.ok_or_else(|| needs("job"))?);
                Self::Job { name, if_none_match: wire.if_none_match }
            }
            "readDataset" => {
                Self::Dataset(texts.share(&wire.dataset.ok_or_else(|| needs("dataset"))?))
            }
            "planMany" => Self::Plan {
                datasets: texts.share_list(wire.datasets),
                jobs: texts.share_list(wire.jobs),
                stop_at: texts.share_list(wire.stop_at),
            },
            "readDigest" => Self::Digest,
            "readGraph" => Self::Graph,
            "listJobs" | "listDatasets" => Self::Page {
                of: if wire.call == "listJobs" { Listed::Jobs } else { Listed::Datasets },
                prefix: texts.share(&wire.prefix.unwrap_or_default()),
                after: wire.after.map(|name| texts.share(&name)),
                limit: wire.limit.ok_or_else(|| needs("limit"))?,
            },
            "fetch" => Self::Fetch,
            unknown => return Err(format!("request: no rules are known for the call `{unknown}`")),
        })
    }

    fn write(call: &str, steps: Vec<Step>) -> Result<Self, String> {
        let route = match call {
            "applyChangeset" => Route::Changeset,
            "createJob" => Route::Create,
            "patchJob" => Route::Patch,
            _ => Route::PutOrDelete,
        };
        let creates = |step: &Step| {
            matches!(step.operation, Operation::PutJob { .. })
                && step.precondition == Some(Precondition::Absent)
        };
        match (route, &steps[..]) {
            (Route::Changeset, _) => {}
            (Route::Create, [step]) if !creates(step) => {
                return Err("request: createJob puts a job, if_absent".to_owned());
            }
            (_, [_]) => {}
            _ => return Err(format!("request: {call} has one operation")),
        }
        Ok(Self::Write { route, steps })
    }

    /// Whether it is sent with a body. All of it stands in the text of the request.
    pub fn has_body(&self) -> bool {
        match self {
            Self::Write { route, steps } => {
                let has_none = |step: &Step| {
                    matches!(
                        step.operation,
                        Operation::AddEdge(_)
                            | Operation::RemoveEdge(_)
                            | Operation::DeleteJob { .. }
                            | Operation::DeleteDataset { .. }
                    )
                };
                *route != Route::PutOrDelete || !steps.iter().all(has_none)
            }
            Self::Plan { .. } => true,
            _ => false,
        }
    }

    /// Whether it is a write that is decided on the graph: one that is there is not created.
    pub fn is_decided(&self) -> bool {
        self.writes() && !matches!(self, Self::CreateGraph)
    }

    /// Whether it may change the graph.
    pub fn writes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::CreateGraph | Self::DeleteGraph)
    }
}

impl OperationWire<'_> {
    fn into_step(self, texts: &mut Texts) -> Result<Step, String> {
        let precondition = match (self.if_version, self.if_absent) {
            (Some(_), Some(true)) => return Err("if_absent contradicts if_version".to_owned()),
            (Some(version), _) => Some(Precondition::Version(version)),
            (None, Some(true)) => Some(Precondition::Absent),
            (None, _) => None,
        };
        Ok(Step { operation: self.into_operation(texts)?, precondition })
    }

    fn into_operation(self, texts: &mut Texts) -> Result<Operation, String> {
        fn needed<T>(field: &str, value: Option<T>) -> Result<T, String> {
            value.ok_or_else(|| format!("{field} is missing"))
        }
        let side = if self.op.ends_with("_input") { Side::Input } else { Side::Output };
        Ok(match self.op.as_str() {
            "put_job" => Operation::PutJob {
                name: texts.share(&needed("name", self.name)?),
                inputs: texts.share_set(&needed("inputs", self.inputs)?),
                outputs: texts.share_set(&needed("outputs", self.outputs)?),
                spec: texts.share_json("spec", self.spec)?,
            },
            "patch_job" => {
                let patch = needed("patch", self.patch)?;
                Operation::PatchJob {
                    name: texts.share(&needed("name", self.name)?),
                    inputs: patch.inputs.map(|names| texts.share_set(&names)),
                    outputs: patch.outputs.map(|names| texts.share_set(&names)),
                    spec: match patch.spec {
                        None => None,
                        Some(raw) if raw.get() == "null" => Some(None),
                        Some(raw) => Some(Some(texts.share_json("patch.spec", Some(raw))?)),
                    },
                }
            }
            "delete_job" => Operation::DeleteJob { name: texts.share(&needed("name", self.name)?) },
            "put_dataset" => Operation::PutDataset {
                name: texts.share(&needed("name", self.name)?),
                metadata: texts.share_json("metadata", self.metadata)?,
            },
            "delete_dataset" => {
                Operation::DeleteDataset { name: texts.share(&needed("name", self.name)?) }
            }
            "add_input" | "add_output" | "remove_input" | "remove_output" => {
                let job = texts.share(&needed("job", self.job)?);
                let edge =
                    Edge { job, side, dataset: texts.share(&needed("dataset", self.dataset)?) };
                if self.op.starts_with("add") {
                    Operation::AddEdge(edge)
                } else {
                    Operation::RemoveEdge(edge)
                }
            }
            unknown => return Err(format!("no rules are known for the operation `{unknown}`")),
        })
    }
}
