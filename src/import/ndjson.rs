//! One job a line.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::{Bad, Item, Place};
use crate::graph::JobWire;

/// A longer line is refused, not read into memory.
const LONGEST_LINE_BYTES: u64 = 64 << 20;

pub(super) struct Lines<R> {
    path: Arc<Path>,
    input: R,
    line: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(path: &Path, input: R) -> Self {
        Self { path: path.into(), input, line: 0, buffer: Vec::new() }
    }

    fn item(&self) -> Result<Item, String> {
        if self.buffer.len() as u64 > LONGEST_LINE_BYTES {
            return Err(format!("the line is longer than {LONGEST_LINE_BYTES} bytes"));
        }
        if self.buffer.starts_with(b"\xEF\xBB\xBF") {
            return Err(
                "the file begins with a byte order mark; save it as UTF-8 without one".to_owned()
            );
        }
        let wire: JobWire =
            serde_json::from_slice(self.buffer.trim_ascii_end()).map_err(|error| {
                // The line within the line is always 1: it would only confuse.
                error.to_string().replace(" at line 1 column", " at column")
            })?;
        let job = wire.into_job(None).map_err(|invalid| invalid.to_string())?;
        Ok(Item { place: self.place(), job, bytes: self.buffer.len() })
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
