//! Choices as words in the file of results. Derived code would read them from objects too.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::results::{NotCompared, Verdict};
use super::setting::{DatabaseKind, LockKind};
use super::statistics::Order;
use crate::bench::class::Class;
use crate::design::Reads;

/// For a type that has all its values in `ALL`, and for each a `name`.
macro_rules! words {
    ($($choice:ty),+ $(,)?) => {$(
        impl Serialize for $choice {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $choice {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = Cow::<str>::deserialize(from)?;
                let found = Self::ALL.into_iter().find(|choice| choice.name() == word);
                found.ok_or_else(|| {
                    let known = Self::ALL.map(Self::name).join("`, `");
                    D::Error::custom(format!("`{word}` is none of `{known}`"))
                })
            }
        }
    )+};
}

words!(Class, DatabaseKind, LockKind, NotCompared, Order, Reads, Verdict);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_choice_is_one_of_its_words() {
        let read = |value: Value| serde_json::from_value::<NotCompared>(value);
        for choice in NotCompared::ALL {
            assert_eq!(read(json!(choice)).unwrap(), choice);
        }
        let error = read(json!("slow")).unwrap_err().to_string();
        assert!(error.starts_with("`slow` is none of `incomplete`, `invalid`, "), "{error}");
        for other in [json!({"invalid": null}), json!(["invalid"]), json!(1), Value::Null] {
            assert!(read(other.clone()).is_err(), "{other}");
        }
    }
}
