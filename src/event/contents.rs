//! What the events at the beginning and at the end of an import say of the whole graph.

use serde::{Deserialize, Serialize};

use crate::object::{objects_both_ways, objects_only};

/// The totals of an import. Fields stand in the byte order of their names, so that what serde
/// writes is canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Contents {
    /// Only at the beginning, if an unfinished import came before this one and is to be discarded:
    /// the version that the unfinished one had reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abandons: Option<u64>,
    /// How many datasets, declared and implied.
    pub datasets: u64,
    /// The graph's digest.
    pub digest: String,
    /// How many edges.
    pub edges: u64,
    /// How many events come between the beginning and the end: one for each declared dataset and
    /// each job.
    pub events: u64,
    /// Only at the end: the hash over all parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<String>,
    /// How many jobs.
    pub jobs: u64,
    /// The graph's version.
    pub version: u64,
}

objects_both_ways!(Contents);

impl Contents {
    /// `abandons` in the data of an event that begins an import, if it can be read.
    pub(super) fn abandons_in(data: &str) -> Option<u64> {
        #[derive(Deserialize)]
        #[serde(remote = "Self")]
        struct Beginning {
            abandons: Option<u64>,
        }
        objects_only!(Beginning);
        serde_json::from_str::<Beginning>(data).ok()?.abandons
    }
}
