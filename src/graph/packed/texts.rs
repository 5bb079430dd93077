//! Names and JSON as bytes: of what came shortly before, no byte is written again.

use std::collections::{HashMap, VecDeque};

use super::bytes::{Bytes, push_number};
use super::error::UnpackError;
use super::format::{EMPTY_JSON, LAST_JSON, NEW_JSON, RECENT_TEXTS, SHARED_BYTES_MAX};
use crate::graph::canonical_text::is_canonical;
use crate::graph::json::CanonicalJson;
use crate::graph::slots::Slot;

/// Front coding: a text as the count of bytes that it shares with the beginning of the one before,
/// and the rest.
#[derive(Default)]
pub(super) struct FrontCoding {
    before: Vec<u8>,
}

impl FrontCoding {
    pub(super) fn write(&mut self, text: &str, part: &mut Vec<u8>) {
        let text = text.as_bytes();
        let pairs = self.before.iter().zip(text).take(SHARED_BYTES_MAX);
        let shared = pairs.take_while(|(before, now)| before == now).count();
        let rest = &text[shared..];
        push_number(part, shared as u64);
        push_number(part, rest.len() as u64);
        part.extend_from_slice(rest);
        self.before.truncate(shared);
        self.before.extend_from_slice(rest);
    }

    pub(super) fn read(&mut self, bytes: &mut Bytes<'_>) -> Result<&str, UnpackError> {
        let shared = bytes.number()?;
        if shared > self.before.len().min(SHARED_BYTES_MAX) as u64 {
            return Err(UnpackError::Number);
        }
        let length = bytes.count()?;
        self.before.truncate(shared as usize);
        self.before.extend_from_slice(bytes.take(length)?);
        str::from_utf8(&self.before).map_err(|_| UnpackError::NotText)
    }
}

/// Writes JSON objects.
#[derive(Default)]
pub(super) struct JsonWriter {
    texts: FrontCoding,
    /// The texts that can be referred to, the oldest first, and the number of each.
    recent: VecDeque<CanonicalJson>,
    numbers: HashMap<CanonicalJson, u64>,
    /// How many texts were written.
    written: u64,
}

impl JsonWriter {
    /// Writes the code of `json`, raised by `more`, and the text if it is new.
    pub(super) fn write(&mut self, json: &CanonicalJson, more: u64, part: &mut Vec<u8>) {
        if *json == CanonicalJson::default() {
            return push_number(part, more + EMPTY_JSON);
        }
        if let Some(number) = self.numbers.get(json) {
            return push_number(part, more + LAST_JSON + (self.written - 1 - number));
        }
        push_number(part, more + NEW_JSON);
        self.texts.write(json.as_str(), part);
        if self.recent.len() == RECENT_TEXTS
            && let Some(oldest) = self.recent.pop_front()
        {
            self.numbers.remove(&oldest);
        }
        self.recent.push_back(json.clone());
        self.numbers.insert(json.clone(), self.written);
        self.written += 1;
    }
}

/// Reads JSON objects. Those that are equal to a recent one share its text.
#[derive(Default)]
pub(super) struct JsonReader {
    texts: FrontCoding,
    /// The most recent first.
    recent: VecDeque<CanonicalJson>,
}

impl JsonReader {
    /// Reads the object with that code. It belongs to the job or dataset `what` with that id.
    pub(super) fn read(
        &mut self,
        what: &'static str,
        id: Slot,
        code: u64,
        bytes: &mut Bytes<'_>,
    ) -> Result<CanonicalJson, UnpackError> {
        match code {
            EMPTY_JSON => Ok(CanonicalJson::default()),
            NEW_JSON => {
                let text = self.texts.read(bytes)?;
                if !is_canonical(text) {
                    return Err(UnpackError::Json { what, id });
                }
                let json = CanonicalJson::from_canonical(text);
                self.recent.truncate(RECENT_TEXTS - 1);
                self.recent.push_front(json.clone());
                Ok(json)
            }
            _ => {
                let before = usize::try_from(code - LAST_JSON).ok();
                let json = before.and_then(|before| self.recent.get(before));
                json.cloned().ok_or(UnpackError::Number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(number: usize) -> CanonicalJson {
        CanonicalJson::parse(&format!(r#"{{"n":{number}}}"#)).unwrap()
    }

    #[test]
    fn texts_are_referred_to_as_long_as_both_sides_have_them() {
        let (mut writer, mut reader) = (JsonWriter::default(), JsonReader::default());
        let numbers = (0..RECENT_TEXTS + 2).chain([1, 3, RECENT_TEXTS + 1, 1, 0]);
        let mut lengths = Vec::new();
        for number in numbers {
            let mut part = Vec::new();
            writer.write(&json(number), 0, &mut part);
            lengths.push(part.len());
            let mut bytes = Bytes::of(&part);
            let code = bytes.number().unwrap();
            assert_eq!(reader.read("job", 0, code, &mut bytes), Ok(json(number)), "{number}");
            assert!(bytes.is_empty());
        }
        assert_eq!(writer.recent.len(), RECENT_TEXTS);
        assert_eq!(writer.numbers.len(), RECENT_TEXTS);
        assert_eq!(reader.recent.len(), RECENT_TEXTS);
        let is_reference: Vec<bool> =
            lengths[RECENT_TEXTS + 2..].iter().map(|&length| length <= 3).collect();
        assert_eq!(is_reference, [false, true, true, true, false], "0 and 1 had gone");
    }

    #[test]
    fn no_more_is_shared_than_was_there_or_than_the_limit() {
        let read = |texts: &mut FrontCoding, bytes: &[u8]| {
            texts.read(&mut Bytes::of(bytes)).map(str::to_owned)
        };
        let mut texts = FrontCoding::default();
        assert_eq!(read(&mut texts, &[1, 1, b'a']), Err(UnpackError::Number));
        assert_eq!(read(&mut texts, &[0, 2, b'a', b'b']), Ok("ab".to_owned()));
        assert_eq!(read(&mut texts, &[2, 0]), Ok("ab".to_owned()));
        assert_eq!(read(&mut texts, &[1, 1, b'c']), Ok("ac".to_owned()));
        assert_eq!(read(&mut texts, &[1, 1, 0xc3]), Err(UnpackError::NotText));

        let long = "x".repeat(2 * SHARED_BYTES_MAX);
        let (mut writer, mut part) = (FrontCoding::default(), Vec::new());
        writer.write(&long, &mut part);
        assert_eq!(read(&mut texts, &part), Ok(long.clone()));
        part.clear();
        writer.write(&long, &mut part);
        assert_eq!(read(&mut texts, &part), Ok(long));
        part.clear();
        push_number(&mut part, SHARED_BYTES_MAX as u64 + 1);
        part.push(0);
        assert_eq!(read(&mut texts, &part), Err(UnpackError::Number));
    }

    /// The bytes that two names share may end within a character.
    #[test]
    fn characters_that_begin_alike_are_put_together_again() {
        let (mut writer, mut reader) = (FrontCoding::default(), FrontCoding::default());
        for text in ["日本", "日有", "é", "è", "", "é"] {
            let mut part = Vec::new();
            writer.write(text, &mut part);
            assert_eq!(reader.read(&mut Bytes::of(&part)), Ok(text));
        }
    }
}
