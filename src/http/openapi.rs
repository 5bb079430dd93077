//! The OpenAPI 3.1 document.
use serde_json::{Value, json};
/// The document.
#[must_use]
pub fn document() -> Value {
    json!({})
}
