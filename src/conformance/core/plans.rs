//! Plans of a dataset, of a job, and of several.

use serde_json::json;

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::Met;

pub const CASES: &[Case] = &[
    case!(
        Core,
        the_plan_of_a_dataset_has_the_jobs_it_needs_and_no_others,
        "A plan has the producers of its target, their producers and so on; `jobs` is its stages \
         laid end to end."
    ),
    case!(
        Core,
        a_plan_has_stages_dependencies_and_sources_in_byte_order,
        "`stages`, `dependencies`, `sources` and `targets` of a plan are sorted by bytes; sources \
         are the datasets that no job of the plan writes."
    ),
    case!(
        Core,
        the_digest_of_a_plan_is_the_hash_of_its_lines,
        "`digest` is the SHA-256 of the lines `job TAB stage TAB name` and `dep TAB before TAB \
         after`, in the order of the plan."
    ),
    case!(
        Core,
        the_stage_of_a_job_is_its_longest_chain,
        "A job stands in the stage after the last one that has a job it reads from."
    ),
    case!(
        Core,
        the_plan_of_a_source_is_empty_and_of_nothing_is_a_404,
        "The plan of a dataset that no job writes is empty; a target that is not there is a 404, \
         and a job is no dataset."
    ),
];

fn the_plan_of_a_dataset_has_the_jobs_it_needs_and_no_others(s: &Session<'_>) -> Met {
    s.diamond()?;
    let plan = s.get(&format!("{}/plan", dataset("end"))).send()?.is(200)?;
    plan.tells(json!({
        "graph": s.graph(), "version": 5,
        "jobs": ["load", "report", "score \"1\"", "final"]
    }))?;
    Ok(())
}

fn a_plan_has_stages_dependencies_and_sources_in_byte_order(s: &Session<'_>) -> Met {
    s.diamond()?;
    let plan = s.get(&format!("{}/plan", dataset("end"))).send()?.is(200)?;
    plan.tells(json!({
        "targets": ["end"],
        "stages": [["load"], ["report", "score \"1\""], ["final"]],
        "dependencies": [
            ["load", "report"], ["load", "score \"1\""], ["report", "final"],
            ["score \"1\"", "final"]
        ],
        "sources": ["extra", "raw"]
    }))?;
    Ok(())
}

fn the_digest_of_a_plan_is_the_hash_of_its_lines(s: &Session<'_>) -> Met {
    s.diamond()?;
    let plan = s.get(&format!("{}/plan", dataset("end"))).send()?.is(200)?;
    let digest = "12680884f476aa593f38af52ea6661dbb3413c851a158ea7c3ca32f650a1b64e";
    plan.tells(json!({"digest": digest}))?;
    Ok(())
}

fn the_stage_of_a_job_is_its_longest_chain(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[
        ("extract", &["source"], &["raw"]),
        ("clean", &["raw"], &["c"]),
        ("report", &["c", "raw"], &["out"]),
    ])?;
    let stages = json!({"stages": [["extract"], ["clean"], ["report"]]});
    let of_several = s.post("/plans", &json!({"datasets": ["out"]})).send()?.is(200)?;
    of_several.tells(stages.clone())?.tells(json!({"targets": ["out"]}))?;
    let of_job = s.get(&format!("{}/plan", job("report"))).send()?.is(200)?;
    of_job.tells(stages)?.tells(json!({"targets": ["report"]}))?;
    Ok(())
}

fn the_plan_of_a_source_is_empty_and_of_nothing_is_a_404(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["raw"], &["x"])])?;
    let empty = json!({"jobs": [], "stages": [], "dependencies": [], "sources": []});
    s.get(&format!("{}/plan", dataset("raw"))).send()?.is(200)?.tells(empty)?;
    let of_none = s.get(&format!("{}/plan", dataset("none"))).send()?;
    of_none.problem(404, "dataset_not_found")?.tells(json!({"name": "none"}))?;
    s.get(&format!("{}/plan", job("none"))).send()?.problem(404, "job_not_found")?;
    let of_dataset = s.post("/plans", &json!({"jobs": ["x"]})).send()?;
    of_dataset.problem(404, "job_not_found")?.tells(json!({"name": "x"}))?;
    Ok(())
}
