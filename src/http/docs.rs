//! The document for people.
/// The page.
#[must_use]
pub fn page() -> String {
    String::new()
}
