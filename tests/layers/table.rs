//! The table of `docs/ARCHITECTURE.md`: a row for each module, with the modules that it may use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const HEADING: &str = "## Who may use whom";
/// Stands for every other module.
const ALL: &str = "all";

/// What each module may use. A row for one file, `check/stored.rs`, adds to its module's.
pub struct Table {
    rows: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
        let text = fs::read_to_string(path).unwrap();
        let section = text.split_once(HEADING).expect("the section of the table").1;
        let rows = section
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        let mut table = Self { rows: BTreeMap::new() };
        for row in rows {
            let cells: Vec<&str> = row.split('|').collect();
            let (modules, used) = (quoted(cells[1]), quoted(cells[2]));
            assert!(!modules.is_empty(), "a row without a module: {row}");
            for module in modules {
                let module = module.trim_end_matches(".rs").to_owned();
                let former = table.rows.insert(module, used.clone());
                assert!(former.is_none(), "a module with two rows: {row}");
            }
        }
        table
    }

    /// Whether the file `from`, such as `check/stored`, may use the module `to`.
    pub fn allows(&self, from: &str, to: &str) -> bool {
        let module = top(from);
        let allowed = |row: &str| {
            self.rows.get(row).is_some_and(|used| used.contains(to) || used.contains(ALL))
        };
        module == to || allowed(module) || allowed(from)
    }

    pub fn has(&self, module: &str) -> bool {
        self.rows.contains_key(module)
    }

    /// All modules that the table names, as users or as used.
    pub fn modules(&self) -> BTreeSet<&str> {
        let named = self.rows.iter().flat_map(|(row, used)| {
            used.iter().map(String::as_str).filter(|used| *used != ALL).chain([top(row)])
        });
        named.collect()
    }

    /// Each module with each that it may use.
    pub fn arrows(&self) -> Vec<(String, String)> {
        let modules = self.modules();
        let used = |row: &str, used: &BTreeSet<String>| -> Vec<(String, String)> {
            let all = if used.contains(ALL) { modules.clone() } else { BTreeSet::new() };
            let used = all.into_iter().chain(used.iter().map(String::as_str));
            used.filter(|used| *used != ALL && !self.is_program(used))
                .map(|used| (top(row).to_owned(), used.to_owned()))
                .collect()
        };
        self.rows.iter().flat_map(|(row, all)| used(row, all)).collect()
    }

    /// Whether it is a module of the program, not of the library: these use each other freely.
    fn is_program(&self, module: &str) -> bool {
        self.rows.get(module).is_some_and(|used| used.contains(ALL))
    }
}

fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// The words of a cell that stand between backquotes.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
