//! A file, one event a line. An exclusive lock on it, which the kernel frees when its holder ends,
//! keeps it to one exporter; a line that a crash has torn is cut off; what is synced is in the
//! file, and the file in its directory. Its identity is its path, with links resolved, and the
//! machine's id, where the machine has one (`/etc/machine-id`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::event::LINE_BYTES_MAX;
use crate::export::sink::{Batch, Purpose, Sink, SinkError};
use crate::{failpoint, input};

/// What every event begins with.
const EVENT_BEGINS: &[u8] = br#"{"specversion":"1.0","id":""#;
/// What standard input is called.
const STDIN: &str = "standard input";

/// A log in a file.
pub struct FileSink {
    path: PathBuf,
    file: File,
    /// Where this exporter has written to.
    end: u64,
    /// Whether its directory may not know of it yet.
    new: bool,
    purpose: Purpose,
    can_read: CanRead,
}

/// How often a file can be read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CanRead {
    /// A regular file.
    Again,
    /// A pipe or a device.
    Once,
    /// Standard input.
    StdinOnce,
}

/// What a path leads to.
enum AtPath {
    /// The file that is written to.
    Ours,
    Another,
    Nothing,
}

impl FileSink {
    /// Opens the file; to append, it is made if need be, and locked. A pipe or a device can only be
    /// read, once from beginning to end.
    ///
    /// # Errors
    /// [`SinkError`] if another exporter has it, or it cannot be opened.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, SinkError> {
        let sink = format!("file:{}", path.display());
        // To open a pipe that nobody writes to would wait until somebody does.
        if purpose == Purpose::Ask
            && std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
        {
            return Err(read_only_once(sink));
        }
        let opened = match purpose {
            Purpose::Append => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
            }
            Purpose::Read | Purpose::Ask => File::open(path),
        };
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => denied(sink.clone(), &error),
            kind if is_permanent(kind) && purpose == Purpose::Append => {
                SinkError::Refused { sink: sink.clone(), what: error.to_string() }
            }
            io::ErrorKind::NotFound if purpose == Purpose::Append => SinkError::NotThere {
                sink: sink.clone(),
                what: "its directory does not exist".to_owned(),
            },
            io::ErrorKind::NotFound => {
                SinkError::NotThere { sink: sink.clone(), what: String::new() }
            }
            _ => SinkError::Unavailable { sink: sink.clone(), what: error.to_string() },
        })?;
        let what = |error: io::Error| SinkError::Unavailable {
            sink: sink.clone(),
            what: error.to_string(),
        };
        let metadata = file.metadata().map_err(what)?;
        if metadata.is_dir() {
            return Err(SinkError::Damaged { sink, what: "it is a directory".to_owned() });
        }
        let can_read = if metadata.is_file() { CanRead::Again } else { CanRead::Once };
        if purpose == Purpose::Append && can_read == CanRead::Once {
            return Err(read_only_once(sink));
        }
        if purpose == Purpose::Append && !failpoint::is_off("sink-guard") {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let what = "it is locked. End that exporter first, or follow to another file"
                        .to_owned();
                    return Err(SinkError::Superseded { sink, what });
                }
                Err(TryLockError::Error(error)) => return Err(what(error)),
            }
        }
        // It may be new, or of an exporter that was killed before it had told the directory.
        let new = purpose == Purpose::Append;
        let mut sink = Self { path: path.to_owned(), file, end: 0, new, purpose, can_read };
        if purpose == Purpose::Append {
            sink.check_first_line()?;
        }
        Ok(sink)
    }

    /// Standard input, to be read once from beginning to end.
    ///
    /// # Errors
    /// [`SinkError`] if there is none.
    pub fn stdin() -> Result<Self, SinkError> {
        let (path, purpose, can_read) = (PathBuf::from("-"), Purpose::Read, CanRead::StdinOnce);
        match input::open(&path) {
            Ok(file) => Ok(Self { path, file, end: 0, new: false, purpose, can_read }),
            Err(error) => {
                Err(SinkError::Unavailable { sink: STDIN.to_owned(), what: error.to_string() })
            }
        }
    }

    /// A file that is something else is left as it is: what would be cut off or written over is not
    /// ours.
    fn check_first_line(&mut self) -> Result<(), SinkError> {
        let mut first = Vec::new();
        let input = BufReader::new(&self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut first);
        input.map_err(|error| self.unavailable(error))?;
        // Nothing yet, events, or a first one that was torn.
        let torn = !first.ends_with(b"\n") && EVENT_BEGINS.starts_with(&first);
        let is_ours = torn || first.starts_with(EVENT_BEGINS);
        if is_ours {
            return Ok(());
        }
        let what = "it holds something else than events and is left as it is: export to a new file"
            .to_owned();
        Err(SinkError::Damaged { sink: self.name(), what })
    }

    /// Where the path leads now.
    fn at_path(&self) -> Result<AtPath, SinkError> {
        let ours = self.file.metadata().map_err(|error| self.unavailable(error))?;
        Ok(match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => AtPath::Ours,
            Ok(_) => AtPath::Another,
            Err(_) => AtPath::Nothing,
        })
    }

    fn moved(&self) -> SinkError {
        let what =
            "it was moved or removed while it was written; put it back, or export to a new file"
                .to_owned();
        SinkError::NotThere { sink: self.name(), what }
    }

    /// Opens the file that was put in the place of the one that was written to.
    fn follow_path(&mut self) -> Result<(), SinkError> {
        match self.at_path()? {
            AtPath::Ours => Ok(()),
            AtPath::Nothing => Err(self.moved()),
            AtPath::Another => {
                let path = self.path.clone();
                log::warn!("{}: another file was put in its place", self.name());
                *self = Self::open(&path, Purpose::Append)?;
                Ok(())
            }
        }
    }

    fn name(&self) -> String {
        match self.can_read {
            CanRead::StdinOnce => STDIN.to_owned(),
            CanRead::Again | CanRead::Once => format!("file:{}", self.path.display()),
        }
    }

    fn unavailable(&self, error: io::Error) -> SinkError {
        let (sink, what) = (self.name(), error.to_string());
        match error.kind() {
            io::ErrorKind::PermissionDenied => denied(sink, &error),
            kind if is_permanent(kind) => SinkError::Refused { sink, what },
            _ => SinkError::Unavailable { sink, what },
        }
    }

    /// Where the last line feed before `end` is, plus one; 0 if there is none.
    fn line_begin(&mut self, end: u64) -> io::Result<u64> {
        const STEP: u64 = 64 << 10;
        let mut to = end;
        let mut buffer = vec![0; STEP as usize];
        while to > 0 {
            let from = to.saturating_sub(STEP);
            let part = &mut buffer[..(to - from) as usize];
            self.file.seek(SeekFrom::Start(from))?;
            self.file.read_exact(part)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                return Ok(from + at as u64 + 1);
            }
            to = from;
        }
        Ok(0)
    }

    /// The last line. To append, what follows its line feed is cut off.
    fn mend(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = self.file.metadata()?.len();
        let whole = self.line_begin(length)?;
        if whole < length && self.purpose == Purpose::Append {
            log::warn!(
                "{}: the last line was torn after {} bytes, and is cut off",
                self.name(),
                length - whole
            );
            self.file.set_len(whole)?;
            self.file.sync_all()?;
        }
        self.end = whole;
        if whole == 0 {
            return Ok(None);
        }
        let begin = self.line_begin(whole - 1)?;
        let mut line = vec![0; (whole - 1 - begin) as usize];
        self.file.seek(SeekFrom::Start(begin))?;
        self.file.read_exact(&mut line)?;
        Ok(Some(line))
    }
}

/// Of a pipe or a device that is asked for its last event, or is to be appended to.
fn read_only_once(sink: String) -> SinkError {
    let what = "it is a pipe or a device, and its last event cannot be asked for: give a regular \
                file, or export to - for standard output";
    SinkError::Damaged { sink, what: what.to_owned() }
}

fn denied(sink: String, error: &io::Error) -> SinkError {
    let what =
        format!("{error}. Give the user of this process the right to the file (chmod, chown)");
    SinkError::Denied { sink, what }
}

/// Whether somebody has to change something before it can succeed. Room on a full disk is not
/// among that: it may be made at any time.
fn is_permanent(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
    )
}

/// The path with all links resolved, of a file that need not be there yet.
pub(in crate::export) fn absolute(path: &Path) -> io::Result<PathBuf> {
    if let Ok(found) = path.canonicalize() {
        return Ok(found);
    }
    let whole = std::path::absolute(path)?;
    match (whole.parent(), whole.file_name()) {
        (Some(directory), Some(name)) => Ok(directory.canonicalize()?.join(name)),
        _ => Ok(whole),
    }
}

/// What [`Sink::identity`] says of the file at `path`, whether or not it is there. Containers often
/// have no machine id: then the path alone is the identity.
pub(in crate::export) fn identity_of(path: &Path) -> io::Result<String> {
    let path = absolute(path)?;
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Ok(match machine.trim() {
        "" => format!("file:{}", path.display()),
        machine => format!("file:{} on machine {machine}", path.display()),
    })
}

impl Sink for FileSink {
    fn identity(&mut self) -> Result<String, SinkError> {
        identity_of(&self.path).map_err(|error| self.unavailable(error))
    }

    fn check(&mut self) -> Result<Vec<String>, SinkError> {
        Ok(Vec::new())
    }

    fn last(&mut self) -> Result<Option<String>, SinkError> {
        match self.can_read {
            CanRead::Again => {}
            CanRead::Once => return Err(read_only_once(self.name())),
            CanRead::StdinOnce => {
                let reason = "standard input can be read only once, and its last event cannot be \
                              asked for";
                return Err(SinkError::Url { given: "-".to_owned(), reason: reason.to_owned() });
            }
        }
        if self.purpose == Purpose::Append {
            self.follow_path()?;
        }
        let Some(line) = self.mend().map_err(|error| self.unavailable(error))? else {
            return Ok(None);
        };
        let no_text = |_| SinkError::Damaged {
            sink: self.name(),
            what: "its last line is no UTF-8".to_owned(),
        };
        String::from_utf8(line).map(Some).map_err(no_text)
    }

    fn first(&mut self) -> Result<Option<String>, SinkError> {
        let mut line = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| {
                BufReader::new(&self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)
            })
            .map_err(|error| self.unavailable(error))?;
        // A line that was torn is none.
        let whole = line.pop() == Some(b'\n');
        Ok(String::from_utf8(line).ok().filter(|_| whole))
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let length = self.file.metadata().map_err(|error| self.unavailable(error))?.len();
        if length != self.end && !failpoint::is_off("sink-guard") {
            let what = format!(
                "it has {length} bytes, not the {} that this export left there. See to it that \
                 nobody else writes to it",
                self.end
            );
            return Err(SinkError::Superseded { sink: self.name(), what });
        }
        self.file.seek(SeekFrom::Start(self.end)).map_err(|error| self.unavailable(error))?;
        self.file.write_all(&batch.text).map_err(|error| self.unavailable(error))?;
        failpoint::pass("sink-appended");
        self.end += batch.text.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        let AtPath::Ours = self.at_path()? else { return Err(self.moved()) };
        self.file.sync_data().map_err(|error| self.unavailable(error))?;
        if std::mem::take(&mut self.new) {
            let directory = self
                .path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .map_err(|error| self.unavailable(error))?;
        }
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        let name = self.name();
        let unavailable = |error: io::Error| SinkError::Unavailable {
            sink: name.clone(),
            what: error.to_string(),
        };
        let damaged = |line: u64, what: String| SinkError::Damaged {
            sink: name.clone(),
            what: format!("line {line} {what}"),
        };
        let mut input = BufReader::with_capacity(1 << 20, &self.file);
        let mut buffer = Vec::new();
        for line in 1.. {
            buffer.clear();
            let read = (&mut input)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut buffer)
                .map_err(unavailable)?;
            if read == 0 {
                return Ok(());
            }
            if buffer.pop() != Some(b'\n') {
                let what = format!(
                    "is torn after {read} bytes: its writer is at it, or was killed; if this is an export's, exporting there again cuts it off and goes on"
                );
                return Err(damaged(line, what));
            }
            if buffer.is_empty() || buffer.ends_with(b"\r") || buffer.starts_with(b"\xEF\xBB\xBF") {
                let what = "is empty, ends in CR LF or begins with a byte order mark: a program that changes texts was at it";
                return Err(damaged(line, what.to_owned()));
            }
            let text = std::str::from_utf8(&buffer)
                .map_err(|_| damaged(line, "is no UTF-8: it was altered".to_owned()))?;
            if each(text).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}
