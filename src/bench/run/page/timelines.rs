//! A window in which something happened, as a drawing: what was answered, refused and failed in
//! each part of it, when it happened, and when all was as before.

use std::fmt::Write as _;

use super::charts::{WIDTH, opened};
use super::markup::{escaped, figure, tick};
use crate::bench::run::events::TimeLine;
use crate::bench::timeline::Part;

/// What of a drawing the parts take.
const LEFT: f64 = 40.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 92.0;

/// The drawing.
#[must_use]
pub fn svg(line: &TimeLine, colour: usize) -> String {
    let TimeLine { event, parts, part_seconds, at_seconds, .. } = line;
    let seconds = parts.len() as f64 * part_seconds;
    let sum = |part: &Part| part.answered + part.refused + part.failed;
    let most = parts.iter().map(sum).max().unwrap_or(0).max(1) as f64;
    let x = |at: f64| LEFT + at / seconds.max(f64::MIN_POSITIVE) * (RIGHT - LEFT);
    let y = |count: f64| BOTTOM - count / most * (BOTTOM - TOP);
    let width = (RIGHT - LEFT) / parts.len().max(1) as f64;
    let mut svg = opened(BOTTOM + 36.0, event);
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"4\" y=\"12\">requests a second</text>\
         <line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
         <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">0</text>",
        LEFT - 5.0,
        TOP + 4.0,
        tick((most / part_seconds).round()),
        LEFT - 5.0,
        BOTTOM + 4.0
    );
    for (index, part) in parts.iter().enumerate() {
        let from = LEFT + index as f64 * width;
        let mut bar = |class: &str, below: u64, count: u64| {
            if count > 0 {
                let (top, low) = (y((below + count) as f64), y(below as f64));
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                     height=\"{:.1}\"/>",
                    width - 1.0,
                    low - top
                );
            }
        };
        bar(&format!("answered d{colour}"), 0, part.answered);
        bar("refused", part.answered, part.refused);
        bar("failed", part.answered + part.refused, part.failed);
    }
    let at = x(*at_seconds);
    let _ = write!(
        svg,
        "<line class=\"event\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{BOTTOM}\"/>",
        TOP - 4.0
    );
    if let Some(recovered) = line.recovered_seconds.filter(|seconds| *seconds > 0.0) {
        let to = x(at_seconds + recovered);
        let _ = write!(
            svg,
            "<line class=\"recovered\" x1=\"{at:.1}\" x2=\"{to:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            TOP - 4.0,
            TOP - 4.0
        );
    }
    for second in (0..=seconds as u64).step_by(2) {
        let _ = write!(
            svg,
            "<text class=\"tick mid\" x=\"{:.1}\" y=\"{:.1}\">{second}</text>",
            x(second as f64),
            BOTTOM + 15.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"axis mid\" x=\"{:.1}\" y=\"{:.1}\">seconds</text></svg>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 31.0
    );
    svg
}

/// What it shows, in a sentence.
#[must_use]
pub fn told(line: &TimeLine) -> String {
    let TimeLine { event, at_seconds, parts, part_seconds, recovered_seconds, .. } = line;
    let refused: u64 = parts.iter().map(|part| part.refused).sum();
    let failed: u64 = parts.iter().map(|part| part.failed).sum();
    let recovered = match recovered_seconds {
        Some(seconds) if *seconds > 0.0 => format!("as before {} s later", figure(*seconds)),
        Some(_) => "as many were answered as before".to_owned(),
        None => "not as before by the end".to_owned(),
    };
    let lost = match (refused, failed) {
        (0, 0) => String::new(),
        (refused, 0) => format!("; {refused} requests refused"),
        (refused, failed) => {
            format!("; {refused} requests refused, {failed} without an answer")
        }
    };
    let slowest = |is_after: bool| {
        let ends = |part: &Part| part.from_seconds + part_seconds;
        let of = parts.iter().filter(|part| (ends(part) > *at_seconds) == is_after);
        of.filter_map(|part| part.max_us).reduce(f64::max).map(|us| figure(us / 1e3))
    };
    let slowest = match (slowest(false), slowest(true)) {
        (Some(before), Some(after)) => {
            format!(". The slowest answer took {before} ms before, {after} ms after it")
        }
        _ => String::new(),
    };
    escaped(&format!("After {} s: {event}; {recovered}{lost}{slowest}.", figure(*at_seconds)))
}
