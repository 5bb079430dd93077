//! Canonical JSON, written a second time: how specifications and metadata are compared and hashed.
//!
//! Keys sorted by bytes, no white space, the shortest escapes, numbers with the digits that they
//! came with. May use serde_json for what JSON is; must never know the service's own canonical
//! form.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The deepest nesting; the object itself is level 1.
const MAX_DEPTH: usize = 64;

/// Scalars stay text.
enum Json {
    Object(BTreeMap<String, Json>),
    Array(Vec<Json>),
    Scalar(String),
}

/// The canonical text of an object. O(length · depth).
///
/// # Errors
/// Says why it is none that Fencepost keeps.
pub fn canonical(object: &RawValue) -> Result<String, String> {
    if object.get() == "{}" {
        return Ok("{}".to_owned());
    }
    match read(object, 1)? {
        json @ Json::Object(_) => Ok(text(&json)),
        Json::Array(_) | Json::Scalar(_) => Err("expected a JSON object".to_owned()),
    }
}

/// The canonical `target` changed by the canonical `patch` as RFC 7396 says: objects merge, `null`
/// removes, all else replaces.
pub fn merge_patch(target: &str, patch: &str) -> String {
    let parse = |text: &str| {
        let raw = serde_json::from_str(text).expect("canonical text is JSON");
        read(raw, 1).expect("canonical text was read before")
    };
    text(&merged(Some(parse(target)), parse(patch)))
}

fn merged(target: Option<Json>, patch: Json) -> Json {
    let Json::Object(patch) = patch else { return patch };
    let mut members = match target {
        Some(Json::Object(members)) => members,
        _ => BTreeMap::new(),
    };
    for (key, value) in patch {
        if matches!(&value, Json::Scalar(scalar) if scalar == "null") {
            members.remove(&key);
        } else {
            let old = members.remove(&key);
            members.insert(key, merged(old, value));
        }
    }
    Json::Object(members)
}

/// Those members of an object whose names are `wanted`; the others are not looked at. `None` if it
/// is no object, if one of them comes twice, or holds a number that no value can. O(length).
pub fn members(object: &str, wanted: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let mut text = serde_json::Deserializer::from_str(object);
    let members = Wanted(wanted).deserialize(&mut text).ok()?;
    text.end().ok()?;
    Some(members)
}

struct Wanted<F>(F);

impl<'j, F: Fn(&str) -> bool> DeserializeSeed<'j> for Wanted<F> {
    type Value = Map<String, Value>;

    fn deserialize<D: serde::Deserializer<'j>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'j, F: Fn(&str) -> bool> Visitor<'j> for Wanted<F> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if !(self.0)(&name) {
                map.next_value::<IgnoredAny>()?;
            } else if members.insert(name, map.next_value()?).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(members)
    }
}

fn read(raw: &RawValue, depth: usize) -> Result<Json, String> {
    let fail = |error: serde_json::Error| error.to_string();
    match raw.get().as_bytes()[0] {
        b'{' | b'[' if depth > MAX_DEPTH => Err(format!("nested deeper than {MAX_DEPTH} levels")),
        b'{' => {
            let mut members = BTreeMap::new();
            for (key, value) in serde_json::from_str::<Members<'_>>(raw.get()).map_err(fail)?.0 {
                match members.entry(key) {
                    Entry::Occupied(entry) => {
                        return Err(format!("duplicate key `{}`", entry.key()));
                    }
                    Entry::Vacant(entry) => drop(entry.insert(read(value, depth + 1)?)),
                }
            }
            Ok(Json::Object(members))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(fail)?;
            Ok(Json::Array(
                items.into_iter().map(|item| read(item, depth + 1)).collect::<Result<_, _>>()?,
            ))
        }
        // Written anew: of two spellings of a string only one is the shortest.
        b'"' => serde_json::from_str(raw.get())
            .map(|string: String| Json::Scalar(quoted(&string)))
            .map_err(fail),
        _ => Ok(Json::Scalar(raw.get().to_owned())),
    }
}

/// The members in their order, with those that come twice.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'j> Deserialize<'j> for Members<'j> {
    fn deserialize<D: serde::Deserializer<'j>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'j> Visitor<'j> for All {
            type Value = Members<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

/// A string as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

fn text(json: &Json) -> String {
    match json {
        Json::Scalar(scalar) => scalar.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
        Json::Object(members) => {
            let members =
                members.iter().map(|(key, value)| format!("{}:{}", quoted(key), text(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}
