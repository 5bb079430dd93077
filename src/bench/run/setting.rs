//! What a point is measured on: which database and which lock, how far away they are, and how the
//! nodes use them. Profiles vary one of these at a time, from a setting that they name.

use serde::{Deserialize, Serialize};

use crate::design::{Design, Reads};
use crate::object::objects_both_ways;
use crate::service::BatchSize;

/// What designs are compared on. Two that differ in it are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Setting {
    /// Where the graph is.
    pub database: DatabaseKind,
    /// The lock that guards it. A design that takes none does not use it.
    pub lock: LockKind,
    /// What a round trip to database and lock takes at least, in microseconds, through a proxy that
    /// also counts round trips; none: nodes connect to the servers themselves.
    pub delay_us: Option<u64>,
    /// Whether that delay is for all nodes but the first, which connects to the servers itself.
    pub first_is_near: bool,
    /// Whether requests that wait for a graph share a turn.
    pub sharing: bool,
    /// How reads see every write before them. A design that takes no lock reads snapshots.
    pub reads: Reads,
    /// Whether the window begins with a checkpoint of Postgres, after which the first change of
    /// each page is logged with the whole page. Otherwise the last one was before the base was
    /// copied.
    pub after_checkpoint: bool,
    /// Whether snapshots of graphs are taken that are kept as a log, of the base too.
    pub snapshots: bool,
}

objects_both_ways!(Setting);

/// Which database the graph is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatabaseKind {
    /// None: of a floor.
    None,
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
    /// Whatever a server has that was given.
    Given,
}

impl DatabaseKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Sqlite, Self::Postgres, Self::Given];

    /// The word for it in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Given => "given",
        }
    }
}

/// Which lock guards the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// None: of a floor.
    None,
    /// `flock` on files beside the database.
    File,
    /// Advisory locks of the database.
    Postgres,
    /// A server of its own.
    Redis,
}

impl LockKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::File, Self::Postgres, Self::Redis];

    /// The word for it in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File => "file",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

impl Setting {
    /// Of what keeps nothing.
    pub const FLOOR: Self =
        Self { database: DatabaseKind::None, lock: LockKind::None, ..Self::SQLITE };
    /// Of a server that was given.
    pub const GIVEN: Self =
        Self { database: DatabaseKind::Given, lock: LockKind::None, ..Self::SQLITE };
    /// On a file.
    pub const SQLITE: Self = Self {
        database: DatabaseKind::Sqlite,
        lock: LockKind::File,
        delay_us: None,
        first_is_near: false,
        sharing: true,
        reads: Reads::Lock,
        after_checkpoint: false,
        snapshots: true,
    };
    /// On servers: from this one others are varied.
    pub const POSTGRES: Self =
        Self { database: DatabaseKind::Postgres, lock: LockKind::Redis, ..Self::SQLITE };

    /// Whether the design has the choice that this setting makes.
    #[must_use]
    pub fn suits(&self, design: &Design) -> bool {
        let uses_lock = design.takes_lock() || design.has_leader();
        let is_usual_lock = self.lock == self.usual().lock;
        (is_usual_lock || uses_lock || self.first_is_near)
            && (self.sharing || design.batch != BatchSize::One)
            && (self.reads == Reads::Lock || design.takes_lock())
            && (self.snapshots || design.storage.takes_snapshots())
    }

    /// Whether there is such a lock beside that database, and a server where one is asked.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let has_lock = match self.database {
            DatabaseKind::None | DatabaseKind::Given => self.lock == LockKind::None,
            DatabaseKind::Sqlite => self.lock == LockKind::File,
            DatabaseKind::Postgres => matches!(self.lock, LockKind::Postgres | LockKind::Redis),
        };
        let asks_server = self.delay_us.is_some() || self.after_checkpoint;
        has_lock
            && (self.needs_postgres() || !asks_server)
            // A lock on Redis is known by its URL, which is another one through the proxy.
            && (!self.first_is_near
                || self.delay_us.is_some() && self.lock == LockKind::Postgres)
    }

    /// The setting of the same database from which this one is varied.
    #[must_use]
    pub fn usual(&self) -> Self {
        match self.database {
            DatabaseKind::None => Self::FLOOR,
            DatabaseKind::Given => Self::GIVEN,
            DatabaseKind::Sqlite => Self::SQLITE,
            DatabaseKind::Postgres => Self::POSTGRES,
        }
    }

    /// Whether a server of that kind is needed.
    #[must_use]
    pub fn needs_postgres(&self) -> bool {
        self.database == DatabaseKind::Postgres
    }

    /// Whether a server of that kind is needed.
    #[must_use]
    pub fn needs_redis(&self) -> bool {
        self.lock == LockKind::Redis
    }

    /// As the end of a title: the database, and what else is not usual; nothing of a floor.
    #[must_use]
    pub fn title(&self) -> String {
        let usual = self.usual();
        let mut words = match self.database {
            DatabaseKind::None => return String::new(),
            DatabaseKind::Given => return ", a given server".to_owned(),
            DatabaseKind::Sqlite => ", SQLite".to_owned(),
            DatabaseKind::Postgres => ", Postgres".to_owned(),
        };
        if self.needs_postgres() || self.lock != usual.lock {
            words += &format!(" with the {} lock", self.lock.name());
        }
        if let Some(delay_us) = self.delay_us {
            words += &format!(", {} ms a round trip", delay_us as f64 / 1e3);
            if self.first_is_near {
                words += " but for the first node";
            }
        }
        if !self.sharing {
            words += ", no sharing";
        }
        if self.reads != usual.reads {
            words += &format!(", {} reads", self.reads.name());
        }
        if self.after_checkpoint {
            words += ", just after a checkpoint";
        }
        if !self.snapshots {
            words += ", no snapshots";
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design;

    #[test]
    fn a_setting_is_told_by_what_is_not_usual() {
        assert_eq!(Setting::FLOOR.title(), "");
        assert_eq!(Setting::SQLITE.title(), ", SQLite");
        assert_eq!(Setting::POSTGRES.title(), ", Postgres with the redis lock");
        let varied = Setting {
            lock: LockKind::Postgres,
            delay_us: Some(500),
            first_is_near: true,
            sharing: false,
            reads: Reads::Snapshot,
            after_checkpoint: true,
            snapshots: false,
            ..Setting::POSTGRES
        };
        assert!(varied.is_possible());
        assert!(!Setting { lock: LockKind::Redis, ..varied }.is_possible());
        assert!(!Setting { delay_us: None, ..varied }.is_possible());
        assert_eq!(
            varied.title(),
            ", Postgres with the postgres lock, 0.5 ms a round trip but for the first \
             node, no sharing, snapshot reads, \
             just after a checkpoint, no snapshots"
        );
    }

    #[test]
    fn a_design_is_measured_only_where_it_has_the_choice() {
        let snapshots = Setting { reads: Reads::Snapshot, ..Setting::POSTGRES };
        let alone = Setting { sharing: false, ..Setting::POSTGRES };
        let no_snapshots = Setting { snapshots: false, ..Setting::SQLITE };
        let own_lock = Setting { lock: LockKind::Postgres, ..Setting::POSTGRES };
        for design in design::sound() {
            let uses_lock = design.takes_lock() || design.has_leader();
            assert!(Setting::SQLITE.suits(design) && Setting::POSTGRES.suits(design), "{design}");
            assert_eq!(snapshots.suits(design), design.takes_lock(), "{design}");
            assert_eq!(alone.suits(design), design.batch == BatchSize::AllWaiting, "{design}");
            assert_eq!(own_lock.suits(design), uses_lock, "{design}");
            let takes_snapshots = design.storage.takes_snapshots();
            assert_eq!(no_snapshots.suits(design), takes_snapshots, "{design}");
        }
    }
}
