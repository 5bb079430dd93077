//! Reads text that has one spelling, piece by piece, without a general parser of JSON.
//!
//! Changes and events are spelled in one way only. Whoever reads many of them expects that way, and
//! gets `None` at the first byte that is another: it then reads the text by the general parser,
//! which accepts no more, and says what is wrong.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::CanonicalJson;
use super::name::Name;

/// What is left of a text.
pub(crate) struct Scanner<'t> {
    rest: &'t str,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { rest: text }
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'t str {
        self.rest
    }

    /// Whether the text goes on with `literal`, which is then read.
    pub(crate) fn is_next(&mut self, literal: &str) -> bool {
        let rest = self.rest.strip_prefix(literal);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Reads `literal`.
    pub(crate) fn literal(&mut self, literal: &str) -> Option<()> {
        self.is_next(literal).then_some(())
    }

    /// Reads so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'t str> {
        let (read, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(read)
    }

    /// Reads a number of JSON without sign, fraction or exponent; with its digits.
    pub(crate) fn number(&mut self) -> Option<(u64, &'t str)> {
        let end = self.rest.bytes().position(|byte| !byte.is_ascii_digit());
        let digits = self.bytes(end.unwrap_or(self.rest.len()))?;
        let is_shortest = digits == "0" || !digits.starts_with('0');
        digits.parse().ok().filter(|_| is_shortest).map(|number| (number, digits))
    }

    /// Reads a string of JSON in which nothing is escaped, with its quotes; what is between them.
    pub(crate) fn plain_string(&mut self) -> Option<&'t str> {
        let rest = self.rest.strip_prefix('"')?;
        let end = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
        self.rest = rest[end..].strip_prefix('"')?;
        Some(&rest[..end])
    }

    pub(super) fn name(&mut self) -> Option<Name> {
        Name::new(self.plain_string()?).ok()
    }

    pub(super) fn names(&mut self) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        self.literal("[")?;
        while !self.is_next("]") {
            if !names.is_empty() {
                self.literal(",")?;
            }
            names.push(self.name()?);
        }
        Some(names)
    }

    /// Reads an object in canonical form.
    pub(super) fn canonical_json(&mut self) -> Option<CanonicalJson> {
        if self.is_next("{}") {
            return Some(CanonicalJson::default());
        }
        let mut reader = serde_json::Deserializer::from_str(self.rest);
        let raw: &RawValue = Deserialize::deserialize(&mut reader).ok()?;
        let json = CanonicalJson::from_raw(raw).ok()?;
        self.literal(json.as_str())?;
        Some(json)
    }
}
