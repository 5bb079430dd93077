//! Whether a text is a JSON object in canonical form.
//!
//! [`CanonicalJson::parse`] brings any JSON into that form, by way of maps of all members. Where a
//! text must have the form already, one look at each byte tells whether it has.

use super::json::CanonicalJson;

/// Whether [`CanonicalJson`] would write `text` as it is. O(length).
pub(super) fn is_canonical(text: &str) -> bool {
    let mut reader = Reader { rest: text.as_bytes() };
    text.starts_with('{') && reader.value(1).is_some() && reader.rest.is_empty()
}

/// Reads one value after another; `None` where one is not canonical.
struct Reader<'t> {
    rest: &'t [u8],
}

impl<'t> Reader<'t> {
    /// Recursion ends at the deepest nesting that is allowed.
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.rest.first()? {
            b'{' | b'[' if depth > CanonicalJson::MAX_DEPTH => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.literal(b"{")?;
        if self.is_next(b'}') {
            return Some(());
        }
        let mut before = None;
        loop {
            let key = self.string()?;
            if before.is_some_and(|before| !rises(before, key)) {
                return None;
            }
            before = Some(key);
            self.literal(b":")?;
            self.value(depth + 1)?;
            if self.is_next(b'}') {
                return Some(());
            }
            self.literal(b",")?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.literal(b"[")?;
        if self.is_next(b']') {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if self.is_next(b']') {
                return Some(());
            }
            self.literal(b",")?;
        }
    }

    /// Reads a string; what is between its quotes.
    fn string(&mut self) -> Option<&'t [u8]> {
        let text = self.rest.strip_prefix(b"\"")?;
        let mut end = 0;
        loop {
            match text.get(end)? {
                b'"' => break,
                b'\\' => end += escape_length(&text[end..])?,
                ..b' ' => return None,
                _ => end += 1,
            }
        }
        self.rest = &text[end + 1..];
        Some(&text[..end])
    }

    fn number(&mut self) -> Option<()> {
        self.is_next(b'-');
        if !self.is_next(b'0') {
            self.digits()?;
        }
        if self.is_next(b'.') {
            self.digits()?;
        }
        if self.is_next(b'e') || self.is_next(b'E') {
            let _ = self.is_next(b'+') || self.is_next(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit());
        let end = end.unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
        (end > 0).then_some(())
    }

    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// Whether `byte` comes next, which is then read.
    fn is_next(&mut self, byte: u8) -> bool {
        let is_next = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(is_next)..];
        is_next
    }
}

/// The length of the escape that `text` begins with, if it is the shortest of its character.
fn escape_length(text: &[u8]) -> Option<usize> {
    match text {
        [_, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        [_, b'u', b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f', ..]
        | [_, b'u', b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => Some(6),
        _ => None,
    }
}

/// Whether the second key comes after the first, byte by byte of what they stand for.
fn rises(before: &[u8], key: &[u8]) -> bool {
    if !before.contains(&b'\\') && !key.contains(&b'\\') {
        return before < key;
    }
    let unescaped = |key: &[u8]| {
        let quoted = [b"\"", key, b"\""].concat();
        serde_json::from_slice::<String>(&quoted).ok()
    };
    unescaped(before).zip(unescaped(key)).is_some_and(|(before, key)| before < key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let text = || "[a-c\"\\\\\u{0}-\u{1f}\u{7f}é ]{0,4}";
        let number =
            || prop_oneof![any::<i32>().prop_map(Value::from), any::<f64>().prop_map(Value::from)];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number(),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    /// What this module means to say, by way of the other reader.
    fn is_kept_as_it_is(text: &str) -> bool {
        CanonicalJson::parse(text).is_ok_and(|json| json.as_str() == text)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_canonical_is_what_is_kept_as_it_is(
            members in prop::collection::btree_map("[a-c\"]{0,2}", value(), 0..4),
            damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 12),
        ) {
            let text = CanonicalJson::parse(&Value::from_iter(members).to_string()).unwrap();
            prop_assert!(is_canonical(text.as_str()), "{text:?}");
            for (at, byte, how) in damages {
                let mut damaged = text.as_str().as_bytes().to_vec();
                let at = at.index(damaged.len());
                match how {
                    0 => damaged[at] = byte,
                    1 => damaged[at] = b"{}[]\",:0-.eu\\/"[usize::from(byte) % 14],
                    2 => drop(damaged.remove(at)),
                    _ => damaged.insert(at, b" 0a\"\\,"[usize::from(byte) % 6]),
                }
                if let Ok(damaged) = str::from_utf8(&damaged) {
                    prop_assert_eq!(is_canonical(damaged), is_kept_as_it_is(damaged), "{}", damaged);
                }
            }
        }
    }

    #[test]
    fn each_rule_of_the_form_is_held() {
        let nested =
            |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth - 1) + "{", "}".repeat(depth));
        let canonical = [
            r#"{}"#.to_owned(),
            r#"{"":0,"a":[1.0,1E5,-0,0.5e-7,[],{}],"b":true,"é":"\u001f\n\"\\/"}"#.to_owned(),
            "{\"a!\":1,\"a\\\"\":2,\"a#\":3}".to_owned(),
            nested(64),
        ];
        for text in &canonical {
            assert!(is_canonical(text) && is_kept_as_it_is(text), "{text}");
        }
        let others = [
            "",
            "[]",
            "1",
            "{",
            "{}}",
            "{ }",
            "{} ",
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a" :1}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":+1}"#,
            r#"{"a":-}"#,
            r#"{"a":tru}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\u000a"}"#,
            r#"{"a":"\u001F"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"b}"#,
            "{\"a\":\"\n\"}",
            "{\"a\\\"\":1,\"a!\":2}",
            r#"{"a":[1,]}"#,
            r#"{"a":[1 ]}"#,
        ];
        for text in others.into_iter().map(str::to_owned).chain([nested(65)]) {
            assert!(!is_canonical(&text) && !is_kept_as_it_is(&text), "{text}");
        }
    }
}
