//! Applies and judges changes that come from a log, which somebody else may have written. A change
//! that [`decide`](super::decide()) would never have made is an error.

use std::collections::HashMap;

use super::acyclic::Cyclic;
use super::apply::{NotLookedUp, apply_all, try_apply_and_check};
use super::change::{Change, Fact};
use super::cycle::{self, JobOwners, Owners};
use super::graph::Graph;
use super::illegal::{FactViolation, IllegalChange, IllegalFact};
use super::name::Name;
use super::operation::Side;

/// The graph after `change`, at the next version, if all rules hold. Costs as much as
/// [`apply()`](super::apply()).
///
/// # Errors
/// [`IllegalChange`] says which rule is broken. The graph is then lost.
pub fn replay(graph: Graph, change: &Change) -> Result<Graph, IllegalChange> {
    let (next, judged) = apply_and_judge(graph, change);
    judged.map(|()| next)
}

/// As [`apply()`](super::apply()), and as [`replay`], whether all rules hold.
pub fn apply_and_judge(graph: Graph, change: &Change) -> (Graph, Result<(), IllegalChange>) {
    let mut illegal = None;
    let (next, cycle) = match try_apply_and_check(graph, change, &mut NotLookedUp, &mut illegal) {
        Ok((next, _)) => (next, None),
        Err(cyclic) => {
            let cycle = illegal.is_none().then(|| cycle_of(&cyclic, change));
            (cyclic.graph, cycle)
        }
    };
    let judged = match (illegal, cycle) {
        _ if change.is_empty() => Err(IllegalChange::Empty),
        _ if change.facts.len() > 1 && change.facts.contains(&Fact::GraphDeleted {}) => {
            Err(IllegalChange::DeletedAmongOthers)
        }
        (Some(fact), _) => Err(IllegalChange::Fact(fact)),
        (None, Some(cycle)) => Err(IllegalChange::Cycle(cycle)),
        (None, None) => check_declarations(&next, change).and_then(|()| check_order(change)),
    };
    (next, judged)
}

/// As [`apply_all`](super::apply_all), and the first of the changes that breaks a rule, with the
/// version that it makes. What comes after it is applied and not judged.
pub fn apply_all_and_judge<'c>(
    graph: &Graph,
    changes: impl IntoIterator<Item = &'c Change>,
) -> (Graph, Option<(u64, IllegalChange)>) {
    let mut changes = changes.into_iter();
    let mut graph = graph.clone();
    while let Some(change) = changes.next() {
        let (next, judged) = apply_and_judge(graph, change);
        if let Err(illegal) = judged {
            return (apply_all(&next, changes), Some((next.version(), illegal)));
        }
        graph = next;
    }
    (graph, None)
}

/// A declaration is taken back only of a dataset that no job mentions.
fn check_declarations(next: &Graph, change: &Change) -> Result<(), IllegalChange> {
    for fact in &change.facts {
        if let Fact::DatasetUndeclared { name } = fact
            && next.dataset(name.as_str()).is_some_and(|dataset| dataset.metadata().is_none())
        {
            return Err(IllegalChange::Fact(IllegalFact {
                name: name.clone(),
                violation: FactViolation::InUse,
            }));
        }
    }
    Ok(())
}

/// Whether facts and names are in the order in which [`decide`](super::decide()) writes them. O(n
/// log n) for n names.
fn check_order(change: &Change) -> Result<(), IllegalChange> {
    let misplaced = |name: &Name| Err(IllegalChange::Order(name.clone()));
    let places = change.facts.iter().filter_map(place);
    for ((kind, name), (next_kind, next)) in places.clone().zip(places.clone().skip(1)) {
        if (kind, name) >= (next_kind, next) {
            return misplaced(next);
        }
    }
    // One fact alone stands in order.
    for about_jobs in [true, false].into_iter().filter(|_| change.facts.len() > 1) {
        let named = places.clone().filter(|(kind, _)| kind.is_about_a_job() == about_jobs);
        let mut names: Vec<&Name> = named.map(|(_, name)| name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return misplaced(twice[0]);
        }
    }
    change.facts.iter().try_for_each(check_names)
}

/// The kinds of facts in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FactKind {
    JobDeleted,
    JobChanged,
    JobCreated,
    DatasetUndeclared,
    DatasetChanged,
    DatasetDeclared,
}

impl FactKind {
    fn is_about_a_job(self) -> bool {
        self <= Self::JobCreated
    }
}

fn place(fact: &Fact) -> Option<(FactKind, &Name)> {
    Some(match fact {
        Fact::GraphDeleted {} => return None,
        Fact::JobDeleted { name } => (FactKind::JobDeleted, name),
        Fact::JobChanged { name, .. } => (FactKind::JobChanged, name),
        Fact::JobCreated { name, .. } => (FactKind::JobCreated, name),
        Fact::DatasetUndeclared { name } => (FactKind::DatasetUndeclared, name),
        Fact::DatasetChanged { name, .. } => (FactKind::DatasetChanged, name),
        Fact::DatasetDeclared { name, .. } => (FactKind::DatasetDeclared, name),
    })
}

/// Whether the lists of one fact are sorted, and whether a fact that says that a job changed
/// changes anything.
fn check_names(fact: &Fact) -> Result<(), IllegalChange> {
    let sorted = |list: &[Name]| match list.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(IllegalChange::Order(pair[1].clone())),
        None => Ok(()),
    };
    match fact {
        Fact::JobCreated { inputs, outputs, .. } => sorted(inputs).and_then(|()| sorted(outputs)),
        Fact::JobChanged {
            name,
            inputs_added,
            inputs_removed,
            outputs_added,
            outputs_removed,
            spec,
        } => {
            let sides = [(inputs_added, inputs_removed), (outputs_added, outputs_removed)];
            for (added, removed) in sides {
                sorted(added).and_then(|()| sorted(removed))?;
                if let Some(both) = added.iter().find(|name| removed.binary_search(name).is_ok()) {
                    return Err(IllegalChange::Order(both.clone()));
                }
            }
            let same = sides.iter().all(|(added, removed)| added.is_empty() && removed.is_empty());
            if same && spec.is_none() {
                let violation = FactViolation::Unchanged;
                return Err(IllegalChange::Fact(IllegalFact { name: name.clone(), violation }));
            }
            Ok(())
        }
        Fact::GraphDeleted {}
        | Fact::JobDeleted { .. }
        | Fact::DatasetUndeclared { .. }
        | Fact::DatasetChanged { .. }
        | Fact::DatasetDeclared { .. } => Ok(()),
    }
}

/// The cycle to show: facts count as operations, in their order.
fn cycle_of(cyclic: &Cyclic, change: &Change) -> Vec<Name> {
    let mut jobs: HashMap<&Name, AddedEdges<'_>> = HashMap::new();
    for (number, fact) in change.facts.iter().enumerate() {
        let (name, inputs, outputs) = match fact {
            Fact::JobCreated { name, inputs, outputs, .. } => (name, inputs, outputs),
            Fact::JobChanged { name, inputs_added, outputs_added, .. } => {
                (name, inputs_added, outputs_added)
            }
            _ => continue,
        };
        let AddedEdges(edges) = jobs.entry(name).or_default();
        edges.extend(inputs.iter().map(|dataset| ((Side::Input, dataset), number)));
        edges.extend(outputs.iter().map(|dataset| ((Side::Output, dataset), number)));
    }
    // There is none only if the graph had one before.
    cycle::first(cyclic, &jobs).map(|(cycle, _)| cycle).unwrap_or_default()
}

/// The edges that facts add to one job, each with the number of the last fact that adds it.
#[derive(Default)]
struct AddedEdges<'c>(HashMap<(Side, &'c Name), usize>);

impl Owners for HashMap<&Name, AddedEdges<'_>> {
    fn of_job(&self, job: &Name) -> Option<&dyn JobOwners> {
        self.get(job).map(|edges| edges as &dyn JobOwners)
    }
}

impl JobOwners for AddedEdges<'_> {
    fn owner(&self, side: Side, dataset: &Name) -> Option<usize> {
        self.0.get(&(side, dataset)).copied()
    }
}
