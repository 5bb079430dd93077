//! The workloads: what is asked of each design, and which question that answers.
//! docs/WORKLOADS.md says more of each.

use super::events::Event;

/// A workload.
#[derive(Debug)]
pub struct Workload {
    /// As on the command line.
    pub name: &'static str,
    /// The question that it answers.
    pub question: &'static str,
    /// The arguments of `bench drive` that make the requests.
    pub drive: &'static str,
    /// What is measured.
    pub measures: Measures,
    /// Server processes.
    pub nodes: u32,
    /// How many clients there are, unless the profile says otherwise.
    pub writers: Option<u32>,
    /// What its base has behind it.
    pub past: Past,
    /// So many requests are sent, however long they take, instead of for a window.
    pub requests: Option<u64>,
    /// What happens in the middle of its window, of which a time-line is kept.
    pub event: Option<Event>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measures {
    /// Requests of a window.
    Requests,
    /// Operations of a whole load, from an empty graph.
    Import,
    /// The time from starting a process to the first answer.
    Start,
}

/// What happened to a base before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Its jobs were put, once each.
    Loaded,
    /// Each job was then put so often again, with other edges.
    Churned {
        /// How often.
        times: u64,
    },
    /// Many graphs were created beside it, and nothing was put into any.
    ManyGraphs,
}

const OF_REQUESTS: Workload = Workload {
    name: "",
    question: "",
    drive: "",
    measures: Measures::Requests,
    nodes: 1,
    writers: None,
    past: Past::Loaded,
    requests: None,
    event: None,
};

/// Three nodes, in a window in which something happens.
const WITH_EVENT: Workload = Workload { drive: "--workload register", nodes: 3, ..OF_REQUESTS };

/// All of them.
pub static ALL: [Workload; 20] = [
    Workload {
        name: "register",
        question: "what does a new job cost that concerns nobody else?",
        drive: "--workload register",
        ..OF_REQUESTS
    },
    Workload {
        name: "hot",
        question: "what does contention on a few jobs cost?",
        drive: "--workload reregister --changed-percent 100 --skew 1",
        ..OF_REQUESTS
    },
    Workload {
        name: "reregister",
        question: "what does it cost to say again what is known, as a commit hook does?",
        drive: "--workload reregister --changed-percent 5",
        ..OF_REQUESTS
    },
    Workload {
        name: "reads",
        question: "what do reads and plans cost beside a few writes?",
        drive: "--workload mixed --write-percent 5 --plan-percent 50",
        ..OF_REQUESTS
    },
    Workload {
        name: "rejections-10",
        question: "what does it cost when one write of ten breaks a rule?",
        drive: "--workload register --reject-percent 10",
        ..OF_REQUESTS
    },
    Workload {
        name: "rejections-50",
        question: "what does it cost when every second write breaks a rule?",
        drive: "--workload register --reject-percent 50",
        ..OF_REQUESTS
    },
    Workload {
        name: "import",
        question: "how quickly does an empty graph come to its size?",
        drive: "--workload load",
        measures: Measures::Import,
        writers: Some(1),
        ..OF_REQUESTS
    },
    Workload {
        name: "turns",
        question: "what does a write cost when another node has made the last one?",
        drive: "--workload register --in-turn",
        nodes: 2,
        writers: Some(2),
        ..OF_REQUESTS
    },
    Workload {
        name: "churn",
        question: "what does a history cost that is much longer than the graph?",
        drive: "--workload churn",
        past: Past::Churned { times: 10 },
        ..OF_REQUESTS
    },
    Workload {
        name: "growth",
        question: "how does the time of a lone write grow with the graph?",
        drive: "--workload register",
        writers: Some(1),
        requests: Some(10),
        ..OF_REQUESTS
    },
    Workload {
        name: "start",
        question: "how long does a new process take until it answers?",
        drive: "",
        measures: Measures::Start,
        writers: Some(1),
        ..OF_REQUESTS
    },
    Workload {
        name: "start-churned",
        question: "and how long where the history is much longer than the graph?",
        drive: "",
        measures: Measures::Start,
        writers: Some(1),
        past: Past::Churned { times: 10 },
        ..OF_REQUESTS
    },
    Workload {
        name: "node-killed",
        question: "what is lost when the node that leads, or holds the lock, dies?",
        event: Some(Event::NodeKilled),
        ..WITH_EVENT
    },
    Workload {
        name: "redis-forgets",
        question: "and when Redis forgets all that it knew?",
        event: Some(Event::LockForgotten),
        ..WITH_EVENT
    },
    Workload {
        name: "postgres-restarts",
        question: "and when Postgres crashes and is started again?",
        event: Some(Event::DatabaseRestarted),
        ..WITH_EVENT
    },
    Workload {
        name: "node-joins",
        question: "what does a node cost the others that comes late?",
        event: Some(Event::NodeJoins),
        ..WITH_EVENT
    },
    Workload {
        name: "log-exported",
        question: "and an export of the whole log?",
        event: Some(Event::LogIsExported),
        ..WITH_EVENT
    },
    Workload {
        name: "many-graphs",
        question: "what does a new job cost in a database of ten thousand graphs?",
        drive: "--workload register",
        past: Past::ManyGraphs,
        ..OF_REQUESTS
    },
    Workload {
        name: "payload",
        question: "what do large specs cost?",
        drive: "--workload register --spec-bytes 16384",
        ..OF_REQUESTS
    },
    Workload {
        name: "pairs",
        question: "are the rules kept when two writes that may not both stand meet on two nodes?",
        drive: "--workload pairs",
        nodes: 2,
        ..OF_REQUESTS
    },
];

/// What a floor is measured by, which keeps nothing: puts of new jobs.
pub static FLOOR: Workload = FLOOR_OF_ALL;

const FLOOR_OF_ALL: Workload = Workload {
    name: "floor",
    question: "what do the driver and the HTTP server cost by themselves?",
    drive: "--workload register --first-job 0",
    ..OF_REQUESTS
};

/// The same by clients that send one after another.
pub static FLOOR_IN_TURN: Workload = Workload {
    name: "floor-in-turn",
    drive: "--workload register --first-job 0 --in-turn",
    ..FLOOR_OF_ALL
};

impl Workload {
    /// Whether clients send one after another.
    #[must_use]
    pub fn in_turn(&self) -> bool {
        self.drive.contains("--in-turn")
    }

    /// What its floor is measured by.
    #[must_use]
    pub fn floor(&self) -> &'static Self {
        if self.in_turn() { &FLOOR_IN_TURN } else { &FLOOR }
    }

    /// Whether its requests make jobs, in some shape.
    #[must_use]
    pub fn makes_jobs(&self) -> bool {
        let driven = self.drive.strip_prefix("--workload ").unwrap_or_default();
        let name = driven.split(' ').next().unwrap_or_default();
        matches!(name, "register" | "mixed" | "load")
    }

    /// Whether it can begin with a graph that somebody else has made.
    #[must_use]
    pub fn takes_any_graph(&self) -> bool {
        self.measures != Measures::Import && self.past == Past::Loaded
    }
}

/// The workload of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}
