//! Figures of each layout, printed as a Markdown table of their medians.

use std::collections::BTreeMap;

pub struct Table {
    title: String,
    layouts: Vec<&'static str>,
    columns: Vec<String>,
    figures: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Table {
    pub fn new(title: String, layouts: Vec<&'static str>) -> Self {
        Self { title, layouts, columns: Vec::new(), figures: BTreeMap::new() }
    }

    pub fn add(&mut self, layout: usize, column: &str, figure: f64) {
        let known = self.columns.iter().position(|known| known == column);
        let column = known.unwrap_or_else(|| {
            self.columns.push(column.to_owned());
            self.columns.len() - 1
        });
        self.figures.entry((layout, column)).or_default().push(figure);
    }

    fn median(&self, layout: usize, column: usize) -> Option<f64> {
        let mut figures = self.figures.get(&(layout, column))?.clone();
        figures.sort_unstable_by(f64::total_cmp);
        Some(figures[figures.len() / 2])
    }

    pub fn print(&self) {
        println!("\n### {}\n\n| layout | {} |", self.title, self.columns.join(" | "));
        println!("|---|{}", "---:|".repeat(self.columns.len()));
        for (layout, name) in self.layouts.iter().enumerate() {
            let cell = |column| match (self.median(layout, column), self.median(0, column)) {
                (Some(figure), Some(first)) if layout > 0 && first > 0.0 => {
                    format!("{} ({:.2})", number(figure), figure / first)
                }
                (figure, _) => figure.map(number).unwrap_or_default(),
            };
            let cells: Vec<String> = (0..self.columns.len()).map(cell).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
    }
}

/// With the digits that count.
pub fn number(figure: f64) -> String {
    match figure {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
