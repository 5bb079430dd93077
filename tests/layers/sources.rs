//! The sources as files that use each other: a reader of just as much Rust as that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A path of names from the root of a crate: `["lib", "graph", "Name"]`.
type Names = Vec<String>;

/// The library's crate, and the program's.
const LIBRARY: &str = "lib";
const PROGRAM: &str = "main";

pub struct Sources {
    /// By their module's path.
    files: BTreeMap<Names, File>,
}

/// A module named in a file of another.
pub struct Arrow {
    /// The file, as `check/stored`.
    pub from: String,
    /// The module, as `db`.
    pub to: String,
    /// Where that stands.
    pub place: String,
}

/// All files under `src`, by their path there, as they stand.
pub fn texts() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut texts) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                texts.push((path.strip_prefix(&src).unwrap().display().to_string(), text));
            }
        }
    }
    texts
}

#[derive(Default)]
struct File {
    /// The modules declared in it that have files of their own.
    children: BTreeSet<String>,
    /// What it gives other names to, or makes known again; with the line.
    reexports: BTreeMap<String, (Names, usize)>,
    /// What it names; with the line, and whether that is in a test.
    paths: Vec<(Names, usize, bool)>,
    /// All words outside of imports and tests.
    words: BTreeSet<String>,
}

impl File {
    /// All that it names or makes known again, with the line.
    fn mentions(&self) -> impl Iterator<Item = (&Names, usize)> {
        let named = self.paths.iter().map(|(path, line, _)| (path, *line));
        named.chain(self.reexports.values().map(|(path, line)| (path, *line)))
    }
}

impl Sources {
    pub fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Self { files: BTreeMap::new() };
        for root in [LIBRARY, PROGRAM] {
            sources.add(vec![root.to_owned()], &src.join(format!("{root}.rs")), &src);
        }
        sources
    }

    /// Adds a file and the modules that it declares; those are in `folder`.
    fn add(&mut self, module: Names, path: &Path, folder: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = Reader::new(&text, &module).read();
        for child in &file.children {
            let (path, folder): (PathBuf, PathBuf) =
                (folder.join(format!("{child}.rs")), folder.join(child));
            self.add([module.clone(), vec![child.clone()]].concat(), &path, &folder);
        }
        self.files.insert(module, file);
    }

    /// The modules at the top of `src`.
    pub fn modules(&self) -> BTreeSet<String> {
        self.files.keys().map(|module| top(module)).filter(|name| name != LIBRARY).collect()
    }

    /// Every mention of a module at the top of `src` in a file of another, in tests too.
    pub fn arrows_between_modules(&self) -> Vec<Arrow> {
        let (modules, mut arrows) = (self.modules(), Vec::new());
        for (module, file) in &self.files {
            for (path, line) in file.mentions() {
                let to = top(path);
                if to != top(module) && modules.contains(&to) {
                    let from = shown(module);
                    let place = format!("src/{from}.rs:{line}");
                    arrows.push(Arrow { from, to, place });
                }
            }
        }
        arrows
    }

    /// For each file the files that it uses, as the test says that counts them.
    pub fn arrows_between_files(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &self.files {
            let used = arrows.entry(shown(module)).or_default();
            let named = file.paths.iter().filter(|(.., in_test)| !in_test).map(|(path, ..)| path);
            let made_known = file.reexports.iter();
            let also_used = made_known
                .filter(|(name, _)| file.words.contains(*name))
                .map(|(_, (path, _))| path);
            for path in named.chain(also_used) {
                let to = self.origin(path);
                if to != *module && to.len() > 1 {
                    used.insert(shown(&to));
                }
            }
        }
        arrows
    }

    /// The file that defines what has this path.
    fn origin(&self, path: &Names) -> Names {
        let mut module = path[..1].to_vec();
        for (at, name) in path.iter().enumerate().skip(1) {
            let file = &self.files[&module];
            if file.children.contains(name) {
                module.push(name.clone());
            } else if let Some((source, _)) = file.reexports.get(name) {
                return self.origin(&[&source[..], &path[at + 1..]].concat());
            } else {
                break;
            }
        }
        module
    }
}

/// The module at the top of `src` that a path leads through.
fn top(path: &[String]) -> String {
    path.get(1).unwrap_or(&path[0]).clone()
}

/// A module as its file's path under `src`.
fn shown(module: &[String]) -> String {
    if module.len() > 1 { module[1..].join("/") } else { module[0].clone() }
}

struct Token {
    text: String,
    line: usize,
}

/// Words, `::`, and all other characters one by one; no comments, no strings, no lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |i: usize| characters.get(i).copied().unwrap_or('\0');
    let (mut tokens, mut i, mut line) = (Vec::new(), 0, 1);
    while i < characters.len() {
        let begin = i;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < characters.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '"' => i = end_of_string(&characters, i),
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                // Past the first character, which may itself be a quote.
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = characters[begin..i].iter().collect();
                let is_raw = matches!(word.as_str(), "r" | "br") && matches!(at(i), '"' | '#');
                if is_raw {
                    i = end_of_raw_string(&characters, i);
                } else {
                    tokens.push(Token { text: word, line });
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                tokens.push(Token { text: "::".to_owned(), line });
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    tokens.push(Token { text: c.to_string(), line });
                }
            }
        }
        line += characters[begin..i].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// Behind the string that begins at `i`.
fn end_of_string(characters: &[char], mut i: usize) -> usize {
    i += 1;
    while characters[i] != '"' {
        i += if characters[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Behind the raw string whose hashes or quote begin at `i`.
fn end_of_raw_string(characters: &[char], mut i: usize) -> usize {
    let hashes = characters[i..].iter().take_while(|&&c| c == '#').count();
    i += hashes + 1;
    loop {
        let follow = characters[i + 1..].iter().take_while(|&&c| c == '#').count();
        if characters[i] == '"' && follow >= hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
}

/// Reads one file.
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    file: File,
    /// Where the reader is: the file's module, and the modules within the file.
    module: Names,
    /// How many braces are open, and for each module within the file, how many were before it.
    depth: usize,
    inner: Vec<usize>,
}

impl Reader {
    fn new(text: &str, module: &[String]) -> Self {
        let mut file = File::default();
        let tokens = tokens(text);
        // Known first: a path may begin with one that is declared further down.
        for declared in tokens.windows(3) {
            if declared[0].text == "mod" && declared[2].text == ";" {
                file.children.insert(declared[1].text.clone());
            }
        }
        Self { tokens, at: 0, file, module: module.to_vec(), depth: 0, inner: Vec::new() }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn read(mut self) -> File {
        while self.at < self.tokens.len() {
            let (next, after) = (self.text(self.at + 1).to_owned(), self.text(self.at + 2));
            match self.text(self.at) {
                "mod" if after == "{" => {
                    self.module.push(next);
                    self.inner.push(self.depth);
                    self.at += 2;
                }
                "mod" if after == ";" => self.at += 3,
                "use" if next != "<" => self.import(),
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth -= 1;
                    self.at += 1;
                    if self.inner.last() == Some(&self.depth) {
                        self.inner.pop();
                        self.module.pop();
                    }
                }
                _ => self.path_or_word(),
            }
        }
        self.file
    }

    /// Whether this is in the unit tests of the file.
    fn in_test(&self) -> bool {
        let of_file = self.module.len() - self.inner.len();
        self.module[of_file..].iter().any(|module| module == "tests")
    }

    fn import(&mut self) {
        let line = self.tokens[self.at].line;
        // `)` ends `pub(super)` and the like; nothing else that ends so stands before an import.
        let is_public = matches!(self.text(self.at.wrapping_sub(1)), "pub" | ")");
        self.at += 1;
        let mut leaves = Vec::new();
        self.tree(&mut Vec::new(), &mut leaves);
        for (path, name) in leaves {
            let Some(path) = self.absolute(&path) else { continue };
            if is_public {
                self.file.reexports.insert(name, (path, line));
            } else {
                self.file.paths.push((path, line, self.in_test()));
            }
        }
    }

    /// The paths of an import, each with the name that it is known by.
    fn tree(&mut self, begin: &mut Names, leaves: &mut Vec<(Names, String)>) {
        let length = begin.len();
        loop {
            let word = self.text(self.at).to_owned();
            self.at += 1;
            match word.as_str() {
                "{" => {
                    while self.text(self.at) != "}" {
                        self.tree(begin, leaves);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    break;
                }
                "::" => {}
                _ if self.text(self.at) == "::" => begin.push(word),
                _ => {
                    let mut path = begin.clone();
                    if word != "self" && word != "*" || path.is_empty() {
                        path.push(word);
                    }
                    let mut name = path[path.len() - 1].clone();
                    if self.text(self.at) == "as" {
                        name = self.text(self.at + 1).to_owned();
                        self.at += 2;
                    }
                    leaves.push((path, name));
                    break;
                }
            }
        }
        begin.truncate(length);
    }

    fn path_or_word(&mut self) {
        let (line, begin) = (self.tokens[self.at].line, self.at);
        let mut path = vec![self.text(self.at).to_owned()];
        self.at += 1;
        let is_word = |text: &str| text.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if !is_word(&path[0]) {
            return;
        }
        if !self.in_test() {
            self.file.words.insert(path[0].clone());
        }
        let before = if begin > 0 { self.text(begin - 1) } else { "" };
        // `$crate` in a macro is the crate; any other `$` begins a name of the macro's own.
        if before == "::" || before == "$" && path[0] != "crate" {
            return;
        }
        while self.text(self.at) == "::" && is_word(self.text(self.at + 1)) {
            path.push(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        if path.len() > 1
            && let Some(path) = self.absolute(&path)
        {
            self.file.paths.push((path, line, self.in_test()));
        }
    }

    /// The path from the root of the crate; `None` if it leads elsewhere.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let (base, rest) = match path[0].as_str() {
            "crate" => (&self.module[..1], &path[1..]),
            "fencepost" => return Some([&[LIBRARY.to_owned()], &path[1..]].concat()),
            "self" => (&self.module[..], &path[1..]),
            "super" => (&self.module[..self.module.len().checked_sub(supers)?], &path[supers..]),
            child if self.inner.is_empty() && self.file.children.contains(child) => {
                (&self.module[..], path)
            }
            _ => return None,
        };
        (!base.is_empty()).then(|| [base, rest].concat())
    }
}

#[test]
fn uses_are_found_in_every_form_and_not_in_comments_or_strings() {
    let text = r##"
        //! crate::no
        use crate::{a::X, b::{self, Y as Z}};
        use super::super::c;
        const S: &str = "crate::no \" crate::no";
        const R: &str = r#"crate::no"#;
        const Q: [char; 3] = ['"', '\'', '\u{22}'];
        fn f<'s>(s: &'s str) { crate::d::g(); super::e::h() } // crate::no
        pub use crate::g::G;
        pub(super) use crate::{h::{H, I as J}};
        macro_rules! m { ($a:ident) => { $crate::i::f($a::no) } }
        mod tests { use super::super::super::f; }
    "##;
    let module = ["lib", "m", "n"].map(str::to_owned);
    let file = Reader::new(text, &module).read();
    let named: BTreeSet<String> = file.mentions().map(|(path, _)| top(path)).collect();
    let expected = ["a", "b", "c", "d", "f", "g", "h", "i", "m"];
    assert_eq!(named, expected.map(str::to_owned).into());
}
