//! Canonical JSON objects: how a job's `spec` and a dataset's `metadata` are kept, compared and
//! hashed.
//!
//! Canonical means: keys sorted by bytes, no white space, the shortest escapes, numbers with the
//! digits that they came with. The text is the value: no number is converted to binary, so nothing
//! is rounded.

use std::collections::BTreeMap;
use std::fmt;

use arcstr::ArcStr;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON object as canonical text. Cloning is O(1); the empty object takes no memory of its own.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct CanonicalJson(Option<ArcStr>);

/// Why a text is not an object that Fencepost keeps. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON; the message names line and column.
    #[error("{0}")]
    Syntax(String),
    /// The value is JSON, but not an object.
    #[error("expected a JSON object")]
    NotAnObject,
    /// Objects and arrays are nested deeper than [`CanonicalJson::MAX_DEPTH`].
    #[error("nested deeper than {} levels", CanonicalJson::MAX_DEPTH)]
    TooDeep,
    /// One object names a key twice.
    #[error("duplicate key `{0}`")]
    DuplicateKey(String),
}

impl CanonicalJson {
    /// The deepest nesting; the object itself is level 1.
    pub const MAX_DEPTH: usize = 64;

    /// Reads one JSON object. O(length · log keys).
    ///
    /// # Errors
    /// [`JsonError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::from_raw(
            serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?,
        )
    }

    /// As [`parse`](Self::parse), for a value that `serde_json` has already checked to be JSON.
    ///
    /// # Errors
    /// As of [`parse`](Self::parse). Of syntax errors, only an escape that is no character remains.
    pub fn from_raw(raw: &RawValue) -> Result<Self, JsonError> {
        match read(raw.get())? {
            Json::Object(members) => Ok(Self::from_members(&members)),
            Json::Array(_) | Json::Scalar(_) => Err(JsonError::NotAnObject),
        }
    }

    /// Takes text that this type wrote before, for example from a database's column, without
    /// checking it again.
    #[must_use]
    pub fn from_canonical(text: impl AsRef<str> + Into<ArcStr>) -> Self {
        if text.as_ref() == "{}" { Self(None) } else { Self(Some(text.into())) }
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("{}")
    }

    fn members(&self) -> BTreeMap<String, Json> {
        let Ok(Json::Object(members)) = read(self.as_str()) else {
            unreachable!("canonical text is an object");
        };
        members
    }

    fn from_members(members: &BTreeMap<String, Json>) -> Self {
        if members.is_empty() {
            return Self(None);
        }
        let mut text = String::new();
        write_members(members, &mut text);
        Self(Some(text.into()))
    }
}

impl fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CanonicalJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue =
            serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// An object that JSON merge patches change, one after another (RFC 7396: objects merge, `null`
/// removes, all else replaces). The object is read at its first patch and written once.
pub(super) enum PatchedJson {
    /// No patch yet.
    Canonical(CanonicalJson),
    /// Its members, with all patches merged in.
    Members(BTreeMap<String, Json>),
}

impl PatchedJson {
    /// Merges `patch`. O(p log k) for a patch of p bytes and objects of k keys; the first patch
    /// also reads the object that it changes.
    pub(super) fn merge(&mut self, patch: &CanonicalJson) {
        let patch = patch.members();
        if let Self::Canonical(object) = self {
            *self = Self::Members(object.members());
        }
        let Self::Members(members) = self else { unreachable!("the members were just read") };
        merge(members, patch);
    }

    /// The canonical text. O(1) without a patch, else O(length).
    pub(super) fn canonical(&self) -> CanonicalJson {
        match self {
            Self::Canonical(object) => object.clone(),
            Self::Members(members) => CanonicalJson::from_members(members),
        }
    }
}

/// A value whose scalars stay text, in canonical form.
pub(super) enum Json {
    Object(BTreeMap<String, Json>),
    Array(Vec<Json>),
    Scalar(String),
}

/// Reads text that is known to be JSON: the scanner relies on it, and checks only what JSON itself
/// allows (duplicate keys, depth, escapes that are half a surrogate pair).
fn read(text: &str) -> Result<Json, JsonError> {
    Reader { text, at: 0 }.value(1)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    /// Recursion ends at `MAX_DEPTH`.
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        match self.peek() {
            b'{' | b'[' if depth > CanonicalJson::MAX_DEPTH => Err(JsonError::TooDeep),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => Ok(Json::Scalar(escape(&self.string()?))),
            _ => Ok(Json::Scalar(self.bare())),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut members = BTreeMap::new();
        self.at += 1;
        while self.peek() != b'}' {
            let key = self.string()?;
            self.skip(b':');
            let value = self.value(depth + 1)?;
            if members.contains_key(&key) {
                return Err(JsonError::DuplicateKey(key));
            }
            members.insert(key, value);
            self.skip(b',');
        }
        self.at += 1;
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.at += 1;
        while self.peek() != b']' {
            items.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        self.at += 1;
        Ok(Json::Array(items))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.peek();
        let rest = &self.text.as_bytes()[self.at..];
        let mut end = 1;
        while rest[end] != b'"' {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let quoted = &self.text[self.at..=self.at + end];
        self.at += end + 1;
        if quoted.contains('\\') {
            serde_json::from_str(quoted).map_err(|error| JsonError::Syntax(error.to_string()))
        } else {
            Ok(quoted[1..quoted.len() - 1].to_owned())
        }
    }

    /// A number, `true`, `false` or `null`.
    fn bare(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    /// The next byte that is not white space. A closing bracket always follows inside a value, so
    /// there is one.
    fn peek(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
        self.text.as_bytes()[self.at]
    }

    fn skip(&mut self, byte: u8) {
        if self.peek() == byte {
            self.at += 1;
        }
    }
}

fn escape(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

fn write_value(value: &Json, text: &mut String) {
    match value {
        Json::Object(members) => write_members(members, text),
        Json::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        Json::Scalar(scalar) => text.push_str(scalar),
    }
}

fn write_members(members: &BTreeMap<String, Json>, text: &mut String) {
    text.push('{');
    for (i, (key, value)) in members.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&escape(key));
        text.push(':');
        write_value(value, text);
    }
    text.push('}');
}

fn merge(target: &mut BTreeMap<String, Json>, patch: BTreeMap<String, Json>) {
    for (key, value) in patch {
        match value {
            Json::Scalar(scalar) if scalar == "null" => {
                target.remove(&key);
            }
            Json::Object(members) => {
                let slot = target.entry(key).or_insert_with(|| Json::Scalar(String::new()));
                if !matches!(slot, Json::Object(_)) {
                    *slot = Json::Object(BTreeMap::new());
                }
                let Json::Object(inner) = slot else { unreachable!("made an object above") };
                merge(inner, members);
            }
            other => {
                target.insert(key, other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<String, JsonError> {
        CanonicalJson::parse(text).map(|json| json.as_str().to_owned())
    }

    #[test]
    fn keys_are_sorted_and_numbers_keep_their_digits() {
        let text = r#" { "b" : [ 1.0, 1E5 , -0, 12345678901234567890123 ], "a":{"é":null, "A" : true} , "" : "x" } "#;
        let expected =
            r#"{"":"x","a":{"A":true,"é":null},"b":[1.0,1E5,-0,12345678901234567890123]}"#;
        assert_eq!(canonical(text).unwrap(), expected);
        assert_eq!(canonical(expected).unwrap(), expected);
    }

    #[test]
    fn escapes_are_the_shortest() {
        let text = r#"{"k":"\u0041\/\u00e9\u001f\n\u000a\"\\\ud83d\ude00\u007f"}"#;
        assert_eq!(canonical(text).unwrap(), "{\"k\":\"A/é\\u001f\\n\\n\\\"\\\\😀\u{7f}\"}");
    }

    #[test]
    fn what_is_not_kept_says_why() {
        assert_eq!(canonical("[]"), Err(JsonError::NotAnObject));
        assert_eq!(
            canonical(r#"{"a":{"b":1,"\u0062":2}}"#),
            Err(JsonError::DuplicateKey("b".into()))
        );
        assert!(matches!(canonical(r#"{"a":"\ud800"}"#), Err(JsonError::Syntax(_))));
        assert!(matches!(canonical(r#"{"a":1"#), Err(JsonError::Syntax(_))));
        assert!(matches!(canonical(r#"{"a":1} x"#), Err(JsonError::Syntax(_))));
    }

    #[test]
    fn depth_is_limited_and_does_not_touch_the_stack() {
        let nested =
            |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth - 1) + "{", "}".repeat(depth));
        assert!(canonical(&nested(64)).is_ok());
        assert_eq!(canonical(&nested(65)), Err(JsonError::TooDeep));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(canonical(&deep), Err(JsonError::TooDeep));
    }

    #[test]
    fn merge_patch_follows_the_examples_of_its_rfc() {
        let patched = |target: &str, patch: &str| {
            let (target, patch) =
                (CanonicalJson::parse(target).unwrap(), CanonicalJson::parse(patch).unwrap());
            let mut patched = PatchedJson::Canonical(target);
            patched.merge(&patch);
            patched.canonical().as_str().to_owned()
        };
        assert_eq!(patched(r#"{"a":"b"}"#, r#"{"a":"c"}"#), r#"{"a":"c"}"#);
        assert_eq!(patched(r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#), r#"{"b":"c"}"#);
        assert_eq!(patched(r#"{"a":["b"]}"#, r#"{"a":"c"}"#), r#"{"a":"c"}"#);
        assert_eq!(
            patched(r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#),
            r#"{"a":{"b":"d"}}"#
        );
        assert_eq!(patched(r#"{"e":null}"#, r#"{"a":1}"#), r#"{"a":1,"e":null}"#);
        assert_eq!(patched("{}", r#"{"a":{"bb":{"ccc":null}}}"#), r#"{"a":{"bb":{}}}"#);
    }
    #[test]
    fn patches_one_after_another_are_merged_in_their_order() {
        let object = |text: &str| CanonicalJson::parse(text).unwrap();
        let mut patched = PatchedJson::Canonical(object(r#"{"a":{"b":1},"z":0}"#));
        for patch in [r#"{"a":{"c":2}}"#, r#"{"a":{"b":null}}"#, r#"{"n":{"m":null}}"#, "{}"] {
            patched.merge(&object(patch));
        }
        assert_eq!(patched.canonical().as_str(), r#"{"a":{"c":2},"n":{},"z":0}"#);
        patched.merge(&object(r#"{"a":null,"n":null,"z":null}"#));
        assert!(patched.canonical() == CanonicalJson::default());
    }
}
