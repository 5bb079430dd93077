//! Plans, and what lies upstream and downstream. Computed on an image, beside the turns.

use std::fmt::Write as _;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::call::Call;
use super::problem::Problem;
use super::reply::Reply;
use crate::graph::{Direction, Name, Origin, Plan, PlanRequest, Reachable};
use crate::object::objects_only;

/// The media types of a plan, the default first.
pub const MEDIA_TYPES: [&str; 3] = ["application/json", "text/vnd.graphviz", "text/vnd.mermaid"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct PlanWire {
    #[serde(default)]
    datasets: Vec<String>,
    #[serde(default)]
    jobs: Vec<String>,
    #[serde(default)]
    stop_at: Vec<String>,
}

objects_only!(PlanWire);

/// A plan as JSON.
#[derive(Serialize)]
pub struct PlanBody<'p> {
    graph: &'p Name,
    version: u64,
    targets: &'p [Name],
    #[serde(serialize_with = "end_to_end")]
    jobs: &'p [Vec<Name>],
    stages: &'p [Vec<Name>],
    dependencies: &'p [(Name, Name)],
    sources: &'p [Name],
    digest: &'p str,
}

impl<'p> PlanBody<'p> {
    /// The plan of `graph` at `version`.
    #[must_use]
    pub fn new(graph: &'p Name, version: u64, plan: &'p Plan) -> Self {
        Self {
            graph,
            version,
            targets: &plan.targets,
            jobs: &plan.stages,
            stages: &plan.stages,
            dependencies: &plan.dependencies,
            sources: &plan.sources,
            digest: &plan.digest,
        }
    }
}

fn end_to_end<S: Serializer>(stages: &&[Vec<Name>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut jobs = serializer.serialize_seq(None)?;
    for job in stages.iter().flatten() {
        jobs.serialize_element(job)?;
    }
    jobs.end()
}

/// `GET …/datasets/{dataset}/plan`
pub async fn of_dataset(call: Call) -> Result<Reply, Problem> {
    let request = PlanRequest { datasets: vec![call.name("dataset")?], ..PlanRequest::default() };
    plan(call, request).await
}

/// `GET …/jobs/{job}/plan`
pub async fn of_job(call: Call) -> Result<Reply, Problem> {
    let request = PlanRequest { jobs: vec![call.name("job")?], ..PlanRequest::default() };
    plan(call, request).await
}

/// `POST …/plans`
pub async fn of_many(call: Call) -> Result<Reply, Problem> {
    let wire: PlanWire = call.json()?;
    let request = PlanRequest {
        datasets: names("datasets", &wire.datasets)?,
        jobs: names("jobs", &wire.jobs)?,
        stop_at: names("stop_at", &wire.stop_at)?,
    };
    if request.datasets.is_empty() && request.jobs.is_empty() {
        return Err(Problem::malformed("datasets", "name at least one dataset or job to plan for"));
    }
    plan(call, request).await
}

fn names(field: &str, texts: &[String]) -> Result<Vec<Name>, Problem> {
    let name = |(i, text): (usize, &String)| {
        Name::new(text).map_err(|invalid| Problem::invalid_name(&format!("{field}[{i}]"), &invalid))
    };
    texts.iter().enumerate().map(name).collect()
}

async fn plan(call: Call, request: PlanRequest) -> Result<Reply, Problem> {
    let (graph, image) = call.image().await?;
    let limit = call.app.limits.plan_jobs;
    call.app
        .clone()
        .compute(move || {
            let version = image.key.version;
            let plan = image.graph.plan(&request, limit);
            let plan = plan.map_err(|error| Problem::unanswered(&graph, version, error))?;
            let reply = call.read_answer(version, version, || match call.asked.accepted {
                "text/vnd.graphviz" => {
                    Reply::text(call.asked.accepted, graphviz(&plan).into_bytes())
                }
                "text/vnd.mermaid" => Reply::text(call.asked.accepted, mermaid(&plan).into_bytes()),
                _ => Reply::json(&PlanBody::new(&graph, version, &plan)),
            });
            Ok(reply.with("Vary", "Accept".to_owned()))
        })
        .await?
}

/// The plan in Graphviz' DOT language.
#[must_use]
pub fn graphviz(plan: &Plan) -> String {
    let quote =
        |name: &Name| format!("\"{}\"", name.as_str().replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for stage in &plan.stages {
        let jobs: Vec<String> = stage.iter().map(quote).collect();
        let _ = writeln!(text, "  {{ rank=same; {} }}", jobs.join("; "));
    }
    for (before, after) in &plan.dependencies {
        let _ = writeln!(text, "  {} -> {};", quote(before), quote(after));
    }
    text + "}\n"
}

/// The plan as a Mermaid flowchart. Mermaid's own characters in names are written as entities.
#[must_use]
pub fn mermaid(plan: &Plan) -> String {
    let label = |name: &Name| {
        name.as_str().chars().fold(String::new(), |mut text, character| {
            if character.is_alphanumeric() || " ._/@:-".contains(character) {
                text.push(character);
            } else {
                let _ = write!(text, "#{};", character as u32);
            }
            text
        })
    };
    let jobs = plan.stages.iter().flatten().enumerate();
    let number: std::collections::HashMap<&Name, usize> =
        jobs.clone().map(|(number, job)| (job, number)).collect();
    let mut text = "flowchart LR\n".to_owned();
    for (number, job) in jobs {
        let _ = writeln!(text, "  j{number}[\"{}\"]", label(job));
    }
    for (before, after) in &plan.dependencies {
        let _ = writeln!(text, "  j{} --> j{}", number[before], number[after]);
    }
    text
}

/// `GET …/datasets/{dataset}/upstream` and `/downstream`
pub async fn around_dataset(call: Call, direction: Direction) -> Result<Reply, Problem> {
    let origin = Origin::Dataset(call.name("dataset")?);
    reach(call, origin, direction).await
}

/// `GET …/jobs/{job}/upstream` and `/downstream`
pub async fn around_job(call: Call, direction: Direction) -> Result<Reply, Problem> {
    let origin = Origin::Job(call.name("job")?);
    reach(call, origin, direction).await
}

async fn reach(call: Call, origin: Origin, direction: Direction) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    struct ReachBody<'r> {
        jobs: &'r [Name],
        datasets: &'r [Name],
    }
    let depth = call.number("depth")?.map(|depth| usize::try_from(depth).unwrap_or(usize::MAX));
    let (graph, image) = call.image().await?;
    let limit = call.app.limits.reachable_names;
    call.app
        .clone()
        .compute(move || {
            let version = image.key.version;
            let reached = image.graph.reachable(&origin, direction, depth, limit);
            let Reachable { jobs, datasets } =
                reached.map_err(|error| Problem::unanswered(&graph, version, error))?;
            Ok(call.read_answer(version, version, || {
                Reply::json(&ReachBody { jobs: &jobs, datasets: &datasets })
            }))
        })
        .await?
}
