//! One job a line.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::item::{Bad, Item, Place};
use crate::wire::JobWire;

/// A longer line is refused, not read into memory.
const LONGEST_LINE_BYTES: u64 = 64 << 20;

pub(super) struct Lines<R> {
    path: Arc<Path>,
    input: R,
    line: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(path: Arc<Path>, input: R) -> Self {
        Self { path, input, line: 0, buffer: Vec::new() }
    }

    fn item(&self) -> Result<Item, String> {
        if self.buffer.len() as u64 > LONGEST_LINE_BYTES {
            return Err(format!("the line is longer than {LONGEST_LINE_BYTES} bytes"));
        }
        let text = self.buffer.trim_ascii();
        if text.starts_with(b"\xEF\xBB\xBF") {
            return Err("the line begins with a byte order mark; take it out".to_owned());
        }
        if text.starts_with(b"[") {
            return Err("expected one job as an object, found a list; `jq -c '.[]'` writes the \
                        members of a list one a line"
                .to_owned());
        }
        let wire: JobWire = serde_json::from_slice(self.buffer.trim_ascii_end())
            .map_err(|error| self.explained(&error))?;
        let job = wire.into_job(None).map_err(|invalid| invalid.to_string())?;
        Ok(Item { place: self.place(), job, bytes: self.buffer.len(), replaces: false })
    }

    fn explained(&self, error: &serde_json::Error) -> String {
        // The line within the line is always 1: it would only confuse.
        let text = error.to_string().replace(" at line 1 column", " at column");
        let ended = self.buffer.ends_with(b"\n");
        match error.is_eof() {
            true if ended => {
                format!("{text}: one job a line is read; `jq -c .` writes a job on one line")
            }
            true => format!("{text}: the input ends within this line"),
            false if self.buffer.trim_ascii_end().ends_with(b"},") => {
                format!("{text}: no comma follows a job")
            }
            false => text,
        }
    }

    fn place(&self) -> Place {
        Place { path: Arc::clone(&self.path), line: self.line }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Item, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.buffer.clear();
            self.line += 1;
            match (&mut self.input).take(LONGEST_LINE_BYTES + 1).read_until(b'\n', &mut self.buffer)
            {
                Ok(0) => return None,
                Ok(_) if self.buffer.trim_ascii().is_empty() => {}
                Ok(_) => {
                    return Some(self.item().map_err(|reason| Bad { place: self.place(), reason }));
                }
                Err(error) => {
                    return Some(Err(Bad { place: self.place(), reason: error.to_string() }));
                }
            }
        }
    }
}
