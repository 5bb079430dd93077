//! What a client can ask of a graph. HTTP routes, imports and changesets are all spelled in these
//! operations.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::json::{CanonicalJson, JsonError};
use super::name::{InvalidName, Name};
use crate::object::objects_only;

/// What a client asks for in one write. Accepted whole or rejected whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Steps on jobs and datasets.
    Changeset(Changeset),
    /// Deletes the graph itself.
    DeleteGraph {
        /// What must hold of the graph. Only an empty graph can be deleted without.
        precondition: Option<Precondition>,
    },
}

/// A list of steps, judged as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changeset {
    /// What must hold of the graph as a whole.
    pub precondition: Option<Precondition>,
    /// Which jobs must be as they were.
    pub unchanged: Option<Unchanged>,
    /// In the order in which existence is judged.
    pub steps: Vec<Step>,
}

/// A precondition of a changeset that says what is to be under a prefix: there, nobody created or
/// changed a job after version `since` that the changeset does not put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    /// What the jobs' names begin with.
    pub prefix: String,
    /// The version of the graph that the changeset was made for.
    pub since: u64,
}

/// One operation with its precondition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub operation: Operation,
    /// What must hold in the graph as it was before the changeset.
    pub precondition: Option<Precondition>,
}

/// Judged on the graph before the changeset, ahead of everything else. Of a step, it is about the
/// job or the dataset that the step names, and a dataset's version is the graph's; of a whole
/// changeset, about the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// It is there, at this version.
    Version(u64),
    /// It is there, at one of these versions; of none, nothing is.
    OneOf(Vec<u64>),
    /// It is not there.
    Absent,
    /// It is there, at any version.
    Exists,
}

impl Precondition {
    /// Whether it holds of what has the version `actual`; `None`: it is not there.
    #[must_use]
    pub fn holds(&self, actual: Option<u64>) -> bool {
        match self {
            Self::Version(expected) => actual == Some(*expected),
            Self::OneOf(versions) => actual.is_some_and(|actual| versions.contains(&actual)),
            Self::Absent => actual.is_none(),
            Self::Exists => actual.is_some(),
        }
    }
}

/// A job as a client puts it. Inputs and outputs are sorted and hold no name twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpecification {
    /// The job's name.
    pub name: Name,
    /// The datasets that it reads.
    pub inputs: Vec<Name>,
    /// The datasets that it writes.
    pub outputs: Vec<Name>,
    /// Opaque to Fencepost.
    pub spec: CanonicalJson,
}

/// What a JSON merge patch of a job changes; `None` leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobPatch {
    /// All inputs anew, sorted.
    pub inputs: Option<Vec<Name>>,
    /// All outputs anew, sorted.
    pub outputs: Option<Vec<Name>>,
    /// What becomes of the specification.
    pub spec: Option<SpecPatch>,
}

/// How a patch treats a job's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecPatch {
    /// `null`: back to `{}`.
    Remove,
    /// Merged as RFC 7396 says.
    Merge(CanonicalJson),
}

/// Which of a job's two lists an edge is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The job reads the dataset.
    Input,
    /// The job writes the dataset.
    Output,
}

/// One intended step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates the job or replaces it.
    PutJob(JobSpecification),
    /// Changes a job that exists.
    PatchJob {
        /// The job.
        name: Name,
        /// The change.
        patch: JobPatch,
    },
    /// Deletes a job that exists, and all its edges.
    DeleteJob {
        /// The job.
        name: Name,
    },
    /// Adds an edge between a job and a dataset that exist.
    AddEdge {
        /// Read or write.
        side: Side,
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// Removes an edge that exists.
    RemoveEdge {
        /// Read or write.
        side: Side,
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// Declares the dataset or replaces its metadata.
    PutDataset {
        /// The dataset.
        name: Name,
        /// Opaque to Fencepost.
        metadata: CanonicalJson,
    },
    /// Takes back the declaration of a dataset that exists.
    DeleteDataset {
        /// The dataset.
        name: Name,
    },
}

impl Serialize for Precondition {
    /// A version as a number, several as a list of them, absence as `null`, existence as `"*"`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Version(version) => serializer.serialize_u64(*version),
            Self::OneOf(versions) => versions.serialize(serializer),
            Self::Absent => serializer.serialize_none(),
            Self::Exists => serializer.serialize_str("*"),
        }
    }
}

impl From<Operation> for Step {
    fn from(operation: Operation) -> Self {
        Self { operation, precondition: None }
    }
}

impl FromIterator<Operation> for Changeset {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        let steps = operations.into_iter().map(Step::from).collect();
        Self { steps, ..Self::default() }
    }
}

/// Why JSON that parses is still not an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    /// Fields or types are wrong; `at` is a path such as `operations[3].inputs`.
    #[error("{at}: {reason}")]
    Malformed {
        /// Where in the document.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// A name breaks the rules for names.
    #[error("{at}: {reason}")]
    Name {
        /// Where in the document.
        at: String,
        /// What is wrong with it.
        reason: InvalidName,
    },
}

impl InvalidOperation {
    fn malformed(at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { at: at.into(), reason: reason.into() }
    }

    /// The same, told from further outside: `prefix` is put before the path.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let join =
            |at: String| if at.is_empty() { prefix.to_owned() } else { format!("{prefix}.{at}") };
        match self {
            Self::Malformed { at, reason } => Self::Malformed { at: join(at), reason },
            Self::Name { at, reason } => Self::Name { at: join(at), reason },
        }
    }
}

/// The JSON of a job in requests and imports: `{"name","inputs","outputs","spec"}`; `version` is
/// ignored, so that what was read can be put back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct JobWire {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    inputs: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    outputs: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    spec: Option<Box<RawValue>>,
    #[serde(rename = "version")]
    _version: Option<serde::de::IgnoredAny>,
}

impl JobWire {
    /// The job, checked. `path_name` is the name that the request's path gives: it may stand for
    /// the field and must equal it.
    ///
    /// # Errors
    /// [`InvalidOperation`] with the path of the field.
    pub fn into_job(self, path_name: Option<&Name>) -> Result<JobSpecification, InvalidOperation> {
        let name = match (self.name, path_name) {
            (Some(text), path_name) => {
                let name = name_at("name", &text)?;
                if path_name.is_some_and(|expected| *expected != name) {
                    return Err(InvalidOperation::malformed(
                        "name",
                        "does not match the name in the path",
                    ));
                }
                name
            }
            (None, Some(name)) => name.clone(),
            (None, None) => return Err(InvalidOperation::malformed("name", "is missing")),
        };
        Ok(JobSpecification {
            name,
            inputs: names_at("inputs", required("inputs", self.inputs)?)?,
            outputs: names_at("outputs", required("outputs", self.outputs)?)?,
            spec: self.spec.map_or(Ok(CanonicalJson::default()), |raw| object_at("spec", &raw))?,
        })
    }
}

/// The JSON of a job's merge patch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct JobPatchWire {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    inputs: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present")]
    outputs: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present")]
    spec: Option<Box<RawValue>>,
    #[serde(rename = "version")]
    _version: Option<serde::de::IgnoredAny>,
}

/// Tells `null` from absent: a precondition of `null`, say, is a mistake and not none.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl JobPatchWire {
    /// The patch of the job `name`, checked.
    ///
    /// # Errors
    /// [`InvalidOperation`] with the path of the field.
    pub fn into_patch(self, name: &Name) -> Result<JobPatch, InvalidOperation> {
        if self.name.is_some_and(|text| text != name.as_str()) {
            return Err(InvalidOperation::malformed(
                "name",
                "does not match the job: a job cannot be renamed",
            ));
        }
        let list = |at: &str, field: Option<Option<Vec<String>>>| match field {
            None => Ok(None),
            Some(None) => {
                Err(InvalidOperation::malformed(at, "cannot be removed; give an empty list"))
            }
            Some(Some(names)) => names_at(at, names).map(Some),
        };
        Ok(JobPatch {
            inputs: list("inputs", self.inputs)?,
            outputs: list("outputs", self.outputs)?,
            spec: match self.spec {
                None => None,
                Some(raw) if raw.get() == "null" => Some(SpecPatch::Remove),
                Some(raw) => Some(SpecPatch::Merge(object_at("spec", &raw)?)),
            },
        })
    }
}

/// The JSON of a changeset: `{"operations":[{"op":"put_job",…},…]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ChangesetWire {
    operations: Vec<OperationWire>,
}

/// One operation, `"op"` naming it. Every field that some operation has; which of them this one
/// needs is checked after, so that the message can name the operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct OperationWire {
    op: String,
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    inputs: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    outputs: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    spec: Option<Box<RawValue>>,
    #[serde(rename = "version")]
    version: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    patch: Option<JobPatchWire>,
    #[serde(default, deserialize_with = "present")]
    job: Option<String>,
    #[serde(default, deserialize_with = "present")]
    dataset: Option<String>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    if_version: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    if_absent: Option<bool>,
}

impl ChangesetWire {
    /// The changeset, checked. An empty list is a changeset that changes nothing.
    ///
    /// # Errors
    /// [`InvalidOperation`] with a path such as `operations[3].inputs`.
    pub fn into_changeset(self) -> Result<Changeset, InvalidOperation> {
        let step = |(i, wire): (usize, OperationWire)| {
            wire.into_step().map_err(|invalid| invalid.within(&format!("operations[{i}]")))
        };
        Ok(Changeset {
            precondition: None,
            unchanged: None,
            steps: self.operations.into_iter().enumerate().map(step).collect::<Result<_, _>>()?,
        })
    }
}

impl OperationWire {
    fn into_step(mut self) -> Result<Step, InvalidOperation> {
        let precondition = match (self.if_version.take(), self.if_absent.take()) {
            (Some(_), Some(true)) => {
                return Err(InvalidOperation::malformed(
                    "if_absent",
                    "contradicts if_version; give one of them",
                ));
            }
            (Some(version), _) => Some(Precondition::Version(version)),
            (None, Some(true)) => Some(Precondition::Absent),
            (None, _) => None,
        };
        Ok(Step { operation: self.take_operation()?, precondition })
    }

    fn take_operation(mut self) -> Result<Operation, InvalidOperation> {
        let op = std::mem::take(&mut self.op);
        let operation = match op.as_str() {
            "put_job" => Operation::PutJob(
                JobWire {
                    name: self.name.take(),
                    inputs: self.inputs.take(),
                    outputs: self.outputs.take(),
                    spec: self.spec.take(),
                    _version: self.version.take(),
                }
                .into_job(None)?,
            ),
            "patch_job" => {
                let name = self.take_name()?;
                let patch = required("patch", self.patch.take())?;
                Operation::PatchJob {
                    patch: patch.into_patch(&name).map_err(|e| e.within("patch"))?,
                    name,
                }
            }
            "delete_job" => Operation::DeleteJob { name: self.take_name()? },
            "put_dataset" => Operation::PutDataset {
                name: self.take_name()?,
                metadata: match self.metadata.take() {
                    None => CanonicalJson::default(),
                    Some(raw) => object_at("metadata", &raw)?,
                },
            },
            "delete_dataset" => Operation::DeleteDataset { name: self.take_name()? },
            "add_input" => self.take_edge(Side::Input, |side, job, dataset| {
                Operation::AddEdge { side, job, dataset }
            })?,
            "add_output" => self.take_edge(Side::Output, |side, job, dataset| {
                Operation::AddEdge { side, job, dataset }
            })?,
            "remove_input" => self.take_edge(Side::Input, |side, job, dataset| {
                Operation::RemoveEdge { side, job, dataset }
            })?,
            "remove_output" => self.take_edge(Side::Output, |side, job, dataset| {
                Operation::RemoveEdge { side, job, dataset }
            })?,
            unknown => {
                let reason =
                    format!("unknown operation `{unknown}`; known are {}", Self::KNOWN.join(", "));
                return Err(InvalidOperation::malformed("op", reason));
            }
        };
        match self.left_over() {
            None => Ok(operation),
            Some(field) => {
                Err(InvalidOperation::malformed(field, format!("is not a field of {op}")))
            }
        }
    }

    const KNOWN: [&str; 9] = [
        "put_job",
        "patch_job",
        "delete_job",
        "add_input",
        "remove_input",
        "add_output",
        "remove_output",
        "put_dataset",
        "delete_dataset",
    ];

    fn take_name(&mut self) -> Result<Name, InvalidOperation> {
        name_at("name", &required("name", self.name.take())?)
    }

    fn take_edge(
        &mut self,
        side: Side,
        operation: impl FnOnce(Side, Name, Name) -> Operation,
    ) -> Result<Operation, InvalidOperation> {
        let job = name_at("job", &required("job", self.job.take())?)?;
        let dataset = name_at("dataset", &required("dataset", self.dataset.take())?)?;
        Ok(operation(side, job, dataset))
    }

    fn left_over(&self) -> Option<&'static str> {
        [
            ("name", self.name.is_some()),
            ("inputs", self.inputs.is_some()),
            ("outputs", self.outputs.is_some()),
            ("spec", self.spec.is_some()),
            ("version", self.version.is_some()),
            ("patch", self.patch.is_some()),
            ("job", self.job.is_some()),
            ("dataset", self.dataset.is_some()),
            ("metadata", self.metadata.is_some()),
        ]
        .into_iter()
        .find_map(|(field, present)| present.then_some(field))
    }
}

fn required<T>(at: &str, field: Option<T>) -> Result<T, InvalidOperation> {
    field.ok_or_else(|| InvalidOperation::malformed(at, "is missing"))
}

fn name_at(at: &str, text: &str) -> Result<Name, InvalidOperation> {
    Name::new(text).map_err(|reason| InvalidOperation::Name { at: at.to_owned(), reason })
}

fn names_at(at: &str, texts: Vec<String>) -> Result<Vec<Name>, InvalidOperation> {
    let checked = texts.iter().enumerate().map(|(i, text)| {
        Name::new(text)
            .map_err(|reason| InvalidOperation::Name { at: format!("{at}[{i}]"), reason })
    });
    let mut names = checked.collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn object_at(at: &str, raw: &RawValue) -> Result<CanonicalJson, InvalidOperation> {
    CanonicalJson::from_raw(raw)
        .map_err(|error: JsonError| InvalidOperation::malformed(at, error.to_string()))
}

/// Reads the body of a dataset: `{"metadata":{…}}`, with what else `GET` gives ignored where it
/// cannot be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct DatasetWire {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Box<RawValue>>,
    #[serde(rename = "declared")]
    _declared: Option<serde::de::IgnoredAny>,
    #[serde(rename = "producer")]
    _producer: Option<serde::de::IgnoredAny>,
    #[serde(rename = "consumers")]
    _consumers: Option<serde::de::IgnoredAny>,
}

objects_only!(JobWire, JobPatchWire, ChangesetWire, OperationWire, DatasetWire);

impl DatasetWire {
    /// The metadata that is to be kept for the dataset `name`.
    ///
    /// # Errors
    /// [`InvalidOperation`] with the path of the field.
    pub fn into_metadata(self, name: &Name) -> Result<CanonicalJson, InvalidOperation> {
        if self.name.is_some_and(|text| text != name.as_str()) {
            return Err(InvalidOperation::malformed("name", "does not match the name in the path"));
        }
        match self.metadata {
            None => Ok(CanonicalJson::default()),
            Some(raw) => object_at("metadata", &raw),
        }
    }
}

impl Serialize for Operation {
    /// The operation as a client would send it, in a history or over HTTP.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let edge = |verb: &str, side: Side| match side {
            Side::Input => format!("{verb}_input"),
            Side::Output => format!("{verb}_output"),
        };
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::PutJob(job) => {
                map.serialize_entry("op", "put_job")?;
                map.serialize_entry("name", &job.name)?;
                map.serialize_entry("inputs", &job.inputs)?;
                map.serialize_entry("outputs", &job.outputs)?;
                map.serialize_entry("spec", &job.spec)?;
            }
            Self::PatchJob { name, patch } => {
                map.serialize_entry("op", "patch_job")?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("patch", patch)?;
            }
            Self::DeleteJob { name } => {
                map.serialize_entry("op", "delete_job")?;
                map.serialize_entry("name", name)?;
            }
            Self::AddEdge { side, job, dataset } => {
                map.serialize_entry("op", &edge("add", *side))?;
                map.serialize_entry("job", job)?;
                map.serialize_entry("dataset", dataset)?;
            }
            Self::RemoveEdge { side, job, dataset } => {
                map.serialize_entry("op", &edge("remove", *side))?;
                map.serialize_entry("job", job)?;
                map.serialize_entry("dataset", dataset)?;
            }
            Self::PutDataset { name, metadata } => {
                map.serialize_entry("op", "put_dataset")?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("metadata", metadata)?;
            }
            Self::DeleteDataset { name } => {
                map.serialize_entry("op", "delete_dataset")?;
                map.serialize_entry("name", name)?;
            }
        }
        map.end()
    }
}

impl Serialize for JobPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        if let Some(inputs) = &self.inputs {
            map.serialize_entry("inputs", inputs)?;
        }
        if let Some(outputs) = &self.outputs {
            map.serialize_entry("outputs", outputs)?;
        }
        match &self.spec {
            None => {}
            Some(SpecPatch::Remove) => map.serialize_entry("spec", &None::<()>)?,
            Some(SpecPatch::Merge(object)) => map.serialize_entry("spec", object)?,
        }
        map.end()
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'s> {
            #[serde(flatten)]
            operation: &'s Operation,
            #[serde(skip_serializing_if = "Option::is_none")]
            if_version: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            if_absent: Option<bool>,
        }
        let (if_version, if_absent) = match self.precondition {
            Some(Precondition::Version(version)) => (Some(version), None),
            Some(Precondition::Absent) => (None, Some(true)),
            // A changeset has no words for these: only headers state them.
            Some(Precondition::OneOf(_) | Precondition::Exists) | None => (None, None),
        };
        Flat { operation: &self.operation, if_version, if_absent }.serialize(serializer)
    }
}
