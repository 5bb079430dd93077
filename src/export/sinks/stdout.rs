//! Standard output, one event a line. Nothing can be asked of it: every export begins anew. To a
//! terminal, control characters that JSON lets pass are written as escapes.

use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;

use crate::export::sink::{Batch, Purpose, Sink, SinkError};
use crate::terminal;

/// Whoever reads this process's output.
#[derive(Default)]
pub struct StandardOutput {
    /// The event that was written last. An export whose database was away continues after it.
    last: Option<String>,
}

impl StandardOutput {
    /// To append; there is nothing to read.
    ///
    /// # Errors
    /// [`SinkError::Url`] if it is to be read.
    pub fn open(purpose: Purpose) -> Result<Self, SinkError> {
        match purpose {
            Purpose::Append => Ok(Self::default()),
            Purpose::Read | Purpose::Ask => Err(SinkError::Url {
                given: "-".to_owned(),
                reason: "standard output cannot be read".to_owned(),
            }),
        }
    }
}

/// How much was written is not known, so that nothing can be tried again.
fn refused(error: io::Error) -> SinkError {
    let sink = "standard output".to_owned();
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            SinkError::NotThere { sink, what: "its reader has ended".to_owned() }
        }
        _ => SinkError::Refused { sink, what: format!("{error}. Export to it anew") },
    }
}

impl Sink for StandardOutput {
    fn identity(&mut self) -> Result<String, SinkError> {
        Ok("standard output".to_owned())
    }

    fn check(&mut self) -> Result<Vec<String>, SinkError> {
        Ok(Vec::new())
    }

    fn last(&mut self) -> Result<Option<String>, SinkError> {
        Ok(self.last.clone())
    }

    fn first(&mut self) -> Result<Option<String>, SinkError> {
        Ok(None)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            let text = std::str::from_utf8(&batch.text).expect("events are written as UTF-8");
            out.write_all(terminal::json(text).as_bytes()).map_err(refused)?;
        } else {
            out.write_all(&batch.text).map_err(refused)?;
        }
        if let Some((_, event)) = batch.last_event() {
            self.last = Some(event.to_owned());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        io::stdout().lock().flush().map_err(refused)
    }

    fn read(&mut self, _: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        unreachable!("it is never opened to read")
    }
}
