//! Histories written by hand.

use fencepost::check::{Evidence, Finding, InputError, Summary, Verdict};
use serde_json::{Value, json};

/// A history, one call after another.
pub struct Script {
    pub lines: Vec<Value>,
    pub initial_version: u64,
    pub end: Value,
    frozen: bool,
    ids: u64,
}

impl Script {
    pub fn new() -> Self {
        Self { lines: Vec::new(), initial_version: 0, end: json!({}), frozen: false, ids: 0 }
    }

    /// A call of `process`, sent and answered at these milliseconds.
    pub fn call(mut self, process: u64, ms: [u64; 2], request: Value, end: Value) -> Self {
        let line = |ms: u64| json!({"process": process, "id": self.ids, "time_ns": ms * 1_000_000});
        let (mut invoke, mut complete) = (line(ms[0]), line(ms[1]));
        invoke["event"] = json!("invoke");
        invoke["request"] = request;
        complete.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        self.lines.extend([invoke, complete]);
        self.ids += 1;
        self
    }

    /// Somebody is known to have frozen the graph.
    pub fn frozen(mut self) -> Self {
        self.frozen = true;
        self
    }

    pub fn beginning_at(mut self, version: u64) -> Self {
        self.initial_version = version;
        self
    }

    pub fn ending_with(mut self, version: u64, digest: &str) -> Self {
        self.end = json!({"final_version": version, "final_digest": digest});
        self
    }

    pub fn text(&self) -> String {
        let start = json!({"event": "start", "format": 1, "graph": "g", "initial_version": self.initial_version});
        let count = |event: &str| self.lines.iter().filter(|line| line["event"] == event).count();
        let mut end = json!({
            "event": "end", "time_ns": 1_000_000_000_u64, "invoke": count("invoke"),
            "ok": count("ok"), "fail": count("fail"), "info": count("info"),
        });
        end.as_object_mut().unwrap().extend(self.end.as_object().unwrap().clone());
        let lines = [start].into_iter().chain(self.lines.iter().cloned()).chain([end]);
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[track_caller]
    pub fn found(&self) -> Finding {
        found(self.judge(None))
    }

    #[track_caller]
    pub fn found_with_log(&self, log: &[Value]) -> Finding {
        found(self.judge(Some(&lines(log))))
    }

    #[track_caller]
    pub fn valid(&self) -> Summary {
        valid(self.judge(None))
    }

    #[track_caller]
    pub fn valid_with_log(&self, log: &[Value]) -> Summary {
        valid(self.judge(Some(&lines(log))))
    }

    /// What is said of it with `text` in the place of `mark`.
    #[track_caller]
    pub fn judge_with(&self, mark: &str, text: &str) -> Verdict {
        self.judge_text(&self.text().replace(mark, text), None)
    }

    #[track_caller]
    fn judge(&self, log: Option<&str>) -> Verdict {
        self.judge_text(&self.text(), log)
    }

    #[track_caller]
    fn judge_text(&self, text: &str, log: Option<&str>) -> Verdict {
        let mut evidence = evidence(&[text], log).unwrap();
        if self.frozen {
            evidence.frozen();
        }
        evidence.judge()
    }
}

/// Judges histories, as files `1.ndjson` and so on, and a change log.
pub fn judge(histories: &[&str], log: Option<&str>) -> Result<Verdict, InputError> {
    Ok(evidence(histories, log)?.judge())
}

/// The same of histories of a graph that somebody is known to have frozen.
pub fn judge_frozen(histories: &[&str]) -> Verdict {
    let mut evidence = evidence(histories, None).unwrap();
    evidence.frozen();
    evidence.judge()
}

/// The same with the graph that the histories begin with.
pub fn judge_from(base: &str, histories: &[&str]) -> Result<Verdict, InputError> {
    let mut evidence = evidence(histories, None)?;
    evidence.base("base.ndjson", base.as_bytes())?;
    Ok(evidence.judge())
}

/// The same of one history with the change log after that graph.
pub fn judge_from_with_log(base: &str, history: &str, log: &str) -> Verdict {
    let mut evidence = evidence(&[history], Some(log)).unwrap();
    evidence.base("base.ndjson", base.as_bytes()).unwrap();
    evidence.judge()
}

fn evidence(histories: &[&str], log: Option<&str>) -> Result<Evidence, InputError> {
    let mut evidence = Evidence::default();
    for (text, number) in histories.iter().zip(1..) {
        evidence.history(&format!("{number}.ndjson"), text.as_bytes())?;
    }
    if let Some(log) = log {
        evidence.changes("log.ndjson", log.as_bytes())?;
    }
    Ok(evidence)
}

#[track_caller]
pub fn found(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::Found(finding) => *finding,
        Verdict::Valid(summary) => panic!("{summary}"),
    }
}

#[track_caller]
pub fn valid(verdict: Verdict) -> Summary {
    match verdict {
        Verdict::Valid(summary) => summary,
        Verdict::Found(finding) => panic!("{finding}"),
    }
}

pub fn lines(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub fn put_job(name: &str, inputs: &[&str], outputs: &[&str]) -> Value {
    json!({"call": "putJob", "operations": [{"op": "put_job", "name": name, "inputs": inputs, "outputs": outputs}]})
}

pub fn delete_job(name: &str) -> Value {
    json!({"call": "deleteJob", "operations": [{"op": "delete_job", "name": name}]})
}

pub fn put_dataset(name: &str, metadata: Value) -> Value {
    json!({"call": "putDataset", "operations": [{"op": "put_dataset", "name": name, "metadata": metadata}]})
}

pub fn read_job(name: &str) -> Value {
    json!({"call": "readJob", "job": name})
}

pub fn read_graph() -> Value {
    json!({"call": "readGraph"})
}

pub fn created(version: u64) -> Value {
    json!({"event": "ok", "verdict": "accepted", "version": version, "changed": true, "created": true})
}

pub fn changed(version: u64) -> Value {
    json!({"event": "ok", "verdict": "accepted", "version": version, "changed": true, "created": false})
}

pub fn unchanged(version: u64) -> Value {
    json!({"event": "ok", "verdict": "accepted", "version": version, "changed": false, "created": false})
}

pub fn answered(version: u64, answer: Value) -> Value {
    json!({"event": "ok", "verdict": "answered", "version": version, "answer": answer})
}

pub fn counts(version: u64, jobs: usize, datasets: usize, edges: usize) -> Value {
    answered(version, json!({"jobs": jobs, "datasets": datasets, "edges": edges}))
}

/// `adds` with the name of the problem and its status.
pub fn rejected(version: u64, status: u16, name: &str, adds: Value) -> Value {
    let mut problem = adds;
    problem["type"] = json!(format!("urn:fencepost:problem:{name}"));
    problem["status"] = json!(status);
    problem["detail"] = json!("prose");
    json!({"event": "fail", "verdict": "rejected", "version": version, "problem": problem})
}

pub fn unknown() -> Value {
    json!({"event": "info", "verdict": "unknown", "reason": "timeout"})
}

pub fn unreachable() -> Value {
    json!({"event": "fail", "verdict": "unreachable", "reason": "no connection"})
}

/// A line of a change log: a job without edges that came to be.
pub fn logged_job(version: u64, name: &str) -> Value {
    let fact =
        json!({"fact": "job_created", "name": name, "inputs": [], "outputs": [], "spec": {}});
    json!({"version": version, "facts": [fact]})
}
