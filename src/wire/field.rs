//! One field of a request: whether it is there, and what it means.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::InvalidOperation;
use crate::graph::{CanonicalJson, Name};

/// Reads an optional field so that `null` is an error and not the same as no field: a precondition
/// of `null`, say, is a mistake.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The value of a field that must be there.
pub(super) fn required<T>(at: &str, field: Option<T>) -> Result<T, InvalidOperation> {
    field.ok_or_else(|| InvalidOperation::malformed(at, "is missing"))
}

/// The name in the field at `at`.
pub(super) fn name_at(at: &str, text: &str) -> Result<Name, InvalidOperation> {
    Name::new(text).map_err(|reason| InvalidOperation::Name { at: at.to_owned(), reason })
}

/// The list of names in the field at `at`, sorted and each once.
pub(super) fn names_at(at: &str, texts: Vec<String>) -> Result<Vec<Name>, InvalidOperation> {
    let checked = texts.iter().enumerate().map(|(i, text)| {
        Name::new(text)
            .map_err(|reason| InvalidOperation::Name { at: format!("{at}[{i}]"), reason })
    });
    let mut names = checked.collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The JSON object in the field at `at`.
pub(super) fn object_at(at: &str, raw: &RawValue) -> Result<CanonicalJson, InvalidOperation> {
    CanonicalJson::from_raw(raw).map_err(|error| InvalidOperation::malformed(at, error.to_string()))
}
