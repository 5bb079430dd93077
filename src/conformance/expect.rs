//! What answers are held against. Each of these says, when it does not hold, what was asked, what
//! was expected and what came.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::client::Answer;
use super::unmet::Unmet;

/// What the `type` of a problem begins with.
const PROBLEM: &str = "urn:fencepost:problem:";

impl Answer {
    /// The answer is not what it must be.
    pub fn broken(&self, expected: impl Display) -> Unmet {
        Unmet::Broken(format!("{}: expected {expected}, got {}", self.call, self.shown()))
    }

    /// The answer, if `holds`.
    pub fn must(self, holds: bool, expected: impl Display) -> Result<Self, Unmet> {
        if holds { Ok(self) } else { Err(self.broken(expected)) }
    }

    /// Has this status.
    pub fn is(self, status: u16) -> Result<Self, Unmet> {
        let is = self.status == status;
        self.must(is, status)
    }

    /// Has one of these statuses.
    pub fn one_of(self, statuses: &[u16]) -> Result<Self, Unmet> {
        let is = statuses.contains(&self.status);
        let listed: Vec<String> = statuses.iter().map(u16::to_string).collect();
        self.must(is, listed.join(" or "))
    }

    /// The body, which must be a JSON object.
    pub fn object(&self) -> Result<Value, Unmet> {
        match self.json() {
            Some(object @ Value::Object(_)) => Ok(object),
            _ => Err(self.broken("a JSON object")),
        }
    }

    /// Is a JSON object in which each of these members has this value; it may have others.
    pub fn tells(self, members: Value) -> Result<Self, Unmet> {
        let Value::Object(members) = members else { unreachable!("members are an object") };
        let told = self.object()?;
        for (name, value) in &members {
            if told.get(name) != Some(value) {
                return Err(self.broken(format_args!("`{name}` to be {value}")));
            }
        }
        Ok(self)
    }

    /// Has this header with this value, or does not have it at all.
    pub fn has(self, name: &str, value: Option<&str>) -> Result<Self, Unmet> {
        let told = self.header(name);
        if told.as_deref() == value {
            return Ok(self);
        }
        let quoted = |value: Option<&str>| match value {
            Some(value) => format!("header {name}: {value}"),
            None => format!("no header {name}"),
        };
        Err(Unmet::Broken(format!(
            "{}: expected {}, got {} with status {}",
            self.call,
            quoted(value),
            quoted(told.as_deref()),
            self.status
        )))
    }

    /// Is of this media type, whatever its parameters.
    pub fn has_media_type(self, media_type: &str) -> Result<Self, Unmet> {
        let told = self.header("Content-Type").unwrap_or_default();
        let plain = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let call = self.call.clone();
        if plain == media_type {
            return Ok(self);
        }
        Err(Unmet::Broken(format!(
            "{call}: expected header Content-Type: {media_type}, got `{told}` with status {}",
            self.status
        )))
    }

    /// Is an accepted write: status, `version` and `changed`.
    pub fn accepted(self, status: u16, version: u64, changed: bool) -> Result<Self, Unmet> {
        let told = self.json().unwrap_or_default();
        let is = self.status == status && told["version"] == version && told["changed"] == changed;
        self.must(is, format_args!("{status} with version {version} and changed {changed}"))
    }

    /// Is this problem, by its status and the end of its `type`.
    pub fn problem(self, status: u16, name: &str) -> Result<Self, Unmet> {
        let told = self.json().unwrap_or_default();
        let is = self.status == status && told["type"] == format!("{PROBLEM}{name}");
        self.must(is, format_args!("{status} with problem `{name}`"))
    }

    /// Is the problem `malformed`, at this place.
    pub fn malformed(self, at: &str) -> Result<Self, Unmet> {
        self.problem(400, "malformed")?.tells(object([("at", at.into())]))
    }

    /// Is the answer to a precondition that does not hold.
    pub fn precondition_failed(self, expected: Value, actual: Value) -> Result<Self, Unmet> {
        let members = object([("expected", expected), ("actual", actual)]);
        self.problem(412, "precondition_failed")?.tells(members)
    }

    /// The names that the member `name` of each of the `items` has.
    pub fn names(&self, name: &str) -> Result<Vec<String>, Unmet> {
        let told = self.object()?;
        let items = told["items"].as_array().ok_or_else(|| self.broken("a list `items`"))?;
        let name_of = |item: &Value| item[name].as_str().map(str::to_owned);
        let names: Option<Vec<String>> = items.iter().map(name_of).collect();
        names.ok_or_else(|| self.broken(format_args!("items with a text `{name}`")))
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(Map::from_iter(members.map(|(name, value)| (name.to_owned(), value))))
}
