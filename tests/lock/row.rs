//! A stand-in for the graph's row in the database: what a writer compares its guard with.

use std::fs;
use std::path::{Path, PathBuf};

use fencepost::lock::{FencingToken, Guard};

/// The row: epoch, incarnation and fence. Change it only under the exclusive lock.
#[derive(Debug, Default)]
pub struct Row {
    epoch: u32,
    incarnation: Option<String>,
    fence: i64,
    /// How often a grant wanted seeding.
    pub seedings: u32,
}

impl Row {
    /// A good token for this exclusive grant, by the protocol that [`Guard`] describes; checks that
    /// it rose.
    #[track_caller]
    pub fn token_for(&mut self, guard: &mut Guard) -> FencingToken {
        let good = guard.token().filter(|token| token.epoch() == self.epoch);
        let token = match good {
            Some(token) if guard.incarnation() == self.incarnation.as_deref() => token,
            _ => {
                self.epoch = guard.token().map_or(0, FencingToken::epoch).max(self.epoch) + 1;
                self.incarnation = guard.incarnation().map(str::to_owned);
                self.fence =
                    FencingToken::new(self.epoch, 0).expect("an epoch below the last").as_i64();
                self.seedings += 1;
                guard.seed(self.epoch).expect("a raised epoch can be stored")
            }
        };
        assert!(token.as_i64() > self.fence, "{token} was given after {}", self.fence);
        self.fence = token.as_i64();
        token
    }
}

/// A row in a file, for several processes. It is replaced by a rename, so that a killed writer
/// leaves a whole one.
pub struct RowFile {
    path: PathBuf,
}

impl RowFile {
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("row") }
    }

    pub fn token_for(&self, guard: &mut Guard) -> FencingToken {
        let mut row = self.read();
        let token = row.token_for(guard);
        let next = self.path.with_extension("next");
        let incarnation = row.incarnation.expect("a row that gave a token has been seeded");
        fs::write(&next, format!("{} {} {incarnation}", row.epoch, row.fence))
            .expect("the row can be written");
        fs::rename(&next, &self.path).expect("the row can be replaced");
        token
    }

    fn read(&self) -> Row {
        let Ok(text) = fs::read_to_string(&self.path) else {
            return Row::default();
        };
        let mut fields = text.split(' ');
        let mut field = || fields.next().expect("a whole row");
        Row {
            epoch: field().parse().expect("an epoch"),
            fence: field().parse().expect("a fence"),
            incarnation: Some(field().to_owned()),
            seedings: 0,
        }
    }
}
