//! A change as canonical JSON, written and read: the text of the change log and of events.
//!
//! A change has one spelling. Reading writes the change again and compares, so that a text which
//! was altered is refused, whatever JSON it is.

use std::borrow::Cow;
use std::{fmt, io};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::change::{Change, Fact};
use super::json::CanonicalJson;
use super::name::Name;

/// Why stored facts could not be read back: the log is damaged, or written by a newer program.
#[derive(Debug, thiserror::Error)]
#[error("a fact of the change log cannot be read: {0}")]
pub struct DamagedFact(String);

impl Change {
    /// The change as canonical JSON, `{"facts":[…],"version":N}`: the bytes that the chain of
    /// hashes covers.
    #[must_use]
    pub fn canonical_json(&self, version: u64) -> String {
        let data = Data { facts: &self.facts, job_version: None, version };
        serde_json::to_string(&data).expect("facts are always JSON")
    }

    /// The length of [`canonical_json`](Self::canonical_json) in bytes, if it is more than `limit`.
    /// O(names).
    pub(super) fn bytes_above(&self, limit: usize) -> Option<usize> {
        // At most: each byte is escaped to two, and quotes and a comma are three.
        let name = |name: &Name| 2 * name.as_str().len() + 3;
        let names = |list: &[Name]| list.iter().map(name).sum::<usize>();
        let most = |fact: &Fact| {
            FACT_BYTES_MAX
                + match fact {
                    Fact::GraphDeleted {} => 0,
                    Fact::JobDeleted { name: of } | Fact::DatasetUndeclared { name: of } => {
                        name(of)
                    }
                    Fact::JobCreated { inputs, name: of, outputs, spec } => {
                        name(of) + names(inputs) + names(outputs) + spec.as_str().len()
                    }
                    Fact::JobChanged {
                        inputs_added,
                        inputs_removed,
                        name: of,
                        outputs_added,
                        outputs_removed,
                        spec,
                    } => {
                        let sides = [inputs_added, inputs_removed, outputs_added, outputs_removed];
                        let edges = sides.iter().map(|list| names(list)).sum::<usize>();
                        name(of) + edges + spec.as_ref().map_or(0, |spec| spec.as_str().len())
                    }
                    Fact::DatasetChanged { metadata, name: of }
                    | Fact::DatasetDeclared { metadata, name: of } => {
                        name(of) + metadata.as_str().len()
                    }
                }
        };
        if self.facts.iter().map(most).sum::<usize>() <= limit {
            return None;
        }
        let mut count = Count(0);
        let version = u64::MAX;
        serde_json::to_writer(&mut count, &Data { facts: &self.facts, job_version: None, version })
            .expect("facts are always JSON");
        (count.0 > limit).then_some(count.0)
    }

    /// Reads the data of an event, which [`canonical_json`](Self::canonical_json) or
    /// [`SortedGraph`](super::SortedGraph) wrote. Returns the change, its version, and for a job of
    /// an import the job's version.
    ///
    /// # Errors
    /// [`DamagedFact`] if the text is anything else, even if it is the same JSON spelled otherwise.
    pub fn from_event_json(text: &str) -> Result<(Self, u64, Option<u64>), DamagedFact> {
        let data: DataWire<'_> =
            serde_json::from_str(text).map_err(|error| DamagedFact(error.to_string()))?;
        let facts = data.facts.into_iter().map(FactWire::into_fact).collect::<Result<_, _>>()?;
        let change = Self { facts };
        match change.first_difference(data.version, data.job_version, text) {
            None => Ok((change, data.version, data.job_version)),
            Some(at) => Err(DamagedFact(format!(
                "read and written anew it differs from byte {at} on, so it was altered"
            ))),
        }
    }

    /// The first byte at which `text` differs from this change as it is written; `None` if they are
    /// equal. O(length), without a copy.
    fn first_difference(
        &self,
        version: u64,
        job_version: Option<u64>,
        text: &str,
    ) -> Option<usize> {
        let mut comparison = Comparison { expected: text.as_bytes(), equal: 0 };
        let data = Data { facts: &self.facts, job_version, version };
        let written = serde_json::to_writer(&mut comparison, &data);
        (written.is_err() || comparison.equal < text.len()).then_some(comparison.equal)
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

/// What is written. Fields stand in the byte order of their names.
#[derive(Serialize)]
struct Data<'c> {
    facts: &'c [Fact],
    #[serde(skip_serializing_if = "Option::is_none")]
    job_version: Option<u64>,
    version: u64,
}

/// What is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct DataWire<'t> {
    #[serde(borrow)]
    facts: Vec<FactWire<'t>>,
    job_version: Option<u64>,
    version: u64,
}

/// An upper bound for the bytes of a fact without its names, `spec` and `metadata`.
const FACT_BYTES_MAX: usize = 160;

/// Counts the bytes that are written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what is written with `expected`, and fails at the first byte that differs.
struct Comparison<'t> {
    expected: &'t [u8],
    equal: usize,
}

impl io::Write for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = &self.expected[self.equal..];
        if rest.starts_with(bytes) {
            self.equal += bytes.len();
            return Ok(bytes.len());
        }
        self.equal += rest.iter().zip(bytes).take_while(|(ours, theirs)| ours == theirs).count();
        Err(io::ErrorKind::InvalidData.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fields of all facts together: serde's tagged enums cannot hold raw JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
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

/// Reads a struct from a JSON object only; what serde derives would take an array too. This is
/// `objects_only!` of the module `object` once more, because `graph` uses nothing of ours.
macro_rules! objects_only {
    ($($name:ident),+) => {$(
        impl<'de: 't, 't> Deserialize<'de> for $name<'t> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Members;
                impl<'de> Visitor<'de> for Members {
                    type Value = $name<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(
                        self,
                        members: A,
                    ) -> Result<Self::Value, A::Error> {
                        // The derived function: inherent functions go before a trait's.
                        $name::deserialize(MapAccessDeserializer::new(members))
                    }
                }
                from.deserialize_map(Members)
            }
        }
    )+};
}

objects_only!(DataWire, FactWire);

/// A string. Borrowed from the text that is read, unless it has escapes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_neither_a_change_nor_a_fact() {
        for text in ["[[],null,1]", r#"{"facts":[["graph_deleted"]],"version":1}"#] {
            let error = Change::from_canonical_json(text).unwrap_err().to_string();
            assert!(
                error.contains("invalid type: sequence, expected an object"),
                "{text}: {error}"
            );
        }
    }
}
