//! Structs from JSON objects, and from nothing else.
//!
//! What serde derives for a struct also accepts an array: its items become the fields, in the order
//! of their declaration, so that `["a", [], ["x"], {}]` would be a job. Every struct that is read
//! from JSON is therefore marked `#[serde(remote = "Self")]`, which makes the derived code an
//! inherent function, and is named in [`objects_only!`], which calls it for objects only. That
//! holds at every depth, and wherever the type is read. A test holds all sources to it.
//!
//! Knows serde and nothing of ours, so that every module may use it, `check` included. Only `graph`
//! does without, since it uses nothing of ours: see `graph/change_json.rs`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A struct whose derived code [`objects_only!`] found.
pub trait Fields<'de>: Sized {
    /// The derived code, which would take an array too.
    ///
    /// # Errors
    /// The deserializer's.
    fn read<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// Reads an object; all else is an error.
///
/// # Errors
/// The deserializer's.
pub fn read<'de, T: Fields<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);
    impl<'de, T: Fields<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
            T::read(MapAccessDeserializer::new(members))
        }
    }
    from.deserialize_map(ObjectVisitor(PhantomData))
}

/// Implements `Deserialize` for structs that are marked `#[serde(remote = "Self")]`: they are read
/// from objects, and an array is an error.
macro_rules! objects_only {
    ($($name:ident $(<$life:lifetime>)?),+ $(,)?) => {$(
        impl<'de $(: $life, $life)?> $crate::object::Fields<'de> for $name $(<$life>)? {
            fn read<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                // The derived one: an inherent function goes before a trait's.
                Self::deserialize(from)
            }
        }

        impl<'de $(: $life, $life)?> serde::Deserialize<'de> for $name $(<$life>)? {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::object::read(from)
            }
        }
    )+};
}

/// The same for structs that are written too: the mark makes that derived code an inherent function
/// as well.
macro_rules! objects_both_ways {
    ($($name:ident $(<$life:lifetime>)?),+ $(,)?) => {
        $crate::object::objects_only!($($name $(<$life>)?),+);
        $(
            impl $(<$life>)? serde::Serialize for $name $(<$life>)? {
                fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    // The derived one: an inherent function goes before a trait's.
                    Self::serialize(self, to)
                }
            }
        )+
    };
}

pub(crate) use {objects_both_ways, objects_only};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(remote = "Self")]
    struct Outer<'t> {
        #[serde(borrow)]
        inner: Vec<Inner<'t>>,
        number: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, remote = "Self")]
    struct Inner<'t> {
        #[serde(borrow)]
        raw: Option<&'t RawValue>,
        nothing: Option<Nothing>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, remote = "Self")]
    struct Nothing {}

    super::objects_only!(Outer<'t>, Inner<'t>, Nothing);

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        let read = |text| serde_json::from_str::<Outer<'_>>(text);
        let whole = r#"{"inner": [{"raw": {"b": 1.10}, "nothing": {}}, {}], "number": 3}"#;
        let Outer { inner, number } = read(whole).unwrap();
        assert_eq!((inner.len(), number), (2, Some(3)));
        assert_eq!(inner[0].raw.unwrap().get(), r#"{"b": 1.10}"#);
        assert!(inner[0].nothing.is_some());
        for bad in [
            "[]",
            "[[], 3]",
            r#"[[{"raw": 1}], 3]"#,
            r#"{"inner": [[1, {}]]}"#,
            r#"{"inner": [[]]}"#,
            r#"{"inner": [{"nothing": []}]}"#,
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("sequence, expected an object"), "{bad}: {error}");
            assert!(error.contains(" at line 1 column "), "{bad}: {error}");
        }
    }

    /// Of every `derive` of `Deserialize` in the sources: the lines up to the type that it is for.
    fn derives(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                derives(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let mut lines = text.lines().zip(1..);
                while let Some((line, number)) = lines.next() {
                    let line = line.trim_start();
                    if !(line.starts_with("#[derive(") && line.contains("Deserialize")) {
                        continue;
                    }
                    let rest = lines.by_ref().map(|(line, _)| line.trim_start());
                    let mut item = String::new();
                    for line in rest {
                        item.push_str(line);
                        if !line.starts_with("#[") && !line.starts_with("//") {
                            break;
                        }
                    }
                    found.push((format!("{}:{number}", path.display()), item));
                }
            }
        }
    }

    #[test]
    fn every_struct_that_is_read_is_read_from_objects_only() {
        let mut found = Vec::new();
        derives(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 20, "the sources were not found");
        for (place, item) in found {
            // A struct of one unnamed field is read as the field is; enums of several forms accept
            // arrays and objects too.
            let is_newtype = item.contains("struct ") && item.ends_with(");");
            assert!(
                is_newtype || item.contains("struct ") && item.contains(r#"remote = "Self""#),
                "{place}: mark it `#[serde(remote = \"Self\")]` and name it in `objects_only!`"
            );
        }
    }
}
