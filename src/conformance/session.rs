//! What a case asks with: a client, and a graph of its own.

use std::io::Read;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;
use uuid::Uuid;

use super::client::{Answer, Call, Client, NoAnswer, encoded};
use super::unmet::{Met, Unmet};

/// How often a request is sent again that the server was too busy for, and after how long.
const TRIES_MAX: usize = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A graph that nobody else has, which is not there yet. It is deleted, if the server can, when
/// this is dropped.
pub struct Session<'c> {
    client: &'c Client,
    graph: String,
}

/// A request of a case, before it is sent.
#[derive(Clone)]
pub struct Ask<'c> {
    client: &'c Client,
    call: Call,
}

impl<'c> Session<'c> {
    pub fn new(client: &'c Client) -> Self {
        Self::of(client, format!("conformance{}", Uuid::new_v4().simple()))
    }

    fn of(client: &'c Client, graph: String) -> Self {
        Self { client, graph }
    }

    /// Another graph of the same case, whose name is this one's with `suffix` behind it.
    pub fn another(&self, suffix: &str) -> Self {
        Self::of(self.client, format!("{}{suffix}", self.graph))
    }

    /// The graph's name: letters and digits.
    pub fn graph(&self) -> &str {
        &self.graph
    }

    /// Creates the graph. Not for cases about that.
    pub fn create(&self) -> Met {
        self.put("").send()?.one_of(&[200, 201]).map(drop)
    }

    /// `path` follows that of the graph; names in it are escaped already.
    fn ask(&self, method: Method, path: &str) -> Ask<'c> {
        let path = format!("/v1/graphs/{}{path}", self.graph);
        Ask { client: self.client, call: Call::new(method, path) }
    }

    /// With the whole path, of whatever is no graph's.
    pub fn get_at(&self, path: &str) -> Ask<'c> {
        Ask { client: self.client, call: Call::new(Method::GET, path.to_owned()) }
    }

    pub fn get(&self, path: &str) -> Ask<'c> {
        self.ask(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Ask<'c> {
        self.ask(Method::HEAD, path)
    }

    /// With an empty body, unless it is given one.
    pub fn put(&self, path: &str) -> Ask<'c> {
        self.ask(Method::PUT, path).empty()
    }

    pub fn post(&self, path: &str, body: &Value) -> Ask<'c> {
        self.ask(Method::POST, path).json(body)
    }

    pub fn patch(&self, path: &str, body: &Value) -> Ask<'c> {
        self.ask(Method::PATCH, path).json(body)
    }

    pub fn delete(&self, path: &str) -> Ask<'c> {
        self.ask(Method::DELETE, path)
    }

    /// Puts a job that reads `inputs` and writes `outputs`.
    pub fn put_job(&self, name: &str, inputs: &[&str], outputs: &[&str]) -> Ask<'c> {
        self.put(&job(name)).json(&json!({"inputs": inputs, "outputs": outputs}))
    }

    /// Puts jobs one after another, each of which must be accepted. For what a case begins with.
    pub fn given(&self, jobs: &[(&str, &[&str], &[&str])]) -> Met {
        for (name, inputs, outputs) in jobs {
            self.put_job(name, inputs, outputs).send()?.one_of(&[200, 201])?;
        }
        Ok(())
    }

    /// The graph, with a diamond of jobs that ends in the dataset `end`, and a job beside it.
    pub fn diamond(&self) -> Met {
        self.create()?;
        self.given(&[
            ("load", &["raw"], &["clean"]),
            ("report", &["clean", "extra"], &["r"]),
            ("score \"1\"", &["clean"], &["s"]),
            ("final", &["r", "s"], &["end"]),
            ("apart", &["raw"], &["other"]),
        ])
    }

    /// Applies a changeset of these operations.
    pub fn change(&self, operations: &Value) -> Ask<'c> {
        self.post("/changesets", &json!({"operations": operations}))
    }

    /// Version and counts of the graph, to see whether a request has changed it.
    pub fn state(&self) -> Result<Value, Unmet> {
        let answer = self.get("").send()?.is(200)?;
        let all = answer.object()?;
        let state = ["version", "jobs", "datasets", "edges"].map(|name| all[name].clone());
        let has_all = state.iter().all(Value::is_u64);
        answer.must(has_all, "numbers `version`, `jobs`, `datasets` and `edges`")?;
        Ok(state.into_iter().collect())
    }

    /// That the graph is as it was at `before`; `after` says after what.
    pub fn is_still(&self, before: &Value, after: &str) -> Met {
        let now = self.state()?;
        if now == *before {
            return Ok(());
        }
        Err(Unmet::Broken(format!(
            "{after} must change nothing, but [version, jobs, datasets, edges] of the graph were \
             {before} and are {now}"
        )))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // A server that cannot delete keeps the graph: that is for the case about deletion.
        drop(self.delete("").header("If-Match", "*").decided());
    }
}

impl Ask<'_> {
    pub fn header(self, name: &'static str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    /// A value that need not be ASCII.
    pub fn header_bytes(mut self, name: &'static str, value: &[u8]) -> Self {
        self.call.headers.push((name, value.to_vec()));
        self
    }

    pub fn if_match(self, tags: &str) -> Self {
        self.header("If-Match", tags)
    }

    pub fn if_none_match(self, tags: &str) -> Self {
        self.header("If-None-Match", tags)
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub fn accept(self, media_types: &str) -> Self {
        self.header("Accept", media_types)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", &body.to_string())
    }

    /// JSON as it is written.
    pub fn text(self, body: &str) -> Self {
        self.body("application/json", body)
    }

    /// Replaces the body and its media type.
    pub fn body(mut self, media_type: &str, body: &str) -> Self {
        self.call.body = Some(body.as_bytes().to_vec());
        self.call.headers.retain(|(name, _)| *name != "Content-Type");
        self.header("Content-Type", media_type)
    }

    /// An empty body, announced as such.
    fn empty(mut self) -> Self {
        self.call.body = Some(Vec::new());
        self
    }

    /// Sends it until the server has decided: one that is busy may say that it has not.
    pub fn send(&self) -> Result<Answer, Unmet> {
        self.decided().map_err(|error| self.unanswered(&error))
    }

    fn decided(&self) -> Result<Answer, NoAnswer> {
        let mut answer = self.client.send(&self.call)?;
        for _ in 1..TRIES_MAX {
            if !answer.says_busy() {
                break;
            }
            thread::sleep(BUSY_PAUSE);
            answer = self.client.send(&self.call)?;
        }
        Ok(answer)
    }

    /// That nothing follows the head of the answer.
    pub fn has_no_body(&self) -> Met {
        let behind = self.client.behind_the_head(&self.call);
        let behind = behind.map_err(|error| self.unanswered(&error))?;
        if behind.is_empty() {
            return Ok(());
        }
        Err(Unmet::Broken(format!(
            "{} {}: expected nothing after the head, got {} bytes",
            self.call.method,
            self.call.path,
            behind.len()
        )))
    }

    /// For an answer that does not end: its head, and its body as it comes.
    pub fn open(&self) -> Result<(Answer, Box<dyn Read>), Unmet> {
        self.client.open(&self.call).map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &NoAnswer) -> Unmet {
        let Call { method, path, .. } = &self.call;
        match error {
            NoAnswer::Unreachable(why) => Unmet::Gone(format!("{method} {path}: {why}")),
            NoAnswer::Lost(why) => {
                Unmet::Broken(format!("{method} {path}: expected an answer, got none: {why}"))
            }
        }
    }
}

/// The path of a job below its graph's.
pub fn job(name: &str) -> String {
    format!("/jobs/{}", encoded(name))
}

/// The path of a dataset below its graph's.
pub fn dataset(name: &str) -> String {
    format!("/datasets/{}", encoded(name))
}
