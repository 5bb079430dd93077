//! Standard output, one event a line. Nothing can be asked of it: every export begins anew. To a
//! terminal, control characters that JSON lets pass are written as escapes.

use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;

use super::sink::{Batch, Purpose, Sink, SinkError};
use crate::terminal;

/// Whoever reads this process's output.
pub struct StandardOutput;

impl StandardOutput {
    /// To append; there is nothing to read.
    ///
    /// # Errors
    /// [`SinkError::Url`] if it is to be read.
    pub fn open(purpose: Purpose) -> Result<Self, SinkError> {
        match purpose {
            Purpose::Append => Ok(Self),
            Purpose::Read => Err(SinkError::Url {
                given: "-".to_owned(),
                reason: "standard output cannot be read".to_owned(),
            }),
        }
    }
}

fn away(error: io::Error) -> SinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => SinkError::NotThere {
            sink: "standard output".to_owned(),
            what: "its reader has ended".to_owned(),
        },
        _ => SinkError::Away { sink: "standard output".to_owned(), what: error.to_string() },
    }
}

impl Sink for StandardOutput {
    fn last(&mut self) -> Result<Option<String>, SinkError> {
        Ok(None)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut out = io::stdout().lock();
        if !out.is_terminal() {
            return out.write_all(&batch.text).map_err(away);
        }
        let text = std::str::from_utf8(&batch.text).expect("events are written as UTF-8");
        out.write_all(terminal::json(text).as_bytes()).map_err(away)
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        io::stdout().lock().flush().map_err(away)
    }

    fn read(&mut self, _: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        unreachable!("it is never opened to read")
    }
}
