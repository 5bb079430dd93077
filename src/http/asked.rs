//! A request that was read to its end. It is served here, or passed on to another node as it is.

use std::collections::BTreeMap;

use hyper::body::Bytes;

use super::headers::Headers;
use super::problem::Problem;
use crate::graph::Name;

/// What was asked, as it came.
pub struct Asked {
    /// In capitals.
    pub method: &'static str,
    /// Path and query, as they were sent.
    pub target: String,
    /// Decoded path segments.
    pub path: Vec<String>,
    /// Which of them the route's parameters are.
    pub parameters: Vec<(&'static str, usize)>,
    /// Decoded query parameters.
    pub query: BTreeMap<String, String>,
    /// Those that are read.
    pub headers: Headers,
    /// The media type that is to be answered.
    pub accepted: &'static str,
    /// The body.
    pub body: Bytes,
    /// Comes when the server is to end.
    pub shutdown: rocket::Shutdown,
}

impl Asked {
    /// Whether it asks what a write would do, and applies nothing.
    pub fn is_dry_run(&self) -> bool {
        matches!(self.query.get("dry_run").map(String::as_str), Some("true" | ""))
    }

    /// The name that the path gives as `parameter`.
    ///
    /// # Errors
    /// [`Problem`] if it is no name.
    pub fn name(&self, parameter: &str) -> Result<Name, Problem> {
        let (_, index) =
            self.parameters.iter().find(|(name, _)| *name == parameter).expect("the route has it");
        Name::new(&self.path[*index]).map_err(|invalid| Problem::invalid_name(parameter, &invalid))
    }
}
