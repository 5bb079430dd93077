//! What a lock file says about the exclusive grants given so far. Text, so that an operator can
//! read it; of one length, so that one write replaces it; with a checksum, so that half of one is
//! never believed.
//!
//! Knows how it is written and what makes it trustworthy; takes no lock.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::flock::FileId;
use crate::failpoint;
use crate::lock::FencingToken;

/// The first line. Another format will have another number.
const FORMAT: &str = "fencepost-lock 1";
const INCARNATION_LEN: usize = 32;
const CHECKSUM_LEN: usize = 64;
/// Far above what any record has; whatever is longer is not one.
const READ_MAX_BYTES: usize = 512;

/// The content of a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Which run of counting this is; 32 hexadecimal digits.
    pub(super) incarnation: String,
    /// The boot in which it was written. The page cache outlives a process, not the machine: after
    /// a crash of the machine the file may be older than the tokens given.
    pub(super) boot: String,
    /// The file in which it was written. A copy, put back later, is older than the tokens given.
    pub(super) file: FileId,
    /// The last token given.
    pub(super) token: FencingToken,
}

impl Record {
    /// The record in `file`, if it is whole and was written there since the machine started.
    pub(super) fn read_trusted(file: &File, id: FileId, boot: &str) -> io::Result<Option<Self>> {
        let mut bytes = [0; READ_MAX_BYTES];
        let length = read_start(file, &mut bytes)?;
        let Some(record) = std::str::from_utf8(&bytes[..length]).ok().and_then(Self::parse) else {
            return Ok(None);
        };
        let trusted = (record.boot == boot || failpoint::is_off("lock.file.boot"))
            && (record.file == id || failpoint::is_off("lock.file.copied"));
        Ok(trusted.then_some(record))
    }

    /// Writes the record over the one before it. One write within one page: a process that is
    /// killed in the middle of it leaves the old one, the new one, or one whose checksum is wrong.
    /// Not synced, see [`Record::boot`].
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        let text = self.render();
        let written = file.write_at(text.as_bytes(), 0)?;
        if written != text.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only part of the record was written",
            ));
        }
        Ok(())
    }

    /// The same, in a file that may hold anything, and more of it than a record is long.
    pub(super) fn write_afresh(&self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        self.write(file)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let record = Self {
            incarnation: field("incarnation")?.to_owned(),
            boot: field("boot")?.to_owned(),
            file: FileId {
                device: field("device")?.parse().ok()?,
                inode: field("inode")?.parse().ok()?,
                born_ns: field("born_ns")?.parse().ok()?,
            },
            token: FencingToken::new(
                field("epoch")?.parse().ok()?,
                field("counter")?.parse().ok()?,
            )?,
        };
        // What is not what would have been written is damaged: the first line, the checksum and the
        // end included.
        (record.render() == text || failpoint::is_off("lock.file.checksum")).then_some(record)
    }

    fn render(&self) -> String {
        let Self { incarnation, boot, file: FileId { device, inode, born_ns }, token } = self;
        let (epoch, counter) = (token.epoch(), token.counter());
        let mut text = format!(
            "{FORMAT}\nincarnation {incarnation}\nboot {boot}\n\
             device {device:020}\ninode {inode:020}\nborn_ns {born_ns:020}\n\
             epoch {epoch:07}\ncounter {counter:013}\n"
        );
        let checksum = hex(&Sha256::digest(text.as_bytes()));
        debug_assert_eq!(checksum.len(), CHECKSUM_LEN);
        text.push_str("sha256 ");
        text.push_str(&checksum);
        text.push('\n');
        debug_assert!(text.len() < READ_MAX_BYTES);
        text
    }
}

/// A name for a new run of counting, which nothing else has or will have.
pub(super) fn fresh_incarnation() -> io::Result<String> {
    let mut random = [0; INCARNATION_LEN / 2];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex(&random))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_start(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
