//! A history of many graphs, taken apart into one of each: what is answered about one graph says
//! nothing of another, so each is judged by itself.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Chain, Cursor, Read as _};

use serde::Deserialize;
use serde_json::{Value, json};

use super::history::InputError;
use crate::object::objects_only;

/// A history of one graph, or of many.
pub enum Parts<R> {
    /// Of one: as it is, with the line that was looked at.
    One(Chain<Cursor<Vec<u8>>, R>),
    /// Of many: of each graph the lines of a history.
    Many(BTreeMap<String, Vec<u8>>),
}

/// What is looked at of the first line.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Start {
    #[serde(default)]
    graphs: Value,
}

/// What is looked at of the others.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Line {
    event: Option<String>,
    id: Option<u64>,
    graph: Option<String>,
    time_ns: Option<u64>,
    invoke: Option<u64>,
    ok: Option<u64>,
    fail: Option<u64>,
    info: Option<u64>,
}

objects_only!(Start, Line);

/// The lines of one graph.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    /// Lines of `invoke`, `ok`, `fail`, `info`.
    counts: [u64; 4],
}

const EVENTS: [&str; 4] = ["invoke", "ok", "fail", "info"];

/// Looks at the first line, and takes the history apart if it is of many graphs. O(length), and as
/// much memory if it is.
///
/// # Errors
/// [`InputError`] with the line that is wrong. What is wrong in a history of one graph is found by
/// whoever reads it.
pub fn parts<R: BufRead>(name: &str, mut lines: R) -> Result<Parts<R>, InputError> {
    let failed =
        |error: std::io::Error| InputError::File { file: name.to_owned(), what: error.to_string() };
    let mut first = Vec::new();
    lines.read_until(b'\n', &mut first).map_err(failed)?;
    let start: Option<Start> = serde_json::from_slice(&first).ok();
    let graphs = start.map_or(Value::Null, |start| start.graphs);
    if !graphs.is_null() && !graphs.is_u64() {
        let what = "`graphs` must be how many graphs there are, a number".to_owned();
        return Err(InputError::Line { file: name.to_owned(), line: 1, what });
    }
    if graphs.is_null() {
        return Ok(Parts::One(Cursor::new(first).chain(lines)));
    }
    let start: Value = serde_json::from_slice(&first).expect("it was read just now");
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    // By the ids of requests; none of one that has ended.
    let mut graphs: HashMap<u64, Option<String>> = HashMap::new();
    let mut text = Vec::new();
    let mut number = 1;
    let mut end: Option<Line> = None;
    loop {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(failed)? == 0 {
            break;
        }
        number += 1;
        let at = |what: &str| InputError::Line {
            file: name.to_owned(),
            line: number,
            what: what.to_owned(),
        };
        let line: Line =
            serde_json::from_slice(&text).map_err(|_| at("no line of a history of many graphs"))?;
        if end.is_some() {
            return Err(at("the history goes on after its end"));
        }
        let event = line.event.as_deref().unwrap_or_default();
        if event == "end" {
            end = Some(line);
            continue;
        }
        let kind = EVENTS.iter().position(|known| *known == event);
        let kind = kind.ok_or_else(|| at("no event of a history"))?;
        let id = line.id.ok_or_else(|| at("id is missing"))?;
        let graph = match kind {
            0 => {
                let graph = line.graph.ok_or_else(|| at("graph is missing"))?;
                if graphs.insert(id, Some(graph.clone())).is_some() {
                    return Err(at(&format!("id {id} comes twice")));
                }
                graph
            }
            _ => {
                let graph = graphs.get_mut(&id).and_then(Option::take);
                graph.ok_or_else(|| at(&format!("id {id} is of no request under way")))?
            }
        };
        let part = parts.entry(graph).or_default();
        part.text.extend_from_slice(&text);
        part.counts[kind] += 1;
    }
    let Some(end) = end else {
        let what = "has no last line: the run was cut off, and nothing can be judged by it";
        return Err(InputError::File { file: name.to_owned(), what: what.to_owned() });
    };
    let told = [end.invoke, end.ok, end.fail, end.info];
    let found =
        std::array::from_fn(|kind| Some(parts.values().map(|part| part.counts[kind]).sum()));
    if told != found {
        let what = format!("the last line tells of {told:?} lines, and there are {found:?}");
        return Err(InputError::File { file: name.to_owned(), what });
    }
    let whole = |(graph, part): (String, Part)| {
        let mut start = start.clone();
        start["graph"] = json!(graph);
        // They were new, whatever the run's own graph was.
        start["initial_version"] = json!(0);
        let [invoke, ok, fail, info] = part.counts;
        let end = json!({
            "event": "end",
            "time_ns": end.time_ns,
            "invoke": invoke,
            "ok": ok,
            "fail": fail,
            "info": info,
        });
        let (start, end) = (format!("{start}\n"), format!("{end}\n"));
        let text = [start.as_bytes(), &part.text, end.as_bytes()].concat();
        (graph, text)
    };
    Ok(Parts::Many(parts.into_iter().map(whole).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::{Evidence, Kind, Verdict};
    use super::*;

    const START: &str =
        r#"{"event":"start","format":1,"graph":"g","graphs":2,"initial_version":9}"#;

    fn put(id: u64, graph: &str, job: &str) -> String {
        json!({"event": "invoke", "process": id, "id": id, "time_ns": 10 * id, "graph": graph,
               "request": {"call": "putJob", "operations": [{"op": "put_job", "name": job,
               "inputs": [], "outputs": ["d"], "spec": {}}]}})
        .to_string()
    }

    fn made(id: u64, version: u64) -> String {
        json!({"event": "ok", "process": id, "id": id, "time_ns": 10 * id + 5, "verdict": "accepted",
               "version": version, "changed": true, "created": true})
        .to_string()
    }

    fn end(count: u64) -> String {
        json!({"event": "end", "time_ns": 1_000, "invoke": count, "ok": count, "fail": 0, "info": 0})
            .to_string()
    }

    fn verdicts(lines: &[String]) -> Result<Vec<(String, Verdict)>, InputError> {
        let text = lines.join("\n") + "\n";
        let Parts::Many(parts) = parts("h", text.as_bytes())? else { panic!("it is of many") };
        let judged = parts.into_iter().map(|(graph, text)| {
            let mut evidence = Evidence::default();
            evidence.history(&graph, &text[..]).unwrap();
            (graph, evidence.judge())
        });
        Ok(judged.collect())
    }

    #[test]
    fn each_graph_is_judged_by_itself() {
        // Two jobs that write one dataset, which one graph forbids.
        let apart = [put(1, "g-0", "a"), put(2, "g-1", "b"), made(2, 1), made(1, 1)];
        let lines = [&[START.to_owned()], &apart[..], &[end(2)]].concat();
        let found = verdicts(&lines).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(_, verdict)| matches!(verdict, Verdict::Valid(_))), "{found:?}");
        let together = [put(1, "g-0", "a"), made(1, 1), put(2, "g-0", "b"), made(2, 2)];
        let lines = [&[START.to_owned()], &together[..], &[end(2)]].concat();
        let found = verdicts(&lines).unwrap();
        let [(graph, Verdict::Found(finding))] = &found[..] else { panic!("{found:?}") };
        assert_eq!((graph.as_str(), finding.kind), ("g-0", Kind::IllegalAccept));
    }

    #[test]
    fn what_is_no_whole_history_of_many_graphs_is_refused() {
        let said = |lines: &[String]| verdicts(lines).unwrap_err().to_string();
        let start = START.to_owned();
        let one = put(1, "g-0", "a");
        assert!(said(&[start.clone(), one.clone()]).contains("has no last line"));
        let bare = one.replace("\"graph\":\"g-0\",", "");
        assert!(said(&[start.clone(), bare]).contains("graph is missing"));
        assert!(said(&[start.clone(), made(1, 1)]).contains("id 1 is of no request under way"));
        assert!(said(&[start.clone(), one.clone(), one]).contains("id 1 comes twice"));
        let twice = [put(1, "g-0", "a"), made(1, 1), made(1, 1)];
        assert!(
            said(&[std::slice::from_ref(&start), &twice[..]].concat())
                .contains("no request under way")
        );
        for other in [r#""2""#, r#"["g-0"]"#] {
            let start = START.replace("\"graphs\":2", &format!("\"graphs\":{other}"));
            let whole = [start, put(1, "g-0", "a"), made(1, 1), end(1)];
            assert!(said(&whole).contains("`graphs` must be"), "{other}");
        }
        let cut = [start.clone(), put(1, "g-0", "a"), made(1, 1), end(2)];
        assert!(said(&cut).contains("the last line tells of"));
        let more = [start.clone(), end(0), put(1, "g-0", "a")];
        assert!(said(&more).contains("goes on after its end"));
        assert!(said(&[start, "[]".to_owned()]).contains("no line of a history"));
    }
}
