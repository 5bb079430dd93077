//! A service in miniature: nodes that take turns as `src/design` does, over a store in memory, each
//! step a choice of a seeded scheduler. With a [`Mutant`] one step is done wrong. What it rests on,
//! deciding and applying, is the real thing.

use fencepost::graph::{Change, Decision, Graph, apply};
use serde_json::{Value, json};

use super::truth;
use crate::support::storm::Choices;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The image has the new graph before the store has the version.
    ImageBeforeVersion,
    /// The version is read first, the rows after it, in no one snapshot.
    VersionBeforeRows,
    /// A holder whose lease ran out writes, and neither fence nor version is compared.
    NoFenceNoComparison,
    /// A write that another was faster than is told that it is rejected.
    LostRaceAsRejection,
    /// A commit that was answered and never happened.
    SwallowedAppend,
    /// A read is sometimes answered from the image before.
    CacheGoesBack,
    /// A node answers from its image without asking the store.
    StaleNode,
    /// The verdicts of a batch go to its requests in another order.
    VerdictsMixedUp,
}

/// What a run left behind.
pub struct Run {
    /// A history, in the order of time.
    pub history: Vec<Value>,
    /// The change log, a line each.
    pub log: Vec<Value>,
    /// How many writes ended as unknown, and how many of them are in the log.
    pub unknown: usize,
    pub unknown_applied: usize,
}

/// How large a run is.
pub struct Size {
    pub nodes: usize,
    pub clients: usize,
    pub requests: usize,
}

pub fn simulate(seed: u64, size: &Size, mutant: Option<Mutant>) -> Run {
    let node = || Node {
        image: Image::default(),
        previous: Image::default(),
        waiting_writes: Vec::new(),
        waiting_reads: Vec::new(),
        write_turn: WriteTurn::Idle,
        read_turn: ReadTurn::Idle,
    };
    let client = |process| Client { process, waits_for: None };
    let mut world = World {
        choices: Choices(seed),
        mutant,
        store: Image::default(),
        fence: 0,
        log: Vec::new(),
        log_writers: Vec::new(),
        holder: None,
        tokens: 0,
        nodes: (0..size.nodes).map(|_| node()).collect(),
        clients: (0..size.clients as u64).map(client).collect(),
        unsent: size.requests,
        sent: 0,
        now_ns: 0,
        history: Vec::new(),
        unknown: Vec::new(),
    };
    world.start();
    while world.unsent > 0 || world.clients.iter().any(|client| client.waits_for.is_some()) {
        world.step();
    }
    world.end();
    // What was given up may yet be applied.
    for _ in 0..100 {
        world.step_node();
    }
    let unknown_applied = world.unknown.iter().filter(|id| world.log_writers.contains(id)).count();
    Run { history: world.history, log: world.log, unknown: world.unknown.len(), unknown_applied }
}

/// A graph, and the version that it is said to be of.
#[derive(Clone, Default)]
struct Image {
    version: u64,
    graph: Graph,
}

#[derive(Clone)]
struct Pending {
    id: u64,
    client: usize,
    request: Value,
}

struct Decided {
    token: u64,
    base: u64,
    before: Graph,
    next: Graph,
    changes: Vec<(u64, Change)>,
    ends: Vec<(Pending, Value)>,
}

enum WriteTurn {
    Idle,
    /// Has the lock.
    Began {
        token: u64,
    },
    /// Has read the version, not yet the rows.
    VersionRead {
        token: u64,
        version: u64,
    },
    Refreshed {
        token: u64,
    },
    Decided(Box<Decided>),
    Answering(Vec<(Pending, Value)>),
}

enum ReadTurn {
    Idle,
    VersionRead { version: u64, reads: Vec<Pending> },
    Answering { image: Box<Image>, reads: Vec<Pending> },
}

struct Node {
    image: Image,
    previous: Image,
    waiting_writes: Vec<Pending>,
    waiting_reads: Vec<Pending>,
    write_turn: WriteTurn,
    read_turn: ReadTurn,
}

impl Node {
    fn publish(&mut self, image: Image) {
        if image.version > self.image.version {
            self.previous = std::mem::replace(&mut self.image, image);
        }
    }
}

struct Client {
    process: u64,
    waits_for: Option<(u64, Value)>,
}

struct World {
    choices: Choices,
    mutant: Option<Mutant>,
    store: Image,
    fence: u64,
    log: Vec<Value>,
    log_writers: Vec<u64>,
    holder: Option<usize>,
    tokens: u64,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    unsent: usize,
    sent: u64,
    now_ns: u64,
    history: Vec<Value>,
    unknown: Vec<u64>,
}

impl World {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// One time in `n`.
    fn seldom(&mut self, n: usize) -> bool {
        self.choices.below(n) == 0
    }

    fn tick(&mut self) -> u64 {
        self.now_ns += 1 + self.choices.below(1_000_000) as u64;
        self.now_ns
    }

    fn start(&mut self) {
        let clock = json!({"kind": "monotonic", "unit": "ns", "zero_unix_ms": 0});
        self.history.push(json!({"event": "start", "format": 1, "graph": "g", "clock": clock, "initial_version": 0}));
    }

    fn end(&mut self) {
        let count = |event: &str| self.history.iter().filter(|line| line["event"] == event).count();
        let counts = [count("invoke"), count("ok"), count("fail"), count("info")];
        let time_ns = self.tick();
        self.history.push(json!({
            "event": "end", "time_ns": time_ns,
            "final_version": self.store.version, "final_digest": self.store.graph.digest(),
            "invoke": counts[0], "ok": counts[1], "fail": counts[2], "info": counts[3],
        }));
    }

    fn step(&mut self) {
        if self.choices.below(3) == 0 {
            let client = self.choices.below(self.clients.len());
            self.step_client(client);
        } else {
            self.step_node();
        }
    }

    fn step_client(&mut self, client: usize) {
        if let Some((id, request)) = self.clients[client].waits_for.clone() {
            // Gives up; whatever was asked is still in its line.
            if truth::writes(&request) && self.seldom(20) {
                self.lose(client, id);
            }
            return;
        }
        if self.unsent == 0 {
            return;
        }
        self.unsent -= 1;
        let (id, request) = (self.sent, self.some_request());
        self.sent += 1;
        let (process, time_ns) = (self.clients[client].process, self.tick());
        self.history
            .push(json!({"event": "invoke", "process": process, "id": id, "time_ns": time_ns, "request": request}));
        self.clients[client].waits_for = Some((id, request.clone()));
        match self.choices.below(60) {
            0 => self.answer(
                client,
                id,
                json!({"event": "fail", "verdict": "unreachable", "reason": "refused"}),
            ),
            1 => {
                let problem =
                    json!({"type": "urn:fencepost:problem:contended", "outcome": "not_applied"});
                self.answer(
                    client,
                    id,
                    json!({"event": "fail", "verdict": "refused", "problem": problem}),
                );
            }
            _ => {
                let node = self.choices.below(self.nodes.len());
                let pending = Pending { id, client, request };
                let node = &mut self.nodes[node];
                if truth::writes(&pending.request) {
                    &mut node.waiting_writes
                } else {
                    &mut node.waiting_reads
                }
                .push(pending);
            }
        }
    }

    /// Ends a request, unless its client has given it up.
    fn answer(&mut self, client: usize, id: u64, end: Value) {
        if self.clients[client].waits_for.as_ref().is_none_or(|(waits_for, _)| *waits_for != id) {
            return;
        }
        let time_ns = self.tick();
        let mut line =
            json!({"process": self.clients[client].process, "id": id, "time_ns": time_ns});
        line.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        self.history.push(line);
        self.clients[client].waits_for = None;
    }

    fn lose(&mut self, client: usize, id: u64) {
        if self.clients[client].waits_for.as_ref().is_some_and(|(waits_for, _)| *waits_for == id) {
            self.unknown.push(id);
            self.answer(
                client,
                id,
                json!({"event": "info", "verdict": "unknown", "reason": "no answer"}),
            );
            self.clients[client].process += self.clients.len() as u64;
        }
    }

    fn step_node(&mut self) {
        let node = self.choices.below(self.nodes.len());
        if self.choices.below(2) == 0 {
            self.step_write_turn(node)
        } else {
            self.step_read_turn(node)
        }
    }

    fn step_write_turn(&mut self, node: usize) {
        match std::mem::replace(&mut self.nodes[node].write_turn, WriteTurn::Idle) {
            WriteTurn::Idle => {
                // Now and then a lease runs out under its holder.
                if self.nodes[node].waiting_writes.is_empty()
                    || self.holder.is_some() && !self.seldom(4)
                {
                    return;
                }
                self.holder = Some(node);
                self.tokens += 1;
                self.nodes[node].write_turn = WriteTurn::Began { token: self.tokens };
            }
            WriteTurn::Began { token } if self.is(Mutant::VersionBeforeRows) => {
                self.nodes[node].write_turn =
                    WriteTurn::VersionRead { token, version: self.store.version };
            }
            WriteTurn::Began { token } => {
                if self.is(Mutant::ImageBeforeVersion) {
                    // Writers take no harm by it: reads do.
                    self.nodes[node].image = self.store.clone();
                }
                self.nodes[node].publish(self.store.clone());
                self.nodes[node].write_turn = WriteTurn::Refreshed { token };
            }
            WriteTurn::VersionRead { token, version } => {
                self.nodes[node].publish(Image { version, graph: self.store.graph.clone() });
                self.nodes[node].write_turn = WriteTurn::Refreshed { token };
            }
            WriteTurn::Refreshed { token } => self.decide_batch(node, token),
            WriteTurn::Decided(decided) => self.commit(node, *decided),
            WriteTurn::Answering(mut ends) => match ends.pop() {
                Some((pending, end)) => {
                    self.answer(pending.client, pending.id, end);
                    self.nodes[node].write_turn = WriteTurn::Answering(ends);
                }
                None => self.release(node),
            },
        }
    }

    fn release(&mut self, node: usize) {
        if self.holder == Some(node) {
            self.holder = None;
        }
    }

    fn decide_batch(&mut self, node: usize, token: u64) {
        let image = self.nodes[node].image.clone();
        let size = self.nodes[node].waiting_writes.len().min(4);
        let batch: Vec<Pending> = self.nodes[node].waiting_writes.drain(..size).collect();
        let (mut next, mut version) = (image.graph.clone(), image.version);
        let (mut changes, mut ends) = (Vec::new(), Vec::new());
        for pending in batch {
            let end = match truth::judge(&next, &pending.request) {
                Err(rejection) => truth::rejected(rejection, version),
                Ok(Decision { change, next: changed_to, created, .. }) => {
                    let changed = !change.is_empty();
                    if changed {
                        version += 1;
                        next = changed_to;
                        changes.push((pending.id, change));
                    }
                    json!({"event": "ok", "verdict": "accepted", "version": version, "changed": changed, "created": created})
                }
            };
            ends.push((pending, end));
        }
        if self.is(Mutant::ImageBeforeVersion) {
            self.nodes[node].image.graph = next.clone();
        }
        if self.is(Mutant::VerdictsMixedUp) {
            let mut verdicts: Vec<Value> = ends.iter().map(|(_, end)| end.clone()).collect();
            let by = 1.min(verdicts.len());
            verdicts.rotate_left(by);
            ends.iter_mut().zip(verdicts).for_each(|((_, end), verdict)| *end = verdict);
        }
        let decided =
            Decided { token, base: image.version, before: image.graph, next, changes, ends };
        self.nodes[node].write_turn = WriteTurn::Decided(Box::new(decided));
    }

    fn commit(&mut self, node: usize, decided: Decided) {
        let Decided { token, base, before, next, changes, ends } = decided;
        let unfenced = self.is(Mutant::NoFenceNoComparison);
        let holds = unfenced || base == self.store.version && token >= self.fence;
        if changes.is_empty() && holds {
            self.nodes[node].write_turn = WriteTurn::Answering(ends);
            return;
        }
        if !holds {
            self.lose_race(node, base, ends);
            return;
        }
        let lost = self.seldom(12);
        let swallowed = self.is(Mutant::SwallowedAppend) && self.seldom(8);
        if swallowed || lost && self.seldom(2) {
            // Nothing is written.
        } else {
            self.fence = self.fence.max(token);
            // Without fence and comparison, what came between is written over, and the version goes
            // on.
            self.store.graph = before;
            while self.store.graph.version() < self.store.version {
                self.store.graph = apply(&self.store.graph, &Change::default());
            }
            for (id, change) in &changes {
                self.store.version += 1;
                self.store.graph = apply(&self.store.graph, change);
                self.log.push(
                    serde_json::from_str(&change.canonical_json(self.store.version)).unwrap(),
                );
                self.log_writers.push(*id);
            }
        }
        if lost {
            ends.into_iter().for_each(|(pending, _)| self.lose(pending.client, pending.id));
            self.release(node);
            return;
        }
        self.nodes[node].publish(Image { version: base + changes.len() as u64, graph: next });
        self.nodes[node].write_turn = WriteTurn::Answering(ends);
    }

    /// Another writer was faster: all is decided anew.
    fn lose_race(&mut self, node: usize, base: u64, ends: Vec<(Pending, Value)>) {
        self.release(node);
        let actual = self.store.version;
        if self.is(Mutant::LostRaceAsRejection) {
            let problem = json!({
                "type": "urn:fencepost:problem:precondition_failed", "status": 412,
                "expected": base, "actual": actual, "operation": 0, "graph": "g", "version": actual,
            });
            let end = json!({"event": "fail", "verdict": "rejected", "version": actual, "problem": problem});
            ends.into_iter()
                .for_each(|(pending, _)| self.answer(pending.client, pending.id, end.clone()));
            return;
        }
        let again = ends.into_iter().map(|(pending, _)| pending);
        self.nodes[node].waiting_writes.splice(0..0, again);
    }

    fn step_read_turn(&mut self, node: usize) {
        match std::mem::replace(&mut self.nodes[node].read_turn, ReadTurn::Idle) {
            ReadTurn::Idle => {
                let reads = std::mem::take(&mut self.nodes[node].waiting_reads);
                if reads.is_empty() {
                    return;
                }
                let from_image = self.is(Mutant::StaleNode) && self.nodes[node].image.version > 0;
                let back = self.is(Mutant::CacheGoesBack) && self.seldom(4);
                self.nodes[node].read_turn = if self.is(Mutant::VersionBeforeRows) {
                    ReadTurn::VersionRead { version: self.store.version, reads }
                } else if back {
                    ReadTurn::Answering {
                        image: Box::new(self.nodes[node].previous.clone()),
                        reads,
                    }
                } else {
                    if !from_image {
                        self.nodes[node].publish(self.store.clone());
                    }
                    ReadTurn::Answering { image: Box::new(self.nodes[node].image.clone()), reads }
                };
            }
            ReadTurn::VersionRead { version, reads } => {
                let image = Box::new(Image { version, graph: self.store.graph.clone() });
                self.nodes[node].read_turn = ReadTurn::Answering { image, reads };
            }
            ReadTurn::Answering { image, mut reads } => {
                if let Some(pending) = reads.pop() {
                    let end = truth::read(&image.graph, image.version, &pending.request);
                    self.answer(pending.client, pending.id, end);
                    self.nodes[node].read_turn = ReadTurn::Answering { image, reads };
                }
            }
        }
    }

    fn some_request(&mut self) -> Value {
        let job = format!("j{}", self.choices.below(3));
        let dataset = format!("d{}", self.choices.below(3));
        let spec = json!({"n": self.choices.below(3)});
        let version = self.choices.below(1 + self.store.version as usize);
        let one = |call: &str, operation: Value| json!({"call": call, "operations": [operation]});
        let (from, to) =
            (format!("d{}", self.choices.below(3)), format!("d{}", self.choices.below(3)));
        match self.choices.below(22) {
            0..=3 => one(
                "putJob",
                json!({"op": "put_job", "name": job, "inputs": [from], "outputs": [to], "spec": spec}),
            ),
            4 => one(
                "patchJob",
                json!({"op": "patch_job", "name": job, "patch": {"outputs": [to], "spec": {"n": null, "m": 1.50}}}),
            ),
            5 => one("deleteJob", json!({"op": "delete_job", "name": job})),
            6 | 7 => {
                one("putDataset", json!({"op": "put_dataset", "name": dataset, "metadata": spec}))
            }
            8 => one("deleteDataset", json!({"op": "delete_dataset", "name": dataset})),
            9 | 10 => one("addInput", json!({"op": "add_input", "job": job, "dataset": dataset})),
            11 => one("addOutput", json!({"op": "add_output", "job": job, "dataset": dataset})),
            12 => one("removeInput", json!({"op": "remove_input", "job": job, "dataset": dataset})),
            13 => {
                one("removeOutput", json!({"op": "remove_output", "job": job, "dataset": dataset}))
            }
            14 => {
                let put = json!({"op": "put_dataset", "name": dataset, "if_absent": true});
                let patch = json!({"op": "patch_job", "name": job, "patch": {"spec": {"k": "\u{e9}"}}, "if_version": version});
                json!({"call": "applyChangeset", "operations": [put, patch]})
            }
            15 => {
                let delete = json!({"op": "delete_job", "name": job});
                let put = json!({"op": "put_job", "name": "j9", "inputs": [], "outputs": [to]});
                json!({"call": "applyChangeset", "operations": [delete, put]})
            }
            16 | 17 => json!({"call": "readJob", "job": job}),
            18 => json!({"call": "readJob", "job": job, "if_none_match": version}),
            19 => json!({"call": "readDataset", "dataset": dataset}),
            20 => {
                // Of what was drawn already, so that schedules stay what they were.
                let (jobs, stop_at) =
                    (&[&job, "j0"][version % 3..], &[from, to][version / 3 % 3..]);
                json!({"call": "planMany", "datasets": [dataset], "jobs": jobs, "stop_at": stop_at})
            }
            _ if self.seldom(2) => json!({"call": "readDigest"}),
            _ => json!({"call": "readGraph"}),
        }
    }
}
