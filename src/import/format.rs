//! Which format a file has, told by its first bytes. The answer is a function of the bytes, however
//! they arrive: whoever reads ahead hands them over piece by piece until the answer is there.
//!
//! All formats begin with a JSON object, and its first telling key decides: `specversion` stands in
//! an event, `workflow` or `schemaVersion` in a WfFormat document, `inputs`, `outputs` or `spec` in
//! a job. Whatever is none of these is left to the reader of jobs, which says what is wrong with
//! it.

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One job a line.
    Ndjson,
    /// A WfFormat document.
    Wfformat,
    /// A log of changes or a snapshot, one event a line.
    Events,
}

/// Bytes of a key that are compared. The longest telling key is shorter, also when each of its
/// characters is written as an escape of six bytes.
const KEY_BYTES_MAX: usize = 128;

/// Finds the first telling key of the first JSON value. O(bytes taken); keeps no more than a key.
#[derive(Debug, Default)]
pub(super) struct Detector {
    state: State,
    key: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// Before the first value.
    #[default]
    Before,
    /// In the object, outside its values: before a key, or before the bracket that ends it.
    BetweenMembers,
    /// In a key, after a backslash or not.
    Key { escaped: bool },
    /// Between a key and its colon.
    Colon,
    /// In a value, so many brackets deep; in a string or not, there after a backslash or not.
    Value { depth: usize, string: bool, escaped: bool },
}

impl Detector {
    /// Takes the next bytes. Returns the format as soon as it is known; nothing more is to be taken
    /// then.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<FileFormat> {
        bytes.iter().find_map(|byte| self.step(*byte))
    }

    /// The format of a file in which nothing is telling.
    pub(super) const UNTOLD: FileFormat = FileFormat::Ndjson;

    fn step(&mut self, byte: u8) -> Option<FileFormat> {
        const NOT_TELLING: Option<FileFormat> = Some(Detector::UNTOLD);
        self.state = match (self.state, byte) {
            (State::Before | State::BetweenMembers | State::Colon, byte)
                if byte.is_ascii_whitespace() =>
            {
                self.state
            }
            (State::Before, b'{') => State::BetweenMembers,
            (State::BetweenMembers, b'"') => {
                self.key.clear();
                State::Key { escaped: false }
            }
            (State::Key { escaped: false }, b'"') => {
                if let Some(format) = format_told_by(&self.key) {
                    return Some(format);
                }
                State::Colon
            }
            // A string has no line feed in it: the line is torn.
            (State::Key { .. } | State::Value { string: true, .. }, b'\n') => return NOT_TELLING,
            (State::Key { escaped }, byte) => {
                if self.key.len() <= KEY_BYTES_MAX {
                    self.key.push(byte);
                }
                State::Key { escaped: !escaped && byte == b'\\' }
            }
            (State::Colon, b':') => State::Value { depth: 0, string: false, escaped: false },
            (State::Value { depth, string: true, escaped }, byte) => State::Value {
                depth,
                string: escaped || byte != b'"',
                escaped: !escaped && byte == b'\\',
            },
            (State::Value { depth: 0, .. }, b',') => State::BetweenMembers,
            (State::Value { depth: 0, .. }, b'}' | b']') => return NOT_TELLING,
            (State::Value { depth, .. }, byte) => {
                let depth = match byte {
                    b'{' | b'[' => depth + 1,
                    b'}' | b']' => depth - 1,
                    _ => depth,
                };
                State::Value { depth, string: byte == b'"', escaped: false }
            }
            (State::Before | State::BetweenMembers | State::Colon, _) => return NOT_TELLING,
        };
        None
    }
}

/// The format that has this key, which is given as it stands between its quotes.
fn format_told_by(key: &[u8]) -> Option<FileFormat> {
    let decoded: String;
    let key = match key.contains(&b'\\') {
        true => {
            decoded = serde_json::from_slice(&[b"\"", key, b"\""].concat()).ok()?;
            decoded.as_bytes()
        }
        false => key,
    };
    match key {
        b"specversion" => Some(FileFormat::Events),
        b"workflow" | b"schemaVersion" => Some(FileFormat::Wfformat),
        b"inputs" | b"outputs" | b"spec" => Some(FileFormat::Ndjson),
        _ => None,
    }
}
