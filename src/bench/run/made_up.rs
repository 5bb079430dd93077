//! Results that nobody has measured, for tests.

use std::time::Duration;

use serde_json::json;

use super::args::RunArgs;
use super::figures::{DRIVER, Figures, Processor, Raw, Requests};
use super::machine::Machine;
use super::plan::Plan;
use super::results::{
    BaseRecord, CheckVerdict, FORMAT, Key, Measurement, Outcome, PlanRecord, Point, Results,
};
use super::setting::{DatabaseKind, Setting};
use crate::bench::class::Class;
use crate::bench::latencies::Latencies;
use crate::design::PAIRS;

/// So many served in a second, one more under way at its end, by one second of a processor.
pub fn measurement(per_second: f64) -> Measurement {
    let served = per_second as u64;
    let mut latencies = Latencies::default();
    latencies.record_many(Duration::from_micros(500), served);
    latencies.record(Duration::from_millis(3));
    let used = |process: &str, seconds| Processor { process: process.to_owned(), seconds };
    let raw = Raw {
        window_seconds: 1.0,
        requests: vec![Requests {
            call: "putJob".to_owned(),
            verdict: "accepted".to_owned(),
            class: Class::Served,
            count: served,
            latency: latencies.encoded(),
            service: latencies.encoded(),
        }],
        due: Some(served),
        kept_up: served,
        backlog: Latencies::default().encoded(),
        lateness: latencies.encoded(),
        by_node: Vec::new(),
        in_flight_at_end: 1,
        operations: None,
        processor: vec![used("node 1", 1.0), used(DRIVER, 0.5)],
        written_bytes: Some(4_096 * served),
        wal_bytes: None,
        round_trips: None,
        syncs: None,
        phases: json!([{"of": "write", "phase": "commit", "count": served}]),
    };
    Measurement {
        verdict: CheckVerdict::Valid { summary: json!({"operations": served}) },
        figures: Figures::of(&raw).unwrap(),
        raw,
        peak_memory_bytes: vec![1 << 20],
        steal_seconds: 0.0,
        start_seconds: vec![0.1],
        disk: None,
        timeline: None,
    }
}

/// A pair in so many blocks, the first with so many a second and the second with 1,000; the first
/// point may be changed.
pub fn pair(rates: &[f64], change: impl Fn(&mut Outcome)) -> Results {
    two(rates, [(PAIRS[0].first, false), (PAIRS[0].second, false)], change)
}

/// The same of one design, measured twice.
pub fn twice(rates: &[f64]) -> Results {
    two(rates, [(PAIRS[0].first, false), (PAIRS[0].first, true)], |_| {})
}

fn two(
    rates: &[f64],
    [first, second]: [(&str, bool); 2],
    change: impl Fn(&mut Outcome),
) -> Results {
    let key = Key {
        workload: "register".to_owned(),
        shape: "chain".to_owned(),
        size: 10,
        rate: None,
        writers: 8,
        nodes: 1,
        setting: Setting::SQLITE,
        design: String::new(),
        again: false,
    };
    let mut points: Vec<Point> = Vec::new();
    for (block, rate) in rates.iter().enumerate() {
        for ((design, again), rate) in [(first, *rate), (second, 1_000.0)] {
            let mut outcome = Outcome::Measured(Box::new(measurement(rate)));
            if points.is_empty() {
                change(&mut outcome);
            }
            let key = Key { again, ..key.of(design) };
            points.push(point(points.len(), block as u32, key, outcome));
        }
    }
    results(points, rates.len() as u32)
}

/// All points of a plan.
pub fn of_plan(plan: &Plan) -> Results {
    let measured = || Outcome::Measured(Box::new(measurement(1_000.0)));
    let points = plan.points.iter();
    let points =
        points.map(|planned| point(planned.number, planned.block, planned.key.clone(), measured()));
    Results { plan: plan.record.clone(), ..results(points.collect(), plan.record.blocks) }
}

/// All points of the plan that these arguments make, with so many requests a second.
pub fn rated(line: &str, rate: impl Fn(&Key, u32) -> f64) -> Results {
    let mut results = of_plan(&Plan::new(&RunArgs::of_line(line).unwrap()).unwrap());
    for point in &mut results.points {
        let found = measurement(rate(&point.key, point.block));
        point.outcome = Outcome::Measured(Box::new(found));
    }
    results
}

/// The base of all designs.
const BASE: &str = "chain-10/rows";

fn point(number: usize, block: u32, key: Key, outcome: Outcome) -> Point {
    Point {
        number,
        block,
        base: (!key.is_floor()).then(|| BASE.to_owned()),
        key,
        durability: "a crash".to_owned(),
        command: String::new(),
        began_unix_ms: 0,
        outcome,
    }
}

fn results(points: Vec<Point>, blocks: u32) -> Results {
    let directory = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    Results {
        format: FORMAT,
        fencepost: String::new(),
        plan: PlanRecord {
            profile: "quick".to_owned(),
            seed: 1,
            blocks,
            window_seconds: 1.0,
            warmup_seconds: 0.0,
            checks: true,
            points: points.len(),
            digest: String::new(),
        },
        began_unix_ms: 0,
        complete: true,
        machine: Machine::look(&program, directory.path()).unwrap(),
        bases: vec![BaseRecord {
            name: BASE.to_owned(),
            database: DatabaseKind::Sqlite,
            storage: "rows".to_owned(),
            jobs: 10,
            version: 1,
            digest: "d".to_owned(),
            bytes: 4_096,
            commands: Vec::new(),
        }],
        points,
        comparisons: None,
        hypotheses: None,
    }
}
