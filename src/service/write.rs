//! A write as the service takes it, and the answer to one that was accepted.

use serde::{Deserialize, Deserializer};

use super::refusal::Refusal;
use crate::graph::{Changeset, Command, Graph, Name};
use crate::object::objects_only;
use crate::store::{RequestId, StoredAnswer};

/// One write that a client asks for.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to do.
    pub command: Command,
    /// Only decide it: nothing is written.
    pub dry_run: bool,
    /// Who asks, for the change log.
    pub actor: Option<String>,
    /// Answer the same to the same key.
    pub idempotency: Option<IdempotencyKey>,
    /// What the request is about.
    pub subject: Subject,
    /// How large the request was, in bytes.
    pub bytes: usize,
    /// Of a write that another node has passed on.
    pub forwarded: Option<Forwarded>,
}

/// Where a write comes from that another node has passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// What the log notes with the change.
    pub request: RequestId,
    /// The node that has passed it on.
    pub from: String,
    /// The token of the leadership under which alone it may be decided.
    pub token: i64,
}

impl Write {
    /// A dry run that asks for no change: to learn whether writes are served, and at which version.
    #[must_use]
    pub fn nothing() -> Self {
        Self { dry_run: true, ..Command::Changeset(Changeset::default()).into() }
    }
}

impl From<Command> for Write {
    fn from(command: Command) -> Self {
        let subject = Subject::default();
        Self {
            command,
            dry_run: false,
            actor: None,
            idempotency: None,
            subject,
            bytes: 0,
            forwarded: None,
        }
    }
}

/// What a request is about: that of which its answer tells the version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// The graph as a whole.
    #[default]
    Graph,
    /// A job, or an edge of it.
    Job(Name),
    /// A dataset, whose version is the graph's.
    Dataset(Name),
}

impl Subject {
    /// Its version in `graph`; `None` if it is not there.
    pub(super) fn version_in(&self, graph: &Graph) -> Option<u64> {
        match self {
            Self::Graph => Some(graph.version()),
            Self::Job(name) => graph.job(name.as_str()).map(|job| job.version()),
            Self::Dataset(name) => graph.dataset(name.as_str()).map(|_| graph.version()),
        }
    }
}

/// A client's name for a request that it may send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client sent it.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub fingerprint: String,
}

/// An accepted write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    /// The graph's version with it; for a dry run and a write that changes nothing, the version
    /// that it was decided at.
    pub version: u64,
    /// Whether it changes anything.
    pub changed: bool,
    /// Whether it creates something that the request names.
    pub created: bool,
    /// The version for the next precondition on the same subject; `None` if the subject no longer
    /// exists.
    pub subject_version: Option<u64>,
}

/// An [`Accepted`] as it is kept for an idempotency key.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct StoredAccepted {
    version: u64,
    changed: bool,
    created: bool,
    /// Not known of answers that were kept before there was such a member.
    #[serde(default, deserialize_with = "present")]
    subject_version: Option<Option<u64>>,
}

objects_only!(StoredAccepted);

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

impl From<StoredAccepted> for Accepted {
    fn from(kept: StoredAccepted) -> Self {
        let StoredAccepted { version, changed, created, subject_version } = kept;
        // A write that changed its subject gave it this version. Of one that changed nothing, the
        // subject's version is this one or an earlier one, and never becomes this one again: a
        // precondition by it can fail, and cannot hold by mistake.
        Self {
            version,
            changed,
            created,
            subject_version: subject_version.unwrap_or(Some(version)),
        }
    }
}

impl Accepted {
    /// As it is if the first change after `base`, which it was decided on, comes so many versions
    /// later.
    pub(super) fn later(self, base: u64, later: u64) -> Self {
        let moved = |version: u64| if version > base { version + later } else { version };
        let (version, subject_version) = (moved(self.version), self.subject_version.map(moved));
        Self { version, subject_version, ..self }
    }
}

/// The same of an answer that is to be kept.
pub(super) fn answered_later(answer: &StoredAnswer, base: u64, later: u64) -> StoredAnswer {
    let accepted: Result<StoredAccepted, _> = serde_json::from_str(&answer.answer);
    let accepted = Accepted::from(accepted.expect("it was just made")).later(base, later);
    StoredAnswer { answer: text_of(&accepted), ..answer.clone() }
}

fn text_of(accepted: &Accepted) -> String {
    serde_json::to_string(accepted).expect("numbers and booleans are JSON")
}

/// How a write ended.
pub type Verdict = Result<Accepted, Refusal>;

impl IdempotencyKey {
    pub(super) fn answer(&self, accepted: &Accepted) -> StoredAnswer {
        StoredAnswer {
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            answer: text_of(accepted),
        }
    }

    /// What to answer, given what was answered to this key before.
    pub(super) fn verdict(&self, stored: &StoredAnswer) -> Verdict {
        if stored.fingerprint != self.fingerprint {
            return Err(Refusal::KeyReused);
        }
        let kept: Result<StoredAccepted, _> = serde_json::from_str(&stored.answer);
        kept.map(Accepted::from).map_err(|error| Refusal::Internal {
            what: format!("a stored answer is damaged: {error}"),
        })
    }
}
