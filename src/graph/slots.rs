//! Slots: the numbered places that jobs and datasets are kept in. A node's slot is its id, in the
//! rows of the database too.

use imbl::{OrdSet, Vector};

/// The number of a job or a dataset for as long as it exists.
pub(super) type Slot = u32;

/// Nodes by slot. A new node gets the smallest free slot. That depends only on which slots are
/// taken, so every process gives a node the same id, whether it loaded the graph or followed its
/// changes.
#[derive(Clone)]
pub(super) struct Slots<T> {
    nodes: Vector<Option<T>>,
    /// The free slots below `nodes.len()`.
    free: OrdSet<Slot>,
    /// The sum over all nodes.
    text_bytes: usize,
}

/// A node that owns texts, which count towards the graph's memory.
pub(super) trait Texts {
    /// The length of its texts, in bytes.
    fn text_bytes(&self) -> usize;
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { nodes: Vector::new(), free: OrdSet::new(), text_bytes: 0 }
    }
}

impl<T: Clone + Texts> Slots<T> {
    pub(super) fn from_nodes(nodes: impl Iterator<Item = Option<T>>) -> Self {
        let mut free = Vec::new();
        let mut text_bytes = 0;
        let note = |(slot, node): (usize, Option<T>)| {
            match &node {
                Some(node) => text_bytes += node.text_bytes(),
                None => free.push(slot as Slot),
            }
            node
        };
        let nodes = nodes.enumerate().map(note).collect();
        Self { nodes, free: free.into(), text_bytes }
    }

    /// Adds a slot behind all others, taken or free.
    pub(super) fn append(&mut self, node: Option<T>) {
        match &node {
            Some(node) => self.text_bytes += node.text_bytes(),
            None => drop(self.free.insert(self.nodes.len() as Slot)),
        }
        self.nodes.push_back(node);
    }

    /// What is in each slot.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = Option<T>> {
        self.nodes.into_iter()
    }

    /// Puts `node` into the smallest free slot, which it returns.
    pub(super) fn insert(&mut self, node: T) -> Slot {
        self.text_bytes += node.text_bytes();
        if let Some(slot) = self.free.get_min().copied() {
            self.free.remove(&slot);
            self.nodes[slot as usize] = Some(node);
            return slot;
        }
        let slot = Slot::try_from(self.nodes.len()).expect("fewer than 2^32 jobs and datasets");
        self.nodes.push_back(Some(node));
        slot
    }

    /// Frees a slot that is taken.
    pub(super) fn remove(&mut self, slot: Slot) {
        let gone = self.nodes[slot as usize].take();
        self.text_bytes -= gone.map_or(0, |node| node.text_bytes());
        self.free.insert(slot);
    }

    pub(super) fn is_taken(&self, slot: Slot) -> bool {
        self.find(slot).is_some()
    }

    /// What is in each slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&T>> {
        // Several times as fast as the vector's own iterator, which looks up each chunk anew.
        self.nodes.leaves().flatten().map(Option::as_ref)
    }

    /// The slots that are taken, rising.
    pub(super) fn taken(&self) -> impl Iterator<Item = Slot> + '_ {
        let taken = self.nodes.iter().enumerate().filter(|(_, node)| node.is_some());
        taken.map(|(slot, _)| slot as Slot)
    }

    /// The node in a slot, if it is taken.
    #[inline]
    pub(super) fn find(&self, slot: Slot) -> Option<&T> {
        self.nodes.get(slot as usize)?.as_ref()
    }

    /// The node in a slot that is taken.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &T {
        self.nodes[slot as usize].as_ref().expect("the slot is taken")
    }

    /// The node in a slot that is taken, to change anything but its texts.
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot as usize].as_mut().expect("the slot is taken")
    }

    /// Changes the node in a slot that is taken, texts included.
    pub(super) fn change_texts(&mut self, slot: Slot, change: impl FnOnce(&mut T)) {
        let node = self.get_mut(slot);
        let before = node.text_bytes();
        change(node);
        let after = node.text_bytes();
        self.text_bytes = self.text_bytes - before + after;
    }

    /// How many slots there are, taken or free.
    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// How many slots are taken.
    pub(super) fn count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// The length of the texts of all nodes, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }
}
