//! Looks at all that can come of the specified lock with a few clients and a few faults: every
//! order in which they ask, are granted, are told, claim, seal, write, stall, wake and release,
//! while messages are lost, clients crash and the server forgets.
//!
//! In each state that can be reached: two that surely hold it both read; tokens rise; what a stale
//! holder writes is refused; whoever waits is granted if all that live go on and messages flow, and
//! is not overtaken more often than the lock promises. With a rule or a guard taken out, the
//! shortest way to what goes wrong is found.
//!
//! A call is made, carried out and answered at one moment, or its answer is lost: a slow answer
//! leaves a holder less time to be sure in. Time is counted in units, and always as what is left:
//! so what differs only in when it happens is one state. Knows the specification and no server.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use fencepost::lock::{FencingToken, Mode};

use super::specification::{
    Answer, Grant, HandOver, Incarnation, Lock, Ms, Request, Rule, Seeding, Server, Told,
};

const LEASE: Ms = 3;
const CLAIM: Ms = 1;
const PATIENCE: Ms = 2;

/// A scope that has more is too large to be looked at in a test.
const MOST_STATES: usize = 1_000_000;

/// What else can be taken out, beside the rules of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// A write is refused if the row is not of the version that was read.
    ComparesVersions,
    /// A write is refused if a larger token was sealed or written.
    ComparesTokens,
    /// A writer that gained the lock by an expiry seals its token before it reads the row.
    SealsAfterExpiry,
    /// A token is used only if it is of the row's epoch and run.
    ComparesTheRun,
    /// Who renews its place learns from the answer what was granted to it meanwhile.
    HeedsAnswers,
}

/// How far to look.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// How often each writer may ask.
    writers: &'static [u8],
    /// How often each reader may ask.
    readers: &'static [u8],
    /// How often a client crashes, or stalls until it has lost something; an answer or a message is
    /// lost; or the server forgets.
    faults: u8,
    /// The server may lose all it knows.
    forgets: bool,
    /// The server may be started again with the tokens that it had once.
    goes_back: bool,
    without: &'static [Rule],
    without_guards: &'static [Guard],
}

impl Scope {
    fn has(&self, guard: Guard) -> bool {
        !self.without_guards.contains(&guard)
    }

    /// Nothing is taken out. Otherwise clients keep their numbers, so that one can follow what they
    /// do.
    fn is_whole(&self) -> bool {
        self.without.is_empty() && self.without_guards.is_empty()
    }
}

/// What a client does, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Idle,
    /// It has asked and knows no answer.
    Asking,
    Queued,
    Reading,
    /// A writer, before it looks at the row.
    Granted(Grant),
    Sealed(FencingToken),
    /// It found that the token is not to be trusted, in a row of this version and epoch.
    Raising {
        version: u8,
        epoch: u32,
        next: u32,
        incarnation: Incarnation,
    },
    /// It has raised the epoch.
    Seeding {
        version: u8,
        epoch: u32,
        incarnation: Incarnation,
    },
    /// It has read the row, and will write.
    Ready {
        version: u8,
        token: FencingToken,
    },
    Ending,
    Crashed,
}

/// Until when a client surely holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hold {
    /// Not at all, or it was handed over and not claimed.
    Unclaimed,
    /// For so long, as said by the server of this memory.
    For {
        left: Ms,
        memory: u8,
    },
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    mode: Mode,
    asks_left: u8,
    request: Request,
    stage: Stage,
    hold: Hold,
    sealed: bool,
    /// How often the other kind was let in since it waits.
    overtaken: u8,
    /// How often that may be.
    patience: u8,
}

/// The graph's row in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    version: u8,
    epoch: u32,
    fence: FencingToken,
    incarnation: Option<Incarnation>,
}

impl Row {
    fn trusts(&self, scope: &Scope, grant: &Grant) -> Option<FencingToken> {
        let known =
            !scope.has(Guard::ComparesTheRun) || self.incarnation == Some(grant.incarnation);
        grant.token.filter(|token| token.epoch() == self.epoch && known && *token > self.fence)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    lock: Lock,
    incarnation: Incarnation,
    /// How often the server has forgotten something.
    memory: u8,
    /// What the server has written down of its tokens.
    dump: Option<(Option<Seeding>, bool)>,
    row: Row,
    clients: Vec<Client>,
    /// Messages on their way: to which process, of which request.
    mail: BTreeSet<(Request, Option<Grant>)>,
    faults_left: u8,
    /// The largest token that was given.
    given: FencingToken,
    /// The largest token that was sealed or written.
    spent: FencingToken,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Asks { answered: bool },
    Renews { answered: bool },
    Ends,
    IsTold { heard: bool },
    LooksAtTheRow,
    RaisesTheEpoch,
    Seeds { answered: bool },
    Writes,
    Releases { answered: bool },
    Crashes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Client(usize, Event),
    TimePasses,
    ServerForgets,
    ServerWritesDown,
    ServerGoesBack,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(who, event) => write!(f, "client {who}: {event:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What must never be.
type Wrong = &'static str;

const NOT_ALONE: Wrong = "a writer is not alone";
const TOKEN_REPEATED: Wrong = "a token did not rise";
const STALE_WRITE: Wrong = "a write was accepted after a larger token was sealed or written";
const LOST_UPDATE: Wrong = "a write was accepted on a version that was not read";
const OVERTAKEN: Wrong = "who waits was overtaken too often";
const HELD_BACK_BY_NOBODY: Wrong = "a reader waits for nobody";
const WAITS_FOR_ITSELF: Wrong = "a request waits for itself";
const FREE_AND_WAITED_FOR: Wrong = "the lock is free and somebody waits";
const LOST_BY_WAITING: Wrong = "somebody goes on, and loses what it has";
const WAITS_FOR_EVER: Wrong = "somebody waits for ever";

impl World {
    /// A row that trusts the tokens of a lock that nobody has held yet.
    fn new(scope: &Scope) -> Self {
        let asks = scope.writers.iter().map(|asks| (Mode::Exclusive, *asks));
        let asks = asks.chain(scope.readers.iter().map(|asks| (Mode::Shared, *asks)));
        let client = |(process, (mode, asks_left))| Client {
            mode,
            asks_left,
            request: Request { process: process as u8, number: 0 },
            stage: Stage::Idle,
            hold: Hold::Unclaimed,
            sealed: false,
            overtaken: 0,
            patience: 0,
        };
        let incarnation = if scope.without.contains(&Rule::KnowsItsRun) {
            Incarnation::ANY
        } else {
            Incarnation(0)
        };
        let first = FencingToken::new(1, 1).expect("a token");
        let seeding = Seeding { incarnation, epoch: 1, counter: 1 };
        Self {
            lock: Lock { seeding: Some(seeding), ..Lock::default() },
            incarnation: Incarnation(0),
            memory: 0,
            dump: None,
            row: Row { version: 0, epoch: 1, fence: first, incarnation: Some(incarnation) },
            clients: asks.enumerate().map(client).collect(),
            mail: BTreeSet::new(),
            faults_left: scope.faults,
            given: first,
            spent: first,
        }
    }

    fn server(&self, scope: &Scope) -> Server {
        Server {
            now: 0,
            incarnation: self.incarnation,
            lease: LEASE,
            claim: CLAIM,
            without: scope.without,
        }
    }

    /// All that can happen next.
    fn steps(&self, scope: &Scope) -> Vec<Step> {
        let mut steps = vec![Step::TimePasses];
        let can_fail = self.faults_left > 0;
        if can_fail && scope.forgets {
            steps.push(Step::ServerForgets);
        }
        if scope.goes_back && self.dump.is_none() {
            steps.push(Step::ServerWritesDown);
        }
        if can_fail && self.dump.is_some() {
            steps.push(Step::ServerGoesBack);
        }
        for (who, client) in self.clients.iter().enumerate() {
            let mut may = |event| steps.push(Step::Client(who, event));
            let mut calls = |event: fn(bool) -> Event| {
                may(event(true));
                if can_fail {
                    may(event(false));
                }
            };
            match client.stage {
                Stage::Idle if client.asks_left > 0 => calls(|answered| Event::Asks { answered }),
                // To crash here would be to ask no more.
                Stage::Idle | Stage::Crashed => continue,
                Stage::Asking => {
                    calls(|answered| Event::Asks { answered });
                    may(Event::Ends);
                }
                Stage::Queued => {
                    calls(|answered| Event::Renews { answered });
                    may(Event::Ends);
                }
                Stage::Reading => may(Event::Ends),
                Stage::Granted(_) | Stage::Sealed(_) => may(Event::LooksAtTheRow),
                Stage::Raising { .. } => may(Event::RaisesTheEpoch),
                Stage::Seeding { .. } => calls(|answered| Event::Seeds { answered }),
                Stage::Ready { .. } => may(Event::Writes),
                Stage::Ending => calls(|answered| Event::Releases { answered }),
            }
            let mut may = |event| steps.push(Step::Client(who, event));
            if client.holds() && client.hold != Hold::Over {
                may(Event::Renews { answered: true });
            }
            if self.mail.iter().any(|(request, _)| request.process == client.request.process) {
                may(Event::IsTold { heard: true });
                if can_fail {
                    may(Event::IsTold { heard: false });
                }
            }
            if can_fail {
                may(Event::Crashes);
            }
        }
        steps
    }

    /// The world after the step; `None` if it makes no difference.
    fn after(&self, scope: &Scope, step: Step) -> Result<Option<Self>, Wrong> {
        let mut world = self.clone();
        match step {
            Step::TimePasses => {
                if world.pass() {
                    if world.faults_left == 0 {
                        return Ok(None);
                    }
                    world.fail();
                }
            }
            Step::ServerForgets => {
                world.lock = Lock::default();
                world.fail();
                world.memory += 1;
            }
            Step::ServerWritesDown => world.dump = Some((world.lock.seeding, world.lock.unsealed)),
            Step::ServerGoesBack => {
                let (seeding, unsealed) = world.dump.take().expect("something was written down");
                world.lock = Lock { seeding, unsealed, ..Lock::default() };
                world.incarnation.0 += 1;
                world.memory += 1;
                world.fail();
            }
            Step::Client(who, event) => world.happen(scope, who, event)?,
        }
        world.tidy();
        world.check()?;
        if scope.is_whole() {
            world.renumber();
        }
        Ok((world != *self).then_some(world))
    }

    fn fail(&mut self) {
        self.faults_left -= 1;
    }

    /// One unit of time. Whether somebody who lives has lost something by it.
    fn pass(&mut self) -> bool {
        let lost = self.clients.iter().any(|client| {
            let is_last = |ends: &Ms| *ends == 1;
            let lock = &self.lock;
            let leased = lock
                .writer
                .iter()
                .chain(lock.queue.values())
                .any(|leased| leased.request == client.request && is_last(&leased.ends));
            let reading = lock
                .readers
                .get(&client.request)
                .or(lock.crowd.get(&client.request))
                .is_some_and(is_last);
            client.stage != Stage::Crashed && (leased || reading)
        });
        self.lock.pass(1);
        for client in &mut self.clients {
            if let Hold::For { left, .. } = &mut client.hold {
                *left -= 1;
                if *left == 0 {
                    client.hold = Hold::Over;
                }
            }
        }
        lost
    }

    fn happen(&mut self, scope: &Scope, who: usize, event: Event) -> Result<(), Wrong> {
        let client = &mut self.clients[who];
        match event {
            Event::Asks { answered } => {
                if client.stage == Stage::Idle {
                    client.asks_left -= 1;
                    client.request.number += 1;
                    client.stage = Stage::Asking;
                }
                let (request, mode) = (client.request, client.mode);
                let server = self.server(scope);
                let answer = self.on_server(&server, |lock| {
                    lock.acquire(&server, request, mode, Some(PATIENCE))
                })?;
                self.is_answered(who, answer, answered);
            }
            Event::Renews { answered } => {
                let request = client.request;
                let heeds = scope.has(Guard::HeedsAnswers) || client.stage != Stage::Queued;
                let server = self.server(scope);
                let answers =
                    self.on_server(&server, |lock| lock.renew(&server, &[request], PATIENCE))?;
                if heeds {
                    self.is_answered(who, answers[0], answered);
                }
            }
            Event::Ends => client.end(),
            Event::IsTold { heard } => self.is_told(who, heard),
            Event::LooksAtTheRow => self.look_at_the_row(scope, who),
            Event::RaisesTheEpoch => self.raise_the_epoch(who),
            Event::Seeds { answered } => return self.seed(scope, who, answered),
            Event::Writes => return self.write(scope, who),
            Event::Releases { answered } => {
                let (request, sealed) = (client.request, client.sealed);
                let server = self.server(scope);
                self.on_server(&server, |lock| lock.release(&server, request, sealed, None))?;
                if answered {
                    self.clients[who].rest();
                } else {
                    self.fail();
                }
            }
            Event::Crashes => {
                client.rest();
                client.stage = Stage::Crashed;
                client.asks_left = 0;
                let process = client.request.process;
                self.mail.retain(|(request, _)| request.process != process);
                self.fail();
            }
        }
        Ok(())
    }

    /// Calls the server, sends its messages, and counts who is overtaken.
    fn on_server<T>(
        &mut self,
        server: &Server,
        call: impl FnOnce(&mut Lock) -> (T, Told),
    ) -> Result<T, Wrong> {
        let before = self.lock.clone();
        let (value, told) = call(&mut self.lock);
        for HandOver { process, numbers, grant } in told.handed_over {
            self.mail
                .extend(numbers.into_iter().map(|number| (Request { process, number }, grant)));
        }
        let lock = &self.lock;
        let writer_came = lock
            .writer
            .is_some_and(|new| before.writer.is_none_or(|old| old.request != new.request));
        if let Some(token) = lock.writer_grant(server).token.filter(|_| writer_came) {
            if token <= self.given {
                return Err(TOKEN_REPEATED);
            }
            self.given = token;
        }
        let readers_came = lock.readers.keys().any(|reader| !before.readers.contains_key(reader));
        let place =
            |lock: &Lock, request| lock.queue.values().position(|place| place.request == request);
        let is_over = |ends: Ms| ends <= 0;
        let kept_place = |request| {
            before.queue.values().any(|place| place.request == request && !is_over(place.ends))
        };
        let kept_crowd = |request| before.crowd.get(&request).is_some_and(|ends| !is_over(*ends));
        for client in &mut self.clients {
            if !client.waits() {
                (client.overtaken, client.patience) = (0, 0);
                continue;
            }
            let request = client.request;
            let (waited, waits, came) = match client.mode {
                Mode::Shared => {
                    (kept_crowd(request), lock.crowd.contains_key(&request), writer_came)
                }
                Mode::Exclusive => {
                    (kept_place(request), place(lock, request).is_some(), readers_came)
                }
            };
            if !waits {
                (client.overtaken, client.patience) = (0, 0);
            } else if !waited {
                // Once, and for a writer once more for each that is served before it.
                (client.overtaken, client.patience) =
                    (0, 1 + place(lock, request).unwrap_or(0) as u8);
            } else if came {
                client.overtaken += 1;
                if client.overtaken > client.patience {
                    return Err(OVERTAKEN);
                }
            }
        }
        if lock.is_wanted() && lock.writer.is_none() && lock.readers.is_empty() {
            return Err(FREE_AND_WAITED_FOR);
        }
        if !lock.crowd.is_empty()
            && lock.writer.is_none()
            && lock.queue.values().all(|place| is_over(place.ends))
        {
            return Err(HELD_BACK_BY_NOBODY);
        }
        let waits = |request| place(lock, request).is_some() || lock.crowd.contains_key(&request);
        if lock.writer.is_some_and(|writer| waits(writer.request))
            || lock.readers.keys().any(|reader| waits(*reader))
        {
            return Err(WAITS_FOR_ITSELF);
        }
        Ok(value)
    }

    fn is_answered(&mut self, who: usize, answer: Answer, answered: bool) {
        if !answered {
            return self.fail();
        }
        let memory = self.memory;
        let client = &mut self.clients[who];
        match answer {
            Answer::Held { grant, .. } => {
                client.hold = Hold::For { left: LEASE, memory };
                if client.waits() {
                    client.stage = grant.map_or(Stage::Reading, Stage::Granted);
                }
            }
            // What was held is lost.
            Answer::Queued { .. } | Answer::Unknown if client.holds() => client.end(),
            Answer::Queued { .. } => client.stage = Stage::Queued,
            Answer::Unknown => client.stage = Stage::Asking,
            Answer::Busy | Answer::Ended => {
                unreachable!("everyone waits, and nobody asks for what has ended")
            }
        }
    }

    fn is_told(&mut self, who: usize, heard: bool) {
        let client = &mut self.clients[who];
        let mine =
            |(request, _): &&(Request, Option<Grant>)| request.process == client.request.process;
        let message = *self.mail.iter().find(mine).expect("a message");
        self.mail.remove(&message);
        let (request, grant) = message;
        if !heard {
            self.fail();
        } else if request == client.request && client.waits() {
            client.stage = grant.map_or(Stage::Reading, Stage::Granted);
        }
    }

    fn look_at_the_row(&mut self, scope: &Scope, who: usize) {
        let row = &mut self.row;
        let client = &mut self.clients[who];
        let (grant, token) = match client.stage {
            Stage::Granted(grant) => (Some(grant), row.trusts(scope, &grant)),
            Stage::Sealed(token) => (None, (row.fence == token).then_some(token)),
            _ => unreachable!("it looks once"),
        };
        let unsealed =
            grant.is_some_and(|grant| grant.unsealed) && scope.has(Guard::SealsAfterExpiry);
        client.stage = match (token, grant) {
            (Some(token), _) if unsealed => {
                row.fence = token;
                self.spent = self.spent.max(token);
                client.sealed = true;
                Stage::Sealed(token)
            }
            (Some(token), _) => Stage::Ready { version: row.version, token },
            // It asks first whether it holds the lock still: if that is not known yet, when it is.
            (None, Some(_)) if client.hold == Hold::Unclaimed => client.stage,
            (None, Some(grant)) if client.hold != Hold::Over => {
                let last = grant.token.map_or(0, FencingToken::epoch).max(row.epoch);
                Stage::Raising {
                    version: row.version,
                    epoch: row.epoch,
                    next: last + 1,
                    incarnation: grant.incarnation,
                }
            }
            // Somebody has sealed or raised meanwhile, or it does not hold the lock any more: it
            // gives up.
            (None, _) => return client.end(),
        };
    }

    fn raise_the_epoch(&mut self, who: usize) {
        let row = &mut self.row;
        let client = &mut self.clients[who];
        let Stage::Raising { version, epoch, next, incarnation } = client.stage else {
            unreachable!("it raises the epoch")
        };
        if row.epoch != epoch {
            return client.end();
        }
        row.epoch = next;
        row.fence = FencingToken::new(next, 0).expect("a token");
        row.incarnation = Some(incarnation);
        self.spent = self.spent.max(row.fence);
        client.sealed = true;
        client.stage = Stage::Seeding { version, epoch: next, incarnation };
    }

    fn seed(&mut self, scope: &Scope, who: usize, answered: bool) -> Result<(), Wrong> {
        let client = &self.clients[who];
        let Stage::Seeding { version, epoch, incarnation } = client.stage else {
            unreachable!("it seeds")
        };
        let request = client.request;
        let server = self.server(scope);
        let seeded =
            self.on_server(&server, |lock| lock.seed(&server, request, incarnation, epoch))?;
        let token = FencingToken::new(epoch, 1).expect("a token");
        if seeded {
            // The same again if an answer was lost.
            if token < self.given {
                return Err(TOKEN_REPEATED);
            }
            self.given = token;
        }
        match answered {
            true if seeded => self.clients[who].stage = Stage::Ready { version, token },
            true => self.clients[who].end(),
            false => self.fail(),
        }
        Ok(())
    }

    fn write(&mut self, scope: &Scope, who: usize) -> Result<(), Wrong> {
        let row = &mut self.row;
        let Stage::Ready { version, token } = self.clients[who].stage else {
            unreachable!("it writes")
        };
        self.clients[who].end();
        let is_of_version = row.version == version || !scope.has(Guard::ComparesVersions);
        let is_above_fence = row.fence <= token || !scope.has(Guard::ComparesTokens);
        if !is_of_version || !is_above_fence {
            return Ok(());
        }
        if token < self.spent {
            return Err(STALE_WRITE);
        }
        if row.version != version {
            return Err(LOST_UPDATE);
        }
        row.version += 1;
        row.fence = token;
        self.spent = token;
        Ok(())
    }

    /// Makes one state of those that nothing can tell apart.
    fn tidy(&mut self) {
        self.lock.ends().for_each(|ends| *ends = (*ends).max(0));
        let places: Vec<_> = std::mem::take(&mut self.lock.queue).into_values().collect();
        self.lock.tickets = places.len() as u64;
        self.lock.queue = (1..).zip(places).collect();
        // Nobody listens to other messages any more.
        let clients = &self.clients;
        self.mail.retain(|(request, _)| {
            clients.iter().any(|client| client.request == *request && client.waits())
        });
    }

    /// Gives the clients of one kind their numbers in an order of their own: which of two did
    /// something makes no difference.
    fn renumber(&mut self) {
        // All that is known of a client but its number: of two that have the same, either may be
        // the first.
        let lock = &self.lock;
        let order = |client: &Client| {
            let request = client.request;
            let place = lock.queue.values().position(|place| place.request == request);
            let leased = lock
                .writer
                .iter()
                .chain(lock.queue.values())
                .find(|leased| leased.request == request);
            let ends = lock.readers.get(&request).or(lock.crowd.get(&request)).copied();
            let ends = (place, ends.or(leased.map(|leased| leased.ends)));
            let mine = |(of, _): &&(Request, Option<Grant>)| *of == request;
            let mail: Vec<Option<Grant>> =
                self.mail.iter().filter(mine).map(|(_, grant)| *grant).collect();
            let of_itself =
                (client.stage, client.hold, client.asks_left, request.number, client.sealed);
            (client.mode == Mode::Shared, of_itself, client.overtaken, client.patience, ends, mail)
        };
        if self.clients.is_sorted_by_key(order) {
            return;
        }
        self.clients.sort_by_cached_key(order);
        let mut number = vec![0; self.clients.len()];
        for (new, client) in self.clients.iter_mut().enumerate() {
            number[usize::from(client.request.process)] = new as u8;
            client.request.process = new as u8;
        }
        let renumbered =
            |request: Request| Request { process: number[usize::from(request.process)], ..request };
        let lock = &mut self.lock;
        for leased in lock.writer.iter_mut().chain(lock.queue.values_mut()) {
            leased.request = renumbered(leased.request);
        }
        for leases in [&mut lock.readers, &mut lock.crowd] {
            *leases = std::mem::take(leases)
                .into_iter()
                .map(|(request, ends)| (renumbered(request), ends))
                .collect();
        }
        self.mail = std::mem::take(&mut self.mail)
            .into_iter()
            .map(|(request, grant)| (renumbered(request), grant))
            .collect();
    }

    fn check(&self) -> Result<(), Wrong> {
        let sure = |client: &Client| match client.hold {
            Hold::For { memory, .. } if client.holds() => Some((client.mode, memory)),
            _ => None,
        };
        let sure: Vec<_> = self.clients.iter().filter_map(sure).collect();
        let clash = |(at, one): (usize, &(Mode, u8))| {
            sure[at + 1..]
                .iter()
                .any(|other| other.1 == one.1 && (other.0, one.0) != (Mode::Shared, Mode::Shared))
        };
        if sure.iter().enumerate().any(clash) { Err(NOT_ALONE) } else { Ok(()) }
    }

    fn somebody_waits(&self) -> bool {
        self.clients.iter().any(Client::waits)
    }

    /// What comes next if all that live go on, and nothing is lost.
    fn is_fair(&self, step: Step) -> bool {
        match step {
            Step::Client(
                _,
                Event::Asks { answered } | Event::Renews { answered } | Event::Seeds { answered },
            ) => answered,
            Step::Client(
                _,
                Event::Releases { answered: flows } | Event::IsTold { heard: flows },
            ) => flows,
            Step::Client(_, Event::LooksAtTheRow | Event::RaisesTheEpoch | Event::Writes) => true,
            // Who waits does so for as long as it takes.
            Step::Client(who, Event::Ends) => self.clients[who].stage == Stage::Reading,
            Step::Client(_, Event::Crashes) => false,
            Step::TimePasses
            | Step::ServerForgets
            | Step::ServerWritesDown
            | Step::ServerGoesBack => false,
        }
    }

    fn differs_in_more_than_times(&self, other: &Self) -> bool {
        let timeless = |world: &Self| {
            let mut world = world.clone();
            world.lock.ends().for_each(|ends| *ends = 0);
            for client in &mut world.clients {
                if let Hold::For { left, .. } = &mut client.hold {
                    *left = 0;
                }
            }
            world
        };
        timeless(self) != timeless(other)
    }

    /// Nobody can go on: who waits renews its place, and time passes.
    fn wait(&self, scope: &Scope) -> Result<Self, Wrong> {
        let mut world = self.clone();
        for who in 0..world.clients.len() {
            if world.clients[who].stage == Stage::Queued {
                world.happen(scope, who, Event::Renews { answered: true })?;
            }
        }
        if world.pass() {
            return Err(LOST_BY_WAITING);
        }
        world.tidy();
        if scope.is_whole() {
            world.renumber();
        }
        Ok(world)
    }

    /// Stands for the state: of its 128 bits, two states among millions do not have the same.
    fn mark(&self) -> u128 {
        let half = |seed: u8| {
            let mut hasher = DefaultHasher::new();
            (seed, self).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

impl Client {
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Asking | Stage::Queued)
    }

    fn holds(&self) -> bool {
        match self.stage {
            Stage::Idle | Stage::Asking | Stage::Queued | Stage::Ending | Stage::Crashed => false,
            Stage::Reading | Stage::Granted(_) | Stage::Sealed(_) => true,
            Stage::Raising { .. } | Stage::Seeding { .. } | Stage::Ready { .. } => true,
        }
    }

    fn end(&mut self) {
        self.stage = Stage::Ending;
        self.hold = Hold::Unclaimed;
    }

    fn rest(&mut self) {
        self.stage = Stage::Idle;
        self.hold = Hold::Unclaimed;
        self.sealed = false;
        (self.overtaken, self.patience) = (0, 0);
    }
}

/// A state that was reached: how, and what comes next if all goes well.
struct Reached {
    from: Option<(usize, Step)>,
    fair: Vec<u128>,
    somebody_waits: bool,
}

/// What was found.
struct Explored {
    states: Vec<Reached>,
    places: HashMap<u128, usize>,
    wrong: Option<(Wrong, Vec<Step>)>,
    /// The most steps that it takes until nobody waits, if all goes well.
    longest: usize,
}

impl Explored {
    /// The steps that lead there.
    fn way_to(&self, state: usize) -> Vec<Step> {
        let mut way: Vec<Step> =
            std::iter::successors(self.states[state].from, |(from, _)| self.states[*from].from)
                .map(|(_, step)| step)
                .collect();
        way.reverse();
        way
    }

    fn reach(&mut self, world: &World, from: Option<(usize, Step)>) -> Option<usize> {
        let state = self.states.len();
        if let Entry::Vacant(place) = self.places.entry(world.mark()) {
            place.insert(state);
            self.states.push(Reached {
                from,
                fair: Vec::new(),
                somebody_waits: world.somebody_waits(),
            });
            return Some(state);
        }
        None
    }

    /// Follows what comes next if all goes well, from everywhere, to its end: there nobody waits,
    /// and it does not come back to where it was.
    fn follow(&mut self) {
        const ON_THE_WAY: usize = usize::MAX;
        let mut steps_left: Vec<Option<usize>> = vec![None; self.states.len()];
        for start in 0..self.states.len() {
            let mut way = vec![(start, 0)];
            while let Some((state, tried)) = way.pop() {
                let reached = &self.states[state];
                if tried == 0 {
                    if steps_left[state].is_some() {
                        continue;
                    }
                    if reached.fair.is_empty() && reached.somebody_waits {
                        self.wrong = Some((WAITS_FOR_EVER, self.way_to(state)));
                        return;
                    }
                    steps_left[state] = Some(ON_THE_WAY);
                }
                let Some(next) = reached.fair.get(tried) else {
                    let after =
                        reached.fair.iter().filter_map(|next| steps_left[self.places[next]]).max();
                    steps_left[state] = Some(after.map_or(0, |after| after + 1));
                    continue;
                };
                let next = self.places[next];
                way.push((state, tried + 1));
                if steps_left[next] == Some(ON_THE_WAY) {
                    self.wrong = Some((WAITS_FOR_EVER, self.way_to(state)));
                    return;
                }
                way.push((next, 0));
            }
        }
        self.longest = steps_left.into_iter().flatten().max().unwrap_or(0);
    }
}

/// Looks at every state within the scope, nearest first, until something is wrong.
fn explore(scope: &Scope) -> Explored {
    let mut explored =
        Explored { states: Vec::new(), places: HashMap::new(), wrong: None, longest: 0 };
    let first = World::new(scope);
    let mut ahead = VecDeque::from_iter(explored.reach(&first, None).map(|state| (state, first)));
    while let Some((state, world)) = ahead.pop_front() {
        assert!(explored.states.len() < MOST_STATES, "too many states");
        let mut fair = Vec::new();
        for step in world.steps(scope) {
            let next = match world.after(scope, step) {
                Ok(Some(next)) => next,
                Ok(None) => continue,
                Err(wrong) => {
                    let mut way = explored.way_to(state);
                    way.push(step);
                    explored.wrong = Some((wrong, way));
                    return explored;
                }
            };
            if world.is_fair(step) && world.differs_in_more_than_times(&next) {
                fair.push(next.mark());
            }
            if let Some(reached) = explored.reach(&next, Some((state, step))) {
                ahead.push_back((reached, next));
            }
        }
        if fair.is_empty() && world.somebody_waits() {
            match world.wait(scope) {
                Ok(next) => fair.push(next.mark()),
                Err(wrong) => {
                    explored.wrong = Some((wrong, explored.way_to(state)));
                    return explored;
                }
            }
        }
        explored.states[state].fair = fair;
    }
    explored.follow();
    explored
}

/// Explores all of it, finds nothing wrong, and says how much there was.
#[track_caller]
fn all_is_well(name: &str, scope: &Scope) {
    let explored = explore(scope);
    if let Some((wrong, way)) = explored.wrong {
        panic!("{name}: {wrong}:\n{}", listed(&way));
    }
    let (states, longest) = (explored.states.len(), explored.longest);
    println!(
        "{name}: {states} states; if all goes well, nobody waits after {longest} steps at most"
    );
}

/// Explores until this is wrong.
#[track_caller]
fn goes_wrong(scope: &Scope, expected: Wrong) {
    let explored = explore(scope);
    let Some((wrong, way)) = explored.wrong else {
        panic!("nothing is wrong in {} states", explored.states.len())
    };
    println!("{wrong}, after {} states:\n{}", explored.states.len(), listed(&way));
    assert_eq!(wrong, expected);
}

fn listed(way: &[Step]) -> String {
    way.iter().map(|step| format!("    {step}\n")).collect()
}

const WRITERS: Scope = Scope {
    writers: &[1, 1],
    readers: &[],
    faults: 2,
    forgets: false,
    goes_back: false,
    without: &[],
    without_guards: &[],
};

const ALL: Scope = Scope { readers: &[1, 1], ..WRITERS };

#[test]
fn two_writers_and_two_readers_take_turns_whatever_fails_once() {
    all_is_well(
        "two writers and two readers, one fault",
        &Scope { faults: 1, forgets: true, ..ALL },
    );
}

#[test]
fn two_writers_and_a_reader_take_turns_whatever_fails_twice() {
    all_is_well(
        "two writers and a reader, two faults",
        &Scope { readers: &[1], forgets: true, ..ALL },
    );
}

#[test]
fn clients_that_come_again_take_turns() {
    all_is_well(
        "writers and a reader that come twice",
        &Scope { writers: &[2, 1], readers: &[2], faults: 0, ..ALL },
    );
}

#[test]
fn writers_that_come_again_are_told_from_what_they_were() {
    all_is_well("two writers that come twice, two faults", &Scope { writers: &[2, 2], ..WRITERS });
}

#[test]
fn tokens_rise_over_servers_that_forget_or_go_back() {
    all_is_well(
        "two writers, a server that goes back",
        &Scope { forgets: true, goes_back: true, ..WRITERS },
    );
}

#[test]
fn a_seal_after_expiry_or_the_comparison_of_versions_is_enough_while_the_server_remembers() {
    all_is_well(
        "without versions",
        &Scope { without_guards: &[Guard::ComparesVersions], ..WRITERS },
    );
    all_is_well("without seals", &Scope { without_guards: &[Guard::SealsAfterExpiry], ..WRITERS });
    all_is_well("without marks", &Scope { without: &[Rule::MarksWhatExpired], ..WRITERS });
}

#[test]
fn the_lock_compares_runs_itself_and_its_client_need_not() {
    let scope = Scope { goes_back: true, ..WRITERS };
    all_is_well(
        "runs not compared by clients",
        &Scope { without_guards: &[Guard::ComparesTheRun], ..scope },
    );
}

macro_rules! wrong {
    ($($name:ident: $scope:expr => $wrong:ident;)*) => {
        $(#[test]
        fn $name() {
            goes_wrong(&$scope, $wrong);
        })*
    };
}

wrong! {
    without_knowing_its_run_a_server_that_goes_back_repeats_tokens:
        Scope { goes_back: true, without: &[Rule::KnowsItsRun], ..WRITERS } => TOKEN_REPEATED;
    without_seal_and_versions_an_update_is_lost:
        Scope { without_guards: &[Guard::SealsAfterExpiry, Guard::ComparesVersions], ..WRITERS } => LOST_UPDATE;
    without_marks_and_versions_an_update_is_lost:
        Scope { without: &[Rule::MarksWhatExpired], without_guards: &[Guard::ComparesVersions], ..WRITERS } => LOST_UPDATE;
    without_versions_an_update_is_lost_when_the_server_forgets:
        Scope { forgets: true, without_guards: &[Guard::ComparesVersions], ..WRITERS } => LOST_UPDATE;
    without_the_fence_a_stale_holder_writes:
        Scope { without_guards: &[Guard::ComparesTokens], ..WRITERS } => STALE_WRITE;
    without_ownership_a_late_release_frees_what_another_holds:
        Scope { without: &[Rule::ReleasesOnlyItsOwn], writers: &[2, 1], ..WRITERS } => NOT_ALONE;
    without_memory_of_requests_who_asks_again_waits_for_itself:
        Scope { without: &[Rule::RemembersRequests], ..WRITERS } => WAITS_FOR_ITSELF;
    without_leases_who_waits_for_a_dead_holder_waits_for_ever:
        Scope { without: &[Rule::EndsLeases], ..WRITERS } => WAITS_FOR_EVER;
    without_heeding_answers_who_has_lost_its_place_waits_for_ever:
        Scope { without_guards: &[Guard::HeedsAnswers], ..WRITERS } => WAITS_FOR_EVER;
    without_purging_waiters_a_reader_waits_for_a_dead_writer:
        Scope { without: &[Rule::PurgesWaiters], ..ALL } => HELD_BACK_BY_NOBODY;
    without_holding_back_readers_a_writer_is_overtaken:
        Scope { without: &[Rule::HoldsBackReaders], writers: &[1], readers: &[2, 2], ..ALL } => OVERTAKEN;
    without_turns_a_reader_is_overtaken:
        Scope { without: &[Rule::TakesTurns], readers: &[1], writers: &[2, 1], ..ALL } => OVERTAKEN;
}
