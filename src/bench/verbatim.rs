//! JSON as it was answered. Nothing of it becomes a binary number on the way into a history, so a
//! server that respells digits is found by whoever judges the history.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value: digits, escapes, order of members and spaces as they came. Line breaks between
/// its parts are spaces, so that it fits on a line of a history.
#[derive(Clone)]
pub struct Verbatim(Box<RawValue>);

impl Verbatim {
    /// The JSON value that `text` is, white space around it left out; `None` if it is none. O(its
    /// length).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self::on_one_line)
    }

    /// `value` as JSON. Only for what always is JSON.
    pub(super) fn of(value: &impl Serialize) -> Self {
        let raw = serde_json::value::to_raw_value(value);
        Self::on_one_line(raw.expect("names, numbers and JSON are always JSON"))
    }

    /// Strings of JSON hold no bare line break.
    fn on_one_line(raw: Box<RawValue>) -> Self {
        let text = raw.get();
        if !text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Self(raw);
        }
        let text = text.replace(['\n', '\r'], " ");
        Self(RawValue::from_string(text).expect("one white space is as good as another"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The object as a `T`, which may borrow from it; `None` if it is none, or no object.
    pub(super) fn read<'v, T: Deserialize<'v>>(&'v self) -> Option<T> {
        serde_json::from_str(self.as_str()).ok()
    }

    /// The member of that name, if this is an object that has one and it is a `T`.
    #[must_use]
    pub fn member<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let members: BTreeMap<Cow<'_, str>, &RawValue> = self.read()?;
        serde_json::from_str(members.get(name)?.get()).ok()
    }
}

impl Serialize for Verbatim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Display for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_as_it_came_but_for_line_breaks() {
        let kept = |text: &str| Verbatim::parse(text.as_bytes()).map(|json| json.to_string());
        let hostile = r#"{"b":[1.10, 1e400,-0,0.1e1],"a":12345678901234567890123,"A":"\u0041\n"}"#;
        assert_eq!(kept(hostile).as_deref(), Some(hostile));
        assert_eq!(kept("\n{\"a\":\r\n  1.0}\n").as_deref(), Some("{\"a\":    1.0}"));
        for none in ["", "{", "{} {}", "NaN", "01", "\u{feff}{}"] {
            assert_eq!(kept(none), None, "{none}");
        }
        assert!(Verbatim::parse(b"\"\xff\"").is_none());
    }

    #[test]
    fn a_member_is_read_whatever_stands_beside_it() {
        let json = Verbatim::parse(br#"{"x":1e400,"version":7,"digest":"ab\u0063"}"#).unwrap();
        assert_eq!(json.member::<u64>("version"), Some(7));
        assert_eq!(json.member::<String>("digest").as_deref(), Some("abc"));
        assert_eq!((json.member::<u64>("x"), json.member::<u64>("y")), (None, None));
        let list = Verbatim::parse(b"[[\"version\",7]]").unwrap();
        assert_eq!(list.member::<u64>("version"), None);
    }
}
