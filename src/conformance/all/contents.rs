//! A graph as a whole: its digest, and its snapshot.

use serde_json::{Value, json};

use crate::conformance::case::{Case, case};
use crate::conformance::session::{Session, dataset, job};
use crate::conformance::unmet::{Met, Unmet};

pub const CASES: &[Case] = &[
    case!(
        All,
        the_digest_is_the_hash_of_the_graph,
        "`digest` is the SHA-256 of the graph's lines, sorted by bytes, with hashes of canonical \
         JSON."
    ),
    case!(
        All,
        the_digest_is_equal_for_equal_graphs_whatever_their_history,
        "The digest comes back when the graph does; versions have no part in it."
    ),
    case!(
        All,
        a_snapshot_is_the_graph_at_one_version,
        "GET of a snapshot gives the whole graph as events, one a line, all of one version, with \
         its digest at the end."
    ),
    case!(
        All,
        a_snapshot_of_what_has_not_changed_is_the_same_bytes,
        "Two snapshots of one version are the same bytes."
    ),
];

fn digest(s: &Session<'_>, version: u64) -> Result<String, Unmet> {
    let answer = s.get("/digest").send()?.is(200)?;
    let answer = answer.tells(json!({"graph": s.graph(), "version": version}))?;
    let told = answer.object()?;
    let digest = told["digest"].as_str().map(str::to_owned);
    digest.ok_or_else(|| answer.broken("a text `digest`"))
}

fn same(what: &str, expected: &str, got: &str) -> Met {
    if expected == got {
        return Ok(());
    }
    Err(Unmet::Broken(format!("the digest {what}: expected {expected}, got {got}")))
}

fn the_digest_is_the_hash_of_the_graph(s: &Session<'_>) -> Met {
    s.create()?;
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    same("of an empty graph", empty, &digest(s, 0)?)?;
    s.given(&[("a", &["x"], &["y"])])?;
    let one_job = "879a05dffb3f45b4a3d8fea2f4f42fadbf68ad663d0e4d15eb7898272c7ff67b";
    same("of one job", one_job, &digest(s, 1)?)?;
    s.put(&dataset("d")).text(r#"{"metadata": { "k" : 1 }}"#).send()?.is(201)?;
    let declared = "a31504a6cbf5d409c395e96b487182ebaed75ac12aa21868b921c8d46f15454b";
    same("of a job and a declared dataset", declared, &digest(s, 2)?)
}

fn the_digest_is_equal_for_equal_graphs_whatever_their_history(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let before = digest(s, 1)?;
    s.given(&[("b", &["y"], &[])])?;
    let between = digest(s, 2)?;
    if between == before {
        return Err(Unmet::Broken(format!("the digest of another graph is {before} too")));
    }
    s.delete(&job("b")).send()?.is(200)?;
    same("of the same graph, two versions later", &before, &digest(s, 3)?)
}

fn a_snapshot_is_the_graph_at_one_version(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("b", &["y"], &["z"]), ("a", &["x"], &["y"])])?;
    s.put(&dataset("d")).send()?.is(201)?;
    let whole = digest(s, 3)?;
    let answer = s.get("/snapshot").send()?.is(200)?.has_media_type("application/x-ndjson")?;
    let answer = answer.has("Fencepost-Version", Some("3"))?;
    let parsed: Result<Vec<Value>, _> =
        answer.text().lines().map(serde_json::from_str::<Value>).collect();
    let Ok(lines) = parsed else { return Err(answer.broken("one JSON object a line")) };
    let of_one_version = lines.iter().all(|line| line["graphversion"] == 3);
    let answer = answer.must(of_one_version, "`graphversion` 3 in every line")?;
    let facts: Vec<&Value> =
        lines.iter().filter_map(|line| line["data"]["facts"].as_array()).flatten().collect();
    let named = |name: &str| facts.iter().filter(|fact| fact["name"] == name).count();
    let each_once = lines.len() == 5 && ["a", "b", "d"].iter().all(|name| named(name) == 1);
    let answer = answer
        .must(each_once, "five lines, of which one each has a fact of `a`, of `b` and of `d`")?;
    let told = lines[4]["data"]["digest"].clone();
    answer.must(told == whole.as_str(), format_args!("the digest {whole} in the last line"))?;
    Ok(())
}

fn a_snapshot_of_what_has_not_changed_is_the_same_bytes(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("b", &["y"], &["z"]), ("a", &["x"], &["y"])])?;
    let first = s.get("/snapshot").send()?.is(200)?;
    s.put_job("a", &["x"], &["y"]).send()?.is(200)?;
    let second = s.get("/snapshot").send()?.is(200)?;
    let same = first.body == second.body;
    second.must(same, "the bytes of the first time").map(drop)
}
