//! A batch of commands, decided one after another: each on the graph that the accepted commands
//! before it lead to.

use super::acyclic::Cyclic;
use super::apply::{apply_all, try_apply};
use super::change::Change;
use super::decide::{Decision, cycle_of, decide, judge_changeset};
use super::graph::Graph;
use super::operation::Command;
use super::rejection::Rejection;
use super::touched::Touched;

/// Gives the same verdicts as calling [`decide()`] on each graph in turn, and costs less: the parts
/// of the first graph that one command has copied are changed in place by the next. Nobody else
/// sees the graph before the whole batch is decided.
pub struct DecidedBatch {
    base: Graph,
    graph: Graph,
    accepted: Vec<AcceptedCommand>,
    /// Whether commands may change `graph` in place. A cycle is found only when the graph already
    /// has the edges that close it; then all accepted changes are applied to `base` again. So that
    /// this happens once at most, later commands work on a copy.
    in_place: bool,
}

/// An accepted command that changed something.
pub struct AcceptedCommand {
    /// What it changed.
    pub change: Change,
    /// Which rows that touches.
    pub touched: Touched,
    /// The graph's version with it.
    pub version: u64,
}

/// What an accepted command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Whether it changes anything.
    pub changed: bool,
    /// Whether it creates a job, a dataset or an edge that the command names.
    pub created: bool,
}

impl DecidedBatch {
    /// An empty batch, on `base`.
    #[must_use]
    pub fn on(base: &Graph) -> Self {
        Self { base: base.clone(), graph: base.clone(), accepted: Vec::new(), in_place: true }
    }

    /// The graph that all accepted commands lead to.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph that the first command was decided on.
    #[must_use]
    pub fn base(&self) -> &Graph {
        &self.base
    }

    /// The accepted commands that changed something, in order.
    #[must_use]
    pub fn accepted(&self) -> &[AcceptedCommand] {
        &self.accepted
    }

    /// What `command` would do if it were decided next.
    ///
    /// # Errors
    /// As [`decide()`].
    pub fn try_out(&self, command: &Command) -> Result<Effect, Rejection> {
        decide(&self.graph, command).map(|decision| Effect::of(&decision.change, decision.created))
    }

    /// Decides the next command. Costs as much as [`decide()`]; the first command that closes a
    /// cycle also costs applying all accepted changes again.
    ///
    /// # Errors
    /// As [`decide()`]; the graph then stays as it was.
    pub fn decide(&mut self, command: &Command) -> Result<Effect, Rejection> {
        let Decision { change, next, touched, created } = match command {
            Command::Changeset(changeset) if self.in_place => {
                let (draft, change) = judge_changeset(&self.graph, changeset)?;
                if change.is_empty() {
                    return Ok(Effect { changed: false, created: false });
                }
                let mut drafted = draft.into_drafted();
                let created = drafted.created();
                match try_apply(std::mem::take(&mut self.graph), &change, &mut drafted) {
                    Ok((next, touched)) => Decision { change, next, touched, created },
                    Err(cyclic) => match cycle_of(&cyclic, &drafted) {
                        Some(rejection) => {
                            self.restore_graph();
                            return Err(rejection);
                        }
                        None => {
                            let Cyclic { graph: next, touched } = *cyclic;
                            Decision { change, next, touched, created }
                        }
                    },
                }
            }
            _ => decide(&self.graph, command)?,
        };
        let effect = Effect::of(&change, created);
        self.graph = next;
        if effect.changed {
            self.accepted.push(AcceptedCommand { change, touched, version: self.graph.version() });
        }
        Ok(effect)
    }

    /// Restores the graph as it was before a command that closed a cycle.
    fn restore_graph(&mut self) {
        self.in_place = false;
        self.graph = apply_all(&self.base, self.accepted.iter().map(|accepted| &accepted.change));
    }
}

impl Effect {
    fn of(change: &Change, created: bool) -> Self {
        Self { changed: !change.is_empty(), created }
    }
}
