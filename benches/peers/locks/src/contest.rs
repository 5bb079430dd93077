//! Contenders that take and give back one lock again and again, and what came of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// How one run goes.
#[derive(Clone, Copy)]
pub struct Plan {
    pub contenders: usize,
    pub time: Duration,
    /// How long each holder stays.
    pub stay: Duration,
}

/// A handle that blocks the calling thread.
pub trait Blocking: Send {
    /// Takes the lock, calls `inside`, gives the lock back.
    fn turn(&mut self, inside: impl FnOnce());
}

/// A handle whose calls are awaited.
pub trait Awaited: Send + 'static {
    /// Takes the lock, calls `inside`, gives the lock back.
    fn turn(&mut self, inside: impl FnOnce() + Send) -> impl Future<Output = ()> + Send;
}

/// What one run came to.
pub struct Outcome {
    time: Duration,
    /// Turns that were over in time.
    turns: u64,
    /// Those of them whose holder was not the last one's.
    changes: u64,
    /// Of the contender with the fewest turns, and of that with the most.
    pub least: u64,
    pub most: u64,
    contenders: usize,
    pub longest_wait: Duration,
    /// How often anyone was inside, and what the counter under the lock says: less, if two were
    /// inside at once.
    pub entered: u64,
    pub counted: u64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.turns as f64 / self.time.as_secs_f64()
    }

    pub fn to_another(&self) -> f64 {
        self.changes as f64 / self.time.as_secs_f64()
    }

    /// As a multiple of what each contender would have if all had the same.
    pub fn share(&self, turns: u64) -> f64 {
        turns as f64 * self.contenders as f64 / self.turns.max(1) as f64
    }

    fn of(plan: Plan, section: &Section, contenders: &[Contender]) -> Self {
        let turns = || contenders.iter().map(|contender| contender.turns);
        Self {
            time: plan.time,
            turns: turns().sum(),
            changes: section.changes.load(Relaxed),
            least: turns().min().unwrap_or_default(),
            most: turns().max().unwrap_or_default(),
            contenders: plan.contenders,
            longest_wait: contenders
                .iter()
                .map(|contender| contender.longest_wait)
                .max()
                .unwrap_or_default(),
            entered: contenders.iter().map(|contender| contender.entered).sum(),
            counted: section.counted.load(Relaxed),
        }
    }
}

/// What the lock guards. Nothing here is one step: two that are inside at once lose counts.
struct Section {
    stay: Duration,
    over: Instant,
    counted: AtomicU64,
    changes: AtomicU64,
    last: AtomicUsize,
}

impl Section {
    fn new(plan: Plan) -> Self {
        let zero = || AtomicU64::new(0);
        let over = Instant::now() + plan.time;
        Self {
            stay: plan.stay,
            over,
            counted: zero(),
            changes: zero(),
            last: AtomicUsize::new(usize::MAX),
        }
    }

    fn pass(&self, who: usize) {
        let counted = self.counted.load(Relaxed);
        if !self.stay.is_zero() {
            thread::sleep(self.stay);
        }
        if self.last.load(Relaxed) != who && Instant::now() <= self.over {
            self.changes.store(self.changes.load(Relaxed) + 1, Relaxed);
        }
        self.last.store(who, Relaxed);
        self.counted.store(counted + 1, Relaxed);
    }
}

#[derive(Default)]
struct Contender {
    turns: u64,
    entered: u64,
    longest_wait: Duration,
}

impl Contender {
    /// Notes one turn.
    fn note(&mut self, waited: Duration, section: &Section) {
        self.entered += 1;
        self.longest_wait = self.longest_wait.max(waited);
        if Instant::now() <= section.over {
            self.turns += 1;
        }
    }
}

/// A thread for each handle.
pub fn threads<L: Blocking>(plan: Plan, open: impl Fn() -> L) -> Outcome {
    let handles: Vec<L> = (0..plan.contenders).map(|_| open()).collect();
    let section = Section::new(plan);
    let ready = Barrier::new(plan.contenders);
    let contend = |who: usize, mut handle: L| {
        let mut contender = Contender::default();
        ready.wait();
        while Instant::now() < section.over {
            let (began, mut waited) = (Instant::now(), Duration::ZERO);
            handle.turn(|| {
                waited = began.elapsed();
                section.pass(who);
            });
            contender.note(waited, &section);
        }
        contender
    };
    let contenders: Vec<Contender> = thread::scope(|scope| {
        let contend = &contend;
        let spawn = |(who, handle)| scope.spawn(move || contend(who, handle));
        let running: Vec<_> = handles.into_iter().enumerate().map(spawn).collect();
        running.into_iter().map(|running| running.join().expect("it does not fail")).collect()
    });
    Outcome::of(plan, &section, &contenders)
}

/// A task for each handle.
pub fn tasks<L: Awaited>(
    plan: Plan,
    runtime: &tokio::runtime::Runtime,
    open: impl AsyncFn() -> L,
) -> Outcome {
    runtime.block_on(async {
        let mut handles = Vec::new();
        for _ in 0..plan.contenders {
            handles.push(open().await);
        }
        let section = Arc::new(Section::new(plan));
        let contend = async |who: usize, mut handle: L, section: Arc<Section>| {
            let mut contender = Contender::default();
            while Instant::now() < section.over {
                let (began, mut waited) = (Instant::now(), Duration::ZERO);
                let pass = || {
                    waited = began.elapsed();
                    section.pass(who);
                };
                handle.turn(pass).await;
                contender.note(waited, &section);
            }
            contender
        };
        let spawn = |(who, handle)| tokio::spawn(contend(who, handle, Arc::clone(&section)));
        let running: Vec<_> = handles.into_iter().enumerate().map(spawn).collect();
        let mut contenders = Vec::new();
        for running in running {
            contenders.push(running.await.expect("it does not fail"));
        }
        Outcome::of(plan, &section, &contenders)
    })
}
