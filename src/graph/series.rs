//! Commands decided one after another, each on the graph that the accepted ones before it lead to.

use super::apply::{apply_all, try_apply};
use super::change::Change;
use super::decide::{Decision, cycle_of, decide, judge_changeset};
use super::graph::Graph;
use super::operation::Command;
use super::rejection::Rejection;
use super::touched::Touched;

/// As [`decide()`] on each graph in turn, with the same verdicts, for less: what one command has
/// copied of the graph that all began with, the next changes in place. Nobody else sees the graph
/// until all are decided.
pub struct Series {
    base: Graph,
    graph: Graph,
    accepted: Vec<AcceptedCommand>,
    /// Until a command closes a cycle, which is found when the graph has its edges already: to get
    /// the graph back, all that was accepted is applied again, and so that this happens once,
    /// commands get a copy from then on.
    in_place: bool,
}

/// An accepted command that changed something.
pub struct AcceptedCommand {
    /// What it changed.
    pub change: Change,
    /// What that touched, by id.
    pub touched: Touched,
    /// The graph's version with it.
    pub version: u64,
}

/// What an accepted command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Whether it changes anything.
    pub changed: bool,
    /// Whether a job, a dataset or an edge that was asked for by name comes to be.
    pub created: bool,
}

impl Series {
    /// None yet.
    #[must_use]
    pub fn on(base: &Graph) -> Self {
        Self { base: base.clone(), graph: base.clone(), accepted: Vec::new(), in_place: true }
    }

    /// The graph that all accepted commands lead to.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph that the first was decided on.
    #[must_use]
    pub fn base(&self) -> &Graph {
        &self.base
    }

    /// Those that changed something, in order.
    #[must_use]
    pub fn accepted(&self) -> &[AcceptedCommand] {
        &self.accepted
    }

    /// What `command` would do, were it the next.
    ///
    /// # Errors
    /// As [`decide()`].
    pub fn try_out(&self, command: &Command) -> Result<Effect, Rejection> {
        decide(&self.graph, command).map(|decision| Effect::of(&decision.change, decision.created))
    }

    /// Decides the next command. Cost: as [`decide()`]; the first command that closes a cycle also
    /// costs applying again all that was accepted before it.
    ///
    /// # Errors
    /// As [`decide()`]; the graph is then as it was.
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
                    Err(cyclic) => {
                        self.take_back();
                        return Err(cycle_of(&cyclic, &drafted));
                    }
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

    /// Takes the graph back to what it was before a command that closed a cycle.
    fn take_back(&mut self) {
        self.in_place = false;
        self.graph = apply_all(&self.base, self.accepted.iter().map(|accepted| &accepted.change));
    }
}

impl Effect {
    fn of(change: &Change, created: bool) -> Self {
        Self { changed: !change.is_empty(), created }
    }
}
