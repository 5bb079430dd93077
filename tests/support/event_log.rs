//! A second reader of exported logs, which shares no code with the first: it knows CloudEvents,
//! SHA-256 and a naive graph, and panics at whatever is not as the documentation says.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::storm::Model;

/// What a log came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub version: u64,
    pub digest: String,
    pub chain: String,
    /// Versions of changes, in order.
    pub changes: Vec<u64>,
    /// How often an import was begun.
    pub imports: usize,
}

#[derive(Deserialize)]
struct CloudEvent<'l> {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    subject: String,
    sequence: String,
    partitionkey: String,
    graphversion: u64,
    ordinal: u64,
    chainhash: String,
    #[serde(borrow)]
    data: &'l RawValue,
}

#[derive(Deserialize)]
struct Data {
    version: u64,
    job_version: Option<i64>,
    facts: Option<serde_json::Value>,
    digest: Option<String>,
    jobs: Option<usize>,
    events: Option<u64>,
}

/// Replays a log of `graph`, checking the rules after every so many events and at the end.
pub fn replay<'l>(graph: &str, lines: impl IntoIterator<Item = &'l str>) -> Told {
    let mut model = Model::default();
    let (mut version, mut chain, mut running) = (0, "0".repeat(64), String::new());
    let (mut changes, mut imports, mut parts) = (Vec::new(), 0, None);
    let mut ids = std::collections::HashSet::new();
    for (at, line) in lines.into_iter().enumerate() {
        let event: CloudEvent<'_> =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("event {at}: {error}"));
        let data: Data = serde_json::from_str(event.data.get()).unwrap();
        assert_eq!((event.specversion.as_str(), event.subject.as_str()), ("1.0", graph));
        assert_eq!(event.partitionkey, graph);
        assert_eq!(event.sequence, format!("{:020}", event.graphversion));
        assert!(event.source.starts_with("urn:fencepost:graph:"));
        assert!(ids.insert(event.id.clone()), "event {at}: its id came before");
        assert_eq!(data.version, event.graphversion);
        match event.r#type.as_str() {
            "dev.fencepost.import.begun.v1" => {
                assert!(changes.is_empty(), "event {at}: an import after changes");
                (model, version, chain) = (Model::default(), data.version, event.chainhash.clone());
                (running, parts) = (event.chainhash.clone(), Some(0));
                imports += 1;
            }
            "dev.fencepost.imported.v1" => {
                running = next(&running, event.data.get());
                assert_eq!(running, event.chainhash, "event {at}: its hash");
                *parts.as_mut().expect("within an import") += 1;
                let facts = data.facts.unwrap();
                let name = facts[0]["name"].as_str().unwrap().to_owned();
                model.replay(event.data.get());
                if let Some(job_version) = data.job_version {
                    model.jobs.get_mut(&name).unwrap().version = job_version;
                }
            }
            "dev.fencepost.import.ended.v1" => {
                assert_eq!((parts.take(), Some(model.jobs.len())), (data.events, data.jobs));
                assert_eq!(data.digest, Some(model.digest()));
                assert_eq!(event.chainhash, chain);
                model.check_rules();
            }
            "dev.fencepost.changed.v1" => {
                assert!(parts.is_none(), "event {at}: a change within an import");
                assert_eq!((event.graphversion, event.ordinal), (version + 1, 0), "event {at}");
                chain = next(&chain, event.data.get());
                assert_eq!(chain, event.chainhash, "event {at}: its chain");
                version = model.replay(event.data.get());
                changes.push(version);
            }
            other => panic!("event {at} is a `{other}`"),
        }
    }
    assert!(parts.is_none(), "the log ends within an import");
    model.check_rules();
    Told { version, digest: model.digest(), chain, changes, imports }
}

fn next(chain: &str, data: &str) -> String {
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&chain[2 * at..2 * at + 2], 16).unwrap()).collect();
    fencepost::graph::hex(&Sha256::digest([&bytes, data.as_bytes()].concat()))
}
