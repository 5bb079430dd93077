//! The end of a graph's change log, for those who follow it as it grows.
//!
//! However many follow a graph, its new changes are read once, written out once, and kept in a ring
//! of the last ones. Nothing is pushed: each follower takes from the ring at its own pace, and one
//! that the ring has overtaken reads pages of the log by itself until it is back. So whoever reads
//! slowly holds up neither a writer nor another reader. The tail looks at the store as soon as this
//! process has written, and now and then for what others have; it goes with its last follower.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use rocket::tokio;
use rocket::tokio::sync::{Notify, watch};
use rocket::tokio::time::Instant;
use uuid::Uuid;

use super::log_page::{PAGE_CHANGES, Page, Seen, event, log_page, went_back};
use super::problem::Problem;
use crate::graph::Name;
use crate::service::Service;
use crate::store::GraphState;

/// Changes that the ring keeps.
const RING_EVENTS: usize = 4096;
/// Bytes that the ring keeps, beyond its last change.
const RING_BYTES: usize = 8 << 20;
/// Bytes that a follower takes at once, beyond its first change.
const TAKEN_BYTES: usize = 64 << 10;
/// How often the store is looked at if nothing is heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked at however much is heard.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);

/// Of all graphs that are followed.
pub struct Tails {
    service: Service,
    by_graph: Mutex<HashMap<Name, Weak<Tail>>>,
    /// Graphs whose tail is read.
    followed: IntGauge,
    reads: IntCounter,
}

/// Of one graph.
pub struct Tail {
    ring: Mutex<Ring>,
    /// Told whenever the ring has changed.
    grown: watch::Sender<()>,
    /// Has the task look at once.
    wake: Arc<Notify>,
}

struct Ring {
    /// The last changes, dense, written as server-sent events.
    events: VecDeque<Arc<[u8]>>,
    bytes: usize,
    /// The version that the last of them made; before there is one, the version that the tail began
    /// at.
    last: u64,
    /// What comes after the last of them, if nothing else will.
    end: Option<End>,
}

/// How a tail ends.
#[derive(Clone)]
pub enum End {
    /// With the deletion of the graph.
    Deleted,
    /// It cannot go on.
    Failed(Problem),
}

/// What a follower finds.
pub enum Taken {
    /// Further changes, and the version that the last of them made.
    Events(Vec<Arc<[u8]>>, u64),
    /// None yet.
    Nothing,
    /// The ring no longer has the next one. The log does, unless it was pruned.
    Behind,
    /// There will be none.
    End(End),
}

/// What a tail does after it has read.
enum Next {
    /// There is more to read.
    ReadOn,
    /// All was read: waits until something is heard, or some time has passed.
    Wait,
    /// Nothing more will come.
    End,
}

impl Ring {
    fn take(&self, after: u64) -> Taken {
        if after >= self.last {
            return self.end.clone().map_or(Taken::Nothing, Taken::End);
        }
        let before_first = self.last - self.events.len() as u64;
        if after < before_first {
            return Taken::Behind;
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        for event in self.events.range((after - before_first) as usize..) {
            bytes += event.len();
            if !taken.is_empty() && bytes > TAKEN_BYTES {
                break;
            }
            taken.push(Arc::clone(event));
        }
        let last = after + taken.len() as u64;
        Taken::Events(taken, last)
    }

    fn push(&mut self, event: Arc<[u8]>) {
        self.bytes += event.len();
        self.last += 1;
        self.events.push_back(event);
        while self.events.len() > 1 && (self.events.len() > RING_EVENTS || self.bytes > RING_BYTES)
        {
            self.bytes -= self.events.pop_front().map_or(0, |event| event.len());
        }
    }
}

impl Tail {
    /// What comes after version `after`.
    pub fn take(&self, after: u64) -> Taken {
        self.lock().take(after)
    }

    /// Tells whenever there may be something to take.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    /// Takes in what was read of the graph `uuid`; what is to be done next.
    fn extend(&self, uuid: Uuid, read: Result<Page, Problem>) -> Next {
        let mut ring = self.lock();
        let before = ring.last;
        let mut next = Next::Wait;
        match read {
            Ok(page) if page.head.uuid != uuid || page.head.version < ring.last => {
                let problem = went_back(&page.head.name, ring.last, page.head.version);
                ring.end = Some(End::Failed(problem));
            }
            Ok(page) => {
                page.events.into_iter().for_each(|event| ring.push(event.into()));
                if page.head.version > ring.last {
                    next = Next::ReadOn;
                } else if page.head.state == GraphState::Deleted {
                    ring.end = Some(End::Deleted);
                }
            }
            Err(problem) => ring.end = Some(End::Failed(problem)),
        }
        if ring.end.is_some() {
            next = Next::End;
        }
        let changed = ring.end.is_some() || ring.last > before;
        drop(ring);
        if changed {
            self.grown.send_replace(());
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tail {
    /// The task notices that nobody follows.
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl Tails {
    /// None yet; counted in `registry`.
    pub fn new(service: Service, registry: &Registry) -> Arc<Self> {
        let followed = IntGauge::new("fencepost_tails", "Graphs whose changes are followed")
            .expect("the name is valid");
        let reads = IntCounter::new(
            "fencepost_tail_reads_total",
            "Looks at the store for those who follow",
        )
        .expect("the name is valid");
        // Fails only for a second server on one service, whose tails are then not counted.
        drop(registry.register(Box::new(followed.clone())));
        drop(registry.register(Box::new(reads.clone())));
        Arc::new(Self { service, by_graph: Mutex::default(), followed, reads })
    }

    /// The tail of the graph whose row is `page`'s, begun at its version if nobody follows it yet.
    pub fn follow(self: &Arc<Self>, page: &Page) -> Arc<Tail> {
        let (graph, version) = (&page.head.name, page.head.version);
        let mut by_graph = self.lock();
        let running =
            by_graph.get(graph).and_then(Weak::upgrade).filter(|tail| tail.lock().end.is_none());
        if let Some(tail) = running {
            return tail;
        }
        let wake = Arc::new(Notify::new());
        let ring = Ring { events: VecDeque::new(), bytes: 0, last: version, end: None };
        let tail = Arc::new(Tail {
            ring: Mutex::new(ring),
            grown: watch::Sender::new(()),
            wake: Arc::clone(&wake),
        });
        by_graph.insert(graph.clone(), Arc::downgrade(&tail));
        drop(by_graph);
        let uuid = page.head.uuid;
        let reading = Arc::clone(self).read(graph.clone(), uuid, Arc::downgrade(&tail), wake);
        tokio::spawn(reading);
        tail
    }

    /// Reads what is new for as long as anybody follows.
    async fn read(self: Arc<Self>, graph: Name, uuid: Uuid, tail: Weak<Tail>, wake: Arc<Notify>) {
        self.followed.inc();
        let heard = Arc::clone(&wake);
        let listening = self.service.listen(&graph, move || heard.notify_one());
        while let Some(after) = tail.upgrade().map(|tail| tail.lock().last) {
            let began = Instant::now();
            self.reads.inc();
            let seen = Seen { after, chain: None };
            let read = log_page(&self.service, &graph, seen, PAGE_CHANGES, event).await;
            match tail.upgrade().map_or(Next::End, |tail| tail.extend(uuid, read)) {
                Next::End => break,
                // The page was full: there is more.
                Next::ReadOn => continue,
                Next::Wait => {}
            }
            // Whether or not anything was heard.
            drop(tokio::time::timeout(LOOK_EVERY, wake.notified()).await);
            tokio::time::sleep_until(began + LOOK_AT_MOST_EVERY).await;
        }
        drop(listening);
        self.forget(&graph, &tail);
        self.followed.dec();
    }

    /// Unless another has taken its place.
    fn forget(&self, graph: &Name, tail: &Weak<Tail>) {
        let mut by_graph = self.lock();
        if by_graph.get(graph).is_some_and(|known| known.ptr_eq(tail)) {
            by_graph.remove(graph);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Weak<Tail>>> {
        self.by_graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{RING_BYTES, RING_EVENTS, Ring, TAKEN_BYTES, Taken};

    fn ring(events: impl IntoIterator<Item = usize>) -> Ring {
        let mut ring = Ring { events: VecDeque::new(), bytes: 0, last: 10, end: None };
        events.into_iter().for_each(|bytes| ring.push(vec![0; bytes].into()));
        ring
    }

    #[test]
    fn whoever_takes_again_and_again_gets_every_event_once() {
        let sizes = [1, TAKEN_BYTES, 7, TAKEN_BYTES + 1, TAKEN_BYTES / 2, TAKEN_BYTES / 2, 3];
        let ring = ring(sizes);
        let (mut after, mut taken) = (10, Vec::new());
        while let Taken::Events(events, last) = ring.take(after) {
            assert!(!events.is_empty());
            let bytes: usize = events.iter().map(|event| event.len()).sum();
            assert!(events.len() == 1 || bytes <= TAKEN_BYTES);
            taken.extend(events.iter().map(|event| event.len()));
            after = last;
        }
        assert_eq!(taken, sizes);
        assert!(
            matches!(ring.take(after), Taken::Nothing) && matches!(ring.take(99), Taken::Nothing)
        );
        assert!(matches!(ring.take(9), Taken::Behind));
    }

    #[test]
    fn it_keeps_no_more_than_its_limits_and_tells_who_is_behind() {
        let many = ring((0..RING_EVENTS + 5).map(|_| 1));
        assert_eq!((many.events.len(), many.last), (RING_EVENTS, 10 + RING_EVENTS as u64 + 5));
        assert!(matches!(many.take(14), Taken::Behind));
        assert!(matches!(many.take(15), Taken::Events(..)));
        let large = ring([RING_BYTES, 1, RING_BYTES + 1]);
        assert_eq!((large.events.len(), large.bytes), (1, RING_BYTES + 1));
        assert!(matches!(large.take(11), Taken::Behind));
        assert!(matches!(large.take(12), Taken::Events(_, 13)));
    }
}
