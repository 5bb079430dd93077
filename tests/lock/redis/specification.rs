//! What the lock of one graph means: a state machine, and each operation on it with its answer and
//! the messages that it sends. `scripts` holds the real script to it, `exploration` looks at all
//! that can come of it.
//!
//! Times are milliseconds of the server's clock. Knows the lock's modes and tokens, nothing else:
//! no server, no connection, no key.

use std::collections::{BTreeMap, BTreeSet};

use fencepost::lock::{FencingToken, Mode};

pub type Ms = i64;

/// One acquisition: which process, and which of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    pub process: u8,
    pub number: u32,
}

/// Which memory of which run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// What every memory is to a server that does not know its run.
    pub const ANY: Self = Self(u32::MAX);
}

/// What can be taken out, to show that something goes wrong without it. The first five are switches
/// of the script too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A request that is asked for again has what it was given, and one that has ended gets
    /// nothing.
    RemembersRequests,
    /// A place in line ends when nothing is heard of who waits there.
    PurgesWaiters,
    /// A release gives back what this very request holds.
    ReleasesOnlyItsOwn,
    /// Writers are told when the lease of an earlier one ran out.
    MarksWhatExpired,
    /// Tokens are of the run that was seeded.
    KnowsItsRun,
    /// A grant ends when nothing is heard of its holder.
    EndsLeases,
    /// Readers that come after a waiting writer wait too.
    HoldsBackReaders,
    /// After a writer it is the turn of the readers that wait.
    TakesTurns,
}

/// The server at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub now: Ms,
    pub incarnation: Incarnation,
    /// How long a grant lasts that is not renewed.
    pub lease: Ms,
    /// How long a grant may stay unclaimed that was handed over.
    pub claim: Ms,
    /// Rules that were taken out.
    pub without: &'static [Rule],
}

impl Server {
    fn has(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }

    /// Which memory this is, as far as the server knows.
    pub fn seen_incarnation(&self) -> Incarnation {
        if self.has(Rule::KnowsItsRun) { self.incarnation } else { Incarnation::ANY }
    }

    fn is_over(&self, ends: Ms) -> bool {
        ends <= self.now
    }
}

/// What a writer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// `None`: the lock wants seeding.
    pub token: Option<FencingToken>,
    pub incarnation: Incarnation,
    /// A writer's lease ran out since a token was last sealed in the database.
    pub unsealed: bool,
}

/// What is said of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It holds the lock; a writer with a grant.
    Held {
        grant: Option<Grant>,
        /// A writer is told whether another request waits.
        is_wanted: bool,
    },
    /// It waits. Who is in its way will have expired by then, if nothing is heard of them.
    Queued {
        free_in: Ms,
    },
    /// It would have to wait, and was not to.
    Busy,
    /// It has ended and gets nothing any more.
    Ended,
    Unknown,
}

/// What a request was before it was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    Holder,
    Waiter,
    Nothing,
}

/// The messages that an operation sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub handed_over: Vec<HandOver>,
    /// The writer that holds the lock, if a request is the first to wait behind it.
    pub wanted: Option<Request>,
}

impl From<Vec<HandOver>> for Told {
    fn from(handed_over: Vec<HandOver>) -> Self {
        Self { handed_over, wanted: None }
    }
}

/// A message to a process: what was handed over to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandOver {
    pub process: u8,
    pub numbers: BTreeSet<u32>,
    /// For a writer.
    pub grant: Option<Grant>,
}

/// From where tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seeding {
    pub incarnation: Incarnation,
    pub epoch: u32,
    /// The last that was given; 0 when none can be given.
    pub counter: u64,
}

/// Somebody whose time ends unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leased {
    pub request: Request,
    pub ends: Ms,
}

/// The lock. An end is the first moment at which it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lock {
    /// The writer that holds it.
    pub writer: Option<Leased>,
    /// The readers that hold it.
    pub readers: BTreeMap<Request, Ms>,
    /// The writers that wait, by ticket: the least is served first.
    pub queue: BTreeMap<u64, Leased>,
    /// The readers that wait.
    pub crowd: BTreeMap<Request, Ms>,
    /// What has ended, and until when that is remembered.
    pub ended: BTreeMap<Request, Ms>,
    /// The last ticket that was given.
    pub tickets: u64,
    /// `None`: new, or forgotten.
    pub seeding: Option<Seeding>,
    pub unsealed: bool,
    /// Whom it was last granted to.
    pub last: Option<Mode>,
}

impl Lock {
    /// Takes the lock for `request`, or a place in line that lasts for `patience`; `None`: does not
    /// wait.
    pub fn acquire(
        &mut self,
        server: &Server,
        request: Request,
        mode: Mode,
        patience: Option<Ms>,
    ) -> (Answer, Told) {
        let mut told = Told::from(self.settle(server));
        if server.has(Rule::RemembersRequests) {
            if self.ended.contains_key(&request) {
                return (Answer::Ended, told);
            }
            if let Some(held) = self.prolong(server, request) {
                return (held, told);
            }
        }
        let answer = if self.admits(server, mode) {
            self.grant(server, request, mode, server.lease);
            self.held(server, mode)
        } else if let Some(patience) = patience {
            let writer = self.writer.map(|writer| writer.request);
            told.wanted = writer.filter(|_| !self.is_wanted());
            self.wait(request, mode, server.now + patience);
            Answer::Queued { free_in: self.free_in(server) }
        } else {
            Answer::Busy
        };
        (answer, told)
    }

    /// Ends `request`, whatever it is. `sealed`: it sealed a token in the database. `remember`: for
    /// so long it gets nothing, even if somebody still asks.
    pub fn release(
        &mut self,
        server: &Server,
        request: Request,
        sealed: bool,
        remember: Option<Ms>,
    ) -> (Was, Told) {
        self.expire(server);
        let was = self.remove(server, request, sealed);
        if let Some(remember) = remember {
            self.ended.insert(request, server.now + remember);
        }
        (was, self.hand_over(server).into())
    }

    /// Prolongs what the requests hold, which claims what was handed over to them; or their places
    /// in line, by `patience`.
    pub fn renew(
        &mut self,
        server: &Server,
        requests: &[Request],
        patience: Ms,
    ) -> (Vec<Answer>, Told) {
        let told = self.settle(server);
        let mut renew = |request| {
            self.prolong(server, request).unwrap_or_else(|| match self.waiting_end(request) {
                Some(ends) => {
                    *ends = server.now + patience;
                    Answer::Queued { free_in: self.free_in(server) }
                }
                None => Answer::Unknown,
            })
        };
        let answers = requests.iter().map(|request| renew(*request)).collect();
        (answers, told.into())
    }

    /// Counts tokens from the first of `epoch`, which is the writer's own. Whether `request` is
    /// that writer.
    pub fn seed(
        &mut self,
        server: &Server,
        request: Request,
        incarnation: Incarnation,
        epoch: u32,
    ) -> (bool, Told) {
        let told = self.settle(server);
        let is_writer = self.writer.is_some_and(|writer| writer.request == request);
        if is_writer {
            self.seeding = Some(Seeding { incarnation, epoch, counter: 1 });
        }
        (is_writer, told.into())
    }

    /// Whether a request waits.
    pub fn is_wanted(&self) -> bool {
        !self.queue.is_empty() || !self.crowd.is_empty()
    }

    /// The same as if the clock went `time` forward.
    pub fn pass(&mut self, time: Ms) {
        self.ends().for_each(|ends| *ends -= time);
    }

    /// All that ends some time.
    pub fn ends(&mut self) -> impl Iterator<Item = &mut Ms> {
        let leased =
            self.writer.iter_mut().chain(self.queue.values_mut()).map(|leased| &mut leased.ends);
        let others =
            self.readers.values_mut().chain(self.crowd.values_mut()).chain(self.ended.values_mut());
        leased.chain(others)
    }

    /// Takes out what is over, and hands on what has become free by it.
    fn settle(&mut self, server: &Server) -> Vec<HandOver> {
        self.expire(server);
        self.hand_over(server)
    }

    fn expire(&mut self, server: &Server) {
        self.ended.retain(|_, ends| !server.is_over(*ends));
        if server.has(Rule::EndsLeases) {
            if self.writer.take_if(|writer| server.is_over(writer.ends)).is_some() {
                self.unsealed = server.has(Rule::MarksWhatExpired);
            }
            self.readers.retain(|_, ends| !server.is_over(*ends));
        }
        if server.has(Rule::PurgesWaiters) {
            self.queue.retain(|_, writer| !server.is_over(writer.ends));
            self.crowd.retain(|_, ends| !server.is_over(*ends));
        }
    }

    /// Phase-fair: after a writer all readers that wait, after them the writer that has waited
    /// longest.
    fn hand_over(&mut self, server: &Server) -> Vec<HandOver> {
        if self.writer.is_some() {
            return Vec::new();
        }
        let readers_turn = self.last == Some(Mode::Exclusive) && server.has(Rule::TakesTurns);
        let writer_next = self.readers.is_empty() && (self.crowd.is_empty() || !readers_turn);
        match self.queue.first_entry() {
            Some(first) if writer_next => {
                let request = first.remove().request;
                self.grant(server, request, Mode::Exclusive, server.claim);
                let grant = Some(self.writer_grant(server));
                vec![HandOver {
                    process: request.process,
                    numbers: BTreeSet::from([request.number]),
                    grant,
                }]
            }
            Some(_) if !self.readers.is_empty() => Vec::new(),
            _ => self.admit_crowd(server),
        }
    }

    fn admit_crowd(&mut self, server: &Server) -> Vec<HandOver> {
        let mut told: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        for (request, _) in std::mem::take(&mut self.crowd) {
            self.grant(server, request, Mode::Shared, server.claim);
            told.entry(request.process).or_default().insert(request.number);
        }
        told.into_iter()
            .map(|(process, numbers)| HandOver { process, numbers, grant: None })
            .collect()
    }

    /// Whether the lock is free for who comes now.
    fn admits(&self, server: &Server, mode: Mode) -> bool {
        match mode {
            Mode::Shared => {
                self.writer.is_none()
                    && (self.queue.is_empty() || !server.has(Rule::HoldsBackReaders))
            }
            Mode::Exclusive => self.writer.is_none() && self.readers.is_empty(),
        }
    }

    fn grant(&mut self, server: &Server, request: Request, mode: Mode, term: Ms) {
        let ends = server.now + term;
        self.last = Some(mode);
        match mode {
            Mode::Shared => drop(self.readers.insert(request, ends)),
            Mode::Exclusive => {
                self.writer = Some(Leased { request, ends });
                self.count(server);
            }
        }
    }

    /// The next token. A memory of another run, or at its end, gives none until it is seeded.
    fn count(&mut self, server: &Server) {
        let Some(seeding) = &mut self.seeding else { return };
        let counts = seeding.incarnation == server.seen_incarnation()
            && (1..FencingToken::MAX_COUNTER).contains(&seeding.counter);
        seeding.counter = if counts { seeding.counter + 1 } else { 0 };
    }

    /// What the writer that holds it is told.
    pub fn writer_grant(&self, server: &Server) -> Grant {
        let incarnation = server.seen_incarnation();
        let trusted = self
            .seeding
            .filter(|seeding| seeding.incarnation == incarnation && seeding.counter > 0);
        let token = trusted.and_then(|seeding| FencingToken::new(seeding.epoch, seeding.counter));
        Grant { token, incarnation, unsealed: self.unsealed }
    }

    fn held(&self, server: &Server, mode: Mode) -> Answer {
        let is_writer = mode == Mode::Exclusive;
        Answer::Held {
            grant: is_writer.then(|| self.writer_grant(server)),
            is_wanted: is_writer && self.is_wanted(),
        }
    }

    /// A lease from now on, if the request holds the lock.
    fn prolong(&mut self, server: &Server, request: Request) -> Option<Answer> {
        let ends = server.now + server.lease;
        if let Some(writer) = self.writer.as_mut().filter(|writer| writer.request == request) {
            writer.ends = ends;
            return Some(self.held(server, Mode::Exclusive));
        }
        *self.readers.get_mut(&request)? = ends;
        Some(self.held(server, Mode::Shared))
    }

    /// Gives the request a place in line until then, or the place it has.
    fn wait(&mut self, request: Request, mode: Mode, ends: Ms) {
        if mode == Mode::Shared {
            self.crowd.insert(request, ends);
            return;
        }
        // One more, whether it is used or not.
        self.tickets += 1;
        if let Some(place) = self.queue.values_mut().find(|place| place.request == request) {
            place.ends = ends;
        } else {
            self.queue.insert(self.tickets, Leased { request, ends });
        }
    }

    fn waiting_end(&mut self, request: Request) -> Option<&mut Ms> {
        let writer = self
            .queue
            .values_mut()
            .find(|place| place.request == request)
            .map(|place| &mut place.ends);
        writer.or_else(|| self.crowd.get_mut(&request))
    }

    fn remove(&mut self, server: &Server, request: Request, sealed: bool) -> Was {
        let is_its_own = |writer: &mut Leased| {
            writer.request == request || !server.has(Rule::ReleasesOnlyItsOwn)
        };
        if self.writer.take_if(is_its_own).is_some() {
            self.unsealed &= !sealed;
            Was::Holder
        } else if self.readers.remove(&request).is_some() {
            Was::Holder
        } else if self.crowd.remove(&request).is_some() || self.leave_queue(request) {
            Was::Waiter
        } else {
            Was::Nothing
        }
    }

    fn leave_queue(&mut self, request: Request) -> bool {
        let waited = self.queue.len();
        self.queue.retain(|_, place| place.request != request);
        self.queue.len() < waited
    }

    /// How long until who holds the lock will have expired, if nothing is heard of them.
    fn free_in(&self, server: &Server) -> Ms {
        let holders = self.writer.iter().map(|writer| &writer.ends).chain(self.readers.values());
        holders.max().map_or(0, |last| last - server.now)
    }
}
