//! Plans that stop early, and what is upstream and downstream.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        All,
        upstream_and_downstream_have_all_that_is_reached_but_the_beginning,
        "What a job or dataset is made from, and what is made from it, is told in byte order \
         without itself."
    ),
    case!(
        All,
        depth_counts_jobs,
        "?depth=N goes N jobs far; 0 is nothing for a dataset, and a job's own datasets for a job."
    ),
    case!(
        All,
        a_plan_stops_at_the_datasets_that_it_is_told,
        "The search for producers ends at the datasets of `stop_at`, which are sources of the \
         plan; each must be there."
    ),
    case!(
        All,
        jobs_of_a_plan_keep_their_order_through_stop_at,
        "Jobs that are in a plan are ordered by what they read and write, where the search stops \
         too."
    ),
    case!(
        All,
        a_plan_is_drawn_as_accept_asks,
        "A plan comes as JSON, Graphviz or Mermaid, as Accept prefers, or is 406 not_acceptable."
    ),
];

fn reached(s: &Session<'_>, path: &str, jobs: Value, datasets: Value) -> Met {
    let answer = s.get(path).send()?.is(200)?;
    answer.tells(json!({"jobs": jobs, "datasets": datasets})).map(drop)
}

fn upstream_and_downstream_have_all_that_is_reached_but_the_beginning(s: &Session<'_>) -> Met {
    s.diamond()?;
    reached(
        s,
        &format!("{}/upstream", dataset("end")),
        json!(["final", "load", "report", "score \"1\""]),
        json!(["clean", "extra", "r", "raw", "s"]),
    )?;
    reached(
        s,
        &format!("{}/downstream", dataset("raw")),
        json!(["apart", "final", "load", "report", "score \"1\""]),
        json!(["clean", "end", "other", "r", "s"]),
    )?;
    s.get(&format!("{}/upstream", job("none"))).send()?.problem(404, "job_not_found")?;
    Ok(())
}

fn depth_counts_jobs(s: &Session<'_>) -> Met {
    s.diamond()?;
    let up = format!("{}/upstream", dataset("end"));
    reached(s, &format!("{up}?depth=0"), json!([]), json!([]))?;
    reached(s, &format!("{up}?depth=1"), json!(["final"]), json!(["r", "s"]))?;
    let down = format!("{}/downstream", job("load"));
    reached(s, &format!("{down}?depth=0"), json!([]), json!(["clean"]))?;
    let next = json!(["report", "score \"1\""]);
    reached(s, &format!("{down}?depth=1"), next, json!(["clean", "r", "s"]))?;
    for depth in ["-1", "x"] {
        s.get(&format!("{up}?depth={depth}")).send()?.malformed("depth")?;
    }
    Ok(())
}

fn a_plan_stops_at_the_datasets_that_it_is_told(s: &Session<'_>) -> Met {
    s.diamond()?;
    let stops = json!({
        "datasets": ["r", "other"], "jobs": ["final"], "stop_at": ["clean", "s"]
    });
    s.post("/plans", &stops).send()?.is(200)?.tells(json!({
        "targets": ["final", "other", "r"],
        "stages": [["apart", "report"], ["final"]],
        "dependencies": [["report", "final"]],
        "sources": ["clean", "extra", "raw", "s"]
    }))?;
    let at_target = s.post("/plans", &json!({"datasets": ["r"], "stop_at": ["r"]})).send()?;
    at_target.is(200)?.tells(json!({"targets": ["r"], "jobs": [], "sources": []}))?;
    let at_none = s.post("/plans", &json!({"datasets": ["end"], "stop_at": ["none"]})).send()?;
    at_none.problem(404, "dataset_not_found")?.tells(json!({"name": "none"}))?;
    Ok(())
}

fn jobs_of_a_plan_keep_their_order_through_stop_at(s: &Session<'_>) -> Met {
    s.diamond()?;
    let both = json!({"jobs": ["load", "report"], "stop_at": ["clean"]});
    s.post("/plans", &both).send()?.is(200)?.tells(json!({
        "stages": [["load"], ["report"]],
        "dependencies": [["load", "report"]],
        "sources": ["extra", "raw"]
    }))?;
    Ok(())
}

fn a_plan_is_drawn_as_accept_asks(s: &Session<'_>) -> Met {
    const GRAPHVIZ: &str = "text/vnd.graphviz";
    const MERMAID: &str = "text/vnd.mermaid";
    s.diamond()?;
    let plan = s.get(&format!("{}/plan", dataset("end")));
    let prefers_mermaid = format!("{GRAPHVIZ};q=0.4, {MERMAID};q=0.5");
    for (accept, media_type, begin) in [
        (GRAPHVIZ, GRAPHVIZ, "digraph"),
        (MERMAID, MERMAID, "flowchart"),
        ("*/*", "application/json", "{"),
        (&prefers_mermaid, MERMAID, "flowchart"),
    ] {
        let drawn = plan.clone().accept(accept).send()?.is(200)?.has_media_type(media_type)?;
        let begins = drawn.text().trim_start().starts_with(begin);
        drawn.must(begins, format_args!("a body that begins with `{begin}`"))?;
    }
    plan.accept("image/png").send()?.problem(406, "not_acceptable")?;
    Ok(())
}
