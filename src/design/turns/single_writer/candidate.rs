//! What a node does to be ready to lead: it tells the others of itself, keeps the images of graphs
//! warm that others lead, waits for what it is to be handed, and asks for its share.
//!
//! All of it goes through notes in the database, about twice a second. The notes are hints: who
//! leads is decided by the lock and the token.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::causes::Cause;
use super::leadership::Leaderships;
use crate::db::watch;
use crate::lock::gate::lock;
use crate::service::Images;
use crate::store::{CommitError, Leader, StorageKind, StoreError, Successor, is_on_loopback};

/// How often a node tells the others that it lives.
const NOTED_EVERY: Duration = Duration::from_secs(2);
/// After how long a silent node is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How long images are brought up to date at each look: what is left waits for the next.
const WARMED_FOR: Duration = Duration::from_millis(100);
/// How many graphs a node asks for at each look.
const ASKED_AT_ONCE: usize = 32;
/// How many graphs a node takes over at each look.
const SUCCEEDED_AT_ONCE: usize = 4;
/// How long one look waits for leaders to hand graphs over.
const HANDED_WITHIN: Duration = Duration::from_secs(1);
/// For how long this node does not ask again that leadership of a graph moves.
const RESTS_FOR: Duration = Duration::from_secs(300);

/// See the module.
pub(super) struct Candidate {
    leaderships: Arc<Leaderships>,
    /// How graphs are kept that this process serves in this way.
    storages: Vec<StorageKind>,
    noted: Mutex<Option<Instant>>,
    /// Counts the looks, so that images are not always brought up in the same order.
    looks: AtomicUsize,
    /// Graphs whose leadership this node does not have moved for a while, and since when: it has
    /// declined it, has no room for the graph, or has named a successor that may not have come.
    resting: Mutex<HashMap<i64, Instant>>,
    /// Graphs that this node is to hand over to a successor that does not wait yet, and since when.
    promised: Mutex<HashMap<i64, (Successor, Instant)>>,
}

impl Candidate {
    pub(super) fn new(leaderships: Arc<Leaderships>, storages: Vec<StorageKind>) -> Self {
        let (noted, looks, resting, promised) = Default::default();
        Self { leaderships, storages, noted, looks, resting, promised }
    }

    /// Looks who leads what: hands over what was asked for, and asks for its share.
    pub(super) fn look(&self) {
        self.leaderships.note_ends();
        let Some(address) = self.address_of_candidate() else {
            return self.leaderships.ask_for_life();
        };
        let looked = self.note(address).and_then(|()| Ok(self.leaders()?));
        match looked {
            // The answer came late, and others have looked since.
            Ok(_) if watch::is_given_up() => {}
            Ok(leaders) => {
                let (mine, others) = self.split(&leaders);
                mine.iter().for_each(|leader| self.hand_over(leader));
                self.leaderships.know(&others);
                self.follow_load(&mine);
                self.note_again(&mine);
                self.withdraw_promises(&mine);
                self.ask_for_share(&mine, &others);
            }
            Err(error) => log::debug!("who leads what could not be looked at: {error}"),
        }
    }

    /// Takes over what this node was named for, and keeps images of what others lead warm.
    pub(super) fn prepare(&self, images: &dyn Images) {
        if self.address_of_candidate().is_none() {
            return;
        }
        match self.leaders() {
            Ok(_) if watch::is_given_up() => {}
            Ok(leaders) => {
                let (_, others) = self.split(&leaders);
                self.succeed_all(&others, images);
                self.warm(&others, images);
            }
            Err(error) => log::debug!("who leads what could not be looked at: {error}"),
        }
    }

    /// Where clients reach this node, if they can be told. `None`: it serves nobody but its own
    /// program and leads what that asks for, or it is about to end.
    fn address_of_candidate(&self) -> Option<Option<&str>> {
        self.leaderships.address().filter(|_| !self.leaderships.is_ending())
    }

    /// Who leads the graphs that this process serves in this way.
    fn leaders(&self) -> Result<Vec<Leader>, StoreError> {
        let leaders = self.leaderships.store.leaders()?.into_iter();
        Ok(leaders.filter(|leader| self.storages.contains(&leader.storage)).collect())
    }

    /// What this node leads, and what others do.
    fn split<'l>(&self, leaders: &'l [Leader]) -> (Vec<&'l Leader>, Vec<&'l Leader>) {
        leaders.iter().partition(|leader| leader.node == self.leaderships.node)
    }

    fn note(&self, address: Option<&str>) -> Result<(), CommitError> {
        let is_due = lock(&self.noted).is_none_or(|noted| noted.elapsed() >= NOTED_EVERY);
        if is_due {
            let Leaderships { store, node, .. } = &*self.leaderships;
            store.note_node(node, address)?;
            store.forget_nodes(FORGOTTEN_AFTER)?;
            *lock(&self.noted) = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes over what this node was named for, a few graphs at a time. Their images are brought up
    /// to date, and room for them is made, before anybody is told that this node waits, so that no
    /// graph is held up by that.
    fn succeed_all(&self, others: &[&Leader], images: &dyn Images) {
        let named = others.iter().filter(|leader| self.is_to_succeed(leader));
        let mut ready = Vec::new();
        for leader in named.take(SUCCEEDED_AT_ONCE) {
            let is_up = images.bring_up(&leader.graph);
            let has_room = is_up.and_then(|()| self.leaderships.make_room(ready.len() + 1));
            match has_room {
                Ok(()) => ready.push(leader),
                Err(error) => self.decline(leader, &error.to_string()),
            }
        }
        let waits = |leader: &&&&Leader| self.log(leader, self.wait_for(leader));
        let awaited: Vec<_> = ready.iter().filter(waits).collect();
        let until = Instant::now() + HANDED_WITHIN;
        for leader in awaited {
            if let Err(error) = self.succeed(leader, until) {
                self.decline(leader, &error);
            }
        }
    }

    /// Does not take over what this node, or any, was named for. Its leader goes on to lead it, and
    /// this node does not ask for it soon.
    fn decline(&self, leader: &Leader, why: &str) {
        self.log(leader, Err(why.to_owned()));
        self.rest(leader);
        self.withdraw(leader, Some(&self.leaderships.node));
    }

    /// Takes back that the graph is to be handed over to any node, or to that one.
    fn withdraw(&self, leader: &Leader, successor: Option<&str>) {
        let store = &self.leaderships.store;
        if let Err(error) = store.withdraw_successor(leader.graph_id, leader.token, successor) {
            log::debug!("graph `{}`: a successor could not be withdrawn: {error}", leader.graph);
        }
    }

    /// Takes back what successors were named for that have not come for long: whoever has named one
    /// may be gone, and the node may serve no graphs of that storage.
    fn withdraw_promises(&self, mine: &[&Leader]) {
        let mut overdue = Vec::new();
        let mut promised = lock(&self.promised);
        let before = std::mem::take(&mut *promised);
        for leader in mine {
            let Some(successor) = leader.successor.as_ref().filter(|named| !named.waits) else {
                continue;
            };
            let known = before.get(&leader.graph_id).filter(|(named, _)| named == successor);
            let since = known.map_or_else(Instant::now, |(_, since)| *since);
            if since.elapsed() < self.leaderships.limits.promised_for {
                promised.insert(leader.graph_id, (successor.clone(), since));
            } else {
                overdue.push((*leader, successor));
            }
        }
        drop(promised);
        for (leader, successor) in overdue {
            self.withdraw(leader, successor.node.as_deref());
        }
    }

    fn rest(&self, leader: &Leader) {
        lock(&self.resting).insert(leader.graph_id, Instant::now());
    }

    fn rests(&self, leader: &Leader) -> bool {
        let mut resting = lock(&self.resting);
        resting.retain(|_, since| since.elapsed() < RESTS_FOR);
        resting.contains_key(&leader.graph_id)
    }

    /// Notes what this process leads, where the notes were emptied: other nodes would take it for a
    /// graph that is just being given up, and have their writes wait.
    fn note_again(&self, mine: &[&Leader]) {
        let noted: BTreeSet<i64> = mine.iter().map(|leader| leader.graph_id).collect();
        let Leaderships { store, node, .. } = &*self.leaderships;
        let all = self.leaderships.all().into_iter();
        for (graph_id, token) in all.filter(|(graph_id, _)| !noted.contains(graph_id)) {
            if let Err(error) = store.note_leader(graph_id, token, node) {
                log::debug!("who leads the graph in row {graph_id} could not be noted: {error}");
            }
        }
    }

    /// Hands the graph over if its successor waits.
    fn hand_over(&self, leader: &Leader) {
        let Some(led) = self.leaderships.led(leader.graph_id) else { return };
        let waits = leader.successor.as_ref().is_some_and(|successor| successor.waits);
        if waits && leader.token == led.token {
            self.leaderships.hand_over(&led);
        }
    }

    /// Names the node through which most writes of a graph come as the next to lead it: one graph
    /// at each look, and none that this node leads only since lately.
    fn follow_load(&self, mine: &[&Leader]) {
        let Leaderships { store, limits, .. } = &*self.leaderships;
        for leader in mine {
            let Some(led) = self.leaderships.led(leader.graph_id) else { continue };
            let (token, judged) = (led.token, lock(&led.load).judge(Instant::now(), limits));
            // Not kept while the database is asked: its lock could not be given back meanwhile.
            drop(led);
            let Some(node) = judged else { continue };
            let led_for = Duration::from_millis(leader.led_ms.unsigned_abs());
            if led_for < limits.led_for
                || leader.successor.is_some()
                || self.rests(leader)
                || !self.can_be_asked(&node)
            {
                continue;
            }
            match store.ask_to_succeed(leader.graph_id, token, &node, true) {
                Ok(true) => {
                    self.rest(leader);
                    log::info!("graph `{}` is to follow its writes to node {node}", leader.graph);
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    log::debug!(
                        "graph `{}`: a successor could not be named: {error}",
                        leader.graph
                    );
                }
            }
        }
    }

    /// Whether writes can be passed on to that node, as far as it says itself.
    fn can_be_asked(&self, node: &str) -> bool {
        let nodes = self.leaderships.store.nodes().unwrap_or_default();
        let named = nodes.into_iter().find(|other| other.node == node && other.lives());
        let address = named.and_then(|node| node.address);
        address.is_some_and(|address| {
            address.starts_with("http://")
                && is_near(&address, self.leaderships.address().flatten())
        })
    }

    /// Whether this node was named, or any was.
    fn is_to_succeed(&self, leader: &Leader) -> bool {
        let node = &self.leaderships.node;
        leader
            .successor
            .as_ref()
            .is_some_and(|successor| successor.node.as_ref().is_none_or(|named| named == node))
    }

    /// Says that this node waits for the graph.
    fn wait_for(&self, leader: &Leader) -> Result<(), String> {
        let Leaderships { store, node, .. } = &*self.leaderships;
        match store.wait_as_successor(leader.graph_id, leader.token, node) {
            Ok(true) => Ok(()),
            Ok(false) => Err("another node was named".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits for the lock, and leads.
    fn succeed(&self, leader: &Leader, until: Instant) -> Result<(), String> {
        let Leader { graph, graph_id, .. } = leader;
        let wait = until.saturating_duration_since(Instant::now());
        let acquired = self.leaderships.try_to_acquire(*graph_id, wait);
        let Some(guard) = acquired.map_err(|error| error.to_string())? else { return Ok(()) };
        if self.leaderships.is_ending() {
            return Ok(());
        }
        // Its leader may have died before it came to that.
        let cause = if guard.must_seal() { Cause::LeaseRanOut } else { Cause::HandedOver };
        let Leaderships { store, .. } = &*self.leaderships;
        let head = || Ok(store.head(graph)?);
        let led = self.leaderships.take_over(graph, *graph_id, guard, cause, head);
        led.map(drop).map_err(|error| error.to_string())
    }

    /// Whether it went well; says so if not.
    fn log(&self, leader: &Leader, outcome: Result<(), String>) -> bool {
        if let Err(error) = &outcome {
            log::info!("graph `{}` is not taken over yet: {error}", leader.graph);
        }
        outcome.is_ok()
    }

    /// Keeps images near the leaders' versions, as far as there is memory.
    fn warm(&self, others: &[&Leader], images: &dyn Images) {
        let began = Instant::now();
        let first = self.looks.fetch_add(1, Ordering::Relaxed) % others.len().max(1);
        for leader in others[first..].iter().chain(&others[..first]) {
            if began.elapsed() > WARMED_FOR {
                return;
            }
            let is_behind = match images.version(&leader.graph) {
                Some(version) => version < leader.version,
                None => images.have_room() && !self.rests(leader),
            };
            if !is_behind {
                continue;
            }
            match images.warm(&leader.graph) {
                Ok(true) => {}
                // It would be loaded again and again.
                Ok(false) => self.rest(leader),
                Err(error) => log::debug!("graph `{}` is not kept warm: {error}", leader.graph),
            }
        }
    }

    /// Asks the node that leads most for graphs, if this one leads less than its share. Not a node
    /// whose clients it could not be told to.
    fn ask_for_share(&self, mine: &[&Leader], others: &[&Leader]) {
        let mut by_node: BTreeMap<&str, Vec<&Leader>> = BTreeMap::new();
        let own = self.leaderships.address().flatten();
        let is_near =
            |leader: &Leader| own.is_none_or(|own| is_near(own, leader.address.as_deref()));
        for leader in others.iter().filter(|leader| leader.lives() && is_near(leader)) {
            by_node.entry(&leader.node).or_default().push(leader);
        }
        let total = mine.len() + by_node.values().map(Vec::len).sum::<usize>();
        let share = total / (by_node.len() + 1);
        let is_coming = |leader: &&&Leader| {
            let named = leader.successor.as_ref().and_then(|successor| successor.node.as_ref());
            named == Some(&self.leaderships.node)
        };
        let coming = others.iter().filter(is_coming).count();
        let wanted = share.saturating_sub(mine.len() + coming).min(ASKED_AT_ONCE);
        let asked = choose(&by_node, share, wanted, &|leader| self.rests(leader));
        for leader in others.iter().filter(|leader| asked.contains(&leader.graph_id)) {
            let Leaderships { store, node, .. } = &*self.leaderships;
            let asked = store.ask_to_succeed(leader.graph_id, leader.token, node, false);
            if let Err(error) = asked {
                log::debug!("graph `{}` could not be asked for: {error}", leader.graph);
            }
        }
    }
}

/// Whether `address` leads those who reach a node at `other` to the same machine: one of loopback
/// leads each machine to itself.
fn is_near(address: &str, other: Option<&str>) -> bool {
    !is_on_loopback(address) || other.is_some_and(is_on_loopback)
}

/// Of nodes that lead more than `share`, `wanted` graphs that nobody else is to be given and that
/// do not rest; each from the node that has most left.
fn choose(
    by_node: &BTreeMap<&str, Vec<&Leader>>,
    share: usize,
    wanted: usize,
    rests: &dyn Fn(&Leader) -> bool,
) -> BTreeSet<i64> {
    let free = |led: &Vec<&Leader>| -> Vec<i64> {
        let free = led.iter().filter(|leader| {
            leader.successor.is_none()
                && !leader.is_leaving
                && !leader.follows_load
                && !rests(leader)
        });
        free.map(|leader| leader.graph_id).collect()
    };
    // What is promised to others is as good as gone.
    let left = |led: &Vec<&Leader>| led.iter().filter(|leader| leader.successor.is_none()).count();
    let mut nodes: Vec<(usize, Vec<i64>)> =
        by_node.values().map(|led| (left(led), free(led))).collect();
    let mut chosen = BTreeSet::new();
    while chosen.len() < wanted {
        let richest = nodes
            .iter_mut()
            .filter(|(left, free)| *left > share && !free.is_empty())
            .max_by_key(|(left, _)| *left);
        let Some((left, free)) = richest else { break };
        *left -= 1;
        chosen.extend(free.pop());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Name;
    use crate::store::ImageKey;

    fn led_by(node: &str, graphs: std::ops::Range<i64>) -> Vec<Leader> {
        let leader = |graph_id| Leader {
            graph_id,
            graph: Name::new(&format!("g{graph_id}")).unwrap(),
            storage: StorageKind::Log,
            version: 0,
            chain: ImageKey::of_an_empty_graph().chain,
            node: node.to_owned(),
            address: None,
            token: 1,
            led_ms: 0,
            silent_ms: Some(0),
            is_leaving: false,
            successor: None,
            follows_load: false,
        };
        graphs.map(leader).collect()
    }

    #[test]
    fn what_is_promised_to_another_is_not_counted_as_left() {
        let mut all = led_by("a", 0..60);
        let promised = Successor { node: Some("b".to_owned()), waits: false };
        all[..30].iter_mut().for_each(|leader| leader.successor = Some(promised.clone()));
        let by_node = BTreeMap::from([("a", all.iter().collect())]);
        assert_eq!(choose(&by_node, 20, 20, &|_| false).len(), 10, "a third of them stay");
    }

    #[test]
    fn what_follows_its_writes_or_was_declined_is_not_asked_for() {
        let mut all = led_by("a", 0..60);
        all[..50].iter_mut().for_each(|leader| leader.follows_load = true);
        let by_node = BTreeMap::from([("a", all.iter().collect())]);
        let chosen = choose(&by_node, 20, 20, &|leader| leader.graph_id >= 55);
        assert_eq!(chosen, (50..55).collect());
    }

    #[test]
    fn an_address_of_loopback_is_near_to_those_on_one_machine_only() {
        let (local, other) = ("http://127.0.0.1:1", "http://10.0.0.1:1");
        assert!(is_near(other, Some(other)) && is_near(other, Some(local)) && is_near(other, None));
        assert!(is_near(local, Some(local)));
        assert!(!is_near(local, Some(other)) && !is_near(local, None));
    }

    #[test]
    fn a_share_is_taken_from_those_who_lead_most_and_nobody_gets_less_than_it() {
        let all = [led_by("a", 0..9), led_by("b", 10..15), led_by("c", 20..21)].concat();
        let mut by_node: BTreeMap<&str, Vec<&Leader>> = BTreeMap::new();
        all.iter().for_each(|leader| by_node.entry(&leader.node).or_default().push(leader));
        // Fifteen graphs, four nodes.
        let share = all.len() / 4;
        let chosen = choose(&by_node, share, share, &|_| false);
        assert_eq!(chosen.len(), 3);
        assert!(chosen.iter().all(|graph| *graph < 9), "{chosen:?}");
        let most = choose(&by_node, share, usize::MAX, &|_| false);
        let left = |node: &str| by_node[node].iter().filter(|led| !most.contains(&led.graph_id));
        assert_eq!((left("a").count(), left("b").count(), left("c").count()), (3, 3, 1));
    }
}
