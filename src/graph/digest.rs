//! The digest of a graph: equal for equal graphs, whatever their history.

use std::ops::Bound;

use sha2::{Digest, Sha256};

use super::adjacency::Graph;
use super::json::CanonicalJson;

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

impl Graph {
    /// Lower-case hex SHA-256 over one line for each declared dataset, job and edge, sorted as bytes, each ended by LF:
    /// `dataset TAB name TAB sha256(metadata)`, `in TAB job TAB dataset`, `job TAB name TAB sha256(spec)`, `out TAB job TAB dataset`.
    ///
    /// O(n) for n jobs, datasets and edges. Names hold no byte as small as TAB, so lines in the order of names are sorted.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut line = |parts: &[&str]| {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    hash.update("\t");
                }
                hash.update(part);
            }
            hash.update("\n");
        };
        for dataset in self.datasets_from(Bound::Unbounded) {
            if let Some(metadata) = dataset.metadata() {
                line(&["dataset", dataset.name().as_str(), &of_json(metadata)]);
            }
        }
        for job in self.jobs_from(Bound::Unbounded) {
            for dataset in job.inputs() {
                line(&["in", job.name().as_str(), dataset.as_str()]);
            }
        }
        for job in self.jobs_from(Bound::Unbounded) {
            line(&["job", job.name().as_str(), &of_json(job.spec())]);
        }
        for job in self.jobs_from(Bound::Unbounded) {
            for dataset in job.outputs() {
                line(&["out", job.name().as_str(), dataset.as_str()]);
            }
        }
        hex(&hash.finalize())
    }
}

fn of_json(json: &CanonicalJson) -> String {
    hex(&Sha256::digest(json.as_str()))
}
