//! The digest of a graph: equal for equal graphs, whatever their history.

use super::flat::FlatGraph;
use super::graph::Graph;

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
    /// Lower-case hex SHA-256 over one line for each declared dataset, job and edge, sorted as
    /// bytes, each ended by LF: `dataset TAB name TAB sha256(metadata)`, `in TAB job TAB dataset`,
    /// `job TAB name TAB sha256(spec)`, `out TAB job TAB dataset`.
    ///
    /// O(n) for n jobs, datasets and edges. Names hold no byte as small as TAB, so lines in the
    /// order of names are sorted.
    #[must_use]
    pub fn digest(&self) -> String {
        FlatGraph::of(self).digest()
    }
}
