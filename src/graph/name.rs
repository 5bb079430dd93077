//! Names of graphs, jobs and datasets. The rules for names are only here.

use std::borrow::Borrow;
use std::fmt;

use arcstr::ArcStr;
use serde::{Serialize, Serializer};

/// A checked name: 1 to 512 bytes of UTF-8 without control characters, not `.` or `..`. Ordered
/// byte by byte. Cloning is O(1) and shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(ArcStr);

/// Why a text is not a [`Name`]. The client should send another text; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`Name::MAX_BYTES`].
    #[error("a name has at most {} bytes, this one has {bytes}", Name::MAX_BYTES)]
    TooLong {
        /// The text's length in bytes.
        bytes: usize,
    },
    /// The text holds a control character (Unicode category Cc).
    #[error(
        "a name must not hold control characters, this one has U+{:04X} at byte {at_byte}",
        *.character as u32
    )]
    ControlCharacter {
        /// The first such character.
        character: char,
        /// Where it begins.
        at_byte: usize,
    },
    /// The text is `.` or `..`, which have a meaning in paths.
    #[error("`{0}` is not a name")]
    Dots(String),
}

impl Name {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Checks `text`. O(length).
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    fn check(text: &str) -> Result<(), InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidName::TooLong { bytes: text.len() });
        }
        if text == "." || text == ".." {
            return Err(InvalidName::Dots(text.to_owned()));
        }
        // Most names are of printable ASCII alone. Without an early end, the processor looks at many
        // bytes at once.
        if text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
            return Ok(());
        }
        match text.char_indices().find(|(_, character)| character.is_control()) {
            Some((at_byte, character)) => Err(InvalidName::ControlCharacter { character, at_byte }),
            None => Ok(()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the text as [`Name::new`] does, and shares it.
impl TryFrom<ArcStr> for Name {
    type Error = InvalidName;

    fn try_from(text: ArcStr) -> Result<Self, InvalidName> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_texts_are_names() {
        for text in [
            "a",
            "a/b",
            "a%2Fb",
            "日本",
            "jobs",
            "s3://b/k?x=1#y",
            "...",
            " ",
            "\"",
            &"x".repeat(512),
        ] {
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_not_a_name_says_why() {
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert_eq!(Name::new("."), Err(InvalidName::Dots(".".into())));
        assert_eq!(Name::new(".."), Err(InvalidName::Dots("..".into())));
        assert_eq!(Name::new(&"é".repeat(257)), Err(InvalidName::TooLong { bytes: 514 }));
        assert_eq!(
            Name::new("a\tb"),
            Err(InvalidName::ControlCharacter { character: '\t', at_byte: 1 })
        );
        assert_eq!(
            Name::new("\u{85}"),
            Err(InvalidName::ControlCharacter { character: '\u{85}', at_byte: 0 })
        );
    }
}
