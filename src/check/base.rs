//! The graph that histories begin with, from a file: what `fencepost export` writes, or
//! `GET …/snapshot` answers. Read naively, and proven by the digest that the file names.
//!
//! Knows the form of an event as far as it must, and shares no code with what writes events.

use std::borrow::Cow;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::facts::{Fact, read_change, read_part};
use super::history::InputError;
use super::model::State;
use super::recorded_request::Texts;
use crate::object::objects_only;

/// A graph at a version.
#[derive(Debug)]
pub struct Base {
    /// The graph, and its version.
    pub state: State,
    /// The hash over all changes up to it.
    pub chain: [u8; 32],
}

/// One event, as far as it is looked at.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct EventWire<'l> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'l, str>,
    graphversion: u64,
    #[serde(borrow)]
    chainhash: Cow<'l, str>,
    #[serde(borrow)]
    data: &'l RawValue,
}

/// What the end of an import says of the whole graph.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ContentsWire {
    digest: String,
}

objects_only!(EventWire<'l>, ContentsWire);

impl Base {
    /// Reads events up to `version`: an import of the graph, and the changes after it; or the
    /// changes from the first on. What comes later is not read. O(length).
    ///
    /// # Errors
    /// [`InputError`] if the file does not lead to that version, or to another graph than it says.
    pub fn read(
        name: &str,
        file: impl BufRead,
        version: u64,
        texts: &mut Texts,
    ) -> Result<Self, InputError> {
        let mut reader =
            Reader { texts, state: State::default(), chain: [0; 32], importing: false };
        let (mut file, mut text) = (file, String::new());
        let mut number = 0;
        while reader.importing || reader.state.version < version {
            text.clear();
            number += 1;
            let at = |what: String| InputError::Line { file: name.to_owned(), line: number, what };
            if file.read_line(&mut text).map_err(|error| at(error.to_string()))? == 0 {
                let reached = reader.state.version;
                let what = format!(
                    "ends at version {reached}{}, and the histories begin at version {version}",
                    if reader.importing { ", within an import" } else { "" },
                );
                return Err(InputError::File { file: name.to_owned(), what });
            }
            reader.take(&text).map_err(at)?;
        }
        let Reader { state, chain, .. } = reader;
        if state.version != version {
            let what = format!(
                "holds the graph at version {}, and the histories begin at version {version}",
                state.version
            );
            return Err(InputError::File { file: name.to_owned(), what });
        }
        Ok(Self { state, chain })
    }
}

struct Reader<'t> {
    texts: &'t mut Texts,
    state: State,
    chain: [u8; 32],
    /// Whether an import has begun that has not ended.
    importing: bool,
}

impl Reader<'_> {
    fn take(&mut self, text: &str) -> Result<(), String> {
        let event: EventWire<'_> =
            serde_json::from_str(text).map_err(|error| format!("no event: {error}"))?;
        let version = event.graphversion;
        match &*event.kind {
            "dev.fencepost.import.begun.v1" => {
                self.state = State { version, ..State::default() };
                self.importing = true;
            }
            "dev.fencepost.imported.v1" if self.importing && version == self.state.version => {
                let (facts, job_version) = read_part(event.data.get(), self.texts)?;
                self.add(&facts, job_version)?;
            }
            "dev.fencepost.import.ended.v1" if self.importing && version == self.state.version => {
                let contents: ContentsWire =
                    serde_json::from_str(event.data.get()).map_err(|error| error.to_string())?;
                let digest = self.state.digest();
                if contents.digest != digest {
                    let told = contents.digest;
                    return Err(format!("the graph has digest {digest}, and not {told}"));
                }
                (self.importing, self.chain) = (false, chain(&event.chainhash)?);
            }
            "dev.fencepost.changed.v1" if !self.importing && version == self.state.version + 1 => {
                let (_, facts) = read_change(event.data.get(), self.texts)?;
                self.state.apply(&facts)?;
                self.chain = chain(&event.chainhash)?;
            }
            kind => {
                let at = self.state.version;
                return Err(format!("`{kind}` of version {version} cannot follow version {at}"));
            }
        }
        Ok(())
    }

    /// A part of an import: the graph stays at its version.
    fn add(&mut self, facts: &[Fact], job_version: Option<u64>) -> Result<(), String> {
        let version = self.state.version;
        self.state.apply(facts)?;
        self.state.version = version;
        for fact in facts {
            if let Fact::JobCreated { name, .. } = fact {
                let job_version = job_version.ok_or("a job without its version")?;
                self.state.jobs.entry(name.clone()).and_modify(|job| job.version = job_version);
            }
        }
        Ok(())
    }
}

fn chain(hex: &str) -> Result<[u8; 32], String> {
    let digits = || {
        let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
        bytes?.try_into().ok()
    };
    digits().filter(|_| hex.len() == 64).ok_or_else(|| format!("`{hex}` is no chain"))
}
