//! Drawings as SVG: lines over a figure, dots with intervals, and stacked bars. Written out here,
//! since each is some ten lines of arithmetic, and labels are placed so that none covers another.
//!
//! Widths are in units of the drawing, which is as wide as the column that it stands in; a letter
//! of a label takes about [`LETTER`] of them.

use std::fmt::Write as _;

use super::markup::{escaped, tick};
use super::scale::Scale;

/// How wide every drawing is.
pub const WIDTH: f64 = 430.0;
/// How wide a letter is, about.
const LETTER: f64 = 6.4;
/// How many times as long as the next the longest bar may be and still be drawn whole.
const CUT_FROM: f64 = 5.0;
/// How far apart two lines of text are at least.
const LINE: f64 = 14.0;

/// What is to be known of a figure at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing more.
    Plain,
    /// Less of a rate was achieved than was asked for: it says little but that.
    Saturated,
    /// The checker found a wrong answer: it is compared with nothing.
    Invalid,
    /// The driver took most of the time.
    DriverLimited,
    /// At most points, one of several nodes was served next to nothing.
    Starved,
}

/// A figure in a drawing.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Where on the horizontal axis.
    pub x: f64,
    /// Where on the vertical axis; none of a rate that was saturated, which has no percentiles.
    pub y: Option<f64>,
    /// The ends of its interval.
    pub interval: Option<[f64; 2]>,
    /// How it is drawn.
    pub look: Look,
}

/// Figures of one design.
#[derive(Debug, Clone)]
pub struct Line {
    /// What is written at its end.
    pub label: String,
    /// The number of its colour.
    pub colour: usize,
    /// From left to right.
    pub marks: Vec<Mark>,
}

/// Lines over a figure that was chosen.
#[derive(Debug, Clone)]
pub struct Lines {
    /// What the horizontal axis is, with its unit.
    pub x: &'static str,
    /// What the vertical axis is, with its unit.
    pub y: &'static str,
    /// Whether it is logarithmic.
    pub logarithmic: bool,
    /// One of each design.
    pub lines: Vec<Line>,
    /// What somebody has predicted: a label, and its figures.
    pub predicted: Option<(String, Vec<(f64, f64)>)>,
}

impl Lines {
    /// The drawing.
    #[must_use]
    pub fn svg(&self) -> String {
        const TOP: f64 = 26.0;
        const LOWEST: f64 = 266.0;
        // Each label has a line of its own.
        let count = self.lines.len() + usize::from(self.predicted.is_some());
        let bottom = LOWEST.max(TOP + LINE * count as f64);
        let labels = self.lines.iter().map(|line| shortened(&line.label).chars().count());
        let predicted = self.predicted.iter().map(|(label, _)| label.chars().count());
        let longest = labels.chain(predicted).max().unwrap_or(0);
        let (left, right) = (46.0, WIDTH - 20.0 - longest as f64 * LETTER);
        let marks = || self.lines.iter().flat_map(|line| &line.marks);
        let mut xs: Vec<f64> = marks().map(|mark| mark.x).collect();
        let of_mark = |mark: &Mark| mark.y.into_iter().chain(mark.interval.into_iter().flatten());
        let mut ys: Vec<f64> = marks().flat_map(of_mark).collect();
        for (x, y) in self.predicted.iter().flat_map(|(_, points)| points) {
            xs.push(*x);
            ys.push(*y);
        }
        let x = Scale::at_values(&xs, [left + 8.0, right - 8.0]);
        let y = match self.logarithmic {
            true => Scale::logarithmic(&ys, [bottom, TOP]),
            false => Scale::from_zero(&ys, [bottom, TOP]),
        };
        let mut svg = opened(bottom + 40.0, &format!("{} over {}", self.y, self.x));
        let _ = write!(svg, "<text class=\"axis\" x=\"4\" y=\"12\">{}</text>", escaped(self.y));
        for value in y.ticks() {
            let at = y.at(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 5.0,
                at + 4.0,
                tick(*value)
            );
        }
        ticks_below(&mut svg, &x, bottom);
        let _ = write!(
            svg,
            "<text class=\"axis mid\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            middle(self.x, f64::midpoint(left, right)),
            bottom + 34.0,
            escaped(self.x)
        );
        let mut ends: Vec<End<'_>> = Vec::new();
        if let Some((label, points)) = &self.predicted {
            let places = points.iter().map(|(px, py)| (x.at(*px), y.at(*py)));
            let places: Vec<(f64, f64)> = places.collect();
            let _ = write!(svg, "<polyline class=\"predicted\" points=\"{}\"/>", joined(&places));
            ends.extend(places.last().map(|&at| End { at, label, class: "muted".to_owned() }));
        }
        for line in &self.lines {
            // A saturated rate is drawn at the upper end.
            let place = |mark: &Mark| {
                let y = mark.y.map_or(TOP, |value| y.at(value));
                (x.at(mark.x), y)
            };
            let _ = write!(svg, "<g class=\"d{}\">", line.colour);
            // What has no place on a logarithmic axis is left out.
            let marks: Vec<&Mark> =
                line.marks.iter().filter(|mark| mark.y.is_none_or(|value| y.has(value))).collect();
            let drawn: Vec<(f64, f64)> = marks.iter().map(|mark| place(mark)).collect();
            let whole = marks.iter().take_while(|mark| mark.y.is_some()).count();
            let _ = write!(svg, "<polyline points=\"{}\"/>", joined(&drawn[..whole]));
            if whole > 0 && whole < drawn.len() {
                let rest = joined(&drawn[whole - 1..]);
                let _ = write!(svg, "<polyline class=\"beyond\" points=\"{rest}\"/>");
            }
            for (mark, at) in marks.iter().zip(&drawn) {
                if let Some([low, high]) = mark.interval.filter(|[low, high]| low < high) {
                    let (x, low, high) = (at.0, y.at(low), y.at(high));
                    let _ = write!(
                        svg,
                        "<line class=\"interval\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" \
                         y2=\"{high:.1}\"/>"
                    );
                }
                mark_at(&mut svg, *at, mark.look, false);
            }
            svg += "</g>";
            let class = format!("label d{}", line.colour);
            ends.extend(drawn.last().map(|&at| End { at, label: &line.label, class }));
        }
        labels_at_ends(&mut svg, ends, right + 6.0, [TOP, bottom]);
        svg + "</svg>"
    }
}

/// A label at the end of a line that leaves room for the lines.
fn shortened(label: &str) -> String {
    at_most(label, 26)
}

/// One before a row.
fn shortened_row(label: &str) -> String {
    at_most(label, 34)
}

fn at_most(label: &str, letters: usize) -> String {
    if label.chars().count() <= letters {
        return label.to_owned();
    }
    label.chars().take(letters - 1).chain(['…']).collect()
}

/// Where a line ends, and what is to be written there.
struct End<'l> {
    at: (f64, f64),
    label: &'l str,
    class: String,
}

/// Writes labels to the right of ends, as near to them as they may be without covering each other.
fn labels_at_ends(svg: &mut String, mut ends: Vec<End<'_>>, x: f64, [top, bottom]: [f64; 2]) {
    ends.sort_by(|one, other| one.at.1.total_cmp(&other.at.1));
    let mut places: Vec<f64> = ends.iter().map(|end| end.at.1).collect();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + LINE);
    }
    // What was pushed beyond the end is pushed back.
    let mut lowest = bottom;
    for place in places.iter_mut().rev() {
        *place = place.min(lowest).max(top);
        lowest = *place - LINE;
    }
    for (End { at, label, class }, place) in ends.iter().zip(places) {
        if (place - at.1).abs() > 3.0 || at.0 + 12.0 < x {
            let _ = write!(
                svg,
                "<line class=\"leader\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{place:.1}\"/>",
                at.0 + 6.0,
                at.1,
                x - 1.0
            );
        }
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 2.0,
            place + 4.0,
            escaped(&shortened(label))
        );
    }
}

/// A figure with its interval, in a row.
#[derive(Debug, Clone)]
pub struct Dot {
    /// Where on the horizontal axis.
    pub value: f64,
    /// The ends of its interval.
    pub interval: [f64; 2],
    /// The number of its colour; none: that of text.
    pub colour: Option<usize>,
    /// How it is drawn.
    pub look: Look,
    /// Whether it is the second of a row.
    pub is_second: bool,
}

/// A row of a drawing.
#[derive(Debug, Clone)]
pub enum DotRow {
    /// What the rows below it have in common.
    Heading(String),
    /// More of that.
    Note(String),
    /// Dots, with a label before them and a figure after them.
    Dots {
        /// What it is.
        label: String,
        /// What it is told to be.
        figure: String,
        /// One, or two.
        dots: Vec<Dot>,
    },
}

/// Dots with intervals, one row below the other.
#[derive(Debug, Clone)]
pub struct Dots {
    /// What the horizontal axis is, with its unit.
    pub x: &'static str,
    /// Whether it begins at nothing, or is logarithmic.
    pub logarithmic: bool,
    /// A line is drawn there.
    pub reference: Option<f64>,
    /// Other figures for which the axis has a place: those of drawings that stand beside it.
    pub beside: Vec<f64>,
    /// The rows.
    pub rows: Vec<DotRow>,
}

impl Dots {
    /// The drawing.
    #[must_use]
    pub fn svg(&self) -> String {
        const ROW: f64 = 21.0;
        let rows = || {
            self.rows.iter().filter_map(|row| match row {
                DotRow::Heading(_) | DotRow::Note(_) => None,
                DotRow::Dots { label, figure, dots } => Some((label, figure, dots)),
            })
        };
        let letters = |of: fn((&String, &String, &Vec<Dot>)) -> usize| {
            rows().map(of).max().unwrap_or(0) as f64 * LETTER
        };
        let left = 10.0 + letters(|(label, ..)| shortened_row(label).chars().count());
        let right = WIDTH - 12.0 - letters(|(_, figure, _)| figure.chars().count());
        let dots = rows().flat_map(|(.., dots)| dots);
        let values = dots.flat_map(|dot| [dot.value, dot.interval[0], dot.interval[1]]);
        let values: Vec<f64> =
            values.chain(self.reference).chain(self.beside.iter().copied()).collect();
        let places = [left + 8.0, right - 8.0];
        let x = match self.logarithmic {
            true => Scale::logarithmic(&values, places),
            false => Scale::from_zero(&values, places),
        };
        let bottom = 8.0 + ROW * self.rows.len() as f64;
        let mut svg = opened(bottom + 36.0, self.x);
        lines_up(&mut svg, &x, [8.0, bottom]);
        if let Some(at) = self.reference.map(|value| x.at(value)) {
            let _ = write!(
                svg,
                "<line class=\"reference\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"8\" \
                 y2=\"{bottom:.1}\"/>"
            );
        }
        axis_below(&mut svg, &x, self.x, [left, right], bottom);
        for (index, row) in self.rows.iter().enumerate() {
            let y = 8.0 + ROW * (index as f64 + 0.5);
            match row {
                DotRow::Heading(text) => {
                    let _ = write!(
                        svg,
                        "<rect class=\"band\" x=\"0\" y=\"{:.1}\" width=\"{WIDTH}\" \
                         height=\"{ROW}\"/><text class=\"heading\" x=\"4\" y=\"{:.1}\">{}</text>",
                        y - ROW / 2.0,
                        y + 4.0,
                        escaped(text)
                    );
                }
                DotRow::Note(text) => {
                    let _ = write!(
                        svg,
                        "<rect class=\"back\" x=\"0\" y=\"{:.1}\" width=\"{WIDTH}\" \
                         height=\"{ROW}\"/><text class=\"tick\" x=\"4\" y=\"{:.1}\">{}</text>",
                        y - ROW / 2.0,
                        y + 4.0,
                        escaped(text)
                    );
                }
                DotRow::Dots { label, figure, dots } => {
                    let colour = dots.first().and_then(|dot| dot.colour);
                    let class = colour.map_or("none".to_owned(), |colour| format!("d{colour}"));
                    let _ = write!(
                        svg,
                        "<g class=\"{class}\"><text class=\"label\" x=\"4\" y=\"{:.1}\">{}</text>",
                        y + 4.0,
                        escaped(&shortened_row(label))
                    );
                    for dot in dots {
                        let [low, high] = dot.interval.map(|value| x.at(value));
                        if high - low > 0.5 {
                            let _ = write!(
                                svg,
                                "<line class=\"interval\" x1=\"{low:.1}\" x2=\"{high:.1}\" \
                                 y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                            );
                        }
                        mark_at(&mut svg, (x.at(dot.value), y), dot.look, dot.is_second);
                    }
                    let _ = write!(
                        svg,
                        "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                        WIDTH - 4.0,
                        y + 4.0,
                        escaped(figure)
                    );
                }
            }
        }
        svg + "</svg>"
    }
}

/// A bar of parts.
#[derive(Debug, Clone)]
pub struct Stack {
    /// What it is.
    pub label: String,
    /// The number of its label's colour.
    pub colour: Option<usize>,
    /// As many as there are names of parts.
    pub parts: Vec<f64>,
    /// What is written after it.
    pub figure: String,
    /// Whether the checker found a wrong answer.
    pub is_invalid: bool,
}

/// Bars of the same parts, one below the other. One that is many times as long as all others is
/// cut, if there are some.
#[derive(Debug, Clone)]
pub struct Stacks {
    /// What the horizontal axis is, with its unit.
    pub x: &'static str,
    /// Names of the parts.
    pub parts: Vec<String>,
    /// The bars.
    pub rows: Vec<Stack>,
}

impl Stacks {
    /// The drawing, with what colour is which part.
    #[must_use]
    pub fn svg(&self) -> String {
        const ROW: f64 = 21.0;
        let letters =
            |of: fn(&Stack) -> usize| self.rows.iter().map(of).max().unwrap_or(0) as f64 * LETTER;
        let left = 10.0 + letters(|row| shortened_row(&row.label).chars().count());
        let right = WIDTH - 12.0 - letters(|row| row.figure.chars().count());
        let sums: Vec<f64> = self.rows.iter().map(|row| row.parts.iter().sum()).collect();
        let mut longest_first = sums.clone();
        longest_first.sort_unstable_by(|one, other| other.total_cmp(one));
        let end = match longest_first[..] {
            [first, second, _, ..] if first > CUT_FROM * second && second > 0.0 => second,
            [first, ..] => first,
            [] => 0.0,
        };
        let x = Scale::from_zero(&[end], [left, right - 24.0]);
        // What is which, in as many lines as that takes.
        let mut legend = String::new();
        let (mut at, mut below) = (4.0, 14.0);
        for (number, part) in self.parts.iter().enumerate() {
            let width = 24.0 + part.chars().count() as f64 * LETTER;
            if at + width > WIDTH {
                (at, below) = (4.0, below + LINE + 3.0);
            }
            let _ = write!(
                legend,
                "<rect class=\"part p{number}\" x=\"{at:.1}\" y=\"{:.1}\" width=\"11\" \
                 height=\"11\"/><text class=\"tick\" x=\"{:.1}\" y=\"{below:.1}\">{}</text>",
                below - 10.0,
                at + 15.0,
                escaped(part)
            );
            at += width;
        }
        let top = below + 10.0;
        let bottom = top + ROW * self.rows.len() as f64;
        let mut svg = opened(bottom + 36.0, self.x);
        svg += &legend;
        lines_up(&mut svg, &x, [top, bottom]);
        axis_below(&mut svg, &x, self.x, [left, right], bottom);
        for (index, row) in self.rows.iter().enumerate() {
            let y = top + ROW * index as f64;
            let class = row.colour.map_or("none".to_owned(), |colour| format!("d{colour}"));
            let _ = write!(
                svg,
                "<g class=\"{class}\"><text class=\"label\" x=\"4\" y=\"{:.1}\">{}</text>",
                y + 15.0,
                escaped(&shortened_row(&row.label))
            );
            let mut sum = 0.0;
            for (number, part) in row.parts.iter().enumerate() {
                let (from, to) = (x.at(sum), x.at(sum + part));
                sum += part;
                if to <= from {
                    continue;
                }
                let _ = write!(
                    svg,
                    "<rect class=\"part p{number}\" x=\"{from:.1}\" y=\"{:.1}\" \
                     width=\"{:.1}\" height=\"15\"/>",
                    y + 3.0,
                    to - from
                );
            }
            if sums[index] > CUT_FROM * end {
                // Beyond the last tick: three strokes.
                for stroke in [3.0, 8.0, 13.0] {
                    let _ = write!(
                        svg,
                        "<rect class=\"part p0\" x=\"{:.1}\" y=\"{:.1}\" width=\"2.5\" \
                         height=\"15\"/>",
                        x.at(end * CUT_FROM) + stroke,
                        y + 3.0
                    );
                }
            }
            if row.is_invalid {
                let _ = write!(
                    svg,
                    "<rect class=\"hatched\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
                     height=\"15\"/>",
                    x.at(0.0),
                    y + 3.0,
                    x.at(sum) - x.at(0.0)
                );
            }
            let _ = write!(
                svg,
                "<text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                WIDTH - 4.0,
                y + 15.0,
                escaped(&row.figure)
            );
        }
        svg + "</svg>"
    }
}

/// Where the middle of a text may be, as near to a place as that it is not cut.
fn middle(text: &str, place: f64) -> f64 {
    let half = text.chars().count() as f64 * LETTER / 2.0 + 2.0;
    if 2.0 * half > WIDTH { WIDTH / 2.0 } else { place.clamp(half, WIDTH - half) }
}

/// The beginning of a drawing of that height.
#[must_use]
pub fn opened(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escaped(title)
    )
}

/// A line upwards from each tick. Between which heights.
fn lines_up(svg: &mut String, x: &Scale, [top, bottom]: [f64; 2]) {
    for value in x.ticks() {
        let at = x.at(*value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
        );
    }
}

/// Ticks, and what the axis is, which is written between these places.
fn axis_below(svg: &mut String, x: &Scale, what: &str, [left, right]: [f64; 2], bottom: f64) {
    ticks_below(svg, x, bottom);
    let _ = write!(
        svg,
        "<text class=\"axis mid\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        middle(what, f64::midpoint(left, right)),
        bottom + 32.0,
        escaped(what)
    );
}

/// What is written below an axis; nothing that would cover what stands before it.
fn ticks_below(svg: &mut String, x: &Scale, bottom: f64) {
    let mut free_from = f64::NEG_INFINITY;
    for value in x.ticks() {
        let (at, text) = (x.at(*value), tick(*value));
        let half = text.chars().count() as f64 * LETTER / 2.0 + 2.0;
        if at - half < free_from {
            continue;
        }
        free_from = at + half;
        let _ = write!(
            svg,
            "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            bottom + 15.0
        );
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

/// A mark: full where nothing else is to be known, open where a rate was saturated, hatched where
/// answers were wrong, ringed where the driver is measured, pale where a node was starved. The
/// second of a row is a square.
fn mark_at(svg: &mut String, (x, y): (f64, f64), look: Look, is_second: bool) {
    let class = match look {
        Look::Plain => "mark",
        Look::Saturated => "mark open",
        Look::Invalid => "mark hatched",
        Look::DriverLimited => "mark ringed",
        Look::Starved => "mark starved",
    };
    let _ = match is_second {
        false => write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>"),
        true => write!(
            svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"/>",
            x - 4.0,
            y - 4.0
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places_of(svg: &str, class: &str) -> Vec<f64> {
        let texts = svg.split("<text ").skip(1).filter(|text| text.contains(class));
        let y = |text: &str| text.split("y=\"").nth(1)?.split('"').next()?.parse::<f64>().ok();
        texts.filter_map(y).collect()
    }

    #[test]
    fn labels_of_lines_that_end_at_one_place_do_not_cover_each_other() {
        for height in [0.0, 500.0, 1_000.0] {
            let line = |number: usize| Line {
                label: format!("design {number}"),
                colour: number,
                marks: vec![
                    Mark { x: 1.0, y: Some(10.0), interval: None, look: Look::Plain },
                    Mark { x: 8.0, y: Some(height), interval: None, look: Look::Plain },
                ],
            };
            let mut lines: Vec<Line> = (0..8).map(line).collect();
            lines[0].marks[0].y = Some(1_000.0);
            let (x, y) = ("clients", "requests a second");
            let svg = Lines { x, y, logarithmic: false, lines, predicted: None }.svg();
            let mut places = places_of(&svg, "label d");
            assert_eq!(places.len(), 8);
            places.sort_by(f64::total_cmp);
            assert!(places.windows(2).all(|two| two[1] - two[0] >= LINE - 0.2), "{places:?}");
            assert!(places[7] < 275.0 && places[0] > 25.0, "{places:?}");
        }
    }

    #[test]
    fn many_lines_with_long_labels_have_room_and_what_has_no_place_is_left_out() {
        let line = |number: usize| Line {
            label: format!("a server of others with a long name, number {number}"),
            colour: number,
            marks: [1.0, 8.0]
                .map(|x| Mark { x, y: Some(1e200), interval: None, look: Look::Plain })
                .into(),
        };
        let mut lines: Vec<Line> = (0..30).map(line).collect();
        lines[0].marks[0].y = Some(0.0);
        let svg = Lines { x: "x", y: "y", logarithmic: true, lines, predicted: None }.svg();
        let mut places = places_of(&svg, "label d");
        assert_eq!(places.len(), 30);
        places.sort_by(f64::total_cmp);
        assert!(places.windows(2).all(|two| two[1] - two[0] >= LINE - 0.2), "{places:?}");
        assert_eq!(svg.matches("class=\"mark\"").count(), 59);
        assert!(svg.len() < 100_000, "{} bytes", svg.len());
    }

    #[test]
    fn every_figure_has_its_mark_and_says_what_is_to_be_known_of_it() {
        let mark = |x: f64, y: Option<f64>, look| Mark { x, y, interval: Some([1.0, 9.0]), look };
        let marks = vec![
            mark(1.0, Some(2.0), Look::Plain),
            mark(2.0, Some(3.0), Look::Invalid),
            mark(4.0, Some(4.0), Look::DriverLimited),
            mark(6.0, Some(4.0), Look::Starved),
            mark(8.0, None, Look::Saturated),
        ];
        let lines = vec![Line { label: "<one>".to_owned(), colour: 3, marks }];
        let svg = Lines { x: "x", y: "y", logarithmic: true, lines, predicted: None }.svg();
        for class in ["mark", "mark hatched", "mark ringed", "mark starved", "mark open"] {
            assert_eq!(svg.matches(&format!("class=\"{class}\"")).count(), 1, "{class}");
        }
        assert!(svg.contains("&lt;one&gt;") && svg.contains("class=\"beyond\""), "{svg}");
    }
}
