//! Jobs, and merge patches of jobs.

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::error::InvalidOperation;
use super::field::{name_at, names_at, object_at, present, required};
use crate::graph::{CanonicalJson, JobPatch, JobSpecification, Name, SpecPatch};
use crate::object::objects_only;

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
    _version: Option<IgnoredAny>,
}

impl JobWire {
    /// The job whose fields were read as fields of an operation.
    pub(super) fn of_fields(
        name: Option<String>,
        inputs: Option<Vec<String>>,
        outputs: Option<Vec<String>>,
        spec: Option<Box<RawValue>>,
    ) -> Self {
        Self { name, inputs, outputs, spec, _version: None }
    }

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
    _version: Option<IgnoredAny>,
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

objects_only!(JobWire, JobPatchWire);

/// Writes a merge patch as [`JobPatchWire`] reads it.
pub struct JobPatchJson<'p>(pub &'p JobPatch);

impl Serialize for JobPatchJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JobPatch { inputs, outputs, spec } = self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(inputs) = inputs {
            map.serialize_entry("inputs", inputs)?;
        }
        if let Some(outputs) = outputs {
            map.serialize_entry("outputs", outputs)?;
        }
        match spec {
            None => {}
            Some(SpecPatch::Remove) => map.serialize_entry("spec", &None::<()>)?,
            Some(SpecPatch::Merge(object)) => map.serialize_entry("spec", object)?,
        }
        map.end()
    }
}
