//! The change log as it leaves over HTTP: a page as JSON, all of it as lines, or live as
//! server-sent events. Each change is an event with one spelling, the same in all three.

use std::sync::Arc;

use rocket::tokio;
use rocket::tokio::time::Instant;

use super::app::{App, TAIL};
use super::call::Call;
use super::log_page::{PAGE_CHANGES, Page, Seen, Write, event, log_page, went_back};
use super::problem::{Kind, Problem};
use super::reply::Reply;
use super::stream::{Form, Gone, Pieces, stream};
use super::tail::{End, Taken};
use crate::chain::{Chain, LoggedChange};
use crate::event::{Event, Stream};
use crate::store::GraphState;

/// The media types of the change log, the default first.
pub const MEDIA_TYPES: [&str; 3] = ["application/json", LINES, EVENTS];
/// JSON texts, one a line.
pub const LINES: &str = "application/x-ndjson";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream";

/// Items a page has if the client does not say.
const DEFAULT_ITEMS: usize = 100;
/// Items a page has at most.
const MOST_ITEMS: u64 = 1000;
/// How long a client waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1000;

/// As JSON.
fn object(stream: &Stream, logged: &LoggedChange) -> Vec<u8> {
    let mut line = line(stream, logged);
    line.pop();
    line
}

/// As JSON and a line feed.
fn line(stream: &Stream, logged: &LoggedChange) -> Vec<u8> {
    stream.line(&Event::changed(logged))
}

impl Call {
    /// Up to where the reader knows the log: the parameters `after` and `after_chain`.
    fn seen(&self) -> Result<Seen, Problem> {
        let chain = self.query("after_chain").map(|text| {
            Chain::from_hex(text).ok_or_else(|| {
                let detail = "after_chain takes the chainhash of the last event that was read";
                Problem::malformed("after_chain", detail)
            })
        });
        Ok(Seen { after: self.number("after")?.unwrap_or(0), chain: chain.transpose()? })
    }

    /// The first page of what was asked for, of a graph that is there, and whose history is the one
    /// that the reader knows.
    async fn first_page(&self, seen: Seen, most: usize, write: Write) -> Result<Page, Problem> {
        let graph = self.name("graph")?;
        let look = || async {
            let page = log_page(&self.app.service, &graph, seen, most, write).await;
            page.and_then(|page| match page.head.state {
                GraphState::Deleted => Err(Problem::graph_not_found(&graph)),
                GraphState::Open | GraphState::Frozen => Ok(page),
            })
        };
        let page = self.at_least(&graph, look, |page| page.head.version).await?;
        let version = page.head.version;
        let detail = if version < seen.after {
            format!(
                "version {} is not there, the graph is at {version}: was a backup restored? Read \
                 the snapshot and resume after its version",
                seen.after
            )
        } else if page.of_another_history {
            format!(
                "the chain at version {} is another: the history was rewritten, as by a backup \
                 that was restored. Read the snapshot and resume after its version",
                seen.after
            )
        } else {
            return Ok(page);
        };
        let problem = Problem::new(Kind::PreconditionFailed, detail).decided_at(&graph, version);
        Err(problem.with("expected", seen.after.into()).with("actual", version.into()))
    }
}

/// `GET /v1/graphs/{graph}/changes`
pub async fn read(call: Call) -> Result<Reply, Problem> {
    let reply = match call.asked.accepted {
        LINES => lines(call).await,
        EVENTS => events(call).await,
        _ => page(call).await,
    };
    reply.map(|reply| reply.with("Vary", "Accept".to_owned()))
}

async fn page(call: Call) -> Result<Reply, Problem> {
    let seen = call.seen()?;
    let limit = limit(&call)?.map_or(DEFAULT_ITEMS, |limit| limit as usize);
    let Page { head, events, .. } = call.first_page(seen, limit, object).await?;
    let version = head.version;
    Ok(call.read_answer(version, version, || {
        let name = serde_json::to_string(&head.name).expect("a name is a JSON string");
        let mut body = format!(r#"{{"graph":{name},"version":{version},"items":["#).into_bytes();
        body.extend(events.join(&b','));
        body.extend_from_slice(
            format!(r#"],"next_after":{}}}"#, seen.after + events.len() as u64).as_bytes(),
        );
        Reply::text(call.asked.accepted, body)
    }))
}

fn limit(call: &Call) -> Result<Option<u64>, Problem> {
    match call.number("limit")? {
        Some(limit) if !(1..=MOST_ITEMS).contains(&limit) => Err(Problem::malformed(
            "limit",
            format!("at most {MOST_ITEMS} changes can be asked for, and at least 1"),
        )),
        limit => Ok(limit),
    }
}

/// All changes that there were when the request came.
async fn lines(call: Call) -> Result<Reply, Problem> {
    let seen = call.seen()?;
    let limit = limit(&call)?;
    let most = limit.map_or(PAGE_CHANGES, |limit| PAGE_CHANGES.min(limit as usize));
    let first = call.first_page(seen, most, line).await?;
    let version = first.head.version;
    if call.has_current(version) {
        return Ok(call.read_answer(version, version, || unreachable!("the client has it")));
    }
    let last = limit.map_or(version, |limit| version.min(seen.after.saturating_add(limit)));
    let (pieces, streamed) = stream(Form::Lines, call.app.open_stream("changes")?);
    tokio::spawn(send_lines(Arc::clone(&call.app), pieces, first, seen.after, last));
    Ok(call.read_answer(version, version, || Reply::streamed(LINES, streamed)))
}

/// Sends the changes after `after` up to the one that made version `last`.
async fn send_lines(app: Arc<App>, pieces: Pieces, first: Page, mut after: u64, last: u64) {
    let graph = first.head.name.clone();
    let mut page = Ok(first);
    loop {
        let events = match page {
            Ok(Page { events, head, .. }) if events.is_empty() && after < last => {
                return pieces.fail(&went_back(&graph, last, head.version)).await;
            }
            Ok(Page { events, .. }) => events,
            Err(problem) => return pieces.fail(&problem).await,
        };
        after += events.len() as u64;
        if pieces.send(events.concat()).await.is_err() {
            return;
        }
        if after >= last {
            return pieces.end().await;
        }
        let most = PAGE_CHANGES.min(usize::try_from(last - after).unwrap_or(PAGE_CHANGES));
        page = log_page(&app.service, &graph, Seen { after, chain: None }, most, line).await;
    }
}

/// The live tail.
async fn events(call: Call) -> Result<Reply, Problem> {
    if call.query("limit").is_some() {
        return Err(Problem::malformed(
            "limit",
            "a live tail does not end; omit the limit, or ask for JSON",
        ));
    }
    let asked = call.seen()?;
    // A client that connects again knows more than its URL, which is that of the first time.
    let seen = match call.last_event_id()? {
        Some(last) if last != asked.after => Seen { after: last, chain: None },
        _ => asked,
    };
    let first = call.first_page(seen, PAGE_CHANGES, event).await?;
    let version = first.head.version;
    let (pieces, streamed) = stream(Form::Events, call.app.open_stream(TAIL)?);
    let (app, shutdown) = (Arc::clone(&call.app), call.asked.shutdown.clone());
    tokio::spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = shutdown => Ok(None),
            outcome = follow(&app, &pieces, first, seen.after) => outcome,
        };
        match outcome {
            Ok(None) => pieces.end().await,
            Ok(Some(problem)) => pieces.fail(&problem).await,
            Err(Gone) => {}
        }
    });
    let reply = Reply::streamed(EVENTS, streamed).at_version(version);
    let reply = reply.with("Cache-Control", "no-store".to_owned());
    // Proxies such as nginx hold an answer back until it is some kilobytes long, unless told.
    Ok(reply.with("X-Accel-Buffering", "no".to_owned()))
}

/// Sends the changes after `after` as they come, until the graph is deleted, the client goes, or
/// there is a problem.
async fn follow(
    app: &Arc<App>,
    pieces: &Pieces,
    first: Page,
    mut after: u64,
) -> Result<Option<Problem>, Gone> {
    let tail = app.tails.follow(&first);
    let mut grown = tail.subscribe();
    let graph = first.head.name;
    // Without an empty line after it, the field belongs to the first event: many clients take every
    // block for an event.
    let retry = format!("retry: {RETRY_MS}\n").into_bytes();
    pieces.send([retry, first.events.concat()].concat()).await?;
    after += first.events.len() as u64;
    let mut spoke = Instant::now();
    loop {
        grown.mark_unchanged();
        match tail.take(after) {
            Taken::Events(events, last) => {
                pieces.send(events.concat()).await?;
                (after, spoke) = (last, Instant::now());
            }
            Taken::Behind => {
                let seen = Seen { after, chain: None };
                let page = match log_page(&app.service, &graph, seen, PAGE_CHANGES, event).await {
                    Ok(page) if page.events.is_empty() => {
                        return Ok(Some(went_back(&graph, after + 1, page.head.version)));
                    }
                    Ok(page) => page,
                    Err(problem) => return Ok(Some(problem)),
                };
                after += page.events.len() as u64;
                pieces.send(page.events.concat()).await?;
                spoke = Instant::now();
            }
            Taken::End(End::Deleted) => return Ok(None),
            Taken::End(End::Failed(problem)) => return Ok(Some(problem)),
            Taken::Nothing => tokio::select! {
                _ = grown.changed() => {}
                () = pieces.gone() => return Err(Gone),
                () = tokio::time::sleep_until(spoke + app.limits.heartbeat) => {
                    pieces.send(b":\n".to_vec()).await?;
                    spoke = Instant::now();
                }
            },
        }
    }
}
