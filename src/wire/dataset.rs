//! Datasets.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::error::InvalidOperation;
use super::field::{object_at, present};
use crate::graph::{CanonicalJson, Name};
use crate::object::objects_only;

/// The JSON of a dataset: `{"metadata":{…}}`. The other fields that `GET` answers are ignored, so
/// that what was read can be put back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct DatasetWire {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Box<RawValue>>,
    #[serde(rename = "declared")]
    _declared: Option<IgnoredAny>,
    #[serde(rename = "producer")]
    _producer: Option<IgnoredAny>,
    #[serde(rename = "consumers")]
    _consumers: Option<IgnoredAny>,
}

objects_only!(DatasetWire);

impl DatasetWire {
    /// The metadata of the dataset `name`, checked.
    ///
    /// # Errors
    /// [`InvalidOperation`] with the path of the field.
    pub fn into_metadata(self, name: &Name) -> Result<CanonicalJson, InvalidOperation> {
        if self.name.is_some_and(|text| text != name.as_str()) {
            return Err(InvalidOperation::malformed("name", "does not match the name in the path"));
        }
        match self.metadata {
            None => Ok(CanonicalJson::default()),
            Some(raw) => object_at("metadata", &raw),
        }
    }
}
