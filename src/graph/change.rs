//! What an accepted changeset did, as facts: the change log's rows, and what a follower applies.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::CanonicalJson;
use super::name::Name;

/// The facts of one accepted changeset. No facts: nothing changed, and the graph keeps its version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Sorted by kind, then by name.
    pub facts: Vec<Fact>,
}

/// One thing that became so. Deltas, so that an edge of a job with a thousand inputs costs one
/// name. Fields stand in the byte order of their names, so that what serde writes is canonical
/// JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The graph was deleted with all that it held.
    GraphDeleted {},
    /// A job went, and its edges with it.
    JobDeleted {
        /// The job.
        name: Name,
    },
    /// A job was replaced, patched, or got or lost an edge.
    JobChanged {
        /// Sorted.
        inputs_added: Vec<Name>,
        /// Sorted.
        inputs_removed: Vec<Name>,
        /// The job.
        name: Name,
        /// Sorted.
        outputs_added: Vec<Name>,
        /// Sorted.
        outputs_removed: Vec<Name>,
        /// The whole new specification, if it is another.
        #[serde(skip_serializing_if = "Option::is_none")]
        spec: Option<CanonicalJson>,
    },
    /// A job came to be.
    JobCreated {
        /// Sorted.
        inputs: Vec<Name>,
        /// The job.
        name: Name,
        /// Sorted.
        outputs: Vec<Name>,
        /// Its specification.
        spec: CanonicalJson,
    },
    /// A declaration was taken back; the dataset goes unless a job mentions it.
    DatasetUndeclared {
        /// The dataset.
        name: Name,
    },
    /// A declared dataset has other metadata.
    DatasetChanged {
        /// All of it.
        metadata: CanonicalJson,
        /// The dataset.
        name: Name,
    },
    /// A dataset was declared.
    DatasetDeclared {
        /// All of it.
        metadata: CanonicalJson,
        /// The dataset.
        name: Name,
    },
}

/// Why stored facts could not be read back: the log is damaged, or written by a newer program.
#[derive(Debug, thiserror::Error)]
#[error("a fact of the change log cannot be read: {0}")]
pub struct DamagedFact(String);

impl Change {
    /// Whether the graph stays as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// `{"facts":[…],"version":N}` as canonical JSON: the bytes that the chain of hashes covers.
    #[must_use]
    pub fn canonical_json(&self, version: u64) -> String {
        #[derive(Serialize)]
        struct Data<'c> {
            facts: &'c [Fact],
            version: u64,
        }
        serde_json::to_string(&Data { facts: &self.facts, version }).expect("facts are always JSON")
    }

    /// Reads what [`canonical_json`](Self::canonical_json) or a [`FlatGraph`](super::FlatGraph)
    /// wrote: the change, its version, and the job's.
    ///
    /// # Errors
    /// [`DamagedFact`] if the text is anything else.
    pub fn from_event_json(text: &str) -> Result<(Self, u64, Option<u64>), DamagedFact> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Data<'t> {
            #[serde(borrow)]
            facts: Vec<FactWire<'t>>,
            job_version: Option<u64>,
            version: u64,
        }
        let data: Data<'_> =
            serde_json::from_str(text).map_err(|error| DamagedFact(error.to_string()))?;
        let facts = data.facts.into_iter().map(FactWire::into_fact).collect::<Result<_, _>>()?;
        Ok((Self { facts }, data.version, data.job_version))
    }

    /// Reads what [`canonical_json`](Self::canonical_json) wrote: the change and its version.
    ///
    /// # Errors
    /// [`DamagedFact`] if the text is anything else.
    pub fn from_canonical_json(text: &str) -> Result<(Self, u64), DamagedFact> {
        match Self::from_event_json(text)? {
            (change, version, None) => Ok((change, version)),
            _ => Err(DamagedFact("it is a part of an import".to_owned())),
        }
    }
}

/// All fields of all facts: `serde`'s tagged enums cannot hold raw JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FactWire<'t> {
    #[serde(borrow)]
    fact: Cow<'t, str>,
    name: Option<Text<'t>>,
    inputs: Option<Vec<Text<'t>>>,
    outputs: Option<Vec<Text<'t>>>,
    inputs_added: Option<Vec<Text<'t>>>,
    inputs_removed: Option<Vec<Text<'t>>>,
    outputs_added: Option<Vec<Text<'t>>>,
    outputs_removed: Option<Vec<Text<'t>>>,
    #[serde(borrow)]
    spec: Option<&'t RawValue>,
    #[serde(borrow)]
    metadata: Option<&'t RawValue>,
}

/// Of the text that is read, if nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

impl FactWire<'_> {
    fn into_fact(self) -> Result<Fact, DamagedFact> {
        let json = |raw: &RawValue| {
            CanonicalJson::from_raw(raw).map_err(|error| DamagedFact(error.to_string()))
        };
        let object = |field: Option<&RawValue>| match field {
            Some(raw) => json(raw),
            None => Err(DamagedFact("an object is missing".to_owned())),
        };
        if self.fact == "graph_deleted" {
            return Ok(Fact::GraphDeleted {});
        }
        let name = name(&self.name.ok_or_else(|| DamagedFact("a name is missing".to_owned()))?)?;
        Ok(match &*self.fact {
            "job_deleted" => Fact::JobDeleted { name },
            "job_changed" => Fact::JobChanged {
                inputs_added: names(self.inputs_added)?,
                inputs_removed: names(self.inputs_removed)?,
                name,
                outputs_added: names(self.outputs_added)?,
                outputs_removed: names(self.outputs_removed)?,
                spec: self.spec.map(json).transpose()?,
            },
            "job_created" => Fact::JobCreated {
                inputs: names(self.inputs)?,
                name,
                outputs: names(self.outputs)?,
                spec: object(self.spec)?,
            },
            "dataset_undeclared" => Fact::DatasetUndeclared { name },
            "dataset_changed" => Fact::DatasetChanged { metadata: object(self.metadata)?, name },
            "dataset_declared" => Fact::DatasetDeclared { metadata: object(self.metadata)?, name },
            unknown => return Err(DamagedFact(format!("unknown fact `{unknown}`"))),
        })
    }
}

fn name(text: &Text<'_>) -> Result<Name, DamagedFact> {
    Name::new(&text.0).map_err(|error| DamagedFact(error.to_string()))
}

fn names(texts: Option<Vec<Text<'_>>>) -> Result<Vec<Name>, DamagedFact> {
    texts.ok_or_else(|| DamagedFact("a list is missing".to_owned()))?.iter().map(name).collect()
}
