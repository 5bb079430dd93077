//! A commit as one call: the database server does in one statement what
//! [the transaction](super::transaction) does in several.
//!
//! A call whose answer is lost may have been carried out, may be under way, or may not have begun.
//! So its outcome is learnt by sending it again, under the same attempt: whichever of the two comes
//! first holds, and the other is refused.

use super::Store;
use super::answers::ANSWER_RETENTION_MS;
use super::catch_up::ChangesSince;
use super::commit::{Commit, StoredAnswer};
use super::commit_error::CommitError;
use super::head::{column, head_of};
use crate::db::schema::ChangeRow;
use crate::db::{CallError, CallOutcome, CallRefused, CommitCall, DbError, RowsWrite};
use crate::failpoint;

/// How often a call is sent whose answers are lost.
const SENDS: usize = 3;

impl Store {
    pub(super) fn commit_by_call(
        &self,
        commit: &Commit<'_>,
        log: &[ChangeRow<'_>],
        rows: &[RowsWrite<'_>],
    ) -> Result<(), CommitError> {
        let answers: Vec<[&str; 3]> = commit.answers.iter().map(StoredAnswer::columns).collect();
        let uuid = commit.read.uuid.to_string();
        let call = CommitCall {
            graph_id: commit.read.id,
            read_uuid: &uuid,
            read_storage: commit.read.storage.word(),
            read_version: column(commit.read.version),
            read_chain: &commit.read.chain.0,
            token: commit.fence.token(),
            leader: commit.fence.leader(),
            attempt: commit.attempt,
            log,
            rows,
            keys: commit.keys,
            answers: &answers,
            key_age_max_ms: ANSWER_RETENTION_MS,
        };
        failpoint::pass("before-conditional-update");
        // Of calls whose outcome is not known.
        let (mut earlier, mut is_lost): (Option<DbError>, bool) = (None, false);
        for sent in 0..SENDS {
            let outcome = self.database.call(sent > 0, |connection, own_backend| {
                connection.commit_in_one_call(&call, own_backend, sent > 0)
            });
            let error = match outcome {
                Ok(outcome) => return concluded(commit, outcome, earlier),
                Err(CallError::Lost(error)) => {
                    is_lost = true;
                    error
                }
                Err(CallError::Doubtful(error)) => error,
                Err(CallError::RolledBack(error)) => {
                    return Err(match earlier {
                        None => error.into(),
                        Some(earlier) => {
                            CommitError::outcome_unknown(commit, format!("{earlier}; then {error}"))
                        }
                    });
                }
            };
            earlier = earlier.or(Some(error));
        }
        Err(match earlier {
            // Each time on a connection that lives: it is the server that refuses it.
            Some(error) if !is_lost => error.into(),
            earlier => {
                let earlier = earlier.map_or_else(String::new, |error| error.to_string());
                CommitError::outcome_unknown(commit, format!("{earlier}; sent {SENDS} times"))
            }
        })
    }
}

/// What `outcome` means, after an `earlier` call of the attempt whose outcome is not known.
fn concluded(
    commit: &Commit<'_>,
    outcome: CallOutcome,
    earlier: Option<DbError>,
) -> Result<(), CommitError> {
    let before = || earlier.as_ref().map_or_else(String::new, ToString::to_string);
    let CallRefused { graph, since } = match outcome {
        CallOutcome::Written => return Ok(()),
        CallOutcome::Pruned => {
            let what = format!("{}; the change log was pruned since", before());
            return Err(CommitError::outcome_unknown(commit, what));
        }
        CallOutcome::Strange(what) => return Err(CommitError::outcome_unknown(commit, what)),
        // A lost call that comes after this is refused as well, for as long as they are stored.
        CallOutcome::KeysTaken(kept) => {
            let kept = kept.into_iter().map(StoredAnswer::from).collect();
            return Err(CommitError::KeyTaken { kept });
        }
        CallOutcome::Refused(refused) => *refused,
    };
    let Some(graph) = graph else { return Err(CommitError::Gone { id: commit.read.id }) };
    let now = head_of(graph)?;
    // Version, chain and fence never come back: a lost call that comes after a refusal that rests
    // on them is refused as well. A graph that is frozen may be thawed before it comes.
    if earlier.is_some() && now.uuid == commit.read.uuid && now.key() == commit.read.key() {
        let what = format!("{}; then the graph was {}", before(), now.state);
        return Err(CommitError::outcome_unknown(commit, what));
    }
    let since = ChangesSince::leading_to(&now, commit.read, since);
    Err(CommitError::refused(commit, now, since))
}
