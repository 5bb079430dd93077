//! What two nodes say to each other beside a write that one passes on to the other: a header of the
//! request and one of the answer, both signed with a secret that they share.
//!
//! A request is signed with all that decides what it does: method, path, query, the digest of its
//! body, the headers that are read, its name, who sends it to whom, under which leadership, and
//! until when. So it cannot be altered, sent to another node, or used again after its time; within
//! its time the receiver knows its name again. An answer is signed with the name of its request: so
//! whoever happens to listen at an address is not taken for the leader.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::secret::ForwardSecret;
use crate::failpoint;
use crate::graph::hex;
use crate::http::headers::{FORWARDED, Headers};
use crate::http::reply::{Content, Reply};
use crate::store::{AppliedRequest, RequestId};

/// For how long a request may arrive after it was signed, with its body: as long as its answer is
/// waited for. And by how much the clocks of two machines may differ.
pub const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// For how long after that it may be asked after, and is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(20);
/// The headers of a client that are passed on and signed.
pub const PASSED_ON: [&str; 6] =
    ["accept", "content-type", "fencepost-actor", "idempotency-key", "if-match", "if-none-match"];

/// The headers of an answer that are passed on and signed.
pub const ANSWER_HEADERS: [&str; 5] =
    ["Allow", "ETag", "Fencepost-Version", "Location", "Retry-After"];

/// What a request from another node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client's write.
    Write,
    /// Whether the receiver is who the sender takes it for.
    Hello,
    /// What became of the write of that name, whose answer was lost. If it did not come, it is not
    /// to be taken any more.
    Inquiry,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Write, "write"), (Self::Hello, "hello"), (Self::Inquiry, "inquiry")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).expect("all are in it").1
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, its)| *its == word).map(|(kind, _)| *kind)
    }
}

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What it is for.
    pub kind: Kind,
    /// Names it.
    pub request: RequestId,
    /// The node that sends it.
    pub from: String,
    /// The node that it is for.
    pub to: String,
    /// The token of the leadership under which alone it may be decided.
    pub token: i64,
    /// How many nodes it was sent to before, for the same request of a client, and this one.
    pub hop: u32,
    /// When it is not to be taken any more, in milliseconds since 1970. Of an inquiry: when the
    /// write that it asks after is not.
    pub expires_ms: u64,
}

/// What is signed of a request beside its envelope.
pub struct Signed<'r> {
    /// In capitals.
    pub method: &'r str,
    /// Path and query, as they are sent.
    pub target: &'r str,
    /// Those that are [passed on](PASSED_ON).
    pub headers: &'r Headers,
    /// The body.
    pub body: &'r [u8],
}

/// Why the header of a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// It is no such header.
    #[error("the header {FORWARDED} is for requests between nodes, and this is none")]
    Malformed,
    /// The signature is not right.
    #[error("the signature is wrong: do both nodes have the same --forward-secret-file?")]
    Signature,
    /// It is for somebody else.
    #[error("the request is for another node than this one")]
    OtherNode,
}

impl Envelope {
    /// The header's value.
    #[must_use]
    pub fn sign(&self, signed: &Signed<'_>, secret: &ForwardSecret) -> String {
        let text = self.text();
        let signature = hex(&self.mac(&text, signed, secret).finalize().into_bytes());
        format!("{text};{signature}")
    }

    /// Reads and checks the header of a request that came to `node`, but for
    /// [its time](Self::is_in_time).
    ///
    /// # Errors
    /// [`Unbelieved`] says why it is not believed.
    pub fn read(
        header: &str,
        signed: &Signed<'_>,
        secret: &ForwardSecret,
        node: &str,
    ) -> Result<Self, Unbelieved> {
        let (text, signature) = header.rsplit_once(';').ok_or(Unbelieved::Malformed)?;
        let envelope = Self::parse(text).ok_or(Unbelieved::Malformed)?;
        let signature = unhex(signature).ok_or(Unbelieved::Malformed)?;
        let right = envelope.mac(text, signed, secret).verify_slice(&signature);
        right.map_err(|_| Unbelieved::Signature)?;
        if envelope.to == node { Ok(envelope) } else { Err(Unbelieved::OtherNode) }
    }

    /// Whether it has come in its time, by this machine's clock. If not, it was on its way for too
    /// long, or the clocks of the two nodes differ.
    #[must_use]
    pub fn is_in_time(&self) -> bool {
        let remembered_ms = match self.kind {
            Kind::Inquiry => REMEMBERED_FOR.as_millis() as u64,
            Kind::Write | Kind::Hello => 0,
        };
        let longest_ms = 2 * ARRIVES_WITHIN.as_millis() as u64;
        let (now_ms, until_ms) = (now_ms(), self.expires_ms);
        until_ms <= now_ms + longest_ms && now_ms <= until_ms.saturating_add(remembered_ms)
    }

    fn text(&self) -> String {
        let Self { kind, request, from, to, token, hop, expires_ms } = self;
        let (kind, request) = (kind.word(), request.digits());
        format!("1;{kind};{request};{from};{to};{token};{hop};{expires_ms}")
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(';').collect();
        let ["1", kind, request, from, to, token, hop, expires_ms] = parts[..] else { return None };
        Some(Self {
            kind: Kind::of_word(kind)?,
            request: RequestId::read(request)?,
            from: from.to_owned(),
            to: to.to_owned(),
            token: token.parse().ok()?,
            hop: hop.parse().ok()?,
            expires_ms: expires_ms.parse().ok()?,
        })
    }

    fn mac(&self, text: &str, signed: &Signed<'_>, secret: &ForwardSecret) -> Hmac<Sha256> {
        let mut mac = begun("request", secret);
        let mut line = |line: &str| {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        };
        line(text);
        line(signed.method);
        line(signed.target);
        line(&hex(&Sha256::digest(signed.body)));
        for name in PASSED_ON {
            if let Some(value) = signed.headers.get(name) {
                line(name);
                line(value);
            }
        }
        mac
    }
}

/// What a node says of a request that was sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is the one to the client's request.
    Served,
    /// It does not lead the graph, or not under that token; nothing was applied.
    NotLeader,
    /// It is the node that it was taken for.
    Hello,
    /// It is, and its clock differs from that of the one that asks.
    OtherClock,
    /// The write was applied.
    Applied(AppliedRequest),
    /// The write was not applied and will not be.
    NotApplied,
    /// The write is under way.
    Pending,
    /// The node does not know itself.
    Unknown,
}

impl Outcome {
    fn text(self) -> String {
        match self {
            Self::Served => "served".to_owned(),
            Self::NotLeader => "not leader".to_owned(),
            Self::Hello => "hello".to_owned(),
            Self::OtherClock => "other clock".to_owned(),
            Self::Applied(AppliedRequest { version, created }) => {
                format!("applied {version} {}", if created { "created" } else { "changed" })
            }
            Self::NotApplied => "not applied".to_owned(),
            Self::Pending => "pending".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "served" => Self::Served,
            "not leader" => Self::NotLeader,
            "hello" => Self::Hello,
            "other clock" => Self::OtherClock,
            "not applied" => Self::NotApplied,
            "pending" => Self::Pending,
            "unknown" => Self::Unknown,
            _ => {
                let (version, created) = text.strip_prefix("applied ")?.split_once(' ')?;
                let created = match created {
                    "created" => true,
                    "changed" => false,
                    _ => return None,
                };
                Self::Applied(AppliedRequest { version: version.parse().ok()?, created })
            }
        })
    }

    /// The header's value in an answer to `request`.
    #[must_use]
    pub fn sign(self, request: &RequestId, reply: &Reply, secret: &ForwardSecret) -> String {
        let text = self.text();
        let signature = answer_mac(&text, request, reply, secret).finalize();
        format!("{text};{}", hex(&signature.into_bytes()))
    }

    /// Reads the header of an answer to `request`. `None` if it is not from a node that has the
    /// secret, or is another request's.
    #[must_use]
    pub fn read(
        header: &str,
        request: &RequestId,
        reply: &Reply,
        secret: &ForwardSecret,
    ) -> Option<Self> {
        let (text, signature) = header.rsplit_once(';')?;
        let signature = unhex(signature)?;
        answer_mac(text, request, reply, secret).verify_slice(&signature).ok()?;
        Self::parse(text)
    }
}

/// Over all of the answer that a client gets.
fn answer_mac(
    text: &str,
    request: &RequestId,
    reply: &Reply,
    secret: &ForwardSecret,
) -> Hmac<Sha256> {
    let mut mac = begun("answer", secret);
    let Reply { status, media_type, body, headers } = reply;
    let digest = match body {
        Content::Whole(body) => hex(&Sha256::digest(body)),
        Content::Streamed(_) => unreachable!("no write is answered by a stream"),
    };
    mac.update(
        format!("{text}\n{}\n{status}\n{media_type}\n{digest}\n", request.digits()).as_bytes(),
    );
    for name in ANSWER_HEADERS {
        for (_, value) in headers.iter().filter(|(its, _)| *its == name) {
            mac.update(format!("{name}\n{value}\n").as_bytes());
        }
    }
    mac
}

/// What is signed as one cannot be taken for the other.
fn begun(what: &str, secret: &ForwardSecret) -> Hmac<Sha256> {
    let mut mac: Hmac<Sha256> =
        KeyInit::new_from_slice(secret.key()).expect("a key may have any length");
    mac.update(format!("fencepost {what} 1\n").as_bytes());
    mac
}

/// By this machine's clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    now_ms.saturating_add_signed(failpoint::number("forward-clock"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> ForwardSecret {
        ForwardSecret::given(text).unwrap()
    }

    fn envelope() -> Envelope {
        Envelope {
            kind: Kind::Write,
            request: RequestId::random(),
            from: "a".to_owned(),
            to: "b".to_owned(),
            token: 7,
            hop: 1,
            expires_ms: now_ms() + 5_000,
        }
    }

    #[test]
    fn a_request_is_believed_as_it_was_signed_and_in_no_other_way() {
        let ours = secret("a secret of two nodes");
        let headers = Headers::default();
        let signed = Signed { method: "PUT", target: "/v1/x?y", headers: &headers, body: b"{}" };
        let envelope = envelope();
        let header = envelope.sign(&signed, &ours);
        let read =
            |header: &str, signed: &Signed<'_>, node| Envelope::read(header, signed, &ours, node);
        assert_eq!(read(&header, &signed, "b"), Ok(envelope.clone()));
        assert_eq!(read(&header, &signed, "c"), Err(Unbelieved::OtherNode));
        let altered = [
            Signed { method: "POST", headers: &headers, ..signed },
            Signed { target: "/v1/x", headers: &headers, ..signed },
            Signed { body: b"[]", headers: &headers, ..signed },
        ];
        for other in &altered {
            assert_eq!(read(&header, other, "b"), Err(Unbelieved::Signature));
        }
        for (from, to) in [("write", "inquiry"), (";7;", ";8;"), (";a;", ";c;")] {
            let forged = header.replacen(from, to, 1);
            assert_eq!(read(&forged, &signed, "b"), Err(Unbelieved::Signature), "{forged}");
        }
        let other = Envelope::read(&header, &signed, &secret("another secret of both"), "b");
        assert_eq!(other, Err(Unbelieved::Signature));
        for bad in ["", ";", "1;write", "true", &header[..header.len() - 1]] {
            assert_eq!(read(bad, &signed, "b"), Err(Unbelieved::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_request_is_in_time_until_it_expires_and_an_inquiry_for_as_long_as_names_are_remembered() {
        let is_in_time = |kind, left_s: i64| {
            let expires_ms = now_ms().saturating_add_signed(1_000 * left_s);
            Envelope { kind, expires_ms, ..envelope() }.is_in_time()
        };
        for (kind, least_s) in [(Kind::Write, 0), (Kind::Hello, 0), (Kind::Inquiry, -20)] {
            let asked = [least_s - 1, least_s + 5, 15, 25].map(|left_s| is_in_time(kind, left_s));
            assert_eq!(asked, [false, true, true, false], "{kind:?}");
        }
    }

    #[test]
    fn an_answer_is_believed_for_its_own_request_only() {
        let ours = secret("a secret of two nodes");
        let (request, other) = (RequestId::random(), RequestId::random());
        let applied = AppliedRequest { version: 3, created: true };
        for outcome in [
            Outcome::Served,
            Outcome::NotLeader,
            Outcome::Hello,
            Outcome::OtherClock,
            Outcome::Applied(applied),
            Outcome::Applied(AppliedRequest { created: false, ..applied }),
            Outcome::NotApplied,
            Outcome::Pending,
            Outcome::Unknown,
        ] {
            let reply = |body: &str| Reply::text("application/json", body.into()).at_version(3);
            let header = outcome.sign(&request, &reply("{}"), &ours);
            let read = |request: &RequestId, reply: &Reply, secret: &ForwardSecret| {
                Outcome::read(&header, request, reply, secret)
            };
            assert_eq!(read(&request, &reply("{}"), &ours), Some(outcome));
            assert_eq!(read(&other, &reply("{}"), &ours), None);
            assert_eq!(read(&request, &reply("[]"), &ours), None);
            assert_eq!(read(&request, &Reply { status: 201, ..reply("{}") }, &ours), None);
            assert_eq!(read(&request, &reply("{}").with("ETag", "\"9\"".into()), &ours), None);
            let theirs = secret("another secret of both");
            assert_eq!(read(&request, &reply("{}"), &theirs), None);
        }
    }
}
