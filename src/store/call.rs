//! A commit as one call: the database server does in one statement what
//! [the transaction](super::transaction) does in several.
//!
//! A call whose answer is lost may have been carried out, may be under way, or may not have begun. So
//! its outcome is learnt by sending it again, under the same attempt: whichever of the two comes
//! first holds, and the other is refused.

use super::Store;
use super::answers::ANSWER_KEPT_MS;
use super::catch_up::ChangesSince;
use super::commit::{Commit, Fence, StoredAnswer};
use super::commit_error::CommitError;
use super::head::{column, head_of};
use crate::db::schema::ChangeRow;
use crate::db::{CallOutcome, CallRefused, CommitCall, DbError, RowsWrite, WriteError};
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
        let call = CommitCall {
            graph_id: commit.read.id,
            read_version: column(commit.read.version),
            read_chain: &commit.read.chain.0,
            token: match commit.fence {
                Fence::Token(token) => Some(token),
                Fence::Unfenced => None,
            },
            attempt: commit.attempt,
            log,
            rows,
            keys: commit.keys,
            answers: &answers,
            key_age_max_ms: ANSWER_KEPT_MS,
        };
        failpoint::pass("before-conditional-update");
        let mut lost: Option<DbError> = None;
        for _ in 0..SENDS {
            let sent = self.database.call(|connection, own_backend| {
                connection.commit_in_one_call(&call, own_backend, lost.is_some())
            });
            match (sent, lost) {
                (Ok(outcome), lost) => return concluded(commit, outcome, lost),
                (Err(WriteError::RolledBack(error)), None) => return Err(error.into()),
                (Err(WriteError::RolledBack(error)), Some(lost)) => {
                    return Err(CommitError::outcome_unknown(
                        commit,
                        format!("{lost}; then {error}"),
                    ));
                }
                (Err(WriteError::CommitUnknown(error)), earlier) => {
                    lost = Some(earlier.unwrap_or(error));
                }
            }
        }
        let lost = lost.map_or_else(String::new, |lost| lost.to_string());
        Err(CommitError::outcome_unknown(commit, format!("{lost}, {SENDS} times")))
    }
}

/// What `outcome` means, after the answer of an earlier call of the attempt was `lost`.
fn concluded(
    commit: &Commit<'_>,
    outcome: CallOutcome,
    lost: Option<DbError>,
) -> Result<(), CommitError> {
    let CallRefused { graph, was_written, since } = match outcome {
        CallOutcome::Written => return Ok(()),
        CallOutcome::KeysTaken(kept) => {
            let kept = kept.into_iter().map(StoredAnswer::from).collect();
            return Err(CommitError::KeyTaken { kept });
        }
        CallOutcome::Refused(refused) => *refused,
    };
    if was_written {
        return Ok(());
    }
    let Some(graph) = graph else { return Err(CommitError::Gone { id: commit.read.id }) };
    let now = head_of(graph)?;
    if let Some(lost) = lost
        // The log rows in which the attempt would be found were pruned.
        && now.oldest > commit.read.version + 1
        && !failpoint::is_off("pruned-attempt")
    {
        let oldest = now.oldest;
        return Err(CommitError::outcome_unknown(
            commit,
            format!("{lost}; the change log was pruned since, up to version {oldest}"),
        ));
    }
    let since = ChangesSince::leading_to(&now, commit.read, since);
    Err(CommitError::refused(commit, now, since))
}
