//! Which jobs of an import have been read, and where: one hash a name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};

use crate::graph::JobSpecification;

/// The jobs that were read. 32 bytes a name, and what a hash table takes around them: 40 to 80
/// bytes. Names are told apart by 128 bits of two keyed hashes, contents by 64 bits of a third
/// (SipHash, with keys that are random in each process, so that no file can be made for them to
/// collide). By chance, two of a thousand million names collide once in 10^20 imports, and then a
/// file that is right is refused.
pub(super) struct Seen {
    names: [RandomState; 2],
    contents: RandomState,
    jobs: HashMap<[u64; 2], Sighting>,
}

/// A job that was read.
#[derive(Clone, Copy)]
struct Sighting {
    content: u64,
    at: Spot,
}

/// Where a job was read: which of the import's files, from 0, and its line, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) file: u32,
    pub(super) line: u32,
}

/// Whether a job was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    /// Nothing of its name was read.
    New,
    /// The last of its name was the same job.
    Same,
    /// The last of its name was another job, and was read there.
    Other(Spot),
}

impl Seen {
    pub(super) fn new() -> Self {
        Self {
            names: [RandomState::new(), RandomState::new()],
            contents: RandomState::new(),
            jobs: HashMap::new(),
        }
    }

    /// Notes a job. The next of its name is compared with it.
    pub(super) fn note(&mut self, job: &JobSpecification, at: Spot) -> Novelty {
        let name = self.names.each_ref().map(|keyed| keyed.hash_one(job.name.as_str()));
        let content = self.contents.hash_one((&job.inputs, &job.outputs, job.spec.as_str()));
        match self.jobs.entry(name) {
            Entry::Vacant(free) => {
                free.insert(Sighting { content, at });
                Novelty::New
            }
            Entry::Occupied(taken) if taken.get().content == content => Novelty::Same,
            Entry::Occupied(mut taken) => Novelty::Other(taken.insert(Sighting { content, at }).at),
        }
    }
}
