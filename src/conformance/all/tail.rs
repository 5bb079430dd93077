//! The live end of the change log, as server-sent events.

use std::io::{BufRead as _, BufReader, Read};

use super::change_log::offered;
use crate::conformance::case::{Case, case};
use crate::conformance::client::Answer;
use crate::conformance::session::Session;
use crate::conformance::unmet::{Met, Unmet};

pub const CASES: &[Case] = &[
    case!(
        All,
        the_change_log_is_tailed_live,
        "As text/event-stream the log goes on with each change as it is made; the id of an event \
         is its version, and its data the line of the log."
    ),
    case!(
        All,
        a_tail_goes_on_after_the_event_that_was_seen_last,
        "A client that connects again with Last-Event-ID gets what came after that event."
    ),
    case!(
        All,
        a_tail_ends_after_the_deletion_of_its_graph,
        "The deletion of a graph is the last event of its tail."
    ),
];

const EVENTS: &str = "text/event-stream";
const CHANGED: &str = "dev.fencepost.changed.v1";

/// One event: its id, its type and its data.
#[derive(Default)]
struct Event {
    id: String,
    kind: String,
    data: String,
}

/// A tail that is being read.
struct Tail {
    head: Answer,
    lines: BufReader<Box<dyn Read>>,
}

impl Tail {
    fn open(s: &Session<'_>, last_event_id: Option<u64>) -> Result<Self, Unmet> {
        let mut request = s.get("/changes").accept(EVENTS);
        if let Some(last) = last_event_id {
            request = request.header("Last-Event-ID", &last.to_string());
        }
        let (head, body) = request.open()?;
        let head = offered_by(head, s)?.is(200)?.has_media_type(EVENTS)?;
        Ok(Self { head, lines: BufReader::new(body) })
    }

    /// The next event that has data; `None` at the end.
    fn next(&mut self) -> Result<Option<Event>, Unmet> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(self.broken("an event or the end", &error.to_string())),
            }
            let line = line.trim_end_matches(['\n', '\r']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = value.to_owned(),
                "event" => event.kind = value.to_owned(),
                "data" => event.data += value,
                _ if line.is_empty() && !event.data.is_empty() => return Ok(Some(event)),
                _ => {}
            }
        }
    }

    /// The next event, which must be the change that made `version`; its data.
    fn change(&mut self, version: u64) -> Result<String, Unmet> {
        let expected = format!("the event of version {version}");
        match self.next()? {
            Some(Event { id, kind, data }) if id == version.to_string() && kind == CHANGED => {
                Ok(data)
            }
            Some(Event { id, kind, data }) => {
                Err(self.broken(&expected, &format!("id `{id}`, event `{kind}`, data {data}")))
            }
            None => Err(self.broken(&expected, "the end of the stream")),
        }
    }

    fn broken(&self, expected: &str, got: &str) -> Unmet {
        Unmet::Broken(format!("{} as {EVENTS}: expected {expected}, got {got}", self.head.call))
    }
}

/// A head has no body, so a refusal is asked for again to be read whole.
fn offered_by(head: Answer, s: &Session<'_>) -> Result<Answer, Unmet> {
    match head.status {
        200 => Ok(head),
        _ => offered(s.get("/changes").accept(EVENTS).send()?),
    }
}

fn the_change_log_is_tailed_live(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &["x"], &["y"])])?;
    let mut tail = Tail::open(s, None)?;
    let told = [tail.change(1)?, {
        s.given(&[("b", &[], &[])])?;
        tail.change(2)?
    }];
    let lines = s.get("/changes").accept("application/x-ndjson").send()?.is(200)?;
    let same = lines.text().lines().eq(told.iter().map(String::as_str));
    lines.must(same, format_args!("the data of the events: {told:?}")).map(drop)
}

fn a_tail_goes_on_after_the_event_that_was_seen_last(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &[]), ("b", &[], &[])])?;
    Tail::open(s, Some(1))?.change(2).map(drop)
}

fn a_tail_ends_after_the_deletion_of_its_graph(s: &Session<'_>) -> Met {
    s.create()?;
    s.given(&[("a", &[], &[])])?;
    let mut tail = Tail::open(s, None)?;
    tail.change(1)?;
    s.delete("").if_match("*").send()?.is(200)?;
    tail.change(2)?;
    match tail.next()? {
        None => Ok(()),
        Some(Event { id, .. }) => {
            Err(tail.broken("the end after the deletion", &format!("an event of id `{id}`")))
        }
    }
}
