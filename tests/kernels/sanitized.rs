//! Programs of C++ under a sanitizer of the compiler's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a program printed.
pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A compiler with a sanitizer, and a folder for what it makes.
pub struct Sanitized {
    compiler: String,
    sanitizer: &'static str,
    folder: tempfile::TempDir,
}

impl Sanitized {
    /// `None`, and a line that says so, where programs under `sanitizer` do not run here: not every compiler brings each, and
    /// not every kernel's address space suits it.
    pub fn by(sanitizer: &'static str) -> Option<Self> {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let found = Self { compiler, sanitizer, folder: tempfile::tempdir().unwrap() };
        let empty = found.folder.path().join("empty.cpp");
        std::fs::write(&empty, "int main() {}").unwrap();
        let program = found.folder.path().join("empty");
        let compiled = found.command(&["-o", program.to_str().unwrap(), empty.to_str().unwrap()]).output();
        let usable = compiled.is_ok_and(|out| out.status.success())
            && Command::new(&program).status().is_ok_and(|status| status.success());
        if !usable {
            println!("sanitizer {sanitizer}: skipped, {} has none that runs here", found.compiler);
        }
        usable.then_some(found)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.compiler);
        command.args(["-std=c++20", "-pthread", &format!("-fsanitize={}", self.sanitizer)]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) {
        let out = self.command(arguments).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }

    /// A source of the repository's, by its place there, as an object.
    pub fn object(&self, source: &str, options: &[&str]) -> PathBuf {
        let object = self.folder.path().join(format!("{}.o", source.replace('/', "-")));
        let source = crate::files::root().join(source);
        self.run(&[options, &["-c", "-o", object.to_str().unwrap(), source.to_str().unwrap()]].concat());
        object
    }

    /// The program of these objects.
    pub fn program(&self, objects: &[PathBuf]) -> PathBuf {
        let program = self.folder.path().join("program");
        let objects: Vec<&str> = objects.iter().map(|object| object.to_str().unwrap()).collect();
        self.run(&[&["-o", program.to_str().unwrap()], &objects[..]].concat());
        program
    }
}

/// Runs a program.
pub fn outcome(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}
