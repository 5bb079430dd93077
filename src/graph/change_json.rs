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
use super::scanner::Scanner;

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
    #[must_use]
    pub fn bytes_above(&self, limit: usize) -> Option<usize> {
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
        match Self::scan(text) {
            Some(read) => Ok(read),
            None => Self::parse(text),
        }
    }

    /// As [`parse`](Self::parse), in less than half the time, but `None` also where something in a
    /// name is escaped.
    fn scan(text: &str) -> Option<(Self, u64, Option<u64>)> {
        let mut scanner = Scanner::new(text);
        scanner.literal(r#"{"facts":["#)?;
        let mut facts = Vec::with_capacity(1);
        while !scanner.is_next("]") {
            if !facts.is_empty() {
                scanner.literal(",")?;
            }
            facts.push(Fact::scan(&mut scanner)?);
        }
        let job_version = match scanner.is_next(r#","job_version":"#) {
            true => Some(scanner.number()?.0),
            false => None,
        };
        scanner.literal(r#","version":"#)?;
        let (version, _) = scanner.number()?;
        (scanner.rest() == "}").then_some((Self { facts }, version, job_version))
    }

    /// As [`from_event_json`](Self::from_event_json): reads the text by a parser of JSON, and
    /// compares it with what is written of what was read.
    fn parse(text: &str) -> Result<(Self, u64, Option<u64>), DamagedFact> {
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

impl Fact {
    /// Reads a fact as it is written.
    fn scan(scanner: &mut Scanner<'_>) -> Option<Self> {
        scanner.literal(r#"{"fact":"#)?;
        let fact = match scanner.plain_string()? {
            "graph_deleted" => Self::GraphDeleted {},
            "job_deleted" => Self::JobDeleted { name: member(scanner, "name", Scanner::name)? },
            "job_changed" => Self::JobChanged {
                inputs_added: member(scanner, "inputs_added", Scanner::names)?,
                inputs_removed: member(scanner, "inputs_removed", Scanner::names)?,
                name: member(scanner, "name", Scanner::name)?,
                outputs_added: member(scanner, "outputs_added", Scanner::names)?,
                outputs_removed: member(scanner, "outputs_removed", Scanner::names)?,
                spec: match scanner.rest().starts_with('}') {
                    true => None,
                    false => Some(member(scanner, "spec", Scanner::canonical_json)?),
                },
            },
            "job_created" => Self::JobCreated {
                inputs: member(scanner, "inputs", Scanner::names)?,
                name: member(scanner, "name", Scanner::name)?,
                outputs: member(scanner, "outputs", Scanner::names)?,
                spec: member(scanner, "spec", Scanner::canonical_json)?,
            },
            "dataset_undeclared" => {
                Self::DatasetUndeclared { name: member(scanner, "name", Scanner::name)? }
            }
            "dataset_changed" => Self::DatasetChanged {
                metadata: member(scanner, "metadata", Scanner::canonical_json)?,
                name: member(scanner, "name", Scanner::name)?,
            },
            "dataset_declared" => Self::DatasetDeclared {
                metadata: member(scanner, "metadata", Scanner::canonical_json)?,
                name: member(scanner, "name", Scanner::name)?,
            },
            _ => return None,
        };
        scanner.literal("}")?;
        Some(fact)
    }
}

/// Reads a member that is not the first of its object.
fn member<'t, T>(
    scanner: &mut Scanner<'t>,
    name: &str,
    value: fn(&mut Scanner<'t>) -> Option<T>,
) -> Option<T> {
    scanner.literal(",\"")?;
    scanner.literal(name)?;
    scanner.literal("\":")?;
    value(scanner)
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
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    fn name() -> impl Strategy<Value = Name> {
        let texts =
            ["a", "job/of some: length", "日本", "é\u{2028}", "{\",\"x\":[", "\\", "\u{ff}/"];
        select(texts.to_vec()).prop_map(|text| Name::new(text).unwrap())
    }

    fn fact() -> impl Strategy<Value = Fact> {
        let names = || prop::collection::vec(name(), 0..3);
        let texts = ["{}", "{\"a\":[1.50,{\"b\":\"\\n\"}],\"é\":null}", "{\"x\":-1E5}"];
        let json = || select(texts.to_vec()).prop_map(|text| CanonicalJson::parse(text).unwrap());
        let changed = (names(), names(), name(), names(), names(), prop::option::of(json()));
        prop_oneof![
            Just(Fact::GraphDeleted {}),
            name().prop_map(|name| Fact::JobDeleted { name }),
            changed.prop_map(
                |(inputs_added, inputs_removed, name, outputs_added, outputs_removed, spec)| {
                    Fact::JobChanged {
                        inputs_added,
                        inputs_removed,
                        name,
                        outputs_added,
                        outputs_removed,
                        spec,
                    }
                }
            ),
            (names(), name(), names(), json()).prop_map(|(inputs, name, outputs, spec)| {
                Fact::JobCreated { inputs, name, outputs, spec }
            }),
            name().prop_map(|name| Fact::DatasetUndeclared { name }),
            (json(), name()).prop_map(|(metadata, name)| Fact::DatasetChanged { metadata, name }),
            (json(), name()).prop_map(|(metadata, name)| Fact::DatasetDeclared { metadata, name }),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let number = || prop_oneof![0..3_u64, Just(u64::MAX), any::<u64>()];
        (prop::collection::vec(fact(), 0..4), prop::option::of(number()), number()).prop_map(
            |(facts, job_version, version)| {
                let data = Data { facts: &facts, job_version, version };
                serde_json::to_string(&data).unwrap()
            },
        )
    }

    /// One place of a text taken out, doubled, or another text put in.
    fn altered(text: &str, at: Index, to: Index, what: &str) -> String {
        let places: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        let (one, other) = (places[at.index(places.len())], places[to.index(places.len())]);
        let (from, to) = (one.min(other), one.max(other));
        match what {
            "taken out" => [&text[..from], &text[to..]].concat(),
            "doubled" => [&text[..to], &text[from..]].concat(),
            other => [&text[..from], other, &text[from..]].concat(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_scanned_unless_something_in_a_name_is_escaped(text in text()) {
            let parsed = Change::parse(&text).unwrap();
            match Change::scan(&text) {
                Some(scanned) => prop_assert_eq!(scanned, parsed),
                None => prop_assert!(text.contains("\\\"") || text.contains("\\\\"), "{}", text),
            }
        }

        #[test]
        fn what_is_scanned_is_what_is_parsed(
            text in text(),
            at in any::<Index>(),
            to in any::<Index>(),
            what in select(vec![
                "taken out", "doubled", " ", "\r", "0", "-", ",", "\"", "\\u0061", "\u{7f}", "null",
                "{}", ",\"spec\":{}", ",\"job_version\":1", ",\"x\":1",
            ]),
        ) {
            let text = altered(&text, at, to, what);
            if let Some(scanned) = Change::scan(&text) {
                let parsed = Change::parse(&text);
                prop_assert_eq!(Some(scanned), parsed.ok(), "{}", text);
            }
        }
    }

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
