//! What a client has seen and may come back to: versions of jobs, a page that has a next one, a
//! write that it may send again, and that the graph is gone.

use std::collections::HashMap;

use serde::Deserialize;

use super::request::{Listed, Outcome, PageBefore, Request};
use crate::graph::Name;
use crate::object::objects_only;

/// Of one client.
#[derive(Default)]
pub struct Seen {
    /// Versions of jobs that were read.
    pub versions: HashMap<Name, u64>,
    /// The next page of a list.
    pub next_page: Option<Request>,
    /// The last write that had a key.
    pub keyed: Option<(String, Request)>,
    /// Whether the graph was not there, when it was last asked for.
    pub is_gone: bool,
}

/// An item of a page.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Item {
    name: String,
}

objects_only!(Item);

impl Seen {
    /// Takes note of what a request was answered.
    pub fn learn(&mut self, request: &Request, outcome: &Outcome) {
        match request {
            Request::Keyed { key, write } => {
                self.keyed = Some((key.clone(), (**write).clone()));
            }
            Request::Page { of, limit, .. } => {
                self.next_page = next_page(*of, *limit, outcome);
            }
            _ => {}
        }
        match outcome {
            Outcome::Rejected { name, .. } if name == "graph_not_found" => self.is_gone = true,
            Outcome::Accepted(_) => self.is_gone = false,
            _ => {}
        }
    }

    /// Takes note of the version that a job was answered with.
    pub fn learn_version(&mut self, request: &Request, outcome: &Outcome) {
        if let (Request::Job { name, .. }, Outcome::Answered { answer, .. }) = (request, outcome)
            && let Some(version) = answer.member("version")
        {
            self.versions.insert(name.clone(), version);
        }
    }
}

fn next_page(of: Listed, limit: usize, outcome: &Outcome) -> Option<Request> {
    let Outcome::Answered { answer, .. } = outcome else { return None };
    let cursor = answer.member::<Option<String>>("next_cursor")??;
    let items: Vec<Item> = answer.member("items")?;
    let last = Name::new(&items.last()?.name).ok()?;
    let after = PageBefore { last, cursor };
    Some(Request::Page { of, limit, after: Some(after) })
}
