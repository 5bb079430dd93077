//! Facts: what a change did, as a change log tells it. Read from a log, written as canonical text,
//! compared.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::json::{canonical, quoted};
use super::recorded_request::{Text, Texts};
use crate::object::objects_only;

/// One thing that became so. The order of the variants, then of the names, is the order within a
/// change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The graph went with all that it held.
    GraphDeleted,
    /// A job went, and its edges with it.
    JobDeleted(Text),
    /// A job was changed.
    JobChanged(JobChange),
    /// A job came to be.
    JobCreated { name: Text, inputs: Vec<Text>, outputs: Vec<Text>, spec: Text },
    /// A declaration was taken back.
    DatasetUndeclared(Text),
    /// A declared dataset has other metadata.
    DatasetChanged { name: Text, metadata: Text },
    /// A dataset was declared.
    DatasetDeclared { name: Text, metadata: Text },
}

/// How a job differs from before. Lists are sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobChange {
    /// The job.
    pub name: Text,
    /// Datasets that it reads now.
    pub inputs_added: Vec<Text>,
    /// Datasets that it reads no more.
    pub inputs_removed: Vec<Text>,
    /// Datasets that it writes now.
    pub outputs_added: Vec<Text>,
    /// Datasets that it writes no more.
    pub outputs_removed: Vec<Text>,
    /// The whole new specification, if it is another.
    pub spec: Option<Text>,
}

impl Fact {
    /// The job or dataset that it is about.
    pub fn name(&self) -> Option<&Text> {
        match self {
            Self::GraphDeleted => None,
            Self::JobChanged(JobChange { name, .. })
            | Self::JobDeleted(name)
            | Self::JobCreated { name, .. }
            | Self::DatasetUndeclared(name)
            | Self::DatasetChanged { name, .. }
            | Self::DatasetDeclared { name, .. } => Some(name),
        }
    }

    fn canonical(&self) -> String {
        let list = |names: &[Text]| {
            format!("[{}]", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(","))
        };
        match self {
            Self::GraphDeleted => r#"{"fact":"graph_deleted"}"#.to_owned(),
            Self::JobDeleted(name) => {
                format!(r#"{{"fact":"job_deleted","name":{}}}"#, quoted(name))
            }
            Self::JobChanged(change) => {
                let JobChange {
                    name,
                    inputs_added,
                    inputs_removed,
                    outputs_added,
                    outputs_removed,
                    spec,
                } = change;
                let spec =
                    spec.as_ref().map_or_else(String::new, |spec| format!(r#","spec":{spec}"#));
                format!(
                    r#"{{"fact":"job_changed","inputs_added":{},"inputs_removed":{},"name":{},"outputs_added":{},"outputs_removed":{}{spec}}}"#,
                    list(inputs_added),
                    list(inputs_removed),
                    quoted(name),
                    list(outputs_added),
                    list(outputs_removed),
                )
            }
            Self::JobCreated { name, inputs, outputs, spec } => format!(
                r#"{{"fact":"job_created","inputs":{},"name":{},"outputs":{},"spec":{spec}}}"#,
                list(inputs),
                quoted(name),
                list(outputs),
            ),
            Self::DatasetUndeclared(name) => {
                format!(r#"{{"fact":"dataset_undeclared","name":{}}}"#, quoted(name))
            }
            Self::DatasetChanged { name, metadata } => {
                format!(
                    r#"{{"fact":"dataset_changed","metadata":{metadata},"name":{}}}"#,
                    quoted(name)
                )
            }
            Self::DatasetDeclared { name, metadata } => {
                format!(
                    r#"{{"fact":"dataset_declared","metadata":{metadata},"name":{}}}"#,
                    quoted(name)
                )
            }
        }
    }
}

/// The canonical text of a change: what a store's chain of hashes covers.
pub fn canonical_change(facts: &[Fact], version: u64) -> String {
    let facts: Vec<String> = facts.iter().map(Fact::canonical).collect();
    format!(r#"{{"facts":[{}],"version":{version}}}"#, facts.join(","))
}

/// The chain after one more change.
pub fn next_chain(chain: [u8; 32], canonical_change: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(chain);
    hash.update(canonical_change);
    hash.finalize().into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ChangeWire<'l> {
    version: u64,
    /// Of a part of an import.
    job_version: Option<u64>,
    #[serde(borrow)]
    facts: Vec<FactWire<'l>>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct FactWire<'l> {
    fact: String,
    name: Option<String>,
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
    spec: Option<&'l RawValue>,
    #[serde(borrow)]
    metadata: Option<&'l RawValue>,
}

objects_only!(ChangeWire<'l>, FactWire<'l>);

/// Reads one change, `{"version":N,"facts":[…]}`; its facts are sorted.
///
/// # Errors
/// Says what cannot be understood.
pub fn read_change(text: &str, texts: &mut Texts) -> Result<(u64, Vec<Fact>), String> {
    let (version, facts, _) = read(text, texts)?;
    Ok((version, facts))
}

/// Reads one part of an import: a change with the version that the job in it has, if it is one.
///
/// # Errors
/// Says what cannot be understood.
pub fn read_part(text: &str, texts: &mut Texts) -> Result<(Vec<Fact>, Option<u64>), String> {
    let (_, facts, job_version) = read(text, texts)?;
    Ok((facts, job_version))
}

fn read(text: &str, texts: &mut Texts) -> Result<(u64, Vec<Fact>, Option<u64>), String> {
    let wire: ChangeWire<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut facts =
        wire.facts.into_iter().map(|fact| fact.into_fact(texts)).collect::<Result<Vec<_>, _>>()?;
    facts.sort_unstable();
    Ok((wire.version, facts, wire.job_version))
}

impl FactWire<'_> {
    fn into_fact(self, texts: &mut Texts) -> Result<Fact, String> {
        if self.fact == "graph_deleted" {
            return Ok(Fact::GraphDeleted);
        }
        let name =
            texts.share(&self.name.ok_or_else(|| format!("a `{}` without a name", self.fact))?);
        let object =
            |raw: &RawValue, texts: &mut Texts| canonical(raw).map(|text| texts.share(&text));
        let needed = |raw: Option<&RawValue>, texts: &mut Texts| match raw {
            Some(raw) => object(raw, texts),
            None => Err(format!("a `{}` without its object", self.fact)),
        };
        Ok(match self.fact.as_str() {
            "job_deleted" => Fact::JobDeleted(name),
            "job_changed" => Fact::JobChanged(JobChange {
                name,
                inputs_added: texts.share_set(&self.inputs_added),
                inputs_removed: texts.share_set(&self.inputs_removed),
                outputs_added: texts.share_set(&self.outputs_added),
                outputs_removed: texts.share_set(&self.outputs_removed),
                spec: self.spec.map(|raw| object(raw, texts)).transpose()?,
            }),
            "job_created" => Fact::JobCreated {
                name,
                inputs: texts.share_set(&self.inputs),
                outputs: texts.share_set(&self.outputs),
                spec: needed(self.spec, texts)?,
            },
            "dataset_undeclared" => Fact::DatasetUndeclared(name),
            "dataset_changed" => {
                Fact::DatasetChanged { name, metadata: needed(self.metadata, texts)? }
            }
            "dataset_declared" => {
                Fact::DatasetDeclared { name, metadata: needed(self.metadata, texts)? }
            }
            unknown => return Err(format!("nothing is known of the fact `{unknown}`")),
        })
    }
}
