//! The corpora of fuzz/: every file of them through its parser, as the fuzzer gives it; what the fuzzer found once is among them.

#[path = "../fuzz/parsers.rs"]
mod parsers;

use crate::files::root;
use std::fs;

#[test]
fn every_file_of_the_corpora_has_an_answer() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, parser) in parsers::PARSERS {
        let folder = root().join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut good = 0;
        for file in &files {
            let bytes = fs::read(file).unwrap();
            // Each parser has its own files in a folder of its own.
            let place = tempfile::tempdir_in(scratch.path()).unwrap();
            match parser(&bytes, place.path()) {
                Ok(()) => good += 1,
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.contains('\n') && matches!(error.exit_code(), 1 | 2), "{}: {line}", file.display());
                }
            }
            // And cut short, a byte missing.
            let _ = parser(&bytes[..bytes.len().saturating_sub(1)], place.path());
        }
        assert!(good > 0, "{name}: nothing that its parser takes, of {}", files.len());
    }
}

#[test]
fn every_parser_has_a_target() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in parsers::PARSERS {
        let target = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            target.contains(&format!("parsers::{name}(")) && manifest.contains(&format!("name = \"{name}\"")),
            "{name}"
        );
    }
}
