//! Results, on standard output. All else that the program says goes to standard error: see
//! [`failure`](super::failure).

use std::io::{self, IsTerminal as _, Write as _};

use fencepost::terminal;

use super::failure::Failure;

/// Writes a result for people. A reader that closes the pipe is no failure. Text from elsewhere
/// that may hold line feeds or tabs must have been made [`OneLine`](terminal::OneLine).
pub fn print(text: &str) -> Result<(), Failure> {
    let shown = match io::stdout().is_terminal() {
        true => terminal::lines(text),
        false => terminal::piped_lines(text),
    };
    write_some(&shown).map(drop)
}

/// Writes a result in JSON.
pub fn print_json(text: &str) -> Result<(), Failure> {
    write_some(&terminal::json(text)).map(drop)
}

/// Writes a part of a result. Returns `false` when the reader has closed the pipe.
pub fn write_some(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::refused(format!(
            "the result could not be written to standard output: {error}; what was asked for is \
             done"
        ))),
    }
}
