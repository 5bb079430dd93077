//! Writes that come to a node which does not lead their graph: it passes them on to the one that
//! does, and answers what that one answers. And the other side: writes that other nodes pass on.
//!
//! A write is passed on as it came: method, path, query, body, and the headers that decide what it
//! does. It is sent to one node, which serves it or says that it does not lead the graph, and never
//! passes it on again.
//!
//! **When the answer is lost**, the write may have been applied, or may be later. Each is sent
//! under a name of its own, and in this order it is learnt what became of it:
//!
//! 1. the receiver is asked. It says what it has done; or that the write did not come, and then
//!    does not take it any more;
//! 2. the log is looked at, which notes the name with the change;
//! 3. if another node has taken over the graph since, or in place of a successor that the write was
//!    sent to, whatever was sent is refused by the database: what is not in the log by then was not
//!    applied;
//! 4. this node tries to take over itself, as any node does that is asked for a write;
//! 5. after [`ForwardLimits::settles_within`] the outcome is unknown.
//!
//! Only what was not applied is sent again, under a new name. So no write is applied twice. That
//! ends [`ForwardLimits::answers_within`] after the first attempt began.
//!
//! **What it costs**: on the way there and back one exchange over HTTP on a connection that is
//! kept, and two signatures. Which node leads is known from a look twice a second.

mod envelope;
mod limits;
mod met;
mod metrics;
mod received;
mod secret;
mod sender;
mod shares;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rocket::tokio::time::{Instant, interval, sleep, timeout, timeout_at};

pub use envelope::Signed;
pub use limits::ForwardLimits;
pub use secret::{ForwardSecret, TooShort};
pub use sender::PATH;

use self::envelope::{ARRIVES_WITHIN, Envelope, Kind as Purpose, Outcome, now_ms};
use self::met::Met;
use self::metrics::Metrics;
use self::received::{NotTaken, Received};
use self::sender::{Answer, NotSent, Room, Sender};
use super::ask::ask;
use super::asked::Asked;
use super::headers::FORWARDED;
use super::problem::{Kind, Problem};
use super::reply::{Content, Reply};
use crate::failpoint;
use crate::graph::Name;
use crate::service::{Forwarded, LeaderAt, Refusal, Service, Write};
use crate::store::{AppliedRequest, RequestId, RequestLook, is_on_loopback};

const LOOPBACK_ONLY: &str = "without --forward-secret-file nodes pass writes on over loopback only";
/// How long a write waits before it is sent once more, times how often it was, and at most.
const HOP_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];
/// How often it is looked whether an answer is still worth waiting for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a write waits for this node to take over its graph, before it looks again.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer is waited for when this process ends.
const ANSWERS_AT_END: Duration = Duration::from_secs(1);
/// And how long it is then tried to learn what became of a write.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// For how many graphs it is kept when a take-over was tried last.
const TRIED_MOST: usize = 4_096;
/// After how long without an answer it is tried whether the leader still holds the lock.
const STALLS_AFTER: Duration = Duration::from_secs(1);
/// How long the receiver is asked after a write whose answer was lost.
const INQUIRES_FOR: Duration = Duration::from_secs(1);
/// How long it waits before it looks again what became of such a write, at first and at most.
const SETTLE_PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(400)];

/// See the module.
pub struct Forwarding {
    secret: ForwardSecret,
    limits: ForwardLimits,
    sender: Sender,
    met: Met,
    /// When it was last tried to take a graph over.
    tried: Mutex<HashMap<Name, Instant>>,
    received: Received,
    metrics: Metrics,
}

/// A write whose answer was lost.
#[derive(Clone, Copy)]
struct Doubt<'d> {
    graph: &'d Name,
    leader: &'d LeaderAt,
    sent: &'d Envelope,
    /// Why there is no answer.
    why: &'d str,
}

/// How a write that was sent has come back.
enum Sent {
    Answered(Reply),
    NotLeader,
    /// Nothing was sent.
    Unreachable(String),
    /// Too many wait. Nothing was sent.
    Full(Problem),
    /// It was not applied, and will not be: why it was not answered.
    NotApplied(String),
    Applied(AppliedRequest),
    Unknown(String),
}

impl Sent {
    /// As a label of metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::NotLeader => "not leader",
            Self::Unreachable(_) => "unreachable",
            Self::Full(_) => "full",
            Self::NotApplied(_) => "not applied",
            Self::Applied(_) => "applied",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Forwarding {
    /// Between the nodes of the service's database. Without a `secret`, between those of one
    /// machine only.
    pub fn new(service: &Service, limits: ForwardLimits, secret: Option<ForwardSecret>) -> Self {
        let of_database = || ForwardSecret::of_database(service.database_id());
        Self {
            secret: secret.unwrap_or_else(of_database),
            limits,
            sender: Sender::new(limits),
            met: Met::default(),
            tried: Mutex::default(),
            received: Received::default(),
            metrics: Metrics::new(&service.metrics().registry),
        }
    }

    /// The writes that other nodes have passed on to this one.
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// Serves a write `here`, or passes it on to the node that leads its graph. A write that was
    /// applied elsewhere, and whose answer was lost, is served `here` for its answer.
    ///
    /// # Errors
    /// [`Problem`] if it is not accepted.
    pub async fn serve<F: Future<Output = Result<Reply, Problem>>>(
        &self,
        service: &Service,
        asked: &Asked,
        here: impl Fn(Option<AppliedRequest>) -> F,
    ) -> Result<Reply, Problem> {
        let Ok(graph) = asked.name("graph") else { return here(None).await };
        let until = Instant::now() + self.limits.answers_within;
        // Where it did not get to, why, and whether that is enough.
        let (mut failed, mut hop): (Option<(Arc<LeaderAt>, String, bool)>, u32) = (None, 0);
        loop {
            let leader = match service.leader(&graph) {
                Some(leader) if leader.address.is_some() => leader,
                _ => match here(None).await {
                    Err(Problem { leader: Some(leader), .. }) if leader.address.is_some() => leader,
                    answer => return answer,
                },
            };
            let is_late = hop > 0 && Instant::now() >= until;
            if let Some((other, why, is_enough)) = &failed
                && !leader.replaces(other)
                && (*is_enough || is_late)
            {
                return Err(out_of_reach(&graph, leader, why));
            }
            if is_late {
                let within = self.limits.answers_within;
                let detail =
                    format!("within {within:?} no node was found that leads graph `{graph}`");
                return Err(Problem::new(Kind::Contended, detail).led_by(leader));
            }
            if hop > 0 {
                let [pause, longest] = HOP_PAUSES;
                sleep((pause * hop).min(longest)).await;
            }
            hop += 1;
            let sent = self.send(service, asked, &graph, &leader, (hop, until)).await;
            self.metrics.count(sent.word());
            match sent {
                Sent::Answered(reply) => return Ok(reply),
                Sent::Full(problem) => return Err(problem.led_by(leader)),
                Sent::NotLeader => {}
                Sent::NotApplied(why) => {
                    let is_same = |other: &LeaderAt| {
                        (other.token, &other.node) == (leader.token, &leader.node)
                    };
                    let before = failed.is_some_and(|(other, ..)| is_same(&other));
                    failed = Some((Arc::clone(&leader), why, before));
                }
                Sent::Unreachable(why) => failed = Some((Arc::clone(&leader), why, true)),
                Sent::Applied(applied) => return here(Some(applied)).await,
                Sent::Unknown(what) => return Err(Problem::new(Kind::OutcomeUnknown, what)),
            }
            service.forget_leader(&graph, leader.token);
        }
    }

    /// Sends the write to the leader, and learns what became of it.
    async fn send(
        &self,
        service: &Service,
        asked: &Asked,
        graph: &Name,
        leader: &LeaderAt,
        (hop, until): (u32, Instant),
    ) -> Sent {
        let (Some(node), Some(address)) = (service.node(), &leader.address) else {
            return Sent::Unreachable("it does not say where it is reached".to_owned());
        };
        let Room { connection, body: _body } =
            match self.sender.room(address, asked.body.len()).await {
                Ok(room) => room,
                Err(full) => return Sent::Full(full),
            };
        if let Err(why) = self.meet(node, leader, address).await {
            return Sent::Unreachable(why);
        }
        let began = Instant::now();
        let envelope = envelope(Purpose::Write, node, leader, hop);
        let until = until.max(began + STALLS_AFTER);
        let given_up = self.given_up(service, asked, graph, leader);
        let sent = self.sender.send(address, asked, &envelope, &self.secret, until, given_up);
        let answer = sent.await;
        self.metrics.took(began.elapsed());
        let (why, reply) = match answer {
            Ok(Answer { reply, outcome: Some(Outcome::Served) }) => return Sent::Answered(reply),
            Ok(Answer { outcome: Some(Outcome::NotLeader), .. }) => return Sent::NotLeader,
            Ok(Answer { outcome: Some(Outcome::NotApplied), .. }) => {
                return Sent::NotApplied(NOT_IN_TIME.to_owned());
            }
            Ok(Answer { outcome: Some(_), .. }) => {
                ("the leader does not know what became of it".to_owned(), None)
            }
            Ok(Answer { reply, outcome: None }) => {
                let status = reply.status;
                (format!("an answer of status {status} that is not signed"), Some(reply))
            }
            Err(NotSent::Never(why)) => {
                self.met.forget(&leader.node, address);
                return Sent::Unreachable(why);
            }
            Err(NotSent::Perhaps(why)) => (why, None),
        };
        self.met.forget(&leader.node, address);
        drop(connection);
        let settled = if asked.is_dry_run() {
            Sent::NotApplied(why)
        } else {
            let doubt = Doubt { graph, leader, sent: &envelope, why: &why };
            self.settle(service, asked, doubt).await
        };
        match (settled, reply) {
            // Not even its signature was read there: who takes such a body is not known.
            (Sent::NotApplied(_), Some(Reply { status: 413, body, .. })) => {
                Sent::Answered(too_large(&body))
            }
            (settled, _) => settled,
        }
    }

    /// Learns what became of a write whose answer was lost.
    async fn settle(&self, service: &Service, asked: &Asked, doubt: Doubt<'_>) -> Sent {
        let Doubt { graph, leader, sent, why } = doubt;
        let mut until = Instant::now() + self.limits.settles_within;
        let ([mut pause, longest], mut shutdown) = (SETTLE_PAUSES, asked.shutdown.clone());
        let mut is_ending = false;
        loop {
            if let Some(applied) = self.inquire(leader, sent).await {
                return applied.map_or_else(|| Sent::NotApplied(why.to_owned()), Sent::Applied);
            }
            match timeout_at(until, look(service, graph, leader, &sent.request)).await {
                Ok(Look::Settled(applied)) => {
                    return applied.map_or_else(|| Sent::NotApplied(why.to_owned()), Sent::Applied);
                }
                Ok(Look::Open) | Err(_) => {}
                Ok(Look::Never) => until = Instant::now(),
                Ok(Look::Lost(what)) => {
                    log::debug!("graph `{graph}`: a write that was passed on: {what}");
                }
            }
            if Instant::now() >= until {
                let node = leader.address.as_deref().unwrap_or(&leader.node);
                return Sent::Unknown(format!(
                    "the write was passed on to {node}, whose answer was lost ({why}); it may be \
                     applied later"
                ));
            }
            // If nobody leads the graph any more, this takes it over. To load it may take longer.
            drop(timeout(TAKES_OVER_WITHIN, self.leads(service, graph)).await);
            rocket::tokio::select! {
                () = sleep(pause) => {}
                () = &mut shutdown, if !is_ending => {
                    is_ending = true;
                    until = until.min(Instant::now() + ENDS_WITHIN);
                }
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Whether this node leads the graph. If nobody does any more, it takes it over. For all who
    /// wait, that is tried once in a while.
    async fn leads(&self, service: &Service, graph: &Name) -> bool {
        {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            let is_recent = |at: &Instant| at.elapsed() < LOOK_EVERY;
            if tried.get(graph).is_some_and(is_recent) {
                return service.led_under(graph).is_some();
            }
            if tried.len() >= TRIED_MOST {
                tried.retain(|_, at| is_recent(at));
            }
            tried.insert(graph.clone(), Instant::now());
        }
        ask(|reply| service.write(graph, Write::nothing(), reply)).await.is_ok()
    }

    /// Returns why the answer is waited for no longer: somebody else than `leader` leads the graph,
    /// or this process ends. If the leader does not answer for long, it is tried whether it still
    /// holds the lock.
    async fn given_up(
        &self,
        service: &Service,
        asked: &Asked,
        graph: &Name,
        leader: &LeaderAt,
    ) -> &'static str {
        let (mut looks, stalls_at) = (interval(LOOK_EVERY), Instant::now() + STALLS_AFTER);
        let moved = async {
            loop {
                looks.tick().await;
                let other = service.leader(graph).is_some_and(|now| now.replaces(leader));
                let leads = || self.leads(service, graph);
                if other || (Instant::now() >= stalls_at && leads().await) {
                    return;
                }
            }
        };
        let shutdown = asked.shutdown.clone();
        let ends = async {
            shutdown.await;
            sleep(ANSWERS_AT_END).await;
        };
        rocket::tokio::select! {
            () = moved => "another node has taken over meanwhile",
            () = ends => "this node ends",
        }
    }

    /// What the receiver says of the write, if that is settled: what was applied, or that nothing
    /// was. `None` if it says nothing, or that it is under way.
    async fn inquire(&self, leader: &LeaderAt, sent: &Envelope) -> Option<Option<AppliedRequest>> {
        let address = leader.address.as_ref()?;
        let envelope = Envelope { kind: Purpose::Inquiry, ..sent.clone() };
        match self.sender.ask(address, &envelope, &self.secret, 2 * INQUIRES_FOR).await.ok()?? {
            Outcome::Applied(applied) => Some(Some(applied)),
            Outcome::NotApplied => Some(None),
            _ => None,
        }
    }

    /// Makes sure, once, that at `address` there is the node that is to be asked, and that it
    /// believes this one.
    async fn meet(&self, node: &str, leader: &LeaderAt, address: &str) -> Result<(), String> {
        if let Some(greeting) = self.met.known(&leader.node, address) {
            return greeting;
        }
        let greeting = self.greet(node, leader, address).await;
        if let Err(why) = &greeting {
            log::warn!("no writes are passed on to the node at {address}: {why}");
        }
        self.met.note(&leader.node, address, greeting.clone());
        greeting
    }

    async fn greet(&self, node: &str, leader: &LeaderAt, address: &str) -> Result<(), String> {
        if !address.starts_with("http://") {
            return Err("nodes pass writes on over http:// only".to_owned());
        }
        if !self.secret.is_given() && !is_on_loopback(address) {
            return Err(LOOPBACK_ONLY.to_owned());
        }
        let hello = envelope(Purpose::Hello, node, leader, 1);
        match self.sender.ask(address, &hello, &self.secret, self.limits.connects_within).await {
            Ok(Some(Outcome::Hello)) => Ok(()),
            Ok(Some(Outcome::OtherClock)) => Err(NOT_IN_TIME.to_owned()),
            Ok(_) => Err(
                "what answers there is not the leader, or has another --forward-secret-file (or \
                 FENCEPOST_FORWARD_SECRET)"
                    .to_owned(),
            ),
            Err(NotSent::Never(why) | NotSent::Perhaps(why)) => Err(why),
        }
    }

    /// The envelope of a request that is from another node, whatever its time.
    ///
    /// # Errors
    /// [`Problem`] if it is not believed.
    fn open(
        &self,
        service: &Service,
        signed: &Signed<'_>,
        is_from_loopback: bool,
    ) -> Result<Envelope, Problem> {
        let forbidden = |detail: String| {
            self.metrics.received("refused");
            Problem::new(Kind::Forbidden, detail)
        };
        let Some(node) = service.node() else {
            return Err(forbidden("no writes are passed on to this node".to_owned()));
        };
        if !self.secret.is_given() && !is_from_loopback {
            return Err(forbidden(LOOPBACK_ONLY.to_owned()));
        }
        let header = signed.headers.get(FORWARDED).unwrap_or_default();
        let envelope = Envelope::read(header, signed, &self.secret, node);
        envelope.map_err(|unbelieved| forbidden(unbelieved.to_string()))
    }

    /// Answers what another node asks about this one, or about a write that it has sent.
    ///
    /// # Errors
    /// [`Problem`] if it is not believed.
    pub async fn answer(
        &self,
        service: &Service,
        signed: &Signed<'_>,
        is_from_loopback: bool,
    ) -> Result<Reply, Problem> {
        let envelope = self.open(service, signed, is_from_loopback)?;
        let outcome = match envelope.kind {
            Purpose::Hello | Purpose::Inquiry if !envelope.is_in_time() => Outcome::OtherClock,
            Purpose::Hello => Outcome::Hello,
            Purpose::Inquiry => {
                self.received.inquire(&envelope.request, envelope.expires_ms, INQUIRES_FOR).await
            }
            Purpose::Write => {
                return Err(Problem::new(Kind::Forbidden, "a write names what it writes"));
            }
        };
        Ok(self.signed(Reply::json(&serde_json::json!({})), &envelope.request, outcome))
    }

    /// Has a write that another node has passed on served by `here`, if this one leads its graph.
    ///
    /// # Errors
    /// [`Problem`] if it is not believed. All else is answered, signed.
    pub async fn receive<F>(
        self: &Arc<Self>,
        service: &Service,
        asked: &Asked,
        is_from_loopback: bool,
        here: impl FnOnce(Forwarded) -> F,
    ) -> Result<Reply, Problem>
    where
        F: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let Asked { method, target, headers, body, .. } = asked;
        let signed = Signed { method, target, headers, body };
        let envelope = self.open(service, &signed, is_from_loopback)?;
        if envelope.kind != Purpose::Write {
            return Err(Problem::new(Kind::Forbidden, "no such request is passed on"));
        }
        let graph = asked.name("graph")?;
        let is_in_time = envelope.is_in_time() || failpoint::is_off("forwarded-time");
        let Envelope { request, from, token, expires_ms, .. } = envelope;
        if !is_in_time {
            self.metrics.received("refused");
            // As if it had not come and was asked after: it is not taken from now on.
            let outcome = self.received.inquire(&request, expires_ms, Duration::ZERO).await;
            let late = Reply::from(Problem::new(Kind::Forbidden, NOT_IN_TIME));
            return Ok(self.signed(late, &request, outcome));
        }
        match self.received.begin(&request, expires_ms) {
            Ok(()) => {}
            Err(NotTaken::Again) if failpoint::is_off("forwarded-again") => {}
            Err(NotTaken::Again) => {
                self.metrics.received("refused");
                let detail = "the request was passed on before: nothing is applied twice";
                return Err(Problem::new(Kind::Forbidden, detail));
            }
            Err(NotTaken::Dropped) => {
                return Ok(self.signed(nothing(), &request, Outcome::NotApplied));
            }
            Err(NotTaken::Full) => {
                let detail = "too many writes were passed on to this node";
                let full = Reply::from(Problem::new(Kind::Contended, detail));
                return Ok(self.signed(full, &request, Outcome::Served));
            }
        }
        let forwarded = Forwarded { request: request.clone(), from, token };
        let served = self.serve_for(service, graph, forwarded, here).await;
        failpoint::pass("forward-served");
        let outcome = match &served {
            Err(Problem { led_elsewhere: true, .. }) => Outcome::NotLeader,
            Err(problem) if problem.is_unknown() => Outcome::Unknown,
            _ => Outcome::Served,
        };
        let is_served = outcome != Outcome::NotLeader;
        self.metrics.received(if is_served { "served" } else { "not leader" });
        Ok(self.signed(served.unwrap_or_else(Reply::from), &request, outcome))
    }

    /// Serves it under the leadership that it was passed on to. It goes on if the connection
    /// breaks: then its outcome is asked for.
    async fn serve_for<F>(
        self: &Arc<Self>,
        service: &Service,
        graph: Name,
        forwarded: Forwarded,
        here: impl FnOnce(Forwarded) -> F,
    ) -> Result<Reply, Problem>
    where
        F: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let (forwarding, service, token) = (Arc::clone(self), service.clone(), forwarded.token);
        let ends = Ends { forwarding, request: forwarded.request.clone(), is_unknown: true };
        let served = here(forwarded);
        let task = rocket::tokio::spawn(async move {
            // All of it, to be dropped here.
            let mut ends = ends;
            failpoint::pass("forward-received");
            let is_led = service.led_under(&graph) == Some(token);
            let served = if is_led || failpoint::is_off("forwarded-token") {
                served.await
            } else {
                let elsewhere = Refusal::LedElsewhere { graph: graph.clone(), leader: None };
                Err(Problem::refused(&graph, elsewhere))
            };
            ends.is_unknown =
                matches!(&served, Err(Problem { kind: Kind::OutcomeUnknown | Kind::Internal, .. }));
            served
        });
        task.await.unwrap_or_else(|error| {
            Err(Problem::new(Kind::Internal, error.to_string()).with("outcome", "unknown".into()))
        })
    }

    /// The answer with what another node believes it by.
    fn signed(&self, reply: Reply, request: &RequestId, outcome: Outcome) -> Reply {
        let header = outcome.sign(request, &reply, &self.secret);
        reply.with(ANSWER_HEADER, header)
    }
}

/// Takes note that a write has ended, also by a panic.
struct Ends {
    forwarding: Arc<Forwarding>,
    request: RequestId,
    is_unknown: bool,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.forwarding.received.end(&self.request, self.is_unknown);
    }
}

/// Of a request that is sent now, under a name of its own.
fn envelope(kind: Purpose, from: &str, to: &LeaderAt, hop: u32) -> Envelope {
    Envelope {
        kind,
        request: RequestId::random(),
        from: from.to_owned(),
        to: to.node.clone(),
        token: to.token,
        hop,
        expires_ms: now_ms() + ARRIVES_WITHIN.as_millis() as u64,
    }
}

const NOT_IN_TIME: &str = "a request takes more than 10 s from node to node, or their clocks differ \
                           by as much";
/// As it is written in answers.
const ANSWER_HEADER: &str = "Fencepost-Forwarded";

enum Look {
    /// What was applied; `None`: nothing, and nothing will be.
    Settled(Option<AppliedRequest>),
    /// It may still be applied.
    Open,
    /// That cannot be learnt any more.
    Never,
    /// The database cannot be asked.
    Lost(Refusal),
}

/// What the database knows of a write that was sent to `leader`.
async fn look(service: &Service, graph: &Name, leader: &LeaderAt, request: &RequestId) -> Look {
    let looked = ask(|reply| service.request_look(graph, request.clone(), leader.key, reply)).await;
    match looked {
        Err(refusal) => Look::Lost(refusal),
        Ok(None) => Look::Open,
        Ok(Some(look)) => match look.applied {
            Some(applied) => Look::Settled(Some(applied)),
            None if !is_ruled_out(&look, leader) && !failpoint::is_off("forwarded-seal") => {
                Look::Open
            }
            None if look.log_is_whole => Look::Settled(None),
            None => Look::Never,
        },
    }
}

/// Whether no write comes any more that was sent to `leader`: another take-over has followed; or it
/// was to have the token that another node got.
fn is_ruled_out(look: &RequestLook, leader: &LeaderAt) -> bool {
    let is_anothers = || look.leader.as_ref().is_some_and(|node| *node != leader.node);
    look.leader_token > leader.token
        || (leader.is_to_come && look.leader_token == leader.token && is_anothers())
}

/// That the leader cannot be asked.
fn out_of_reach(graph: &Name, leader: Arc<LeaderAt>, why: &str) -> Problem {
    let address = leader.address.as_deref().unwrap_or("an unknown address");
    let detail = format!(
        "graph `{graph}` is led by the node at {address}, and this node cannot pass the write on to \
         it: {why}. Try again: if that node has died, another takes over within a lease. If it \
         lives, write to it, and have its --advertise, both nodes' --forward-secret-file and their \
         clocks set right"
    );
    Problem::new(Kind::Contended, detail).led_by(leader)
}

/// Of the answer only the limit is taken, which nobody has signed.
fn too_large(answer: &Content) -> Reply {
    let detail = "the node that leads the graph takes no body of that size: see its \
                  --body-limit-bytes";
    let problem = Problem::new(Kind::TooLarge, detail);
    let limit = match answer {
        Content::Whole(body) => serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|problem| problem.get("limit")?.as_u64()),
        Content::Streamed(_) => None,
    };
    Reply::from(match limit {
        Some(limit) => problem.with("limit", limit.into()),
        None => problem,
    })
}

fn nothing() -> Reply {
    Reply::from(Problem::new(Kind::Contended, "the write is not taken any more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ImageKey;

    #[test]
    fn a_later_take_over_rules_a_write_out_and_one_in_place_of_the_successor() {
        let look = |node: Option<&str>| RequestLook {
            leader_token: 2,
            leader: node.map(str::to_owned),
            applied: None,
            log_is_whole: true,
        };
        let leader = |node: &str, token, is_to_come| LeaderAt {
            node: node.to_owned(),
            token,
            is_to_come,
            address: None,
            key: ImageKey::of_an_empty_graph(),
        };
        assert!(is_ruled_out(&look(Some("a")), &leader("a", 1, false)));
        assert!(is_ruled_out(&look(None), &leader("a", 1, false)));
        assert!(is_ruled_out(&look(Some("b")), &leader("a", 2, true)));
        assert!(!is_ruled_out(&look(Some("a")), &leader("a", 2, true)), "it has come");
        assert!(!is_ruled_out(&look(None), &leader("a", 2, true)), "who has it is not known");
        assert!(!is_ruled_out(&look(Some("b")), &leader("a", 3, true)), "it is still to come");
        // A database that was put back may give a token twice.
        assert!(!is_ruled_out(&look(Some("b")), &leader("a", 2, false)));
    }
}
