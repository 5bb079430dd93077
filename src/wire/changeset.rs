//! Changesets: lists of operations, each with its precondition.

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::error::InvalidOperation;
use super::field::{name_at, object_at, present, required};
use super::job::{JobPatchJson, JobPatchWire, JobWire};
use crate::graph::{CanonicalJson, Changeset, Name, Operation, Precondition, Side, Step};
use crate::object::objects_only;

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
    version: Option<IgnoredAny>,
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
            "put_job" => {
                self.version = None;
                let (inputs, outputs) = (self.inputs.take(), self.outputs.take());
                let job = JobWire::of_fields(self.name.take(), inputs, outputs, self.spec.take());
                Operation::PutJob(job.into_job(None)?)
            }
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

objects_only!(ChangesetWire, OperationWire);

/// Writes the operations of a changeset as [`ChangesetWire`] reads them: in histories and in
/// requests.
pub struct OperationsJson<'s>(pub &'s [Step]);

impl Serialize for OperationsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(StepJson))
    }
}

struct StepJson<'s>(&'s Step);

impl Serialize for StepJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Step { operation, precondition } = self.0;
        let mut map = serializer.serialize_map(None)?;
        write_operation(operation, &mut map)?;
        match precondition {
            Some(Precondition::Version(version)) => map.serialize_entry("if_version", version)?,
            Some(Precondition::Absent) => map.serialize_entry("if_absent", &true)?,
            // A changeset has no field for these: only headers state them.
            Some(Precondition::OneOf(_) | Precondition::Exists) | None => {}
        }
        map.end()
    }
}

fn write_operation<M: SerializeMap>(operation: &Operation, map: &mut M) -> Result<(), M::Error> {
    match operation {
        Operation::PutJob(job) => {
            map.serialize_entry("op", "put_job")?;
            map.serialize_entry("name", &job.name)?;
            map.serialize_entry("inputs", &job.inputs)?;
            map.serialize_entry("outputs", &job.outputs)?;
            map.serialize_entry("spec", &job.spec)
        }
        Operation::PatchJob { name, patch } => {
            map.serialize_entry("op", "patch_job")?;
            map.serialize_entry("name", name)?;
            map.serialize_entry("patch", &JobPatchJson(patch))
        }
        Operation::DeleteJob { name } => {
            map.serialize_entry("op", "delete_job")?;
            map.serialize_entry("name", name)
        }
        Operation::AddEdge { side, job, dataset } => {
            let op = match side {
                Side::Input => "add_input",
                Side::Output => "add_output",
            };
            write_edge(op, job, dataset, map)
        }
        Operation::RemoveEdge { side, job, dataset } => {
            let op = match side {
                Side::Input => "remove_input",
                Side::Output => "remove_output",
            };
            write_edge(op, job, dataset, map)
        }
        Operation::PutDataset { name, metadata } => {
            map.serialize_entry("op", "put_dataset")?;
            map.serialize_entry("name", name)?;
            map.serialize_entry("metadata", metadata)
        }
        Operation::DeleteDataset { name } => {
            map.serialize_entry("op", "delete_dataset")?;
            map.serialize_entry("name", name)
        }
    }
}

fn write_edge<M: SerializeMap>(
    op: &str,
    job: &Name,
    dataset: &Name,
    map: &mut M,
) -> Result<(), M::Error> {
    map.serialize_entry("op", op)?;
    map.serialize_entry("job", job)?;
    map.serialize_entry("dataset", dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_written_as_it_is_read() {
        let operations = [
            r#"{"op":"put_job","name":"a","inputs":["x","y"],"outputs":[],"spec":{"n":1.50}}"#,
            r#"{"op":"put_job","name":"a","inputs":[],"outputs":["z"],"spec":{},"if_absent":true}"#,
            r#"{"op":"patch_job","name":"a","patch":{},"if_version":7}"#,
            r#"{"op":"patch_job","name":"a","patch":{"inputs":[],"outputs":["z"],"spec":null}}"#,
            r#"{"op":"patch_job","name":"a","patch":{"spec":{"n":null}}}"#,
            r#"{"op":"delete_job","name":"a"}"#,
            r#"{"op":"add_input","job":"a","dataset":"x"}"#,
            r#"{"op":"add_output","job":"a","dataset":"x","if_absent":true}"#,
            r#"{"op":"remove_input","job":"a","dataset":"x","if_version":0}"#,
            r#"{"op":"remove_output","job":"a","dataset":"x"}"#,
            r#"{"op":"put_dataset","name":"x","metadata":{"k":"v"}}"#,
            r#"{"op":"delete_dataset","name":"x\"/日"}"#,
        ];
        let list = format!("[{}]", operations.join(","));
        let wire: ChangesetWire =
            serde_json::from_str(&format!(r#"{{"operations":{list}}}"#)).unwrap();
        let changeset = wire.into_changeset().unwrap();
        assert_eq!(serde_json::to_string(&OperationsJson(&changeset.steps)).unwrap(), list);
    }
}
