//! A request, read strictly: nothing is repaired, nothing that is not understood is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use rocket::http::Accept;
use rocket::http::uri::Origin;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::app::App;
use super::ask::ask;
use super::asked::Asked;
use super::headers::{EntityTags, Headers, entity_tag};
use super::problem::{Kind, Problem};
use super::reply::Reply;
use crate::graph::{Command, Name, Operation, Precondition, Step, hex};
use crate::service::{
    Accepted, Forwarded, IdempotencyKey, Image, Refusal, Subject, Verdict, Write,
};
use crate::store::AppliedRequest;

/// What a handler gets.
pub struct Call {
    /// The service and its limits.
    pub app: Arc<App>,
    /// The request.
    pub asked: Arc<Asked>,
    /// Where it comes from, if another node has passed it on.
    forwarded: Option<Forwarded>,
    /// What it has done already, if another node has served it and its answer was lost.
    applied: Option<AppliedRequest>,
}

/// A path's segments, percent-decoded.
///
/// # Errors
/// [`Problem`] for a segment that is empty, badly encoded or not UTF-8 after decoding.
pub fn segments(raw_path: &str) -> Result<Vec<String>, Problem> {
    let malformed = |detail: String| Problem::malformed("path", detail);
    raw_path
        .strip_prefix('/')
        .unwrap_or(raw_path)
        .split('/')
        .map(|raw| {
            if raw.is_empty() {
                return Err(malformed(
                    "the path has an empty segment; write a slash in a name as %2F".to_owned(),
                ));
            }
            decode(raw).map_err(|reason| malformed(format!("the path segment `{raw}` {reason}")))
        })
        .collect()
}

fn decode(raw: &str) -> Result<String, &'static str> {
    let bytes = raw.as_bytes();
    let escaped = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in escaped {
        if !bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        {
            return Err("has a % that is not followed by two hexadecimal digits");
        }
    }
    let decoded = percent_encoding::percent_decode_str(raw).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "is not UTF-8 after decoding")
}

impl Call {
    /// A request of a client.
    #[must_use]
    pub fn new(app: Arc<App>, asked: Arc<Asked>) -> Self {
        Self { app, asked, forwarded: None, applied: None }
    }

    /// The same, passed on by another node.
    #[must_use]
    pub fn forwarded(self, forwarded: Forwarded) -> Self {
        Self { forwarded: Some(forwarded), ..self }
    }

    /// The same, which needs an answer only: it has done this already.
    #[must_use]
    pub fn applied(self, applied: AppliedRequest) -> Self {
        Self { applied: Some(applied), ..self }
    }

    /// The name that the path gives as `parameter`.
    ///
    /// # Errors
    /// [`Problem`] if it is no name.
    pub fn name(&self, parameter: &str) -> Result<Name, Problem> {
        self.asked.name(parameter)
    }

    /// A query parameter as it is.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.asked.query.get(name).map(String::as_str)
    }

    /// A query parameter that is a number.
    ///
    /// # Errors
    /// [`Problem`] if it is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        self.query(name).map(|text| number(name, text)).transpose()
    }

    /// The version that a client has seen last of a live tail, if it says so.
    ///
    /// # Errors
    /// [`Problem`] if it is no number.
    pub fn last_event_id(&self) -> Result<Option<u64>, Problem> {
        self.asked
            .headers
            .get("last-event-id")
            .map(|text| number("last-event-id", text))
            .transpose()
    }

    /// A query parameter that is `true` or `false`.
    ///
    /// # Errors
    /// [`Problem`] if it is neither.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.query(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => {
                Err(Problem::malformed(name, format!("`{other}` is neither true nor false")))
            }
        }
    }

    /// The body as JSON of a known form.
    ///
    /// # Errors
    /// [`Problem`] with line and column, or the field.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let text = std::str::from_utf8(&self.asked.body).map_err(|error| {
            Problem::malformed(
                "body",
                format!("the body is not UTF-8 after byte {}", error.valid_up_to()),
            )
        })?;
        serde_json::from_str(text).map_err(|error| {
            let problem = Problem::malformed(
                "body",
                format!("the body is not what this call takes: {error}"),
            );
            problem.with("line", error.line().into()).with("column", error.column().into())
        })
    }

    /// Whether there is a body at all.
    #[must_use]
    pub fn has_body(&self) -> bool {
        !self.asked.body.is_empty()
    }

    /// The precondition that the headers `If-Match` and `If-None-Match` state.
    ///
    /// # Errors
    /// [`Problem`] for a header that is not understood, or both.
    pub fn precondition(&self) -> Result<Option<Precondition>, Problem> {
        match (self.asked.headers.get("if-match"), self.asked.headers.get("if-none-match")) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Problem::malformed("if-match", "if-match and if-none-match exclude each other"))
            }
            (Some(tags), None) => match EntityTags::read(tags) {
                Some(tags) => Ok(Some(precondition_of(&tags))),
                None => Err(Problem::malformed(
                    "if-match",
                    format!("`{tags}` is neither * nor a list of ETags, each with its quotes"),
                )),
            },
            (None, Some(tags)) => match EntityTags::read(tags) {
                Some(EntityTags::Any) => Ok(Some(Precondition::Absent)),
                _ => Err(Problem::malformed(
                    "if-none-match",
                    format!("a write takes only *, not `{tags}`; use if-match for a version"),
                )),
            },
        }
    }

    /// Refuses a precondition where none can be kept, so that none counts as absent.
    ///
    /// # Errors
    /// [`Problem`] that names the header.
    pub fn refuse_preconditions(&self, why: &str) -> Result<(), Problem> {
        let given = ["if-match", "if-none-match"].into_iter();
        match given.into_iter().find(|header| self.asked.headers.get(header).is_some()) {
            Some(header) => Err(Problem::malformed(header, why)),
            None => Ok(()),
        }
    }

    /// The answer to a read at `version` with the ETag `tag`; 304 without a body if the client has
    /// it.
    pub fn read_answer(&self, version: u64, tag: u64, body: impl FnOnce() -> Reply) -> Reply {
        let reply = if self.has_current(tag) {
            Reply { status: 304, ..Reply::text("", Vec::new()) }
        } else {
            body()
        };
        reply.at_version(version).with("ETag", entity_tag(tag))
    }

    /// Whether `If-None-Match` of a read holds this tag: then the client has the answer already.
    #[must_use]
    pub fn has_current(&self, version: u64) -> bool {
        match self.asked.headers.get("if-none-match").and_then(EntityTags::read) {
            None => false,
            Some(EntityTags::Any) => true,
            Some(EntityTags::List(tags)) => {
                tags.iter().any(|tag| tag.version_if_weak() == Some(version))
            }
        }
    }

    /// The image of the path's graph, at a version read after the request came and at least the one
    /// asked for.
    ///
    /// # Errors
    /// [`Problem`] if there is none.
    pub async fn image(&self) -> Result<(Name, Arc<Image>), Problem> {
        let graph = self.name("graph")?;
        let look = || async {
            self.app.image(&graph).await.map_err(|refusal| Problem::refused(&graph, refusal))
        };
        let image = self.at_least(&graph, look, |image| image.key.version).await?;
        Ok((graph, image))
    }

    /// What `look` finds, once its version is at least the one asked for.
    ///
    /// # Errors
    /// [`Problem`] if it finds nothing, or that version does not come in time.
    pub async fn at_least<T, F: Future<Output = Result<T, Problem>>>(
        &self,
        graph: &Name,
        look: impl Fn() -> F,
        version_of: impl Fn(&T) -> u64,
    ) -> Result<T, Problem> {
        let at_least = self.number("at_least")?;
        let deadline = rocket::tokio::time::Instant::now() + self.app.limits.version_wait;
        let mut pause = VERSION_POLL_FIRST;
        loop {
            let found = look().await?;
            let version = version_of(&found);
            match at_least {
                Some(wanted) if version < wanted => {
                    if rocket::tokio::time::Instant::now() + pause > deadline {
                        let detail = format!(
                            "version {wanted} was not reached in time; the graph is at {version}"
                        );
                        return Err(Problem::new(Kind::VersionNotReached, detail)
                            .decided_at(graph, version));
                    }
                    // Nobody needs a graph in memory while nothing is done with it.
                    drop(found);
                    rocket::tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(VERSION_POLL_LONGEST);
                }
                _ => return Ok(found),
            }
        }
    }

    /// Asks for a write on the path's graph, as this request's headers have it. The answer tells
    /// the version of `subject`.
    ///
    /// # Errors
    /// [`Problem`] if it is not accepted.
    pub async fn write(
        &self,
        command: Command,
        subject: Subject,
        dry_run: bool,
    ) -> Result<(Name, Accepted), Problem> {
        let graph = self.name("graph")?;
        if let Some(applied) = self.applied {
            return Ok((graph, accepted_before(&command, &subject, applied)));
        }
        let write = Write {
            command,
            dry_run,
            actor: self.actor()?,
            idempotency: self.idempotency()?,
            subject,
            bytes: self.asked.body.len(),
            forwarded: self.forwarded.clone(),
        };
        let verdict = self.app.write(&graph, write).await;
        if let (Some(forwarded), Ok(accepted)) = (&self.forwarded, &verdict)
            && accepted.changed
            && !dry_run
        {
            let Accepted { version, created, .. } = *accepted;
            let applied = AppliedRequest { version, created };
            self.app.forwarding.received().applied(&forwarded.request, applied);
        }
        self.verdict(graph, verdict)
    }

    /// An accepted write, or the problem with it.
    ///
    /// # Errors
    /// [`Problem`] if it was refused.
    pub fn verdict(&self, graph: Name, verdict: Verdict) -> Result<(Name, Accepted), Problem> {
        match verdict {
            Ok(accepted) => Ok((graph, accepted)),
            Err(refusal) => Err(Problem::refused(&graph, refusal)),
        }
    }

    /// The `Idempotency-Key` header, with what tells this request from others.
    ///
    /// # Errors
    /// [`Problem`] if the key is empty, too long or not of printable ASCII characters.
    pub fn idempotency(&self) -> Result<Option<IdempotencyKey>, Problem> {
        const LONGEST: usize = 255;
        let Some(key) = self.asked.headers.get("idempotency-key") else { return Ok(None) };
        if key.is_empty()
            || key.len() > LONGEST
            || !key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        {
            let detail = format!(
                "an idempotency key has 1 to {LONGEST} characters of ASCII from space to ~"
            );
            return Err(Problem::malformed("idempotency-key", detail));
        }
        let mut hash = Sha256::new();
        hash.update(self.asked.method);
        for segment in &self.asked.path {
            hash.update("\0/");
            hash.update(segment);
        }
        hash.update("\0");
        hash.update(&self.asked.body);
        Ok(Some(IdempotencyKey { key: key.to_owned(), fingerprint: hex(&hash.finalize()) }))
    }

    fn actor(&self) -> Result<Option<String>, Problem> {
        const LONGEST: usize = 255;
        match self.asked.headers.get("fencepost-actor") {
            Some(actor) if actor.is_empty() || actor.len() > LONGEST => Err(Problem::malformed(
                "fencepost-actor",
                format!("an actor has 1 to {LONGEST} bytes"),
            )),
            actor => Ok(actor.map(str::to_owned)),
        }
    }
}

/// A whole number, as `at` has it. Versions fit 63 bits, and so does everything that a client's
/// language may keep in a signed number.
fn number(at: &str, text: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number <= i64::MAX as u64);
    number.ok_or_else(|| {
        Problem::malformed(at, format!("`{text}` is no whole number from 0 to {}", i64::MAX))
    })
}

const VERSION_POLL_FIRST: std::time::Duration = std::time::Duration::from_millis(5);
const VERSION_POLL_LONGEST: std::time::Duration = std::time::Duration::from_millis(100);

/// What `If-Match` asks for. A tag that the service does not give, and a weak one, match nothing.
fn precondition_of(tags: &EntityTags<'_>) -> Precondition {
    let EntityTags::List(tags) = tags else { return Precondition::Exists };
    let versions: Vec<u64> = tags.iter().filter_map(|tag| tag.version()).collect();
    match versions[..] {
        [only] if tags.len() == 1 => Precondition::Version(only),
        _ => Precondition::OneOf(versions),
    }
}

/// What was answered to a request that has made a change.
fn accepted_before(command: &Command, subject: &Subject, applied: AppliedRequest) -> Accepted {
    let AppliedRequest { version, created } = applied;
    let subject_is_gone = match (subject, command) {
        (_, Command::DeleteGraph { .. }) => true,
        (Subject::Graph, _) => false,
        (Subject::Job(_) | Subject::Dataset(_), Command::Changeset(changeset)) => matches!(
            &changeset.steps[..],
            [Step { operation: Operation::DeleteJob { .. } | Operation::DeleteDataset { .. }, .. }]
        ),
    };
    let subject_version = (!subject_is_gone).then_some(version);
    Accepted { version, changed: true, created, subject_version }
}

/// The parameters of a query that takes these.
///
/// # Errors
/// [`Problem`] for one that is unknown, repeated or badly encoded.
pub fn read_query(uri: &Origin<'_>, known: &[&str]) -> Result<BTreeMap<String, String>, Problem> {
    let mut query = BTreeMap::new();
    let raw = uri.query().map_or("", |query| query.raw().as_str());
    for item in raw.split('&').filter(|item| !item.is_empty()) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        let decoded = |text: &str| {
            decode(&text.replace('+', " ")).map_err(|reason| {
                Problem::malformed("query", format!("the query's `{text}` {reason}"))
            })
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        if !known.contains(&name.as_str()) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Problem::malformed(
                &name,
                format!("unknown query parameter `{name}`; this call takes {known}"),
            ));
        }
        if query.contains_key(&name) {
            return Err(Problem::malformed(
                &name,
                format!("the query parameter `{name}` is given twice"),
            ));
        }
        query.insert(name, value);
    }
    Ok(query)
}

/// Which of `available`, the default first, the `Accept` header asks for.
///
/// # Errors
/// [`Problem`] if none, or the header is not understood.
pub fn negotiate(headers: &Headers, available: &[&'static str]) -> Result<&'static str, Problem> {
    let Some(accept) = headers.get("accept") else { return Ok(available[0]) };
    let accept: Accept = accept
        .parse()
        .map_err(|_| Problem::malformed("accept", "the header accept is not understood"))?;
    let weight = |media_type: &str| {
        let (top, sub) = media_type.split_once('/').expect("media types have a slash");
        let matching = accept.iter().filter(|range| {
            (range.top() == "*" || range.top() == top) && (range.sub() == "*" || range.sub() == sub)
        });
        // The most exact range decides.
        let exact = |range: &&rocket::http::QMediaType| {
            usize::from(range.top() != "*") + usize::from(range.sub() != "*")
        };
        matching.max_by_key(exact).map_or(0.0, |range| range.weight_or(1.0))
    };
    let mut best = (available[0], 0.0);
    for &media_type in available {
        if weight(media_type) > best.1 {
            best = (media_type, weight(media_type));
        }
    }
    if best.1 > 0.0 {
        return Ok(best.0);
    }
    let detail = format!("this call answers {}", available.join(", "));
    Err(Problem::new(Kind::NotAcceptable, detail).with("available", available.into()))
}

impl App {
    /// The image at a version read from now on.
    pub(super) async fn image(&self, graph: &Name) -> Result<Arc<Image>, Refusal> {
        ask(|reply| self.service.read(graph, reply)).await
    }

    async fn write(&self, graph: &Name, write: Write) -> Verdict {
        ask(|reply| self.service.write(graph, write, reply)).await
    }
}
