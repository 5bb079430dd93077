//! Who may use whom: the sources are held to the one table that `docs/ARCHITECTURE.md` shows, and
//! files must not use each other in circles.

mod circles;
mod sources;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use fencepost::design;

use self::circles::circles;
use self::sources::{Sources, texts};
use self::table::Table;

#[test]
fn a_module_uses_only_what_the_table_allows() {
    let (sources, table) = (Sources::read(), Table::read());
    let arrows = sources.arrows_between_modules();
    assert!(arrows.len() > 50, "the sources were not found");
    let forbidden: Vec<String> = arrows
        .iter()
        .filter(|arrow| !table.allows(&arrow.from, &arrow.to))
        .map(|arrow| format!("{} uses `{}`", arrow.place, arrow.to))
        .collect();
    let list = forbidden.join("\n");
    assert!(forbidden.is_empty(), "docs/ARCHITECTURE.md, `Who may use whom`, forbids:\n{list}");
}

#[test]
fn every_module_is_in_the_table_and_nothing_else_is() {
    let (modules, table) = (Sources::read().modules(), Table::read());
    for module in &modules {
        assert!(table.has(module), "`{module}` is not in the table of docs/ARCHITECTURE.md");
    }
    for module in table.modules() {
        assert!(modules.contains(module), "docs/ARCHITECTURE.md has `{module}`, `src` has not");
    }
}

/// Neither by its name on the command line, nor as a module, nor as a constant; in comments and
/// strings neither.
#[test]
fn nothing_outside_of_design_names_a_design() {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let designs: BTreeSet<String> = design::ALL.iter().map(|design| plain(design.name)).collect();
    let is_apart = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-');
    let mut found = Vec::new();
    for (file, text) in texts() {
        let of_design = file == "design.rs" || file.starts_with("design/");
        for (number, line) in text.lines().enumerate().filter(|_| !of_design) {
            if line.split(is_apart).any(|word| designs.contains(&plain(word))) {
                found.push(format!("src/{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "a design is named outside of src/design:\n{}", found.join("\n"));
}

/// Those who read the command line, or answer whoever started the process, and no others.
#[test]
fn only_the_surfaces_speak_of_the_option_that_picks_a_design() {
    let is_surface =
        |file: &str| ["cli/", "http/", "design", "bench/run"].iter().any(|at| file.starts_with(at));
    let speaks = |(file, text): &(String, String)| !is_surface(file) && text.contains("--design");
    let found: Vec<String> = texts().into_iter().filter(speaks).map(|(file, _)| file).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in Table::read().arrows() {
        used.entry(from).or_default().insert(to);
    }
    assert_eq!(circles(&used), Vec::<Vec<String>>::new(), "in the table of docs/ARCHITECTURE.md");
}

/// A file uses the file that defines what it names; re-exports are followed to their origin. A
/// parent does not use the children that it only declares and re-exports. So a parent's file may
/// define what some children use, and use others; with the same child that would be a circle. A
/// method is not followed to the file of its `impl`, nor a link in a comment. Tests are left out.
#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let sources = Sources::read();
    let arrows = sources.arrows_between_files();
    for module in sources.modules() {
        let within = |file: &String| *file == module || file.starts_with(&format!("{module}/"));
        let used: BTreeMap<String, BTreeSet<String>> = arrows
            .iter()
            .filter(|(file, _)| within(file))
            .map(|(file, used)| {
                (file.clone(), used.iter().filter(|f| within(f)).cloned().collect())
            })
            .collect();
        let found = circles(&used);
        assert_eq!(found, Vec::<Vec<String>>::new(), "in `{module}`");
    }
}
