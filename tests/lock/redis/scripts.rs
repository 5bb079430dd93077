//! Holds the script to its specification: both are asked the same, and after each step must have
//! given the same answer, sent the same messages and keep the same state. Random steps on a real
//! server.
//!
//! The script goes by the server's clock, which nobody can put forward. So all ends that it keeps
//! are put back instead. Terms are hours and steps are minutes: the milliseconds that really pass
//! make no difference.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use fencepost::lock::{FencingToken, LockKey, Mode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use redis::{Commands, Connection, FromRedisValue, Value};

use self::guards::GUARDS;
use super::specification::{
    Answer, Grant, HandOver, Incarnation, Leased, Lock, Ms, Request, Rule, Seeding, Server, Told,
    Was,
};
use crate::support::redis::Redis;

/// Shared with the builds in which the guards can be switched off.
#[path = "../../../src/lock/redis/guards.rs"]
mod guards;

const SCRIPT: &str = include_str!("../../../src/lock/redis/lock.lua");

const CASES: u32 = 1500;

const MINUTE: Ms = 60_000;
const LEASE: Ms = 60 * MINUTE;
const CLAIM: Ms = 12 * MINUTE;
const PATIENCE: Ms = 36 * MINUTE;
const REMEMBERED: Ms = 50 * MINUTE;

/// What may really pass within a case.
const TOLERANCE: Ms = MINUTE / 2;

const PROCESSES: u8 = 3;

/// More than the script handles at once.
const MANY: u32 = 250;

/// Who is to do something. Some of what a step needs is seldom met by chance.
#[derive(Clone, Copy, Debug)]
enum Who {
    Somebody(Request),
    Writer,
    Reader,
    NextWriter,
}

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        who: Who,
        waits: bool,
    },
    Release {
        who: Who,
        sealed: bool,
        remember: bool,
    },
    Renew(Vec<Who>),
    Seed {
        who: Who,
        epoch: u32,
        /// By a grant of an earlier run.
        outdated: bool,
    },
    Inspect,
    Pass {
        minutes: Ms,
    },
    /// The process does nothing more.
    Crash {
        process: u8,
    },
    /// The server loses all it knows.
    Forget,
    /// The server goes on with what it knows as another run.
    Restart,
    /// All but so many of the epoch's tokens have been given.
    UseUpTokens {
        left: u64,
    },
}

fn request() -> impl Strategy<Value = Request> {
    (0..PROCESSES, 0..4_u32).prop_map(|(process, number)| Request { process, number })
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        4 => request().prop_map(Who::Somebody),
        2 => Just(Who::Writer),
        1 => Just(Who::Reader),
        1 => Just(Who::NextWriter),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let acquire = (request(), prop::bool::weighted(0.8))
        .prop_map(|(who, waits)| Step::Acquire { who: Who::Somebody(who), waits });
    let release = (who(), any::<bool>(), prop::bool::weighted(0.3));
    let seed = (who(), 1..4_u32, prop::bool::weighted(0.2));
    prop_oneof![
        12 => acquire,
        2 => who().prop_map(|who| Step::Acquire { who, waits: true }),
        8 => release.prop_map(|(who, sealed, remember)| Step::Release { who, sealed, remember }),
        4 => vec(who(), 1..5).prop_map(Step::Renew),
        4 => seed.prop_map(|(who, epoch, outdated)| Step::Seed { who, epoch, outdated }),
        2 => (1..4_u32).prop_map(|epoch| Step::Seed { who: Who::Writer, epoch, outdated: false }),
        1 => Just(Step::Inspect),
        5 => prop::sample::select(vec![1, 12, 24, 36, 60, 90]).prop_map(|minutes| Step::Pass { minutes }),
        1 => (0..PROCESSES).prop_map(|process| Step::Crash { process }),
        1 => Just(Step::Forget),
        1 => Just(Step::Restart),
        2 => (0..2_u64).prop_map(|left| Step::UseUpTokens { left }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..60)
}

/// What a request is for: readers and writers by turns.
fn mode_of(request: Request) -> Mode {
    if request.number.is_multiple_of(2) { Mode::Exclusive } else { Mode::Shared }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    reply: Reply,
    told: Told,
    lock: Lock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Acquired(Answer),
    Released(Was),
    Renewed(Vec<Answer>),
    Seeded(bool),
    Inspected { incarnation: Incarnation, lock: Lock },
    Nothing,
}

impl Reply {
    fn times(&mut self) -> Vec<&mut Ms> {
        fn of(answer: &mut Answer) -> Option<&mut Ms> {
            if let Answer::Queued { free_in } = answer { Some(free_in) } else { None }
        }
        match self {
            Self::Acquired(answer) => of(answer).into_iter().collect(),
            Self::Renewed(answers) => answers.iter_mut().filter_map(of).collect(),
            Self::Inspected { lock, .. } => lock.ends().collect(),
            Self::Released(_) | Self::Seeded(_) | Self::Nothing => Vec::new(),
        }
    }
}

impl Outcome {
    /// The same with the times of `expected`, where they are about those.
    fn at_times_of(mut self, expected: &Self) -> Self {
        let mut expected = expected.clone();
        let ours = self.lock.ends().chain(self.reply.times());
        let theirs = expected.lock.ends().chain(expected.reply.times());
        for (ours, theirs) in ours.zip(theirs) {
            if (*ours - *theirs).abs() < TOLERANCE {
                *ours = *theirs;
            }
        }
        self
    }
}

/// The script on a server, with a database of its own.
struct Scripted {
    script: String,
    connection: Connection,
    /// Hears all messages to its processes.
    messages: Connection,
    /// What its processes are called, but for their number: nobody else's have such names.
    name: String,
    replication: String,
    keys: Vec<String>,
    /// When the case began.
    began: Ms,
    /// How far the clock was put forward since.
    passed: Ms,
    /// How often it was looked at.
    looks: u64,
}

impl Scripted {
    fn new(script: String) -> Self {
        let url = Redis::shared().new_database();
        let client = redis::Client::open(url.as_str()).expect("a URL");
        let mut connection = client.get_connection().expect("a server");
        let mut messages = client.get_connection().expect("a server");
        let name = format!("{}-", url.replace([':', '/'], "-"));
        let subscribe =
            redis::cmd("PSUBSCRIBE").arg(format!("fencepost:lock:{name}*")).get_packed_command();
        messages.send_packed_command(&subscribe).expect("sent");
        messages.recv_response().expect("subscribed");
        let about: String =
            redis::cmd("INFO").arg("replication").query(&mut connection).expect("information");
        let replication = about
            .lines()
            .find_map(|line| line.strip_prefix("master_replid:"))
            .expect("an id")
            .to_owned();
        let key = LockKey::new("0", 1).expect("a key");
        let named = |part| format!("{{fencepost:{key}}}:{part}");
        let keys = ["state", "readers", "queue", "patience", "crowd", "ended"].map(named).to_vec();
        Self {
            script,
            connection,
            messages,
            name,
            replication,
            keys,
            began: 0,
            passed: 0,
            looks: 0,
        }
    }

    fn begin(&mut self) {
        redis::cmd("FLUSHDB").exec(&mut self.connection).expect("flushed");
        let (seconds, micros): (Ms, Ms) =
            redis::cmd("TIME").query(&mut self.connection).expect("the time");
        (self.began, self.passed) = (seconds * 1000 + micros / 1000, 0);
    }

    fn name_of(&self, request: Request) -> String {
        format!("{}{}#{}", self.name, request.process, request.number)
    }

    fn request(&self, name: &str) -> Request {
        let (process, number) = name.rsplit_once('#').expect("a request");
        Request { process: self.process(process), number: number.parse().expect("a number") }
    }

    fn process(&self, name: &str) -> u8 {
        name.strip_prefix(&self.name)
            .and_then(|number| number.parse().ok())
            .expect("a process of ours")
    }

    fn run(incarnation: Incarnation) -> String {
        format!("run{}", incarnation.0)
    }

    fn incarnation_name(&self, incarnation: Incarnation) -> String {
        if incarnation == Incarnation::ANY {
            return "any".to_owned();
        }
        format!("{}-{}", Self::run(incarnation), self.replication)
    }

    fn incarnation(&self, name: &str) -> Incarnation {
        if name == "any" {
            return Incarnation::ANY;
        }
        let (run, replication) = name.split_once('-').expect("an incarnation");
        assert_eq!(replication, self.replication, "the incarnation has the id of the replication");
        Incarnation(
            run.strip_prefix("run").and_then(|number| number.parse().ok()).expect("a run of ours"),
        )
    }

    /// Asks the script, and then for what it keeps and what it has sent.
    fn call(&mut self, incarnation: Incarnation, arguments: &[String]) -> (Value, Told, Lock) {
        let mut call = redis::cmd("EVAL");
        call.arg(&self.script).arg(self.keys.len()).arg(&self.keys);
        call.arg(&arguments[0])
            .arg(Self::run(incarnation))
            .arg(LEASE)
            .arg(CLAIM)
            .arg(&arguments[1..]);
        let mut commands = redis::pipe();
        commands.add_command(call);
        let (value, lock) = self.then_look(commands);
        (value, self.heard(), lock)
    }

    /// Runs the one command, and reads the keys.
    fn then_look(&mut self, mut commands: redis::Pipeline) -> (Value, Lock) {
        commands.cmd("HGETALL").arg(&self.keys[0]);
        for key in &self.keys[1..] {
            commands.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES");
        }
        // What is heard before this was sent before this.
        self.looks += 1;
        commands.cmd("PUBLISH").arg(format!("fencepost:lock:{}end", self.name)).arg(self.looks);
        let values: Vec<Value> = commands.query(&mut self.connection).expect("the script runs");
        let [value, state, rest @ .., _] = values.as_slice() else { panic!("answers: {values:?}") };
        let sets: Vec<Vec<(String, f64)>> = rest.iter().map(read).collect();
        (value.clone(), self.lock(&read(state), &sets))
    }

    fn lock(&self, state: &HashMap<String, String>, sets: &[Vec<(String, f64)>]) -> Lock {
        let [readers, queue, patience, crowd, ended] = sets else { panic!("five sets") };
        let field = |name: &str| state.get(name).map_or("", String::as_str);
        let number = |name: &str| field(name).parse().unwrap_or(0);
        let time = |score: f64| score as Ms - self.began + self.passed;
        let by_request = |set: &[(String, f64)]| -> BTreeMap<Request, Ms> {
            set.iter().map(|(name, ends)| (self.request(name), time(*ends))).collect()
        };
        let mut patience = by_request(patience);
        let mut place = |(name, ticket): &(String, f64)| {
            let request = self.request(name);
            (
                *ticket as u64,
                Leased {
                    request,
                    ends: patience.remove(&request).expect("who waits has patience"),
                },
            )
        };
        let queue = queue.iter().map(&mut place).collect();
        assert!(patience.is_empty(), "who has patience waits: {patience:?}");
        let writer = Some(field("writer")).filter(|name| !name.is_empty());
        Lock {
            writer: writer.map(|name| Leased {
                request: self.request(name),
                ends: number("ends") - self.began + self.passed,
            }),
            readers: by_request(readers),
            queue,
            crowd: by_request(crowd),
            ended: by_request(ended),
            tickets: number("tickets") as u64,
            seeding: state.get("incarnation").map(|name| Seeding {
                incarnation: self.incarnation(name),
                epoch: number("epoch") as u32,
                counter: number("counter") as u64,
            }),
            unsealed: field("unsealed") == "1",
            last: match field("last") {
                "r" => Some(Mode::Shared),
                "w" => Some(Mode::Exclusive),
                _ => None,
            },
        }
    }

    /// The messages that were sent: for each process and kind one, whichever way they were divided.
    fn heard(&mut self) -> Told {
        let mut wanted = None;
        let mut heard: BTreeMap<(u8, Option<Grant>), BTreeSet<u32>> = BTreeMap::new();
        loop {
            let message = self.messages.recv_response().expect("a message");
            let [_, _, channel, text]: [String; 4] =
                read::<Vec<String>>(&message).try_into().expect("a message has four parts");
            let process = channel.strip_prefix("fencepost:lock:").expect("a channel of the lock");
            if process.ends_with("end") {
                if text != self.looks.to_string() {
                    // Of a case that failed.
                    heard.clear();
                    wanted = None;
                    continue;
                }
                let handed_over = heard
                    .into_iter()
                    .map(|((process, grant), numbers)| HandOver { process, numbers, grant })
                    .collect();
                return Told { handed_over, wanted };
            }
            let parts: Vec<&str> = text.split(' ').collect();
            let (numbers, grant) = match parts.as_slice() {
                ["w", at_us, number, grant @ ..] if self.is_now(at_us) => {
                    (vec![*number], Some(self.grant(grant)))
                }
                ["r", at_us, numbers @ ..] if self.is_now(at_us) => (numbers.to_vec(), None),
                ["k", at_us, number] if self.is_now(at_us) => {
                    let number = number.parse().expect("a number");
                    let told = Request { process: self.process(process), number };
                    assert_eq!(wanted.replace(told), None, "one request waits first");
                    continue;
                }
                _ => panic!("not a message of the lock: {text}"),
            };
            let numbers = numbers.iter().map(|number| number.parse::<u32>().expect("a number"));
            heard.entry((self.process(process), grant)).or_default().extend(numbers);
        }
    }

    /// Whether it is about the time of the server, in microseconds.
    fn is_now(&self, at_us: &str) -> bool {
        at_us.parse::<Ms>().is_ok_and(|at_us| (at_us / 1000 - self.began).abs() < TOLERANCE)
    }

    fn grant(&self, parts: &[&str]) -> Grant {
        let [epoch, counter, incarnation, unsealed, ..] = parts else {
            panic!("not a writer's grant: {parts:?}")
        };
        let token = epoch.parse().ok().zip(counter.parse().ok());
        let token = token.and_then(|(epoch, counter)| FencingToken::new(epoch, counter));
        Grant { token, incarnation: self.incarnation(incarnation), unsealed: *unsealed == "1" }
    }

    fn answer(&self, value: &Value) -> Answer {
        let parts: Vec<String> = read(value);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["held"] => Answer::Held { grant: None, is_wanted: false },
            ["held", grant @ .., is_wanted] => {
                Answer::Held { grant: Some(self.grant(grant)), is_wanted: *is_wanted == "1" }
            }
            ["queued", free_in] => {
                Answer::Queued { free_in: free_in.parse().expect("milliseconds") }
            }
            ["busy"] => Answer::Busy,
            ["ended"] => Answer::Ended,
            ["none"] => Answer::Unknown,
            _ => panic!("not an answer: {parts:?}"),
        }
    }

    fn inspected(&self, value: &Value) -> Reply {
        let Value::Array(parts) = value else { panic!("not an inspection: {value:?}") };
        let [now, incarnation, state, sets @ ..] = parts.as_slice() else {
            panic!("not an inspection: {value:?}")
        };
        assert!(
            self.is_now(&format!("{}000", read::<String>(now))),
            "the answer begins with the time"
        );
        let sets: Vec<_> =
            sets.iter().map(|set| read::<(u64, Vec<(String, f64)>)>(set).1).collect();
        let lock = self.lock(&read(state), &sets);
        Reply::Inspected { incarnation: self.incarnation(&read::<String>(incarnation)), lock }
    }

    /// Puts back all ends that are kept.
    fn pass(&mut self, time: Ms) {
        const PUT_BACK: &str = "
            for _, field in ipairs({ 'ends', 'soonest' }) do
                if redis.call('HEXISTS', KEYS[1], field) == 1 then redis.call('HINCRBY', KEYS[1], field, -ARGV[1]) end
            end
            for _, at in ipairs({ 2, 4, 5, 6 }) do
                for _, member in ipairs(redis.call('ZRANGE', KEYS[at], 0, -1)) do
                    redis.call('ZINCRBY', KEYS[at], -ARGV[1], member)
                end
            end";
        let mut put_back = redis::cmd("EVAL");
        put_back.arg(PUT_BACK).arg(self.keys.len()).arg(&self.keys).arg(time);
        put_back.exec(&mut self.connection).expect("put back");
        self.passed += time;
    }
}

fn read<T: FromRedisValue>(value: &Value) -> T {
    T::from_redis_value_ref(value).unwrap_or_else(|error| panic!("{value:?}: {error}"))
}

/// Both at the same point of one case.
struct Pair<'s> {
    scripted: &'s mut Scripted,
    lock: Lock,
    server: Server,
    crashed: BTreeSet<u8>,
    /// The writer that has claimed its grant, and whether it was told that others wait.
    claimed: Option<(Request, bool)>,
}

impl<'s> Pair<'s> {
    fn new(scripted: &'s mut Scripted, without: &'static [Rule]) -> Self {
        scripted.begin();
        let server =
            Server { now: 0, incarnation: Incarnation(1), lease: LEASE, claim: CLAIM, without };
        Self { scripted, lock: Lock::default(), server, crashed: BTreeSet::new(), claimed: None }
    }

    /// Who is meant now, unless there is nobody.
    fn find(&self, who: Who) -> Option<Request> {
        let lock = &self.lock;
        let request = match who {
            Who::Somebody(request) => Some(request),
            Who::Writer => lock.writer.map(|writer| writer.request),
            Who::Reader => lock.readers.keys().next().copied(),
            Who::NextWriter => lock.queue.values().next().map(|place| place.request),
        };
        request.filter(|request| !self.crashed.contains(&request.process))
    }

    /// Does the step in both: what was specified, and what came of it. `None`: there is nobody to
    /// do it.
    fn take(&mut self, step: &Step) -> Option<(Outcome, Outcome)> {
        let server = &self.server;
        let name = |request| self.scripted.name_of(request);
        let flag = |flag: bool| u8::from(flag).to_string();
        let (reply, told, arguments) = match step {
            Step::Acquire { who, waits } => {
                let request = self.find(*who)?;
                let (mode, letter) = if mode_of(request) == Mode::Shared {
                    (Mode::Shared, "r")
                } else {
                    (Mode::Exclusive, "w")
                };
                let (answer, told) =
                    self.lock.acquire(server, request, mode, waits.then_some(PATIENCE));
                let patience = if *waits { PATIENCE } else { 0 };
                let arguments =
                    vec!["acquire".into(), name(request), letter.into(), patience.to_string()];
                (Reply::Acquired(answer), told, arguments)
            }
            Step::Release { who, sealed, remember } => {
                let request = self.find(*who)?;
                let (was, told) =
                    self.lock.release(server, request, *sealed, remember.then_some(REMEMBERED));
                let remembered = if *remember { REMEMBERED } else { 0 };
                let arguments =
                    vec!["release".into(), name(request), flag(*sealed), remembered.to_string()];
                (Reply::Released(was), told, arguments)
            }
            Step::Renew(who) => {
                let requests: Vec<Request> = who.iter().filter_map(|who| self.find(*who)).collect();
                let (answers, told) = self.lock.renew(server, &requests, PATIENCE);
                let mut arguments = vec!["renew".into(), PATIENCE.to_string()];
                arguments.extend(requests.into_iter().map(name));
                (Reply::Renewed(answers), told, arguments)
            }
            Step::Seed { who, epoch, outdated } => {
                let request = self.find(*who)?;
                let incarnation = if *outdated { Incarnation(0) } else { server.incarnation };
                let (seeded, told) = self.lock.seed(server, request, incarnation, *epoch);
                let incarnation = self.scripted.incarnation_name(incarnation);
                let arguments = vec!["seed".into(), name(request), incarnation, epoch.to_string()];
                (Reply::Seeded(seeded), told, arguments)
            }
            Step::Inspect => {
                let reply = Reply::Inspected {
                    incarnation: server.seen_incarnation(),
                    lock: self.lock.clone(),
                };
                (reply, Told::default(), vec!["inspect".into()])
            }
            Step::Pass { .. }
            | Step::Crash { .. }
            | Step::Forget
            | Step::Restart
            | Step::UseUpTokens { .. } => {
                self.happen(step);
                (Reply::Nothing, Told::default(), Vec::new())
            }
        };
        let (came, sent, kept) = if arguments.is_empty() {
            let mut nothing = redis::pipe();
            nothing.cmd("PING");
            let (_, kept) = self.scripted.then_look(nothing);
            (Value::Nil, self.scripted.heard(), kept)
        } else {
            self.scripted.call(self.server.incarnation, &arguments)
        };
        let came = self.read(&reply, &came);
        self.learn(&reply, &told);
        let expected = Outcome { reply, told: merged(told), lock: self.lock.clone() };
        let actual = Outcome { reply: came, told: sent, lock: kept }.at_times_of(&expected);
        Some((expected, actual))
    }

    /// Notes what the writer knows after a step.
    fn learn(&mut self, reply: &Reply, told: &Told) {
        let Some(writer) = self.lock.writer.map(|writer| writer.request) else {
            self.claimed = None;
            return;
        };
        let answers: &[Answer] = match reply {
            Reply::Acquired(answer) => std::slice::from_ref(answer),
            Reply::Renewed(answers) => answers,
            _ => &[],
        };
        let mut knows = self.claimed.filter(|(request, _)| *request == writer);
        for answer in answers {
            if let Answer::Held { grant: Some(_), is_wanted } = answer {
                let knew = knows.is_some_and(|(_, knew)| knew);
                knows = Some((writer, knew || *is_wanted));
            }
        }
        if let (Some((_, knew)), Some(_)) = (&mut knows, told.wanted) {
            *knew = true;
        }
        self.claimed = knows;
    }

    /// Whether the writer keeps a lock that others wait for, and was not told so.
    fn is_waited_for_unawares(&self) -> bool {
        self.lock.is_wanted() && self.claimed.is_some_and(|(_, knows)| !knows)
    }

    /// What nobody asks for.
    fn happen(&mut self, step: &Step) {
        match step {
            Step::Pass { minutes } => {
                self.server.now += minutes * MINUTE;
                self.scripted.pass(minutes * MINUTE);
            }
            Step::Crash { process } => drop(self.crashed.insert(*process)),
            Step::Forget => {
                self.lock = Lock::default();
                redis::cmd("FLUSHDB").exec(&mut self.scripted.connection).expect("flushed");
            }
            Step::Restart => self.server.incarnation.0 += 1,
            Step::UseUpTokens { left } => {
                if let Some(seeding) = &mut self.lock.seeding {
                    seeding.counter = FencingToken::MAX_COUNTER - left;
                    let state = &self.scripted.keys[0];
                    let set: redis::RedisResult<()> =
                        self.scripted.connection.hset(state, "counter", seeding.counter);
                    set.expect("set");
                }
            }
            _ => unreachable!("the script is asked for it"),
        }
    }

    fn read(&self, expected: &Reply, value: &Value) -> Reply {
        let text = || read::<String>(value);
        match expected {
            Reply::Acquired(_) => Reply::Acquired(self.scripted.answer(value)),
            Reply::Released(_) => Reply::Released(match text().as_str() {
                "held" => Was::Holder,
                "queued" => Was::Waiter,
                "none" => Was::Nothing,
                other => panic!("not an answer to a release: {other}"),
            }),
            Reply::Renewed(_) => {
                let Value::Array(parts) = value else { panic!("not answers: {value:?}") };
                assert!(
                    self.scripted.is_now(&read::<String>(&parts[0])),
                    "the answer begins with the time"
                );
                Reply::Renewed(parts[1..].iter().map(|part| self.scripted.answer(part)).collect())
            }
            Reply::Seeded(_) => Reply::Seeded(match text().as_str() {
                "held" => true,
                "none" => false,
                other => panic!("not an answer to a seeding: {other}"),
            }),
            Reply::Inspected { .. } => self.scripted.inspected(value),
            Reply::Nothing => Reply::Nothing,
        }
    }
}

/// One for each process and kind.
fn merged(Told { handed_over, wanted }: Told) -> Told {
    let mut merged: BTreeMap<(u8, Option<Grant>), BTreeSet<u32>> = BTreeMap::new();
    for HandOver { process, numbers, grant } in handed_over {
        merged.entry((process, grant)).or_default().extend(numbers);
    }
    let handed_over = merged
        .into_iter()
        .map(|((process, grant), numbers)| HandOver { process, numbers, grant })
        .collect();
    Told { handed_over, wanted }
}

/// Takes the steps, until one differs.
fn compare(
    scripted: &mut Scripted,
    without: &'static [Rule],
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(scripted, without);
    for (at, step) in steps.iter().enumerate() {
        if let Some((expected, actual)) = pair.take(step)
            && expected != actual
        {
            let what = format!("step {at}, {step:?}\nspecified {expected:#?}\ncame {actual:#?}");
            return Err(TestCaseError::fail(what));
        }
        if without.is_empty() && pair.is_waited_for_unawares() {
            return Err(TestCaseError::fail(format!(
                "step {at}, {step:?}: the writer is not told"
            )));
        }
    }
    Ok(())
}

/// Compares in random cases, the same each time.
fn compare_in(
    cases: u32,
    script: &str,
    without: &'static [Rule],
) -> Result<(), TestError<Vec<Step>>> {
    let config =
        Config { cases, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let scripted = RefCell::new(Scripted::new(script.to_owned()));
    runner.run(&steps(), |steps| compare(&mut scripted.borrow_mut(), without, &steps))
}

#[test]
fn the_script_does_what_is_specified() {
    let mut runner =
        TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let scripted = RefCell::new(Scripted::new(SCRIPT.to_owned()));
    if let Err(error) =
        runner.run(&steps(), |steps| compare(&mut scripted.borrow_mut(), &[], &steps))
    {
        panic!("{error}");
    }
}

#[test]
fn crowds_that_are_handled_in_parts_are_no_exception() {
    let of = |number| Request { process: (number % 3) as u8, number };
    let acquire = |number| Step::Acquire { who: Who::Somebody(of(number)), waits: true };
    let release =
        |number| Step::Release { who: Who::Somebody(of(number)), sealed: false, remember: false };
    let mut all = vec![acquire(0)];
    all.extend((1..=2 * MANY).map(acquire));
    // All readers that wait, then a writer, and no reader after it.
    all.extend([
        release(0),
        Step::Renew((1..=2 * MANY).map(|number| Who::Somebody(of(number))).collect()),
    ]);
    // All that wait are gone, and the readers are not.
    all.extend([
        Step::Pass { minutes: 36 },
        Step::Renew(vec![]),
        Step::Pass { minutes: 24 },
        acquire(0),
    ]);
    let compared = compare(&mut Scripted::new(SCRIPT.to_owned()), &[], &all);
    assert!(compared.is_ok(), "{}", compared.unwrap_err());
}

macro_rules! guards {
    ($($name:ident: $guard:literal is $rule:ident;)*) => {
        $(#[test]
        fn $name() {
            let guard = GUARDS.iter().find(|guard| guard.name == $guard).expect("there is one");
            let script = guard.taken_out_of(SCRIPT);
            assert!(compare_in(CASES, &script, &[]).is_err(), "without {} nothing differs", $guard);
            // It takes out what the specification calls so, and nothing else.
            if let Err(error) = compare_in(CASES / 4, &script, &[Rule::$rule]) {
                panic!("{error}");
            }
        })*

        #[test]
        fn every_guard_of_the_script_is_tried() {
            assert_eq!(GUARDS.map(|guard| guard.name), [$($guard),*]);
        }
    };
}

guards! {
    without_remembering_requests_the_script_differs: "memo" is RemembersRequests;
    without_purging_waiters_the_script_differs: "patience" is PurgesWaiters;
    without_ownership_the_script_differs: "ownership" is ReleasesOnlyItsOwn;
    without_marking_what_expired_the_script_differs: "unsealed" is MarksWhatExpired;
    without_knowing_its_run_the_script_differs: "run" is KnowsItsRun;
}
