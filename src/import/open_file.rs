//! A file that is imported: opened once, read ahead as far as its format takes to be told, and read
//! on from its first byte.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::format::{Detector, FileFormat};
use super::item::{Bad, Place};
use super::request::Format;
use crate::input;

/// How far a file is read ahead to tell its format. Beyond, the format must be given.
const DETECTION_BYTES_MAX: usize = 64 << 20;
/// How much is read ahead at once.
const AHEAD_BYTES: usize = 64 << 10;
/// The buffer through which a file is read.
const BUFFER_BYTES: usize = 1 << 20;

/// What a file in UTF-8 does not begin with, and what that is called.
const BYTE_ORDER_MARKS: [(&[u8], &str); 3] = [
    (b"\xEF\xBB\xBF", "a byte order mark; save it as UTF-8 without one"),
    (b"\xFF\xFE", "a byte order mark of UTF-16; save it as UTF-8 without one"),
    (b"\xFE\xFF", "a byte order mark of UTF-16; save it as UTF-8 without one"),
];

/// An open file and its format.
pub struct OpenFile {
    path: Arc<Path>,
    format: FileFormat,
    /// What has been read.
    ahead: Vec<u8>,
    /// What has not.
    rest: Box<dyn Read + Send>,
    /// Whether it is a file that has a name for good, rather than a pipe or a device.
    regular: bool,
}

/// A file, read through a buffer.
pub(super) type Reader = BufReader<Box<dyn Read + Send>>;

impl OpenFile {
    /// Opens the path, and reads ahead until the format is known, if it is not given.
    pub(super) fn open(path: Arc<Path>, format: Format) -> Result<Self, Bad> {
        let whole = |error: io::Error| Bad {
            place: Place { path: Arc::clone(&path), line: 0 },
            reason: error.to_string(),
        };
        let file = input::open(&path).map_err(whole)?;
        let regular = file.metadata().map_err(whole)?.is_file();
        Self::reading(path, format, regular, Box::new(file))
    }

    /// The same of what is open.
    pub(super) fn reading(
        path: Arc<Path>,
        format: Format,
        regular: bool,
        mut rest: Box<dyn Read + Send>,
    ) -> Result<Self, Bad> {
        let mut ahead = Vec::new();
        match read_ahead(format, &mut ahead, &mut rest) {
            Ok(format) => Ok(Self { path, format, ahead, rest, regular }),
            Err((line, reason)) => Err(Bad { place: Place { path, line }, reason }),
        }
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// How it is to be read.
    #[must_use]
    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// Whether it is a regular file, whose name says what it is, rather than a pipe or a device.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.regular
    }

    /// All of it from the first byte on. `bar` follows.
    pub(super) fn into_reader(self, bar: &ProgressBar) -> Reader {
        bar.inc(self.ahead.len() as u64);
        let whole = Cursor::new(self.ahead).chain(bar.wrap_read(self.rest));
        BufReader::with_capacity(BUFFER_BYTES, Box::new(whole))
    }
}

/// The format; or the line that is wrong, and why.
fn read_ahead(
    given: Format,
    ahead: &mut Vec<u8>,
    rest: &mut dyn Read,
) -> Result<FileFormat, (usize, String)> {
    let failed = |error: io::Error| (0, error.to_string());
    let longest_mark = BYTE_ORDER_MARKS.iter().map(|(mark, _)| mark.len()).max().unwrap_or(0);
    while ahead.len() < longest_mark && read_more(ahead, rest).map_err(failed)? > 0 {}
    if let Some((_, what)) = BYTE_ORDER_MARKS.iter().find(|(mark, _)| ahead.starts_with(mark)) {
        return Err((1, format!("the file begins with {what}")));
    }
    if let Some(format) = given.given() {
        return Ok(format);
    }
    let (mut detector, mut taken) = (Detector::default(), 0);
    loop {
        if let Some(format) = detector.take(&ahead[taken..]) {
            return Ok(format);
        }
        taken = ahead.len();
        if taken == DETECTION_BYTES_MAX {
            let what = "bytes do not tell whether it holds jobs, events or a WfFormat document";
            return Err((0, format!("the first {taken} {what}; give its --format")));
        }
        if read_more(ahead, rest).map_err(failed)? == 0 {
            return Ok(Detector::UNTOLD);
        }
    }
}

/// Reads once; 0 bytes mean the end.
fn read_more(ahead: &mut Vec<u8>, rest: &mut dyn Read) -> io::Result<usize> {
    let begin = ahead.len();
    ahead.resize(begin + AHEAD_BYTES.min(DETECTION_BYTES_MAX - begin), 0);
    let read = loop {
        match rest.read(&mut ahead[begin..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome,
        }
    };
    ahead.truncate(begin + read.as_ref().copied().unwrap_or(0));
    read
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::graph::Name;
    use crate::import::files::Files;
    use crate::import::item::Stop;
    use crate::import::source::Source;
    use crate::import::{ImportRequest, Namespace, OnDuplicate};

    /// Gives bytes in pieces of these sizes, over and over, and is interrupted before each.
    struct Cut {
        bytes: Cursor<Vec<u8>>,
        sizes: Vec<usize>,
        reads: usize,
    }

    impl Read for Cut {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            if self.reads % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let size = self.sizes[self.reads / 2 % self.sizes.len()];
            let most = size.min(buffer.len());
            self.bytes.read(&mut buffer[..most])
        }
    }

    fn opened(bytes: &[u8], format: Format, sizes: &[usize]) -> Result<OpenFile, Bad> {
        let bytes = Cursor::new(bytes.to_vec());
        let rest = Box::new(Cut { bytes, sizes: sizes.to_vec(), reads: 0 });
        OpenFile::reading(Path::new("folder/file.json").into(), format, true, rest)
    }

    /// The format that is told, or why none is; with the bytes that are then read.
    fn told(bytes: &[u8], sizes: &[usize]) -> Result<(FileFormat, Vec<u8>), String> {
        let file = opened(bytes, Format::Auto, sizes).map_err(|bad| bad.reason)?;
        let (format, mut read) = (file.format(), Vec::new());
        file.into_reader(&ProgressBar::hidden()).read_to_end(&mut read).unwrap();
        Ok((format, read))
    }

    /// Everything that an import makes of a file.
    fn imported(bytes: &[u8], format: Format, sizes: &[usize]) -> Vec<String> {
        let file = match opened(bytes, format, sizes) {
            Ok(file) => file,
            Err(bad) => return vec![format!("{bad:?}")],
        };
        let files = Files { format, first: Some(file), rest: VecDeque::new(), bytes: None };
        let request = ImportRequest {
            graph: Name::new("g").unwrap(),
            namespace: Namespace::File,
            on_duplicate: OnDuplicate::Refuse,
            sync: None,
            chunk_jobs: 1,
        };
        let mut source = Source::new(files, &request, ProgressBar::hidden());
        let mut all = Vec::new();
        for next in source.by_ref() {
            all.push(match &next {
                Ok(item) => format!("{} {:?} of {} bytes", item.place, item.job, item.bytes),
                Err(Stop::Bad(bad)) => format!("{bad:?}"),
                Err(Stop::Duplicate { name, first, second }) => {
                    format!("{name} at {first} and {second}")
                }
            });
            if next.is_err() {
                return all;
            }
        }
        let tally = source.take_tally();
        all.push(format!("{} repeated, {:?} empty", tally.repeated, tally.empty));
        all
    }

    const JOB: &str = r#"{"name":"a","inputs":["x"],"outputs":["y"],"spec":{"n":1.50}}"#;
    const EVENT: &str = r#"{"specversion":"1.0","id":"1","data":{"inputs":[]}}"#;
    const DOCUMENT: &str = r#"{
    "name": "w",
    "description": "of \"inputs\": {[",
    "schemaVersion": "1.5",
    "workflow": {"specification": {"tasks": [
        {"id": "t1", "inputFiles": [], "outputFiles": ["f"], "parents": []},
        {"id": "t2", "inputFiles": ["f"], "outputFiles": [], "parents": ["t1"]}
    ]}}
}"#;

    fn one_line(document: &str) -> String {
        document.replace('\n', "")
    }

    #[test]
    fn the_first_telling_key_tells_the_format() {
        use FileFormat::{Events, Ndjson, Wfformat};
        let long = "x".repeat(5 << 20);
        let cases: Vec<(String, FileFormat)> = vec![
            (String::new(), Ndjson),
            (" \r\n\t\n".to_owned(), Ndjson),
            (JOB.to_owned(), Ndjson),
            (format!("\n \r\n{JOB}\n"), Ndjson),
            (format!("{JOB},\n{JOB},\n"), Ndjson),
            (format!(r#"{{"name":"{long}","version":1,"outputs":[]}}"#), Ndjson),
            (r#"{"name":"a","inputs":[],"workflow":{}}"#.to_owned(), Ndjson),
            ("{\n  \"name\": \"a\",\n  \"inputs\": [],\n  \"outputs\": []\n}\n".to_owned(), Ndjson),
            (format!("[{JOB}]"), Ndjson),
            ("{}".to_owned(), Ndjson),
            (r#"{"name":"a"}"#.to_owned(), Ndjson),
            ("nonsense".to_owned(), Ndjson),
            // Torn: what follows is of another line.
            (format!("{{\"name\":\"a\n{DOCUMENT}"), Ndjson),
            (EVENT.to_owned(), Events),
            (format!(r#"{{"id":"{long}","specversion":"1.0"}}"#), Events),
            (format!("\n\n{EVENT}"), Events),
            (r#"{"\u0073pecversion":"1.0"}"#.to_owned(), Events),
            (DOCUMENT.to_owned(), Wfformat),
            (one_line(DOCUMENT), Wfformat),
            (format!("\n\n{DOCUMENT}"), Wfformat),
            (format!("{{\"author\":{{\"inputs\":[\"{long}\"]}},\n\"workflow\":"), Wfformat),
            ("{\n\"workflow\":{}}".to_owned(), Wfformat),
            // An escape in a key, a bracket and a quote in a value, keys in deeper objects.
            (
                r#"{"a\"inputs":"}\",\"inputs\":","b":[{"inputs":1}],"workflow":1}"#.to_owned(),
                Wfformat,
            ),
        ];
        for (text, format) in cases {
            let shown = &text[..text.len().min(60)];
            for sizes in [&[1 << 20][..], &[1, 3, 4096]] {
                let (told, read) = told(text.as_bytes(), sizes).expect(shown);
                assert_eq!((told, read.len()), (format, text.len()), "{shown}");
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused_at_a_limit_that_reads_do_not_move() {
        let blank = vec![b' '; DETECTION_BYTES_MAX - 2];
        let with = |rest: &str| [&blank, rest.as_bytes()].concat();
        for sizes in [&[1 << 20][..], &[12_345]] {
            assert_eq!(told(&blank, sizes).unwrap().0, FileFormat::Ndjson);
            let reason = told(&with("  {\"workflow\":1}"), sizes).unwrap_err();
            assert!(reason.contains("the first 67108864 bytes") && reason.contains("--format"));
        }
        assert_eq!(told(&with("x"), &[1 << 20]).unwrap().0, FileFormat::Ndjson);
    }

    #[test]
    fn a_byte_order_mark_is_named_whatever_the_format() {
        for (mark, says) in [("\u{feff}".as_bytes(), "UTF-8 without one"), (b"\xFF\xFE", "UTF-16")]
        {
            for format in [Format::Auto, Format::Ndjson, Format::Wfformat, Format::Events] {
                for text in [JOB, DOCUMENT, EVENT, ""] {
                    let bytes = [mark, text.as_bytes()].concat();
                    let bad = opened(&bytes, format, &[1]).err().expect("a mark");
                    assert!(bad.place.line == 1 && bad.reason.contains(says), "{bad:?}");
                }
            }
        }
    }

    /// Text that is nearly a file of one of the formats.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["{", "}", "[", "]", "\"", "\\", ",", ":", "\n", " ", "\r\n"]),
            2 => prop::sample::select(vec![
                "\"name\"", "\"inputs\"", "\"spec\"", "\"workflow\"", "\"schemaVersion\"",
                "\"specversion\"", "a", "1.5", "é", "\u{feff}",
            ]),
            2 => prop::sample::select(vec![JOB, EVENT, DOCUMENT]),
        ]
        .prop_map(|piece: &str| piece.as_bytes().to_vec());
        let other = JOB.replace("1.50", "2").replace("\"a\"", "\"b\"");
        let whole = prop::sample::select(vec![
            format!("\n{JOB}\n{other}\n{JOB}"),
            format!("{JOB}\n{other}\n{}\n", other.replace("\"x\"", "\"z\"")),
            DOCUMENT.to_owned(),
            format!("\r\n{}", one_line(DOCUMENT)),
        ])
        .prop_map(String::into_bytes);
        let torn = (whole.clone(), any::<prop::sample::Index>())
            .prop_map(|(bytes, at)| bytes[..at.index(bytes.len())].to_vec());
        prop_oneof![
            prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
            whole,
            torn,
        ]
    }

    proptest! {
        #[test]
        fn where_reads_are_cut_changes_nothing(
            bytes in text(),
            sizes in prop::collection::vec(1..40_usize, 1..8),
        ) {
            let whole = [usize::MAX];
            prop_assert_eq!(told(&bytes, &sizes), told(&bytes, &whole));
            for format in [Format::Auto, Format::Ndjson, Format::Wfformat] {
                prop_assert_eq!(
                    imported(&bytes, format, &sizes),
                    imported(&bytes, format, &whole)
                );
            }
        }
    }
}
