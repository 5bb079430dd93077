//! WfCommons' workflow JSON (<https://wfcommons.org/format>), schema 1.5 and 1.6: the tasks of a
//! specification as jobs.
//!
//! A parent that shares no file with its child gets a control dataset `PARENT->CHILD`, so that the
//! order is kept. A job's `spec` is the task without what has become names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::item::{Bad, Item, Place};
use crate::graph::{CanonicalJson, JobSpecification, Name};
use crate::object::objects_only;

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Document<'t> {
    #[serde(rename = "schemaVersion")]
    schema_version: String,
    #[serde(borrow)]
    workflow: Workflow<'t>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Workflow<'t> {
    #[serde(borrow)]
    specification: Specification<'t>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Specification<'t> {
    #[serde(borrow)]
    tasks: Vec<&'t RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
struct Links {
    id: String,
    #[serde(default)]
    input_files: Vec<String>,
    #[serde(default)]
    output_files: Vec<String>,
    #[serde(default)]
    parents: Vec<String>,
}

objects_only!(Document<'t>, Workflow<'t>, Specification<'t>, Links);

/// What of a task is told by names and edges.
const LINK_FIELDS: [&str; 5] = ["id", "inputFiles", "outputFiles", "parents", "children"];

const SCHEMA_VERSIONS: [&str; 2] = ["1.5", "1.6"];

struct Task {
    line: usize,
    bytes: usize,
    id: String,
    inputs: BTreeSet<String>,
    outputs: BTreeSet<String>,
    parents: Vec<String>,
    spec: CanonicalJson,
}

/// The jobs of a document, their names and those of their datasets prefixed with `prefix`; or the
/// one thing that is wrong with it.
pub(super) fn read(
    path: &Arc<Path>,
    mut input: impl Read,
    prefix: &str,
) -> io::Result<vec::IntoIter<Result<Item, Bad>>> {
    let mut text = Vec::new();
    input.read_to_end(&mut text)?;
    let items: Vec<Result<Item, Bad>> = match jobs(path, &text, prefix) {
        Ok(items) => items.into_iter().map(Ok).collect(),
        Err(bad) => vec![Err(bad)],
    };
    Ok(items.into_iter())
}

fn jobs(path: &Arc<Path>, text: &[u8], prefix: &str) -> Result<Vec<Item>, Bad> {
    let place = |line: usize| Place { path: Arc::clone(path), line };
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = 1 + count_lines(&text[..error.valid_up_to()]);
        Bad { place: place(line), reason: "no WfFormat document: it is not UTF-8".to_owned() }
    })?;
    let begin = text.trim_ascii_start();
    if begin.starts_with('[') {
        let line = 1 + count_lines(&text.as_bytes()[..text.len() - begin.len()]);
        let reason = "no WfFormat document: expected an object, found a list".to_owned();
        return Err(Bad { place: place(line), reason });
    }
    let document: Document<'_> = serde_json::from_str(text).map_err(|error| Bad {
        place: place(error.line()),
        reason: format!("no WfFormat document: {error}"),
    })?;
    if !SCHEMA_VERSIONS.contains(&document.schema_version.as_str()) {
        let reason = format!(
            "schemaVersion is {}, not {}",
            document.schema_version,
            SCHEMA_VERSIONS.join(" or ")
        );
        return Err(Bad { place: place(1), reason });
    }
    let mut lines = LineCounter { text, at: 0, line: 1 };
    let mut tasks = Vec::new();
    for raw in document.workflow.specification.tasks {
        let line = lines.line_of(raw.get());
        tasks.push(read_task(raw, line).map_err(|reason| Bad { place: place(line), reason })?);
    }
    link_parents(&mut tasks).map_err(|(line, reason)| Bad { place: place(line), reason })?;

    let item = |task: Task| {
        let name = |text: &String| {
            Name::new(&format!("{prefix}{text}")).map_err(|error| format!("`{text}`: {error}"))
        };
        let names =
            |texts: &BTreeSet<String>| texts.iter().map(name).collect::<Result<Vec<_>, _>>();
        let job = || {
            let (inputs, outputs) = (names(&task.inputs)?, names(&task.outputs)?);
            Ok(JobSpecification { name: name(&task.id)?, inputs, outputs, spec: task.spec.clone() })
        };
        let place = place(task.line);
        match job() {
            Ok(job) => Ok(Item { place, job, bytes: task.bytes, replaces: false }),
            Err(reason) => Err(Bad { place, reason }),
        }
    };
    tasks.into_iter().map(item).collect()
}

fn read_task(raw: &RawValue, line: usize) -> Result<Task, String> {
    let canonical =
        CanonicalJson::from_raw(raw).map_err(|error| format!("the task is not kept: {error}"))?;
    let links: Links = serde_json::from_str(canonical.as_str()).map_err(|error| {
        let text = error.to_string();
        format!("no task: {}", text.split(" at line").next().unwrap_or(&text))
    })?;
    let mut rest: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(canonical.as_str()).map_err(|error| error.to_string())?;
    rest.retain(|field, _| !LINK_FIELDS.contains(&field.as_str()));
    let spec = serde_json::to_string(&rest).map_err(|error| error.to_string())?;
    Ok(Task {
        line,
        bytes: raw.get().len(),
        id: links.id,
        inputs: links.input_files.into_iter().collect(),
        outputs: links.output_files.into_iter().collect(),
        parents: links.parents,
        spec: CanonicalJson::from_canonical(spec),
    })
}

/// Gives every parent without a shared file a control dataset.
fn link_parents(tasks: &mut [Task]) -> Result<(), (usize, String)> {
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (i, task) in tasks.iter().enumerate() {
        if by_id.insert(task.id.clone(), i).is_some() {
            return Err((task.line, format!("the task id `{}` is given twice", task.id)));
        }
    }
    for child in 0..tasks.len() {
        for parent in tasks[child].parents.clone() {
            let Some(&before) = by_id.get(&parent) else {
                return Err((
                    tasks[child].line,
                    format!("the parent `{parent}` is no task of this document"),
                ));
            };
            if tasks[before].outputs.is_disjoint(&tasks[child].inputs) {
                let control = format!("{parent}->{}", tasks[child].id);
                tasks[before].outputs.insert(control.clone());
                tasks[child].inputs.insert(control);
            }
        }
    }
    Ok(())
}

fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Counts lines up to parts of a text, in the order in which they come.
struct LineCounter<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl LineCounter<'_> {
    fn line_of(&mut self, part: &str) -> usize {
        let at = (part.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .clamp(self.at, self.text.len());
        self.line += count_lines(&self.text.as_bytes()[self.at..at]);
        self.at = at;
        self.line
    }
}
