//! What the bytes of a packed graph mean.
//!
//! A graph is a sequence of records: a header, one for each slot of a dataset, one for each slot of
//! a job, both rising, and one for each job in topological order. Parts are cut between records.
//!
//! ```text
//! header   = MAGIC format version slots-of-datasets slots-of-jobs
//! dataset  = 0                                   a free slot
//!          | 1 name                              implied
//!          | 2+json [text] name                  declared, with its metadata
//! job      = 0                                   a free slot
//!          | 1+json [text] name difference outputs inputs
//! place    = difference
//!
//! json     = 0                                   {}
//!          | 1                                   the text follows
//!          | 2+n                                 the text that followed n texts before the last
//! name     = shared length byte…
//! text     = shared length byte…
//! outputs  = count [difference gap…]             the slots of datasets, rising
//! inputs   = count [difference gap…]
//! ```
//!
//! - **Numbers** are unsigned LEB128 in its shortest form. A *difference* has a sign: 0, -1, 1, -2
//!   and so on are written as 0, 1, 2, 3.
//! - **Names and texts** begin with as many bytes of the name, or the text, before as `shared` says;
//!   the bytes that follow are the rest.
//! - **A job's difference** is that of its version to the version of the job before.
//! - **The slots of a list** begin with the difference to the dataset that was written last; each
//!   gap is the number of slots between two of them. So a list cannot have a dataset twice.
//! - **A place** is the difference between the job's slot and the slot after that of the job before
//!   it in the order.

/// What a packed graph begins with.
pub(super) const MAGIC: &[u8] = b"FPGRAPH";
/// The format that is written, and the only one that is read. It rises whenever bytes get another
/// meaning.
pub const FORMAT: u64 = 1;

/// The codes of a JSON object: `{}`, a text that follows, and the last of the texts that followed.
/// Higher codes stand for earlier texts.
pub(super) const EMPTY_JSON: u64 = 0;
pub(super) const NEW_JSON: u64 = 1;
pub(super) const LAST_JSON: u64 = 2;
/// So many texts can be referred to, the most recent ones.
pub(super) const RECENT_TEXTS: usize = 1 << 14;
/// At most so many bytes of a name or text are shared with the one before. Without a limit, a few
/// damaged bytes could stand for gigabytes.
pub(super) const SHARED_BYTES_MAX: usize = 512;

/// What a record begins with: a free slot, an implied dataset. A declared dataset and a job add
/// these numbers to the code of their JSON.
pub(super) const FREE_SLOT: u64 = 0;
pub(super) const IMPLIED_DATASET: u64 = 1;
pub(super) const DECLARED_DATASET: u64 = 2;
pub(super) const JOB: u64 = 1;
