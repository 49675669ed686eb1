//! Which file of a crate names things of which other file.

use super::tokens::{closed, is_word, tokens, without_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A source file, by its module's path: `store::header`, and nothing for lib.rs.
type Module = String;

/// Something that a `use` brings in.
#[derive(Debug)]
struct Import {
    path: Vec<String>,
    /// What it is called from then on.
    name: String,
    public: bool,
}

#[derive(Debug, Default)]
struct File {
    imports: Vec<Import>,
    /// Names of the items outside of all blocks.
    items: BTreeSet<String>,
    /// All else.
    body: Vec<String>,
}

/// The source files of a crate.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<Module, File>);

/// Who names whom, and by which path.
pub type Edges = BTreeMap<(Module, Module), BTreeSet<String>>;

impl Sources {
    /// All below a folder `src`, main.rs left out: it is a crate of its own.
    pub fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.gather(root, root);
        sources
    }

    fn gather(&mut self, root: &Path, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.gather(root, &path);
            } else if path.extension().is_some_and(|e| e == "rs") && path != root.join("main.rs") {
                let below = path.strip_prefix(root).unwrap().with_extension("");
                let mut names: Vec<&str> = below.iter().map(|n| n.to_str().unwrap()).collect();
                if matches!(names.last(), Some(&"mod" | &"lib")) {
                    names.pop();
                }
                self.add(&names.join("::"), &std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// One file of a crate.
    pub fn add(&mut self, module: &str, text: &str) {
        let tokens = without_tests(tokens(text));
        let (mut file, mut i, mut depth) = (File::default(), 0, 0);
        while i < tokens.len() {
            let token = tokens[i].as_str();
            let next = tokens.get(i + 1).cloned().unwrap_or_default();
            match token {
                "use" if next.chars().all(is_word) || next == "{" => {
                    let end = i + tokens[i..].iter().position(|t| t == ";").unwrap_or(tokens.len() - i);
                    // `pub use`, `pub(crate) use`.
                    let public = i > 0 && (tokens[i - 1] == "pub" || tokens[i - 1] == ")");
                    tree(&tokens[i + 1..end], &[], public, &mut file.imports);
                    i = end;
                }
                "mod" if depth == 0 => i += 1,
                "struct" | "enum" | "trait" | "fn" | "type" | "const" | "static" | "union" if depth == 0 => {
                    file.items.insert(next);
                }
                "macro_rules" => {
                    file.items.insert(tokens.get(i + 2).cloned().unwrap_or_default());
                }
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if i < tokens.len() {
                file.body.push(tokens[i].clone());
            }
            i += 1;
        }
        self.0.insert(module.to_owned(), file);
    }

    /// Who names whom. A name that a module only hands on (`pub use`) from its own room counts for who takes it from there.
    pub fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, file) in &self.0 {
            let room = module.split("::").next().unwrap_or_default();
            let is_own = |import: &Import| import.path[0] != "crate" || import.path.get(1).is_some_and(|r| r == room);
            let counts = |import: &&Import| !import.public || !is_own(import) || file.says(&import.name);
            let imported = file.imports.iter().filter(counts).map(|import| import.path.clone());
            for path in imported.chain(file.paths()) {
                let target = self.resolve(module, &path, 8);
                if let Some(target) = target.filter(|target| target != module) {
                    edges.entry((module.clone(), target)).or_default().insert(path.join("::"));
                }
            }
        }
        edges
    }

    /// The file of what a path names, seen from `module`; `None` for other crates.
    fn resolve(&self, module: &str, path: &[String], patience: usize) -> Option<Module> {
        let mut at: Vec<&str> = module.split("::").filter(|n| !n.is_empty()).collect();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while let Some((_, below)) = rest.split_first().filter(|(first, _)| *first == "super") {
                    at.pop();
                    rest = below;
                }
            }
            first if self.0.contains_key(&joined(&at, first)) => {}
            _ => return None,
        }
        while let Some((first, below)) = rest.split_first() {
            if !self.0.contains_key(&joined(&at, first)) {
                break;
            }
            at.push(first);
            rest = below;
        }
        let found = at.join("::");
        let file = self.0.get(&found)?;
        let Some(name) = rest.first().filter(|name| !file.items.contains(*name)) else { return Some(found) };
        let handed = file.imports.iter().find(|import| import.name == *name);
        let further = handed.filter(|_| patience > 0).map(|import| self.resolve(&found, &import.path, patience - 1));
        // What is handed on from another crate is that crate's.
        further.unwrap_or(Some(found))
    }
}

fn joined(at: &[&str], name: &str) -> Module {
    at.iter().copied().chain([name]).collect::<Vec<_>>().join("::")
}

impl File {
    /// True where the file says a name by itself, not as a part of a path, a method or a field.
    fn says(&self, name: &str) -> bool {
        let is_type = name.starts_with(char::is_uppercase);
        (0..self.body.len()).filter(|i| self.body[*i] == name).any(|i| {
            let before = i.checked_sub(1).map_or("", |b| self.body[b].as_str());
            let after = self.body.get(i + 1).map_or("", String::as_str);
            !matches!(before, "." | "::" | "fn") && (is_type || matches!(after, "(" | "::"))
        })
    }

    /// Paths in full: `super::a::B`, `a::b`.
    fn paths(&self) -> Vec<Vec<String>> {
        let (mut found, mut i) = (Vec::new(), 0);
        while i < self.body.len() {
            let start = i;
            let mut path = vec![self.body[i].clone()];
            while self.body.get(i + 1).is_some_and(|t| t == "::")
                && self.body.get(i + 2).is_some_and(|t| t.chars().all(is_word))
            {
                path.push(self.body[i + 2].clone());
                i += 2;
            }
            let goes_on = start > 0 && self.body[start - 1] == "::";
            if path.len() > 1 && !goes_on {
                found.push(path);
            }
            i += 1;
        }
        found
    }
}

/// The paths of a tree `a::{b, c::d as e}`.
fn tree(tokens: &[String], before: &[String], public: bool, found: &mut Vec<Import>) {
    let (mut path, mut i) = (before.to_vec(), 0);
    let mut name = None;
    let mut whole = true;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "::" => {}
            "as" => {
                name = tokens.get(i + 1).cloned();
                i += 1;
            }
            "{" => {
                let end = closed(tokens, i);
                let mut first = i + 1;
                let mut depth = 0;
                for j in i + 1..end {
                    match tokens[j].as_str() {
                        "," if depth == 0 => {
                            tree(&tokens[first..j], &path, public, found);
                            first = j + 1;
                        }
                        "}" if depth == 0 => tree(&tokens[first..j], &path, public, found),
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                }
                whole = false;
                i = end;
            }
            // `a::{self}` is `a`.
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        i += 1;
    }
    if whole && path.len() > usize::from(!before.is_empty()) && !tokens.is_empty() {
        let name = name.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
        found.push(Import { path, name, public });
    }
}
